"""A second look at single sites: another algorithm solves them again at the answer's final prices.

Called by the sequential method after it has an answer, on a sample of the sites or on all of them. Its
proof of a gap rests on what each site costs at least at these prices; here OR-Tools says the same number
or it does not.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vpp.allocation.answer import feasible, site_cost
from vpp.allocation.linear import build
from vpp.allocation.one_site import on_their_own
from vpp.allocation.options import SolverName
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import LinearProgram
from vpp.domain.fleet import Floats

TOLERANCE = 1e-6
CHUNK = 16
"""Sites in one programme: fewer spend their time on building it, more on a simplex that grows faster than they do."""
SECOND_OPINIONS = 3
"""Sites that HiGHS solves too, whatever GLOP says."""
SOLVE_WITHIN_S = 30.0
MOST_NAMED = 20
Solver = Callable[[LinearProgram, SolverName, float], Solution]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the second look found.

    Attributes:
        sites: how many were looked at.
        worst_relative_difference: largest |bound - solver's optimum| / max(1, |optimum|).
        solver: who solved them: "glop", "highs" or "glop+highs".
        seconds: wall time [s].
        passed: every site was solved to a proven optimum and agrees within the tolerance.
        failures: one sentence for each site that does not, at most MOST_NAMED.
    """

    sites: int
    worst_relative_difference: float
    solver: str
    seconds: float
    passed: bool
    failures: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can say it."""
        return {**asdict(self), "failures": list(self.failures)}


def sample(sites: int, count: int, seed: int) -> Ints:
    """Return `count` different sites of `sites` at random, in order; all if there are no more."""
    chosen = np.random.default_rng(seed).choice(sites, min(count, sites), replace=False)
    return np.sort(chosen).astype(np.int64)


def audit_sites(
    problem: Problem,
    price_per_kwh: Floats,
    site_bound: Floats,
    sites: Ints,
    *,
    tolerance: float = TOLERANCE,
    solver: Solver = run,
) -> AuditReport:
    """Solve sites again by GLOP at these prices and compare with what was claimed.

    Args:
        problem: the whole problem.
        price_per_kwh: what each delivered kWh earned a site, (T,), (1,T) or (N,T).
        site_bound: the claim, (N,): least of site cost less earnings over what the site can do, the cost as
            `answer.site_cost` counts it.
        sites: which to look at.
        tolerance: relative difference that is still agreement.
        solver: what solves a programme with a named solver.
    """
    started = time.perf_counter()
    price = np.broadcast_to(np.asarray(price_per_kwh, dtype=np.float64), (problem.sites, problem.steps))
    second = np.array(sites[:SECOND_OPINIONS], dtype=np.int64)
    found, bench = np.full(problem.sites, np.nan), _Bench(solver)
    for first in range(0, len(sites), CHUNK):
        rows = np.asarray(sites[first : first + CHUNK], dtype=np.int64)
        found[rows] = _least(on_their_own(problem, rows), price[rows], bench)
        for i in rows[~_agree(found[rows], site_bound[rows], tolerance)]:
            # together with others a number can drown in rounding; alone it cannot
            found[i] = _least_alone(on_their_own(problem, np.array([i])), price[[i]], bench, SolverName.GLOP)
    failures = _failures(found, site_bound, np.asarray(sites), tolerance)
    for i in second.tolist():
        other = _least_alone(on_their_own(problem, np.array([i])), price[[i]], bench, SolverName.HIGHS)
        if not _agree(np.array([other]), found[[i]], tolerance)[0]:
            failures.append(f"site {i}: GLOP says {found[i]:.9g} and HiGHS {other:.9g}")
    difference = np.abs(found[sites] - site_bound[sites]) / np.maximum(1.0, np.abs(found[sites]))
    return AuditReport(
        sites=len(sites),
        worst_relative_difference=float(np.nanmax(difference, initial=0.0)),
        solver="+".join(sorted(bench.used)),
        seconds=time.perf_counter() - started,
        passed=not failures,
        failures=tuple(failures[:MOST_NAMED]),
    )


class _Bench:
    """The solvers, and which of them were asked."""

    def __init__(self, solver: Solver) -> None:
        self._run = solver
        self.used: set[str] = set()

    def solve(self, lp: LinearProgram, first: SolverName) -> Solution:
        """Solve; where GLOP says anything but optimal, HiGHS is asked."""
        self.used.add(str(first))
        solution = self._run(lp, first, SOLVE_WITHIN_S)
        if not solution.optimal and first is SolverName.GLOP:
            return self.solve(lp, SolverName.HIGHS)
        return solution


def _least(problem: Problem, price_per_kwh: Floats, bench: _Bench) -> Floats:
    """What each site costs at least at these prices, all in one programme, costed anew, (n,); NaN unsolved."""
    lp, layout = build(problem, price_per_kwh)
    solution = bench.solve(lp, SolverName.GLOP)
    if not solution.optimal:
        return np.full(problem.sites, np.nan)
    battery_kw = np.zeros(price_per_kwh.shape)
    values = layout.power.sign * solution.values[layout.power.column]
    np.add.at(battery_kw, (layout.power.site, layout.power.step), values)
    battery_kw, energy = feasible(problem, battery_kw)
    return np.asarray(site_cost(problem, battery_kw, energy) - (battery_kw * price_per_kwh) @ problem.step_h)


def _least_alone(problem: Problem, price_per_kwh: Floats, bench: _Bench, solver: SolverName) -> float:
    """The optimum of one site's own programme; NaN where nobody proves one."""
    lp, _ = build(problem, price_per_kwh)
    solution = bench.solve(lp, solver)
    return float(lp.cost @ solution.values + lp.offset) if solution.optimal else np.nan


def _agree(one: Floats, other: Floats, tolerance: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether two costs are the same; NaN agrees with nothing."""
    return np.asarray(np.abs(one - other) <= tolerance * np.maximum(1.0, np.abs(one)))


def _failures(found: Floats, claimed: Floats, sites: Ints, tolerance: float) -> list[str]:
    said = []
    for i in sites[~_agree(found[sites], claimed[sites], tolerance)]:
        if np.isnan(found[i]):
            said.append(f"site {i}: no solver proved an optimum")
        else:
            word = "above" if claimed[i] > found[i] else "below"
            said.append(f"site {i}: the bound {claimed[i]:.9g} is {word} the optimum {found[i]:.9g}")
    return said
