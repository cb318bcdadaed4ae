"""EiReport from VENs: what they can report, what they were asked for, and the values. Called by `desk`.

What is kept of it is the same for either end: `consumer`. What we report to VENs: `own_reports`.
"""

from vpp.domain.openadr2 import (
    Acknowledge,
    CanceledReports,
    CreatedReports,
    RegisteredReports,
    RegisterReports,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway import consumer
from vpp.gateway.refused import good
from vpp.gateway.vtn import sending
from vpp.gateway.vtn.metrics import VALUES
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven


async def registered(room: Room, ven: Ven, message: RegisterReports) -> RegisteredReports:
    """Take the reports a VEN offers, and offer ours anew where it is to be told: they tell of its own.

    Raises:
        Refused: it offers too many.
    """
    now = room.clock.now()
    async with room.store.begin() as connection:
        await consumer.take_offers(connection, ven.peer, message, ven_id=ven.ven_id, at=now)
        await sending.offer_unasked(connection, room, ven.peer, ven.ven_id, at=now)
    await room.keeper.load_ven(ven.peer.id)
    return RegisteredReports(response=good(message.request_id), ven_id=ven.ven_id)


async def created(room: Room, ven: Ven, message: CreatedReports) -> Acknowledge:
    """Take a VEN's word on what it will report."""
    async with room.store.begin() as connection:
        await consumer.take_created(connection, ven.peer.id, message, at=room.clock.now())
    await room.keeper.load_ven(ven.peer.id)
    return Acknowledge(response=good(message.response.request_id), ven_id=ven.ven_id)


async def updated(room: Room, ven: Ven, message: UpdateReports) -> UpdatedReports:
    """Store the values of reports. Of a report we ended, the answer says so once more.

    Raises:
        Refused: no report with this id was asked of this VEN; nothing of the message is stored then.
    """
    async with room.store.begin() as connection:
        taken = await consumer.take_values(connection, ven.peer.id, message, ven_id=ven.ven_id, at=room.clock.now())
    if taken.began:
        await room.keeper.load_ven(ven.peer.id)
    VALUES.inc(sum(len(each.values) for each in message.updates))
    return UpdatedReports(response=good(message.request_id), cancel=taken.stop, ven_id=ven.ven_id)


async def cancelled(room: Room, ven: Ven, message: CanceledReports) -> Acknowledge:
    """Take a VEN's word that it ended reports."""
    async with room.store.begin() as connection:
        await consumer.take_canceled(connection, ven.peer.id, message, at=room.clock.now())
    await room.keeper.load_ven(ven.peer.id)
    return Acknowledge(response=good(message.response.request_id), ven_id=ven.ven_id)
