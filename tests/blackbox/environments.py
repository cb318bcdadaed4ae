"""Separate Python environments with other people's OpenADR programs, made once and kept outside the project.

Each has the packages of its file in `requirements/`, all pinned, in a folder named by their digest under
`$XDG_CACHE_HOME/vpp/peers` (`~/.cache` where that is unset). Several pytest processes may ask at once.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NEEDS_312 = frozenset({"openadr3-client"})
BUILD_S = 180
_READY = "ready"


class Unavailable(Exception):
    """An environment cannot be had here; the text says why, and the line that mends it."""


def interpreter(name: str) -> Path:
    """Return the Python a peer runs on.

    Raises:
        Unavailable: it needs one that is not on this machine.
    """
    if name not in NEEDS_312:
        return Path(sys.executable).resolve()
    found = python_312()
    if found is None:
        raise Unavailable(f"{name} needs Python 3.12, which is not here: pyenv install 3.12, or apt install python3.12")
    return found


def python_312() -> Path | None:
    """Return a Python 3.12 of this machine, on the path or of pyenv; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [*sorted(pyenv.glob("versions/3.12.*/bin/python3.12"), reverse=True)]
    on_path = shutil.which("python3.12")
    if on_path is not None:
        candidates.append(Path(on_path))
    if sys.version_info[:2] == (3, 12):
        candidates.insert(0, Path(sys.executable))
    return next((each.resolve() for each in candidates if _is_312(each)), None)


def environment(name: str) -> Path:
    """Return the interpreter of a peer's own environment, made now if it is not there yet.

    Raises:
        Unavailable: there is no uv, no interpreter, or no way to the package index.
    """
    base, requirements = interpreter(name), HERE / "requirements" / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + str(base).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vpp" / "peers"
    folder = home / digest
    python = folder / "bin" / "python"
    if (folder / _READY).exists() and python.exists():
        return python
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f"{digest}.lock"):
        if not ((folder / _READY).exists() and python.exists()):
            _build(name, base, requirements, folder)
    return python


def _build(name: str, base: Path, requirements: Path, folder: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise Unavailable(f"{name} needs an environment of its own, made by uv: pip install uv")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run(uv, "venv", "--quiet", "--no-project", "--python", str(base), str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(requirements))
        (folder / _READY).touch()
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        said = getattr(error, "stderr", None) or str(error)
        mend = f"uv pip install -r {requirements.relative_to(HERE.parents[1])}"
        raise Unavailable(f"{name} cannot be installed, try: {mend} ({str(said).strip()[-300:]})") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(*command: str) -> None:
    ours = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=BUILD_S, env=ours, cwd=HERE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _is_312(python: Path) -> bool:
    """Whether it runs: pyenv's shims of a version that is not chosen do not."""
    try:
        said = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return said.stdout.strip() == b"(3, 12)"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
