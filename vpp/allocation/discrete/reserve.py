"""Schedules that survive the loss of a group of sites: the largest site, one vendor's cloud, one feeder.

Called by whoever plans an award that must hold (N-1). Sets: N sites, T steps, G groups of which any one may be lost.
Columns on top of `linear.py`: r_it, power site i holds back in step t [kW]; f_it, its energy if all of that were
called from the start [kWh]; u_gt, what nobody covers of group g [kW], and its worst u_t, both at a price.

    r_it <= most discharge - battery power            headroom in power
    f_it  = f_i,t-1 - drawn by the schedule and by r   and in energy, above the floor until the last owed step
    sum of r_it outside g + u_gt >= power of g         for every group and every step in which delivery is owed
    battery power and r below a feeder <= its limit    so that what is held back can be called

One r serves every group, because only one is lost; that all of it is called from the first owed step on is the worst
moment to lose a group, as any later one needs less. Both make the answer safe rather than sharp.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.discrete.pairs import grown, row_prices
from vpp.allocation.exact import solve
from vpp.allocation.feeders import room
from vpp.allocation.limits import floor_kwh, max_discharge_kw
from vpp.allocation.linear import build
from vpp.allocation.options import Options
from vpp.allocation.problem import Problem
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import Collector, Ints, LinearProgram, Power
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

WHOLE = 100_000
"""Sites times steps up to which the reserve is planned; above, the plain answer is told what it covers."""
RESERVE_SHARE = 0.5
"""Price of what nobody covers, as a share of what not delivering costs: delivering comes first."""
EVERY_SHARE = 0.01
"""How much of that price is for the mean of all groups, so that those beside the worst are covered, too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reserved:
    """An allocation and what stands behind it.

    Attributes:
        allocation: as usual; its cost leaves out the price of what is not covered, and so does its bound:
            no answer that covers as much costs less.
        reserve_kw: power each site holds back [kW], (N,T); it can be called from any owed step to the last.
        groups: the groups that may be lost, (G,).
        uncovered_kw: what is missing if a group is lost [kW], (G,T).
    """

    allocation: Allocation
    reserve_kw: Floats
    groups: Ints
    uncovered_kw: Floats


def with_reserve(
    problem: Problem, group: npt.ArrayLike, options: Options | None = None, *,
    price_per_kwh: npt.ArrayLike | None = None,
) -> Reserved:  # fmt: skip
    """Return the cheapest allocation whose delivery the rest of the fleet can take over when any one group is lost.

    Args:
        problem: its committed steps with delivery owed, and its capacity windows, are covered; turn-up is not.
        group: what each site is lost with, (N,) whole numbers; -1 for nothing. `range(N)` covers the largest site.
        options: `gap`, `time_limit_s` and `solvers` count.
        price_per_kwh: of what nobody covers of the worst loss, (T,); default half the price of not delivering.

    Raises:
        InvalidRequest: `group` is not one whole number a site.
    """
    options, started = options or Options(), time.perf_counter()
    of_site = np.asarray(group)
    if of_site.shape != (problem.sites,) or of_site.dtype.kind not in "iu":
        raise InvalidRequest("group", f"{of_site.dtype} {of_site.shape}", f"whole numbers, shape ({problem.sites},)")
    owed = (problem.committed & (problem.commitment_kw > 0)) | (problem.capacity_window >= 0)
    price = problem.shortfall_price_per_kwh * RESERVE_SHARE if price_per_kwh is None else price_per_kwh
    price = np.broadcast_to(np.asarray(price, dtype=np.float64), (problem.steps,))
    groups = np.unique(of_site[of_site >= 0]).astype(np.int64)
    number = np.searchsorted(groups, of_site) if len(groups) else np.zeros(problem.sites, dtype=np.int64)
    number = np.where(of_site >= 0, number, -1)
    if owed.any() and len(groups) and problem.sites * problem.steps <= WHOLE:
        planned = _planned(problem, number, len(groups), np.flatnonzero(owed), price, options, started)
        if planned is not None:
            return Reserved(
                allocation=planned[0], reserve_kw=planned[1], groups=groups,
                uncovered_kw=_uncovered(planned[0].battery_kw, planned[1], number, len(groups), owed),
            )  # fmt: skip
    left_s = max(options.time_limit_s - (time.perf_counter() - started), 1e-3)
    plain = solve(problem, replace(options, time_limit_s=left_s))
    reserve = _at_hand(problem, plain, np.flatnonzero(owed))
    return Reserved(
        allocation=plain, reserve_kw=reserve, groups=groups,
        uncovered_kw=_uncovered(plain.battery_kw, reserve, number, len(groups), owed),
    )  # fmt: skip


