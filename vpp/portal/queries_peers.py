"""How peers stand: registered, reporting, told or not. Called by the pages and routes about peers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.peer import Direction, Peer, PeerRole, Protocol
from vpp.peering import MessageFilter, last_heard, search_messages, standings
from vpp.store.tables.gateway import openadr2_registration
from vpp.store.tables.notifications import notification_channel
from vpp.store.tables.openadr2_vtn import vtn2_outbox, vtn2_registration, vtn2_report_request
from vpp.store.tables.openadr3 import openadr3_object
from vpp.store.tables.openadr3_ven import openadr3_ven


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerState:
    """How one peer stands, as far as its protocol says.

    Attributes:
        registered_at: since when it is registered with us, or we with it; None: it is not.
        ended_at: when a registration ended that has not come back.
        last_heard_at: when its last message came; half a minute late while it is idle.
        reports: report requests that run (2.0b), or reports it has put at our VTN (3).
        subscriptions, broken: ways it wants to be told, and those that do not work (3).
        waiting: messages it has not taken yet (2.0b).
        trouble: of a VTN above us, why the gateway's last round with it failed, or why it cannot be asked at all.
        stands_since_at: since when its rounds go well, or, with `trouble`, since when none does; None: not asked yet.
    """

    registered_at: datetime | None = None
    ended_at: datetime | None = None
    last_heard_at: datetime | None = None
    reports: int = 0
    subscriptions: int = 0
    broken: int = 0
    waiting: int = 0
    trouble: str | None = None
    stands_since_at: datetime | None = None

    @property
    def words(self) -> str:
        """How it stands, in two or three words."""
        if self.trouble is not None:
            return "in trouble"
        if self.registered_at is not None:
            return "registered"
        if self.ended_at is not None:
            return "signed off"
        return "not registered"


async def peer_states(connection: AsyncConnection, peers: Sequence[Peer]) -> dict[str, PeerState]:
    """Return how each peer stands, by its id."""
    heard = await last_heard(connection, list(peers))
    states = {peer.id: PeerState(last_heard_at=heard.get(peer.id)) for peer in peers}
    below = [peer.id for peer in peers if peer.protocol is Protocol.OPENADR2 and peer.role is PeerRole.VEN]
    clients = {peer.client_id: peer.id for peer in peers if peer.client_id and peer.role is not PeerRole.VTN}
    above = [peer for peer in peers if peer.role is PeerRole.VTN]
    if below:
        await _openadr2_vens(connection, below, states)
    if clients:
        await _openadr3_clients(connection, clients, states)
    if above:
        await _vtns(connection, above, states)
    return states


async def last_poll_at(connection: AsyncConnection, peer: Peer, *, tenant_id: str) -> datetime | None:
    """When a peer last asked us whether there is anything, or, of a VTN, answered us that."""
    kind = "oadrPoll" if peer.protocol is Protocol.OPENADR2 else "GET "
    direction = Direction.OUT if peer.role is PeerRole.VTN else Direction.IN
    wanted = MessageFilter(peer=peer, kind=kind, direction=direction)
    found = await search_messages(connection, wanted, tenant_id=tenant_id, limit=1)
    return found[0].last_at if found else None


async def _openadr2_vens(connection: AsyncConnection, ids: list[str], states: dict[str, PeerState]) -> None:
    registered = select(vtn2_registration).where(vtn2_registration.c.peer_id.in_(ids))
    for row in await connection.execute(registered):
        known = states[row.peer_id]
        seen = [at for at in (known.last_heard_at, row.seen_at) if at is not None]
        states[row.peer_id] = replace(
            known,
            registered_at=None if row.cancelled_at else row.registered_at,
            ended_at=row.cancelled_at,
            last_heard_at=max(seen, default=None),
        )
    requests, waiting = vtn2_report_request, vtn2_outbox
    running = select(requests.c.peer_id, func.count()).where(requests.c.peer_id.in_(ids), requests.c.state == "running")
    for peer_id, count in await connection.execute(running.group_by(requests.c.peer_id)):
        states[peer_id] = replace(states[peer_id], reports=count)
    still = select(waiting.c.peer_id, func.count()).where(waiting.c.peer_id.in_(ids), waiting.c.closed_at.is_(None))
    for peer_id, count in await connection.execute(still.group_by(waiting.c.peer_id)):
        states[peer_id] = replace(states[peer_id], waiting=count)


async def _openadr3_clients(connection: AsyncConnection, ids: dict[str, str], states: dict[str, PeerState]) -> None:
    objects, channels = openadr3_object, notification_channel
    counted = (
        select(objects.c.client_id, objects.c.kind, func.count(), func.min(objects.c.created_at))
        .where(objects.c.client_id.in_(list(ids)), objects.c.kind.in_(("VEN", "REPORT", "SUBSCRIPTION")))
        .group_by(objects.c.client_id, objects.c.kind)
    )
    for client_id, kind, count, first_at in await connection.execute(counted):
        known = states[ids[client_id]]
        if kind == "VEN":
            states[ids[client_id]] = replace(known, registered_at=first_at)
        elif kind == "REPORT":
            states[ids[client_id]] = replace(known, reports=count)
        else:
            states[ids[client_id]] = replace(known, subscriptions=count)
    faulty = func.count(case((channels.c.broken_at.is_not(None) | channels.c.gone, 1)))
    broken = select(channels.c.client_id, faulty).where(channels.c.client_id.in_(list(ids)))
    for client_id, count in await connection.execute(broken.group_by(channels.c.client_id)):
        states[ids[client_id]] = replace(states[ids[client_id]], broken=count)


async def _vtns(connection: AsyncConnection, peers: list[Peer], states: dict[str, PeerState]) -> None:
    sources = {(peer.protocol, name): peer.id for peer in peers for name in _sources(peer)}
    names = [name for _, name in sources]
    older, newer = openadr2_registration, openadr3_ven
    rows = [
        (Protocol.OPENADR2, await connection.execute(
            select(older.c.source, older.c.registered_at).where(older.c.source.in_(names)))),
        (Protocol.OPENADR3, await connection.execute(
            select(newer.c.source, newer.c.registered_at).where(newer.c.source.in_(names)))),
    ]  # fmt: skip
    for protocol, found in rows:
        for source, at in found:
            peer_id = sources.get((protocol, source))
            if peer_id is not None:
                states[peer_id] = replace(states[peer_id], registered_at=at)
    for peer_id, found_so in (await standings(connection, peers)).items():
        states[peer_id] = replace(states[peer_id], trouble=found_so.trouble, stands_since_at=found_so.since_at)


def _sources(peer: Peer) -> tuple[str, str]:
    """What a VTN is called in what the gateway keeps of it."""
    return (peer.name, f"{peer.protocol.value}:{peer.name}")
