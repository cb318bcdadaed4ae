"""The life of a commitment: which step is due, who wakes it, and what picks up after a crash.

The commitment row is the truth; the queue only wakes. Called by `vpp work`.
"""

from vpp.lifecycle.collector import run_collector
from vpp.lifecycle.jobs import job_app
from vpp.lifecycle.reconciler import run_reconciler
from vpp.lifecycle.steps import take_step
from vpp.lifecycle.worker import run_worker

__all__ = ["job_app", "run_collector", "run_reconciler", "run_worker", "take_step"]
