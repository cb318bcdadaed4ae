"""Yes/no columns for single sites and steps, put on top of the fleet's linear programme.

Called by `simultaneity.py` and `minimum.py`. A pair is a site and a step. `Whole` holds the programme of
`linear.py` and grows it: which direction a battery goes, in which order charging takes from what there is.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from vpp.allocation.answer import Allocation, assemble, feasible
from vpp.allocation.discrete import mip
from vpp.allocation.limits import max_charge_kw
from vpp.allocation.linear import Layout, build
from vpp.allocation.options import Options
from vpp.allocation.problem import Problem
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import Collector, Ints, LinearProgram, Power
from vpp.domain.fleet import Bools, Floats

TOLERANCE_KW = 1e-6
MIXED = "mixed_integer_programme"


@dataclass(frozen=True, slots=True)
class Found:
    """Values of the columns, what no values can cost less than (offset included), whether proven, and by whom."""

    values: Floats
    bound: float
    status: str


class Whole:
    """The fleet's programme with the yes/no columns put in so far."""

    def __init__(self, problem: Problem, price_per_kwh: Floats | None = None, least_kw: Floats | None = None) -> None:
        self.problem = problem
        nothing = np.broadcast_to(0.0, (problem.sites, problem.steps))
        self.least_kw: Floats = nothing if least_kw is None else least_kw
        lp, self.layout = build(problem, price_per_kwh)
        self.offset = lp.offset
        self.lp = grown(lp)
        self.power, self.chain = _charge_in_order(problem, self.lp, self.layout.power, price_per_kwh)
        self.whole: list[Ints] = []
        self.directed = np.zeros((problem.sites, problem.steps), dtype=bool)
        self.leveled = np.zeros((problem.sites, problem.steps), dtype=bool)
        self.ordered = np.zeros((problem.sites, problem.steps), dtype=bool)

    def programme(self) -> LinearProgram:
        """The programme as it stands."""
        return self.lp.finish(self.offset)

    def relaxed(self, options: Options) -> Solution | None:
        """Solve without regard to yes and no; None if no solver proves its optimum in time."""
        lp, started = self.programme(), time.perf_counter()
        for solver in options.solvers:
            left_s = options.time_limit_s - (time.perf_counter() - started)
            solution = run(lp, solver, max(left_s, 1e-3))
            if solution.optimal:
                return solution
        return None

    def solved(self, time_limit_s: float, absolute_gap: float) -> Found | None:
        """Solve with the yes/no columns; None if nothing was found."""
        lp = self.programme()
        integer = np.zeros(len(lp.cost), dtype=bool)
        for columns in self.whole:
            integer[columns] = True
        answer = mip.solve(lp, integer, solver=mip.MipSolver.HIGHS, time_limit_s=time_limit_s, gap=0.0,
                           absolute_gap=absolute_gap)  # fmt: skip
        if answer.values is None:
            return None
        return Found(answer.values, answer.bound + self.offset, answer.status)

    def flows(self, values: Floats) -> tuple[Floats, Floats]:
        """Discharge and charge [kW] of the columns, each (N,T)."""
        made = np.zeros((2, self.problem.sites, self.problem.steps))
        p = self.power
        np.add.at(made, (np.where(p.sign > 0, 0, 1), p.site, p.step), values[p.column])
        return made[0], made[1]

    def both_ways(self, values: Floats) -> Bools:
        """Where a battery charges and discharges at once, (N,T)."""
        out, into = self.flows(values)
        return np.minimum(out, into) > TOLERANCE_KW

    def out_of_order(self, values: Floats) -> Bools:
        """Where charging takes from a later source before the earlier one is used up, (N,T)."""
        c, made = self.chain, np.zeros((self.problem.sites, self.problem.steps), dtype=bool)
        wrong = (values[c.later] > TOLERANCE_KW) & (values[c.earlier] < c.earlier_kw - TOLERANCE_KW)
        made[c.site[wrong], c.step[wrong]] = True
        return made

    def give_direction(self, pairs: Bools) -> None:
        """Let a battery go one way only in these pairs, (N,T)."""
        site, step = np.nonzero(pairs & ~self.directed)
        self.directed[site, step] = True
        if not len(site):
            return
        out = self.lp.add_columns(np.zeros(len(site)), 0.0, 1.0)
        self.whole.append(out)
        for sign, least, most in ((1.0, 0.0, 1.0), (-1.0, 1.0, -1.0)):
            # discharge <= most * out; charge <= most * (1 - out)
            row_of, mine, bound_kw = self._rows(site, step, sign)
            rows = self.lp.add_rows(np.full(len(site), -np.inf), bound_kw * least)
            self.lp.put(rows[row_of], mine, 1.0)
            self.lp.put(rows, out, -most * bound_kw)

    def below_least(self, values: Floats) -> Bools:
        """Where a battery runs, but below its minimum, (N,T)."""
        out, into = self.flows(values)
        return np.asarray(_too_little(out, self.least_kw) | _too_little(into, self.least_kw))

    def give_least(self, pairs: Bools) -> None:
        """Let a battery idle or run at its minimum or more in these pairs, (N,T), in one direction."""
        site, step = np.nonzero(pairs & ~self.leveled)
        self.leveled[site, step] = True
        if not len(site):
            return
        at_most_one = self.lp.add_rows(np.zeros(len(site)), 1.0)
        for sign in (1.0, -1.0):
            on = self.lp.add_columns(np.zeros(len(site)), 0.0, 1.0)
            self.whole.append(on)
            self.lp.put(at_most_one, on, 1.0)
            row_of, mine, bound_kw = self._rows(site, step, sign)
            for low, high, kw in ((-np.inf, 0.0, bound_kw), (0.0, np.inf, self.least_kw[site, step])):
                rows = self.lp.add_rows(np.full(len(site), low), high)
                self.lp.put(rows[row_of], mine, 1.0)
                self.lp.put(rows, on, -kw)

    def keep_order(self, pairs: Bools) -> None:
        """Let charging take from each source in turn in these pairs, (N,T)."""
        c = self.chain
        new = (pairs & ~self.ordered)[c.site, c.step]
        self.ordered |= pairs
        if not new.any():
            return
        full = self.lp.add_columns(np.zeros(int(new.sum())), 0.0, 1.0)
        self.whole.append(full)
        rows = self.lp.add_rows(np.zeros(len(full)), np.inf)
        self.lp.put(rows, c.earlier[new], 1.0)
        self.lp.put(rows, full, -c.earlier_kw[new])
        rows = self.lp.add_rows(np.full(len(full), -np.inf), 0.0)
        self.lp.put(rows, c.later[new], 1.0)
        self.lp.put(rows, full, -c.later_kw[new])

    def _rows(self, site: Ints, step: Ints, sign: float) -> tuple[Ints, Ints, Floats]:
        """Of each column of one direction in these pairs: its pair and number; and the most of each pair [kW]."""
        number = np.full((self.problem.sites, self.problem.steps), -1)
        number[site, step] = np.arange(len(site))
        p = self.power
        mine = (p.sign == sign) & (number[p.site, p.step] >= 0)
        row_of, columns = number[p.site, p.step][mine], p.column[mine]
        upper = np.concatenate(self.lp.upper)[columns]
        return row_of, columns, np.bincount(row_of, upper, len(site)).astype(np.float64)

    def answer(self, values: Floats, prices: Solution | None, bound: float, options: Options, started: float,
               attempts: tuple[str, ...]) -> Allocation:  # fmt: skip
        """The allocation of these values, costed anew; what would run below its minimum idles."""
        out, into = self.flows(values)
        battery_kw = out - into
        if self.least_kw.any():
            battery_kw, _ = feasible(self.problem, battery_kw)
            # what idles leaves others less room or energy, which may push them below theirs
            while (little := _too_little(np.abs(battery_kw), self.least_kw)).any():
                battery_kw, _ = feasible(self.problem, np.where(little, 0.0, battery_kw))
        fleet, feeder = row_prices(self.problem, self.layout, prices)
        return assemble(
            self.problem, battery_kw, started=started, gap=options.gap, bound=bound, method=MIXED,
            capacity_kw=np.clip(values[self.layout.coupling.capacity], 0.0, None), marginal_price_per_kwh=fleet,
            feeder_price_per_kwh=feeder, solver=str(mip.MipSolver.HIGHS), attempts=attempts,
        )  # fmt: skip

    def settled(self, found: Found, options: Options, time_limit_s: float) -> tuple[Floats, Solution | None]:
        """The best values with every yes and no as found, and with them prices."""
        lp = self.programme()
        lower, upper = lp.lower.copy(), lp.upper.copy()
        for columns in self.whole:
            lower[columns] = upper[columns] = np.round(found.values[columns])
        fixed = replace(lp, lower=lower, upper=upper)
        for solver in options.solvers:
            solution = run(fixed, solver, max(time_limit_s, 0.05))
            if solution.optimal:
                return solution.values, solution
        return found.values, None


