"""Room peering: events of VTNs above us, passed on to those below us.

Called by the VENs of both protocols with every event they receive, in the transaction that keeps it, and by
the portal, where the operator passes one on. An event that was passed on is followed: changed, cancelled and
un-cancelled with the one above. A peer whose configuration says `forward: true` has all its events passed on,
to the targets `forward_targets` names (texts as in `vpp/domain/target_text.py`; none is everybody), in the
programme `forward_program` (else its own market context).

Passed on, event `x` of peer `utility` is `x@utility` below us (`x@utility.openadr3` where the utility has one `x`
in 2.0b and another in OpenADR 3): the way it came stands in its id, by which an event that comes round again is
known and refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.grid_event import EventStatus, GridEvent, Target, Unsaid
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.domain.target_text import target_of_text
from vpp.peering.downstream import Published, cancel, modify, publish
from vpp.peering.grid_event_json import event_from_json, event_to_json
from vpp.peering.openadr3 import Changes
from vpp.ports import EventTranslator
from vpp.store.tables.downstream import grid_event, received_event
from vpp.store.tables.peering import peer as peers

MAX_HOPS = 4
"""How often an event is passed on from one VPP to the next."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What became of a received event: what is told below us, or why nothing (new) is; neither where it stays here."""

    event: GridEvent | None = None
    unsaid: dict[Protocol, tuple[Unsaid, ...]] = field(default_factory=dict)
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """An event of a VTN above us as it last stood; `source` is the peer's id."""

    source: str
    source_name: str
    event: GridEvent
    received_at: datetime
    changed_at: datetime
    forwarded_as: str | None
    refusal: str | None


async def on_received(
    connection: AsyncConnection,
    peer: Peer,
    event: GridEvent,
    *,
    at: datetime,
    translator: EventTranslator,
    changes: Changes | None = None,
) -> Forwarded:
    """Keep an event as it now stands upstream, and pass it on where the peer, or an earlier passing on, says so.

    Told again, it changes nothing. What cannot be passed on comes back as a refusal; it is never an error here.

    Args:
        event: with `cancelled` set where it was withdrawn, also by silence.
        changes: who is told of objects of our OpenADR 3 VTN; None passes on in 2.0b only.
    """
    row = await _keep(connection, peer, event, at)
    wanted = peer.config.get("forward") is True and not event.cancelled
    if row.forwarded_as is None and not (wanted and event.status_at(at) is not EventStatus.COMPLETED):
        return Forwarded()
    targets = tuple(target_of_text(str(each)) for each in _texts(peer.config.get("forward_targets")))
    return await _pass_on(connection, row, peer, event, targets, at=at, translator=translator, changes=changes)


async def forward_received(
    connection: AsyncConnection,
    source: str,
    event_id: str,
    *,
    tenant_id: str,
    at: datetime,
    translator: EventTranslator,
    targets: Sequence[Target] = (),
    changes: Changes | None = None,
) -> Forwarded:
    """Pass on a received event because the operator says so; it is followed from then on.

    Raises:
        NotFound: the tenant has received no such event.
        Conflict: it is cancelled or over.
    """
    row, peer = await _received(connection, source, event_id, tenant_id)
    event = event_from_json(row.event)
    if row.forwarded_as is None and (event.cancelled or event.status_at(at) is EventStatus.COMPLETED):
        raise Conflict(f"event {event_id!r} is {event.status_at(at).value}")
    return await _pass_on(connection, row, peer, event, targets, at=at, translator=translator, changes=changes)


async def list_received(
    connection: AsyncConnection, *, tenant_id: str, limit: int = 100, offset: int = 0
) -> list[Received]:
    """Return what VTNs above us have told, the latest change first."""
    query = (
        select(received_event, peers.c.name)
        .join(peers, peers.c.id == received_event.c.source)
        .where(received_event.c.tenant_id == tenant_id)
        .order_by(received_event.c.changed_at.desc(), received_event.c.source, received_event.c.event_id)
    )
    return [
        Received(
            source=row.source,
            source_name=row.name,
            event=event_from_json(row.event),
            received_at=row.received_at,
            changed_at=row.changed_at,
            forwarded_as=row.forwarded_as,
            refusal=row.refusal,
        )
        for row in await connection.execute(query.limit(limit).offset(offset))
    ]


def origin_of(peer_id: str, event_id: str) -> str:
    """Where a passed-on event says it comes from."""
    return f"peer:{peer_id}/{event_id}"


def forwarded_id(event: GridEvent, peer: Peer) -> str:
    """The id an event of a peer has below us."""
    return f"{event.event_id}@{peer.name}"


async def _keep(connection: AsyncConnection, peer: Peer, event: GridEvent, at: datetime) -> Row[Any]:
    body = event_to_json(event)
    new = insert(received_event).values(
        source=peer.id, event_id=event.event_id, tenant_id=peer.tenant_id, event=body, received_at=at, changed_at=at
    )
    kept = new.on_conflict_do_update(
        index_elements=["source", "event_id"],
        set_={"event": new.excluded.event, "changed_at": new.excluded.changed_at},
        where=received_event.c.event.is_distinct_from(new.excluded.event),
    )
    await connection.execute(kept)
    return await _locked(connection, peer.id, event.event_id, peer.tenant_id)


