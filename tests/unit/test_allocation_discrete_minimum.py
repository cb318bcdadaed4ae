"""Inverters that idle or run at their minimum: against every choice of idle, charge and discharge."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.builders_allocation import a_problem, breaches, random_problem
from tests.unit.test_allocation_discrete_simultaneity import negative
from vpp.allocation import Options, Problem, solve
from vpp.allocation.discrete import minimum, with_minimum_power
from vpp.allocation.discrete.pairs import grown
from vpp.allocation.linear import build
from vpp.allocation.solver import SolverName, run
from vpp.domain.errors import InvalidRequest

TIGHT = Options(gap=1e-7, time_limit_s=30.0)


def an_event(seed: int, sites: int = 2, steps: int = 3, **changes: Any) -> Problem:
    """Small sites that are owed less than all could give, with a demand charge, free to charge."""
    r = np.random.default_rng(seed)
    power = r.uniform(3, 6, sites)
    usual = {
        "step_h": np.ones(steps), "net_load_kw": r.uniform(0, 4, (sites, steps)), "max_charge_kw": power,
        "max_discharge_kw": power, "capacity_kwh": power * r.uniform(1, 3, sites), "soc": r.uniform(0.2, 1.0, sites),
        "soc_floor": np.full(sites, 0.1), "charge_efficiency": np.full(sites, 0.95),
        "import_price_per_kwh": r.uniform(0.1, 0.5, steps), "export_price_per_kwh": 0.05,
        "demand_window": np.ones((1, steps), dtype=bool), "demand_price_per_kw": r.choice([0.0, 1.0], (sites, 1)),
        "peak_so_far_kw": np.full((sites, 1), 3.0), "wear_price_per_kwh": np.full(sites, 0.03),
        "terminal_value_per_kwh": r.uniform(0.1, 0.4, sites), "commitment_kw": r.uniform(0, 6, steps),
        "shortfall_price_per_kwh": 2.0, "excess_price_per_kwh": 0.5,
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def least_cost(problem: Problem, least_kw: np.ndarray) -> float:
    """The least cost over every choice for every pair: the linear programme with its power between bounds."""
    lp, layout = build(problem)
    pairs = list(itertools.product(range(problem.sites), range(problem.steps)))
    power = layout.power
    best = np.inf
    for taken in itertools.product((0, 1, -1), repeat=len(pairs)):
        way = np.zeros((problem.sites, problem.steps))
        for pair, direction in zip(pairs, taken, strict=True):
            way[pair] = direction
        more = grown(lp)
        more.upper[0][power.column[way[power.site, power.step] != power.sign]] = 0.0
        rows = more.add_rows(np.where(way != 0, least_kw[:, None], 0.0).ravel(), np.inf).reshape(way.shape)
        more.put(rows[power.site, power.step], power.column, 1.0)
        answer = run(more.finish(lp.offset), SolverName.GLOP, 10.0)
        if answer.optimal:
            best = min(best, float(lp.cost @ answer.values) + lp.offset)
    return best


def runs_too_low(battery_kw: np.ndarray, least_kw: np.ndarray) -> bool:
    """Whether any battery runs below its minimum."""
    power = np.abs(battery_kw)
    return bool(((power > 1e-5) & (power < least_kw[:, None] - 1e-5)).any())


@pytest.mark.parametrize("seed", range(10))
def test_the_answer_is_the_best_of_every_choice(seed: int) -> None:
    problem = an_event(seed, *((2, 3) if seed % 2 else (1, 5)))
    least_kw = np.random.default_rng(seed).uniform(0.5, 2.5, problem.sites)
    answer = with_minimum_power(problem, least_kw, TIGHT)
    assert answer.objective == pytest.approx(least_cost(problem, least_kw), abs=1e-5)
    assert answer.status == "optimal"
    assert not runs_too_low(answer.battery_kw, least_kw)


def test_a_trickle_for_all_becomes_enough_for_some() -> None:
    problem = a_problem(commitment_kw=np.full(4, 2.0), excess_price_per_kwh=1.0, may_charge=False,
                        wear_price_per_kwh=np.full(2, 0.01))  # fmt: skip
    answer = with_minimum_power(problem, np.full(2, 2.0))
    np.testing.assert_allclose(answer.shortfall_kw, 0.0, atol=1e-6)
    assert ((np.abs(answer.battery_kw - 2.0) < 1e-5) | (answer.battery_kw == 0)).all()


def test_the_minimum_holds_in_the_steps_that_are_asked_for() -> None:
    committed = np.array([True, True, False, False])
    load = np.array([[2.0, 2.0, 4.5, 4.5], [2.0, 2.0, 4.5, 4.5]])
    problem = a_problem(
        net_load_kw=load, commitment_kw=np.full(4, 3.0), committed=committed, demand_window=np.ones((1, 4), dtype=bool),
        demand_price_per_kw=np.full((2, 1), 9.0), peak_so_far_kw=np.full((2, 1), 4.0), excess_price_per_kwh=1.0,
        export_limit_kw=np.zeros(2), import_price_per_kwh=0.1, terminal_value_per_kwh=np.full(2, 0.5),
    )  # fmt: skip
    # the trickle of half a kW that holds each site's peak is outside the event
    inside = with_minimum_power(problem, np.full(2, 2.0))
    np.testing.assert_allclose(inside.battery_kw[:, 2:], 0.5, atol=1e-6)
    always = with_minimum_power(problem, np.full(2, 2.0), steps=np.ones(4, dtype=bool))
    assert not runs_too_low(always.battery_kw, np.full(2, 2.0))
    assert always.objective > inside.objective + 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_every_limit_is_kept_and_the_bound_is_below(seed: int) -> None:
    problem = random_problem(seed, sites=8, steps=8)
    least_kw = np.full(8, 2.0)
    answer = with_minimum_power(problem, least_kw, Options(gap=1e-3, time_limit_s=20.0), steps=np.ones(8, dtype=bool))
    assert not runs_too_low(answer.battery_kw, least_kw)
    assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6
    assert solve(problem).objective - 1e-6 <= answer.bound + 1e-3 <= answer.objective + 2e-3


def test_minimum_and_direction_hold_together_where_energy_is_worth_less_than_nothing() -> None:
    problem = negative(4, 3, 5)
    least_kw = np.full(3, 1.5)
    answer = with_minimum_power(problem, least_kw, TIGHT)
    assert not runs_too_low(answer.battery_kw, least_kw)
    assert answer.gap <= 1e-6


def test_a_large_fleet_chooses_in_lots_and_its_bound_stays_below(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, least_kw = an_event(6, 14, 4, commitment_kw=np.full(4, 16.0)), np.full(14, 2.0)
    whole = with_minimum_power(problem, least_kw, Options(gap=1e-3, time_limit_s=20.0))
    monkeypatch.setattr(minimum, "WHOLE", 1)
    lots = with_minimum_power(problem, least_kw, Options(gap=1e-3, time_limit_s=20.0))
    assert not runs_too_low(lots.battery_kw, least_kw)
    assert max(breaches(problem, lots.battery_kw, lots.soc).values()) <= 1e-6
    assert whole.bound - 1e-6 <= lots.objective <= whole.objective + 0.1 * abs(whole.objective)
    assert solve(problem).objective + 1e-6 < lots.bound <= whole.objective + 1e-6


def test_with_too_little_time_nothing_runs_below_its_minimum() -> None:
    problem, least_kw = an_event(3, 6, 8), np.full(6, 2.5)
    for options in (Options(time_limit_s=1e-6), Options(solvers=())):
        answer = with_minimum_power(problem, least_kw, options)
        assert not runs_too_low(answer.battery_kw, least_kw)
        assert answer.status == "feasible"


@pytest.mark.parametrize("minimum", [[1.0], [-1.0, 0.0], [np.nan, 1.0]])
def test_a_minimum_that_makes_no_sense_is_refused(minimum: list[float]) -> None:
    with pytest.raises(InvalidRequest, match="minimum_kw"):
        with_minimum_power(a_problem(), minimum)
