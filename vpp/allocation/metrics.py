"""What is counted of allocations.  Called by `service.py` and `promise.py`."""

from prometheus_client import Counter, Histogram

from vpp.allocation.answer import Allocation

SOLVES = Counter(
    "vpp_allocations_total", "Allocations by method and status; realtime_split had no proven answer in time",
    ["method", "status"],
)  # fmt: skip
SOLVE_SECONDS = Histogram(
    "vpp_allocation_seconds", "Wall time of an allocation", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
)
AUDITS = Counter("vpp_allocation_audits_total", "Second looks at allocations, by whether they agreed", ["passed"])


def counted(answer: Allocation) -> Allocation:
    """Count an answer and give it back."""
    SOLVES.labels(answer.method, answer.status).inc()
    SOLVE_SECONDS.observe(answer.seconds)
    if answer.audit is not None:
        AUDITS.labels(str(answer.audit["passed"]).lower()).inc()
    return answer
