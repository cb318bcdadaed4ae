"""cvxpy's matrix expressions, solved by HiGHS. Run by `bench_peers.py`; needs cvxpy, highspy."""

import cvxpy as cp
import numpy as np
from script import Solve, Solved, main
from textbook import Instance


def build(p: Instance, method: str, time_limit_s: float) -> Solve:
    sites, steps = p.size
    charge = cp.Variable((sites, steps), bounds=[np.zeros(p.size), p.most_charge])
    discharge = cp.Variable((sites, steps), bounds=[np.zeros(p.size), p.most_discharge])
    energy = cp.Variable((sites, steps), bounds=[np.tile(p.low[:, None], steps), np.tile(p.high[:, None], steps)])
    curtailed = cp.Variable((sites, steps), bounds=[np.zeros(p.size), p.most_curtailed])
    imported = cp.Variable((sites, steps), nonneg=True)
    bid = cp.Variable(max(1, len(p.capacity_price_per_kw)), nonneg=True)
    flow = p.net_load_kw + charge - discharge + curtailed
    moved = cp.multiply(charge, p.charge_efficiency[:, None] * p.step_h)
    moved -= cp.multiply(discharge, p.step_h / p.discharge_efficiency[:, None])
    begin = np.zeros(p.size)
    begin[:, 0] = p.start
    before = cp.hstack([np.zeros((sites, 1)), energy[:, :-1]]) + begin
    limited = np.flatnonzero(np.isfinite(p.export_limit_kw))
    rules = [energy == before + moved, imported >= flow]
    if limited.size:
        rules.append(flow[limited] >= -p.export_limit_kw[limited][:, None] * np.ones(steps))
    sell, buy = p.export_price_per_kwh * p.step_h, p.import_price_per_kwh * p.step_h
    cost = cp.sum(cp.multiply(flow, sell) + cp.multiply(imported, buy - sell))
    cost += cp.sum(cp.multiply(discharge, p.wear_price_per_kwh[:, None] * p.step_h))
    cost -= energy[:, -1] @ p.terminal_value_per_kwh
    for w, during in enumerate(p.demand_window):
        if during.any():
            peak = cp.Variable(sites, bounds=[p.peak_so_far_kw[:, w], None])
            rules.append(cp.reshape(peak, (sites, 1), order="C") >= imported[:, np.flatnonzero(during)])
            cost += p.demand_price_per_kw[:, w] @ (peak - p.peak_so_far_kw[:, w])
    share = (p.window[:, None] == np.arange(bid.size)) * 1.0
    missing = p.owed + share @ bid - cp.sum(discharge - charge, axis=0)[p.coupled]
    hours = p.step_h[p.coupled]
    cost += (hours * p.shortfall_price_per_kwh[p.coupled]) @ cp.pos(missing)
    if p.priced_excess.any():
        cost += (hours * p.excess_price_per_kwh[p.coupled]) @ cp.neg(missing)
    if len(p.capacity_price_per_kw):
        cost -= p.capacity_price_per_kw @ bid
        rules.append(bid <= np.minimum(p.capacity_limit_kw, 1e12))
    else:
        rules.append(bid == 0)
    problem = cp.Problem(cp.Minimize(cost), rules)

    def solve() -> Solved:
        problem.solve(solver=cp.HIGHS, time_limit=time_limit_s)
        if charge.value is None:
            return Solved(False, problem.status, None)
        power = (charge.value, discharge.value, bid.value[: len(p.capacity_price_per_kw)])
        return Solved(problem.status == cp.OPTIMAL, problem.status, power)

    return solve


if __name__ == "__main__":
    main(build)
