"""Fairness as policy: cost first, then the least unequal wear or earnings within a share of the best cost.

Called by `exact.solve` where `Options.fairness_epsilon` is given, and by whoever wants to see what
fairness costs. What is owed and offered is never touched: no shortfall grows and no capacity shrinks.

Small problems: lexicographic min-max by linear programmes. The largest use of any battery is made as small
as the cost allows, those who cannot have less are held there, then the next; at last the cheapest
allocation with these largest uses is taken, so that no more is paid than this fairness costs.
Large fleets: a heuristic. Wear is priced by how much each site is used, the fleet solved again, and as
much of that answer mixed in as lowers inequality within the cost: sites' schedules form a convex set.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.exact import LINEAR, SPLIT, marginal_price, row_price, solve
from vpp.allocation.limits import floor_kwh, max_charge_kw, max_discharge_kw
from vpp.allocation.linear import Layout, build
from vpp.allocation.options import Options
from vpp.allocation.problem import Problem
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import Ints, LinearProgram
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

MEASURES = ("earnings", "throughput")
METHODS = ("auto", LINEAR, "prices")
ROUNDS = 6
"""Rounds of min-max. Most of the inequality goes in the first."""
PRICE_ROUNDS = 12
BINDS = 1e-7
SLACK = 1e-9
"""Relative to the best cost: a linear solver meets a budget no more exactly."""
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
"""How much of a fairer answer may be mixed in."""
MOST_SURCHARGE = 3.0
PRICE_SHARE = 0.25
"""The first surcharge on a site used twice the mean, as a share of the mean import price."""


@dataclass(frozen=True, slots=True)
class Inequality:
    """How unequal a use is over the sites that can take part.

    Attributes:
        most: the largest.
        max_over_mean: 1 where all are equal.
        gini: 0 where all are equal, towards 1 where one has everything.
    """

    most: float
    max_over_mean: float
    gini: float

    @classmethod
    def of(cls, use: Floats) -> "Inequality":
        """Measure a use, (sites that take part,)."""
        total, count = float(use.sum()), len(use)
        if count == 0 or total <= 0.0:
            return cls(0.0, 1.0, 0.0)
        rank = np.arange(1, count + 1)
        gini = float((2.0 * rank - count - 1.0) @ np.sort(use)) / (count * total)
        return cls(float(use.max()), float(use.max()) * count / total, gini)

    def no_worse_than(self, other: "Inequality") -> bool:
        """Whether no one of the three grew by more than rounding."""
        return (
            self.most <= other.most * (1 + 1e-6) + 1e-9
            and self.max_over_mean <= other.max_over_mean * (1 + 1e-6)
            and self.gini <= other.gini + 1e-6
        )


@dataclass(frozen=True, slots=True)
class FairAllocation:
    """A fairer allocation and what it costs.

    Attributes:
        allocation: its bound and gap speak of the cheapest answer, so the gap holds the price of fairness;
            its status says whether the cheapest was found to the gap asked for.
        measure: "earnings" (kWh given where they are owed, per kWh of capacity) or "throughput" (all discharge).
        before, after: inequality of the cheapest answer and of this one.
        use_before, use_after: of each site, (N,).
        best_objective: cost of the cheapest answer.
        price_of_fairness: what is paid on top.
        method: "linear_programme" or "prices"; "none" where nothing fairer was found within the cost.
    """

    allocation: Allocation
    measure: str
    before: Inequality
    after: Inequality
    use_before: Floats
    use_after: Floats
    best_objective: float
    price_of_fairness: float
    method: str


class _Search:
    """What both methods share: the cheapest answer, the budget, and the fairest answer until now."""

    def __init__(self, problem: Problem, options: Options, measure: str) -> None:
        self.started = time.perf_counter()
        self.problem, self.options = problem, options
        self.best = solve(problem, replace(options, fairness_epsilon=None))
        size = abs(self.best.objective)
        self.budget = self.best.objective + (options.fairness_epsilon or 0.0) * size + SLACK * max(1.0, size)
        self.direction = _direction(problem, measure)
        self.able = _able(problem, self.direction)
        self.use = self.used(self.best.battery_kw)
        self.before = self.after = Inequality.of(self.use[self.able])
        self.allocation, self.method = self.best, "none"

    @property
    def left_s(self) -> float:
        return self.options.time_limit_s - (time.perf_counter() - self.started)

    def used(self, battery_kw: Floats) -> Floats:
        """Use of each site, (N,)."""
        hours = self.problem.step_h * np.abs(self.direction)
        return np.asarray(np.clip(battery_kw * self.direction, 0.0, None) @ hours / self.problem.capacity_kwh)

    def offer(self, made: Allocation, method: str) -> bool:
        """Take an answer if it is within the cost, leaves nothing owed undone and is fairer; say whether."""
        if made.objective > self.budget or _missing(self.problem, made) > _missing(self.problem, self.best) + 1e-6:
            return False
        found = Inequality.of(self.used(made.battery_kw)[self.able])
        if not found.no_worse_than(self.before) or found.gini >= self.after.gini - 1e-9:
            return False
        self.allocation, self.after, self.method = made, found, method
        return True


def fair(
    problem: Problem, options: Options | None = None, *, measure: str = "earnings", method: str = "auto"
) -> FairAllocation:
    """Return the fairest allocation found within (1 + fairness_epsilon) of the best cost.

    Never less fair than the cheapest answer, which it is where there is no time for more. A best cost
    below zero is a gain, of which that share may be given up.

    Args:
        problem: what is asked.
        options: how to solve it; without an epsilon, nothing may be spent.
        measure: "earnings" shares the work that is owed, and so its pay and wear. "throughput" counts what
            batteries do for their own sites too: then money may be spent on their doing less of it.
        method: "linear_programme", "prices", or as the size of the problem wants it.

    Raises:
        InvalidRequest: no such measure or method; or as `solve`.
    """
    if measure not in MEASURES:
        raise InvalidRequest("measure", measure, " or ".join(MEASURES))
    if method not in METHODS:
        raise InvalidRequest("method", method, " or ".join(METHODS))
    search = _Search(problem, options or Options(fairness_epsilon=0.0), measure)
    if search.best.method != SPLIT and search.before.gini > 0.0:
        if method == LINEAR or (method == "auto" and search.best.method == LINEAR):
            _by_programmes(search)
        else:
            _by_prices(search)
    made = replace(search.allocation, seconds=time.perf_counter() - search.started, status=search.best.status)
    return FairAllocation(
        made, measure, search.before, search.after, search.use, search.used(made.battery_kw),
        search.best.objective, made.objective - search.best.objective, search.method,
    )  # fmt: skip


def _by_programmes(search: _Search) -> None:
    """Lexicographic min-max. Where the last rounds did not help, the caps of earlier ones are tried."""
    lp, layout = build(search.problem)
    lp = _keeping_promises(search, lp, layout)
    for cap in [*_rounds(search, lp, layout)][::-1]:
        solution = _run(search, _capped(search, lp, layout, cap))
        if solution is not None and search.offer(_answer(search, layout, solution), LINEAR):
            return


def _by_prices(search: _Search) -> None:
    """Price wear by use, solve again, mix in; a price whose answer is too dear is halved, one too weak doubled."""
    problem, strength = search.problem, 1.0
    scale = PRICE_SHARE * float(np.abs(problem.import_price_per_kwh).mean()) + 0.01
    for _ in range(PRICE_ROUNDS):
        if search.left_s < 1.5 * search.best.seconds:
            return
        use = search.used(search.allocation.battery_kw)
        away = np.clip(use / max(float(use[search.able].mean()), 1e-12) - 1.0, -1.0, MOST_SURCHARGE)
        wear = np.clip(problem.wear_price_per_kwh + strength * scale * away, 0.0, 1e4)
        dearer = Problem.build({**problem.arrays(), "wear_price_per_kwh": wear})
        options = replace(search.options, fairness_epsilon=None, time_limit_s=search.left_s)
        taken, too_dear = _mix(search, solve(dearer, options))
        if not taken:
            strength *= 0.5 if too_dear else 2.0


def _mix(search: _Search, other: Allocation) -> tuple[bool, bool]:
    """Offer mixtures of the fairest answer until now and another, the most equal first.

    Returns whether one was taken, and whether one that is fairer cost too much.
    """
    now = search.allocation
    toward_kw = other.battery_kw - now.battery_kw

    def gini(share: float) -> float:
        return Inequality.of(search.used(now.battery_kw + share * toward_kw)[search.able]).gini

    too_dear = False
    for share in sorted(SHARES, key=gini):
        power = now.battery_kw + share * toward_kw
        capacity = now.capacity_kw + share * (other.capacity_kw - now.capacity_kw)
        made = assemble(
            search.problem, power, started=search.started, gap=search.options.gap, bound=search.best.bound,
            capacity_kw=np.maximum(capacity, search.best.capacity_kw), method=search.best.method,
            marginal_price_per_kwh=other.marginal_price_per_kwh, feeder_price_per_kwh=other.feeder_price_per_kwh,
            solver=search.best.solver, attempts=search.best.attempts, audit=search.best.audit,
        )  # fmt: skip
        if search.offer(made, "prices"):
            return True, too_dear
        too_dear |= made.objective > search.budget
    return False, too_dear


def _keeping_promises(search: _Search, lp: LinearProgram, layout: Layout) -> LinearProgram:
    """The same programme, in which no shortfall may exceed the best answer's and no capacity fall below."""
    coupling, best = layout.coupling, search.best
    lower, upper = lp.lower.copy(), lp.upper.copy()
    for column, most_kw in ((coupling.short, best.shortfall_kw), (coupling.program_short, best.program_shortfall_kw)):
        upper[column[column >= 0]] = most_kw[column >= 0] + SLACK
    lower[coupling.capacity] = np.minimum(np.clip(best.capacity_kw - SLACK, 0.0, None), upper[coupling.capacity])
    return replace(lp, lower=lower, upper=upper)


