"""Which mode-only sites run when, at least cost: whole blocks chosen beside the sites that take kW.

Called by `parts.py` for plans and promises. Sets: M mode-only sites, C candidate blocks (`columns.py`), G groups of
the sites that take kW, T steps. Columns: x_c yes/no, at most one a site; b_t power of all blocks [kW], at most the
target and its tolerance; y_gt power of a group [kW] within its power and energy; shortfall, excess and distance from
the wanted share [kW]. Cost: the blocks' own (tariff saved, wear, worth of the energy), the groups' the same, and
what shortfall, excess and imbalance are priced at. The others are thus coordinated by power, energy and price.

The greedy sweep comes first and `descent.py` moves from it, site by site, to a better choice. The relaxed programme
(GLOP) then bounds what any choice could cost. Only if more than `Limits.gap` is still to be gained does CP-SAT choose,
among the candidates of least reduced cost and those taken so far, in whole steps of 10 W and for a fixed amount of
its own work, so that the same input gives the same blocks on every machine. What it says is costed anew.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpp.allocation import blocks, solver
from vpp.allocation.blocks import Blocks, ModeState
from vpp.allocation.discrete import mip
from vpp.allocation.discrete.columns import Columns, candidates
from vpp.allocation.discrete.descent import StepCost, descend
from vpp.allocation.limits import discharge_pieces, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.allocation.sparse import Collector, Ints, LinearProgram
from vpp.domain.fleet import Bools, Floats

GREEDY, DESCENT, SOLVER = "greedy", "descent", "cp_sat"
STEPS_PER_KW = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What the sites that take kW can carry, in groups of like endurance.

    Attributes:
        power_kw: most in each step [kW], (G,T).
        energy_kwh: what each group can deliver in all [kWh], (G,).
        price_per_kwh: what a delivered kWh costs there, (G,T).
    """

    power_kw: Floats
    energy_kwh: Floats
    price_per_kwh: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far to look and what counts.

    Attributes:
        balance_price_per_kwh: of straying from the share at which blocks and the others last equally long: below it
            goes the energy that can follow corrections, above it goes energy that cannot be called twice.
        gap: share of the cost that must be to gain, and with it
        least_gain: the money, before more is tried or another choice is taken.
        prove: work out the bound; without it there is no proof and CP-SAT is not asked.
        work_limit: CP-SAT's deterministic time, roughly seconds.
        time_limit_s: wall time of one solve at which the answer so far is kept, far above what is usual [s].
        most_columns: candidates looked at; of more, starts are thinned.
        pool: candidates CP-SAT chooses from.
    """

    balance_price_per_kwh: float = 0.2
    gap: float = 1e-3
    least_gain: float = 0.01
    prove: bool = True
    work_limit: float = 0.2
    time_limit_s: float = 5.0
    most_columns: int = 6000
    pool: int = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The blocks chosen and how good that is.

    Attributes:
        blocks: what runs when.
        method: who found it: "greedy" (nothing to gain, or nothing better found), "descent" or "cp_sat".
        cost, greedy_cost: the stated cost of this answer and of the greedy one.
        bound: no choice among the candidates costs less; -inf where nothing was proven.
        candidates: how many blocks were looked at.
        seconds: wall time [s].
    """

    blocks: Blocks
    method: str
    cost: float
    greedy_cost: float
    bound: float
    candidates: int
    seconds: float


def others_of(problem: Problem, groups: int = 3) -> Others:
    """Return the sites that take kW as groups of like hours at full power, cut at equal shares of their energy."""
    energy, power = blocks.deliverable_kwh(problem), max_discharge_kw(problem)
    power = np.where(energy[:, None] > 0, power, 0.0)
    worth = problem.terminal_value_per_kwh / problem.discharge_efficiency
    price = np.sum([p.bound_kw * (p.price_per_kwh + worth[:, None]) for p in discharge_pieces(problem)], axis=0)
    hours = energy / np.maximum(power.mean(axis=1), 1e-9)
    order = np.argsort(hours, kind="stable")
    passed = np.cumsum(energy[order]) - energy[order] / 2
    label = np.empty(problem.sites, dtype=np.int64)
    label[order] = np.minimum((groups * passed / max(float(energy.sum()), 1e-9)).astype(np.int64), groups - 1)
    member = (label == np.arange(groups)[:, None]) & (energy > 0)
    kw = member @ power
    return Others(
        power_kw=kw, energy_kwh=member @ energy,
        price_per_kwh=np.divide(member @ np.where(power > 0, price, 0.0), kw, out=np.zeros_like(kw), where=kw > 0),
    )  # fmt: skip


