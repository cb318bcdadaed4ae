"""Room openadr2: what of an event the words of 2.0b leave out. Called by bootstrap's translator.

Found by writing the event and reading it again: each field that then means something else was not said.
"""

from market.openadr2.codec import Refused, decode, encode
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent, Unsaid
from vpp.domain.grid_event_diff import losses
from vpp.domain.openadr2 import DistributedEvent, DistributeEvents

_WHY = {
    "start_at": "2.0b tells instants to the microsecond, in the years 1 to 9999",
    "duration": "2.0b tells lengths of time in whole seconds, and none or zero alike",
    "priority": "2.0b counts priorities from 1",
    "targets": "2.0b has no element for this kind of addressee",
    "reports_wanted": "2.0b asks for reports by a message of their own, not with the event",
    "type": "2.0b has no signal for this",
    "name": "2.0b takes private signals named x-… with one of its own types",
    "unit": "2.0b has no such unit for this signal",
    "currency": "2.0b states a currency with prices only",
    "intervals": "2.0b tells lengths of time in whole seconds, and numbers only",
    "uid": "2.0b gives every interval of a signal a text of its own",
}


def unsaid_in_openadr2(event: GridEvent) -> tuple[Unsaid, ...]:
    """Return what of the event 2.0b has no words for; all of it, as `event`, where nothing can be said."""
    status = EventStatus.CANCELLED if event.cancelled else EventStatus.FAR
    told = DistributeEvents(request_id="0", vtn_id="VTN", events=(DistributedEvent(event=event, status=status),))
    try:
        back = decode(encode(told)).message
    except InvalidRequest as error:
        return (Unsaid("event", event.event_id, f"not told in 2.0b at all, which needs {error.allowed}"),)
    except Refused as error:
        return (Unsaid("event", event.event_id, f"not told in 2.0b at all: {error.reason}"),)
    assert isinstance(back, DistributeEvents)  # noqa: S101 - what was written above
    return tuple(Unsaid(each.field, each.before, _why(each.field)) for each in losses(event, back.events[0].event))


def _why(path: str) -> str:
    if path.startswith("extras."):
        return "another protocol's own, without a word in 2.0b"
    if path.endswith("]"):
        return "2.0b has no signal for this"
    return _WHY.get(path.rpartition(".")[2], "2.0b has no words for this")