def _planned(
    problem: Problem, number: Ints, groups: int, owed: Ints, price_per_kwh: Floats, options: Options, started: float
) -> tuple[Allocation, Floats] | None:
    """The allocation and the reserve of one programme for both; None if no solver has it in time."""
    plain, layout = build(problem)
    lp = grown(plain)
    reserve = _add_headroom(lp, problem, layout.power, owed)
    _add_feeders(lp, problem, layout.power, reserve, owed)
    uncovered = _add_groups(lp, problem, layout.power, reserve, number, groups, owed, price_per_kwh)
    made = lp.finish(plain.offset)
    solution = _run(made, options, started)
    if solution is None:
        return None
    values, power = solution.values, layout.power
    battery_kw, held_kw = np.zeros((2, problem.sites, problem.steps))
    np.add.at(battery_kw, (power.site, power.step), power.sign * values[power.column])
    held_kw[:, owed] = values[reserve]
    penalty = float(made.cost[uncovered] @ values[uncovered])
    fleet, feeder = row_prices(problem, layout, solution)
    return assemble(
        problem, battery_kw, started=started, gap=options.gap, bound=solution.bound + plain.offset - penalty,
        capacity_kw=np.clip(values[layout.coupling.capacity], 0.0, None), marginal_price_per_kwh=fleet,
        feeder_price_per_kwh=feeder, method="linear_programme", solver=str(solution.solver),
        attempts=(f"with reserve, {solution.solver}: {solution.status}",),
    ), held_kw  # fmt: skip


def _run(lp: LinearProgram, options: Options, started: float) -> Solution | None:
    for solver in options.solvers:
        left_s = options.time_limit_s - (time.perf_counter() - started)
        if left_s <= 0:
            return None
        solution = run(lp, solver, left_s)
        if solution.optimal:
            return solution
    return None


def _add_headroom(lp: Collector, problem: Problem, power: Power, owed: Ints) -> Ints:
    """Power held back by each site in each owed step, (N,len(owed)), with its rows of power and energy."""
    sites, last = problem.sites, int(owed[-1]) + 1
    most = max_discharge_kw(problem)
    zero = np.zeros(sites * len(owed))
    reserve = lp.add_columns(zero, 0.0, np.inf).reshape(sites, len(owed))
    headroom = np.full((sites, problem.steps), -1)
    headroom[:, owed] = lp.add_rows(np.full(zero.shape, -np.inf), most[:, owed].ravel()).reshape(reserve.shape)
    lp.put(headroom[:, owed].ravel(), reserve.ravel(), 1.0)
    lp.put_where(headroom[power.site, power.step], power.column, power.sign)
    energy = lp.add_columns(np.zeros(sites * last), np.repeat(floor_kwh(problem), last), np.inf).reshape(sites, last)
    start = np.zeros((sites, last))
    start[:, 0] = problem.soc * problem.capacity_kwh
    balance = np.full((sites, problem.steps), -1)
    balance[:, :last] = lp.add_rows(start.ravel(), start.ravel()).reshape(sites, last)
    lp.put(balance[:, :last].ravel(), energy.ravel(), 1.0)
    lp.put(balance[:, 1:last].ravel(), energy[:, :-1].ravel(), -1.0)
    drawn = np.where(
        power.sign > 0, 1.0 / problem.discharge_efficiency[power.site], -problem.charge_efficiency[power.site]
    )
    lp.put_where(balance[power.site, power.step], power.column, drawn * problem.step_h[power.step])
    called = problem.step_h[owed] / problem.discharge_efficiency[:, None]
    lp.put(balance[:, owed].ravel(), reserve.ravel(), called.ravel())
    return reserve


