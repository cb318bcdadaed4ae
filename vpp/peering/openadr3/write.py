"""Creates, replaces and deletes the objects of our OpenADR 3 VTN, and says so to `Changes` in the same transaction.

Called by `shelf.py`, and by whoever writes an object within a transaction of its own (`vpp.peering`'s events).
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, NotFound
from vpp.domain.openadr3 import Change, ObjectDraft, ObjectKind, Operation, StoredObject
from vpp.peering.openadr3.changes import Changes
from vpp.peering.openadr3.records import COLUMNS, NAME_FIELDS, as_object, row_of
from vpp.store.tables.openadr3 import openadr3_object as objects

_ORDER_LOCK = 3_100_000
"""First key of the advisory lock that puts insertions in order; the second is the tenant's hash."""
_TICK = timedelta(microseconds=1)
_REFERENCES = (("program_id", ObjectKind.PROGRAM), ("event_id", ObjectKind.EVENT), ("ven_id", ObjectKind.VEN))
_DEPENDENTS: dict[ObjectKind, tuple[tuple[str, ObjectKind], ...]] = {
    ObjectKind.PROGRAM: tuple(
        ("program_id", kind) for kind in (ObjectKind.REPORT, ObjectKind.EVENT, ObjectKind.SUBSCRIPTION)
    ),
    ObjectKind.EVENT: (("event_id", ObjectKind.REPORT),),
    ObjectKind.VEN: (("ven_id", ObjectKind.RESOURCE),),
}
"""What cannot be without an object of a kind, and by which column it says so; those that refer to others come first."""


async def create_object(
    connection: AsyncConnection, draft: ObjectDraft, *, at: datetime, changes: Changes
) -> StoredObject:
    """Keep a new object and tell of it.

    Raises:
        Conflict: its name is taken, or the program or event it refers to does not exist.
        NotFound: the ven of a resource does not exist.
        InvalidRequest: a field cannot be understood.
    """
    row = row_of(draft, object_id=uuid4().hex, created_at=at, modified_at=at)
    await _resolve_references(connection, draft, row)
    await connection.execute(select(func.pg_advisory_xact_lock(_ORDER_LOCK, func.hashtext(draft.tenant_id))))
    stored = as_object(await _keeping_names(connection, draft, insert(objects).values(row).returning(*COLUMNS)))
    await changes.changed(connection, Change(operation=Operation.CREATE, object=stored, at=at))
    return stored


async def replace_object(
    connection: AsyncConnection, object_id: str, draft: ObjectDraft, *, at: datetime, changes: Changes
) -> StoredObject:
    """Put a draft in the place of an object, later than any earlier change of it, and tell of it.

    Raises:
        NotFound: there is no such object of that kind and tenant, or no such ven.
        Conflict, InvalidRequest: as for `create_object`.
    """
    before = await locked_object(connection, draft.kind, object_id, tenant_id=draft.tenant_id)
    modified_at = max(at, before.modified_at + _TICK)
    row = row_of(draft, object_id=object_id, created_at=before.created_at, modified_at=modified_at)
    if draft.keeps_targets and set(row["targets"]) != set(before.targets):
        raise Conflict(f"{draft.kind.value.lower()} {object_id} was changed meanwhile: read it again first")
    await _resolve_references(connection, draft, row)
    if draft.kind is ObjectKind.VEN and row["client_id"] != before.client_id:
        await _refuse_leaving_resources(connection, before)
    statement = update(objects).where(objects.c.id == object_id).values(row).returning(*COLUMNS)
    stored = as_object(await _keeping_names(connection, draft, statement))
    if draft.kind is ObjectKind.EVENT and stored.program_id != before.program_id:
        reports = update(objects).where(objects.c.event_id == object_id).values(program_id=stored.program_id)
        await connection.execute(reports)
    change = Change(operation=Operation.UPDATE, object=stored, at=modified_at, before=before)
    await changes.changed(connection, change)
    return stored