def choose_best(
    problem: Problem, states: Sequence[ModeState], target_kw: Floats, others: Others,
    *, measured_kw: Floats | None = None, tolerance: float = 0.02, limits: Limits | None = None,
) -> Choice:  # fmt: skip
    """Return the cheapest choice of blocks that could be found, never dearer than the greedy one.

    Args:
        problem: the mode-only sites; committed steps are the event; its prices of shortfall and excess count.
        states, target_kw, measured_kw, tolerance: as for `blocks.choose`.
        others: the sites that take kW, as `others_of` gives them.
        limits: how far to look.
    """
    started = time.perf_counter()
    limits = limits or Limits()
    event_h = max(float(problem.step_h[problem.committed].sum()), 1e-9)
    held_kw = np.minimum(others.power_kw, (others.energy_kwh / event_h)[:, None]).sum(axis=0)
    total_kwh = float(others.energy_kwh.sum())
    greedy = blocks.choose(problem, states, target_kw, held_kw, total_kwh, measured_kw=measured_kw, tolerance=tolerance)
    sweep = blocks.Sweep(
        blocks.limits_kw(problem, states, measured_kw), blocks.deliverable_kwh(problem), problem.step_h,
        target_kw * (1.0 + tolerance), problem.committed,
    )  # fmt: skip
    columns = candidates(problem, states, sweep, greedy, limits.most_columns)
    wanted = blocks.wanted_kw(problem, states, target_kw, held_kw, total_kwh)
    asked = _Asked(target_kw, sweep.cap_kw, wanted, limits.balance_price_per_kwh)
    running = np.flatnonzero([state is ModeState.RUNNING for state in states])
    search = _Search(problem, columns, others, asked, running, limits)
    best, greedy_cost, bound = search.best()
    return Choice(
        blocks=greedy if best.method == GREEDY else _blocks(problem, columns, best.taken), method=best.method,
        cost=best.cost, greedy_cost=greedy_cost, bound=bound, candidates=len(columns.site),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is owed, the most that blocks may give, and the share they should, each (T,) [kW]."""

    target_kw: Floats
    cap_kw: Floats
    wanted_kw: Floats
    balance_price_per_kwh: float


@dataclass(frozen=True, slots=True)
class _Found:
    """A choice: who found it, the candidate of each site (M,) or -1, its cost, the worth of the groups' energy (G,)."""

    method: str
    of_site: Ints
    cost: float
    worth_per_kwh: Floats

    @property
    def taken(self) -> Ints:
        """The candidates taken."""
        return self.of_site[self.of_site >= 0]


class _Search:
    """From the greedy choice to the best that can be found."""

    def __init__(
        self, problem: Problem, columns: Columns, others: Others, asked: _Asked, running: Ints, limits: Limits
    ) -> None:
        self.problem, self.columns, self.others, self.asked = problem, columns, others, asked
        self.running, self.limits = running, limits
        self.lp = _programme(problem, columns, others, asked, running)
        self.count = len(columns.site)

    def best(self) -> tuple[_Found, float, float]:
        """Return the best choice, what the greedy one costs, and the bound."""
        first = best = self.costed(GREEDY, self.columns.greedy)
        if not np.isfinite(first.cost):
            return first, first.cost, -np.inf
        best = self.better(best, self.costed(DESCENT, self.descended(first)))
        if not self.limits.prove:
            return best, first.cost, -np.inf
        relaxed = solver.run(self.lp, solver.SolverName.GLOP, self.limits.time_limit_s)
        if not relaxed.optimal:
            return best, first.cost, -np.inf
        bound = float(relaxed.bound)
        if best.cost - bound > max(self.limits.gap * abs(best.cost), self.limits.least_gain):
            best = self.better(best, self.costed(SOLVER, self.solved(best, relaxed.row_prices)))
        return best, first.cost, bound

    def better(self, old: _Found, new: _Found) -> _Found:
        """The new one if it is better by more than rounding and `least_gain`."""
        return new if new.cost < old.cost - self.limits.least_gain else old

    def costed(self, method: str, of_site: Ints) -> _Found:
        """What a choice costs with the others' best answer to it; infinite if that cannot be said."""
        keep = np.zeros(self.count, dtype=bool)
        keep[of_site[of_site >= 0]] = True
        lp = _only(self.lp, keep)
        lp.lower[: int(keep.sum())] = 1.0
        answer = solver.run(lp, solver.SolverName.GLOP, self.limits.time_limit_s)
        if not answer.optimal:
            return _Found(method, of_site, np.inf, np.zeros(len(self.others.energy_kwh)))
        worth = -answer.row_prices[len(answer.row_prices) - len(self.others.energy_kwh) :]
        return _Found(method, of_site, float(lp.cost @ answer.values), worth)

    def descended(self, at: _Found) -> Ints:
        """The choice no single site can better while the others' energy keeps its worth."""
        price = self.others.price_per_kwh + at.worth_per_kwh[:, None]
        order = np.argsort(price, axis=0, kind="stable")
        on, p = self.problem.committed, self.problem
        cost = StepCost(
            np.where(on, p.step_h, 0.0), self.asked.target_kw, self.asked.cap_kw, self.asked.wanted_kw,
            p.shortfall_price_per_kwh, p.excess_price_per_kwh,
            np.full(p.steps, self.asked.balance_price_per_kwh),
            np.take_along_axis(self.others.power_kw, order, axis=0), np.take_along_axis(price, order, axis=0),
        )  # fmt: skip
        return descend(self.columns, self.lp.cost[: self.count], self.running, at.of_site, cost)

    def solved(self, at: _Found, row_prices: Floats) -> Ints:
        """CP-SAT's choice among the candidates of least reduced cost."""
        lp = self.lp
        priced = np.bincount(lp.columns, weights=lp.values * row_prices[lp.rows], minlength=len(lp.cost))
        reduced = (lp.cost - priced)[: self.count]
        keep = np.zeros(self.count, dtype=bool)
        keep[np.argsort(reduced, kind="stable")[: self.limits.pool]] = True
        keep[at.taken] = True
        keep[self.columns.greedy[self.columns.greedy >= 0]] = True
        hint = np.full(len(lp.cost), np.nan)
        hint[: self.count] = 0.0
        hint[at.taken] = 1.0
        smaller = _whole(_only(lp, keep), int(keep.sum()), self.problem.sites)
        answer = mip.solve(
            smaller, np.ones(len(smaller.cost), dtype=bool), solver=mip.MipSolver.CP_SAT,
            time_limit_s=self.limits.time_limit_s, gap=self.limits.gap, hint=hint[_kept(lp, keep)],
            work_limit=self.limits.work_limit,
        )  # fmt: skip
        if answer.values is None:
            return at.of_site
        taken = np.flatnonzero(keep)[answer.values[: int(keep.sum())] > 0.5]
        of_site = np.full(self.problem.sites, -1)
        of_site[self.columns.site[taken]] = taken
        return of_site


def _programme(problem: Problem, columns: Columns, others: Others, asked: _Asked, running: Ints) -> LinearProgram:
    """The relaxed programme. Candidates are its first columns, sites its first rows, the groups' energy its last."""
    lp, hours, steps = Collector(), problem.step_h, problem.steps
    zero, least = np.zeros(steps), np.zeros(problem.sites)
    least[running] = 1.0  # what runs goes on unless a candidate says otherwise
    on = np.where(problem.committed, 1.0, 0.0)
    x = lp.add_columns(_own_cost(problem, columns), 0.0, 1.0)
    b = lp.add_columns(zero, 0.0, asked.cap_kw)
    short = lp.add_columns(hours * problem.shortfall_price_per_kwh * on, 0.0, asked.target_kw + asked.cap_kw)
    over = lp.add_columns(hours * problem.excess_price_per_kwh * on, 0.0, asked.cap_kw)
    stray = [lp.add_columns(hours * asked.balance_price_per_kwh * on, 0.0, 2 * asked.cap_kw) for _ in range(2)]
    at_most_one = lp.add_rows(least, 1.0)
    lp.put(at_most_one[columns.site], x, 1.0)
    sums, (at, t) = lp.add_rows(zero, 0.0), np.nonzero(columns.power_kw)
    lp.put(sums[t], x[at], columns.power_kw[at, t])
    lp.put(sums, b, -1.0)
    owed = lp.add_rows(asked.target_kw, asked.target_kw)
    for column, sign in ((b, 1.0), (short, 1.0), (over, -1.0)):
        lp.put(owed, column, sign)
    share = lp.add_rows(asked.wanted_kw, asked.wanted_kw)
    for column, sign in ((b, 1.0), (stray[0], 1.0), (stray[1], -1.0)):
        lp.put(share, column, sign)
    stored = lp.add_rows(np.zeros(len(others.energy_kwh)), others.energy_kwh)
    for g, power in enumerate(others.power_kw):
        y = lp.add_columns(hours * others.price_per_kwh[g] * on, 0.0, power * on)
        lp.put(owed, y, 1.0)
        lp.put(np.repeat(stored[g], steps), y, hours)
    return lp.finish(0.0)


def _own_cost(problem: Problem, columns: Columns) -> Floats:
    """What each block costs its site, (C,): wear less what it saves and earns, and the worth of its energy."""
    worth = (problem.terminal_value_per_kwh / problem.discharge_efficiency)[columns.site, None]
    cost, left = columns.power_kw * worth, columns.power_kw
    for piece in discharge_pieces(problem):  # in the order in which power fills them
        part = np.minimum(left, piece.bound_kw[columns.site])
        cost, left = cost + part * piece.price_per_kwh[columns.site], left - part
    return np.asarray(cost @ problem.step_h)


def _kept(lp: LinearProgram, keep: Bools) -> Bools:
    """Which columns stay if of the first ones only these do, (columns,)."""
    return np.concatenate((keep, np.ones(len(lp.cost) - len(keep), dtype=bool)))


def _only(lp: LinearProgram, keep: Bools) -> LinearProgram:
    """The programme without those of its first columns that are not kept."""
    kept = _kept(lp, keep)
    number, mine = np.cumsum(kept) - 1, kept[lp.columns]
    return LinearProgram(
        lp.cost[kept], lp.lower[kept], lp.upper[kept], lp.row_lower, lp.row_upper,
        lp.rows[mine], number[lp.columns[mine]], lp.values[mine],
    )  # fmt: skip


def _whole(lp: LinearProgram, choices: int, sites: int) -> LinearProgram:
    """The programme in whole numbers for CP-SAT: power in steps of 10 W, caps and energies rounded up."""
    power, of_power = np.arange(len(lp.cost)) >= choices, np.arange(len(lp.row_lower)) >= sites
    in_kw = of_power[lp.rows] & ~power[lp.columns]  # candidates' powers; the other coefficients are 1 or hours
    return LinearProgram(
        np.where(power, lp.cost / STEPS_PER_KW, lp.cost), lp.lower,
        np.where(power, np.ceil(lp.upper * STEPS_PER_KW), lp.upper),
        np.where(of_power, np.round(lp.row_lower * STEPS_PER_KW), lp.row_lower),
        np.where(of_power, np.round(lp.row_upper * STEPS_PER_KW), lp.row_upper),
        lp.rows, lp.columns, np.where(in_kw, np.round(lp.values * STEPS_PER_KW), lp.values),
    )  # fmt: skip


def _blocks(problem: Problem, columns: Columns, taken: Ints) -> Blocks:
    power, start = np.zeros((problem.sites, problem.steps)), np.full(problem.sites, -1)
    power[columns.site[taken]], start[columns.site[taken]] = columns.power_kw[taken], columns.start[taken]
    return Blocks(power, tuple(start.tolist()))
