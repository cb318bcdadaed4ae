"""Over which steps to look ahead.  Called by dispatch before it asks the forecast and `plan`.

The horizon is the rest of the event and the demand windows of that local day behind it, so that the
energy a site needs against its own peak afterwards is kept. Near steps are short, far ones long.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from vpp.allocation.tariffs import applies
from vpp.domain.commitment import TargetInterval
from vpp.domain.fleet import Bools, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval, floor_to

FINE = timedelta(minutes=5)
FINE_FOR = timedelta(minutes=30)
EVENT_STEP = timedelta(minutes=15)
AFTER_STEP = timedelta(minutes=30)
MOST_AFTER = timedelta(hours=6)
SHORTEST = timedelta(seconds=1)
"""Random starts put an event's edges anywhere: what lies nearer to another edge than this is no step of its own."""


def horizon_steps(sites: Sequence[Site], targets: Sequence[TargetInterval], at: datetime) -> tuple[Interval, ...]:
    """Return contiguous steps from `at` to the end of what an allocation must look at.

    5 minutes for half an hour, 15 minutes to the event's end, then 30 minutes to the end of the last
    demand window of that local day, at most 6 hours. No step crosses a change of target by a second or more.
    Empty when the event is over, to the second.
    """
    if not targets or at > targets[-1].interval.end_at - SHORTEST:
        return ()
    event_end = targets[-1].interval.end_at
    end_at = event_end + _after(sites, event_end)
    cuts = sorted({edge for t in targets for edge in (t.interval.start_at, t.interval.end_at)} | {end_at})
    return tuple(_walk(at, end_at, event_end, cuts))


def owed(targets: Sequence[TargetInterval], steps: Sequence[Interval]) -> tuple[Floats, Bools]:
    """Return mean power owed in each step [kW] (T,), and which steps owe anything (T,)."""
    power, committed = np.zeros(len(steps)), np.zeros(len(steps), dtype=bool)
    for k, step in enumerate(steps):
        for target in targets:
            common = step.overlap(target.interval)
            if common is not None:
                power[k] += target.target_kw * (common.duration / step.duration)
                committed[k] = True
    return power, committed


def _walk(at: datetime, end_at: datetime, event_end: datetime, cuts: Sequence[datetime]) -> Iterator[Interval]:
    start = at
    while start < end_at:
        length = AFTER_STEP if start >= event_end else EVENT_STEP
        length = FINE if start < at + FINE_FOR and start < event_end else length
        stop = floor_to(start, length) + length
        stop += length if stop - start < SHORTEST else timedelta(0)
        stop = min([stop, *(cut for cut in cuts if start + SHORTEST <= cut < stop)])
        stop = next((cut for cut in cuts if stop < cut < stop + SHORTEST), stop)
        yield Interval(start, stop)
        start = stop


def _after(sites: Sequence[Site], event_end: datetime) -> timedelta:
    """How long after the event the sites' demand windows still run, in whole half hours."""
    longest = timedelta(0)
    for zone, charge in {(site.time_zone, charge) for site in sites for charge in site.tariff.demand}:
        for k in range(int(MOST_AFTER / AFTER_STEP), 0, -1):
            local = (event_end + k * AFTER_STEP - AFTER_STEP / 2).astimezone(ZoneInfo(zone))
            same_day = local.date() == event_end.astimezone(ZoneInfo(zone)).date()
            if same_day and applies(charge, local):
                longest = max(longest, k * AFTER_STEP)
                break
    return longest
