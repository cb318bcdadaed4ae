"""Alembic's entry: runs the revisions on the connection that `vpp.store.migrate` hands over.

The `alembic` command line works too, with the address in VPP_DATABASE_URL.
"""

from alembic import context
from sqlalchemy import Connection

from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.store.migrations.scope import is_ours
from vpp.store.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=is_ours,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run_online() -> None:
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    from sqlalchemy import create_engine

    from vpp.store.engine import driver_url

    database_url = Settings().database_url
    if database_url is None:
        raise NotReady("set VPP_DATABASE_URL to use alembic directly, or run `vpp migrate`")
    with create_engine(driver_url(database_url)).connect() as own_connection:
        _run(own_connection)


if context.is_offline_mode():
    raise NotReady("migrations read the database they change: run them on a connection, without --sql")
_run_online()
