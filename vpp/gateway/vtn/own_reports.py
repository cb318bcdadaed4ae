"""EiReport to VENs: what they ask of us, and say to what we offer and send. Called by `desk`; state in `sending`."""

import structlog

from vpp.domain.openadr2 import (
    INVALID_ID,
    Acknowledge,
    CanceledReports,
    CancelReports,
    CreatedReports,
    CreateReports,
    RegisteredReports,
    ReportDemand,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway.outbox import close_answered
from vpp.gateway.refused import Refused, check_ids, good
from vpp.gateway.vtn import sending
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven

log = structlog.get_logger(__name__)


async def asked(room: Room, ven: Ven, message: CreateReports) -> CreatedReports:
    """Take what a VEN asks us to report, or to offer; what we cannot is named, with code 461."""
    return await _take(room, ven, message.demands, message.request_id)


async def offers_taken(room: Room, ven: Ven, message: RegisteredReports) -> Acknowledge | CreatedReports:
    """Take a VEN's answer to the reports we offer, and what it asks of them at once."""
    response = message.response
    outcome = "answered" if response.code == 200 else "refused"
    async with room.store.begin() as connection:
        await close_answered(
            connection, ven.peer.id, "RegisterReports", response.request_id, outcome, at=room.clock.now()
        )
    if message.demands:
        return await _take(room, ven, message.demands, response.request_id)
    await room.keeper.load_ven(ven.peer.id)
    return Acknowledge(response=good(response.request_id), ven_id=ven.ven_id)


async def values_taken(room: Room, ven: Ven, message: UpdatedReports) -> Acknowledge:
    """Take a VEN's answer to values we sent: what follows is told, unless it refuses them or ends the report."""
    now, peer_id, response = room.clock.now(), ven.peer.id, message.response
    outcome = "answered" if response.code == 200 else "refused"
    async with room.store.begin() as connection:
        sent = await close_answered(connection, peer_id, "UpdateReports", response.request_id, outcome, at=now)
        if response.code != 200 and isinstance(sent, UpdateReports):
            refused = [each.report_request_id for each in sent.updates]
            await sending.drop(connection, peer_id, refused, outcome, at=now)
            log.warning("report refused by a VEN", ven=ven.peer.name, code=response.code, ids=refused)
        if message.cancel is not None:
            ids, to_follow = message.cancel.report_request_ids, message.cancel.to_follow
            await sending.cancel(connection, room, ven, ids, to_follow=to_follow, at=now)
        if sent is not None:
            await sending.tell_due(connection, room, ven, at=now)
    await room.keeper.load_ven(peer_id)
    return Acknowledge(response=good(response.request_id), ven_id=ven.ven_id)


async def ended(room: Room, ven: Ven, message: CancelReports) -> CanceledReports:
    """End reports because the VEN says so, with what there is of them where it wants that.

    Raises:
        Refused: none of them runs.
    """
    async with room.store.begin() as connection:
        known, pending = await sending.cancel(
            connection, room, ven, message.report_request_ids, to_follow=message.to_follow, at=room.clock.now()
        )
    if not known:
        raise Refused(INVALID_ID, f"no report {message.report_request_ids[0][:100]} is sent to this VEN")
    await room.keeper.load_ven(ven.peer.id)
    return CanceledReports(response=good(message.request_id), pending=pending, ven_id=ven.ven_id)


async def _take(room: Room, ven: Ven, demands: tuple[ReportDemand, ...], request_id: str) -> CreatedReports:
    check_ids(each.report_request_id for each in demands)
    async with room.store.begin() as connection:
        demanded, pending = await sending.take(connection, room, ven, demands, at=room.clock.now())
    await room.keeper.load_ven(ven.peer.id)
    room.due.set()
    return CreatedReports(response=demanded.response(request_id), pending=pending, ven_id=ven.ven_id)
