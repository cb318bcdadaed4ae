"""The value in force of an event's signals (currentValue), as it is told. Called by `view`.

Of a SIMPLE signal it is told always, 0 while the event is not active (profile 2.0b, rule 14); of another one only
where the event came with one, which is not told on as it was when it came.
"""

from dataclasses import replace
from datetime import datetime

from vpp.domain.grid_event import EventStatus, GridEvent, Series, SeriesType

Currents = tuple[float | None, ...]


def currents_at(event: GridEvent, status: EventStatus, at: datetime) -> Currents:
    """Return the value in force of each series, None where none is told."""
    return tuple(_current(series, status, at) for series in event.series)


def with_currents(event: GridEvent, currents: Currents) -> GridEvent:
    """Return the event as it is told with these values in force."""
    pairs = zip(event.series, currents, strict=True)
    return replace(event, series=tuple(replace(series, current=current) for series, current in pairs))


def _current(series: Series, status: EventStatus, at: datetime) -> float | None:
    is_simple = series.type is SeriesType.SIMPLE
    if not is_simple and series.current is None:
        return None
    if status is EventStatus.ACTIVE:
        for part in series.intervals:
            holds = part.start_at <= at and (part.duration is None or at < part.start_at + part.duration)
            if holds and len(part.values) == 1 and isinstance(part.values[0], int | float):
                return float(part.values[0])
    return 0.0 if is_simple else None
