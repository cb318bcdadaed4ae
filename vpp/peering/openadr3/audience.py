"""Who is told of a change, and how much of it they may see. Called by `queue.py`.

A receiver is told what happened as it looks from where it stands: an object that comes into its sight was
created, one that leaves it was deleted, whatever was done to get there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, and_, func, literal, or_, select, union, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from vpp.domain.openadr3 import OLDER_VERSION, Change, ObjectKind, Operation, StoredObject
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering.openadr3.topics import Topics
from vpp.store.tables.notifications import notification_channel as channels
from vpp.store.tables.openadr3 import openadr3_object as objects
from vpp.store.tables.peering import peer as peers

MQTT_CHANNEL = "mqtt"
_TARGETED = (ObjectKind.PROGRAM, ObjectKind.EVENT)
_WITHOUT_PROGRAM = (ObjectKind.VEN, ObjectKind.RESOURCE)
_BY_TARGETS_FOR_BL = (ObjectKind.PROGRAM, ObjectKind.EVENT, ObjectKind.VEN, ObjectKind.RESOURCE)
COMES_TO_US = peers.c.role != PeerRole.VTN.value
"""A VTN above us may know us by the client id of somebody below us."""
_GRANTING = (ObjectKind.VEN.value, ObjectKind.RESOURCE.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """One thing to tell over one channel; of the object's targets the receiver sees `shown`."""

    channel_id: str
    operation: Operation
    object: StoredObject
    shown: frozenset[str]
    topic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """From where something is seen.

    Attributes:
        client_id: None sees what belongs to nobody.
        sees_all: business logic.
        granted: of the targets in question, those granted to it.
        asked: the targets it asked for; None is none in particular.
        program_id: the only programme it asked for.
        must_ask: whoever asks for no targets sees none (3.1.0), else all that are granted to it (3.0.1).
    """

    client_id: str | None
    sees_all: bool
    granted: frozenset[str]
    asked: frozenset[str] | None = None
    program_id: str | None = None
    must_ask: bool = True

    def sees(self, found: StoredObject) -> frozenset[str] | None:
        """Return which of an object's targets are seen, or None where the object itself is not."""
        if self.program_id is not None and found.kind not in _WITHOUT_PROGRAM:
            of = found.id if found.kind is ObjectKind.PROGRAM else found.program_id
            if of != self.program_id:
                return None
        targets = frozenset(found.targets)
        if self.sees_all:
            filtered = self.asked is not None and found.kind in _BY_TARGETS_FOR_BL
            return None if filtered and not targets & (self.asked or frozenset()) else targets
        if found.kind not in _TARGETED:
            return targets if found.client_id == self.client_id else None
        if not targets and self.asked is None:
            return targets
        asked = self.asked if self.asked is not None or self.must_ask else self.granted
        return targets & self.granted & (asked or frozenset()) or None

    def told(self, change: Change) -> tuple[Operation, StoredObject, frozenset[str]] | None:
        """Return what happened as this viewer sees it, or None where it sees nothing."""
        now = self.sees(change.object)
        if change.operation is not Operation.UPDATE or change.before is None:
            return None if now is None else (change.operation, change.object, now)
        was = self.sees(change.before)
        if now is None:
            return None if was is None else (Operation.DELETE, change.before, was)
        return (Operation.CREATE if was is None else Operation.UPDATE, change.object, now)


async def webhook_tellings(connection: AsyncConnection, change: Change) -> list[Telling]:
    """Return what subscribers are told at their callback addresses."""
    found, kind = change.object, change.object.kind.value
    moved = change.operation is Operation.UPDATE
    operations = (Operation.CREATE, Operation.UPDATE, Operation.DELETE) if moved else (change.operation,)
    wanted = channels.c.wants.overlap([f"{kind} {operation.value}" for operation in operations])
    query = (
        select(channels, peers.c.role, peers.c.revoked_at)
        .outerjoin(
            peers,
            and_(peers.c.client_id == channels.c.client_id, peers.c.tenant_id == channels.c.tenant_id, COMES_TO_US),
        )
        .where(channels.c.tenant_id == found.tenant_id, channels.c.subscription_id.is_not(None), wanted)
        .order_by(channels.c.id)
    )
    if found.kind in _TARGETED:  # who asked for other targets sees nothing of it
        query = query.where(or_(channels.c.targets.is_(None), channels.c.targets.overlap(_array(_targets(change)))))
    else:  # what belongs to a client is seen by it and by business logic only
        query = query.where(or_(channels.c.client_id == found.client_id, peers.c.role == PeerRole.BL.value))
    rows = [row for row in await connection.execute(query) if row.revoked_at is None]
    granted = await _granted(connection, change, {row.client_id for row in rows})
    tellings = []
    for row in rows:
        if row.ending and not (found.kind is ObjectKind.PROGRAM and found.id == row.program_id):
            continue
        viewer = Viewer(
            client_id=row.client_id,
            sees_all=row.role == PeerRole.BL.value,
            granted=granted.get(row.client_id, frozenset()),
            asked=None if row.targets is None else frozenset(row.targets),
            program_id=row.program_id,
            must_ask=row.api_version != OLDER_VERSION,
        )
        told = viewer.told(change)
        if told is not None and f"{kind} {told[0].value}" in row.wants:
            operation, state, shown = told
            tellings.append(Telling(channel_id=row.id, operation=operation, object=state, shown=shown))
    return tellings


