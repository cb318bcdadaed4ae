"""Room gateway, OpenADR 3 VEN: when an event's reportDescriptors want which intervals. Pure; called by `reporter`.

The event's intervals are numbered from 0; boundary `b` is the start of interval `b`, and the one after the
last interval is its end. The first report is made at boundary `startInterval` (-1: the last one), the next
`frequency` boundaries later (-1: as many as a report covers), `repeat` times (-1: to the event's end).
Historical reports cover the `numIntervals` before the boundary, others those after it (-1: all). The start of
interval 0 has nothing before it, so a historical series that begins there begins at boundary 1.

Two cases have no such numbers: an event without intervals, and `frequency` 0 with OPEN_INTERVALS, which
leaves the moment to us. Both get one report of the present, at the event's start.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from vpp.domain.grid_event import GridEvent
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportIntervals, ReportWanted

SNAPSHOT = timedelta(minutes=1)
"""What a value of the present stands for."""
SUB_INTERVAL = timedelta(minutes=5)
GRACE = timedelta(seconds=30)
"""A report on the past is made this long after its boundary: the last readings take a while to arrive."""
MAX_INTERVALS = 1000
"""A report covers at most so many; the latest of more."""


@dataclass(frozen=True, slots=True)
class Request:
    """Descriptors with the same timing: one series of reports. `key` names it, whatever else the event says."""

    key: str
    wanted: tuple[ReportWanted, ...]

    @property
    def timing(self) -> ReportWanted:
        """Any of them: their timing is the same."""
        return self.wanted[0]


@dataclass(frozen=True, slots=True)
class Due:
    """The report of one number: made at `at`, of these intervals; of the moment it is made where there are none."""

    number: int
    at: datetime
    intervals: tuple[Interval, ...]


def requests_of(reports: Iterable[ReportWanted]) -> tuple[Request, ...]:
    """Group descriptors by timing, in the order of their first."""
    groups: dict[str, list[ReportWanted]] = {}
    for wanted in reports:
        timing = (
            wanted.start_interval,
            wanted.interval_count,
            wanted.historical,
            wanted.frequency,
            wanted.repeat,
            wanted.intervals.value,
        )
        groups.setdefault(hashlib.sha256(repr(timing).encode()).hexdigest()[:12], []).append(wanted)
    return tuple(Request(key, tuple(group)) for key, group in groups.items())


def intervals_of(event: GridEvent) -> tuple[Interval, ...]:
    """The event's intervals that have an end, each once, by their start."""
    found = {part.interval for series in event.series for part in series.intervals}
    return tuple(sorted(interval for interval in found if interval is not None))


def due(event: GridEvent, request: Request, number: int) -> Due | None:
    """Return the report of a number, from 0; None where the series has ended before it."""
    timing, intervals = request.timing, intervals_of(event)
    if timing.repeat >= 0 and number >= timing.repeat:
        return None
    is_open = timing.intervals is ReportIntervals.OPEN_INTERVALS
    if not intervals or (is_open and timing.frequency == 0):
        if number > 0 or (intervals and timing.start_interval > 0):
            return None
        return Due(number, event.start_at, ())
    boundary = _boundary(timing, len(intervals), number)
    if boundary is None:
        return None
    at = intervals[boundary].start_at if boundary < len(intervals) else intervals[-1].end_at
    if is_open:
        return Due(number, at, ())
    covered = _covered(timing, intervals, boundary)
    if timing.intervals is ReportIntervals.SUB_INTERVALS:
        covered = tuple(part for interval in covered for part in interval.steps(SUB_INTERVAL))
    return Due(number, at + GRACE, covered[-MAX_INTERVALS:]) if covered else None


def _boundary(timing: ReportWanted, count: int, number: int) -> int | None:
    first = count if timing.start_interval < 0 else timing.start_interval
    if timing.historical:
        first = max(first, 1)
    if timing.frequency > 0:
        step = timing.frequency
    elif timing.frequency < 0:
        step = timing.interval_count if timing.interval_count > 0 else count
    else:
        step = 0
    if number > 0 and step == 0:
        return None
    boundary = first + number * step
    return boundary if boundary <= count else None


def _covered(timing: ReportWanted, intervals: tuple[Interval, ...], boundary: int) -> tuple[Interval, ...]:
    count = timing.interval_count
    if timing.historical:
        return intervals[max(0, boundary - count) if count >= 0 else 0 : boundary]
    return intervals[boundary : boundary + count if count >= 0 else None]
