"""The order of the rooms holds, and our package names resolve to us (conventions, rules 9 and 10)."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def test_every_room_imports_only_what_lies_below_it() -> None:
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["vpp", "adapters", "market"])
def test_our_package_names_resolve_to_us(name: str) -> None:
    # PyPI has libraries that install `adapters` and `vpp` too; beside one of them nothing would be as it seems.
    found = importlib.import_module(name).__file__
    assert found is not None
    assert Path(found).is_relative_to(ROOT)
