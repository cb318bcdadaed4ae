"""A utility's event as any protocol can say it, before it becomes a commitment."""

from dataclasses import dataclass
from enum import StrEnum

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval


class SignalKind(StrEnum):
    """What the numbers of an event mean."""

    LEVEL = "level"
    """OpenADR SIMPLE: 0 normal, 1 moderate, 2 high, 3 special; the programme says how many kW."""
    POWER_KW = "power_kw"
    """Power owed toward the grid [kW], as LOAD_DISPATCH."""


@dataclass(frozen=True, slots=True)
class SignalInterval:
    """One interval of an event with its level or power."""

    interval: Interval
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSignal:
    """One version of one event.

    Attributes:
        source: which peer it came from, as `openadr2:<name>`; unique with `external_id`.
        modification_number: the utility's count of changes, from 0; an older one is ignored.
        program: name of the programme it calls on.
        intervals: contiguous, in order; empty only where `cancelled`.
        start_tolerance_s: the start may be put off by a random time up to this [s]; drawn once.
        request_id: the message our answer refers to.
        withdrawn: no cancellation was stated, the event is only listed no longer; the same modification
            may be stated again.
    """

    source: str
    external_id: str
    modification_number: int
    program: str
    kind: SignalKind
    intervals: tuple[SignalInterval, ...]
    start_tolerance_s: float = 0.0
    cancelled: bool = False
    is_test: bool = False
    request_id: str = ""
    withdrawn: bool = False

    def __post_init__(self) -> None:
        if not self.intervals and not self.cancelled:
            raise InvalidRequest("intervals", "none", "at least one interval")
        for earlier, later in zip(self.intervals, self.intervals[1:], strict=False):
            if earlier.interval.end_at != later.interval.start_at:
                raise InvalidRequest(
                    "intervals",
                    later.interval.start_at.isoformat(),
                    "an interval that begins where the one before ends",
                )
