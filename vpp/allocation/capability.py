"""What the fleet can hold: exact answers before anything is promised.

Called by the service. A closed form where limits are constant and nothing is at stake besides energy;
`solve` with capacity as a variable everywhere else.

The closed form is the E-p transform (Evans, Tindemans and Angeli, IEEE Trans. Power Systems 34(5), 2019):
with power p and deliverable energy e per site, what can be asked in any s hours is at most
g(s) = sum of min(p s, e), and a request is servable if and only if its largest s hours ask for no more, for
every s.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.exact import Options, solve
from vpp.allocation.limits import floor_kwh, max_charge_kw, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import MANY, threads_for
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

CLOSED_FORM = "closed_form"
ROWS = 65_536
"""Sites looked at together: their arrays stay in the processor's cache."""
ROUNDING_KW = 1e-9


def held_kw(power_kw: Floats, energy_kwh: Floats, hours: float) -> float:
    """Most power sites hold together for `hours` [kW]: sum of min(p, e/h).

    Raises:
        InvalidRequest: no hours.
    """
    if not hours > 0:
        raise InvalidRequest("hours", hours, "above 0")
    return sum(
        float(np.minimum(power_kw[at : at + ROWS], energy_kwh[at : at + ROWS] * (1.0 / hours)).sum())
        for at in range(0, len(power_kw), ROWS)
    )


def within_kwh(hours: Floats, power_kw: Floats, energy_kwh: Floats) -> Floats:
    """Most energy sites deliver together within so many hours [kWh], (T,): sum of min(p s, e)."""
    edges, place = np.unique(hours, return_inverse=True)
    if len(power_kw) >= MANY:
        # imported late: the compiler takes most of a second to load
        from vpp.allocation import split_kernels as kernels

        energy, power = kernels.by_hours(edges, power_kw, energy_kwh, threads_for(None))
    else:
        lasting = np.divide(energy_kwh, power_kw, out=np.zeros(len(power_kw)), where=power_kw > 0)
        # bin k: empty after edges[k - 1] and by edges[k]; the last bin outlasts all
        bin_of = np.searchsorted(edges, lasting)
        energy = np.bincount(bin_of, np.where(power_kw > 0, energy_kwh, 0.0), len(edges) + 1).astype(np.float64)
        power = np.bincount(bin_of, power_kw, len(edges) + 1).astype(np.float64)
    still_kw = np.cumsum(power[::-1])[::-1][1:]
    return np.asarray((np.cumsum(energy)[:-1] + still_kw * edges)[place])


def shape_scale(target_kw: Floats, step_h: Floats, power_kw: Floats, energy_kwh: Floats) -> float:
    """Largest factor by which a shaped request could be multiplied and still be served; inf for none asked.

    Valid for constant limits without recharging.
    """
    order = np.argsort(-target_kw, kind="stable")
    asked = np.cumsum((target_kw * step_h)[order])
    some = asked > 0
    if not some.any():
        return float("inf")
    can = within_kwh(np.cumsum(step_h[order])[some], power_kw, energy_kwh)
    return float((can / asked[some]).min())


