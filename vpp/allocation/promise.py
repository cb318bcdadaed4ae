"""Whether the fleet covers a request, before anything is promised.

Called by whoever answers an event or checks a nomination, through `vpp.allocation.capability`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from vpp.allocation.blocks import ModeState, deliverable_kwh
from vpp.allocation.capability import most_held
from vpp.allocation.from_sites import Policy, View, build_problem, drift_buffers, needed_at_home, usable
from vpp.allocation.grid_limits import GridLimits, as_feeders, beside_kw, may_run_modes
from vpp.allocation.horizon import owed
from vpp.allocation.limits import max_discharge_kw
from vpp.allocation.parts import fixed_blocks, views
from vpp.allocation.problem import Problem
from vpp.allocation.robust import exposure_of, margin
from vpp.domain.commitment import TargetInterval
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, FleetState, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval

PEAK_FIRST = 100.0
"""In a promise an owner's demand peak counts this much more, so that none is spent to promise more."""
LEAST_PEAK_PRICE = 1000.0
SHORTAGE_PRICE = 1e3
TOLERANCE_KW = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Whether the fleet covers a request: the answer, the sentence that goes with it, and the numbers.

    `deliverable_kw` has one power per target [kW], held throughout it; never more than what was
    asked plus the margin.
    """

    covered: bool
    reason: str
    deliverable_kw: tuple[float, ...]
    method: str
    seconds: float


def capability(
    sites: Sequence[Site], state: FleetState, net_load_kw: Floats, targets: Sequence[TargetInterval],
    steps: Sequence[Interval], *, mode_sites: Mapping[str, ModeState] | None = None, policy: Policy | None = None,
    hours_since_full_charge: Floats | None = None, limits: GridLimits | None = None,
) -> Capability:  # fmt: skip
    """Say whether the fleet covers the targets with the policy's margin, exactly, and if not what it can hold.

    Batteries are taken to begin the event as charged as they are now. Arguments as in `plan`.

    Raises:
        InvalidRequest: as `plan`; also steps that leave part of a target uncovered.
    """
    started = time.perf_counter()
    policy = policy or Policy()
    modes, limits, good = mode_sites or {}, limits or GridLimits(), usable(sites, state)
    can = good & ~needed_at_home(sites, state, np.asarray(net_load_kw), steps, policy)
    can &= may_run_modes(limits, sites, modes, [target.interval for target in targets])
    cut, net = _event_steps(steps, np.asarray(net_load_kw, dtype=np.float64), targets)
    buffers = drift_buffers(sites, policy, hours_since_full_charge)
    takes_kw, by_mode = views(sites, state, net, can, modes, buffers)
    target_kw, committed = owed(targets, cut)
    spare = _margin((takes_kw, by_mode), cut, committed, policy)
    asked = np.array([target.target_kw for target in targets]) * (1.0 + spare)
    block_power, _ = fixed_blocks(by_mode, takes_kw, cut, target_kw * (1.0 + spare), committed, modes, policy)
    window, beside = _windows(cut, targets), beside_kw(limits, takes_kw, good, net, block_power.sum(axis=0))
    hours = np.array([target.interval.duration_h for target in targets])
    problem = build_problem(
        takes_kw, cut, committed, policy, **as_feeders(limits, takes_kw, cut, beside),
        # of equal choices, the shortage falls on the later target
        capacity_price_per_kw=policy.shortfall_price_per_kwh * hours * (1.0 - 1e-4 * np.arange(len(targets))),
        capacity_limit_kw=asked, capacity_window=window, fixed_kw=block_power.sum(axis=0),
        shortfall_price_per_kwh=np.full(len(cut), SHORTAGE_PRICE),
    )  # fmt: skip
    held = most_held(_peaks_first(problem), asked, policy.options_for(problem))
    covered = bool((held.kw >= asked - TOLERANCE_KW).all())
    return Capability(
        covered=covered, reason=_reason(covered, sites, can, targets, held.kw, spare),
        deliverable_kw=tuple(float(kw) for kw in held.kw), method=held.method, seconds=time.perf_counter() - started,
    )  # fmt: skip


def _margin(parts: tuple[View, ...], steps: Sequence[Interval], event: Bools, policy: Policy) -> float:
    """Share of a target that must be spare: flat, or what the classes' failures cost at the policy's probability."""
    some = [part for part in parts if part.sites]
    if policy.site_classes is None or not some or not event.any():
        return policy.capability_margin
    problems = [build_problem(part, steps, event, policy, committed=event) for part in some]
    exposure = exposure_of(
        [site for part in some for site in part.sites],
        np.concatenate([max_discharge_kw(problem)[:, event].min(axis=1) for problem in problems]),
        np.concatenate([deliverable_kwh(problem) for problem in problems]),
        float(problems[0].step_h[event].sum()),
        policy.site_classes,
    )
    return margin(exposure, policy.promise_probability).share


def _event_steps(
    steps: Sequence[Interval], net_load_kw: Floats, targets: Sequence[TargetInterval]
) -> tuple[tuple[Interval, ...], Floats]:
    """Cut steps at the targets' edges and drop what lies before the event, with their forecasts.

    Raises:
        InvalidRequest: the steps do not reach from the first target's start to the last one's end.
    """
    if not targets or not steps or steps[-1].end_at < targets[-1].interval.end_at:
        raise InvalidRequest("steps", len(steps), "steps that reach to the end of the last target")
    edges = sorted({edge for t in targets for edge in (t.interval.start_at, t.interval.end_at)})
    first = max(steps[0].start_at, edges[0])
    cut, columns = [], []
    for k, step in enumerate(steps):
        inside = [edge for edge in edges if step.start_at < edge < step.end_at]
        for start, end in zip([step.start_at, *inside], [*inside, step.end_at], strict=True):
            if start >= first:
                cut.append(Interval(start, end))
                columns.append(k)
    return tuple(cut), net_load_kw[:, columns]


def _windows(steps: Sequence[Interval], targets: Sequence[TargetInterval]) -> Floats:
    """Index of the target each step lies in, -1 outside, (T,)."""
    return np.array(
        [next((k for k, t in enumerate(targets) if step.start_at in t.interval), -1) for step in steps],
        dtype=np.float64,
    )


def _peaks_first(problem: Problem) -> Problem:
    """The same problem with the owners' demand peaks above any promise."""
    price = problem.demand_price_per_kw
    raised = np.where(price > 0, np.maximum(price * PEAK_FIRST, LEAST_PEAK_PRICE), 0.0)
    return Problem.build({**problem.arrays(), "demand_price_per_kw": raised})


def _reason(
    covered: bool, sites: Sequence[Site], can: Bools, targets: Sequence[TargetInterval], held_kw: Floats, margin: float
) -> str:
    """One sentence with the numbers, for the answer to the utility and for the operator."""
    out = len(sites) - int(can.sum())
    without = f"; {out} of {len(sites)} sites cannot be used now" if out else ""
    if covered:
        peak_kw = max((target.target_kw for target in targets), default=0.0)
        return f"covers up to {peak_kw:,.0f} kW with {margin:.0%} to spare{without}"
    worst = min(range(len(targets)), key=lambda k: (held_kw[k] - targets[k].target_kw * (1 + margin), k))
    target, zones = targets[worst], {site.time_zone for site in sites}
    zone = ZoneInfo(zones.pop()) if len(zones) == 1 else ZoneInfo("UTC")
    start, end = (at.astimezone(zone) for at in (target.interval.start_at, target.interval.end_at))
    return (
        f"needs {target.target_kw:,.0f} kW and {margin:.0%} to spare at {start:%H:%M}-{end:%H:%M} {end:%Z}, "
        f"fleet can hold {held_kw[worst]:,.0f} kW{without}"
    )
