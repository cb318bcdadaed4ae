"""An allocation: who does what, what it costs, and how sure that is the best.

Called by `exact.py` and `realtime.py`, which both answer a problem in this shape. Energy and cost are
worked out here from battery power alone, independent of whatever found it.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.limits import ceiling_kwh, floor_kwh, max_charge_kw, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats

NOISE_KW = 1e-9
ROUNDING_KW = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """The answer to a `Problem`.

    Attributes:
        battery_kw: discharge positive [kW], (N,T).
        soc: state of charge at the start of each step and at the end, 0-1, (N,T+1).
        shortfall_kw: what is owed or offered and not delivered [kW], (T,).
        capacity_kw: power held through each capacity window [kW], (K,).
        marginal_price_per_kwh: cost of one more kWh owed in each step, (T,); zero where none is owed.
        site_cost: energy, demand increments and wear less the worth of stored energy, (N,).
        objective: sum of site costs, shortfall and excess, less what capacity earns.
        bound: no answer can cost less; -inf where nothing is proven.
        gap: (objective - bound) / max(1, |objective|).
        status: "optimal", or "realtime_split" where no solver gave a proven answer in time.
        solver: which solver gave it; "none" for the split.
        seconds: wall time [s].
        attempts: what each solver that was tried said.
        over_export, over_import: site limits that even an idle battery breaks, (N,T).
    """

    battery_kw: Floats
    soc: Floats
    shortfall_kw: Floats
    capacity_kw: Floats
    marginal_price_per_kwh: Floats
    site_cost: Floats
    objective: float
    bound: float
    gap: float
    status: str
    solver: str
    seconds: float
    attempts: tuple[str, ...]
    over_export: Bools
    over_import: Bools


def feasible(problem: Problem, battery_kw: Floats) -> tuple[Floats, Floats]:
    """Return battery power and energy [kWh] (N,T+1) with every hard limit kept to the last digit.

    Takes off solver noise, and charging that no longer fits once charge and discharge of one step
    are netted (netting leaves the battery fuller than the solver thought, never emptier).
    """
    floor, ceiling = floor_kwh(problem), ceiling_kwh(problem)
    wanted = np.clip(battery_kw, -max_charge_kw(problem), max_discharge_kw(problem))
    wanted[np.abs(wanted) < NOISE_KW] = 0.0
    energy = np.empty((problem.sites, problem.steps + 1))
    energy[:, 0] = problem.soc * problem.capacity_kwh
    for t in range(problem.steps):
        hours = problem.step_h[t]
        most = (energy[:, t] - floor) * problem.discharge_efficiency / hours
        least = -(ceiling - energy[:, t]) / (problem.charge_efficiency * hours)
        wanted[:, t] = np.clip(wanted[:, t], np.minimum(least, 0.0), np.maximum(most, 0.0))
        energy[:, t + 1] = np.clip(energy[:, t] - _drawn_kw(problem, wanted[:, t]) * hours, floor, ceiling)
    return wanted, energy


def site_cost(problem: Problem, battery_kw: Floats, energy_kwh: Floats) -> Floats:
    """Cost of each site, (N,): tariff, demand increments, wear, less the worth of what stays stored."""
    net = problem.net_load_kw - battery_kw
    bought, sold = np.clip(net, 0.0, None), np.clip(-net, 0.0, problem.export_limit_kw[:, None])
    energy = bought * problem.import_price_per_kwh - sold * problem.export_price_per_kwh
    energy += np.clip(battery_kw, 0.0, None) * problem.wear_price_per_kwh[:, None]
    cost = energy @ problem.step_h - problem.terminal_value_per_kwh * energy_kwh[:, -1]
    for w, window in enumerate(problem.demand_window):
        if window.any():
            raised = np.clip(bought[:, window].max(axis=1) - problem.peak_so_far_kw[:, w], 0.0, None)
            cost += raised * problem.demand_price_per_kw[:, w]
    return np.asarray(cost)


def fleet_cost(problem: Problem, battery_kw: Floats, capacity_kw: Floats) -> tuple[Floats, float]:
    """Return the shortfall [kW] (T,) and what shortfall and excess cost less what capacity earns."""
    delivered = battery_kw.sum(axis=0) + problem.fixed_kw
    owed = np.where(problem.committed, problem.commitment_kw, 0.0)
    offered = problem.capacity_window >= 0
    if offered.any():
        owed[offered] = capacity_kw[problem.capacity_window[offered]]
    coupled = problem.committed | offered
    shortfall = np.where(coupled, np.clip(owed - delivered, 0.0, None), 0.0)
    excess = np.where(coupled & problem.committed, np.clip(delivered - owed, 0.0, None), 0.0)
    shortfall[shortfall < ROUNDING_KW] = 0.0
    priced = shortfall * problem.shortfall_price_per_kwh + excess * problem.excess_price_per_kwh
    earned = float(problem.capacity_price_per_kw @ capacity_kw)
    return shortfall, float(priced @ problem.step_h) - earned


def _drawn_kw(problem: Problem, battery_kw: Floats) -> Floats:
    """Power taken out of storage for a power at the terminals, (N,)."""
    return np.where(battery_kw > 0, battery_kw / problem.discharge_efficiency, battery_kw * problem.charge_efficiency)
