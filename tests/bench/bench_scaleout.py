"""The same large problem by threads and by a Dask cluster of one and of two workers, one killed half-way.

Run by `vpp bench scaleout`: P3 (a day ahead with two capacity windows), 100,000 sites in four shards, all in
one run on one machine, so that the figures compare. VPP_BENCH_QUICK=1 takes 10,000 sites.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from distributed import LocalCluster

from tests.builders_instances import instance
from vpp.allocation import Problem
from vpp.allocation.sequential import dask_executor
from vpp.allocation.sequential.coordinator import Coordinator, Scale
from vpp.allocation.sequential.coupling import coupling_of
from vpp.allocation.sequential.dask_executor import DaskCluster
from vpp.allocation.sequential.executors import Executor, Threads
from vpp.allocation.sequential.shards import Shard
from vpp.allocation.sequential.solve import draw_lots
from vpp.allocation.sequential.tables import tables_of
from vpp.domain.fleet import Floats

SHARDS = 4
SEED = 0
GAP = 1e-4
LIMIT_S = 400.0
EXCHANGES_BEFORE_THE_KILL = 24
"""Of some 48 in a run that proves its gap in the first epoch."""


class Watched:
    """An executor that counts and times what is asked of it, and does something before one of the turns."""

    def __init__(self, executor: Executor, at_turn: int = -1, then: Callable[[], object] = lambda: None) -> None:
        self._executor, self._at_turn, self._then = executor, at_turn, then
        self.turns = 0
        self.exchanges_s = 0.0
        self.hold_s = 0.0

    def hold(self, shards: Sequence[Shard]) -> None:
        """Take the shards over."""
        started = time.perf_counter()
        self._executor.hold(shards)
        self.hold_s = time.perf_counter() - started

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Run a method of every shard."""
        if method == "take":
            if self.turns == self._at_turn:
                self._then()
            self.turns += 1
        started = time.perf_counter()
        answers = self._executor.call(method, *arguments)
        self.exchanges_s += time.perf_counter() - started
        return answers

    def close(self) -> None:
        """Give back what the executor holds."""
        self._executor.close()


def coordinate(problem: Problem, executor: Executor, shards: int) -> tuple[Coordinator, Floats]:
    """Bring the fleet to `GAP` on an executor, which is closed then; returns the run and battery power, (N,T)."""
    coupling, lots = coupling_of(problem), draw_lots(problem.sites, shards, SEED)
    price = np.where(coupling.committed, 0.3, 0.0)
    for k, earned in enumerate(coupling.capacity_price_per_kw):
        price[coupling.window == k] = earned / coupling.step_h[coupling.window == k].sum()
    scale = Scale(
        sites=problem.sites, power_kw=float(problem.max_discharge_kw.sum()), price_per_kwh=0.3,
        feeder_power_kw=np.zeros(0),
    )  # fmt: skip
    try:
        executor.hold([Shard.of(tables_of(problem, lot), SEED + k) for k, lot in enumerate(lots)])
        run = Coordinator(coupling, executor, scale, price, shards)
        run.run(GAP, time.perf_counter() + LIMIT_S)
        battery_kw = np.empty((problem.sites, problem.steps))
        for lot, part in zip(lots, executor.call("schedules"), strict=True):
            battery_kw[lot] = part
    finally:
        executor.close()
    return run, battery_kw


def a_cluster(workers: int) -> LocalCluster:
    """A scheduler here, and worker processes of one thread each that a nanny starts again."""
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
        memory_limit=0, preload=dask_executor.__name__,
        silence_logs=50,
    )  # fmt: skip


def kill_a_worker(cluster: LocalCluster) -> None:
    """SIGKILL to one worker's process, which holds shards."""
    holding = {state.name for state in cluster.scheduler.workers.values() if state.has_what}
    nanny = next(nanny for name, nanny in sorted(cluster.workers.items()) if name in holding)
    os.kill(nanny.process.pid, signal.SIGKILL)


def run() -> dict[str, Any]:
    """Return seconds, gaps and differences; JSON-able."""
    sites = 10_000 if os.environ.get("VPP_BENCH_QUICK") else 100_000
    problem = instance("p3", sites, SEED)
    coordinate(instance("p3", 1000, SEED), Threads(2), SHARDS)  # compiles or loads the kernels
    result: dict[str, Any] = {"sites": sites, "shards": SHARDS, "processors": os.cpu_count()}
    reference = _measured(problem, Watched(Threads(2)), "threads_2", result)
    alone = _measured(problem, Watched(Threads(1)), "threads_1", result)
    result["threads_1_power_differs_kw"] = float(np.abs(alone - reference).max())
    for workers, killed in ((1, False), (2, False), (2, True)):
        name = f"dask_{workers}{'_one_killed' * killed}"
        with a_cluster(workers) as cluster:
            # a first small run loads the workers' kernels, as those of a standing cluster are
            coordinate(instance("p3", 1000, SEED), _on(cluster), SHARDS)
            at = EXCHANGES_BEFORE_THE_KILL if killed else -1
            watched = Watched(_on(cluster), at, lambda cluster=cluster: kill_a_worker(cluster))
            power = _measured(problem, watched, name, result)
        result[f"{name}_power_differs_kw"] = float(np.abs(power - reference).max())
    return result


def _on(cluster: LocalCluster) -> DaskCluster:
    return DaskCluster(cluster.scheduler_address, time.perf_counter() + LIMIT_S)


def _measured(problem: Problem, executor: Watched, name: str, result: dict[str, Any]) -> Floats:
    started = time.perf_counter()
    done, power = coordinate(problem, executor, SHARDS)
    result |= {
        f"{name}_s": time.perf_counter() - started,
        f"{name}_handing_out_s": executor.hold_s,
        f"{name}_exchanges_s": executor.exchanges_s,
        f"{name}_turns": executor.turns,
        f"{name}_gap": done.gap,
        f"{name}_objective": done.upper,
    }
    return power
