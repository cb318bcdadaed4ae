"""How long a control cycle's allocation takes, and what the array path and the split save.

Run by `vpp bench allocation`; both sides of each ratio are measured in this run.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.builders_allocation import oracle_objective, random_arrays
from vpp.allocation import Options, Problem, solve, split_by_cost
from vpp.allocation.linear import LinearProgram
from vpp.allocation.solver import SolverName
from vpp.allocation.solver import run as run_solver

ROUNDS = 3


def event_problem(sites: int, seed: int = 0) -> Problem:
    """A four-hour event and five hours behind it, in 20 + 10 steps as `horizon_steps` makes them;
    stored energy is worth more than any hour's saving, so that the award binds in every step."""
    r = np.random.default_rng(seed)
    arrays = random_arrays(seed, sites=sites, steps=30)
    step_h = np.concatenate((np.full(6, 1 / 12), np.full(14, 0.25), np.full(10, 0.5)))
    committed = np.arange(30) < 20
    energy = float(((arrays["soc"] - arrays["soc_floor"]).clip(0) * arrays["capacity_kwh"]).sum())
    hour = 16 + np.cumsum(step_h) - step_h
    load = arrays["max_charge_kw"][:, None] * r.uniform(0.5, 2.0, (sites, 1))
    net = load * (0.4 + 0.6 * np.exp(-0.5 * ((hour - r.normal(18, 2, (sites, 1))) / 3) ** 2))
    return Problem.build(
        {
            **arrays, "step_h": step_h, "net_load_kw": net, "committed": committed, "may_charge": ~committed,
            "available": True, "demand_window": np.array([hour >= 0, hour < 21]),
            "peak_so_far_kw": net.max(axis=1)[:, None] * r.uniform(0.8, 1.0, (sites, 2)),
            "import_limit_kw": np.full(sites, np.inf), "export_price_per_kwh": 0.05,
            "terminal_value_per_kwh": r.uniform(0.45, 0.6, sites), "excess_price_per_kwh": 1.0,
            "commitment_kw": np.where(committed, 0.7 * energy / 4 * (1 + 0.3 * np.sin(np.arange(30) / 3)), 0.0),
        }
    )  # fmt: skip


def run() -> dict[str, Any]:
    """Return seconds and ratios; JSON-able."""
    problem = event_problem(300)
    answer = solve(problem)
    fleet = {n: _solve_s(event_problem(n)) for n in (100, 300, 1000)}
    small = event_problem(100)
    textbook_s = _best(lambda: oracle_objective(small), rounds=1)
    split_s, glop_s = _split(100_000)
    return {
        "solve_300_s": fleet[300],
        "solve_100_s": fleet[100],
        "solve_1000_s": fleet[1000],
        "solve_300_status": answer.status,
        "coupled_steps_with_a_price": int((answer.marginal_price_per_kwh > 1e-9).sum()),
        "fallback_300_s": _best(lambda: solve(problem, Options(solvers=()))),
        "textbook_scalar_highs_100_s": textbook_s,
        "textbook_over_arrays_100": textbook_s / fleet[100],
        "split_100000_s": split_s,
        "split_glop_100000_s": glop_s,
        "glop_over_split_100000": glop_s / split_s,
    }


def _split(sites: int) -> tuple[float, float]:
    """Seconds of one interval's split by merit order, and of the same as a one-row programme in GLOP."""
    r = np.random.default_rng(0)
    limit, price = r.uniform(1, 50, sites), r.uniform(0.05, 0.5, sites)
    target = 0.6 * float(limit.sum())
    columns = np.arange(sites)
    lp = LinearProgram(
        price, np.zeros(sites), limit, np.array([target]), np.array([np.inf]), np.zeros(sites, dtype=np.int64),
        columns, np.ones(sites),
    )  # fmt: skip
    split_s = _best(lambda: split_by_cost(target, limit, price))
    glop = run_solver(lp, SolverName.GLOP, 60.0)
    assert abs(glop.values @ price - split_by_cost(target, limit, price) @ price) < 1e-6 * target
    return split_s, _best(lambda: run_solver(lp, SolverName.GLOP, 60.0))


def _solve_s(problem: Problem) -> float:
    return _best(lambda: solve(problem))


def _best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
