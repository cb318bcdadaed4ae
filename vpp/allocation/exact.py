"""The exact answer: a proven optimum, or the best there is in time and how far it may be off.  Never late.

Called by the service, `capability.py` and `vpp allocate`. Small problems are one linear programme, large
fleets are coordinated by prices (`sequential`).
"""

import time
from dataclasses import replace

import numpy as np

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.linear import Layout, build
from vpp.allocation.options import SMALL, Options, SolverName
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import split_all
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import Ints, LinearProgram
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Floats

__all__ = ["SPLIT", "Options", "marginal_price", "row_price", "solve"]

SPLIT = "realtime_split"
LINEAR = "linear_programme"
LOAD_S = 5e-6
"""What handing one coefficient to a solver takes, at most; its own time limit starts only then."""
BUILD_S_PER_VALUE = 8 * LOAD_S
"""The same for each site and step: a programme that would not be loaded in time is not built."""
SIMPLEX_S = 4.0
"""What the simplex needs for a day of `SMALL` values, on two slow processors; grows with their square."""
SAME_STEP_KW = 1e-6
SAME_VALUE = 1e-6


def solve(problem: Problem, options: Options | None = None) -> Allocation:
    """Return the cheapest allocation with its proven gap; at the deadline the best one there is.

    Raises:
        InvalidRequest: method "sequential" is asked for a problem it does not take.
    """
    options = options or Options()
    if options.fairness_epsilon is not None:
        # it solves the problem with this module first
        from vpp.allocation.fairness import fair

        return fair(problem, options).allocation
    if not _goes_sequential(problem, options):
        return _solve_linear(problem, options)
    # it compiles its loops when it is imported, which takes most of a second
    from vpp.allocation.sequential import solve_sequential

    started = time.perf_counter()
    answer = solve_sequential(problem, options)
    left_s = options.time_limit_s - (time.perf_counter() - started)
    if answer.gap <= options.gap or left_s <= 0 or problem.sites * problem.steps > SMALL:
        return answer
    # a handful of sites are too few to share what is owed evenly: one programme has no such trouble
    exact = _solve_linear(problem, replace(options, time_limit_s=left_s))
    return exact if exact.gap < answer.gap else answer


def _goes_sequential(problem: Problem, options: Options) -> bool:
    if options.method == "ortools":
        return False
    share = problem.sites * problem.steps / SMALL
    if options.method == "auto" and share <= 1 and SIMPLEX_S * share**2 < options.time_limit_s:
        return False
    from vpp.allocation.sequential import takes

    why_not = takes(problem)
    if why_not is not None and options.method == "sequential":
        raise InvalidRequest("method", "sequential", f"auto or ortools, because {why_not}")
    return why_not is None


def _solve_linear(problem: Problem, options: Options) -> Allocation:
    started = time.perf_counter()
    attempts: list[str] = []
    best: Solution | None = None
    bound = -np.inf
    if problem.sites * problem.steps * BUILD_S_PER_VALUE < options.time_limit_s and options.solvers:
        lp, layout = build(problem)
        for solver in options.solvers:
            left_s = options.time_limit_s - (time.perf_counter() - started) - LOAD_S * len(lp.values)
            if left_s <= 0:
                break
            solution = run(lp, solver, left_s)
            attempts.append(f"{solver}: {solution.status}")
            bound = max(bound, solution.bound + lp.offset)
            if len(solution.values) and (best is None or _value(lp, solution) < _value(lp, best)):
                best = solution
            if solution.optimal:
                best = solution
                break
    if best is not None and best.optimal:
        answer = _answer(problem, options, layout, best, bound, started, tuple(attempts))
        small = problem.sites * problem.steps <= SMALL
        look = options.audit == "full" or (options.audit == "sample" and small)
        return answer if not look else _second_look(problem, options, lp, best, answer, started)
    split = assemble(
        problem, split_all(problem), started=started, gap=options.gap, bound=bound,
        method=SPLIT, status=SPLIT, attempts=tuple(attempts),
    )  # fmt: skip
    if best is None:
        return split
    cut_off = _answer(problem, options, layout, best, bound, started, tuple(attempts))
    return cut_off if cut_off.objective < split.objective else split


