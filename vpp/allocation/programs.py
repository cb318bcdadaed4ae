"""Several programmes that count the same batteries: who may serve which, and what each one then gets.

Called by `linear.py` for the groups of sites, and by `answer.py`, which splits what was delivered
without a solver and so checks one.

Sites with the same programmes are a pattern. In a step in which one of its programmes is owed power,
a pattern's delivery D >= 0 is parted into what each programme gets and a rest; the rests of all
patterns go to the main commitment, which is owed on top.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.problem import Ints, Problem
from vpp.domain.fleet import Bools, Floats


@dataclass(frozen=True, slots=True)
class Patterns:
    """The pattern of each site, (N,), and the programmes of each pattern, (Q,C)."""

    of_site: Ints
    serves: Bools


def patterns(problem: Problem) -> Patterns:
    """Group the sites by the programmes that may count them."""
    programs = len(problem.program_commitment_kw)
    code = np.zeros(problem.sites, dtype=np.int64)
    for c in range(programs):
        code |= problem.program_site[c].astype(np.int64) << c
    codes, of_site = np.unique(code, return_inverse=True)
    return Patterns(of_site.reshape(-1).astype(np.int64), (codes[:, None] >> np.arange(programs)) & 1 == 1)


def delivered_kw(grouped: Patterns, battery_kw: Floats) -> Floats:
    """Power of each pattern, (Q,T)."""
    count = len(grouped.serves)
    by_step = [np.bincount(grouped.of_site, battery_kw[:, t], count) for t in range(battery_kw.shape[1])]
    return np.stack(by_step, axis=1) if by_step else np.zeros((count, 0))


@dataclass(frozen=True, slots=True)
class Served:
    """What each programme gets (C,T) and what is left for the main commitment (T,) [kW]."""

    programs_kw: Floats
    rest_kw: Floats


def serve(problem: Problem, battery_kw: Floats, main_kw: Floats) -> Served:
    """Part what the batteries deliver over the programmes and the main commitment so that shortfall costs least.

    Args:
        main_kw: what the main commitment needs from batteries, (T,); -inf where nothing is owed.
    """
    total_kw = battery_kw.sum(axis=0)
    got = np.zeros_like(problem.program_commitment_kw)
    owing = np.flatnonzero((problem.program_commitment_kw > 0).any(axis=0))
    if owing.size:
        grouped = patterns(problem)
        by_pattern = delivered_kw(grouped, battery_kw)
        for t in owing:
            got[:, t] = _best_split(problem, int(t), grouped.serves, by_pattern[:, t], float(main_kw[t]))
    return Served(got, total_kw - got.sum(axis=0))


def _best_split(problem: Problem, t: int, serves: Bools, pattern_kw: Floats, main_kw: float) -> Floats:
    """What each programme gets in one step, (C,).

    The sets of demands that the patterns can meet form a polymatroid, so serving the dearest first, as
    far as it goes without taking back from a dearer one, is best. How far that is for the first k
    demands together: the least, over subsets B of them, of what all but B ask plus all that can reach B.
    """
    owed_kw, price = problem.program_commitment_kw[:, t], problem.program_shortfall_price_per_kwh[:, t]
    owing = np.flatnonzero(owed_kw > 0)
    counted = serves[:, owing].any(axis=1)
    give_kw = np.clip(pattern_kw[counted], 0.0, None)
    # what no programme may count goes to the main commitment, and what is absorbed counts against it
    main_kw = max(0.0, main_kw - float(pattern_kw.sum() - give_kw.sum()))
    reach = np.hstack([serves[counted][:, owing], np.ones((int(counted.sum()), 1), dtype=bool)])
    asked = np.append(owed_kw[owing], main_kw)
    worth = np.append(price[owing], problem.shortfall_price_per_kwh[t])
    order = np.argsort(-worth, kind="stable")
    subset = np.arange(1 << len(order))
    spare = np.zeros(len(subset))
    for k, demand in enumerate(order):
        spare -= np.where(subset >> k & 1, asked[demand], 0.0)
    for row, kw in zip(reach[:, order], give_kw, strict=True):
        mask = int((row << np.arange(len(order))).sum())
        spare += np.where(subset & mask, kw, 0.0)
    met = np.array([asked[order[:k]].sum() + spare[: 1 << k].min() for k in range(len(order) + 1)])
    got = np.zeros(len(order))
    got[order] = np.clip(np.diff(met), 0.0, None)
    made = np.zeros(len(owed_kw))
    made[owing] = got[:-1]
    return made