def _too_little(power_kw: Floats, least_kw: Floats) -> Bools:
    return np.asarray((power_kw > TOLERANCE_KW) & (power_kw < least_kw - TOLERANCE_KW))


def grown(lp: LinearProgram) -> Collector:
    """A collector that begins with a whole programme."""
    return Collector(
        [lp.cost], [lp.lower], [lp.upper.copy()], len(lp.cost), [lp.row_lower], [lp.row_upper], len(lp.row_lower),
        [(lp.rows, lp.columns, lp.values)],
    )  # fmt: skip


def row_prices(problem: Problem, layout: Layout, prices: Solution | None) -> tuple[Floats | None, Floats | None]:
    """The fleet's price of each step, (T,), and the feeders', (F,T), where a solution has any."""
    if prices is None:
        return None, None

    def of(row: Ints) -> Floats:
        made = np.zeros(row.shape)
        made[row >= 0] = prices.row_prices[row[row >= 0]]
        return np.asarray(made / problem.step_h)

    coupling = layout.coupling
    return of(coupling.main_row) + of(coupling.pattern_row).max(axis=0, initial=0.0), of(coupling.feeder_row)


@dataclass(frozen=True, slots=True)
class Chain:
    """Charging columns of which the earlier one must be full before the later one is used; each (L,)."""

    site: Ints
    step: Ints
    earlier: Ints
    later: Ints
    earlier_kw: Floats
    later_kw: Floats


