"""The queue of messages for a VEN: closed when they are answered. Called by the desk's parts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import CreateReports
from vpp.gateway.vtn.view import Queued
from vpp.peering import message_from_json, tell_vtn2
from vpp.store.tables.openadr2_vtn import vtn2_outbox


async def close_kinds(
    connection: AsyncConnection, peer_id: str, kinds: Sequence[str] | None, outcome: str, *, at: datetime
) -> None:
    """Close a VEN's waiting messages of these kinds, None for all."""
    closing = update(vtn2_outbox).where(vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.closed_at.is_(None))
    if kinds is not None:
        closing = closing.where(vtn2_outbox.c.kind.in_(kinds))
    await connection.execute(closing.values(closed_at=at, outcome=outcome))


async def close_taken(
    connection: AsyncConnection, peer_id: str, report_request_ids: Sequence[str], *, at: datetime
) -> None:
    """Close the requests for reports all of which a VEN has begun to send."""
    waiting = select(vtn2_outbox).where(
        vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.kind == "CreateReports", vtn2_outbox.c.closed_at.is_(None)
    )
    for row in (await connection.execute(waiting.with_for_update())).all():
        message = message_from_json(row.kind, row.message)
        asked = {each.report_request_id for each in message.demands} if isinstance(message, CreateReports) else set()
        if asked and asked <= set(report_request_ids):
            closing = update(vtn2_outbox).where(vtn2_outbox.c.id == row.id)
            await connection.execute(closing.values(closed_at=at, outcome="answered by values"))
            await tell_vtn2(connection, peer_id)


async def close_answered(
    connection: AsyncConnection, peer_id: str, kind: str, request_id: str, outcome: str, *, at: datetime
) -> Queued | None:
    """Close the message a VEN has just answered and return it; None where none with this id waits."""
    closing = (
        update(vtn2_outbox)
        .where(
            vtn2_outbox.c.peer_id == peer_id,
            vtn2_outbox.c.kind == kind,
            vtn2_outbox.c.request_id == request_id,
            vtn2_outbox.c.closed_at.is_(None),
        )
        .values(closed_at=at, outcome=outcome)
        .returning(vtn2_outbox)
    )
    row = (await connection.execute(closing)).first()
    if row is None:
        return None
    await tell_vtn2(connection, peer_id)
    return Queued(row.id, row.request_id, message_from_json(row.kind, row.message), row.sent_count)