async def mqtt_tellings(connection: AsyncConnection, change: Change, topics: Topics) -> list[Telling]:
    """Return what is published, to business logic, to everyone and to single VENs."""
    tellings = [
        Telling(
            channel_id=MQTT_CHANNEL, operation=change.operation, object=change.object,
            shown=frozenset(change.object.targets), topic=topic,
        )
        for topic in topics.for_business_logic(change.object, change.operation)
    ]  # fmt: skip
    everyone = Viewer(client_id=None, sees_all=False, granted=frozenset())
    if change.object.kind in _TARGETED:
        told = everyone.told(change)
        if told is not None:
            names = topics.for_everyone(told[1], told[0])
            tellings += [_published(told, topic) for topic in names]
    if topics.only_open:
        return tellings
    for ven_id, viewer in await _vens_concerned(connection, change):
        told = viewer.told(change)
        if told is not None:
            tellings.append(_published(told, topics.for_ven(told[1], told[0], ven_id)))
    return tellings


def _published(told: tuple[Operation, StoredObject, frozenset[str]], topic: str) -> Telling:
    operation, state, shown = told
    return Telling(channel_id=MQTT_CHANNEL, operation=operation, object=state, shown=shown, topic=topic)


async def _vens_concerned(connection: AsyncConnection, change: Change) -> list[tuple[str, Viewer]]:
    """VENs whose own topics may have to tell of a change, and from where they see it."""
    found = change.object
    if found.kind in _WITHOUT_PROGRAM:
        ven_id = found.id if found.kind is ObjectKind.VEN else found.ven_id
        viewer = Viewer(client_id=found.client_id, sees_all=False, granted=frozenset())
        # Nobody can have asked for the topics of a VEN that was not there.
        unheard = found.kind is ObjectKind.VEN and change.operation is Operation.CREATE
        return [] if ven_id is None or unheard else [(ven_id, viewer)]
    targets = _targets(change)
    if found.kind not in _TARGETED or not targets:
        return []
    granted = await _granted(connection, change, None)
    vens = select(objects.c.id, objects.c.client_id).where(
        objects.c.tenant_id == found.tenant_id,
        objects.c.kind == ObjectKind.VEN.value,
        objects.c.client_id.in_(list(granted)),
    )
    return [
        (row.id, Viewer(client_id=row.client_id, sees_all=False, granted=granted[row.client_id], asked=targets))
        for row in await connection.execute(vens.order_by(objects.c.number))
    ]


async def _granted(
    connection: AsyncConnection, change: Change, clients: Collection[str] | None
) -> dict[str, frozenset[str]]:
    """Of a change's targets those granted to each client: by its vens and resources, or as it is configured, its
    venName included (as `read.granted_targets` has it).

    `clients` None: every client that has any of them.
    """
    targets = _targets(change)
    if not targets or (clients is not None and not clients):
        return {}
    tenant_id = change.object.tenant_id
    wanted = _array(targets)
    on_objects = select(objects.c.client_id, func.unnest(objects.c.targets).label("target")).where(
        objects.c.tenant_id == tenant_id, objects.c.kind.in_(_GRANTING), objects.c.targets.overlap(wanted)
    )
    on_peers = select(peers.c.client_id, func.unnest(peers.c.granted_targets).label("target")).where(
        peers.c.tenant_id == tenant_id,
        peers.c.protocol == Protocol.OPENADR3.value,
        peers.c.revoked_at.is_(None),
        COMES_TO_US,
        peers.c.granted_targets.overlap(wanted),
    )
    by_name = select(peers.c.client_id, peers.c.party_id.label("target")).where(
        peers.c.tenant_id == tenant_id,
        peers.c.protocol == Protocol.OPENADR3.value,
        peers.c.revoked_at.is_(None),
        COMES_TO_US,
        peers.c.client_id.is_not(None),
        peers.c.party_id == func.any(wanted),
    )
    together = union if clients is None else union_all
    both = together(on_objects, on_peers, by_name).subquery()
    query = select(both.c.client_id, both.c.target).where(both.c.target == func.any(wanted))
    if clients is not None:
        query = query.where(both.c.client_id.in_(list(clients)))
    found: dict[str, set[str]] = {}
    for client_id, target in await connection.execute(query):
        found.setdefault(client_id, set()).add(target)
    return {client_id: frozenset(each) for client_id, each in found.items()}


def _array(targets: Collection[str]) -> BindParameter[Any]:
    return literal(sorted(targets), ARRAY(Text))


def _targets(change: Change) -> frozenset[str]:
    states: Sequence[StoredObject] = [change.object] if change.before is None else [change.object, change.before]
    return frozenset(target for state in states for target in state.targets)
