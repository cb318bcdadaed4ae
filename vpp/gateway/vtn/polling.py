"""OadrPoll: the next message for a VEN. Called by `desk`, and by `pushing` for VENs that do not poll.

Events and queued messages take turns, so that neither can hold up the other for ever. A VEN that asks again as soon
as it was told something is not told the same queued message again at once: it may be about to answer.
"""

from datetime import datetime, timedelta

from sqlalchemy import select, update

from vpp.domain.openadr2 import Acknowledge, CancelRegistration, CreateReports, Openadr2Message, UpdateReports
from vpp.gateway.refused import good
from vpp.gateway.vtn import sending
from vpp.gateway.vtn.changes import Sent
from vpp.gateway.vtn.events import tell
from vpp.gateway.vtn.registration import end
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import MAX_SENDS, Ven
from vpp.peering import tell_vtn2
from vpp.store.tables.openadr2_vtn import vtn2_outbox, vtn2_report_request

AGAIN_AFTER = timedelta(seconds=0.5)
"""A queued message is not sent again in answer to a poll before."""


def is_quiet(room: Room, ven: Ven, now: datetime) -> bool:
    """Whether it was found before that there is nothing to tell, and nothing has changed since."""
    return ven.quiet_in == room.view.generation and now < ven.quiet_until


async def next_message(room: Room, ven: Ven, *, again_after: timedelta = timedelta(0)) -> Openadr2Message | None:
    """Return what to tell this VEN now, None where there is nothing. What is told is committed first.

    Args:
        again_after: how long ago a queued message must have been sent to be sent once more.
    """
    now = room.clock.now()
    if is_quiet(room, ven, now):
        return None
    if any(each.sent_count >= MAX_SENDS for each in ven.queue):
        await _give_up(room, ven, now)
        ven = room.view.vens.get(ven.peer.id, ven)
        if not ven.is_registered:
            return None
    listing, queued = room.view.listing(ven, now), ven.next_queued()
    until = listing.until
    if queued is not None and queued.sent_at is not None and now < queued.sent_at + again_after:
        until = min(until, queued.sent_at + again_after)
        queued = None
    if queued is not None and (queued.is_first or not listing.is_due or ven.told_events_last):
        ven.told_events_last = False
        await room.write([Sent(ven.peer.id, queued.id, now)])
        return queued.message
    if listing.is_due:
        ven.told_events_last = True
        return await tell(room, ven, listing.events, "")
    ven.quiet_in, ven.quiet_until = room.view.generation, until
    return None


async def poll(room: Room, ven: Ven) -> Openadr2Message:
    """Answer a VEN's poll."""
    message = await next_message(room, ven, again_after=AGAIN_AFTER)
    return message if message is not None else Acknowledge(response=good(""), ven_id=ven.ven_id)


async def _give_up(room: Room, ven: Ven, now: datetime) -> None:
    """Close what a VEN was sent `MAX_SENDS` times and never answered."""
    async with room.store.begin() as connection:
        for queued in [each for each in ven.queue if each.sent_count >= MAX_SENDS]:
            still = select(vtn2_outbox.c.id).where(vtn2_outbox.c.id == queued.id, vtn2_outbox.c.closed_at.is_(None))
            if (await connection.execute(still.with_for_update())).first() is None:
                continue
            await connection.execute(
                update(vtn2_outbox).where(vtn2_outbox.c.id == queued.id).values(closed_at=now, outcome="given up")
            )
            if isinstance(queued.message, CancelRegistration):
                await end(connection, ven.peer.id, "vtn", at=now)
            elif isinstance(queued.message, CreateReports):
                ids = [demand.report_request_id for demand in queued.message.demands]
                await connection.execute(
                    update(vtn2_report_request)
                    .where(vtn2_report_request.c.report_request_id.in_(ids), vtn2_report_request.c.state == "asked")
                    .values(state="refused", reason="the VEN never answered", changed_at=now)
                )
            elif isinstance(queued.message, UpdateReports):
                ids = [each.report_request_id for each in queued.message.updates]
                await sending.drop(connection, ven.peer.id, ids, "given up", at=now)
        await tell_vtn2(connection, ven.peer.id)
    await room.keeper.load_ven(ven.peer.id)
