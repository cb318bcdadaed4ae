"""Solve a problem of any size by coordinating its sites with prices.  Called by `vpp.allocation.solve`."""

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import structlog

from vpp.allocation.answer import Allocation, assemble, feasible
from vpp.allocation.audit import audit_sites, sample
from vpp.allocation.exact import SPLIT
from vpp.allocation.feeders import below
from vpp.allocation.options import Options
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.realtime import split_all
from vpp.allocation.sequential.coordinator import Coordinator, Scale
from vpp.allocation.sequential.coupling import Coupling, coupling_of
from vpp.allocation.sequential.executors import Executor, Threads
from vpp.allocation.sequential.shards import Shard
from vpp.allocation.sequential.tables import tables_of
from vpp.domain.errors import NotReady
from vpp.domain.fleet import Floats

_log = structlog.get_logger()

METHOD = "sequential"
SITES_PER_SHARD = 1000
"""Fewer sites are done by one thread sooner than two threads meet 16 times an epoch."""
CLUSTER_SHARDS = 8
"""On a cluster the same whatever the number of its workers, so that the answer is the same, too."""
CLUSTER_SHARE = 0.6
"""Of the time limit: a cluster that has no answer by then leaves the rest to this process's threads."""
AUDITED_SITES = 16
FINISH_SHARE, FINISH_S_PER_VALUE = 0.1, 1e-7
"""Of the time limit, and for each site and step: kept for costing the answer anew."""


def takes(problem: Problem) -> str | None:
    """Why a problem cannot be solved this way, or None if it can."""
    owing = (problem.program_commitment_kw > 0).any(axis=0)
    if owing.any():
        if not problem.program_site.all():
            return "its programmes count different sites"
        if (owing & (problem.capacity_window >= 0)).any():
            return "a programme is owed power in a capacity window"
        if (owing & problem.committed & (problem.commitment_kw < problem.fixed_kw)).any():
            return "fixed_kw exceeds the main commitment while a programme is owed power"
    price, limit = problem.capacity_price_per_kw, problem.capacity_limit_kw
    for k in np.flatnonzero(~np.isfinite(limit)):
        worth = float((problem.step_h * problem.shortfall_price_per_kwh)[problem.capacity_window == k].sum())
        if price[k] > worth:
            return f"capacity_price_per_kw[{k}] pays more than not delivering costs, without a limit"
    return None


def solve_sequential(problem: Problem, options: Options) -> Allocation:
    """Return an allocation with a proven gap; at the deadline the schedules at hand with what is proven.

    Where the kernels are not ready by then (a first call on a new machine), the real-time split.
    """
    started = time.perf_counter()
    try:
        prepared().result(timeout=(1.0 - FINISH_SHARE) * options.time_limit_s)
    except FutureTimeout:
        return _split(problem, options, started, (f"{METHOD}: kernels still being compiled",))
    return _solve(problem, options, started)


def _split(problem: Problem, options: Options, started: float, attempts: tuple[str, ...]) -> Allocation:
    """What there is without schedules: the real-time split, named as such."""
    battery_kw = split_all(problem)
    return assemble(
        problem, battery_kw, started=started, gap=options.gap, method=SPLIT, status=SPLIT, attempts=attempts
    )


