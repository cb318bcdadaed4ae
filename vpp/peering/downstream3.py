"""Room peering: an event we tell downstream, as an object of our OpenADR 3 VTN.

Called by `downstream` within the transaction that publishes, modifies or cancels it. The event's programme is
the one of that name, or id, at our VTN; one that does not exist yet is made. VENs of OpenADR 3 that an event
names, or whose group it names, are granted its targets, so that they may see it (`vpp/domain/target_text.py`).
A cancelled event stays, without any length of time (User Guide 7.9), with the reports on it.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import all_, any_, func, literal, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.grid_event import GridEvent, Target, TargetKind, Unsaid
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery
from vpp.domain.peer import PeerRole, Protocol
from vpp.domain.target_text import target_text
from vpp.peering.openadr3 import (
    Changes,
    create_object,
    delete_object,
    find_object,
    replace_object,
    select_objects,
)
from vpp.ports import EventTranslator
from vpp.store.tables.downstream import grid_event
from vpp.store.tables.peering import peer

OPENADR3_ORIGIN = "openadr3/"
"""How the origin of an event begins that business logic made at our OpenADR 3 VTN."""
MAX_PROGRAM_NAME = 128


def unsaid_in_openadr3(event: GridEvent, translator: EventTranslator) -> tuple[Unsaid, ...]:
    """Return what of the event OpenADR 3 does not say; `event` where it is not told there at all."""
    why = _not_told(event)
    if why is None:
        try:
            return translator.to_openadr3(_plain(event), program_id="0")[1]
        except InvalidRequest as error:
            why = f"{error.field} must be {error.allowed}"
    return (Unsaid("event", event.event_id, f"not told in OpenADR 3 at all: {why}"),)


async def tell_openadr3(
    connection: AsyncConnection,
    event: GridEvent,
    openadr3_id: str | None,
    *,
    tenant_id: str,
    at: datetime,
    translator: EventTranslator,
    changes: Changes,
) -> str | None:
    """Create or replace the event's object, and remember which it is; None where it cannot be told."""
    try:
        if _not_told(event) is not None:
            raise InvalidRequest("event", event.event_id, "an event OpenADR 3 has words for")
        program_id = await _program(connection, event.program, tenant_id=tenant_id, at=at, changes=changes)
        body, _ = translator.to_openadr3(_plain(event), program_id=program_id)
    except InvalidRequest:  # said by `unsaid_in_openadr3`
        await _withdraw(connection, openadr3_id, tenant_id=tenant_id, at=at, changes=changes)
        found = None
    else:
        await _grant(connection, event.targets, tenant_id=tenant_id)
        draft = ObjectDraft(kind=ObjectKind.EVENT, tenant_id=tenant_id, body=body)
        found = await _put(connection, openadr3_id, draft, at=at, changes=changes)
    if found != openadr3_id:
        link = update(grid_event).where(grid_event.c.tenant_id == tenant_id, grid_event.c.event_id == event.event_id)
        await connection.execute(link.values(openadr3_id=found))
    return found


async def _put(
    connection: AsyncConnection, object_id: str | None, draft: ObjectDraft, *, at: datetime, changes: Changes
) -> str:
    if object_id is not None:
        try:
            return (await replace_object(connection, object_id, draft, at=at, changes=changes)).id
        except NotFound:  # deleted by business logic: told anew
            pass
    return (await create_object(connection, draft, at=at, changes=changes)).id


async def _withdraw(
    connection: AsyncConnection, object_id: str | None, *, tenant_id: str, at: datetime, changes: Changes
) -> None:
    if object_id is None:
        return
    try:
        await delete_object(connection, ObjectKind.EVENT, object_id, tenant_id=tenant_id, at=at, changes=changes)
    except NotFound:
        return


async def _program(connection: AsyncConnection, name: str, *, tenant_id: str, at: datetime, changes: Changes) -> str:
    """The id of the programme of that name, or id; made where there is none.

    Raises:
        InvalidRequest: no programme can have that name.
    """
    query = ObjectQuery(kind=ObjectKind.PROGRAM, tenant_id=tenant_id, name=name, limit=1)
    found = await select_objects(connection, query)
    if found:
        return found[0].id
    known = await find_object(connection, ObjectKind.PROGRAM, name, tenant_id=tenant_id)
    if known is not None:
        return known.id
    if not 0 < len(name) <= MAX_PROGRAM_NAME:
        raise InvalidRequest("program", name, f"a name of 1 to {MAX_PROGRAM_NAME} characters")
    draft = ObjectDraft(kind=ObjectKind.PROGRAM, tenant_id=tenant_id, body={"programName": name})
    try:
        return (await create_object(connection, draft, at=at, changes=changes)).id
    except Conflict:  # made in the same moment, by whoever told another event of it
        found = await select_objects(connection, query)
        if not found:
            raise
        return found[0].id


async def _grant(connection: AsyncConnection, targets: Iterable[Target], *, tenant_id: str) -> None:
    """Grant the VENs of OpenADR 3 that are addressed by name or by group the text that addresses them."""
    for target in targets:
        if target.kind is TargetKind.VEN:
            who = peer.c.party_id == target.value
        elif target.kind is TargetKind.GROUP:
            who = literal(target.value) == any_(peer.c.groups)
        else:
            continue
        name = target_text(target)
        granted = await connection.execute(
            update(peer)
            .where(
                who, literal(name) != all_(peer.c.granted_targets),
                peer.c.tenant_id == tenant_id, peer.c.revoked_at.is_(None),
                peer.c.protocol == Protocol.OPENADR3.value, peer.c.role == PeerRole.VEN.value,
            )
            .values(granted_targets=func.array_append(peer.c.granted_targets, name))
            .returning(peer.c.id)
        )  # fmt: skip
        for peer_id in granted.scalars().all():
            await connection.execute(text("select pg_notify('vpp_peer', :id)"), {"id": peer_id})


def _not_told(event: GridEvent) -> str | None:
    if event.is_test:
        return "it has no test events, and this one would be taken for real"
    if not 0 < len(event.program) <= MAX_PROGRAM_NAME:
        return f"a programme's name has 1 to {MAX_PROGRAM_NAME} characters"
    return None


def _plain(event: GridEvent) -> GridEvent:
    """The event with its start as an instant: "now" was when it was first stated, not when we pass it on."""
    return replace(event, extras={key: value for key, value in event.extras.items() if key != "start"})
