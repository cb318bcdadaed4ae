"""What we owe: a commitment to a utility or market, its targets and its life."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval


class CommitmentState(StrEnum):
    """The states of a commitment; `TRANSITIONS` says what may follow what."""

    RECEIVED = "received"
    DECLINED = "declined"
    ACCEPTED = "accepted"
    ACTIVE = "active"
    RELEASING = "releasing"
    MEASURING = "measuring"
    SETTLED = "settled"
    CANCELLED = "cancelled"


TRANSITIONS: dict[CommitmentState, frozenset[CommitmentState]] = {
    CommitmentState.RECEIVED: frozenset(
        {CommitmentState.ACCEPTED, CommitmentState.DECLINED, CommitmentState.CANCELLED}
    ),
    CommitmentState.DECLINED: frozenset({CommitmentState.ACCEPTED, CommitmentState.CANCELLED}),
    CommitmentState.ACCEPTED: frozenset({CommitmentState.ACTIVE, CommitmentState.DECLINED, CommitmentState.CANCELLED}),
    CommitmentState.ACTIVE: frozenset({CommitmentState.RELEASING}),
    CommitmentState.RELEASING: frozenset({CommitmentState.MEASURING}),
    CommitmentState.MEASURING: frozenset({CommitmentState.SETTLED}),
    CommitmentState.SETTLED: frozenset(),
    CommitmentState.CANCELLED: frozenset(),
}
"""A cancellation during the event goes through RELEASING, so that every site is handed back, and is
measured and paid for what it had delivered until then."""


@dataclass(frozen=True, slots=True)
class TargetInterval:
    """Power owed over an interval, delivered toward the grid [kW]."""

    interval: Interval
    target_kw: float

    def __post_init__(self) -> None:
        if not (0 <= self.target_kw < 1e7):
            raise InvalidRequest("target_kw", self.target_kw, "a power from 0 up to 10 GW")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """One event as the utility last stated it and as far as we have taken it.

    `targets` are contiguous and already shifted by the random start, `start_offset_s`, that was
    drawn once for this event. `revision` counts state changes; it guards compare-and-set.

    CANCELLED and what follows a cancellation during the event are final. Where the utility states a
    cancelled event anew, that is another commitment: the next `life` of the same `external_id`, with the
    random start of the first. `void_up_to` is the last modification a cancellation made void, None where
    there was none.
    """

    id: UUID
    tenant_id: str
    program: str
    source: str
    external_id: str
    modification_number: int
    state: CommitmentState
    targets: tuple[TargetInterval, ...]
    revision: int
    start_offset_s: float = 0.0
    cancel_requested: bool = False
    is_test: bool = False
    opt_in: bool | None = None
    opt_reason: str = ""
    next_due_at: datetime | None = None
    life: int = 1
    void_up_to: int | None = None

    @property
    def window(self) -> Interval:
        """From the first target's start to the last one's end."""
        return Interval(self.targets[0].interval.start_at, self.targets[-1].interval.end_at)

    def target_kw_at(self, at: datetime) -> float:
        """Power owed at an instant [kW]; 0 outside the event."""
        return next((t.target_kw for t in self.targets if at in t.interval), 0.0)

    def energy_kwh(self) -> float:
        """Energy owed over the whole event [kWh]."""
        return sum(t.target_kw * t.interval.duration_h for t in self.targets)
