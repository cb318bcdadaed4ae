"""The plan of one control cycle for a fleet of sites.

Called by dispatch once a cycle. Nothing is kept between calls, and the answer depends only on the
input, not on the order of sites.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.blocks import ModeState
from vpp.allocation.exact import solve
from vpp.allocation.from_sites import Policy, View, build_problem, drift_buffers, fatigue_of, needed_at_home, usable
from vpp.allocation.grid_limits import GridLimits, as_feeders, beside_kw, held, may_run_modes, told
from vpp.allocation.horizon import owed
from vpp.allocation.metrics import counted
from vpp.allocation.parts import fixed_blocks, soc_of, views
from vpp.allocation.promise import Capability, capability
from vpp.allocation.reasons import reasons
from vpp.domain.commitment import TargetInterval
from vpp.domain.fleet import Bools, FleetState, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval

SOONER = 0.01

__all__ = ["Capability", "Plan", "capability", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What every site should do, in the caller's order of sites.

    Attributes:
        site_ids, steps: the axes.
        usable: sites with a good reading that are tied to the grid, (N,); the others get no power.
        power_kw: battery power, discharge positive [kW], (N,T). Only steps of the event are orders;
            later ones show what the energy kept back is for.
        shortfall_kw: what is owed and not planned [kW], (T,).
        expected_soc: at the start of each step and at the end, (N,T+1); meaningful where `usable`.
        info: how it was solved, JSON-able: status, solver, seconds, objective, gap, counts; and why each
            site does what it does in the first step (`reasons.py`).
    """

    site_ids: tuple[str, ...]
    steps: tuple[Interval, ...]
    usable: Bools
    power_kw: Floats
    shortfall_kw: Floats
    expected_soc: Floats
    info: dict[str, Any]


def plan(
    sites: Sequence[Site], state: FleetState, net_load_kw: Floats, targets: Sequence[TargetInterval],
    steps: Sequence[Interval], *, mode_sites: Mapping[str, ModeState] | None = None, policy: Policy | None = None,
    hours_since_full_charge: Floats | None = None, recent_discharge_kwh: Floats | None = None,
    limits: GridLimits | None = None,
) -> Plan:  # fmt: skip
    """Split what is owed over the sites for the rest of the event.

    Args:
        sites: every enrolled site of the programme.
        state: the fleet's state; sites without a good reading or islanded are left out.
        net_load_kw: forecast load less PV without the battery [kW], (N,T), rows as `sites`.
        targets: the event's targets.
        steps: contiguous, from now; `horizon_steps` gives them.
        mode_sites: the sites that take no setpoint, by id, with where they stand in this event.
        hours_since_full_charge: (N,), NaN where unknown: the buffer above the reserve follows it.
        recent_discharge_kwh: energy each site gave lately, (N,), NaN where unknown: who worked more is spared.
        limits: capacity limits in force, kept whatever it costs.

    Raises:
        InvalidRequest: arrays that do not fit, or NaN in the forecast of a usable site.
    """
    started = time.perf_counter()
    policy = policy or Policy()
    modes, limits = mode_sites or {}, limits or GridLimits()
    good = usable(sites, state)
    can = good & ~needed_at_home(sites, state, np.asarray(net_load_kw), steps, policy)
    target_kw, committed = owed(targets, steps)
    can &= may_run_modes(limits, sites, modes, [step for step, owes in zip(steps, committed, strict=True) if owes])
    aimed_kw = target_kw * (1.0 + policy.delivery_margin)
    drift_soc = drift_buffers(sites, policy, hours_since_full_charge)
    tired = None if recent_discharge_kwh is None else fatigue_of(sites, recent_discharge_kwh, policy.fatigue)
    takes_kw, by_mode = views(sites, state, net_load_kw, can, modes, drift_soc, tired)
    block_power, block_info = fixed_blocks(by_mode, takes_kw, steps, aimed_kw, committed, modes, policy)
    beside = beside_kw(limits, takes_kw, good, np.asarray(net_load_kw), block_power.sum(axis=0))
    problem = build_problem(
        takes_kw, steps, committed, policy, headroom=True, **as_feeders(limits, takes_kw, steps, beside),
        commitment_kw=aimed_kw, committed=committed, fixed_kw=block_power.sum(axis=0),
        shortfall_price_per_kwh=_shortfall_price(len(steps), policy),
        excess_price_per_kwh=np.full(len(steps), policy.excess_price_per_kwh),
    )  # fmt: skip
    answer = counted(solve(problem, policy.options_for(problem)))
    power, soc = np.zeros((len(sites), len(steps))), np.zeros((len(sites), len(steps) + 1))
    within = held(limits, takes_kw.sites, steps, takes_kw.net_load_kw, answer.battery_kw, beside)
    power[list(takes_kw.rows)], soc[list(takes_kw.rows)] = within, _soc_of(takes_kw, steps, answer, within)
    power[list(by_mode.rows)], soc[list(by_mode.rows)] = block_power, soc_of(by_mode, steps, block_power)
    short = np.where(committed, np.clip(target_kw - power.sum(axis=0), 0.0, None), 0.0)
    info = {
        **_solved(answer, takes_kw),
        "sites": len(sites), "usable": int(can.sum()), "mode_sites": len(by_mode.sites), **block_info,
        "reasons": reasons(sites, good, takes_kw, by_mode, problem, answer, power),
        **({"limits": told(limits, steps[0])} if limits and steps else {}),
    }  # fmt: skip
    info["seconds"] = round(time.perf_counter() - started, 4)
    return Plan(
        site_ids=tuple(site.id for site in sites), steps=tuple(steps), usable=can, power_kw=power,
        shortfall_kw=np.where(short < 1e-6, 0.0, short), expected_soc=soc, info=info,
    )  # fmt: skip


def _solved(answer: Allocation, takes_kw: View) -> dict[str, Any]:
    return {
        "status": answer.status, "method": answer.method, "solver": answer.solver,
        "attempts": list(answer.attempts), "audit": answer.audit,
        "solve_seconds": round(answer.seconds, 4),
        "objective": answer.objective, "gap": answer.gap if np.isfinite(answer.gap) else None,
        "marginal_price_per_kwh": [round(float(price), 6) for price in answer.marginal_price_per_kwh],
        "idle_over_export": _named(takes_kw, answer.over_export),
        "idle_over_import": _named(takes_kw, answer.over_import),
    }  # fmt: skip


def _shortfall_price(steps: int, policy: Policy) -> Floats:
    """A little dearer the sooner, so that what cannot be met is missing late, when more may have changed."""
    return policy.shortfall_price_per_kwh * np.linspace(1.0 + SOONER, 1.0, steps)


def _soc_of(seen: View, steps: Sequence[Interval], answer: Allocation, within_kw: Floats) -> Floats:
    """Expected charge, (N,T+1), with what limits cut off left in the batteries or out of them."""
    less_kw = answer.battery_kw - within_kw
    if not less_kw.any():
        return answer.soc
    battery = [site.battery for site in seen.sites]
    out = np.array([one.discharge_efficiency * one.capacity_kwh for one in battery])[:, None]
    into = np.array([one.charge_efficiency / one.capacity_kwh for one in battery])[:, None]
    kept = np.where(less_kw > 0, less_kw / out, less_kw * into) * np.array([step.duration_h for step in steps])
    kept = np.concatenate((np.zeros((len(battery), 1)), np.cumsum(kept, axis=1)), axis=1)
    return np.asarray(np.clip(answer.soc + kept, 0.0, 1.0))


def _named(seen: View, where: Bools) -> list[str]:
    return [seen.sites[i].id for i in np.unique(np.nonzero(where)[0])]
