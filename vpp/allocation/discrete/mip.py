"""Programmes with yes/no columns solved.  Called by its neighbours in this package.

The words of it; OR-Tools itself is in `mathopt.py`.
"""

from dataclasses import dataclass
from enum import StrEnum

from vpp.allocation.sparse import LinearProgram
from vpp.domain.fleet import Bools, Floats


class MipSolver(StrEnum):
    """Solvers of the OR-Tools wheel that take yes/no columns."""

    HIGHS = "highs"
    CP_SAT = "cp_sat"
    GSCIP = "gscip"


@dataclass(frozen=True, slots=True)
class MipAnswer:
    """What a solver found.

    Attributes:
        values: of the best answer found, (columns,); None if there is none.
        objective: its cost as the solver sees it.
        bound: no answer can cost less; -inf if nothing is proven.
        status: how the solver put it: "optimal", "feasible", "no_solution_found", "infeasible", "error: ...".
        solver, seconds: which, and its wall time [s].
    """

    values: Floats | None
    objective: float
    bound: float
    status: str
    solver: MipSolver
    seconds: float


def solve(
    lp: LinearProgram, integer: Bools, *, solver: MipSolver, time_limit_s: float, gap: float,
    absolute_gap: float = 0.0, hint: Floats | None = None, work_limit: float | None = None,
) -> MipAnswer:  # fmt: skip
    """Solve once; whatever happens comes back as an answer, never as an error.

    Args:
        lp: the programme; integer: which of its columns are whole numbers, (columns,).
        time_limit_s: wall time [s].
        gap, absolute_gap: distance between cost and bound at which the solver may stop, relative and as it is.
        hint: a known answer to start from, (columns,), NaN where it says nothing.
        work_limit: CP-SAT's deterministic time, roughly seconds; the same answer on every machine.
    """
    from vpp.allocation.discrete import mathopt  # loads OR-Tools, and most processes never solve

    return mathopt.solve(
        lp, integer, solver=solver, time_limit_s=time_limit_s, gap=gap, absolute_gap=absolute_gap, hint=hint,
        work_limit=work_limit,
    )  # fmt: skip
