"""What happens on the day: the event, its modification, the faults, all derived from the seed."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval, as_utc
from vpp.simulation.fleet import TIME_ZONE, VirtualFleet, make_fleet

DAY = date(2026, 8, 19)
"""A Wednesday in August: ten years to the weekday after the day the packaged load data was metered."""
PROGRAM = "elrp"
TENANT = "demo"
SHARE_OF_SUSTAINED_POWER = 0.62
"""The utility asks for what is left once owners' own peaks and a margin for losses are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoScript:
    """A day to play from `start_hour` on, local time. `sites` from 10; the same seed and sites give the same day."""

    seed: int = 1
    sites: int = 300
    day: date = DAY
    start_hour: int = 6

    def __post_init__(self) -> None:
        if not 10 <= self.sites <= 5000:
            raise InvalidRequest("sites", self.sites, "10 to 5000")
        if not 0 <= self.start_hour <= 12:
            raise InvalidRequest("start_hour", self.start_hour, "0 to 12: the event is announced at 13")

    def at(self, hour: int, minute: int = 0) -> datetime:
        """An instant by the fleet's local clock."""
        return as_utc(datetime.combine(self.day, time(hour, minute), ZoneInfo(TIME_ZONE)))

    @property
    def start_at(self) -> datetime:
        return self.at(self.start_hour)

    @property
    def end_at(self) -> datetime:
        return self.at(22)

    @property
    def notice_at(self) -> datetime:
        return self.at(13)

    @property
    def event(self) -> Interval:
        return Interval(self.at(16), self.at(20))

    @property
    def modified_at(self) -> datetime:
        return self.at(17, 40)

    def fleet(self, base_port: int) -> VirtualFleet:
        """The fleet of this day; its devices listen from `base_port` on."""
        return make_fleet(
            seed=self.seed,
            sites=self.sites,
            day=self.day,
            start_at=self.start_at,
            tenant_id=TENANT,
            base_port=base_port,
        )

    def nominated_kw(self, fleet: VirtualFleet) -> float:
        """What the fleet is worth over the event's four hours, rounded to 5 kW."""
        params = fleet.params
        usable_kwh = params.capacity_kwh * (0.9 - fleet.reserve_soc) * params.discharge_efficiency
        sustained_kw = np.minimum(params.max_discharge_kw, usable_kwh / self.event.duration_h).sum()
        return float(np.floor(SHARE_OF_SUSTAINED_POWER * sustained_kw / 5.0) * 5.0)

    def targets_kw(self, nominated_kw: float) -> tuple[float, ...]:
        """The event as first announced: hour by hour."""
        return tuple(round(share * nominated_kw, 1) for share in (0.8, 1.0, 1.0, 0.8))

    def modified_targets_kw(self, nominated_kw: float) -> tuple[float, ...]:
        """The event as modified on the way: more in the third hour, less in the last."""
        return tuple(round(share * nominated_kw, 1) for share in (0.8, 1.0, 1.1, 0.6))


def hours_of(window: Interval) -> tuple[Interval, ...]:
    """The window hour by hour."""
    return tuple(window.steps(timedelta(hours=1)))
