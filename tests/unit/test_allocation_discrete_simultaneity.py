"""No battery charges and discharges at once: against every way in which the pairs could go, tried one by one."""

import itertools
from typing import Any

import numpy as np
import pytest
from ortools.math_opt.python import mathopt

from tests.builders_allocation import a_problem, breaches
from vpp.allocation import Options, Problem, solve
from vpp.allocation.discrete import simultaneity, without_simultaneity
from vpp.allocation.discrete.simultaneity import worth_burning

TIGHT = Options(gap=1e-6, time_limit_s=30.0)


def negative(seed: int, sites: int, steps: int, **changes: Any) -> Problem:
    """Sites with PV, zero or small export limits, lossy batteries and prices of both signs."""
    r = np.random.default_rng(seed)
    price = r.uniform(-0.5, 0.3, steps)
    usual = {
        "step_h": r.choice([0.25, 0.5, 1.0], steps), "net_load_kw": r.uniform(-8, 6, (sites, steps)),
        "max_charge_kw": r.uniform(2, 6, sites), "max_discharge_kw": r.uniform(2, 6, sites),
        "capacity_kwh": r.uniform(2, 12, sites), "soc": r.choice([0.0, 0.5, 1.0], sites), "soc_floor": np.zeros(sites),
        "charge_efficiency": r.uniform(0.7, 1.0, sites), "discharge_efficiency": r.uniform(0.7, 1.0, sites),
        "export_limit_kw": r.choice([0.0, 2.0, 50.0], sites), "import_limit_kw": np.full(sites, 12.0),
        "import_price_per_kwh": price, "export_price_per_kwh": price - r.uniform(0, 0.2, steps),
        "demand_window": np.ones((1, steps), dtype=bool), "demand_price_per_kw": r.choice([0.0, 0.2], (sites, 1)),
        "peak_so_far_kw": np.full((sites, 1), 3.0), "wear_price_per_kwh": np.full(sites, 0.02),
        "terminal_value_per_kwh": r.uniform(0, 0.3, sites), "commitment_kw": r.uniform(-6, 6, steps) * sites,
        "shortfall_price_per_kwh": 0.4, "excess_price_per_kwh": float(r.choice([0.0, 0.3])),
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def ranges(p: Problem, i: int, t: int) -> list[tuple[float, float]]:
    """Stretches of battery power on which cost and stored energy are straight lines."""
    net, limit = p.net_load_kw[i, t], p.export_limit_kw[i]
    most = min(p.max_charge_kw[i], max(p.import_limit_kw[i] - net, 0.0))
    give = max(min(p.max_discharge_kw[i], net + limit), 0.0)
    edges = sorted({float(np.clip(edge, -most, give)) for edge in (-most, net + limit, net, 0.0, give)})
    return list(itertools.pairwise(edges)) or [(0.0, 0.0)]


def least_of_all(p: Problem) -> float:
    """The least cost over every choice of a stretch for every pair, each a small linear programme of its own."""
    pairs = list(itertools.product(range(p.sites), range(p.steps)))
    return min(
        _cost(p, dict(zip(pairs, taken, strict=True)))
        for taken in itertools.product(*(ranges(p, i, t) for i, t in pairs))
    )


def _line(p: Problem, i: int, t: int, kw: float) -> tuple[float, float, float]:
    """Cost per hour, power drawn from storage and import at one power."""
    net = p.net_load_kw[i, t] - kw
    bought, sold = max(net, 0.0), min(max(-net, 0.0), p.export_limit_kw[i])
    cost = bought * p.import_price_per_kwh[i, t] - sold * p.export_price_per_kwh[i, t]
    cost += max(kw, 0.0) * p.wear_price_per_kwh[i]
    return cost, kw / p.discharge_efficiency[i] if kw > 0 else kw * p.charge_efficiency[i], bought


def _cost(p: Problem, chosen: dict[tuple[int, int], tuple[float, float]]) -> float:
    model, terms = mathopt.Model(), []
    power = {pair: model.add_variable(lb=low, ub=high) for pair, (low, high) in chosen.items()}
    for i in range(p.sites):
        stored: Any = p.soc[i] * p.capacity_kwh[i]
        peak = model.add_variable(lb=0.0)
        for t in range(p.steps):
            low, high = chosen[i, t]
            at_low, at_high = np.array(_line(p, i, t, low)), np.array(_line(p, i, t, high))
            slope = (at_high - at_low) / (high - low) if high > low else np.zeros(3)
            cost, drawn, bought = (a + s * (power[i, t] - low) for a, s in zip(at_low, slope, strict=True))
            terms.append(p.step_h[t] * cost)
            stored = stored - p.step_h[t] * drawn
            model.add_linear_constraint(stored >= 0.0)
            model.add_linear_constraint(stored <= p.capacity_kwh[i])
            model.add_linear_constraint(peak - bought >= -p.peak_so_far_kw[i, 0])
        terms.append(peak * p.demand_price_per_kw[i, 0] - p.terminal_value_per_kwh[i] * stored)
    for t in range(p.steps):
        short, over = model.add_variable(lb=0.0), model.add_variable(lb=0.0)
        sign = -1.0 if p.commitment_kw[t] < 0 else 1.0
        total = mathopt.fast_sum(power[i, t] for i in range(p.sites)) + p.fixed_kw[t]
        model.add_linear_constraint(sign * total + short - over == sign * p.commitment_kw[t])
        terms.append(p.step_h[t] * (short * p.shortfall_price_per_kwh[t] + over * p.excess_price_per_kwh[t]))
    model.minimize(mathopt.fast_sum(terms))
    result = mathopt.solve(model, mathopt.SolverType.GLOP)
    if result.termination.reason != mathopt.TerminationReason.OPTIMAL:
        return np.inf
    return float(result.objective_value())


@pytest.mark.parametrize("seed", range(24))
def test_the_answer_is_the_best_of_every_way_to_go(seed: int) -> None:
    problem = negative(seed, *((1, 4) if seed % 2 else (2, 2)))
    answer = without_simultaneity(problem, TIGHT)
    least = least_of_all(problem)
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(least, abs=1e-5)
    assert answer.bound <= least + 1e-6
    assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6


def test_a_full_battery_paid_to_take_energy_makes_room_before() -> None:
    # 4 kWh, full, 50 % each way; the second hour pays for what is taken: emptying in the first makes room
    problem = a_problem(
        net_load_kw=np.full((1, 2), 4.0), step_h=1.0, soc=np.ones(1), soc_floor=np.zeros(1),
        max_charge_kw=np.full(1, 4.0), max_discharge_kw=np.full(1, 4.0), capacity_kwh=np.full(1, 4.0),
        charge_efficiency=np.full(1, 0.5), discharge_efficiency=np.full(1, 0.5),
        import_price_per_kwh=[0.1, -1.0], export_price_per_kwh=[0.1, -1.0], commitment_kw=None,
    )  # fmt: skip
    answer = without_simultaneity(problem, TIGHT)
    np.testing.assert_allclose(answer.battery_kw, [[2.0, -4.0]], atol=1e-6)
    assert answer.objective == pytest.approx(0.1 * 2.0 - 8.0)


@pytest.mark.parametrize(
    ("room_kwh", "export_limit_kw", "import_price", "export_price", "cost"),
    [
        # 3 kW of PV of which none may be exported: the first 3 kW of charging earn nothing, whatever the grid pays
        (10.0, 0.0, -1.0, -1.0, -2.0),
        (2.0, 0.0, -1.0, -1.0, 0.0),
        # 1 kW may be exported and costs 0.5: the 2 kW that are curtailed come first
        (10.0, 1.0, 0.2, -0.5, 0.0),
        (2.5, 1.0, 0.2, -0.5, 0.25),
        (1.0, 1.0, 0.2, -0.5, 0.5),
    ],
)
def test_curtailed_pv_is_stored_before_what_pays_more(
    room_kwh: float, export_limit_kw: float, import_price: float, export_price: float, cost: float
) -> None:
    problem = a_problem(
        net_load_kw=np.full((1, 1), -3.0), step_h=1.0, soc=np.zeros(1), soc_floor=np.zeros(1),
        max_charge_kw=np.full(1, 5.0), max_discharge_kw=np.full(1, 5.0), capacity_kwh=np.full(1, room_kwh),
        export_limit_kw=np.full(1, export_limit_kw), import_price_per_kwh=import_price,
        export_price_per_kwh=export_price, commitment_kw=None,
    )  # fmt: skip
    answer = without_simultaneity(problem, TIGHT)
    assert answer.objective == pytest.approx(cost, abs=1e-6)
    assert answer.bound == pytest.approx(cost, abs=1e-6)


def test_where_energy_is_worth_something_the_answer_is_the_linear_programmes() -> None:
    problem = a_problem()
    np.testing.assert_allclose(without_simultaneity(problem).battery_kw, solve(problem).battery_kw, atol=1e-9)


def test_solve_proves_what_the_programme_alone_cannot() -> None:
    problem = negative(3, 6, 8)
    answer = solve(problem, Options(gap=1e-4, time_limit_s=30.0))
    assert answer.method == "mixed_integer_programme"
    assert answer.gap <= 1e-4


def test_burning_pays_where_energy_costs_less_than_its_losses_are_worth() -> None:
    lossy = {"charge_efficiency": np.full(2, 0.9), "discharge_efficiency": np.full(2, 0.9)}
    price = np.array([-0.2, -0.01, 0.0, 0.3])
    problem = a_problem(
        import_price_per_kwh=price, export_price_per_kwh=price, wear_price_per_kwh=np.full(2, 0.01), **lossy
    )
    free = np.zeros(4)
    np.testing.assert_array_equal(worth_burning(problem, free)[0], [True, False, False, False])
    # absorption that is owed does the same: a delivered kWh is worth less than nothing
    assert worth_burning(problem, np.array([0.0, 0.0, -0.2, -0.2]))[0].tolist() == [True, False, True, False]
    no_losses = {name: np.ones(2) for name in lossy}
    assert not worth_burning(a_problem(import_price_per_kwh=price, export_price_per_kwh=price, **no_losses), free).any()


def test_a_large_fleet_is_improved_in_lots_and_its_bound_stays_below(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = negative(11, 8, 6)
    whole = without_simultaneity(problem, TIGHT)
    netted = Options(gap=0.999, time_limit_s=30.0)  # content with what the programme says
    start = solve(problem, netted)
    monkeypatch.setattr(simultaneity, "WHOLE", 1)
    monkeypatch.setattr(simultaneity, "LOT", 3)
    lots = without_simultaneity(problem, TIGHT, start)
    assert start.method == "linear_programme"
    assert whole.objective - 1e-6 <= lots.objective < start.objective - 1e-3
    assert start.bound < lots.bound <= whole.objective + 1e-6
    assert max(breaches(problem, lots.battery_kw, lots.soc).values()) <= 1e-6


def test_too_little_time_leaves_a_feasible_answer_with_its_gap() -> None:
    problem = negative(3, 6, 8)
    early = without_simultaneity(problem, Options(gap=1e-4, time_limit_s=1e-6))
    assert early.status == "feasible"
    assert early.gap > 1e-4
    assert max(breaches(problem, early.battery_kw, early.soc).values()) <= 1e-6
    nothing = without_simultaneity(problem, Options(solvers=()))
    assert (nothing.status, nothing.bound) == ("realtime_split", -np.inf)
