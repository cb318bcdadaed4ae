"""An event's power over time as aligned columns to draw. Pure; called by `event_view` and `report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from vpp.domain.commitment import Commitment
from vpp.domain.time import Interval, floor_to
from vpp.portal.queries_events import CycleRow
from vpp.portal.queries_fleet import PowerBucket

MOST_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Aligned columns over the event: step starts (Unix seconds) and power [kW]; None where unknown."""

    at_s: list[float]
    target_kw: list[float | None]
    planned_kw: list[float | None]
    metered_kw: list[float | None]


def chart_steps(window: Interval, step: timedelta) -> list[Interval]:
    """Cut the event into the chart's steps, on the control cycle's own grid and never too many."""
    while window.duration / step > MOST_STEPS:
        step *= 2
    start_at = floor_to(window.start_at, step)
    return list(Interval(start_at, max(window.end_at, start_at + step)).steps(step))


def chart(
    steps: Sequence[Interval], commitment: Commitment, cycles: Sequence[CycleRow], buckets: Sequence[PowerBucket]
) -> Chart:
    """Lay target, plan and metered power on the same steps; the last point repeats to close the last step."""
    metered = {bucket.start_at: bucket.power_kw for bucket in buckets}
    targets: list[float | None] = []
    planned: list[float | None] = []
    later = iter(cycles)
    cycle = next(later, None)
    for step in steps:
        middle = step.start_at + step.duration / 2
        targets.append(commitment.target_kw_at(middle))
        while cycle is not None and cycle.end_at <= middle:
            cycle = next(later, None)
        planned.append(cycle.planned_kw if cycle is not None and cycle.start_at <= middle else None)
    power = [metered.get(step.start_at) for step in steps]
    return Chart(
        at_s=[step.start_at.timestamp() for step in steps] + [steps[-1].end_at.timestamp()],
        target_kw=[*targets, targets[-1]],
        planned_kw=[*planned, planned[-1]],
        metered_kw=[*power, power[-1]],
    )
