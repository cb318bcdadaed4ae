"""Room openadr3: when the intervals of an event are, by the rules of the User Guide 7.3.

Called by `events_in` and `events_out`.

A start of "the beginning of time" on the event, or none at all, is now: when the event was stated; on a later
interval it is the end of the one before, as is none. `duration` of the event cuts its intervals short, or
repeats them as a whole until it is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Value
from vpp.domain.openadr3_time import parse_duration, parse_instant, says_now

MAX_INTERVALS = 10_000
"""What one event may hold, repetitions written out."""
NOW = "0001-01-01"
ENDLESS = "P9999Y"

Payload = tuple[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval on the line of time; `duration` is None where it has no end."""

    uid: str
    start_at: datetime
    duration: timedelta | None
    payloads: tuple[Payload, ...]

    @property
    def end_at(self) -> datetime | None:
        return None if self.duration is None else self.start_at + self.duration


def length_of(text: str | None, start_at: datetime, field: str) -> timedelta | None:
    """Return how long a duration is from `start_at` on; None where it never ends, zero where it is not given.

    Raises:
        InvalidRequest: no ISO 8601 duration, or a negative one.
    """
    if text is None:
        return timedelta(0)
    end_at = parse_duration(text, field).after(start_at)
    if end_at is not None and end_at < start_at:
        raise InvalidRequest(field, text, "no less than nothing")
    return None if end_at is None else end_at - start_at


def place(
    intervals: Sequence[tuple[str, Mapping[str, Any], tuple[Payload, ...]]],
    default: Mapping[str, Any],
    *,
    now: datetime,
) -> list[Slot]:
    """Return where intervals (id, intervalPeriod, payloads) lie.

    Raises:
        InvalidRequest: an interval should follow one without an end, or a time is none.
    """
    slots: list[Slot] = []
    follow_at: datetime | None = start_of(default, now)
    for index, (uid, period, payloads) in enumerate(intervals):
        field = f"intervals[{index}].intervalPeriod"
        start = period.get("start")
        if start and not says_now(start):
            follow_at = parse_instant(start, f"{field}.start")
        if follow_at is None:
            raise InvalidRequest(field, start, "a start, as the interval before has no end")
        text = period.get("duration") or default.get("duration")
        slots.append(Slot(uid, follow_at, length_of(text, follow_at, f"{field}.duration"), payloads))
        follow_at = slots[-1].end_at
    return slots


def start_of(period: Mapping[str, Any], now: datetime) -> datetime:
    """Return the start a period names, or `now` where it names none."""
    start = period.get("start")
    return now if not start or says_now(start) else parse_instant(start, "intervalPeriod.start")


def span(slots: Sequence[Slot]) -> tuple[datetime, datetime | None]:
    """Return from when to when slots reach, of which there is at least one."""
    ends = [slot.end_at for slot in slots]
    return min(slot.start_at for slot in slots), None if None in ends else max(end for end in ends if end is not None)


def stretched(slots: Sequence[Slot], until_at: datetime | None) -> list[Slot] | None:
    """Return the slots cut short or repeated until `until_at`; None where that is never, or too many to hold."""
    first_at, last_at = span(slots)
    if until_at is None:
        return list(slots) if last_at is None else None
    passes = 1
    if last_at is not None and until_at > last_at:
        length = last_at - first_at
        passes = -((first_at - until_at) // length) if length else MAX_INTERVALS + 1
        # values of one payload become intervals of their own
        each = sum(max(1, sum(len(values) for _, values in slot.payloads)) for slot in slots)
        if passes * each > MAX_INTERVALS:
            return None
    shift = timedelta(0) if last_at is None else last_at - first_at
    every = [replace(slot, start_at=slot.start_at + n * shift) for n in range(passes) for slot in slots]
    return [_cut(slot, until_at) for slot in every if slot.start_at < until_at]


def _cut(slot: Slot, until_at: datetime) -> Slot:
    if slot.end_at is not None and slot.end_at <= until_at:
        return slot
    return replace(slot, duration=until_at - slot.start_at)


def divided(start_at: datetime, duration: timedelta, count: int) -> list[tuple[datetime, timedelta]]:
    """Return `count` equal parts, whole microseconds each, without a gap."""
    edges = [start_at + duration * part / count for part in range(count + 1)]
    return [(begin_at, end_at - begin_at) for begin_at, end_at in pairwise(edges)]


def duration_text(length: timedelta | None) -> str:
    """Write a length of time."""
    if length is None:
        return ENDLESS
    micros = length.microseconds
    hours, rest = divmod(length.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    second = f"{seconds}.{micros:06d}".rstrip("0") if micros else str(seconds)
    clock = f"{f'{hours}H' if hours else ''}{f'{minutes}M' if minutes else ''}{'' if second == '0' else f'{second}S'}"
    days = f"{length.days}D" if length.days else ""
    return f"P{days}{f'T{clock}' if clock else ''}" if days or clock else "PT0S"


def instant_text(at: datetime) -> str:
    """Write an instant in UTC, as RFC 3339 has it."""
    return at.isoformat().replace("+00:00", "Z")
