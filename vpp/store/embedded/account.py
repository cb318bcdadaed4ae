"""The account PostgreSQL runs under: it refuses root, so a root caller lends it another one.

Called by `postgres.py` only.
"""

import logging
import os
import pwd
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from vpp.domain.errors import NotReady
from vpp.store.embedded.process import OsUser

ACCOUNT = "embedded_postgres"
_FALLBACK = "nobody"
_log = logging.getLogger(__name__)


def postgres_user(data: Path) -> OsUser | None:
    """The account to run as: ours if we are not root, else the data's owner, else the wheel's."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        found = data.stat()
        if found.st_uid != 0:
            return OsUser(found.st_uid, found.st_gid)
    return _lookup(ACCOUNT) or _create() or _nobody()


def let_through(path: Path, user: OsUser | None) -> None:
    """Let another account reach `path`: adds "may pass" to the folders above, where it is missing.

    Only passing, not listing, and nothing at all where we run as ourselves.
    """
    if user is None:
        return
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not _may_pass(folder.stat(), user):
            _log.warning("adding the right to pass (o+x) to %s, so that PostgreSQL's own account gets through", folder)
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def let_read(folder: Path, user: OsUser | None) -> None:
    """Let another account read a wheel that was installed under a strict umask (077)."""
    if user is None or folder.stat().st_mode & stat.S_IXOTH:
        return
    _log.warning("making %s readable, so that PostgreSQL's own account can run it", folder)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _may_pass(found: os.stat_result, user: OsUser) -> bool:
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _lookup(name: str) -> OsUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return OsUser(entry.pw_uid, entry.pw_gid)


def _create() -> OsUser | None:
    """Make the account. Another process may be making it too: what counts is whether it is there."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(command, capture_output=True, timeout=20, check=False)  # noqa: S603
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        _log.warning("cannot create the account %s: %s", ACCOUNT, error)
    return _lookup(ACCOUNT)


def _nobody() -> OsUser:
    user = _lookup(_FALLBACK)
    if user is None:
        raise NotReady("PostgreSQL refuses to run as root and no other account can be made: run as another user")
    return user
