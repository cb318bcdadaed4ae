"""Times as OpenADR 3 writes them, and when an event is over.

Called by `vpp/peering/openadr3` (what `active` hides) and `market/openadr3` (what a client may write).
Durations are exact: a day is 24 hours, whatever the clocks in some place do; months and years are those
of the calendar in UTC, as of the start they are added to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vpp.domain.errors import InvalidRequest

_DURATION = re.compile(
    r"(-?)P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)([DW]))?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_NOW = re.compile(r"000[01]-0[01]-0[01](?:[Tt ]00:00(?::00(?:\.0+)?)?(?:[Zz]|[+-]00:00)?)?")
_LEAP = re.compile(r"(:59):60(?=\D|$)")
_MAX_CHARS = 64
_MOST_DAYS = 3_650_000


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in two parts, because a month has no fixed length. Either may be negative, never both ways."""

    months: int
    rest: timedelta

    def __bool__(self) -> bool:
        return bool(self.months or self.rest)

    def __abs__(self) -> "Duration":
        return Duration(abs(self.months), abs(self.rest))

    def after(self, at: datetime) -> datetime | None:
        """Return `at` plus this, or None where it lies beyond what any calendar here reaches (`P9999Y`)."""
        try:
            month = at.year * 12 + at.month - 1 + self.months
            year, month = divmod(month, 12)
            day = at.day
            while True:  # 31 January and a month is the last day of February
                try:
                    return at.replace(year=year, month=month + 1, day=day) + self.rest
                except ValueError:
                    if day <= 28:  # not the day, then: the year
                        return None
                    day -= 1
        except OverflowError:
            return None


def parse_duration(text: str, field: str = "duration") -> Duration:
    """Return an ISO 8601 duration (`PT1H`, `P9999Y`, `-PT5M`).

    Raises:
        InvalidRequest: it is none.
    """
    found = _DURATION.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if found is None:
        raise InvalidRequest(field, text[:_MAX_CHARS], "an ISO 8601 duration, as PT1H or P1D")
    sign, years, months, count, unit, hours, minutes, seconds = found.groups()
    days = min(int(count or 0) * (7 if unit == "W" else 1), _MOST_DAYS)
    try:
        rest = timedelta(
            days=days, hours=int(hours or 0), minutes=int(minutes or 0), seconds=float(seconds or 0)
        )  # fmt: skip
    except OverflowError:
        rest = timedelta(days=_MOST_DAYS)
    whole = Duration(min(int(years or 0) * 12 + int(months or 0), 12 * 10_000), rest)
    return Duration(-whole.months, -whole.rest) if sign else whole


def says_now(text: str) -> bool:
    """Whether a start means 'now': `0001-01-01` in 3.1.0, `0000-00-00` in 3.0.1, with or without a midnight."""
    return _NOW.fullmatch(text) is not None


def parse_instant(text: str, field: str = "start") -> datetime:
    """Return a date and time as RFC 3339 writes it; one without a zone, and a mere date, are taken as UTC.

    A leap second is the first of the next minute.

    Raises:
        InvalidRequest: it is none, or it means 'now' (ask `says_now` first).
    """
    if len(text) <= _MAX_CHARS and re.match(r"\d{4}-\d{2}-\d{2}(?:$|[Tt ]\d{2}:\d{2})", text):
        try:
            whole = _LEAP.sub(r"\1:59", text.upper())
            at = datetime.fromisoformat(whole)
            at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
            return at if whole == text.upper() else at + timedelta(seconds=1)
        except (ValueError, OverflowError):
            pass
    raise InvalidRequest(field, text[:_MAX_CHARS], "a date and time with a zone, as 2026-08-19T16:00:00Z")


def event_span(body: Mapping[str, Any], *, stated_at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return when an event starts and when it is over, the latter with the random shift of its start allowed for.

    None is unknown, or never: no intervals (a mere request for reports), no start, no or infinite duration.
    A start of 'now' is the time the event was stated at; with a duration of nothing it is how an event is
    cancelled (User Guide 7.9), and over at once. `duration` of the event cuts its intervals short or repeats them.

    Args:
        body: an event as 3.1.0 has it, its times and durations valid.
        stated_at: when this version of it was written.
    """
    period = body.get("intervalPeriod") or {}
    intervals = body.get("intervals") or []
    start_at = _start(period, stated_at)
    first_at, end_at = _span_of_intervals(intervals, start_at, period, stated_at)
    start_at = start_at if start_at is not None else first_at
    if body.get("duration") and start_at is not None and (length := parse_duration(body["duration"])):
        end_at = length.after(start_at)
    elif not intervals:
        end_at = None
    if end_at is None:
        return start_at, None
    periods = (period, *(each.get("intervalPeriod") or {} for each in intervals))
    latest_at = max(_shifted(end_at, each.get("randomizeStart")) or end_at for each in periods)
    return start_at, latest_at


def _start(period: Mapping[str, Any], stated_at: datetime) -> datetime | None:
    text = period.get("start")
    if not text:
        return None
    return stated_at if says_now(text) else parse_instant(text)


def _shifted(at: datetime, text: str | None) -> datetime | None:
    return abs(parse_duration(text)).after(at) if text else at


def _span_of_intervals(
    intervals: list[Mapping[str, Any]], start_at: datetime | None, default: Mapping[str, Any], stated_at: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return when the first interval starts, and the end of the last to end, None where any has none."""
    first_at, cursor, end_at = None, start_at, None
    for interval in intervals:
        own = interval.get("intervalPeriod") or {}
        text = own.get("start")
        at = cursor if not text or (says_now(text) and cursor is not None) else _start(own, stated_at)
        length = own.get("duration") or default.get("duration")
        if at is None or not length:
            return first_at or at, None
        first_at = first_at or at
        duration = parse_duration(length)
        meant_over = says_now(text or default.get("start") or "")
        if not duration and not meant_over:  # instantaneous or endless, by payload type: not ours to say over
            return first_at, None
        cursor = duration.after(at)
        if cursor is None:
            return first_at, None
        end_at = cursor if end_at is None else max(end_at, cursor)
    return first_at, end_at