def closed_form_holds(problem: Problem, event: Bools) -> bool:
    """Whether the closed form is exact for the capacity or commitment of these steps, (T,).

    It needs constant limits in the event, no charging until its end, no peak at risk, no feeder, no
    further programme, and nothing owed outside the event.
    """
    steps = np.flatnonzero(event)
    if not steps.size or (problem.feeder >= 0).any() or (problem.program_commitment_kw > 0).any():
        return False
    owed = problem.committed & (problem.commitment_kw != 0)
    offered = problem.capacity_window >= 0
    if ((owed | offered) & ~event).any() or (problem.commitment_kw[problem.committed] < 0).any():
        return False
    rows = max(1, ROWS * 16 // problem.steps)
    return all(_holds(problem.only(slice(at, at + rows)), event) for at in range(0, problem.sites, rows))


def _holds(problem: Problem, event: Bools) -> bool:
    """The conditions on the sites themselves."""
    until = np.flatnonzero(event)[-1] + 1
    if (problem.demand_price_per_kw > 0).any():
        over = problem.net_load_kw[:, None, :] > problem.peak_so_far_kw[:, :, None]
        if (over & problem.demand_window[None] & (problem.demand_price_per_kw > 0)[:, :, None]).any():
            return False
    if problem.may_charge[:, :until].any() and (max_charge_kw(problem)[:, :until] > 0).any():
        return False
    limit = max_discharge_kw(problem)[:, event]
    return bool(np.ptp(limit, axis=1).max(initial=0.0) <= ROUNDING_KW)


@dataclass(frozen=True, slots=True)
class Held:
    """Power held through each window [kW], (K,), how it was found, and the allocation behind it if any."""

    kw: Floats
    method: str
    allocation: Allocation | None = None


def most_held(problem: Problem, asked_kw: Floats, options: Options | None = None) -> Held:
    """Return how much of what is asked in each capacity window can be held throughout it.

    The problem's `capacity_limit_kw` is what is asked; its prices must make shortage in a window
    dearer than giving up its capacity, and capacity dearer than any site's energy. Owner's demand peaks
    come first if their price says so.
    """
    event = problem.capacity_window >= 0
    if closed_form_holds(problem, event):
        kw = _held_closed(problem, asked_kw, event)
        if kw is not None:
            return Held(kw, CLOSED_FORM)
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
    return Held(np.clip(worst, 0.0, None), f"{answer.method} ({answer.status})", answer)


def _held_closed(problem: Problem, asked_kw: Floats, event: Bools) -> Floats | None:
    """Power of each window by the closed form, (K,); None where several fall short and others' power varies."""
    stored = np.clip(problem.soc * problem.capacity_kwh - floor_kwh(problem), 0.0, None)
    energy = stored * problem.discharge_efficiency
    first = int(np.flatnonzero(event)[0])
    limit = _limit_kw(problem, first)
    window, hours, fixed = problem.capacity_window[event], problem.step_h[event], problem.fixed_kw[event]
    need = np.clip(asked_kw[window] - fixed, 0.0, None)
    if np.isfinite(need).all() and shape_scale(need, hours, limit, energy) >= 1.0:
        return asked_kw.copy()
    if len(asked_kw) == 1:
        # the k steps in which others deliver least bind first
        order = np.argsort(fixed, kind="stable")
        length, others = np.cumsum(hours[order]), np.cumsum((fixed * hours)[order])
        most = ((within_kwh(length, limit, energy) + others) / length).min()
        return np.asarray(np.clip([min(float(most), float(asked_kw[0]))], 0.0, None))
    shared = [fixed[window == k] for k in range(len(asked_kw))]
    if any(part.size == 0 or np.ptp(part) > ROUNDING_KW for part in shared):
        return None
    length = np.bincount(window, hours, len(asked_kw)).astype(np.float64)
    return _greedy(problem, asked_kw, np.array([part[0] for part in shared]), length, limit, energy)


def _greedy(
    problem: Problem, asked_kw: Floats, others_kw: Floats, length_h: Floats, limit_kw: Floats, energy_kwh: Floats
) -> Floats:
    """Fill the windows that pay most per kWh first, each as far as those before it let it, (K,).

    What can be delivered in each window is a polymatroid (g is concave), for which this is the optimum. The
    binding set is the window at hand with the j most loaded of those before it, for some j.
    """
    held = np.zeros(len(asked_kw))
    done: list[int] = []
    for k in np.argsort(-problem.capacity_price_per_kw / length_h, kind="stable").tolist():
        by_load = sorted(done, key=lambda i: -held[i])
        loaded = np.concatenate(([0.0], np.cumsum([held[i] * length_h[i] for i in by_load])))
        together = np.concatenate(([0.0], np.cumsum([length_h[i] for i in by_load]))) + length_h[k]
        most = ((within_kwh(together, limit_kw, energy_kwh) - loaded) / length_h[k]).min()
        held[k] = min(max(0.0, float(asked_kw[k]) - float(others_kw[k])), max(0.0, float(most)))
        done.append(k)
    return np.asarray(np.clip(np.minimum(asked_kw, held + others_kw), 0.0, None))


def _limit_kw(problem: Problem, step: int) -> Floats:
    """Discharge limit of each site in one step [kW], (N,)."""
    limit = np.empty(problem.sites)
    rows = max(1, ROWS * 16 // problem.steps)
    for at in range(0, problem.sites, rows):
        limit[at : at + rows] = max_discharge_kw(problem.only(slice(at, at + rows)))[:, step]
    return limit
