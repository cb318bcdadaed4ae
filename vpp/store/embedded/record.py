"""`servers.json`: who uses the embedded servers and where they are; for people, `vpp down` and support.

The locks decide who is alive; this file only names them. Written whole, under the servers' lock.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vpp.store.embedded.process import start_mark


@dataclass(frozen=True, slots=True)
class User:
    """A process that uses the servers; `started` tells it from a later one with the same pid."""

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        return start_mark(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Running:
    """A server as it was last seen."""

    name: str
    pid: int | None
    url: str
    log: str


@dataclass(frozen=True, slots=True)
class Record:
    """The file's content. The first user is the one who started, or adopted, the servers."""

    users: tuple[User, ...] = ()
    servers: tuple[Running, ...] = ()

    def with_user(self, user: User) -> "Record":
        return replace(self, users=(*self.users, user))

    def without_user(self, user: User) -> "Record":
        """Drop one mention of `user`: a process may use the servers twice."""
        users = list(self.users)
        if user in users:
            users.remove(user)
        return replace(self, users=tuple(users))


def this_process() -> User:
    """Us, as a user."""
    return User(os.getpid(), start_mark(os.getpid()) or "")


def read_record(path: Path) -> Record:
    """What the file says, less the users who are gone. An unreadable file says nothing."""
    try:
        content = json.loads(path.read_text())
        users = tuple(User(**each) for each in content["users"])
        servers = tuple(Running(**each) for each in content["servers"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Record()
    return Record(tuple(user for user in users if user.is_alive), servers)


def write_record(path: Path, record: Record) -> None:
    """Replace the file in one step, readable by its owner only."""
    fresh = path.with_suffix(".json.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(record), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
