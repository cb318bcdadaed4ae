"""Finds the objects of our OpenADR 3 VTN. Called by `shelf.py`.

Lists are read without a transaction of their own: one statement is its own snapshot. Who sees only some
targets is served from two indexes, one of what has no target and one by target, so that a VEN that sees
ten events of ten thousand does not pay for the rest.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, cast, func, or_, select, text, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from vpp.domain.openadr3 import ObjectKind, ObjectQuery, StoredObject
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering.openadr3.records import COLUMNS, as_object
from vpp.store.tables.openadr3 import openadr3_object as objects
from vpp.store.tables.peering import peer as peers

_EQUAL = ("name", "program_id", "event_id", "ven_id", "client_id")
_UNTARGETED = text("openadr3_object.targets = '{}'::text[]")
"""Spelt as the partial index has it, or the index is not used."""


async def select_objects(connection: AsyncConnection, query: ObjectQuery) -> list[StoredObject]:
    """Return what is asked for, in order of creation, after `skip` and up to `limit` of them."""
    if query.limit == 0:
        return []
    return [as_object(row) for row in await connection.execute(_statement(query))]


async def find_object(
    connection: AsyncConnection, kind: ObjectKind, object_id: str, *, tenant_id: str
) -> StoredObject | None:
    """Return one object, or None where there is none of that kind and id."""
    wanted = select(*COLUMNS).where(
        objects.c.id == object_id, objects.c.kind == kind.value, objects.c.tenant_id == tenant_id
    )
    row = (await connection.execute(wanted)).first()
    return None if row is None else as_object(row)


async def granted_targets(connection: AsyncConnection, client_id: str, *, tenant_id: str) -> frozenset[str]:
    """Return the targets on a client's vens and resources, and those its configuration as a peer grants it."""
    on_objects = select(func.unnest(objects.c.targets)).where(
        objects.c.client_id == client_id,
        objects.c.tenant_id == tenant_id,
        objects.c.kind.in_((ObjectKind.VEN.value, ObjectKind.RESOURCE.value)),
    )
    on_peer = select(func.unnest(peers.c.granted_targets)).where(
        peers.c.client_id == client_id, peers.c.tenant_id == tenant_id, peers.c.revoked_at.is_(None)
    )
    return frozenset((await connection.execute(union_all(on_objects, on_peer))).scalars())


async def client_of_ven_name(connection: AsyncConnection, ven_name: str, *, tenant_id: str) -> str | None:
    """Return the client a venName was configured for, or None: 3.0.1's business logic names vens, never clients."""
    query = select(peers.c.client_id).where(
        peers.c.tenant_id == tenant_id,
        peers.c.protocol == Protocol.OPENADR3.value,
        peers.c.role == PeerRole.VEN.value,
        peers.c.revoked_at.is_(None),
        or_(peers.c.party_id == ven_name, peers.c.name == ven_name),
    )
    found = (await connection.execute(query.order_by(peers.c.party_id != ven_name).limit(1))).scalar()
    return None if found is None else str(found)


def _statement(query: ObjectQuery) -> Select[Any]:
    wheres = _wheres(query)
    page = select(*COLUMNS).where(*wheres).order_by(objects.c.number)
    if query.sight is None:
        return page.offset(query.skip).limit(query.limit)
    if not query.sight:
        return page.where(_UNTARGETED).offset(query.skip).limit(query.limit)
    reach = query.skip + query.limit
    branches = (page.where(_UNTARGETED).limit(reach), page.where(_has_any(query.sight)).limit(reach))
    both = union_all(*(branch.subquery().select() for branch in branches)).subquery()
    return select(both).order_by(both.c.number).offset(query.skip).limit(query.limit)


def _wheres(query: ObjectQuery) -> list[ColumnElement[bool]]:
    wheres = [objects.c.tenant_id == query.tenant_id, objects.c.kind == query.kind.value]
    for column in _EQUAL:
        if (value := getattr(query, column)) is not None:
            wheres.append(objects.c[column] == value)
    if query.any_target is not None:
        wheres.append(_has_any(query.any_target))
    if query.objects:
        wheres.append(objects.c.objects.overlap([kind.value for kind in query.objects]))
    if query.active_at is not None:
        wheres.append(or_(objects.c.end_at.is_(None), objects.c.end_at > query.active_at))
    return wheres


def _has_any(targets: frozenset[str]) -> ColumnElement[bool]:
    having: ColumnElement[bool] = objects.c.targets.overlap(cast(sorted(targets), ARRAY(Text)))
    return having