async def delete_object(
    connection: AsyncConnection, kind: ObjectKind, object_id: str, *, tenant_id: str, at: datetime, changes: Changes
) -> StoredObject:
    """Remove an object, and first what cannot be without it, telling of each; return the object.

    A program takes its events, with their reports, and the subscriptions to it with it; an event its reports;
    a ven its resources. 3.1.0 documents no refusal of a deletion, so none is refused.

    Raises:
        NotFound: there is no such object of that kind and tenant.
    """
    if kind is ObjectKind.PROGRAM:  # before the program, in the order in which who reports on an event needs both
        events = select(objects.c.id).where(objects.c.program_id == object_id, objects.c.kind == ObjectKind.EVENT.value)
        await connection.execute(events.order_by(objects.c.number).with_for_update())
    stored = await locked_object(connection, kind, object_id, tenant_id=tenant_id)
    for column, dependent in _DEPENDENTS.get(kind, ()):
        following = delete(objects).where(objects.c[column] == object_id, objects.c.kind == dependent.value)
        gone = [as_object(row) for row in await connection.execute(following.returning(*COLUMNS))]
        for each in sorted(gone, key=lambda each: each.number):
            await changes.changed(connection, _deletion(each, at))
    await connection.execute(delete(objects).where(objects.c.id == object_id))
    await changes.changed(connection, _deletion(stored, at))
    return stored


def _deletion(gone: StoredObject, at: datetime) -> Change:
    return Change(operation=Operation.DELETE, object=gone, at=at, before=gone)


async def locked_object(
    connection: AsyncConnection, kind: ObjectKind, object_id: str, *, tenant_id: str
) -> StoredObject:
    """Return an object that nobody else changes until this transaction ends.

    Raises:
        NotFound: there is none of that kind, id and tenant.
    """
    query = select(*COLUMNS).where(
        objects.c.id == object_id, objects.c.kind == kind.value, objects.c.tenant_id == tenant_id
    )
    row = (await connection.execute(query.with_for_update())).first()
    if row is None:
        raise NotFound(f"no {kind.value.lower()} {object_id}")
    return as_object(row)


async def _resolve_references(connection: AsyncConnection, draft: ObjectDraft, row: dict[str, Any]) -> None:
    """Refuse what refers to nothing, holding what it refers to until the transaction ends."""
    for column, kind in _REFERENCES:
        if row[column] is None:
            continue
        query = select(objects.c.program_id, objects.c.client_id).where(
            objects.c.id == row[column], objects.c.kind == kind.value, objects.c.tenant_id == draft.tenant_id
        )
        found = (await connection.execute(query.with_for_update(read=True, key_share=True))).first()
        if found is None:
            missing = f"there is no {kind.value.lower()} {row[column]}"
            raise NotFound(missing) if kind is ObjectKind.VEN else Conflict(missing)
        if kind is ObjectKind.EVENT:
            row["program_id"] = found.program_id
        if kind is ObjectKind.VEN and found.client_id != row["client_id"]:
            raise Conflict(f"ven {row[column]} belongs to another client than {row['client_id']}")


async def _refuse_leaving_resources(connection: AsyncConnection, ven: StoredObject) -> None:
    """A ven that changes hands would show its resources to a client whose they are not."""
    query = select(objects.c.id).where(objects.c.ven_id == ven.id, objects.c.kind == ObjectKind.RESOURCE.value)
    if (await connection.execute(query.limit(1))).first() is not None:
        raise Conflict(f"ven {ven.id} has resources of client {ven.client_id}: delete them first")


async def _keeping_names(connection: AsyncConnection, draft: ObjectDraft, statement: Any) -> Any:
    """Run a statement that writes one row, or refuse a name that is taken.

    A savepoint keeps the caller's transaction usable where the name is refused.
    """
    try:
        async with connection.begin_nested():
            return (await connection.execute(statement)).one()
    except IntegrityError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None) or ""
        if not constraint.startswith("uq_openadr3_object"):
            raise
        field = NAME_FIELDS[draft.kind]
        raise Conflict(f"{field} {draft.body.get(field)!r} is taken") from None
