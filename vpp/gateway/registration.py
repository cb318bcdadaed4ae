"""Room gateway: who we are to a VTN, kept over restarts. Called by `session`."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.ven import Registration
from vpp.store.tables.gateway import openadr2_registration as table


async def load_registration(connection: AsyncConnection, source: str) -> Registration | None:
    """Return the registration, or None where there is none."""
    row = (await connection.execute(select(table).where(table.c.source == source))).one_or_none()
    return Registration(row.ven_id, row.registration_id, row.poll_interval_s, row.vtn_id) if row else None


async def save_registration(
    connection: AsyncConnection, source: str, registration: Registration, *, poll_s: float, at: datetime
) -> None:
    """Keep a registration in place of an earlier one; `poll_s` is how often we ask [s]."""
    values = {
        "ven_id": registration.ven_id,
        "registration_id": registration.registration_id,
        "poll_interval_s": poll_s,
        "registered_at": at,
        "vtn_id": registration.vtn_id,
    }
    statement = insert(table).values(source=source, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=[table.c.source], set_=values))


async def forget_registration(connection: AsyncConnection, source: str) -> None:
    """Drop the registration: it has ended."""
    await connection.execute(delete(table).where(table.c.source == source))
