"""What every day-matching baseline works on: a resource's load by site, day and hour, and its answer.

Part of the measurement room; no input or output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

Finding = dict[str, Any]
"""Something a reader of the result must know: `code`, `text` and figures, JSON-able."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLoads:
    """Load of a resource's sites on the event's clock hours and on the adjustment's, by day.

    Load is positive toward the site [kWh per clock hour]. Energies are 0, and mean nothing, where
    `*_present` is false.

    Attributes:
        days: the trading day and the days before it, in any order, shape (day,).
        event_kwh, event_present: shape (site, day, event hour).
        window_kwh, window_present: the adjustment's hours, shape (site, day, window hour).
    """

    days: tuple[date, ...]
    event_kwh: Floats
    event_present: Bools
    window_kwh: Floats
    window_present: Bools

    def __post_init__(self) -> None:
        for name in ("event", "window"):
            kwh, present = getattr(self, f"{name}_kwh"), getattr(self, f"{name}_present")
            if kwh.ndim != 3 or kwh.shape != present.shape or kwh.shape[1] != len(self.days):
                raise InvalidRequest(f"{name}_kwh", kwh.shape, f"shape (site, {len(self.days)}, hour) with its mask")
            if not np.isfinite(kwh[present]).all():
                raise InvalidRequest(f"{name}_kwh", "not finite", "finite energy wherever it is present")

    def of_sites(self, chosen: Bools) -> "DayLoads":
        """Return the same for some of the sites, `chosen` of shape (site,)."""
        return DayLoads(
            days=self.days,
            event_kwh=self.event_kwh[chosen],
            event_present=self.event_present[chosen],
            window_kwh=self.window_kwh[chosen],
            window_present=self.window_present[chosen],
        )


def day_loads(
    series: Mapping[tuple[date, int], float],
    days: Sequence[date],
    event_hours: Sequence[int],
    window_hours: Sequence[int],
) -> DayLoads:
    """Return the loads of one meter given as (local day, hour beginning) to kWh; absent means missing.

    Hours count from the day's midnight; a negative one is an hour of the day before.
    """
    event_kwh, event_present = _cube(series, days, event_hours)
    window_kwh, window_present = _cube(series, days, window_hours)
    return DayLoads(
        days=tuple(days),
        event_kwh=event_kwh,
        event_present=event_present,
        window_kwh=window_kwh,
        window_present=window_present,
    )


def _cube(series: Mapping[tuple[date, int], float], days: Sequence[date], hours: Sequence[int]) -> tuple[Floats, Bools]:
    kwh = np.zeros((1, len(days), len(hours)))
    present = np.zeros(kwh.shape, dtype=np.bool_)
    for i, day in enumerate(days):
        for j, hour in enumerate(hours):
            value = series.get((date.fromordinal(day.toordinal() + hour // 24), hour % 24))
            if value is not None:
                kwh[0, i, j], present[0, i, j] = value, True
    return kwh, present


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A baseline for one trading day's event hours, at resource level.

    Attributes:
        days: the days it was made from, ascending; empty where it could not be made.
        unadjusted_kwh: mean load per event hour [kWh].
        ratio: day-of ratio before the cap; None where it is undefined.
        adjustment: the factor applied; None where the baseline is not measurable.
        baseline_kwh: adjusted load per event hour [kWh]; None where not measurable.
        counted: which sites it speaks for, shape (site,).
        findings: what a reader must know.
    """

    method: str
    days: tuple[date, ...]
    unadjusted_kwh: Floats | None
    ratio: float | None
    adjustment: float | None
    baseline_kwh: Floats | None
    counted: Bools
    findings: tuple[Finding, ...] = field(default_factory=tuple)
