"""How to solve.  Called by every method, and by whoever asks for a solution."""

from dataclasses import dataclass
from enum import StrEnum

from vpp.domain.errors import InvalidRequest


class SolverName(StrEnum):
    """Linear solvers of the OR-Tools wheel that reach a vertex."""

    GLOP = "glop"
    HIGHS = "highs"


METHODS = ("auto", "ortools", "sequential")
AUDITS = ("none", "sample", "full")
SMALL = 10_000
"""Sites times steps up to which one linear programme is as fast as coordination by prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to solve; refused where it makes no sense.

    Attributes:
        gap: relative gap at which an answer is good enough.
        time_limit_s: wall time for everything together [s]. At its end comes the best answer there is:
            with its gap, or the real-time split. Far above what is usual (0.1 to 0.4 s for 300 sites).
        workers: threads; None takes as many as there are processors. The linear programme uses one.
        method: "ortools" is one linear programme; "sequential" coordinates the sites by prices, for large
            fleets; "auto" chooses.
        audit: of a large fleet, how many sites are solved again by a linear programme at the final prices; a small
            problem is solved again as a whole by the other solver, in the time that is left.
        seed: of every random choice.
        solvers: linear solvers, tried in this order until one proves its optimum.
        fairness_epsilon: share of the best cost that may be spent on fairness; None for none.
        dask_url: scheduler of a Dask cluster whose workers hold the shards of a large fleet; None for threads.
    """

    gap: float = 1e-4
    time_limit_s: float = 10.0
    workers: int | None = None
    method: str = "auto"
    audit: str = "none"
    seed: int = 0
    solvers: tuple[SolverName, ...] = (SolverName.GLOP, SolverName.HIGHS)
    fairness_epsilon: float | None = None
    dask_url: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InvalidRequest: naming the option.
        """
        if not 0 < self.gap < 1:
            raise InvalidRequest("gap", self.gap, "a share above 0 and below 1, as 0.0001")
        if not self.time_limit_s > 0:
            raise InvalidRequest("time_limit_s", self.time_limit_s, "more than 0 s")
        if self.workers is not None and self.workers < 1:
            raise InvalidRequest("workers", self.workers, "1 or more, or nothing")
        if self.method not in METHODS:
            raise InvalidRequest("method", self.method, " or ".join(METHODS))
        if self.audit not in AUDITS:
            raise InvalidRequest("audit", self.audit, " or ".join(AUDITS))
        if self.seed < 0:
            raise InvalidRequest("seed", self.seed, "0 or more")
        if self.fairness_epsilon is not None and not 0 <= self.fairness_epsilon <= 1:
            raise InvalidRequest("fairness_epsilon", self.fairness_epsilon, "a share from 0 to 1, or nothing")