def _add_feeders(lp: Collector, problem: Problem, power: Power, reserve: Ints, owed: Ints) -> None:
    """All that is held back below a feeder, called at once, stays within its export limit."""
    if not len(problem.feeder_parent):
        return
    most = room(problem).most_kw[:, owed]
    row = np.full((len(most), problem.steps), -1)
    finite = np.zeros(row.shape, dtype=bool)
    finite[:, owed] = np.isfinite(most)
    row[finite] = lp.add_rows(np.full(int(finite.sum()), -np.inf), most[np.isfinite(most)])
    site, at = (part.ravel() for part in np.indices(reserve.shape))
    for sites, steps, columns, values in (
        (power.site, power.step, power.column, power.sign),
        (site, owed[at], reserve.ravel(), np.ones(reserve.size)),
    ):
        node = problem.feeder[sites]
        while (node >= 0).any():
            lp.put_where(np.where(node >= 0, row[node, steps], -1), columns, values)
            node = np.where(node >= 0, problem.feeder_parent[node], -1)


def _add_groups(
    lp: Collector,
    problem: Problem,
    power: Power,
    reserve: Ints,
    number: Ints,
    groups: int,
    owed: Ints,
    price_per_kwh: Floats,
) -> Ints:
    """What the others hold back covers each group; returns the columns of what nobody covers."""
    count = len(owed)
    total = lp.add_columns(np.zeros(count), 0.0, np.inf)
    sums = lp.add_rows(np.zeros(count), 0.0)
    lp.put(sums, total, -1.0)
    lp.put(np.tile(sums, problem.sites), reserve.ravel(), 1.0)
    each = (price_per_kwh * problem.step_h)[owed]
    worst = lp.add_columns((1.0 - EVERY_SHARE) * each, 0.0, np.inf)
    uncovered = lp.add_columns(np.tile(EVERY_SHARE * each / groups, groups), 0.0, np.inf).reshape(groups, count)
    at_worst = lp.add_rows(np.zeros(groups * count), np.inf)
    lp.put(at_worst, np.tile(worst, groups), 1.0)
    lp.put(at_worst, uncovered.ravel(), -1.0)
    cover = np.full((groups, problem.steps), -1)
    cover[:, owed] = lp.add_rows(np.zeros(groups * count), np.inf).reshape(groups, count)
    lp.put(cover[:, owed].ravel(), uncovered.ravel(), 1.0)
    lp.put(cover[:, owed].ravel(), np.tile(total, groups), 1.0)
    mine = np.flatnonzero(number >= 0)
    lp.put(cover[number[mine]][:, owed].ravel(), reserve[mine].ravel(), -1.0)
    row = np.where(number[power.site] >= 0, cover[number[power.site], power.step], -1)
    lp.put_where(row, power.column, -power.sign)
    return np.concatenate((worst, uncovered.ravel()))


def _uncovered(battery_kw: Floats, reserve_kw: Floats, number: Ints, groups: int, owed: Bools) -> Floats:
    """What is missing if a group is lost [kW], (G,T), worked out from schedules and reserve alone."""
    member = (number == np.arange(groups)[:, None]).astype(np.float64)
    missing = member @ battery_kw - (reserve_kw.sum(axis=0) - member @ reserve_kw)
    missing = np.where(owed, np.clip(missing, 0.0, None), 0.0)
    missing[missing < 1e-6] = 0.0
    return np.asarray(missing)


def _at_hand(problem: Problem, plain: Allocation, owed: Ints) -> Floats:
    """Headroom that a plain answer happens to leave, spread evenly over the owed steps [kW], (N,T)."""
    held = np.zeros((problem.sites, problem.steps))
    if not len(owed):
        return held
    ahead = plain.soc[:, 1 : int(owed[-1]) + 2].min(axis=1) * problem.capacity_kwh - floor_kwh(problem)
    spare_kw = np.clip(ahead, 0.0, None) * problem.discharge_efficiency / problem.step_h[owed].sum()
    spare = np.clip(max_discharge_kw(problem) - plain.battery_kw, 0.0, None)[:, owed]
    held[:, owed] = np.minimum(spare, spare_kw[:, None])
    return held
