"""Random allocation problems from a seed, and an independent oracle that solves them.

The oracle writes the textbook programme (charge, discharge, energy, import, curtailment, peak) through
MathOpt's scalar API and solves it with HiGHS: another formulation, another solver than the product's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ortools.math_opt.python import mathopt

from vpp.allocation import Problem


def a_problem(**changes: Any) -> Problem:
    """Two sites of 5 kW and 10 kWh at 80 %, four hours, 4 kW owed in each."""
    usual: dict[str, Any] = {
        "step_h": 1.0,
        "net_load_kw": np.full((2, 4), 2.0),
        "max_charge_kw": np.full(2, 5.0),
        "max_discharge_kw": np.full(2, 5.0),
        "capacity_kwh": np.full(2, 10.0),
        "soc": np.full(2, 0.8),
        "soc_floor": np.full(2, 0.2),
        "import_price_per_kwh": 0.3,
        "export_price_per_kwh": 0.05,
        "commitment_kw": np.full(4, 2.0),
    }
    return Problem.build({**usual, **changes})


def random_arrays(seed: int, sites: int = 6, steps: int = 8, scale: float | None = None) -> dict[str, Any]:
    """Arrays of a problem with every kind of trouble: zero export, empty and full batteries, outages,
    negative net load, two demand windows, idle limits broken, commitments beyond reach, long steps."""
    r = np.random.default_rng(seed)
    power = r.choice([3.0, 5.0, 20.0, 60.0], sites) * r.uniform(0.8, 1.2, sites)
    capacity = power * r.choice([1.0, 2.0, 4.0], sites)
    step_h = np.full(steps, 0.25) if r.random() < 0.5 else r.choice([1 / 12, 0.25, 0.5, 1.0], steps)
    net = power[:, None] * r.uniform(-1.2, 2.0, (sites, steps))
    price = np.where(np.arange(steps) > steps // 2, 0.42, 0.21) * r.uniform(0.9, 1.1)
    ceiling, floor = r.uniform(0.9, 1.0, sites), r.uniform(0.0, 0.3, sites)
    windows = r.random((2, steps)) < 0.7
    committed = np.zeros(steps, dtype=bool)
    committed[: r.integers(1, steps + 1)] = True
    energy = float(((0.9 - floor) * capacity).clip(0).sum() / max(step_h[committed].sum(), 0.1))
    size = r.choice([0.3, 0.8, 1.5]) if scale is None else scale
    return {
        "step_h": step_h,
        "net_load_kw": net,
        "max_charge_kw": power,
        "max_discharge_kw": power * r.uniform(0.7, 1.0, sites),
        "capacity_kwh": capacity,
        "soc": np.where(r.random(sites) < 0.2, r.choice([0.0, 1.0], sites), r.uniform(floor, ceiling)),
        "soc_floor": floor,
        "soc_ceiling": ceiling,
        "charge_efficiency": r.uniform(0.9, 1.0, sites),
        "discharge_efficiency": r.uniform(0.9, 1.0, sites),
        "export_limit_kw": np.where(r.random(sites) < 0.4, 0.0, power * r.uniform(0.2, 1.5, sites)),
        "import_limit_kw": power * r.uniform(1.0, 4.0, sites),
        "available": r.random((sites, steps)) > 0.05,
        "may_charge": np.ones(steps, dtype=bool) if r.random() < 0.5 else ~committed,
        "import_price_per_kwh": price,
        "export_price_per_kwh": price * r.uniform(0.0, 1.0),
        "demand_window": windows,
        "demand_price_per_kw": r.choice([0.0, 12.0, 25.0], (sites, 2)),
        "peak_so_far_kw": np.where(r.random((sites, 2)) < 0.2, 0.0, power[:, None] * r.uniform(0.3, 2.0, (sites, 2))),
        "wear_price_per_kwh": r.uniform(0.02, 0.07, sites),
        "terminal_value_per_kwh": r.uniform(0.1, 0.5, sites),
        "commitment_kw": np.where(committed, size * energy * r.uniform(0.5, 1.5, steps), 0.0),
        "committed": committed,
        "shortfall_price_per_kwh": 10.0,
    }


def random_problem(seed: int, **sizes: Any) -> Problem:
    """A problem of `random_arrays`."""
    return Problem.build(random_arrays(seed, **sizes))


def oracle_objective(p: Problem) -> float:
    """The least cost of a problem, by the textbook programme and HiGHS."""
    model, terms = mathopt.Model(), []
    delivered: list[list[Any]] = [[] for _ in range(p.steps)]
    for i in range(p.sites):
        site_terms, power = _oracle_site(model, p, i)
        terms += site_terms
        for t in range(p.steps):
            delivered[t].append(power[t])
    for t in range(p.steps):
        if p.committed[t]:
            short = model.add_variable(lb=0.0)
            model.add_linear_constraint(mathopt.fast_sum(delivered[t]) + p.fixed_kw[t] + short >= p.commitment_kw[t])
            terms.append(short * (p.step_h[t] * p.shortfall_price_per_kwh[t]))
    model.minimize(mathopt.fast_sum(terms))
    result = mathopt.solve(model, mathopt.SolverType.HIGHS)
    assert result.termination.reason == mathopt.TerminationReason.OPTIMAL, result.termination
    return float(result.objective_value())


def _oracle_site(model: mathopt.Model, p: Problem, i: int) -> tuple[list[Any], list[Any]]:
    terms: list[Any] = []
    power: list[Any] = []
    peaks = [model.add_variable(lb=p.peak_so_far_kw[i, w]) for w in range(len(p.demand_window))]
    for w, peak in enumerate(peaks):
        terms.append((peak - p.peak_so_far_kw[i, w]) * p.demand_price_per_kw[i, w])
    low, high = (min(p.soc_floor[i], p.soc[i]), max(p.soc_ceiling[i], p.soc[i]))
    before: Any = p.soc[i] * p.capacity_kwh[i]
    for t in range(p.steps):
        h, net, limit = p.step_h[t], p.net_load_kw[i, t], p.export_limit_kw[i]
        can = p.available[i, t]
        most_c = min(p.max_charge_kw[i], max(p.import_limit_kw[i] - net, 0.0)) if can and p.may_charge[i, t] else 0.0
        most_d = max(min(p.max_discharge_kw[i], net + limit), 0.0) if can else 0.0
        charge = model.add_variable(lb=0.0, ub=most_c if p.soc[i] <= p.soc_ceiling[i] else 0.0)
        discharge = model.add_variable(lb=0.0, ub=most_d if p.soc[i] >= p.soc_floor[i] else 0.0)
        energy = model.add_variable(lb=low * p.capacity_kwh[i], ub=high * p.capacity_kwh[i])
        bought = model.add_variable(lb=0.0)
        curtailed = model.add_variable(lb=0.0, ub=max(-net - limit, 0.0))
        flow = net + charge - discharge + curtailed
        stored = charge * (h * p.charge_efficiency[i]) - discharge * (h / p.discharge_efficiency[i])
        model.add_linear_constraint(energy - before - stored == 0.0)
        model.add_linear_constraint(bought - flow >= 0.0)
        model.add_linear_constraint(flow >= -limit)
        for w, peak in enumerate(peaks):
            if p.demand_window[w, t]:
                model.add_linear_constraint(peak - bought >= 0.0)
        sell = p.export_price_per_kwh[i, t]
        terms.append(bought * (h * (p.import_price_per_kwh[i, t] - sell)) + flow * (h * sell))
        terms.append(discharge * (h * p.wear_price_per_kwh[i]))
        power.append(discharge - charge)
        before = energy
    terms.append(before * -p.terminal_value_per_kwh[i])
    return terms, power


def breaches(p: Problem, battery_kw: Any, soc: Any) -> Mapping[str, float]:
    """By how much each hard limit is broken [kW, or SOC]; worked out from the answer alone."""
    net_after = p.net_load_kw - battery_kw
    over_export = np.where(battery_kw > 0, -net_after - p.export_limit_kw[:, None], 0.0)
    over_import = np.where(battery_kw < 0, net_after - p.import_limit_kw[:, None], 0.0)
    drawn = np.where(
        battery_kw > 0, battery_kw / p.discharge_efficiency[:, None], battery_kw * p.charge_efficiency[:, None]
    )
    followed = soc[:, :-1] - drawn * p.step_h / p.capacity_kwh[:, None] - soc[:, 1:]
    return {
        "discharge": float((battery_kw - p.max_discharge_kw[:, None]).max()),
        "charge": float((-battery_kw - p.max_charge_kw[:, None]).max()),
        "export": float(over_export.max()),
        "import": float(over_import.max()),
        "floor": float((np.minimum(p.soc_floor, p.soc)[:, None] - soc).max()),
        "ceiling": float((soc - np.maximum(p.soc_ceiling, p.soc)[:, None]).max()),
        "unavailable": float(np.abs(np.where(p.available, 0.0, battery_kw)).max()),
        "not_allowed_to_charge": float(np.where(p.may_charge, 0.0, -battery_kw).max()),
        "energy_balance": float(np.abs(followed).max()),
    }
