"""Bring a database to the newest schema. Called by `vpp migrate`, `vpp up`, the demo and the tests.

Works from the installed package alone: there is no alembic.ini, and the revisions are package data.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from vpp.domain.errors import NotReady
from vpp.store.engine import CONNECT_TIMEOUT_S, driver_url

LOCK_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 300
WAIT_FOR_OTHER_S = 120.0
_POLL_S = 0.1
_LOCK_KEY = 0x5650_504D
"""Any number will do that no other advisory lock of ours uses ("VPPM")."""

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrade to `revision`; does nothing where the database is already there.

    Two processes that migrate at once take turns. A statement that cannot get its lock within 5 s
    gives up, so that a migration never queues the whole service behind itself.

    Raises:
        NotReady: the server does not answer, or another process has been migrating for too long.
    """
    with _configured(database_url) as config:
        command.upgrade(config, revision)


def downgrade(database_url: str, revision: str) -> None:
    """Go back to `revision`, for an operator who has to take back a release.

    Raises:
        Conflict: that would lose the ledger.
        NotReady: as in `migrate`.
    """
    with _configured(database_url) as config:
        command.downgrade(config, revision)


def newest_revision() -> str | None:
    """The revision this release needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def alembic_config() -> Config:
    """Alembic's configuration, made in code."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


@contextmanager
def _configured(database_url: str) -> Iterator[Config]:
    """Alembic on a connection of its own, while nobody else migrates this database."""
    engine = _engine(database_url)
    try:
        with _one_at_a_time(engine), engine.connect() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            yield config
    finally:
        engine.dispose()


def _engine(database_url: str) -> Engine:
    options = f"-c lock_timeout={LOCK_TIMEOUT_S}s -c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC"
    return create_engine(
        driver_url(database_url),
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options},
    )


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Hold the migration lock on a connection of its own; the server frees it if this process dies."""
    try:
        holder = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except OperationalError as error:
        raise NotReady(f"PostgreSQL does not answer: {error.orig}") from error
    with holder:
        deadline_s = time.monotonic() + WAIT_FOR_OTHER_S
        while not holder.scalar(text("select pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}):
            if time.monotonic() > deadline_s:
                raise NotReady(f"another process has been migrating this database for {WAIT_FOR_OTHER_S:.0f} s")
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            holder.execute(text("select pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
