"""EiEvent: telling a VEN its events, and taking its answers. Called by `desk` and `polling`."""

from collections.abc import Sequence
from itertools import count
from uuid import uuid4

from vpp.domain.errors import NotReady
from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr2 import (
    INVALID_ID,
    OUT_OF_SEQUENCE,
    Acknowledge,
    CreatedEvents,
    DistributedEvent,
    DistributeEvents,
    EventOpt,
    RequestEvents,
    Response,
)
from vpp.gateway.refused import good
from vpp.gateway.vtn.changes import Answered, Told
from vpp.gateway.vtn.metrics import ANSWERS, EVENTS_TOLD
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven

MAX_REASON = 500
MAX_LOOKED_UP = 20
"""Events of one answer that the database is asked for; nothing else is heard while it is."""
_RUN, _NUMBERS = uuid4().hex, count()
"""Number the distributions of this process; a random id for each would have all threads take turns for it."""


async def tell(room: Room, ven: Ven, events: Sequence[DistributedEvent], request_id: str) -> DistributeEvents:
    """Return a distribution, once it is committed that these were told.

    Args:
        request_id: of the oadrRequestEvent this answers, empty where nobody asked.
    """
    now = room.clock.now()
    await room.write(
        [Told(ven.peer.id, each.event.event_id, each.event.modification_number, each.status, now) for each in events]
    )
    EVENTS_TOLD.inc(len(events))
    return DistributeEvents(
        request_id=f"{_RUN}-{next(_NUMBERS):010}",
        vtn_id=room.vtn_id,
        events=tuple(events),
        response=good(request_id) if request_id else None,
    )


async def requested(room: Room, ven: Ven, message: RequestEvents) -> DistributeEvents:
    """Return the VEN's list: active first, then those to come by start; the first `reply_limit` of it."""
    events = room.view.listing(ven, room.clock.now()).events
    limit = message.reply_limit
    return await tell(room, ven, events if limit is None else events[: max(0, limit)], message.request_id)


async def created(room: Room, ven: Ven, message: CreatedEvents) -> Acknowledge:
    """Take a VEN's answers. Those that cannot be are named in the response; the others count all the same.

    An answer to an older version is no answer to the current one, which is told again. A VEN that has yet to decide
    answers with nothing: it is told the same again after its poll interval, for some ask again at once.
    """
    now = room.clock.now()
    if not message.opts and message.response.code == 200:
        ven.undecided_until = now + room.poll
    changes: list[Answered] = []
    wrong: Response | None = None
    looked_up: set[str] = set()
    for opt in message.opts:
        refusal = await _refusal(room, ven, opt, looked_up)
        if refusal is not None:
            wrong = wrong or refusal
            continue
        delivery = ven.deliveries.get(opt.event_id)
        told_with = None if delivery is None else delivery.status_told_with(opt.modification_number)
        changes.append(
            Answered(
                ven.peer.id,
                opt.event_id,
                opt.modification_number,
                told_with,
                opt.opt_in and 200 <= opt.code < 300,  # who could not take the event takes no part in it
                opt.code,
                "" if opt.code == 200 else opt.description[:MAX_REASON],
                now,
            )
        )
    await room.write(changes)
    ANSWERS.labels("counted").inc(len(changes))
    ANSWERS.labels("refused").inc(len(message.opts) - len(changes))
    response = wrong or good("")
    return Acknowledge(
        response=Response(response.code, response.description, message.response.request_id), ven_id=ven.ven_id
    )


async def _refusal(room: Room, ven: Ven, opt: EventOpt, looked_up: set[str]) -> Response | None:
    """Why an answer does not count, None where it does. Memory alone refuses none but those of a VEN that is wrong
    about many events at once: the database is asked, once for each of `MAX_LOOKED_UP`."""
    found = _judge(_event_of(room, ven, opt.event_id), opt)
    if found is not None and opt.event_id not in looked_up and len(looked_up) < MAX_LOOKED_UP:
        looked_up.add(opt.event_id)
        try:
            await room.keeper.load_event(opt.event_id)
        except Exception as error:
            raise NotReady("the database does not answer") from error
        found = _judge(_event_of(room, room.view.vens.get(ven.peer.id, ven), opt.event_id), opt)
    return found


def _event_of(room: Room, ven: Ven, event_id: str) -> GridEvent | None:
    event = room.view.events.get(event_id)
    return event if event is not None and room.view.concerns(ven, event_id) else None


def _judge(event: GridEvent | None, opt: EventOpt) -> Response | None:
    if event is None:
        return Response(INVALID_ID, f"there is no event {opt.event_id[:100]} of this VEN")
    current = event.modification_number
    if opt.modification_number == current:
        return None
    which = "has passed" if opt.modification_number < current else "was never told"
    return Response(
        OUT_OF_SEQUENCE, f"event {event.event_id}: modification {opt.modification_number} {which}, it is at {current}"
    )
