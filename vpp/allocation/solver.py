"""Linear programmes solved: arrays in, column values and row prices out.  Called by `exact.py` and whoever prices.

The words of it; OR-Tools itself is in `mathopt.py`.
"""

from dataclasses import dataclass

from vpp.allocation.options import SolverName
from vpp.allocation.sparse import LinearProgram
from vpp.domain.fleet import Floats

__all__ = ["Solution", "SolverName", "run"]


@dataclass(frozen=True, slots=True)
class Solution:
    """A solver's answer.

    Attributes:
        optimal: whether it proved its optimum.
        values: of the columns; empty where it has no feasible answer.
        row_prices: d(cost)/d(row bound); zeros where it has none.
        bound: what no answer costs less than, the programme's offset left out; -inf where nothing is proven.
    """

    optimal: bool
    status: str
    solver: SolverName
    seconds: float
    values: Floats
    row_prices: Floats
    bound: float


def run(lp: LinearProgram, solver: SolverName, time_limit_s: float) -> Solution:
    """Solve once. Any outcome but a proven optimum comes back with `optimal` False, never as an error.

    A solver that is cut off still gives its best feasible values, if it has any.
    """
    from vpp.allocation.mathopt import solve  # loads OR-Tools, and most processes never solve

    return solve(lp, solver, time_limit_s)
