"""What PostgreSQL and Valkey have in common: alive, ensure, stop. Called by `servers.py`."""

import hashlib
import importlib.util
import os
import signal
import stat
from abc import ABC, abstractmethod
from pathlib import Path

from vpp.domain.errors import NotReady
from vpp.store.embedded import process
from vpp.store.embedded.process import OsUser

ORPHANS_TIMEOUT_S = 20.0
_SOCKET_DIR_LIMIT = 90
"""A socket's whole path must stay below 104 bytes (macOS) or 108 (Linux)."""


class EmbeddedServer(ABC):
    """One server with its data in a folder of its own. Every call is made under the servers' lock."""

    name: str
    url: str
    ready_timeout_s: float
    stop_signals: tuple[tuple[signal.Signals, float], ...]
    """What to send, and how long to wait for it to work [s], from polite to not."""

    def __init__(self, var_dir: Path) -> None:
        self.home = var_dir / self.name
        self.log = self.home / f"{self.name}.log"
        self._alive = self.home / "alive.lock"

    @abstractmethod
    def prepare(self) -> None:
        """Make folders, data and configuration where they are missing."""

    @abstractmethod
    def start(self) -> None:
        """Launch the server; do not wait for it."""

    @abstractmethod
    def find_pid(self) -> int | None:
        """The main process, checked to be ours, or None."""

    @abstractmethod
    def not_ready_reason(self) -> str | None:
        """Ask the server something; None if it answers as it should."""

    def is_alive(self) -> bool:
        """Whether any process of this server lives, whoever started it."""
        process.reap()
        return process.is_held(self._alive)

    def ensure(self) -> str:
        """Adopt the running server, or start it. Returns its address.

        Raises:
            NotReady: it does not answer within its deadline; names the log.
        """
        try:
            self.prepare()
            if self.is_alive() and self.find_pid() is None:
                # Killed a moment ago, and its children are still leaving; or so young that it has
                # not written its pid yet. Either way it changes within moments.
                process.wait_until(lambda: not self.is_alive() or self.find_pid() is not None, ORPHANS_TIMEOUT_S)
            if self.is_alive() and self._settles() and self.is_alive():
                return self.url
            if not self.is_alive():
                # It was not there, or was just dying when we looked and is gone now.
                self.start()
            self._wait_ready()
        except PermissionError as error:
            raise NotReady(
                f"{self.name}: {error.filename} belongs to another user; run as that user or set VPP_VAR_DIR"
            ) from error
        return self.url

    def stop(self) -> bool:
        """Stop the server, politely first. False if there was none.

        Raises:
            NotReady: it outlived everything, or its main process cannot be found.
        """
        if not self.is_alive():
            return False
        # One that was launched a moment ago has not written its pid yet.
        process.wait_until(lambda: self.find_pid() is not None or not self.is_alive(), ORPHANS_TIMEOUT_S)
        for number, timeout_s in self.stop_signals:
            pid = self.find_pid()
            if pid is not None:
                process.send(pid, number)
            if process.wait_until(lambda: not self.is_alive(), timeout_s):
                return True
        raise NotReady(f"{self.name} does not stop, see {self.log}")

    def _settles(self) -> bool:
        """Wait until a server that runs already answers or is gone; whether it did either in time."""
        return process.wait_until(lambda: self.not_ready_reason() is None or not self.is_alive(), self.ready_timeout_s)

    def _wait_ready(self) -> None:
        reason: str | None = "it has not been asked yet"

        def settled() -> bool:
            nonlocal reason
            reason = self.not_ready_reason()
            return reason is None or not self.is_alive()

        process.wait_until(settled, self.ready_timeout_s)
        if reason is None:
            return
        if self.is_alive():
            what = f"does not answer within {self.ready_timeout_s:.0f} s ({reason})"
        else:
            what = "ended at its start"
        raise NotReady(f"{self.name} {what}; the end of {self.log}:\n{process.tail(self.log)}")


def socket_dir(wanted: Path, user: OsUser | None) -> Path:
    """`wanted` where a socket's path fits in it, else a folder of ours with a short name.

    Raises:
        NotReady: somebody else made that folder.
    """
    if len(os.fsencode(wanted)) <= _SOCKET_DIR_LIMIT:
        return wanted
    uid = os.getuid() if user is None else user.uid
    short = Path("/tmp") / f"vpp-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]}"  # noqa: S108
    private_dir(short, user)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise NotReady(f"{short} is not a private folder of ours; remove it or choose a shorter VPP_VAR_DIR")
    return short


def private_dir(path: Path, user: OsUser | None) -> None:
    """Make a folder only its owner may enter."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    path.chmod(0o700)
    if user is not None:
        os.chown(path, user.uid, user.gid)


def wheel_folder(package: str, otherwise: str) -> Path:
    """Where a wheel is installed. Looks only: importing these packages has side effects.

    Raises:
        NotReady: it is not installed; says `otherwise`.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotReady(otherwise)
    return Path(spec.submodule_search_locations[0]).resolve()
