"""An allocation: who does what, what it costs, and how sure that is the best.

Called by whatever answers a problem, exactly or not: all make their `Allocation` with `assemble`, which
keeps every hard limit and costs the battery power anew, independent of what found it.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpp.allocation.feeders import TOLERANCE_KW, Room, below, held, room
from vpp.allocation.limits import ceiling_kwh, floor_kwh, idle_breach, max_charge_kw, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.allocation.programs import serve
from vpp.domain.fleet import Bools, Floats

NOISE_KW = 1e-9
ROUNDING_KW = 1e-6
BLOCK_SITES = 2048
"""Sites that are gone through together: few enough to stay in the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """The answer to a `Problem`.

    Attributes:
        battery_kw: discharge positive [kW], (N,T).
        soc: state of charge at the start of each step and at the end, 0-1, (N,T+1).
        shortfall_kw: what is owed or offered and not done [kW], (T,); of turn-up, what is not absorbed.
        capacity_kw: power held through each capacity window [kW], (K,).
        program_shortfall_kw: what is owed to each programme and not delivered [kW], (C,T).
        marginal_price_per_kwh: worth of one more kWh discharged by the fleet in each step, (T,): 0 or more
            where delivery is owed (less only by a price on excess), 0 or less where absorption is owed,
            zero where nothing is. Where programmes count different sites: at a site that all may count.
        feeder_price_per_kwh: what a kWh discharged is worth more at the sites below each feeder than above
            it, (F,T): 0 or less where its export limit holds, 0 or more where its import limit does.
        site_cost: energy, demand increments and wear less the worth of stored energy, (N,).
        objective: sum of site costs, shortfalls and excess, less what capacity earns.
        bound: no answer can cost less; -inf where nothing is proven.
        gap: (objective - bound) / max(1, |objective|).
        status: "optimal" where the gap is at most what was asked; "feasible" where time did not suffice
            for that; "realtime_split" where no method had an answer in time.
        method: "linear_programme", "sequential" or "realtime_split".
        solver: which solver gave it; "none" without one.
        seconds: wall time [s].
        attempts: what each solver that was tried said.
        over_export, over_import: site limits that even an idle battery breaks, (N,T).
        over_feeder: feeder limits that idle batteries break, (F,T).
        audit: what a second look at the answer found; None without one.
    """

    battery_kw: Floats
    soc: Floats
    shortfall_kw: Floats
    capacity_kw: Floats
    program_shortfall_kw: Floats
    marginal_price_per_kwh: Floats
    feeder_price_per_kwh: Floats
    site_cost: Floats
    objective: float
    bound: float
    gap: float
    status: str
    method: str
    solver: str
    seconds: float
    attempts: tuple[str, ...]
    over_export: Bools
    over_import: Bools
    over_feeder: Bools
    audit: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FleetCost:
    """Shortfalls [kW], (T,) and (C,T), and what they and excess cost less what capacity earns."""

    shortfall_kw: Floats
    program_shortfall_kw: Floats
    cost: float


def assemble(
    problem: Problem, battery_kw: Floats, *, started: float, gap: float, bound: float = -np.inf,
    capacity_kw: Floats | None = None, marginal_price_per_kwh: Floats | None = None,
    feeder_price_per_kwh: Floats | None = None, method: str, solver: str = "none",
    attempts: tuple[str, ...] = (), status: str | None = None, audit: dict[str, Any] | None = None,
) -> Allocation:  # fmt: skip
    """Make the power keep every hard limit, cost it anew and put the answer together.

    Args:
        problem: what was solved.
        battery_kw: discharge positive [kW], (N,T); taken over and changed in place.
        started: `time.perf_counter()` when the solve began.
        gap: what makes the answer "optimal", unless `status` names it.
        bound: what no answer can cost less than.
        capacity_kw, marginal_price_per_kwh, feeder_price_per_kwh: as in `Allocation`; default 0.
        method, solver, attempts, status, audit: as in `Allocation`.
    """
    energy = _keep_limits(problem, battery_kw)
    if capacity_kw is None:
        capacity_kw = np.zeros(len(problem.capacity_price_per_kw))
    costs = site_cost(problem, battery_kw, energy)
    fleet = fleet_cost(problem, battery_kw, capacity_kw)
    objective = float(costs.sum()) + fleet.cost
    bound = min(bound, objective)  # a solver's bound may pass a feasible answer by its rounding only
    reached = (objective - bound) / max(1.0, abs(objective))
    energy /= problem.capacity_kwh[:, None]
    idle = idle_breach(problem)
    over_feeder = room(problem).over
    return Allocation(
        battery_kw=battery_kw, soc=energy, shortfall_kw=fleet.shortfall_kw, capacity_kw=capacity_kw,
        program_shortfall_kw=fleet.program_shortfall_kw,
        marginal_price_per_kwh=_or_zeros(marginal_price_per_kwh, (problem.steps,)),
        feeder_price_per_kwh=_or_zeros(feeder_price_per_kwh, over_feeder.shape),
        site_cost=costs, objective=objective, bound=bound, gap=reached,
        status=status or ("optimal" if reached <= gap else "feasible"), method=method, solver=solver,
        seconds=time.perf_counter() - started, attempts=attempts,
        over_export=idle.over_export, over_import=idle.over_import, over_feeder=over_feeder, audit=audit,
    )  # fmt: skip


def feasible(problem: Problem, battery_kw: Floats) -> tuple[Floats, Floats]:
    """Return battery power and energy [kWh] (N,T+1) with every hard limit kept to the last digit.

    Takes off solver noise, and charging that no longer fits once charge and discharge of one step
    are netted (netting leaves the battery fuller than the solver thought, never emptier). Where a
    feeder's limit would break, batteries below it are scaled back; none ever does more.
    """
    power = np.array(battery_kw, dtype=np.float64)
    return power, _keep_limits(problem, power)


