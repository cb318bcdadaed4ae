"""Local days and hours of a market: business days, holidays, clock hours, trading days.

Part of the measurement room; the only place in it that knows a local clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo

from vpp.domain.time import Interval

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MONDAY, THURSDAY, SUNDAY = 0, 3, 6


def nth_weekday(year: int, month: int, weekday: int, n: int) -> date:
    """Return the n-th (from 1) given weekday (Monday 0) of a month; n = -1 is the last one."""
    if n > 0:
        first = date(year, month, 1)
        return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))
    last = date(year + month // 12, month % 12 + 1, 1) - DAY
    return last - timedelta(days=(last.weekday() - weekday) % 7)


@cache
def nerc_holidays(year: int) -> frozenset[date]:
    """Return the six NERC holidays as observed: one that falls on a Sunday moves to the Monday.

    New Year's Day, Memorial Day, Independence Day, Labor Day, Thanksgiving Day, Christmas Day. One
    that falls on a Saturday is not moved (NERC, "Additional Off-peak Days").
    """
    fixed = (date(year, 1, 1), date(year, 7, 4), date(year, 12, 25))
    observed = [day + DAY if day.weekday() == SUNDAY else day for day in fixed]
    moving = (
        nth_weekday(year, 5, MONDAY, -1),
        nth_weekday(year, 9, MONDAY, 1),
        nth_weekday(year, 11, THURSDAY, 4),
    )
    return frozenset((*observed, *moving))


def is_business_day(day: date) -> bool:
    """Tell whether a day is Monday to Friday and no NERC holiday as observed."""
    return day.weekday() < 5 and day not in nerc_holidays(day.year)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch inside one local clock hour. `day` and `hour` name that hour by its beginning."""

    interval: Interval
    day: date
    hour: int


def clock_pieces(window: Interval, zone: ZoneInfo, step: timedelta = HOUR) -> tuple[Piece, ...]:
    """Cut a window at local clock hours (or at every `step`, a divisor of the hour, within them)."""
    return tuple(_cut(window, zone, step))


def _cut(window: Interval, zone: ZoneInfo, step: timedelta) -> Iterator[Piece]:
    at = window.start_at
    while at < window.end_at:
        local = at.astimezone(zone)
        into_hour = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        cut_at = min(at + step - into_hour % step, window.end_at)
        yield Piece(Interval(at, cut_at), local.date(), local.hour)
        at = cut_at


def by_trading_day(pieces: tuple[Piece, ...]) -> list[tuple[date, tuple[Piece, ...]]]:
    """Group pieces by their local day: an event over midnight belongs to two trading days."""
    return [(day, tuple(group)) for day, group in groupby(pieces, key=lambda piece: piece.day)]


def window_before(at: datetime, zone: ZoneInfo, count_from: int, count_to: int) -> Interval:
    """Return the `count_from`-th down to the `count_to`-th hour before the clock hour that holds `at`."""
    local = at.astimezone(zone)
    begin_at = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return Interval(begin_at - count_from * HOUR, begin_at - (count_to - 1) * HOUR)


def hours_before(at: datetime, zone: ZoneInfo, count_from: int, count_to: int) -> tuple[tuple[date, int], ...]:
    """Return the local (day, hour) of each hour of `window_before`.

    They are counted in elapsed time, so a clock change in between is counted right.
    """
    window = window_before(at, zone, count_from, count_to)
    starts = (step.start_at.astimezone(zone) for step in window.steps(HOUR))
    return tuple((start.date(), start.hour) for start in starts)


def hour_starts(day: date, hour: int, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return the instants at which a local clock hour begins: one, two (clock put back) or none (put on)."""
    naive = datetime.combine(day, time(hour), tzinfo=zone)
    starts = {naive.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(at for at in starts if at.astimezone(zone).replace(tzinfo=None) == naive.replace(tzinfo=None)))