def _answer(
    problem: Problem, options: Options, layout: Layout, solution: Solution, bound: float, started: float,
    attempts: tuple[str, ...],
) -> Allocation:  # fmt: skip
    power, coupling = layout.power, layout.coupling
    moved = solution.values[power.column]
    battery_kw = np.zeros((problem.sites, problem.steps))
    np.add.at(battery_kw, (power.site, power.step), power.sign * moved)
    both_kw = np.zeros_like(battery_kw)
    np.add.at(both_kw, (power.site, power.step), moved)
    at_once = bool((both_kw - np.abs(battery_kw) > SAME_STEP_KW).any())
    answer = assemble(
        problem, battery_kw, started=started, gap=options.gap, bound=bound, method=LINEAR,
        capacity_kw=np.clip(solution.values[coupling.capacity], 0.0, None),
        marginal_price_per_kwh=marginal_price(problem, layout, solution),
        feeder_price_per_kwh=row_price(problem, solution, coupling.feeder_row),
        solver=str(solution.solver), attempts=attempts,
    )  # fmt: skip
    left_s = options.time_limit_s - (time.perf_counter() - started)
    if not at_once or answer.gap <= options.gap or left_s <= 0:
        return answer
    return _without_simultaneity(problem, replace(options, time_limit_s=left_s), answer)


def _without_simultaneity(problem: Problem, options: Options, netted: Allocation) -> Allocation:
    """Choose a direction for each site and step where burning energy in the losses would have paid.

    That is where a kWh is worth less than nothing: negative prices, absorption that is owed, a feeder's
    import limit. A battery cannot charge and discharge at once, so the programme's optimum is out of reach.
    """
    # it solves sub-problems with this module
    from vpp.allocation.discrete import without_simultaneity

    chosen = without_simultaneity(problem, options)
    best = min((netted, chosen), key=lambda answer: answer.objective)
    bound = min(max(netted.bound, chosen.bound), best.objective)
    gap = (best.objective - bound) / max(1.0, abs(best.objective))
    status = "optimal" if gap <= options.gap else "feasible"
    return replace(best, bound=bound, gap=gap, status=status, seconds=netted.seconds + chosen.seconds)


def _second_look(
    problem: Problem, options: Options, lp: LinearProgram, solution: Solution, answer: Allocation, started: float
) -> Allocation:
    """Have another solver solve the same programme in the time that is left, and say whether it agrees."""
    since = time.perf_counter()
    other = SolverName.HIGHS if solution.solver is SolverName.GLOP else SolverName.GLOP
    second = run(lp, other, max(options.time_limit_s - (since - started), LOAD_S))
    value = _value(lp, solution) + lp.offset
    apart = abs(_value(lp, second) + lp.offset - value) / max(1.0, abs(value)) if second.optimal else float("inf")
    passed = apart <= SAME_VALUE
    why = () if passed else (f"{other}: {second.status}, {apart:.1e} apart",)
    audit = {
        "sites": problem.sites, "worst_relative_difference": apart if second.optimal else None, "solver": str(other),
        "seconds": time.perf_counter() - since, "passed": passed, "failures": list(why),
    }  # fmt: skip
    return replace(answer, audit=audit, seconds=time.perf_counter() - started)


def marginal_price(problem: Problem, layout: Layout, solution: Solution) -> Floats:
    """Worth of a kWh delivered by a site that every programme may count, (T,)."""
    main = row_price(problem, solution, layout.coupling.main_row)
    rest = row_price(problem, solution, layout.coupling.pattern_row)
    return np.asarray(main + rest.max(axis=0, initial=0.0))


def row_price(problem: Problem, solution: Solution, row: Ints) -> Floats:
    """Price of each row per kWh, 0 where there is none; last axis the steps."""
    price = np.zeros(row.shape)
    price[row >= 0] = solution.row_prices[row[row >= 0]]
    return np.asarray(price / problem.step_h)


def _value(lp: LinearProgram, solution: Solution) -> float:
    return float(lp.cost @ solution.values)
