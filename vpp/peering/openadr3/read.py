"""Finds the objects of our OpenADR 3 VTN. Called by `shelf.py`.

Lists are read without a transaction of their own: one statement is its own snapshot. Who sees only some
targets is served from two indexes, one of what has no target and one by target, so that a VEN that sees
ten events of ten thousand does not pay for the rest.
"""

from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, Select, bindparam, cast, func, or_, select, text, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from vpp.domain.openadr3 import ObjectKind, ObjectQuery, StoredObject
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering.openadr3.records import COLUMNS, as_object
from vpp.store.tables.openadr3 import openadr3_object as objects
from vpp.store.tables.peering import peer as peers
from vpp.store.types import UtcInstant

_EQUAL = ("name", "program_id", "event_id", "ven_id", "client_id")
_UNTARGETED = text("openadr3_object.targets = '{}'::text[]")
"""Spelt as the partial index has it, or the index is not used."""
_TARGET_OF_TYPE = text(
    "exists (select from unnest(openadr3_object.targets) named where named = any(cast(:any_target as text[]))"
    " and coalesce(openadr3_object.target_types -> named ? :target_type, true))"
)


async def select_objects(connection: AsyncConnection, query: ObjectQuery) -> list[StoredObject]:
    """Return what is asked for, in order of creation, after `skip` and up to `limit` of them."""
    if query.limit == 0:
        return []
    shape, values = _shape_of(query)
    return [as_object(row) for row in await connection.execute(_statement(shape), values)]


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
    """Return the targets on a client's vens and resources, those its configuration as a peer grants it, and the
    venName it is configured with: a target of that name means this VEN, whether or not a ven says so too."""
    on_objects = select(func.unnest(objects.c.targets)).where(
        objects.c.client_id == client_id,
        objects.c.tenant_id == tenant_id,
        objects.c.kind.in_((ObjectKind.VEN.value, ObjectKind.RESOURCE.value)),
    )
    on_peer = select(func.unnest(peers.c.granted_targets)).where(*_peer_of(client_id, tenant_id))
    by_name = select(peers.c.party_id).where(*_peer_of(client_id, tenant_id), peers.c.party_id.is_not(None))
    return frozenset((await connection.execute(union_all(on_objects, on_peer, by_name))).scalars())


def _peer_of(client_id: str, tenant_id: str) -> tuple[ColumnElement[bool], ...]:
    """A VTN above us may know us by the client id of somebody below us."""
    return (
        peers.c.client_id == client_id,
        peers.c.tenant_id == tenant_id,
        peers.c.role != PeerRole.VTN.value,
        peers.c.revoked_at.is_(None),
    )


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


def _shape_of(query: ObjectQuery) -> tuple[frozenset[str], dict[str, Any]]:
    """Return which filters a query has, and their values: statements are built once for each set of filters."""
    values: dict[str, Any] = {
        "tenant_id": query.tenant_id, "kind": query.kind.value, "skip": query.skip, "limit": query.limit,
        "reach": query.skip + query.limit,
    }  # fmt: skip
    given: dict[str, Any] = {name: getattr(query, name) for name in _EQUAL if getattr(query, name) is not None}
    if query.any_target is not None:
        given["any_target"] = sorted(query.any_target)
        if query.target_type is not None:
            given["target_type"] = query.target_type
    if query.objects:
        given["objects"] = [kind.value for kind in query.objects]
    if query.active_at is not None:
        given["active_at"] = query.active_at
    if query.sight is not None:
        given["sight" if query.sight else "untargeted"] = sorted(query.sight)
    return frozenset(given), values | given


@cache
def _statement(shape: frozenset[str]) -> Select[Any]:
    page = select(*COLUMNS).where(*_wheres(shape)).order_by(objects.c.number)
    skip, limit = bindparam("skip", type_=Integer), bindparam("limit", type_=Integer)
    if "untargeted" in shape:
        page = page.where(_UNTARGETED)
    if "target_type" in shape:
        page = page.where(_TARGET_OF_TYPE)
    if "sight" not in shape:
        return page.offset(skip).limit(limit)
    reach = bindparam("reach", type_=BigInteger)
    branches = (page.where(_UNTARGETED).limit(reach), page.where(_has_any(objects.c.targets, "sight")).limit(reach))
    both = union_all(*(branch.subquery().select() for branch in branches)).subquery()
    return select(both).order_by(both.c.number).offset(skip).limit(limit)


def _wheres(shape: frozenset[str]) -> list[ColumnElement[bool]]:
    wheres: list[ColumnElement[bool]] = [
        objects.c[name] == bindparam(name)
        for name in ("tenant_id", "kind", *(each for each in _EQUAL if each in shape))
    ]
    if "any_target" in shape:
        wheres.append(_has_any(objects.c.targets, "any_target"))
    if "objects" in shape:
        wheres.append(_has_any(objects.c.objects, "objects"))
    if "active_at" in shape:
        active_at = bindparam("active_at", type_=UtcInstant)
        wheres.append(or_(objects.c.end_at.is_(None), objects.c.end_at > active_at))
    return wheres


def _has_any(column: Any, name: str) -> ColumnElement[bool]:
    having: ColumnElement[bool] = column.overlap(cast(bindparam(name), ARRAY(Text)))
    return having
