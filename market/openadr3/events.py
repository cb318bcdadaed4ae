"""Room openadr3: an event as the domain has it, to and from OpenADR 3.1.0 and 3.0.1.

Called by bootstrap's translator, by our VTN and by our VEN. What one side says and the other cannot is named
beside the result, never silently lost.

How the two are mapped:
* priority: 3 counts 0 highest and none as null; `GridEvent` counts 1 highest and 0 none, as 2.0b does.
* eventName is the comment; reportDescriptors are the reports wanted, their details kept in `extras`.
* randomizeStart is the start's tolerance. 3 lets a client start as much earlier as later, 2.0b only later:
  a receiver that only delays keeps both.
* targets: see `vpp/domain/target_text.py`; 3.0.1 has VEN_NAME, GROUP, RESOURCE_NAME and, privately, PARTY.
* several numbers in one interval share it evenly (User Guide 7.3) and come as intervals of one id; `duration`
  of the event is carried out: intervals are cut or repeated. Repeated for ever they are kept once, with
  `duration` in `extras`.
* a start of "the beginning of time" is when the event was stated; `extras` keep that it said so.
* a cancelled event is told by a start and a length of nothing (User Guide 7.9) and so recognized again, in a
  version that is not its first.
* units stay 3's own words, PERCENT a share of one as units.schema.yaml has it; where the event has no
  descriptor for a type, its programme's counts.
* years and months are counted by the calendar in UTC from the start they are added to; `P9999Y`, like any
  end beyond the calendar, is none.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from market.openadr3.events_in import read_event
from market.openadr3.events_out import write_event
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Point, Unsaid
from vpp.domain.grid_event_diff import losses
from vpp.domain.openadr3 import VERSION

VTN_SETS = ("id", "createdDateTime", "modificationDateTime", "objectType")
"""What a VTN sets itself; in a request it is ignored."""

_WHY = {
    "start_at": "an event of OpenADR 3 starts with its first interval",
    "duration": "an event of OpenADR 3 lasts as long as its intervals",
    "modification_reason": "OpenADR 3 has no reason of a modification",
    "cancelled": "an event of OpenADR 3 is cancelled by a modification, not from the first",
    "is_test": "OpenADR 3 has no test events: this one would be taken for real",
    "answer_wanted": "OpenADR 3 has no answers to events",
    "notification": "OpenADR 3 has no time of notification",
    "ramp_up": "OpenADR 3 has no ramp-up",
    "recovery": "OpenADR 3 has no recovery",
    "series_id": "OpenADR 3 does not name the series of an event",
    "current": "OpenADR 3 has no current value",
    "unit": "OpenADR 3 has one unit for each payload type of an event",
    "currency": "OpenADR 3 has one currency for each payload type of an event",
    "targets": "OpenADR 3 has targets for the event as a whole",
    "uid": "the intervals of an OpenADR 3 event are numbered, each number once",
    "intervals": "OpenADR 3 has no words for these intervals",
}


def from_openadr3(
    body: Mapping[str, Any],
    *,
    modification_number: int,
    descriptors: Sequence[Mapping[str, Any]] = (),
    event_id: str | None = None,
    received_at: datetime | None = None,
) -> tuple[GridEvent, tuple[Unsaid, ...]]:
    """Return the event an OpenADR 3 body states, and what of the body has no place in it.

    Args:
        body: an event of 3.1.0 or 3.0.1, explicit nulls included.
        modification_number: OpenADR 3 counts none; the caller does.
        descriptors: the programme's payloadDescriptors, for units the event leaves out.
        event_id: its id where the body has none.
        received_at: when it was stated, where the body bears no time of its own.

    Raises:
        InvalidRequest: the body is no event.
    """
    try:
        return read_event(
            body,
            modification_number=modification_number,
            descriptors=descriptors,
            event_id=event_id,
            received_at=received_at,
        )
    except OverflowError as error:
        raise InvalidRequest("intervals", str(error), "instants of the calendar") from error


def to_openadr3(
    event: GridEvent, *, program_id: str, version: str = VERSION
) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
    """Return the event as an OpenADR 3 object, and what of it that does not say.

    The object bears what a VTN sets (`VTN_SETS`); a request leaves it out (`request_of`). What is unsaid
    is found by reading the object again: each field that then means something else.

    Raises:
        InvalidRequest: a value is no finite number, a target is too long, or an instant is beyond the calendar.
    """
    for series in event.series:
        for interval in series.intervals:
            for value in interval.values:
                _refuse_unwritable(value)
    body = write_event(event, program_id=program_id, version=version)
    again, _ = from_openadr3(
        body,
        modification_number=event.modification_number,
        event_id=event.event_id,
        received_at=event.modified_at or event.created_at,
    )
    unsaid = tuple(Unsaid(each.field, each.before, _why(each.field)) for each in losses(event, again))
    return body, unsaid


def request_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's object without what the VTN sets, as a client sends it."""
    return {key: value for key, value in body.items() if key not in VTN_SETS}


def _why(path: str) -> str:
    if path.startswith("extras."):
        return "another protocol's own, without a word in OpenADR 3"
    return _WHY.get(path.rpartition(".")[2], "OpenADR 3 has no words for this")


def _refuse_unwritable(value: object) -> None:
    numbers = (value.x, value.y) if isinstance(value, Point) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise InvalidRequest("values", value, "finite numbers")
