"""Solve a problem of any size by coordinating its sites with prices.  Called by `vpp.allocation.solve`."""

import os
import time
from dataclasses import dataclass

import numpy as np

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.feeders import below
from vpp.allocation.options import Options
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.sequential.coordinator import Coordinator, Scale, Start
from vpp.allocation.sequential.coupling import Coupling, coupling_of
from vpp.allocation.sequential.executors import Executor, Threads
from vpp.allocation.sequential.shards import Shard
from vpp.allocation.sequential.tables import tables_of
from vpp.domain.fleet import Floats

METHOD = "sequential"
SITES_PER_SHARD = 1000
"""Fewer sites are done by one thread sooner than two threads meet 16 times an epoch."""
FINISH_SHARE = 0.1
"""Of the time limit, kept for costing the answer anew."""


def takes(problem: Problem) -> str | None:
    """Why a problem cannot be solved this way, or None if it can."""
    if len(problem.program_commitment_kw):
        return "it has several programmes"
    price, limit = problem.capacity_price_per_kw, problem.capacity_limit_kw
    for k in np.flatnonzero(~np.isfinite(limit)):
        worth = float((problem.step_h * problem.shortfall_price_per_kwh)[problem.capacity_window == k].sum())
        if price[k] > worth:
            return f"capacity_price_per_kw[{k}] pays more than not delivering costs, without a limit"
    return None


def solve_sequential(problem: Problem, options: Options) -> Allocation:
    """Return an allocation with a proven gap; at the deadline the schedules at hand with what is proven."""
    started = time.perf_counter()
    workers = options.workers or os.cpu_count() or 1
    count = max(1, min(workers, problem.sites // SITES_PER_SHARD))
    lots = draw_lots(problem.sites, count, options.seed)
    executor: Executor = Threads(count)
    try:
        executor.hold([Shard.of(tables_of(problem, lot), options.seed + k) for k, lot in enumerate(lots)])
        return _coordinate(problem, options, executor, lots, started)
    finally:
        executor.close()


def draw_lots(sites: int, count: int, seed: int) -> list[Ints]:
    """Which sites go to which shard: drawn by lot, so that every shard is a small likeness of the fleet."""
    if count == 1:
        return [np.arange(sites)]
    drawn = np.random.default_rng((seed, count)).permutation(sites)
    return [np.sort(part) for part in np.array_split(drawn, count)]


def _coordinate(
    problem: Problem, options: Options, executor: Executor, lots: list[Ints], started: float
) -> Allocation:
    coupling = coupling_of(problem)
    power_kw = problem.max_discharge_kw
    scale = Scale(
        sites=problem.sites, power_kw=float(power_kw.sum()), price_per_kwh=_usual_price(problem),
        feeder_power_kw=below(problem, np.repeat(power_kw[:, None], problem.steps, axis=1))[:, 0],
    ) if len(problem.feeder_parent) else Scale(
        sites=problem.sites, power_kw=float(power_kw.sum()), price_per_kwh=_usual_price(problem),
        feeder_power_kw=np.zeros(0),
    )  # fmt: skip
    gathered = _Gathered(problem, executor, lots, started, options, coupling)
    coordinator = Coordinator(
        coupling, executor, scale, _start(problem, coupling), len(lots),
        honest_cost=gathered.cost if len(problem.feeder_parent) else None,
    )  # fmt: skip
    gathered.coordinator = coordinator
    coordinator.run(options.gap, started + (1.0 - FINISH_SHARE) * options.time_limit_s)
    return gathered.answer()


@dataclass(slots=True)
class _Gathered:
    """Brings the shards' schedules together as an answer."""

    problem: Problem
    executor: Executor
    lots: list[Ints]
    started: float
    options: Options
    coupling: Coupling
    coordinator: Coordinator | None = None
    best: Allocation | None = None

    def schedules(self) -> Floats:
        parts = self.executor.call("schedules")
        if len(parts) == 1:
            return np.array(parts[0])
        battery_kw = np.empty((self.problem.sites, self.problem.steps))
        for lot, part in zip(self.lots, parts, strict=True):
            battery_kw[lot] = part
        return battery_kw

    def answer(self) -> Allocation:
        assert self.coordinator is not None
        c = self.coordinator
        battery_kw = self.schedules()
        answer = assemble(
            self.problem, battery_kw, started=self.started, gap=self.options.gap, bound=c.lower,
            capacity_kw=self.coupling.best_bids(battery_kw.sum(axis=0)),
            marginal_price_per_kwh=c.proven_price, feeder_price_per_kwh=c.proven_feeder_price, method=METHOD,
            attempts=(f"{METHOD}: {c.epochs} epochs, {c.passes:.1f} passes, gap {c.gap:.1e}",),
        )  # fmt: skip
        return answer

    def cost(self) -> float:
        return self.answer().objective


def _start(problem: Problem, coupling: Coupling) -> Start:
    """Even prices to begin with: a usual price where power is owed, in a window what its capacity is worth."""
    price = np.where(coupling.committed, np.where(problem.commitment_kw < 0, -1.0, 1.0) * _usual_price(problem), 0.0)
    for k, earned in enumerate(coupling.capacity_price):
        steps = coupling.window == k
        if steps.any():
            price[steps] = earned / coupling.step_h[steps].sum()
    return Start(price=price)


def _usual_price(problem: Problem) -> float:
    """A size for prices of energy: the mean import price, or what else energy costs here."""
    bought = float(np.abs(problem.import_price_per_kwh[:10_000]).mean())
    stored = float(problem.terminal_value_per_kwh.mean() + problem.wear_price_per_kwh.mean())
    return max(bought, 0.5 * stored, 0.01)