def site_cost(problem: Problem, battery_kw: Floats, energy_kwh: Floats) -> Floats:
    """Cost of each site, (N,): tariff, demand increments, wear, less the worth of what stays stored."""
    cost = np.empty(problem.sites)
    for rows in _blocks(problem):
        cost[rows] = _block_cost(problem.only(rows), battery_kw[rows], energy_kwh[rows])
    return cost


def fleet_cost(problem: Problem, battery_kw: Floats, capacity_kw: Floats) -> FleetCost:
    """Return what is missing for all that is owed or offered, and what that costs."""
    owed = np.where(problem.committed, problem.commitment_kw, 0.0)
    offered = problem.capacity_window >= 0
    owed[offered] = capacity_kw[problem.capacity_window[offered]]
    coupled = problem.committed | offered
    served = serve(problem, battery_kw, np.where(coupled, owed - problem.fixed_kw, -np.inf))
    missing = np.where(owed < 0, -1.0, 1.0) * (owed - served.rest_kw - problem.fixed_kw)
    shortfall = np.where(coupled, np.clip(missing, 0.0, None), 0.0)
    excess = np.where(problem.committed, np.clip(-missing, 0.0, None), 0.0)
    by_program = np.clip(problem.program_commitment_kw - served.programs_kw, 0.0, None)
    shortfall[shortfall < ROUNDING_KW] = 0.0
    by_program[by_program < ROUNDING_KW] = 0.0
    priced = shortfall * problem.shortfall_price_per_kwh + excess * problem.excess_price_per_kwh
    priced += (by_program * problem.program_shortfall_price_per_kwh).sum(axis=0)
    earned = float(problem.capacity_price_per_kw @ capacity_kw)
    return FleetCost(shortfall, by_program, float(priced @ problem.step_h) - earned)


def _blocks(problem: Problem) -> list[slice]:
    return [slice(first, first + BLOCK_SITES) for first in range(0, problem.sites, BLOCK_SITES)]


def _block_cost(problem: Problem, battery_kw: Floats, energy_kwh: Floats) -> Floats:
    net = problem.net_load_kw - battery_kw
    bought, sold = np.clip(net, 0.0, None), np.clip(-net, 0.0, problem.export_limit_kw[:, None])
    energy = bought * problem.import_price_per_kwh - sold * problem.export_price_per_kwh
    wearing = np.clip(battery_kw, 0.0, None)
    gentler = 1.0
    for rate, factor in zip(problem.wear_c_rate, problem.wear_factor, strict=True):
        wearing += (factor - gentler) * np.clip(battery_kw - rate * problem.capacity_kwh[:, None], 0.0, None)
        gentler = factor
    energy += wearing * problem.wear_price_per_kwh[:, None]
    cost = energy @ problem.step_h - problem.terminal_value_per_kwh * energy_kwh[:, -1]
    for w, window in enumerate(problem.demand_window):
        if window.any():
            raised = np.clip(bought[:, window].max(axis=1) - problem.peak_so_far_kw[:, w], 0.0, None)
            cost += raised * problem.demand_price_per_kw[:, w]
    return np.asarray(cost)


def _keep_limits(problem: Problem, battery_kw: Floats) -> Floats:
    """Cut power back in place to every hard limit; returns the energy that follows [kWh], (N,T+1)."""
    energy = np.empty((problem.sites, problem.steps + 1))
    for rows in _blocks(problem):
        _follow(problem.only(rows), battery_kw[rows], energy[rows])
    if len(problem.feeder_parent):
        limits, flow = room(problem), below(problem, battery_kw)
        spare = TOLERANCE_KW / 2
        if ((flow > limits.most_kw + spare) | (flow < limits.least_kw - spare)).any():
            _follow(problem, battery_kw, energy, limits)
    return energy


def _follow(problem: Problem, battery_kw: Floats, energy_kwh: Floats, feeders: Room | None = None) -> None:
    """Go through the steps, cutting power back in place to what power, energy and feeders allow."""
    floor, ceiling = floor_kwh(problem), ceiling_kwh(problem)
    wanted = np.clip(battery_kw, -max_charge_kw(problem), max_discharge_kw(problem))
    wanted[np.abs(wanted) < NOISE_KW] = 0.0
    wanted = np.ascontiguousarray(wanted.T)  # a step's values side by side
    energy = np.empty((problem.steps + 1, problem.sites))
    energy[0] = problem.soc * problem.capacity_kwh
    for t in range(problem.steps):
        hours = problem.step_h[t]
        most = (energy[t] - floor) * problem.discharge_efficiency / hours
        least = -(ceiling - energy[t]) / (problem.charge_efficiency * hours)
        wanted[t] = np.clip(wanted[t], np.minimum(least, 0.0), np.maximum(most, 0.0))
        if feeders is not None:
            wanted[t] = held(problem, feeders, t, wanted[t])
        energy[t + 1] = np.clip(energy[t] - _drawn_kw(problem, wanted[t]) * hours, floor, ceiling)
    battery_kw[:], energy_kwh[:] = wanted.T, energy.T


def _drawn_kw(problem: Problem, battery_kw: Floats) -> Floats:
    """Power taken out of storage for a power at the terminals, (N,)."""
    return np.where(battery_kw > 0, battery_kw / problem.discharge_efficiency, battery_kw * problem.charge_efficiency)


def _or_zeros(value: Floats | None, shape: tuple[int, ...]) -> Floats:
    return np.zeros(shape) if value is None else value
