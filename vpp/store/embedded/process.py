"""Processes and file locks: who is alive, told by the kernel and not by files that outlive their writer.

A server inherits a locked file from us. While any process of that server lives the lock is held; when
the last one dies, however it dies, the kernel frees it. Called only inside `vpp.store.embedded`.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from vpp.domain.errors import NotReady

POLL_S = 0.05
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_children: list[subprocess.Popen[bytes]] = []
"""Servers this process launched, kept so that a dead one is reaped and does not stay a zombie."""


@dataclass(frozen=True, slots=True)
class OsUser:
    """The account a server runs under, where it must be another one than ours."""

    uid: int
    gid: int


class AsUser(TypedDict):
    """The part of `subprocess` arguments that says under which account."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until `condition` holds; False if it did not within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def open_lock(path: Path) -> int:
    """Open a lock file, made where it is missing. The caller closes the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a `fcntl.LOCK_*` without waiting; False if somebody else has it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether any process holds the lock at `path`."""
    if not path.exists():
        return False
    descriptor = open_lock(path)
    try:
        return not try_lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[int]:
    """Hold the lock at `path` for the block; gives its descriptor, which a child may inherit.

    Raises:
        NotReady: somebody else has held it for longer than `timeout_s`.
    """
    descriptor = open_lock(path)
    try:
        if not wait_until(lambda: try_lock(descriptor, fcntl.LOCK_EX), timeout_s):
            raise NotReady(f"another process has been starting or stopping servers for {timeout_s:.0f} s ({path})")
        yield descriptor
    finally:
        os.close(descriptor)


def launch(
    arguments: Sequence[str], *, lock: Path, log: Path, cwd: Path, env: Mapping[str, str], user: OsUser | None
) -> None:
    """Start a server in a session of its own, so that Ctrl-C in our terminal does not reach it.

    It inherits the lock at `lock` and appends its output to `log`.
    """
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    descriptor = open_lock(lock)
    try:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            raise NotReady(f"a server is still running, see {log}")
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  (our own wheel's binary, no shell)
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                pass_fds=(descriptor,),
                start_new_session=True,
                **as_user(user),
            )
    finally:
        os.close(descriptor)
    _children.append(process)


def run_to_end(
    arguments: Sequence[str], *, lock: Path, cwd: Path, env: Mapping[str, str], user: OsUser | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a tool that works on a server's data, once whoever did so before (and was killed) is done."""
    with exclusive(lock, timeout_s) as descriptor:
        return subprocess.run(  # noqa: S603  (our own wheel's binary, no shell)
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=cwd,
            env=env,
            pass_fds=(descriptor,),
            **as_user(user),
        )


def as_user(user: OsUser | None) -> AsUser:
    """`subprocess` arguments that drop to another account, with no group but its own."""
    if user is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


def reap() -> None:
    """Collect the exit status of servers we launched that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


def start_mark(pid: int) -> str | None:
    """A text that differs between two processes that had the same pid; None if there is none now.

    On Linux the kernel's start time in ticks since boot, elsewhere what `ps` says.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, started_ticks = fields[0], fields[19]
        return None if state in "ZX" else started_ticks
    return _ps(pid, "lstart=")


def command_line(pid: int) -> str:
    """A process's arguments; empty if it is gone."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    return _ps(pid, "command=") or ""


def _ps(pid: int, column: str) -> str | None:
    done = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", column, "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip() or None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone already is what we wanted."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def tail(log: Path, lines: int = 8) -> str:
    """The end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
