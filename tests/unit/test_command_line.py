"""The command line: `vpp --help` lists what there is, and a process loads what it runs on and no more."""

import subprocess
import sys

import pytest
from typer.main import get_group

from vpp.cli.app import COMMANDS, app, listed, load_commands, run


def test_the_list_of_commands_is_that_of_the_commands_themselves() -> None:
    load_commands()
    real, shown = get_group(app).commands, get_group(listed).commands
    assert list(shown) == list(COMMANDS)
    assert set(real) == set(shown)
    for name, command in real.items():
        assert shown[name].get_short_help_str(200) == command.get_short_help_str(200), name
        assert not command.hidden
        assert command.deprecated == shown[name].deprecated


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_where_the_list_says(name: str) -> None:
    assert run([name, "--help"]) == 0


def test_a_command_there_is_not_is_refused_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explian"]) == 2
    assert "'explian'. Did you mean 'explain'?" in capsys.readouterr().err


def test_options_before_a_command_are_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--log-level=WARNING", "--log-level", "INFO", "peers", "list", "--help"]) == 0
    assert "when each was last heard" in capsys.readouterr().out


def test_no_command_shows_the_list_and_says_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr()
    assert "Turn thousands" in said.out
    assert "error" not in said.err


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("vpp.cli", "sqlalchemy redis psycopg numpy cryptography fastapi"),
        ("vpp.cli.peers_log", "fastapi alembic procrastinate ortools numpy"),
        ("vpp.bootstrap.serve", "procrastinate alembic ortools numba openleadr pymodbus"),
        ("vpp.bootstrap.gateway", "fastapi alembic procrastinate ortools numba aiomqtt openleadr"),
        ("vpp.bootstrap.vtn2", "fastapi alembic procrastinate ortools numpy openleadr"),
    ],
)
def test_a_process_is_not_held_up_by_what_it_has_no_use_for(module: str, unused: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({unused.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
