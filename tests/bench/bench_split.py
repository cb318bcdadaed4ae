"""How long the split of one interval and the closed form of capability take, from 1,000 to 1,000,000 sites.

Run by `vpp bench allocation`; GLOP solves the same split as a one-row programme in the same run. Every
figure is the best of a few rounds, and every answer is checked against another way of finding it.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vpp.allocation import Problem, split_by_cost, split_by_time_to_go
from vpp.allocation.capability import held_kw, shape_scale
from vpp.allocation.linear import LinearProgram
from vpp.allocation.realtime import split_all, split_quadratic
from vpp.allocation.solver import SolverName
from vpp.allocation.solver import run as run_solver
from vpp.allocation.waterfill import Ramps, fill, time_to_go_ramps

SIZES = (1_000, 10_000, 100_000, 1_000_000)
GLOP_SITES = 100_000
ROUNDS = 5
STEP_H = 0.25
STEPS = 96
Fleet = dict[str, np.ndarray]


def run() -> dict[str, Any]:
    """Return seconds and ratios; JSON-able."""
    found: dict[str, Any] = {}
    for sites in SIZES:
        fleet = _fleet(sites)
        found |= {f"{name}_{sites}_s": seconds for name, seconds in _splits(fleet).items()}
        found |= {f"{name}_{sites}_s": seconds for name, seconds in _capability(fleet).items()}
    glop_s = _glop(_fleet(GLOP_SITES))
    for method in ("merit_order", "quadratic", "time_to_go"):
        found[f"glop_over_{method}_{GLOP_SITES}"] = glop_s / found[f"{method}_{GLOP_SITES}_s"]
    return {**found, f"glop_{GLOP_SITES}_s": glop_s, f"fallback_{GLOP_SITES}_sites_{STEPS}_steps_s": _fallback()}


def _fleet(sites: int) -> Fleet:
    r = np.random.default_rng(0)
    limit = r.uniform(1, 50, sites)
    return {
        "limit": limit, "price": r.uniform(0.05, 0.5, sites), "slope": r.uniform(0.001, 0.01, sites),
        "energy": limit * r.uniform(0.1, 4, sites), "weight": r.uniform(0.5, 2, sites),
    }  # fmt: skip


def _splits(f: Fleet) -> dict[str, float]:
    """Seconds of each method, with and without weights; the answers are those of sorting everything."""
    limit, price, slope, energy, weight = f["limit"], f["price"], f["slope"], f["energy"], f["weight"]
    target = 0.6 * float(np.minimum(limit, energy / STEP_H).sum())
    steep = Ramps(price, price + slope * limit, limit)
    soft = Ramps(price, price + slope / weight * limit, limit)
    cases: dict[str, tuple[Callable[[], np.ndarray], Ramps]] = {
        "merit_order": (lambda: split_by_cost(target, limit, price), Ramps(price, price, limit)),
        "quadratic": (lambda: split_quadratic(target, limit, price, slope), steep),
        "quadratic_weighted": (lambda: split_quadratic(target, limit, price, slope, weight=weight), soft),
        "time_to_go": (
            lambda: split_by_time_to_go(target, limit, energy, STEP_H),
            time_to_go_ramps(limit, energy, STEP_H, None),
        ),
        "time_to_go_weighted": (
            lambda: split_by_time_to_go(target, limit, energy, STEP_H, weight=weight),
            time_to_go_ramps(limit, energy, STEP_H, weight),
        ),
    }
    seconds = {}
    for name, (split, ramps) in cases.items():
        share = split()
        assert abs(float(share.sum()) - target) <= 1e-15 * target * 8 + 1e-9, name
        assert np.abs(share - fill(ramps, target)).max() <= 1e-7, name
        seconds[name] = _best(split)
    return seconds


def _capability(f: Fleet) -> dict[str, float]:
    """Seconds of the closed form for constant and for shaped requests, (STEPS,)."""
    limit, energy, hours = f["limit"], f["energy"], np.full(STEPS, STEP_H)
    shape = np.random.default_rng(1).uniform(0.5, 1.0, STEPS) * float(limit.sum())
    scale = shape_scale(shape, hours, limit, energy)
    asked = np.cumsum(np.sort(shape)[::-1]) * STEP_H
    slow = min(np.minimum(limit * (k + 1) * STEP_H, energy).sum() / asked[k] for k in range(STEPS))
    assert abs(scale - slow) <= 1e-12 * scale
    assert abs(held_kw(limit, energy, 4.0) - np.minimum(limit, energy / 4).sum()) <= 1e-12 * limit.sum()
    return {
        "capability_constant": _best(lambda: held_kw(limit, energy, 4.0)),
        "capability_shaped": _best(lambda: shape_scale(shape, hours, limit, energy)),
    }


def _glop(f: Fleet) -> float:
    """Seconds of the same merit order as a one-row programme in GLOP; both cost the same."""
    limit, price = f["limit"], f["price"]
    target = 0.6 * float(np.minimum(limit, f["energy"] / STEP_H).sum())
    sites = len(limit)
    lp = LinearProgram(
        price, np.zeros(sites), limit, np.array([target]), np.array([np.inf]), np.zeros(sites, dtype=np.int64),
        np.arange(sites), np.ones(sites),
    )  # fmt: skip
    best = run_solver(lp, SolverName.GLOP, 60.0)
    assert best.optimal, best.status
    assert abs(best.values @ price - split_by_cost(target, limit, price) @ price) <= 1e-6
    return _best(lambda: run_solver(lp, SolverName.GLOP, 60.0), rounds=3)


def _fallback() -> float:
    """Seconds of the split of a whole problem: absorb, then deliver, all that fits, beside priced peaks."""
    f, r = _fleet(GLOP_SITES), np.random.default_rng(2)
    power = float(f["limit"].sum())
    problem = Problem.build(
        step_h=STEP_H, net_load_kw=r.uniform(-10, 40, (GLOP_SITES, STEPS)), max_charge_kw=f["limit"],
        max_discharge_kw=f["limit"], capacity_kwh=f["energy"], soc=0.5, soc_floor=0.1,
        commitment_kw=np.where(np.arange(STEPS) < STEPS // 2, -0.02, 0.02) * power,
        demand_window=np.ones((2, STEPS), dtype=bool), demand_price_per_kw=9.0, peak_so_far_kw=38.0,
    )  # fmt: skip
    battery_kw = split_all(problem)
    assert np.abs(battery_kw.sum(axis=0) - problem.commitment_kw)[0] <= 1e-6
    return _best(lambda: split_all(problem), rounds=2)


def _best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
