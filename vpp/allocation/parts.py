"""The two kinds of sites of a plan or promise: those that take kW, and mode-only ones as fixed blocks.

Called by `service.py` and `promise.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vpp.allocation.blocks import ModeState
from vpp.allocation.discrete.choices import GREEDY, Limits, choose_best, others_of
from vpp.allocation.from_sites import Policy, View, build_problem, view
from vpp.domain.fleet import Bools, FleetState, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval

EVERY_CYCLE = Limits(prove=False)
"""A cycle takes what comparing single sites finds, some 50 ms for 60 of them; a proof would take four times that."""


def views(
    sites: Sequence[Site], state: FleetState, net_load_kw: Floats, can: Bools, modes: Mapping[str, ModeState],
    drift_soc: Floats, fatigue: Floats | None = None,
) -> tuple[View, View]:  # fmt: skip
    """The usable sites that take kW, and those that only know on and off.

    These devices stop at the reserve by themselves: a buffer above it would only mislead the forecast.
    """
    is_mode = np.array([site.id in modes for site in sites], dtype=bool).reshape(len(sites))
    takes_kw = view(sites, state, net_load_kw, can & ~is_mode, drift_soc, fatigue)
    return takes_kw, view(sites, state, net_load_kw, can & is_mode, np.zeros(len(sites)), fatigue)


def fixed_blocks(
    by_mode: View, takes_kw: View, steps: Sequence[Interval], target_kw: Floats, event: Bools,
    modes: Mapping[str, ModeState], policy: Policy,
) -> tuple[Floats, dict[str, Any]]:  # fmt: skip
    """Power of the mode-only sites (M,T), and what to say about them."""
    if not by_mode.sites:
        return np.zeros((0, len(steps))), {"blocks_running": 0, "blocks_starting": 0}
    others = others_of(build_problem(takes_kw, steps, event, policy, committed=event))
    states = [modes[site.id] for site in by_mode.sites]
    problem = build_problem(
        by_mode, steps, event, policy, committed=event,
        shortfall_price_per_kwh=np.full(len(steps), policy.shortfall_price_per_kwh),
        excess_price_per_kwh=np.full(len(steps), policy.excess_price_per_kwh),
    )  # fmt: skip
    choice = choose_best(problem, states, target_kw, others, measured_kw=by_mode.battery_kw, limits=EVERY_CYCLE)
    power_kw = choice.blocks.power_kw
    now = power_kw[:, 0] > 0 if len(steps) else np.zeros(len(states), dtype=bool)
    was = np.array([state is ModeState.RUNNING for state in states], dtype=bool)
    return power_kw, {
        "blocks_running": int((now & was).sum()), "blocks_starting": int((now & ~was).sum()),
        "blocks_method": choice.method,
        "blocks_saved": 0.0 if choice.method == GREEDY else choice.greedy_cost - choice.cost,
    }  # fmt: skip


def soc_of(seen: View, steps: Sequence[Interval], power_kw: Floats) -> Floats:
    """Expected charge of sites that only discharge, (M,T+1)."""
    if not seen.sites:
        return np.zeros((0, len(steps) + 1))
    stored = np.array([site.battery.capacity_kwh * site.battery.discharge_efficiency for site in seen.sites])
    used = np.cumsum(power_kw * np.array([step.duration_h for step in steps]), axis=1) / stored[:, None]
    charge = seen.soc[:, None] - np.concatenate((np.zeros((len(seen.sites), 1)), used), axis=1)
    return np.asarray(np.clip(charge, 0.0, 1.0))
