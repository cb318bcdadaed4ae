"""Start, adopt and stop the embedded servers of one var folder. Called by cli, demo and tests.

Every user of the servers holds a shared lock for as long as it runs. Who comes starts what is missing
and adopts what runs; who leaves last stops it. A user that was killed holds no lock, so its servers
are adopted by the next one, with all rows. `var/servers.json` says who they are.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.store.embedded import process
from vpp.store.embedded.postgres import Postgres
from vpp.store.embedded.record import Record, Running, read_record, this_process, write_record
from vpp.store.embedded.server import EmbeddedServer
from vpp.store.embedded.valkey import Valkey

START_STOP_TIMEOUT_S = 200.0
LEAVE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where PostgreSQL and Valkey are."""

    database_url: str
    redis_url: str


@contextmanager
def running_servers(settings: Settings) -> Iterator[ServerUrls]:
    """Both servers for the block: the configured ones as they are, or ours under `settings.var_dir`.

    Blocks while it starts (1-2 s, the first time a second more). The last user to leave stops the
    embedded servers; SIGTERM and Ctrl-C count as leaving.

    Raises:
        NotReady: a wheel is missing, or a server does not answer; names its log.
    """
    if settings.database_url is not None and settings.redis_url is not None:
        yield ServerUrls(settings.database_url, settings.redis_url)
        return
    var = _Var(settings.var_dir)
    with _leave_on_sigterm():
        descriptor = process.open_lock(var.users_lock)
        try:
            with var.turn():
                _join(var, descriptor)
            try:
                yield ensure_servers(settings)
            finally:
                with _undisturbed():
                    _leave(var, descriptor)
        finally:
            os.close(descriptor)


def ensure_servers(settings: Settings) -> ServerUrls:
    """Start whichever embedded server is not running; returns the addresses, which do not change.

    Cheap where all is well (a few ms), so that a supervisor can call it every few seconds. To be called
    inside `running_servers`, here or in another process.
    """
    var = _Var(settings.var_dir)
    with var.turn():
        database_url = settings.database_url or var.postgres.ensure()
        redis_url = settings.redis_url or var.valkey.ensure()
        write_record(var.record, replace(read_record(var.record), servers=var.running()))
    return ServerUrls(database_url, redis_url)


def stop_servers(var_dir: Path) -> tuple[str, ...]:
    """Stop the servers of a var folder, whoever started them; returns the names of those that ran.

    Their users are asked to leave first (SIGTERM), this process excepted.

    Raises:
        NotReady: a server does not stop.
    """
    var = _Var(var_dir)
    ran = tuple(server.name for server in var.servers if server.is_alive())
    users = [user for user in read_record(var.record).users if user.pid != os.getpid()]
    for user in users:
        process.send(user.pid, signal.SIGTERM)
    process.wait_until(lambda: not any(user.is_alive for user in users), LEAVE_TIMEOUT_S)
    with var.turn():
        var.stop()
    return ran


class _Var:
    """The files and servers of one var folder."""

    def __init__(self, var_dir: Path) -> None:
        folder = var_dir.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.record = folder / "servers.json"
        self.users_lock = folder / "users.lock"
        self._turn_lock = folder / "servers.lock"
        self.postgres = Postgres(folder)
        self.valkey = Valkey(folder)
        self.servers: tuple[EmbeddedServer, ...] = (self.postgres, self.valkey)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Only one process at a time starts, stops or records."""
        with process.exclusive(self._turn_lock, START_STOP_TIMEOUT_S):
            yield

    def running(self) -> tuple[Running, ...]:
        alive = (server for server in self.servers if server.is_alive())
        return tuple(Running(each.name, each.find_pid(), each.url, str(each.log)) for each in alive)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        write_record(self.record, Record(read_record(self.record).users))


def _join(var: _Var, descriptor: int) -> None:
    # Whoever left last may hold the lock for a moment after its turn.
    if not process.wait_until(lambda: process.try_lock(descriptor, fcntl.LOCK_SH), START_STOP_TIMEOUT_S):
        raise NotReady(f"another process keeps {var.users_lock} to itself")
    write_record(var.record, read_record(var.record).with_user(this_process()))


def _leave(var: _Var, descriptor: int) -> None:
    with var.turn():
        write_record(var.record, read_record(var.record).without_user(this_process()))
        if process.try_lock(descriptor, fcntl.LOCK_EX):
            var.stop()


@contextmanager
def _leave_on_sigterm() -> Iterator[None]:
    """Make SIGTERM unwind the stack, unless the program has plans of its own for it."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave a half-stopped server behind; every wait inside has a deadline."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