def _solve(problem: Problem, options: Options, started: float) -> Allocation:
    largest = max(1, problem.sites // SITES_PER_SHARD)
    attempts: tuple[str, ...] = ()
    if options.dask_url is not None and largest > 1:
        # a second's import, and an extra that need not be there
        from vpp.allocation.sequential.dask_executor import DaskCluster

        try:
            deadline = started + CLUSTER_SHARE * options.time_limit_s
            cluster = DaskCluster(options.dask_url, deadline)
            return _on(cluster, min(CLUSTER_SHARDS, largest), problem, options, (started, deadline), ())
        except NotReady as error:
            _log.warning("allocation_cluster_lost", error=str(error))
            attempts = (f"cluster: {error}",)
    count = min(options.workers or os.cpu_count() or 1, largest)
    span = (started, started + options.time_limit_s)
    return _on(Threads(count), count, problem, options, span, attempts)


def _on(
    executor: Executor, count: int, problem: Problem, options: Options, span: tuple[float, float],
    attempts: tuple[str, ...],
) -> Allocation:  # fmt: skip
    """Solve with so many shards on an executor, which is closed whatever happens; `span` is begin and deadline."""
    lots = draw_lots(problem.sites, count, options.seed)
    try:
        executor.hold([Shard.of(tables_of(problem, lot), options.seed + k) for k, lot in enumerate(lots)])
        return _coordinate(problem, options, executor, lots, span, attempts)
    finally:
        executor.close()


@cache
def prepared() -> "Future[None]":
    """Compile the kernels, or load them from disk, in a thread: some 15 s once a machine, then 1 s.

    Called early by a process that will have deadlines, so that its first allocation need not wait.
    """
    pool = ThreadPoolExecutor(1, "kernels")
    future = pool.submit(_prepare)
    pool.shutdown(wait=False)
    return future


def _prepare() -> None:
    tiny = Problem.build(
        step_h=1.0, net_load_kw=[[1.0, 2.0]], max_charge_kw=[1.0], max_discharge_kw=[1.0], capacity_kwh=[2.0],
        soc=[0.5], commitment_kw=[0.5, 0.5],
    )  # fmt: skip
    _solve(tiny, Options(gap=0.5), time.perf_counter())
    Shard.of(tables_of(tiny), 0).bounds(np.zeros(2), np.zeros((0, 2)), 1, 1.0)


def draw_lots(sites: int, count: int, seed: int) -> list[Ints]:
    """Which sites go to which shard: drawn by lot, so that every shard is a small likeness of the fleet."""
    if count == 1:
        return [np.arange(sites)]
    drawn = np.random.default_rng((seed, count)).permutation(sites)
    return [np.sort(part) for part in np.array_split(drawn, count)]


def _coordinate(
    problem: Problem, options: Options, executor: Executor, lots: list[Ints], span: tuple[float, float],
    attempts: tuple[str, ...],
) -> Allocation:  # fmt: skip
    coupling, gathered = coupling_of(problem), _Gathered(problem, executor, lots)
    on = problem.feeder >= 0
    sharing = problem.only(np.flatnonzero(on))
    scale = Scale(
        sites=problem.sites, power_kw=float(problem.max_discharge_kw.sum()), price_per_kwh=_usual_price(problem),
        feeder_power_kw=below(sharing, np.repeat(sharing.max_discharge_kw[:, None], problem.steps, axis=1))[:, 0],
    )  # fmt: skip
    coordinator = Coordinator(
        coupling, executor, scale, start_prices(problem, coupling), len(lots),
        honest_cost=gathered.cost if on.any() else None,
    )  # fmt: skip
    finish_s = max(FINISH_SHARE * options.time_limit_s, FINISH_S_PER_VALUE * problem.sites * problem.steps)
    started, deadline = span
    coordinator.run(options.gap, deadline - finish_s)
    said = (*attempts, f"{METHOD}: {coordinator.epochs} epochs, {coordinator.passes:.1f} passes")
    if not coordinator.filled:
        return _split(problem, options, started, said)
    battery_kw = gathered.schedules()
    if on.any():
        battery_kw, _ = feasible(problem, battery_kw)
    answer = assemble(
        problem, battery_kw, started=started, gap=options.gap, bound=coordinator.lower,
        capacity_kw=coupling.best_bids(battery_kw.sum(axis=0)), marginal_price_per_kwh=coordinator.proven_price_per_kwh,
        feeder_price_per_kwh=coordinator.proven_feeder_price_per_kwh, method=METHOD,
        attempts=said,
    )  # fmt: skip
    if options.audit == "none":
        return answer
    return replace(answer, audit=_second_look(problem, options, coordinator))


@dataclass(slots=True)
class _Gathered:
    """Brings the shards' schedules together."""

    problem: Problem
    executor: Executor
    lots: list[Ints]

    def schedules(self) -> Floats:
        """Battery power of all sites, (N,T)."""
        parts = self.executor.call("schedules")
        if len(parts) == 1:
            return np.array(parts[0])
        battery_kw = np.empty((self.problem.sites, self.problem.steps))
        for lot, part in zip(self.lots, parts, strict=True):
            battery_kw[lot] = part
        return battery_kw

    def cost(self) -> float:
        """Cost of the schedules once they keep the feeders' limits."""
        answer = assemble(
            self.problem, battery_kw := self.schedules(), started=0.0, gap=1.0, method=METHOD,
            capacity_kw=coupling_of(self.problem).best_bids(battery_kw.sum(axis=0)),
        )  # fmt: skip
        return answer.objective


def _second_look(problem: Problem, options: Options, coordinator: Coordinator) -> dict[str, Any]:
    """Let OR-Tools solve sites again at the proven prices: the same least cost, or the proof is in doubt."""
    everyone = options.audit == "full"
    chosen = np.arange(problem.sites) if everyone else sample(problem.sites, AUDITED_SITES, options.seed)
    price, bound = coordinator.proven_price_per_kwh, np.empty(len(chosen))
    looked = problem.only(chosen)
    paid = np.broadcast_to(price, (len(chosen), problem.steps))
    above = looked.feeder
    while (above >= 0).any():
        paid = paid + np.where((above >= 0)[:, None], coordinator.proven_feeder_price_per_kwh[above], 0.0)
        above = np.where(above >= 0, problem.feeder_parent[above], -1)
    shard = Shard.of(tables_of(looked), options.seed)
    bound = shard.bounds(np.array(price), np.array(coordinator.proven_feeder_price_per_kwh), 40, 1e-10)
    report = audit_sites(looked, paid, bound, np.arange(len(chosen))).as_dict()
    if everyone:
        proven = coordinator.coupling.bound(price, coordinator.proven_feeder_price_per_kwh) + float(bound.sum())
        report["bound"] = proven
        report["passed"] = bool(report["passed"] and proven >= coordinator.lower - 1e-9 * abs(coordinator.lower))
    return report


def start_prices(problem: Problem, coupling: Coupling) -> Floats:
    """Even prices to begin with: a usual price where power is owed, in a window what its capacity is worth."""
    price = np.where(coupling.committed, np.where(problem.commitment_kw < 0, -1.0, 1.0) * _usual_price(problem), 0.0)
    for k, earned in enumerate(coupling.capacity_price_per_kw):
        steps = coupling.window == k
        if steps.any():
            price[steps] = earned / coupling.step_h[steps].sum()
    return np.asarray(price)


def _usual_price(problem: Problem) -> float:
    """A size for prices of energy: the mean import price, or what else energy costs here."""
    bought = float(np.abs(problem.import_price_per_kwh[:10_000]).mean())
    stored = float(problem.terminal_value_per_kwh.mean() + problem.wear_price_per_kwh.mean())
    return max(bought, 0.5 * stored, 0.01)