def _rounds(search: _Search, lp: LinearProgram, layout: Layout) -> Iterator[Floats]:
    """Yield the largest use each site may have after each round of min-max, (N,)."""
    cap = np.full(search.problem.sites, np.inf)
    free = search.able.copy()
    for _ in range(ROUNDS):
        solution = _run(search, _levelled(search, lp, layout, cap, free))
        if solution is None:
            return
        level = float(solution.values[len(lp.cost)])
        binding = np.zeros(len(cap), dtype=bool)
        binding[np.flatnonzero(free)] = np.abs(solution.row_prices[len(lp.row_lower) :][: int(free.sum())]) > BINDS
        yield np.where(free, level, cap)
        cap[free & binding] = level
        free &= ~binding
        if not binding.any() or not free.any() or level <= BINDS:
            return


def _levelled(search: _Search, lp: LinearProgram, layout: Layout, cap: Floats, free: Bools) -> LinearProgram:
    """Make the largest use of the free sites as small as can be, within caps and budget; rows of the free first."""
    level = len(lp.cost)
    sites = np.concatenate((np.flatnonzero(free), np.flatnonzero(np.isfinite(cap) & ~free)))
    rows = len(lp.row_lower) + np.arange(len(sites))
    upper = np.where(free[sites], 0.0, _rounded_up(cap[sites]))
    row, column, value = _use_rows(search, layout, sites, rows)
    leveled, budget = rows[free[sites]], len(lp.row_lower) + len(sites)
    costly = np.flatnonzero(lp.cost)
    return _in_order(replace(
        lp,
        cost=np.append(np.zeros(level), 1.0), lower=np.append(lp.lower, 0.0), upper=np.append(lp.upper, np.inf),
        row_lower=np.concatenate((lp.row_lower, np.full(len(sites) + 1, -np.inf))),
        row_upper=np.concatenate((lp.row_upper, upper, [search.budget - lp.offset])),
        rows=np.concatenate((lp.rows, row, leveled, np.full(len(costly), budget))),
        columns=np.concatenate((lp.columns, column, np.full(len(leveled), level), costly)),
        values=np.concatenate((lp.values, value, np.full(len(leveled), -1.0), lp.cost[costly])),
    ))  # fmt: skip


