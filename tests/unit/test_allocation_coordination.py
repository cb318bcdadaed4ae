"""Why coordination by price may be trusted: its steps only go down, and no prices prove too much.

Goal: what docs/explanation/allocator.md says of shards and of the bound is so in the code. Method: hold
exchanges and bounds of the parts themselves against sums made here, and against the linear programme.
"""

import numpy as np
import pytest

from tests.builders_instances import instance
from vpp.allocation import Options, Problem, solve
from vpp.allocation.sequential.coordinator import Coordinator, Scale
from vpp.allocation.sequential.coupling import coupling_of
from vpp.allocation.sequential.executors import Threads
from vpp.allocation.sequential.shards import Shard, Turn
from vpp.allocation.sequential.solve import draw_lots, start_prices
from vpp.allocation.sequential.tables import tables_of

PARTS = 16
KINDS = ("p2b", "p3", "turn_up", "feeders", "c_rate", "zero_export", "fresh")


def a_coordinator(problem: Problem, shards: int) -> Coordinator:
    """One that holds as many shards as asked, after its first pass."""
    executor = Threads(1)
    lots = draw_lots(problem.sites, shards, 0)
    executor.hold([Shard.of(tables_of(problem, lot), k) for k, lot in enumerate(lots)])
    power_kw = float(problem.max_discharge_kw.sum())
    scale = Scale(
        sites=problem.sites, power_kw=power_kw, price_per_kwh=0.3,
        feeder_power_kw=np.full(len(problem.feeder_parent), power_kw),
    )  # fmt: skip
    coupling = coupling_of(problem)
    made = Coordinator(coupling, executor, scale, start_prices(problem, coupling), shards)
    made._epoch(first=True, stiffness=made.stiffness, deadline=np.inf)
    made._take_stock()
    return made


def augmented_cost(made: Coordinator) -> tuple[float, np.ndarray]:
    """The sites' cost and the augmented Lagrangian's of what is missing, and power delivered (T,)."""
    totals = made.executor.call("totals")
    delivered_kw, c, rho = np.sum([total[0] for total in totals], axis=0), made.coupling, made.stiffness
    missing_kw = np.where(c.committed, c.target_kw - delivered_kw, 0.0)
    price = np.clip(made.price_per_kwh + rho * missing_kw, c.lowest_price_per_kwh, c.highest_price_per_kwh)
    rounded = np.where(c.committed, price * missing_kw - (price - made.price_per_kwh) ** 2 / (2 * rho), 0.0)
    return sum(total[2] for total in totals) + float(c.step_h @ rounded), delivered_kw


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_no_exchange_raises_the_augmented_cost_however_many_shards_act_at_once(shards: int) -> None:
    made = a_coordinator(instance("p2b", 60, 3), shards)
    cost, delivered_kw = augmented_cost(made)
    first = cost
    for exchange in range(3 * PARTS):
        turn = Turn(
            market=made._market(made.stiffness), delivered_kw=delivered_kw, feeder_kw=made.feeder_kw, copies=shards,
            epoch=1 + exchange // PARTS, part=exchange % PARTS, parts=PARTS,
        )  # fmt: skip
        made.executor.call("take", turn)
        after, delivered_kw = augmented_cost(made)
        assert after <= cost + 1e-9 * abs(cost)
        cost = after
    assert cost < first - 1e-6 * abs(first)


@pytest.mark.parametrize("kind", KINDS)
def test_no_prices_prove_more_than_the_best_answer_costs(kind: str) -> None:
    problem = instance(kind, 8, 5)
    best = solve(problem, Options(method="ortools", gap=1e-9, time_limit_s=60.0))
    coupling, shard, r = coupling_of(problem), Shard.of(tables_of(problem), 0), np.random.default_rng(1)
    shape = best.feeder_price_per_kwh.shape
    bounds = []
    for spread in (0.0, 0.0, 1e-3, 1e-2, 0.1, 1.0, 1.0):  # from the best prices to any at all
        anywhere = r.uniform(coupling.lowest_price_per_kwh, coupling.highest_price_per_kwh)
        price = coupling.provable((1 - spread) * best.marginal_price_per_kwh + spread * anywhere)
        feeder_price_per_kwh = best.feeder_price_per_kwh + spread * r.uniform(-0.3, 0.3, shape)
        for passes in (1, 2, 12):  # also where the search for the peaks is broken off
            fixed = coupling.bound(price, feeder_price_per_kwh)
            bounds.append(fixed + shard.bound(price, feeder_price_per_kwh, passes, 1e-7))
    size = max(1.0, abs(best.objective))
    assert max(bounds) <= best.objective + 1e-7 * size
    assert max(bounds) >= best.bound - 1e-4 * size  # the best prices do prove something
