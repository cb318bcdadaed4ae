"""The queue of messages for a peer: closed when they are answered. Called by `consumer`, `asking` and the VTN's desk.

Our VTN tells them on a VEN's poll or pushes them; our VEN posts those for its VTN. What must be said is in SQL,
in the transaction of what led to it, until the other side has answered.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import Openadr2Message
from vpp.peering import drop_demands, message_from_json, tell_vtn2
from vpp.store.tables.openadr2_vtn import vtn2_outbox


async def close_kinds(
    connection: AsyncConnection, peer_id: str, kinds: Sequence[str] | None, outcome: str, *, at: datetime
) -> None:
    """Close a peer's waiting messages of these kinds, None for all."""
    closing = update(vtn2_outbox).where(vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.closed_at.is_(None))
    if kinds is not None:
        closing = closing.where(vtn2_outbox.c.kind.in_(kinds))
    await connection.execute(closing.values(closed_at=at, outcome=outcome))


async def close_taken(
    connection: AsyncConnection, peer_id: str, report_request_ids: Sequence[str], *, at: datetime
) -> None:
    """What a peer has begun to send is not asked for again."""
    await drop_demands(connection, peer_id, report_request_ids, "answered by values", at=at)


async def close_answered(
    connection: AsyncConnection, peer_id: str, kind: str, request_id: str, outcome: str, *, at: datetime
) -> Openadr2Message | None:
    """Close the message a peer has just answered and return it; None where none with this id waits."""
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
    return message_from_json(row.kind, row.message)


async def open_messages(connection: AsyncConnection, peer_id: str, *, limit: int) -> list[Row[Any]]:
    """Return what waits for a peer (id, message, sent_count), the least sent first."""
    query = select(vtn2_outbox).where(vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.closed_at.is_(None))
    query = query.order_by(vtn2_outbox.c.sent_count, vtn2_outbox.c.id).limit(limit)
    return list((await connection.execute(query)).all())


async def note_sent(connection: AsyncConnection, message_id: int, *, at: datetime) -> None:
    """Note that a message was sent once more."""
    sent = update(vtn2_outbox).where(vtn2_outbox.c.id == message_id)
    await connection.execute(sent.values(sent_count=vtn2_outbox.c.sent_count + 1, sent_at=at))


async def waiting_updates(connection: AsyncConnection, peer_id: str) -> set[str]:
    """Return the report requests of which values wait for a peer, or for its answer."""
    query = select(_reported()).where(*_updates(peer_id))
    return set((await connection.execute(query)).scalars())


async def close_updates(
    connection: AsyncConnection, peer_id: str, report_request_ids: Sequence[str], outcome: str, *, at: datetime
) -> None:
    """Close the values of reports that wait for a peer."""
    closing = update(vtn2_outbox).where(*_updates(peer_id), _reported().in_(list(report_request_ids)))
    await connection.execute(closing.values(closed_at=at, outcome=outcome))
    await tell_vtn2(connection, peer_id)


def _updates(peer_id: str) -> tuple[ColumnElement[bool], ...]:
    table = vtn2_outbox.c
    return (table.peer_id == peer_id, table.kind == "UpdateReports", table.closed_at.is_(None))


def _reported() -> ColumnElement[str]:
    """The report request of a queued UpdateReports; ours are of one report each."""
    return func.jsonb_extract_path_text(vtn2_outbox.c.message, "updates", "0", "report_request_id")
