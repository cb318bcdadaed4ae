"""Which programme each site serves in an event, where it may serve only one.

Called by whoever settles enrolment before an event. Each delivered kWh is then claimed by one programme only, because
each site is. Sets: N sites, C programmes and the main commitment, K schedules of a site, T steps. Columns: w_ick >= 0,
share of schedule k of site i given to c; x_ic yes/no, one a site; shortfall, excess and capacity.

    sum over k of w_ick = x_ic,  sum over c of x_ic = 1
    sum over i, k of w_ick power_ikt + shortfall_ct >= owed_ct

Schedules are the sites' own best answers to prices (`linear.build` at a price), made until none can lower the cost of
the relaxed programme; its prices bound what any choice can cost (Dantzig and Wolfe 1960). Then yes and no by HiGHS
over the schedules found. A large fleet (`WHOLE`) takes the prices of a sample that is owed its share, and its sites
choose in turn, each where its answer to those prices saves most of what is still missing. Either way each
programme's sites are then solved by themselves, and that cost stands. Feeders are left to the allocation that follows.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vpp.allocation.answer import feasible, site_cost
from vpp.allocation.discrete import mip
from vpp.allocation.exact import solve
from vpp.allocation.linear import build
from vpp.allocation.options import Options
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.solver import SolverName, run
from vpp.allocation.sparse import Collector, LinearProgram
from vpp.domain.fleet import Bools, Floats

MAIN = -1
WHOLE = 20_000
"""Sites times steps up to which schedules are made for all."""
SAMPLE = 60
FEW = 12
MOST_ROUNDS = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """Who serves what.

    Attributes:
        program: index of the programme each site serves, -1 the main commitment, (N,).
        battery_kw: what each site does for it [kW], (N,T).
        cost: of all sites, shortfalls and excess, less what capacity earns.
        bound: no assignment costs less; -inf where nothing is proven.
        gap: (cost - bound) / max(1, |cost|).
        status: "optimal" where the gap is at most what was asked, else "feasible".
        seconds: wall time [s].
    """

    program: Ints
    battery_kw: Floats
    cost: float
    bound: float
    gap: float
    status: str
    seconds: float


def assign_programs(problem: Problem, options: Options | None = None) -> Assignment:
    """Give each site to one of the programmes that may count it, or to the main commitment, at least cost.

    Args:
        problem: its `program_site` says which programmes may count a site; the main commitment may count all.
        options: `gap`, `time_limit_s` and `solvers` count.
    """
    options, started = options or Options(), time.perf_counter()
    may = np.vstack((problem.program_site, np.ones((1, problem.sites), dtype=bool)))
    bound = -np.inf
    if problem.sites * problem.steps <= WHOLE:
        master = _Master(problem, may, np.arange(problem.sites), 1.0)
        bound = _generate(master, options, started)
        serves, battery_kw, cost = _improve(master, bound, options, started)
    else:
        serves = _in_turn(problem, may, options, started)
        battery_kw, cost = _settled(problem, serves, options, started)
    bound = min(bound, cost)
    gap = (cost - bound) / max(1.0, abs(cost))
    return Assignment(
        program=np.where(serves == len(may) - 1, MAIN, serves), battery_kw=battery_kw, cost=cost, bound=bound, gap=gap,
        status="optimal" if gap <= options.gap else "feasible", seconds=time.perf_counter() - started,
    )  # fmt: skip


def serving(problem: Problem, program: Ints, c: int) -> Problem:
    """The problem of the sites that serve one programme, or with -1 the main commitment, as if it were all they had."""
    mine = problem.only(np.flatnonzero(program == c))
    none = {
        "program_commitment_kw": np.zeros((0, problem.steps)), "program_site": np.zeros((0, mine.sites), dtype=bool),
        "program_shortfall_price_per_kwh": np.zeros((0, problem.steps)), "feeder": np.full(mine.sites, -1),
        "feeder_parent": np.zeros(0, dtype=np.int64), "feeder_export_limit_kw": np.zeros((0, problem.steps)),
        "feeder_import_limit_kw": np.zeros((0, problem.steps)),
    }  # fmt: skip
    if c == MAIN:
        return replace(mine, **none)
    owed, steps = problem.program_commitment_kw[c], problem.steps
    missing = problem.program_shortfall_price_per_kwh[c]
    return replace(
        mine, commitment_kw=owed, committed=owed > 0, shortfall_price_per_kwh=missing,
        excess_price_per_kwh=np.zeros(steps), fixed_kw=np.zeros(steps), capacity_window=np.full(steps, -1),
        capacity_price_per_kw=np.zeros(0), capacity_limit_kw=np.zeros(0), **none,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Answers:
    """What sites do at a price: power (N,T), own cost (N,), and by how much that may be above their least, in all."""

    power_kw: Floats
    cost: Floats
    above: float


def _responses(problem: Problem, price_per_kwh: Floats, solvers: tuple[SolverName, ...]) -> _Answers | None:
    """What each site does best where a delivered kWh earns this (T,); None if no solver says so."""
    lp, layout = build(problem, price_per_kwh)
    answer = next((a for a in (run(lp, solver, 60.0) for solver in solvers) if a.optimal), None)
    if answer is None:
        return None
    power = np.zeros((problem.sites, problem.steps))
    np.add.at(power, (layout.power.site, layout.power.step), layout.power.sign * answer.values[layout.power.column])
    power, energy = feasible(problem, power)
    cost = site_cost(problem, power, energy)
    least = lp.offset + float(lp.cost @ answer.values)
    return _Answers(power, cost, max(0.0, float(cost.sum() - (power @ (price_per_kwh * problem.step_h)).sum()) - least))


def _quick_responses(problem: Problem, price_per_kwh: Floats, options: Options) -> _Answers:
    """The same for a large fleet: where a delivered kWh earns more, each kWh bought or sold costs that much more."""
    zero, steps = np.zeros(problem.steps), problem.steps
    alone = replace(
        serving(problem, np.full(problem.sites, MAIN), MAIN), commitment_kw=zero, committed=np.zeros(steps, dtype=bool),
        capacity_window=np.full(steps, -1), capacity_price_per_kw=np.zeros(0), capacity_limit_kw=np.zeros(0),
    )  # fmt: skip
    dearer = replace(
        alone, import_price_per_kwh=problem.import_price_per_kwh + price_per_kwh,
        export_price_per_kwh=problem.export_price_per_kwh + price_per_kwh,
    )  # fmt: skip
    power, energy = feasible(problem, solve(dearer, options).battery_kw)
    return _Answers(power, site_cost(problem, power, energy), 0.0)


class _Master:
    """Schedules so far, and the programme over them; `share` of all that is owed is asked of these sites."""

    def __init__(self, problem: Problem, may: Bools, rows: Ints, share: float) -> None:
        self.problem, self.may, self.share = problem.only(rows), may[:, rows], share
        self.options = len(may)
        p = problem
        offered = p.capacity_window >= 0
        main_kw = np.where(p.committed, p.commitment_kw - p.fixed_kw, 0.0)
        self.owed_kw = np.vstack((p.program_commitment_kw, main_kw)) * share
        absorbs = p.committed & (p.commitment_kw < 0)
        self.sign = np.vstack((np.ones_like(p.program_commitment_kw), np.where(absorbs, -1.0, 1.0)))
        self.counts = np.vstack((p.program_commitment_kw > 0, p.committed | offered))
        self.short = np.vstack((p.program_shortfall_price_per_kwh, p.shortfall_price_per_kwh))
        self.over = np.vstack((0 * p.program_commitment_kw, np.where(p.committed, p.excess_price_per_kwh, 0.0)))
        self.site: list[Ints] = []
        self.option: list[Ints] = []
        self.power_kw: list[Floats] = []
        self.cost: list[Floats] = []

    def add(self, option: int, answers: _Answers, new: Bools) -> None:
        """Take schedules of these sites in for an option."""
        site = np.flatnonzero(new & self.may[option])
        self.site.append(site)
        self.option.append(np.full(len(site), option))
        self.power_kw.append(answers.power_kw[site])
        self.cost.append(answers.cost[site])

    def programme(self) -> tuple[LinearProgram, Ints, Ints, Ints]:
        """The relaxed programme, schedules first; its rows of (option, step) and of sites; its capacity columns."""
        lp, p = Collector(), self.problem
        site, option = np.concatenate(self.site), np.concatenate(self.option)
        power = np.concatenate(self.power_kw)
        w = lp.add_columns(np.concatenate(self.cost), 0.0, np.inf)
        one = lp.add_rows(np.ones(p.sites), 1.0)
        lp.put(one[site], w, 1.0)
        row = np.full(self.counts.shape, -1)
        c, t = np.nonzero(self.counts)
        owed = (self.sign * self.owed_kw)[c, t]
        row[c, t] = lp.add_rows(owed, owed)
        lp.put(row[c, t], lp.add_columns(self.short[c, t] * p.step_h[t], 0.0, np.inf), 1.0)
        lp.put(row[c, t], lp.add_columns(self.over[c, t] * p.step_h[t], 0.0, np.inf), -1.0)
        at, step = np.nonzero(power)
        lp.put_where(row[option[at], step], w[at], (self.sign[option[at], step] * power[at, step]))
        window = p.capacity_window
        held = np.isin(np.arange(len(p.capacity_price_per_kw)), window)
        limit = np.where(held, p.capacity_limit_kw, 0.0) * self.share
        capacity = lp.add_columns(-p.capacity_price_per_kw, 0.0, np.where(held, limit, 0.0))
        offered = np.flatnonzero(window >= 0)
        lp.put(row[-1, offered], capacity[window[offered]], -1.0)
        return lp.finish(0.0), row, one, capacity

    def price(self, row: Ints, row_prices: Floats) -> Floats:
        """What a delivered kWh is worth to each option in each step, (options,T)."""
        made = np.zeros(row.shape)
        made[row >= 0] = row_prices[row[row >= 0]]
        return np.asarray(made * self.sign / self.problem.step_h)


def _generate(master: _Master, options: Options, started: float) -> float:
    """Make schedules until none lowers the cost of the relaxed programme; returns the bound."""
    p, bound = master.problem, -np.inf
    first = np.where(master.counts, master.sign * master.short, 0.0)
    for price in (np.zeros_like(first), first):
        for c in range(master.options):
            answer = _responses(p, price[c], options.solvers)
            if answer is None:
                return bound
            master.add(c, answer, np.ones(p.sites, dtype=bool))
    for _ in range(MOST_ROUNDS):
        if time.perf_counter() - started > 0.6 * options.time_limit_s:
            break
        lp, row, one, _ = master.programme()
        relaxed = next((a for a in (run(lp, s, options.time_limit_s) for s in options.solvers) if a.optimal), None)
        if relaxed is None:
            break
        price, alone = master.price(row, relaxed.row_prices), relaxed.row_prices[one]
        best, above = np.full(p.sites, np.inf), 0.0
        for c in range(master.options):
            answer = _responses(p, price[c], options.solvers)
            if answer is None:
                return bound
            value = answer.cost - (answer.power_kw * price[c]) @ p.step_h
            best, above = np.where(master.may[c], np.minimum(best, value), best), above + answer.above
            master.add(c, answer, value < alone - 1e-9)
        total = float(lp.cost @ relaxed.values)
        bound = max(bound, total + float((best - alone).sum()) - above)
        if total - bound <= 0.1 * options.gap * max(1.0, abs(total)):
            break
    return bound


def _improve(master: _Master, bound: float, options: Options, started: float) -> tuple[Ints, Floats, float]:
    """The assignment HiGHS finds over the schedules, with power and cost; of few sites one or two are moved at a time.

    There, few schedules were made and one site is a large share of a programme.
    """
    problem, serves = master.problem, _whole(master, options, started)
    battery_kw, cost = _settled(problem, serves, options, started)
    tried = {serves.tobytes()}
    moved = problem.sites <= FEW
    while moved:
        moved = False
        for new in _neighbours(serves, master.may):
            late = time.perf_counter() - started > 0.8 * options.time_limit_s
            if late or cost - bound <= options.gap * max(1.0, abs(cost)):
                return serves, battery_kw, cost
            if new.tobytes() in tried:
                continue
            tried.add(new.tobytes())
            power, total = _settled(problem, new, options, started)
            if total < cost - 1e-9 * max(1.0, abs(cost)):
                serves, battery_kw, cost, moved = new, power, total, True
                break
    return serves, battery_kw, cost


def _neighbours(serves: Ints, may: Bools) -> Iterator[Ints]:
    """Every assignment in which one site serves something else, or two have changed places."""
    for i, now in enumerate(serves.tolist()):
        for c in np.flatnonzero(may[:, i]).tolist():
            if c != now:
                new = serves.copy()
                new[i] = c
                yield new
    for i, j in itertools.combinations(range(len(serves)), 2):
        if serves[i] != serves[j] and may[serves[j], i] and may[serves[i], j]:
            new = serves.copy()
            new[[i, j]] = serves[[j, i]]
            yield new


def _whole(master: _Master, options: Options, started: float) -> Ints:
    """The option of each site, by HiGHS over the schedules; the largest share where it finds nothing in time."""
    lp, *_ = master.programme()
    site, option = np.concatenate(master.site), np.concatenate(master.option)
    grown = Collector(
        [lp.cost], [lp.lower], [lp.upper], len(lp.cost), [lp.row_lower], [lp.row_upper], len(lp.row_lower),
        [(lp.rows, lp.columns, lp.values)],
    )  # fmt: skip
    n, c = np.nonzero(master.may.T)
    x = grown.add_columns(np.zeros(len(n)), 0.0, 1.0)
    number = np.full(master.may.T.shape, -1)
    number[n, c] = np.arange(len(n))
    rows = grown.add_rows(np.zeros(len(n)), 0.0)
    grown.put(rows, x, -1.0)
    grown.put(rows[number[site, option]], np.arange(len(site)), 1.0)
    made = grown.finish(0.0)
    integer = np.zeros(len(made.cost), dtype=bool)
    integer[x] = True
    left_s = max(0.8 * options.time_limit_s - (time.perf_counter() - started), 0.2)
    found = mip.solve(made, integer, solver=mip.MipSolver.HIGHS, time_limit_s=left_s, gap=options.gap / 4)
    shares = np.zeros(master.may.T.shape)
    if found.values is not None:
        shares[n, c] = found.values[x]
    else:
        relaxed = run(lp, SolverName.GLOP, options.time_limit_s)
        if relaxed.optimal:
            np.add.at(shares, (site, option), relaxed.values[: len(site)])
    return np.asarray(np.where(master.may.T, shares + 1e-12, -1.0).argmax(axis=1), dtype=np.int64)


def _in_turn(problem: Problem, may: Bools, options: Options, started: float) -> Ints:
    """The option of each site of a large fleet: prices from a sample, then each where it saves most."""
    sample = np.sort(np.random.default_rng(options.seed).permutation(problem.sites)[:SAMPLE])
    share = float(problem.max_discharge_kw[sample].sum() / max(problem.max_discharge_kw.sum(), 1e-9))
    master = _Master(problem, may, sample, share)
    _generate(master, replace(options, time_limit_s=options.time_limit_s / 2), started)
    lp, row, _, capacity = master.programme()
    relaxed = run(lp, SolverName.GLOP, options.time_limit_s)
    price = master.price(row, relaxed.row_prices)
    every = _Master(problem, may, np.arange(problem.sites), 1.0)
    answers = [_quick_responses(problem, price[c], options) for c in range(every.options)]
    power, cost = np.stack([a.power_kw for a in answers]), np.stack([a.cost for a in answers])
    cost = np.where(every.may, cost, np.inf)
    offered = problem.capacity_window >= 0
    if len(relaxed.values):
        every.owed_kw[-1, offered] = relaxed.values[capacity[problem.capacity_window[offered]]] / share
    left_kw, worth = np.where(every.counts, every.sign * every.owed_kw, 0.0), every.short * problem.step_h
    toward = every.sign * np.where(every.counts, 1.0, 0.0)
    value = cost - np.einsum("cnt,ct->cn", power, price * problem.step_h)
    serves = np.empty(problem.sites, dtype=np.int64)
    # those who lose most by a second choice choose first
    for i in np.argsort(-np.diff(np.sort(value, axis=0)[:2], axis=0)[0], kind="stable").tolist():
        given = power[:, i] * toward
        saved = (worth * (np.clip(left_kw, 0.0, None) - np.clip(left_kw - given, 0.0, None))).sum(axis=1)
        c = int(np.argmin(cost[:, i] - saved))
        serves[i] = c
        left_kw[c] -= given[c]
    return serves


def _settled(problem: Problem, serves: Ints, options: Options, started: float) -> tuple[Floats, float]:
    """Each programme's sites solved by themselves: their power (N,T), and what all costs."""
    battery_kw, cost, last = np.zeros((problem.sites, problem.steps)), 0.0, len(problem.program_commitment_kw)
    program = np.where(serves == last, MAIN, serves)
    for c in (*range(last), MAIN):
        left_s = max(options.time_limit_s - (time.perf_counter() - started), 0.1)
        answer = solve(serving(problem, program, c), replace(options, time_limit_s=left_s))
        battery_kw[program == c] = answer.battery_kw
        cost += answer.objective
    return battery_kw, cost