async def _received(connection: AsyncConnection, source: str, event_id: str, tenant_id: str) -> tuple[Row[Any], Peer]:
    row = await _locked(connection, source, event_id, tenant_id)
    sender = (await connection.execute(select(peers).where(peers.c.id == source))).one()
    return row, Peer(
        id=sender.id, tenant_id=sender.tenant_id, protocol=Protocol(sender.protocol),
        role=PeerRole(sender.role), name=sender.name, config=sender.config,
    )  # fmt: skip


async def _locked(connection: AsyncConnection, source: str, event_id: str, tenant_id: str) -> Row[Any]:
    query = select(received_event).where(
        received_event.c.source == source,
        received_event.c.event_id == event_id,
        received_event.c.tenant_id == tenant_id,
    )
    row = (await connection.execute(query.with_for_update())).first()
    if row is None:
        raise NotFound(f"no event {event_id!r} received")
    return row


async def _pass_on(
    connection: AsyncConnection,
    row: Row[Any],
    peer: Peer,
    event: GridEvent,
    targets: Sequence[Target],
    *,
    at: datetime,
    translator: EventTranslator,
    changes: Changes | None,
) -> Forwarded:
    """Publish or follow within a savepoint: a refusal leaves the caller's transaction as it was."""
    told: Published | None = None
    refusal: str | None = None
    common: dict[str, Any] = {"tenant_id": peer.tenant_id, "at": at, "translator": translator, "changes": changes}
    try:
        async with connection.begin_nested():
            if row.forwarded_as is None:
                await _refuse_loop(connection, event, peer)
                ours = _as_ours(event, peer, tuple(targets))
                origin = origin_of(peer.id, event.event_id)
                ours = replace(ours, event_id=await _free_id(connection, ours.event_id, peer, origin))
                told = await publish(connection, ours, origin=origin, **common)
            else:
                told = await _follow(connection, row.forwarded_as, event, peer, common)
    except (Conflict, InvalidRequest, NotFound) as error:
        refusal = str(error)
    linked = row.forwarded_as if told is None else told.event.event_id
    if (linked, refusal) != (row.forwarded_as, row.refusal):
        await connection.execute(
            update(received_event)
            .where(received_event.c.source == row.source, received_event.c.event_id == row.event_id)
            .values(forwarded_as=linked, refusal=refusal)
        )
    return Forwarded(refusal=refusal) if told is None else Forwarded(told.event, dict(told.unsaid))


async def _follow(
    connection: AsyncConnection, event_id: str, event: GridEvent, peer: Peer, common: dict[str, Any]
) -> Published:
    if event.cancelled:
        return await cancel(connection, event_id, reason=event.modification_reason, **common)

    def change(stands: GridEvent) -> GridEvent:
        return replace(_as_ours(event, peer, stands.targets), program=stands.program)

    return await modify(connection, event_id, change, revive=True, **common)


def _as_ours(event: GridEvent, peer: Peer, targets: tuple[Target, ...]) -> GridEvent:
    """The event as we tell it: its targets above us are ours, below us they are others."""
    program = peer.config.get("forward_program")
    return replace(
        event,
        event_id=forwarded_id(event, peer),
        modification_number=0,
        program=program if isinstance(program, str) and program else event.program,
        targets=targets,
        modified_at=None,
    )


async def _free_id(connection: AsyncConnection, event_id: str, peer: Peer, origin: str) -> str:
    """The id itself, or with the protocol where a utility of the same name in the other one has taken it."""
    taken = select(grid_event.c.origin).where(
        grid_event.c.tenant_id == peer.tenant_id, grid_event.c.event_id == event_id, grid_event.c.origin != origin
    )
    is_taken = (await connection.execute(taken)).first() is not None
    return f"{event_id}.{peer.protocol.value}" if is_taken else event_id


async def _refuse_loop(connection: AsyncConnection, event: GridEvent, peer: Peer) -> None:
    """Refuse an event that we told ourselves, as its id shows, or that has been passed on too often."""
    root, *hops = event.event_id.split("@")
    if len(hops) >= MAX_HOPS:
        raise Conflict(f"event {event.event_id!r} has been passed on {len(hops)} times already")
    ids = ["@".join([root, *hops[:count]]) for count in range(len(hops) + 1)]
    query = select(grid_event.c.event_id).where(
        grid_event.c.tenant_id == peer.tenant_id,
        grid_event.c.event_id.in_(ids),
        grid_event.c.start_at == event.start_at,
    )
    ours = (await connection.execute(query.limit(1))).scalar()
    if ours is not None:
        raise Conflict(f"event {event.event_id!r} is our own event {ours!r}, come round")


def _texts(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
