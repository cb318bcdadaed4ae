"""Instants and intervals: always aware, always UTC inside, half-open `[start, end)`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vpp.domain.errors import InvalidRequest


def as_utc(at: datetime, field: str = "instant") -> datetime:
    """Return `at` in UTC.

    Raises:
        InvalidRequest: `at` carries no zone, so nobody can know which instant it is.
    """
    if at.tzinfo is None or at.utcoffset() is None:
        raise InvalidRequest(field, at.isoformat(), "a date and time with a zone, as 2026-08-19T16:00:00-07:00")
    return at.astimezone(UTC)


def floor_to(at: datetime, step: timedelta) -> datetime:
    """Return the last multiple of `step` since the Unix epoch that is not after `at`."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + ((as_utc(at) - epoch) // step) * step


def hours(duration: timedelta) -> float:
    """Return a duration in hours [h]."""
    return duration.total_seconds() / 3600.0


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open stretch of time `[start_at, end_at)` in UTC."""

    start_at: datetime
    end_at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_at", as_utc(self.start_at, "start_at"))
        object.__setattr__(self, "end_at", as_utc(self.end_at, "end_at"))
        if self.end_at <= self.start_at:
            raise InvalidRequest("end_at", self.end_at.isoformat(), f"an instant after {self.start_at.isoformat()}")

    @property
    def duration(self) -> timedelta:
        return self.end_at - self.start_at

    @property
    def duration_h(self) -> float:
        return hours(self.duration)

    def __contains__(self, at: datetime) -> bool:
        return self.start_at <= at < self.end_at

    def overlap(self, other: "Interval") -> "Interval | None":
        """Return the common part, or None where there is none."""
        start_at, end_at = max(self.start_at, other.start_at), min(self.end_at, other.end_at)
        return Interval(start_at, end_at) if start_at < end_at else None

    def shifted(self, by: timedelta) -> "Interval":
        """Return the interval moved by `by`."""
        return Interval(self.start_at + by, self.end_at + by)

    def steps(self, step: timedelta) -> Iterator["Interval"]:
        """Cut into pieces of `step`; the last one is shorter where the length is no multiple."""
        start_at = self.start_at
        while start_at < self.end_at:
            yield Interval(start_at, min(start_at + step, self.end_at))
            start_at += step
