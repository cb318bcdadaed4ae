"""The loop that tells VENs the reports that fall due. Run beside the desk, which tells at once what is due at once.

Several VTNs may run it beside each other: a report that one of them tells is locked until that is committed.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, delete, exists, func, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.gateway.vtn import sending
from vpp.gateway.vtn.room import Room
from vpp.store.tables.gateway import openadr2_report_request
from vpp.store.tables.openadr2_vtn import vtn2_outbox
from vpp.store.tables.peering import peer

LOOK_AGAIN = timedelta(seconds=30)
MAX_VENS = 500
"""VENs told in one round."""

log = structlog.get_logger(__name__)


async def tell_reports(room: Room) -> None:
    """Tell what falls due until cancelled."""
    while True:
        room.due.clear()
        until = room.clock.now() + LOOK_AGAIN
        try:
            until = min(until, await _round(room) or until)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("reports to VENs not told", error=str(error)[:300])
        await _rest(room, until)


async def _round(room: Room) -> datetime | None:
    """Tell everything that is due; returns when something is due next, None where nothing is."""
    now = room.clock.now()
    async with room.store.begin() as connection:
        await _forget_revoked(connection, room.tenant_id)
        due = await _due(connection, room.tenant_id, now)
    for peer_id in due:
        ven = room.view.vens.get(peer_id)
        if ven is None or not ven.is_registered:
            continue
        try:
            async with room.store.begin() as connection:
                await sending.tell_due(connection, room, ven, at=now)
        except (SQLAlchemyError, OSError, TimeoutError):
            raise
        except Exception:  # what goes wrong with one VEN's report must not hold up the others
            log.exception("report not told", ven=ven.peer.name)
    async with room.store.begin() as connection:
        table = openadr2_report_request.c
        coming = select(func.min(table.next_due_at)).where(*_open(room.tenant_id), table.next_due_at > now)
        next_due_at: datetime | None = (await connection.execute(coming)).scalar()
    return next_due_at


async def _due(connection: AsyncConnection, tenant_id: str, now: datetime) -> list[str]:
    """Return the VENs with a report that is due, the longest first; not those that have values waiting."""
    table = openadr2_report_request.c
    waiting = exists().where(
        vtn2_outbox.c.peer_id == peer.c.id, vtn2_outbox.c.kind == "UpdateReports", vtn2_outbox.c.closed_at.is_(None)
    )
    query = select(peer.c.id).where(*_open(tenant_id), table.next_due_at <= now, ~waiting)
    query = query.group_by(peer.c.id).order_by(func.min(table.next_due_at), peer.c.id).limit(MAX_VENS)
    return list((await connection.execute(query)).scalars())


async def _forget_revoked(connection: AsyncConnection, tenant_id: str) -> None:
    revoked = select(peer.c.id).where(_of_peer(), peer.c.tenant_id == tenant_id, peer.c.revoked_at.is_not(None))
    await connection.execute(delete(openadr2_report_request).where(revoked.exists()))


def _open(tenant_id: str) -> tuple[ColumnElement[bool], ...]:
    return (_of_peer(), peer.c.tenant_id == tenant_id, openadr2_report_request.c.done_at.is_(None))


def _of_peer() -> Any:
    return openadr2_report_request.c.source == literal(sending.SOURCE) + peer.c.id


async def _rest(room: Room, until: datetime) -> None:
    """Wait until something is due, or is asked for."""
    sleeping = asyncio.create_task(room.clock.sleep_until(until))
    asked = asyncio.create_task(room.due.wait())
    try:
        await asyncio.wait((sleeping, asked), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeping, asked):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
