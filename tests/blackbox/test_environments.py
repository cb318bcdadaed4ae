"""Environments of peers are made once, whole or not at all, and say what is missing."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.blackbox.environments import NEEDS_312, Unavailable, environment, python_312


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vpp" / "peers"


def fake_uv(monkeypatch: pytest.MonkeyPatch, folder: Path, install: str) -> Path:
    """A uv that makes an empty environment, slowly, and installs by a line of shell; its log has a line a call."""
    log, script = folder / "calls", folder / "uv"
    python = 'mkdir -p "$6/bin"; touch "$6/bin/python"; sleep 0.2'
    script.write_text(f'#!/bin/sh\necho "$1 $2" >> {log}\nif [ "$1" = venv ]; then {python}; else {install}; fi\n')
    script.chmod(0o755)
    monkeypatch.setenv("UV", str(script))
    return log


def test_an_environment_is_made_once_for_all_who_ask_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    log = fake_uv(monkeypatch, tmp_path, "true")
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(environment, ["toadr3"] * 4))
    assert len(made) == 1
    assert made.pop().is_relative_to(home)
    assert log.read_text().splitlines() == ["venv --quiet", "pip install"]


def test_one_that_could_not_be_installed_leaves_nothing_and_says_what_would_mend_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    fake_uv(monkeypatch, tmp_path, "echo no route to the index >&2; exit 2")
    expected = r"uv pip install -r tests/blackbox/requirements/toadr3.txt \(no route to the index\)"
    with pytest.raises(Unavailable, match=expected):
        environment("toadr3")
    assert [each.suffix for each in home.iterdir()] == [".lock"]
    log = fake_uv(monkeypatch, tmp_path, "true")
    environment("toadr3")
    assert log.read_text().splitlines()[-1] == "pip install", "it is made anew the next time"


def test_without_uv_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="pip install uv"):
        environment("toadr3")


def test_a_peer_for_python_312_is_unavailable_only_where_that_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if python_312() is not None:
        assert os.access(str(python_312()), os.X_OK)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    if python_312() is None:  # these tests themselves may run on it
        (name,) = NEEDS_312
        with pytest.raises(Unavailable, match=r"Python 3\.12"):
            environment(name)