def _capped(search: _Search, lp: LinearProgram, layout: Layout, cap: Floats) -> LinearProgram:
    """The cheapest allocation in which no site is used more than its cap."""
    sites = np.flatnonzero(np.isfinite(cap))
    rows = len(lp.row_lower) + np.arange(len(sites))
    row, column, value = _use_rows(search, layout, sites, rows)
    return _in_order(replace(
        lp,
        row_lower=np.append(lp.row_lower, np.full(len(sites), -np.inf)),
        row_upper=np.append(lp.row_upper, _rounded_up(cap[sites])),
        rows=np.append(lp.rows, row), columns=np.append(lp.columns, column), values=np.append(lp.values, value),
    ))  # fmt: skip


def _in_order(lp: LinearProgram) -> LinearProgram:
    """The same programme with its triplets in order of rows, as solvers want them."""
    order = np.lexsort((lp.columns, lp.rows))
    return replace(lp, rows=lp.rows[order], columns=lp.columns[order], values=lp.values[order])


def _use_rows(search: _Search, layout: Layout, sites: Ints, rows: Ints) -> tuple[Ints, Ints, Floats]:
    """Triplets of each site's use in a row of its own."""
    power, problem = layout.power, search.problem
    row_of = np.full(problem.sites, -1)
    row_of[sites] = rows
    mine = (row_of[power.site] >= 0) & (power.sign * search.direction[power.step] > 0)
    site, step = power.site[mine], power.step[mine]
    return row_of[site], power.column[mine], problem.step_h[step] / problem.capacity_kwh[site]


