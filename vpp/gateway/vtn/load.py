"""Reads what the VTN keeps in memory. Called by `keeper`."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.grid_event import EventStatus, GridEvent
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.vtn.delivery import Delivery
from vpp.gateway.vtn.view import Queued, RegistrationRow, Ven
from vpp.peering import get_peer, list_grid_events, list_peers, message_from_json
from vpp.store.tables.downstream import grid_event
from vpp.store.tables.openadr2_vtn import vtn2_delivery, vtn2_outbox, vtn2_registration

TOLD_FOR = timedelta(days=1)
"""How long after its end an event's completion or cancellation is still told to those who missed it."""
MAX_EVENTS = 20_000
_PAGE = 1000


async def load_events(connection: AsyncConnection, tenant_id: str, now: datetime) -> list[GridEvent]:
    """Return every event that may still have to be told, at most `MAX_EVENTS`."""
    found: list[GridEvent] = []
    while len(found) < MAX_EVENTS:
        page = await list_grid_events(
            connection, tenant_id=tenant_id, current_at=now - TOLD_FOR, limit=_PAGE, offset=len(found)
        )
        found += page
        if len(page) < _PAGE:
            break
    return found


async def load_vens(connection: AsyncConnection, tenant_id: str, now: datetime, *, deliveries: bool) -> list[Ven]:
    """Return all VENs that may come to us, with what waits for them; `deliveries` is the large part."""
    peers = await list_peers(connection, tenant_id=tenant_id, protocol=Protocol.OPENADR2, role=PeerRole.VEN)
    registrations = {
        row.peer_id: _registration(row)
        for row in await connection.execute(select(vtn2_registration).where(vtn2_registration.c.tenant_id == tenant_id))
    }
    queues = _queues(await connection.execute(_open_messages()))
    told = _deliveries(await connection.execute(_told(now))) if deliveries else {}
    return [_ven(peer, registrations.get(peer.id), queues, told) for peer in peers]


async def load_ven(connection: AsyncConnection, peer_id: str, tenant_id: str, now: datetime) -> Ven | None:
    """Return one VEN with all that is known of it, None where it is none, or none any more.

    Raises:
        NotFound: the tenant has no such peer.
    """
    peer = await get_peer(connection, peer_id, tenant_id=tenant_id)
    if peer.revoked_at is not None or peer.protocol is not Protocol.OPENADR2 or peer.role is not PeerRole.VEN:
        return None
    query = select(vtn2_registration).where(vtn2_registration.c.peer_id == peer_id)
    row = (await connection.execute(query)).first()
    queues = _queues(await connection.execute(_open_messages().where(vtn2_outbox.c.peer_id == peer_id)))
    told = _deliveries(await connection.execute(_told(now).where(vtn2_delivery.c.peer_id == peer_id)))
    return _ven(peer, None if row is None else _registration(row), queues, told)


async def load_told(
    connection: AsyncConnection, now: datetime, *, event_id: str | None = None, since: datetime | None = None
) -> dict[str, dict[str, Delivery]]:
    """Return what VENs were told and answered, by peer and event: of one event, or since an instant; by any VTN."""
    query = _told(now)
    if event_id is not None:
        query = query.where(vtn2_delivery.c.event_id == event_id)
    if since is not None:
        query = query.where(or_(vtn2_delivery.c.told_at >= since, vtn2_delivery.c.answered_at >= since))
    return _deliveries(await connection.execute(query))


def _open_messages() -> Select[Any]:
    return select(vtn2_outbox).where(vtn2_outbox.c.closed_at.is_(None)).order_by(vtn2_outbox.c.id)


def _told(now: datetime) -> Select[Any]:
    current = or_(grid_event.c.over_at.is_(None), grid_event.c.over_at > now - TOLD_FOR)
    same = and_(grid_event.c.tenant_id == vtn2_delivery.c.tenant_id, grid_event.c.event_id == vtn2_delivery.c.event_id)
    return select(vtn2_delivery).join(grid_event, same).where(current)


def _ven(
    peer: Peer,
    registration: RegistrationRow | None,
    queues: dict[str, list[Queued]],
    told: dict[str, dict[str, Delivery]],
) -> Ven:
    return Ven(peer, registration, told.get(peer.id, {}), queues.get(peer.id, []))


def _registration(row: Row[Any]) -> RegistrationRow:
    return RegistrationRow(
        ven_id=row.ven_id,
        registration_id=row.registration_id,
        http_pull=row.http_pull,
        transport_address=row.transport_address,
        report_only=row.report_only,
        xml_signature=row.xml_signature,
        cancelled=row.cancelled_at is not None,
    )


def _queues(rows: Iterable[Row[Any]]) -> dict[str, list[Queued]]:
    queues: dict[str, list[Queued]] = defaultdict(list)
    for row in rows:
        message = message_from_json(row.kind, row.message)
        queues[row.peer_id].append(Queued(row.id, row.request_id, message, row.sent_count, row.sent_at))
    return queues


def _deliveries(rows: Iterable[Row[Any]]) -> dict[str, dict[str, Delivery]]:
    told: dict[str, dict[str, Delivery]] = defaultdict(dict)
    for row in rows:
        told[row.peer_id][row.event_id] = Delivery(
            row.told_modification,
            None if row.told_status is None else EventStatus(row.told_status),
            row.told_count,
            row.settled_modification,
            None if row.settled_status is None else EventStatus(row.settled_status),
        )
    return told
