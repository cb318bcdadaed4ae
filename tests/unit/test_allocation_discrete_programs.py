"""Which programme a site serves: against every assignment, tried one by one."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.builders_allocation import breaches
from vpp.allocation import Options, Problem, solve
from vpp.allocation.discrete import Assignment, assign_programs, programs, serving

TIGHT = Options(gap=1e-6, time_limit_s=30.0)


def an_event(seed: int, sites: int = 4, steps: int = 4, count: int = 2, **changes: Any) -> Problem:
    """Sites of different sizes and costs, a main commitment and programmes that not all may serve."""
    r = np.random.default_rng(seed)
    power = r.uniform(2, 8, sites)
    usual = {
        "step_h": np.full(steps, 0.5), "net_load_kw": r.uniform(-1, 4, (sites, steps)), "max_charge_kw": power,
        "max_discharge_kw": power, "capacity_kwh": power * r.uniform(0.5, 3, sites), "soc": r.uniform(0.5, 1.0, sites),
        "soc_floor": np.full(sites, 0.1), "may_charge": False, "import_price_per_kwh": 0.3,
        "export_price_per_kwh": 0.05, "wear_price_per_kwh": r.uniform(0.0, 0.3, sites),
        "terminal_value_per_kwh": r.uniform(0.2, 0.5, sites), "shortfall_price_per_kwh": 1.0,
        "commitment_kw": power.sum() * r.uniform(0.0, 0.4, steps),
        "program_commitment_kw": power.sum() * r.uniform(0.0, 0.4, (count, steps)),
        "program_shortfall_price_per_kwh": r.uniform(0.5, 3.0, (count, steps)),
        "program_site": r.random((count, sites)) < 0.7,
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def cost_of(problem: Problem, program: np.ndarray) -> float:
    """What an assignment costs, each programme's sites solved by themselves."""
    every = (-1, *range(len(problem.program_commitment_kw)))
    return sum(solve(serving(problem, program, c)).objective for c in every)


def least_cost(problem: Problem) -> float:
    """The least cost over every assignment."""
    options = [[-1, *np.flatnonzero(may).tolist()] for may in problem.program_site.T]
    return min(cost_of(problem, np.array(taken)) for taken in itertools.product(*options))


def refused(problem: Problem, made: Assignment) -> list[int]:
    """Sites given to a programme that may not count them."""
    return [i for i, c in enumerate(made.program) if c >= 0 and not problem.program_site[c, i]]


@pytest.mark.parametrize("seed", range(16))
def test_the_assignment_is_the_best_of_all_or_says_how_far_it_may_be_off(seed: int) -> None:
    problem = an_event(seed)
    made = assign_programs(problem, TIGHT)
    least = least_cost(problem)
    assert made.bound <= least + 1e-6
    assert least - 1e-6 <= made.cost <= least + 0.015 * abs(least)
    assert made.gap == pytest.approx((made.cost - made.bound) / max(1.0, abs(made.cost)))
    assert refused(problem, made) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_cost_is_that_of_programmes_that_share_no_site(seed: int) -> None:
    problem = an_event(seed, 12, 6, 3)
    made = assign_programs(problem)
    assert made.cost == pytest.approx(cost_of(problem, made.program), abs=1e-6)
    # programmes that may share what a site delivers cannot cost more
    assert solve(problem).objective <= made.cost + 1e-6
    assert made.gap < 0.05
    soc = np.concatenate([solve(serving(problem, made.program, c)).soc for c in (0, 1, 2, -1)])
    order = np.concatenate([np.flatnonzero(made.program == c) for c in (0, 1, 2, -1)])
    assert max(breaches(problem.only(order), made.battery_kw[order], soc).values()) <= 1e-6


def test_a_site_goes_where_its_kwh_is_worth_most() -> None:
    problem = an_event(
        0, 2, 2, 1, net_load_kw=np.full((2, 2), 9.0), program_commitment_kw=np.full((1, 2), 4.0),
        commitment_kw=np.full(2, 4.0), program_shortfall_price_per_kwh=np.full((1, 2), 5.0),
        max_discharge_kw=np.full(2, 4.0), capacity_kwh=np.full(2, 20.0), program_site=np.array([[True, False]]),
    )  # fmt: skip
    assert assign_programs(problem).program.tolist() == [0, -1]
    both = Problem.build({**problem.arrays(), "program_site": np.ones((1, 2), dtype=bool)})
    assert sorted(assign_programs(both).program.tolist()) == [-1, 0]


def test_capacity_that_pays_competes_with_programmes() -> None:
    offers = {"commitment_kw": None, "capacity_window": np.zeros(4, dtype=int), "capacity_limit_kw": np.full(1, 50.0)}
    dear, cheap = (an_event(5, capacity_price_per_kw=np.full(1, price), **offers) for price in (50.0, 0.01))
    at_dear, at_cheap = assign_programs(dear, TIGHT), assign_programs(cheap, TIGHT)
    assert (at_dear.program == -1).sum() > (at_cheap.program == -1).sum()
    assert at_dear.cost == pytest.approx(least_cost(dear), rel=0.02)


def test_absorption_that_is_owed_is_served_by_the_sites_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "FEW", 0)  # what the schedules alone say
    problem = an_event(
        3, soc=np.full(4, 0.2), may_charge=True, commitment_kw=np.full(4, -5.0), program_commitment_kw=np.zeros((2, 4))
    )
    made = assign_programs(problem, TIGHT)
    assert made.cost == pytest.approx(least_cost(problem), rel=0.02)
    assert (made.battery_kw[made.program == -1].sum(axis=0) < 0).all()


def test_a_large_fleet_is_assigned_by_price_at_nearly_the_same_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = an_event(2, 80, 6)
    whole = assign_programs(problem)
    monkeypatch.setattr(programs, "WHOLE", 1)
    priced = assign_programs(problem)
    assert refused(problem, priced) == []
    assert priced.bound == -np.inf
    assert whole.cost - 0.01 * abs(whole.cost) <= priced.cost <= whole.cost + 0.05 * abs(whole.cost)
    everyone_to_main = cost_of(problem, np.full(80, -1))
    assert priced.cost < everyone_to_main


def test_the_same_problem_gives_the_same_assignment() -> None:
    first, second = (assign_programs(an_event(9, 10, 6)) for _ in range(2))
    np.testing.assert_array_equal(first.program, second.program)
