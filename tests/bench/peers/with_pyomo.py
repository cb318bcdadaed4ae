"""Pyomo's rules, one scalar constraint each, solved by its HiGHS interface. Run by `bench_peers.py`."""

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.appsi.solvers import Highs
from script import Solve, Solved, main
from textbook import Instance


def _model(p: Instance) -> pyo.ConcreteModel:
    (sites, steps), h = p.size, p.step_h.tolist()
    m = pyo.ConcreteModel()
    m.n, m.t = pyo.RangeSet(0, sites - 1), pyo.RangeSet(0, steps - 1)

    def power(most: np.ndarray) -> pyo.Var:
        bound = most.tolist()
        return pyo.Var(m.n, m.t, bounds=lambda m, n, t: (0.0, bound[n][t]))

    m.charge, m.discharge, m.curtailed = power(p.most_charge), power(p.most_discharge), power(p.most_curtailed)
    low, high, start = p.low.tolist(), p.high.tolist(), p.start.tolist()
    m.energy = pyo.Var(m.n, m.t, bounds=lambda m, n, t: (low[n], high[n]))
    m.imported = pyo.Var(m.n, m.t, bounds=(0.0, None))
    net, limit = p.net_load_kw.tolist(), p.export_limit_kw.tolist()
    into, out = p.charge_efficiency.tolist(), p.discharge_efficiency.tolist()

    def stored(m: pyo.ConcreteModel, n: int, t: int) -> object:
        before = m.energy[n, t - 1] if t else start[n]
        return m.energy[n, t] - before - (h[t] * into[n]) * m.charge[n, t] + (h[t] / out[n]) * m.discharge[n, t] == 0.0

    def flow(m: pyo.ConcreteModel, n: int, t: int) -> object:
        return m.charge[n, t] - m.discharge[n, t] + m.curtailed[n, t]

    m.stored = pyo.Constraint(m.n, m.t, rule=stored)
    m.grid = pyo.Constraint(m.n, m.t, rule=lambda m, n, t: m.imported[n, t] - flow(m, n, t) >= net[n][t])
    m.export = pyo.Constraint(
        m.n, m.t,
        rule=lambda m, n, t: flow(m, n, t) >= -limit[n] - net[n][t] if limit[n] < np.inf else pyo.Constraint.Skip,
    )  # fmt: skip
    sell, buy = (p.export_price_per_kwh * p.step_h).tolist(), (p.import_price_per_kwh * p.step_h).tolist()
    wear, worth = p.wear_price_per_kwh.tolist(), p.terminal_value_per_kwh.tolist()
    cost = sum(
        sell[n][t] * flow(m, n, t) + (buy[n][t] - sell[n][t]) * m.imported[n, t] + wear[n] * h[t] * m.discharge[n, t]
        for n in m.n for t in m.t
    ) - sum(worth[n] * m.energy[n, steps - 1] for n in m.n)  # fmt: skip
    m.cost = pyo.Objective(expr=cost + _peaks(m, p) + _couple(m, p))
    return m


def _peaks(m: pyo.ConcreteModel, p: Instance) -> object:
    m.w = pyo.RangeSet(0, len(p.demand_window) - 1)
    so_far, price, during = p.peak_so_far_kw.tolist(), p.demand_price_per_kw.tolist(), p.demand_window.tolist()
    m.peak = pyo.Var(m.n, m.w, bounds=lambda m, n, w: (so_far[n][w], None))
    m.peaks = pyo.Constraint(
        m.n, m.w, m.t,
        rule=lambda m, n, w, t: m.peak[n, w] >= m.imported[n, t] if during[w][t] else pyo.Constraint.Skip,
    )  # fmt: skip
    return sum(price[n][w] * m.peak[n, w] for n in m.n for w in m.w)


def _couple(m: pyo.ConcreteModel, p: Instance) -> object:
    m.c, m.k = pyo.RangeSet(0, len(p.coupled) - 1), pyo.RangeSet(0, len(p.capacity_price_per_kw) - 1)
    limit, owed, window = p.capacity_limit_kw.tolist(), p.owed.tolist(), p.window.tolist()
    priced, steps = p.priced_excess.tolist(), p.coupled.tolist()
    m.short = pyo.Var(m.c, bounds=(0.0, None))
    m.over = pyo.Var(m.c, bounds=lambda m, c: (0.0, None if priced[c] else 0.0))
    m.bid = pyo.Var(m.k, bounds=lambda m, k: (0.0, limit[k] if limit[k] < np.inf else None))

    def coupling(m: pyo.ConcreteModel, c: int) -> object:
        delivered = sum(m.discharge[n, steps[c]] - m.charge[n, steps[c]] for n in m.n) + m.short[c] - m.over[c]
        if window[c] >= 0:
            delivered -= m.bid[window[c]]
        return delivered == owed[c] if priced[c] else delivered >= owed[c]

    m.coupling = pyo.Constraint(m.c, rule=coupling)
    hours = p.step_h[p.coupled]
    short, over = hours * p.shortfall_price_per_kwh[p.coupled], hours * p.excess_price_per_kwh[p.coupled]
    earned = sum(float(p.capacity_price_per_kw[k]) * m.bid[k] for k in m.k)
    return sum(float(short[c]) * m.short[c] + float(over[c]) * m.over[c] for c in m.c) - earned


def build(p: Instance, method: str, time_limit_s: float) -> Solve:
    m = _model(p)
    solver = Highs()
    solver.config.time_limit = time_limit_s
    solver.config.load_solution = False

    def solve() -> Solved:
        result = solver.solve(m)
        status = result.termination_condition.name
        if result.best_feasible_objective is None:
            return Solved(False, status, None)
        result.solution_loader.load_vars()
        table = [np.array([variable[i].value for i in variable]) for variable in (m.charge, m.discharge, m.bid)]
        return Solved(status == "optimal", status, (table[0].reshape(p.size), table[1].reshape(p.size), table[2]))

    return solve


if __name__ == "__main__":
    main(build)
