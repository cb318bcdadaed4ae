"""EiOpt: a VEN's availability, in windows of time or for one event. Called by `desk`."""

from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import (
    DEPLOYMENT_ERROR,
    INVALID_DATA,
    INVALID_ID,
    OUT_OF_SEQUENCE,
    CanceledOpt,
    CancelOpt,
    CreatedOpt,
    CreateOpt,
)
from vpp.gateway.refused import Refused, check_ids, good
from vpp.gateway.vtn.changes import ANSWER_CHANNEL
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven
from vpp.store.tables.openadr2_vtn import vtn2_opt

MAX_WINDOWS = 1000
MAX_OPTS = 2000
"""Opts of one VEN that it has not taken back."""


async def created(room: Room, ven: Ven, message: CreateOpt) -> CreatedOpt:
    """Take an opt; one with an id that is known replaces what that said.

    Raises:
        Refused: it has no id, speaks of no time and no event, or names an event that is not the VEN's, or a version
            of it that is not the current one; or the VEN has too many.
    """
    check_ids([message.opt_id])
    if not message.opt_id:
        raise Refused(INVALID_ID, "an opt needs an optID")
    if message.event_id is None and not message.windows:
        raise Refused(INVALID_DATA, "an opt speaks of an event or of windows of time; this one of neither")
    if len(message.windows) > MAX_WINDOWS:
        raise Refused(INVALID_DATA, f"at most {MAX_WINDOWS} windows of time in one opt")
    if message.event_id is not None:
        await _check_event(room, ven, message.event_id, message.modification_number)
    row: dict[str, Any] = {
        "opt_in": message.opt_in,
        "reason": message.reason,
        "market_context": message.market_context,
        "event_id": message.event_id,
        "modification_number": message.modification_number,
        "windows": [{"start_at": each.start_at.isoformat(), "end_at": each.end_at.isoformat()}
                    for each in message.windows],
        "targets": msgspec.to_builtins(message.targets),
        "device_class": msgspec.to_builtins(message.device_class),
        "created_at": message.created_at,
        "received_at": room.clock.now(),
        "cancelled_at": None,
    }  # fmt: skip
    async with room.store.begin() as connection:
        others = select(func.count()).where(vtn2_opt.c.peer_id == ven.peer.id, vtn2_opt.c.cancelled_at.is_(None))
        if (await connection.execute(others.where(vtn2_opt.c.opt_id != message.opt_id))).scalar_one() >= MAX_OPTS:
            raise Refused(DEPLOYMENT_ERROR, f"{MAX_OPTS} opts of this VEN are in force: take some back first")
        new = insert(vtn2_opt).values(peer_id=ven.peer.id, opt_id=message.opt_id, **row)
        await connection.execute(new.on_conflict_do_update(index_elements=["peer_id", "opt_id"], set_=row))
        await _tell(connection, message.event_id)
    return CreatedOpt(response=good(message.request_id), opt_id=message.opt_id)


async def cancelled(room: Room, ven: Ven, message: CancelOpt) -> CanceledOpt:
    """Take an opt back; for an event, the VEN's answer counts again. Taken back twice is taken back once.

    Raises:
        Refused: there is no such opt of this VEN.
    """
    mine = (vtn2_opt.c.peer_id == ven.peer.id, vtn2_opt.c.opt_id == message.opt_id)
    async with room.store.begin() as connection:
        row = (await connection.execute(select(vtn2_opt.c.event_id, vtn2_opt.c.cancelled_at).where(*mine))).first()
        if row is None:
            raise Refused(INVALID_ID, "there is no such optID of this VEN")
        if row.cancelled_at is None:
            await connection.execute(update(vtn2_opt).where(*mine).values(cancelled_at=room.clock.now()))
            await _tell(connection, row.event_id)
    return CanceledOpt(response=good(message.request_id), opt_id=message.opt_id)


async def _check_event(room: Room, ven: Ven, event_id: str, number: int | None) -> None:
    if not _fits(room, ven, event_id, number):
        await room.keeper.load_event(event_id)  # memory alone never refuses
    event = room.view.events.get(event_id)
    if event is None or not room.view.concerns(room.view.vens.get(ven.peer.id, ven), event_id):
        raise Refused(INVALID_ID, f"there is no event {event_id[:100]} of this VEN")
    if not _fits(room, ven, event_id, number):
        raise Refused(OUT_OF_SEQUENCE, f"event {event_id} is at modification {event.modification_number}")


def _fits(room: Room, ven: Ven, event_id: str, number: int | None) -> bool:
    event = room.view.events.get(event_id)
    return event is not None and number in (None, event.modification_number)


async def _tell(connection: AsyncConnection, event_id: str | None) -> None:
    if event_id is not None:
        await connection.execute(select(func.pg_notify(ANSWER_CHANNEL, event_id)))
