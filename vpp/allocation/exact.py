"""The exact answer: one linear programme, a proven optimum or the real-time split, never late.

Called by the service, `capability.py` and `vpp allocate`.
"""

import time
from dataclasses import dataclass

import numpy as np

from vpp.allocation.answer import Allocation, feasible, fleet_cost, site_cost
from vpp.allocation.limits import idle_breach
from vpp.allocation.linear import Layout, build
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import split_all
from vpp.allocation.solver import Solution, SolverName, run
from vpp.domain.fleet import Floats

SPLIT = "realtime_split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to solve.

    Attributes:
        time_limit_s: wall time for all solvers together [s]; a solver that is cut off by it gives the
            real-time split, so it is set far above what is usual (0.1 to 0.4 s for 300 sites).
        solvers: tried in this order until one proves its optimum.
    """

    time_limit_s: float = 10.0
    solvers: tuple[SolverName, ...] = (SolverName.GLOP, SolverName.HIGHS)


def solve(problem: Problem, options: Options | None = None) -> Allocation:
    """Return the cheapest allocation, proven, or the real-time split if no solver proves one in time."""
    options = options or Options()
    started = time.perf_counter()
    lp, layout = build(problem)
    attempts: list[str] = []
    for solver in options.solvers:
        left_s = options.time_limit_s - (time.perf_counter() - started)
        if left_s <= 0:
            break
        solution = run(lp, solver, left_s)
        attempts.append(f"{solver}: {solution.status}")
        if solution.optimal:
            return _answer(problem, layout, solution, started, tuple(attempts))
    battery_kw = split_all(problem)
    nothing = np.zeros(len(problem.capacity_price_per_kw))
    price = np.zeros(problem.steps)
    return _finish(problem, battery_kw, nothing, price, -np.inf, SPLIT, "none", started, tuple(attempts))


def _answer(
    problem: Problem, layout: Layout, solution: Solution, started: float, attempts: tuple[str, ...]
) -> Allocation:
    battery_kw = np.zeros((problem.sites, problem.steps))
    np.add.at(battery_kw, (layout.site, layout.step), layout.sign * solution.values[: len(layout.site)])
    windows = len(problem.capacity_price_per_kw)
    capacity_kw = np.clip(solution.values[layout.capacity_at : layout.capacity_at + windows], 0.0, None)
    coupled = layout.coupled_steps
    price = np.zeros(problem.steps)
    row_prices = solution.row_prices[layout.coupling_at : layout.coupling_at + len(coupled)]
    price[coupled] = row_prices / problem.step_h[coupled]
    bound = solution.bound + _idle_cost(problem)
    return _finish(problem, battery_kw, capacity_kw, price, bound, "optimal", solution.solver, started, attempts)


def _finish(
    problem: Problem, battery_kw: Floats, capacity_kw: Floats, price_per_kwh: Floats, bound: float,
    status: str, solver: str, started: float, attempts: tuple[str, ...],
) -> Allocation:  # fmt: skip
    """Make the power feasible to the last digit and cost it anew."""
    battery_kw, energy = feasible(problem, battery_kw)
    costs = site_cost(problem, battery_kw, energy)
    shortfall, fleet = fleet_cost(problem, battery_kw, capacity_kw)
    objective = float(costs.sum()) + fleet
    idle = idle_breach(problem)
    return Allocation(
        battery_kw=battery_kw, soc=energy / problem.capacity_kwh[:, None], shortfall_kw=shortfall,
        capacity_kw=capacity_kw, marginal_price_per_kwh=price_per_kwh, site_cost=costs,
        objective=objective, bound=bound,
        gap=(objective - bound) / max(1.0, abs(objective)), status=status, solver=str(solver),
        seconds=time.perf_counter() - started, attempts=attempts,
        over_export=idle.over_export, over_import=idle.over_import,
    )  # fmt: skip


def _idle_cost(problem: Problem) -> float:
    """Cost of energy with idle batteries, the constant the programme leaves out."""
    net = problem.net_load_kw
    bought, sold = np.clip(net, 0.0, None), np.clip(-net, 0.0, problem.export_limit_kw[:, None])
    energy = bought * problem.import_price_per_kwh - sold * problem.export_price_per_kwh
    return float((energy @ problem.step_h).sum())