def _charge_in_order(
    problem: Problem, lp: Collector, power: Power, price_per_kwh: Floats | None
) -> tuple[Power, Chain]:
    """Make charging columns of PV that is curtailed, PV that is sold, and the grid, where their prices do not ascend.

    A battery at a site that curtails stores that energy first, whatever the others cost: where a later source
    costs less than nothing, that makes the cost concave.
    """
    most = max_charge_kw(problem)
    surplus = np.clip(-problem.net_load_kw, 0.0, None)
    sold = np.minimum(surplus, problem.export_limit_kw[:, None])
    curtailed = np.minimum(surplus - sold, most)
    from_sold = np.minimum(sold, most - curtailed)
    bought = most - curtailed - from_sold
    below_nothing = (problem.export_price_per_kwh < 0) | (problem.import_price_per_kwh < 0)
    site, step = np.nonzero((curtailed > 0) & below_nothing)
    zero = np.zeros(0, dtype=np.int64)
    if not len(site):
        return power, Chain(zero, zero, zero, zero, np.zeros(0), np.zeros(0))
    number = np.full(most.shape, -1)
    number[site, step] = np.arange(len(site))
    old = (power.sign < 0) & (number[power.site, power.step] >= 0)
    lp.upper[0][power.column[old]] = 0.0
    # every charging column of a pair has the same coefficients
    pair, first = np.unique(number[power.site, power.step][old], return_index=True)
    template = np.full(lp.columns, -1)
    template[power.column[old][first]] = pair
    rows, columns, values = lp.triplets[0]
    like = template[columns] >= 0
    rows, of_pair, values = rows[like], template[columns[like]], values[like]
    earns = np.broadcast_to(0.0 if price_per_kwh is None else price_per_kwh, most.shape)[site, step]
    parts, bounds = [], (curtailed, from_sold, bought)
    prices = (np.zeros(most.shape), problem.export_price_per_kwh, problem.import_price_per_kwh)
    for bound, price in zip(bounds, prices, strict=True):
        worth = price[site, step] + earns
        made = lp.add_columns(worth * problem.step_h[step], 0.0, bound[site, step])
        lp.put(rows, made[of_pair], values)
        parts.append(made)
    kept = ~old
    grew = Power(
        np.concatenate((power.site[kept], np.tile(site, 3))), np.concatenate((power.step[kept], np.tile(step, 3))),
        np.concatenate((power.sign[kept], np.full(3 * len(site), -1.0))), np.concatenate((power.column[kept], *parts)),
    )  # fmt: skip
    links = []
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        there = (bounds[earlier] > 0)[site, step] & (bounds[later] > 0)[site, step]
        links.append((site[there], step[there], parts[earlier][there], parts[later][there],
                      bounds[earlier][site, step][there], bounds[later][site, step][there]))  # fmt: skip
    return grew, Chain(*(np.concatenate(part) for part in zip(*links, strict=True)))
