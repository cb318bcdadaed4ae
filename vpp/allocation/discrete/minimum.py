"""Inverters that cannot run below a minimum: idle, or at least that much, in either direction.

Called by whoever dispatches such sites. Sets: the pairs (site, step) in which an answer would run below the minimum.
Columns on top of `linear.py`: two yes/no a pair, whether it discharges and whether it charges.

    minimum x yes_out <= discharge <= most x yes_out,   the same for charging,   yes_out + yes_in <= 1

Pairs come in as answers break them; once none does, the programme is the problem itself, and its bound holds at every
stage. Large fleets go in lots, coordinated by what the others do, with a bound from the fleet's prices. What would
still run below its minimum when time is up idles, which no limit forbids.
"""

import time

import numpy as np
import numpy.typing as npt

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.discrete.pairs import MIXED, Whole
from vpp.allocation.discrete.simultaneity import in_lots, together
from vpp.allocation.options import Options
from vpp.allocation.problem import Problem
from vpp.domain.errors import InvalidRequest

WHOLE = 2_000
"""Sites times steps up to which one programme holds all; above, the sites choose in lots, beside what the others do."""


def with_minimum_power(
    problem: Problem, minimum_kw: npt.ArrayLike, options: Options | None = None, *, steps: npt.ArrayLike | None = None
) -> Allocation:
    """Return the best allocation in which every battery idles or runs at its minimum or more, with its proven gap.

    Args:
        problem: any problem.
        minimum_kw: least power of each site in either direction, (N,); 0 for none.
        options: `gap`, `time_limit_s` and `solvers` count.
        steps: where the minimum holds, (T,); default where delivery or absorption is owed or capacity offered.

    Raises:
        InvalidRequest: a minimum that is negative, not finite or of another shape.
    """
    options, started = options or Options(), time.perf_counter()
    least = np.asarray(minimum_kw, dtype=np.float64)
    if least.shape != (problem.sites,) or not np.isfinite(least).all() or (least < 0).any():
        raise InvalidRequest("minimum_kw", least.shape, f"powers of 0 kW or more, shape ({problem.sites},)")
    owed = problem.committed | (problem.capacity_window >= 0)
    holds = owed if steps is None else np.asarray(steps, dtype=bool)
    least_kw = np.where(holds, least[:, None], 0.0)
    if problem.sites * problem.steps <= WHOLE:
        found = together(problem, options, started, 0.0, least_kw)
        return _idle(problem, options, started) if found is None else found
    whole = Whole(problem, least_kw=least_kw)
    relaxed = whole.relaxed(options)
    if relaxed is None:
        return _idle(problem, options, started)
    start = whole.answer(relaxed.values, relaxed, relaxed.bound + whole.offset, options, started, ("relaxed: optimal",))
    return in_lots(
        problem, options, start, started, np.flatnonzero(least_kw.any(axis=1)), proves=True, least_kw=least_kw
    )


def _idle(problem: Problem, options: Options, started: float) -> Allocation:
    """What is certainly possible: nobody runs."""
    return assemble(
        problem, np.zeros((problem.sites, problem.steps)), started=started, gap=options.gap, method=MIXED,
        attempts=("relaxed: no answer in time",),
    )  # fmt: skip
