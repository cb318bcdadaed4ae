"""Room peering: events that business logic makes at our OpenADR 3 VTN, told to 2.0b VENs too.

`Changes` around another one, for the VTN's own objects: each event of a programme marked so is published
downstream, and changed and cancelled with its object. A programme is marked by the attribute `FORWARD`, a private
type with the value true; its name is the market context. What is published here goes to 2.0b only: OpenADR 3
has the object itself.
"""

from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr3 import Change, ObjectKind, Operation
from vpp.peering.downstream import cancel, modify, publish
from vpp.peering.downstream3 import OPENADR3_ORIGIN
from vpp.peering.openadr3 import Changes, find_object
from vpp.ports import EventTranslator
from vpp.store.tables.downstream import grid_event

FORWARD_ATTRIBUTE = "FORWARD"

log = structlog.get_logger(__name__)


class ForwardingChanges:
    """`Changes` that tells another one first, then passes events of marked programmes on to 2.0b VENs."""

    def __init__(self, inner: Changes, translator: EventTranslator) -> None:
        self._inner = inner
        self._translator = translator

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        """Note a change; an event that cannot be passed on stays what it is at the VTN."""
        await self._inner.changed(connection, change)
        if change.object.kind is not ObjectKind.EVENT:
            return
        try:
            async with connection.begin_nested():
                await self._pass_on(connection, change)
        except (Conflict, InvalidRequest, NotFound) as error:
            log.warning("event not passed on to 2.0b", object_id=change.object.id, reason=str(error))

    async def _pass_on(self, connection: AsyncConnection, change: Change) -> None:
        stored = change.object
        query = select(grid_event).where(
            grid_event.c.tenant_id == stored.tenant_id, grid_event.c.openadr3_id == stored.id
        )
        ours = (await connection.execute(query)).first()
        origin = f"{OPENADR3_ORIGIN}{stored.id}"
        if ours is not None and ours.origin != origin:  # the operator's own, told here as well
            return
        common: dict[str, Any] = {"tenant_id": stored.tenant_id, "at": change.at, "translator": self._translator}
        if change.operation is Operation.DELETE:
            if ours is not None:
                await cancel(connection, ours.event_id, **common)
            return
        program = await find_object(connection, ObjectKind.PROGRAM, stored.program_id or "", tenant_id=stored.tenant_id)
        if program is None or (ours is None and not _is_marked(program.wire())):
            return
        event = self._read(change, program.wire(), 0 if ours is None else ours.modification_number + 1)
        if ours is None:
            event = replace(event, modification_number=0)
            await publish(connection, event, origin=origin, **common)
            link = update(grid_event).where(
                grid_event.c.tenant_id == stored.tenant_id, grid_event.c.event_id == event.event_id
            )
            await connection.execute(link.values(openadr3_id=stored.id))
        elif event.cancelled:
            await cancel(connection, ours.event_id, **common)
        else:
            await modify(connection, ours.event_id, lambda _: event, revive=True, **common)

    def _read(self, change: Change, program: dict[str, Any], number: int) -> GridEvent:
        event, _ = self._translator.from_openadr3(
            change.object.wire(),
            modification_number=number,
            descriptors=program.get("payloadDescriptors") or (),
        )
        return replace(event, program=program["programName"])


def _is_marked(program: dict[str, Any]) -> bool:
    return any(
        each.get("type") == FORWARD_ATTRIBUTE and each.get("values") == [True]
        for each in program.get("attributes") or ()
    )
