"""What the fleet can hold: exact answers before anything is promised.

Called by the service. A closed form where limits are constant and nothing is at stake besides energy;
the linear programme with capacity as a variable everywhere else.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.exact import Options, solve
from vpp.allocation.limits import charge_pieces, floor_kwh, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats


def held_kw(power_kw: Floats, energy_kwh: Floats, hours: float) -> float:
    """Most power sites hold together for `hours` [kW]: sum of min(p, e/h)."""
    return float(np.minimum(power_kw, energy_kwh / hours).sum())


def shape_scale(target_kw: Floats, step_h: Floats, power_kw: Floats, energy_kwh: Floats) -> float:
    """Largest factor by which a shaped request could be multiplied and still be served; inf for none asked.

    The E-p transform (Evans, Tindemans and Angeli 2019): the k largest steps, s hours long, must not
    ask for more than sum of min(p s, e), for every k. Valid for constant limits without recharging.
    """
    order = np.argsort(-target_kw, kind="stable")
    hours = np.cumsum(step_h[order])
    asked = np.cumsum((target_kw * step_h)[order])
    can = np.array([np.minimum(power_kw * s, energy_kwh).sum() for s in hours])
    some = asked > 0
    return float((can[some] / asked[some]).min()) if some.any() else float("inf")


def closed_form_holds(problem: Problem, event: Bools) -> bool:
    """Whether the closed form is exact: constant limits in the event, no charging until its end, no peak at risk.

    And every kWh counts the same wherever it comes from: no feeder, no programme of some of the sites.
    """
    steps = np.flatnonzero(event)
    if not steps.size or (problem.feeder >= 0).any() or problem.program_commitment_kw.any():
        return False
    limit = max_discharge_kw(problem)[:, event]
    until = steps[-1] + 1
    charging = any((piece.bound_kw[:, :until] > 0).any() for piece in charge_pieces(problem))
    over = problem.net_load_kw[:, None, :] > problem.peak_so_far_kw[:, :, None]
    at_risk = (over & problem.demand_window[None] & (problem.demand_price_per_kw > 0)[:, :, None]).any()
    constant = np.ptp(limit, axis=1).max(initial=0.0) <= 1e-9
    return bool(constant) and not charging and not bool(at_risk)


@dataclass(frozen=True, slots=True)
class Held:
    """Power held through each window [kW], (K,), how it was found, and the allocation behind it if any."""

    kw: Floats
    method: str
    allocation: Allocation | None = None


def most_held(problem: Problem, asked_kw: Floats, options: Options | None = None) -> Held:
    """Return how much of what is asked in each capacity window can be held throughout it.

    The problem's `capacity_limit_kw` is what is asked; its prices must make shortage in a window
    dearer than giving up its capacity. Owner's demand peaks come first if their price says so.
    """
    event = problem.capacity_window >= 0
    if closed_form_holds(problem, event):
        energy = (problem.soc * problem.capacity_kwh - floor_kwh(problem)) * problem.discharge_efficiency
        need = np.clip(asked_kw[problem.capacity_window[event]] - problem.fixed_kw[event], 0.0, None)
        limit = max_discharge_kw(problem)[:, event].min(axis=1, initial=np.inf)
        if shape_scale(need, problem.step_h[event], limit, np.clip(energy, 0.0, None)) >= 1.0:
            return Held(asked_kw.copy(), "closed_form")
    answer = solve(problem, options)
    # a window cannot hold more than its worst step, whatever the solver says
    worst = np.array([
        answer.capacity_kw[k] - answer.shortfall_kw[problem.capacity_window == k].max(initial=0.0)
        for k in range(len(asked_kw))
    ])  # fmt: skip
    if answer.status != "optimal":
        delivered = answer.battery_kw.sum(axis=0) + problem.fixed_kw
        worst = np.array([
            min(asked_kw[k], delivered[problem.capacity_window == k].min(initial=np.inf)) for k in range(len(asked_kw))
        ])  # fmt: skip
    return Held(np.clip(worst, 0.0, None), f"linear_programme ({answer.status})", answer)
