"""The split of kW over sites without a solver: by marginal cost, or by greatest time-to-go.

Called by `exact.py` when no solver answers in time, and by whoever needs one interval split at once.
Greatest time-to-go serves any request that can be served at all, if limits stay and nobody recharges
(Evans, Tindemans and Angeli, IEEE Trans. Power Systems 34(5), 2019).
"""

import numpy as np

from vpp.allocation.limits import discharge_pieces, floor_kwh, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats

BISECTIONS = 60


def split_by_cost(target_kw: float, limit_kw: Floats, price_per_kwh: Floats) -> Floats:
    """Fill the cheapest first up to the target [kW]; ties go to the lower index. Shapes (N,)."""
    order = np.argsort(price_per_kwh, kind="stable")
    reached = np.cumsum(limit_kw[order])
    share = np.zeros(len(limit_kw))
    share[order] = np.clip(target_kw - (reached - limit_kw[order]), 0.0, limit_kw[order])
    return share


def split_by_time_to_go(target_kw: float, limit_kw: Floats, energy_kwh: Floats, step_h: float) -> Floats:
    """Split so that the sites' remaining hours at full power become as equal as they can.

    Args:
        target_kw: power wanted in this step.
        limit_kw: most each site may discharge, (N,).
        energy_kwh: what each may still deliver at its terminals, (N,).
        step_h: length of the step [h].
    """
    most = np.minimum(limit_kw, energy_kwh / step_h)
    if target_kw >= most.sum():
        return np.asarray(most)
    hours = np.divide(energy_kwh, limit_kw, out=np.zeros_like(energy_kwh), where=limit_kw > 0)
    low, high = 0.0, float(hours.max(initial=0.0))
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        if np.clip((hours - level) * limit_kw / step_h, 0.0, most).sum() > target_kw:
            low = level
        else:
            high = level
    share = np.clip((hours - high) * limit_kw / step_h, 0.0, most)
    # sites at exactly the same hours would otherwise leave a last few watts open
    left_kw = target_kw - float(share.sum())
    room = np.clip((hours - low) * limit_kw / step_h, 0.0, most) - share
    return np.asarray(share + (room * min(1.0, left_kw / room.sum()) if room.sum() > 0 else 0.0))


def split_step(problem: Problem, step: int, target_kw: float) -> Floats:
    """Split one step's kW by marginal cost: saved import before export, wear and stored worth counted."""
    pieces = discharge_pieces(problem)
    energy = (problem.soc * problem.capacity_kwh - floor_kwh(problem)) * problem.discharge_efficiency
    worth = problem.terminal_value_per_kwh / problem.discharge_efficiency
    own = np.minimum(pieces[0].bound_kw[:, step], np.clip(energy, 0.0, None) / problem.step_h[step])
    out = np.minimum(pieces[1].bound_kw[:, step], np.clip(energy, 0.0, None) / problem.step_h[step] - own)
    price = np.concatenate([piece.price_per_kwh[:, step] + worth for piece in pieces])
    share = split_by_cost(target_kw, np.concatenate((own, out)), price)
    return np.asarray(share[: problem.sites] + share[problem.sites :])


def split_all(problem: Problem) -> Floats:
    """Battery power (N,T) for every step without a solver.

    Keeps back what a site needs against its own demand peaks, then serves what is owed by greatest
    time-to-go. Never charges.
    """
    limit, shave = max_discharge_kw(problem), shaving_kw(problem)
    energy = (problem.soc * problem.capacity_kwh - floor_kwh(problem)) * problem.discharge_efficiency
    energy = np.clip(energy, 0.0, None)
    later = np.cumsum((shave * problem.step_h)[:, ::-1], axis=1)[:, ::-1]
    power = np.zeros_like(limit)
    asked, coupled = asked_kw(problem)
    for t in range(problem.steps):
        hours = problem.step_h[t]
        power[:, t] = np.minimum(shave[:, t], energy / hours)
        if coupled[t]:
            owed = max(0.0, float(asked[t] - problem.fixed_kw[t] - power[:, t].sum()))
            kept = later[:, t + 1] if t + 1 < problem.steps else 0.0
            spare = np.clip(energy - power[:, t] * hours - kept, 0.0, None)
            power[:, t] += split_by_time_to_go(owed, limit[:, t] - power[:, t], spare, hours)
        energy = np.clip(energy - power[:, t] * hours, 0.0, None)
    return power


def asked_kw(problem: Problem) -> tuple[Floats, Bools]:
    """Power owed or offered in each step [kW], (T,), and where there is any; unlimited offers ask for all."""
    offered = problem.capacity_window >= 0
    asked = np.where(problem.committed, problem.commitment_kw, 0.0)
    asked[offered] = problem.capacity_limit_kw[problem.capacity_window[offered]]
    return asked, np.asarray(problem.committed | offered)


def shaving_kw(problem: Problem) -> Floats:
    """Discharge that keeps each site at or below its priced peaks [kW], (N,T)."""
    over = np.zeros_like(problem.net_load_kw)
    for w, window in enumerate(problem.demand_window):
        priced = (problem.demand_price_per_kw[:, w] > 0)[:, None] & window
        over = np.maximum(over, np.where(priced, problem.net_load_kw - problem.peak_so_far_kw[:, w, None], 0.0))
    return np.asarray(np.minimum(over, max_discharge_kw(problem)))