def _run(search: _Search, lp: LinearProgram) -> Solution | None:
    """Solve within half of the time that is left, so that there is some for what follows; None without an optimum."""
    for solver in search.options.solvers:
        if search.left_s <= 0.0:
            return None
        solution = run(lp, solver, search.left_s / 2)
        if solution.optimal:
            return solution
    return None


def _answer(search: _Search, layout: Layout, solution: Solution) -> Allocation:
    power, problem = layout.power, search.problem
    battery_kw = np.zeros((problem.sites, problem.steps))
    np.add.at(battery_kw, (power.site, power.step), power.sign * solution.values[power.column])
    return assemble(
        problem, battery_kw, started=search.started, gap=search.options.gap, bound=search.best.bound, method=LINEAR,
        capacity_kw=np.clip(solution.values[layout.coupling.capacity], 0.0, None),
        marginal_price_per_kwh=marginal_price(problem, layout, solution),
        feeder_price_per_kwh=row_price(problem, solution, layout.coupling.feeder_row),
        solver=str(solution.solver), attempts=(*search.best.attempts, "fairness"),
    )  # fmt: skip


def _rounded_up(cap: Floats) -> Floats:
    return cap * (1.0 + BINDS) + SLACK


def _direction(problem: Problem, measure: str) -> Floats:
    """In which direction power counts in each step, (T,): +1 discharge, -1 charge, 0 not at all."""
    if measure == "throughput":
        return np.ones(problem.steps)
    paid = problem.committed | (problem.capacity_window >= 0) | (problem.program_commitment_kw > 0).any(axis=0)
    return np.where(paid, np.where(problem.committed & (problem.commitment_kw < 0), -1.0, 1.0), 0.0)


def _able(problem: Problem, direction: Floats) -> Bools:
    """Which sites can be used at all, (N,): the others would only look underused."""
    gives = (max_discharge_kw(problem) > 0)[:, direction > 0].any(axis=1)
    takes = (max_charge_kw(problem) > 0).any(axis=1)
    stored = problem.soc * problem.capacity_kwh > floor_kwh(problem) + 1e-9
    absorbs = (max_charge_kw(problem) > 0)[:, direction < 0].any(axis=1)
    return np.asarray((gives & (stored | takes)) | absorbs)


def _missing(problem: Problem, made: Allocation) -> float:
    """What is owed and not done [kWh]."""
    return float((made.shortfall_kw + made.program_shortfall_kw.sum(axis=0)) @ problem.step_h)
