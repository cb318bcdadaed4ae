"""The rows that tie the sites together: the main commitment or capacity, programmes, feeders.

Called by `linear.py`. Without these rows a problem falls into one small problem per site.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.feeders import below, room
from vpp.allocation.limits import max_charge_kw, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.allocation.programs import patterns
from vpp.allocation.sparse import Collector, Ints, Power


@dataclass(frozen=True, slots=True)
class Coupling:
    """Where the coupling rows and columns are.

    Attributes:
        capacity: column of each capacity window, (K,).
        main_row: row of each step's main commitment or offer, (T,); -1 where there is none.
        pattern_row: row of each pattern's rest, (Q,T); -1 where there is none.
        feeder_row: row of each feeder, (F,T); -1 where its limits cannot be reached.
        short: column of each step's main shortfall, (T,); -1 where there is none.
        program_short: column of each programme's shortfall, (C,T); -1 where it is owed nothing.
    """

    capacity: Ints
    main_row: Ints
    pattern_row: Ints
    feeder_row: Ints
    short: Ints
    program_short: Ints


def add_coupling(lp: Collector, problem: Problem, power: Power) -> Coupling:
    """Add every row that ties sites together."""
    capacity, main_row, short = _add_main(lp, problem, power)
    pattern_row, program_short = _add_programs(lp, problem, power, main_row)
    return Coupling(capacity, main_row, pattern_row, _add_feeders(lp, problem, power), short, program_short)


def no_coupling(problem: Problem) -> Coupling:
    """What `add_coupling` returns where nothing ties the sites together."""
    none = np.full(problem.steps, -1)
    feeders = np.full((len(problem.feeder_parent), problem.steps), -1)
    program_short = np.full(problem.program_commitment_kw.shape, -1)
    return Coupling(np.zeros(0, dtype=np.int64), none, none[None], feeders, none, program_short)


def _add_main(lp: Collector, problem: Problem, power: Power) -> tuple[Ints, Ints, Ints]:
    """Delivered power, shortfall and excess against what is owed or offered, in each coupled step.

    Delivery: power + shortfall - excess >= owed; turn-up: power - shortfall + excess <= owed. Without a
    price for excess its column is the row's own slack.
    """
    window = problem.capacity_window
    coupled = np.flatnonzero(problem.committed | (window >= 0))
    hours = problem.step_h[coupled]
    # nothing can be held through a window that no step lies in
    held = np.isin(np.arange(len(problem.capacity_price_per_kw)), window)
    capacity = lp.add_columns(-problem.capacity_price_per_kw, 0.0, np.where(held, problem.capacity_limit_kw, 0.0))
    short = lp.add_columns(hours * problem.shortfall_price_per_kwh[coupled], 0.0, np.inf)
    owed = np.where(problem.committed, problem.commitment_kw, 0.0)[coupled]
    sign = np.where(owed < 0, -1.0, 1.0)
    owed = owed - problem.fixed_kw[coupled]
    priced = (problem.excess_price_per_kwh[coupled] > 0) & problem.committed[coupled]
    open_above, open_below = (sign > 0) & ~priced, (sign < 0) & ~priced
    rows = lp.add_rows(np.where(open_below, -np.inf, owed), np.where(open_above, np.inf, owed))
    over = lp.add_columns((hours * problem.excess_price_per_kwh[coupled])[priced], 0.0, np.inf)
    lp.put(rows, short, sign)
    lp.put(rows[priced], over, -sign[priced])
    offered = window[coupled] >= 0
    lp.put(rows[offered], capacity[window[coupled][offered]], -1.0)
    row_of, short_of = np.full((2, problem.steps), -1)
    row_of[coupled], short_of[coupled] = rows, short
    lp.put_where(row_of[power.step], power.column, power.sign)
    return capacity, row_of, short_of


def _add_programs(lp: Collector, problem: Problem, power: Power, main_row: Ints) -> tuple[Ints, Ints]:
    """Parts of each pattern's delivery, which its rest is short of and a programme gets.

    What a programme gets and its shortfall are exactly what it is owed: what is delivered beyond is rest,
    and the main commitment's excess if that has a price.
    """
    owed_kw = problem.program_commitment_kw
    owing = owed_kw > 0
    grouped = patterns(problem)
    counted = (grouped.serves[:, :, None] & owing).any(axis=1)
    pattern_row, short_of = np.full(counted.shape, -1), np.full(owing.shape, -1)
    if not owing.any():
        return pattern_row, short_of
    pattern_row[counted] = lp.add_rows(np.zeros(int(counted.sum())), np.inf)
    lp.put_where(pattern_row[grouped.of_site[power.site], power.step], power.column, power.sign)
    program_row = np.full(owing.shape, -1)
    program_row[owing] = lp.add_rows(owed_kw[owing], owed_kw[owing])
    short = lp.add_columns((problem.program_shortfall_price_per_kwh * problem.step_h)[owing], 0.0, np.inf)
    short_of[owing] = short
    lp.put(program_row[owing], short, 1.0)
    q, c, t = np.nonzero(grouped.serves[:, :, None] & owing)
    part = lp.add_columns(np.zeros(len(q)), 0.0, np.inf)
    lp.put(program_row[c, t], part, 1.0)
    lp.put(pattern_row[q, t], part, -1.0)
    lp.put_where(main_row[t], part, np.full(len(part), -1.0))
    return pattern_row, short_of


def _add_feeders(lp: Collector, problem: Problem, power: Power) -> Ints:
    """Power below each feeder, in the steps in which its limits could be reached at all."""
    row = np.full((len(problem.feeder_parent), problem.steps), -1)
    if not len(row):
        return row
    limits = room(problem)
    tight = below(problem, max_discharge_kw(problem)) > limits.most_kw
    tight |= below(problem, max_charge_kw(problem)) > -limits.least_kw
    row[tight] = lp.add_rows(limits.least_kw[tight], limits.most_kw[tight])
    node = problem.feeder[power.site]
    while (node >= 0).any():
        lp.put_where(np.where(node >= 0, row[node, power.step], -1), power.column, power.sign)
        node = np.where(node >= 0, problem.feeder_parent[node], -1)
    return row
