"""The split without a solver, and the closed form of what a fleet can hold, against the programme."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, random_problem
from vpp.allocation import Options, Problem, solve, split_by_cost, split_by_time_to_go
from vpp.allocation.capability import closed_form_holds, held_kw, most_held, shape_scale
from vpp.allocation.realtime import split_all, split_step

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=40, deadline=None)


def an_event(seed: int, sites: int = 8, steps: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Power, deliverable energy, a shaped request and its step lengths."""
    r = np.random.default_rng(seed)
    power = r.uniform(1, 50, sites)
    return power, power * r.uniform(0.1, 4, sites), r.uniform(0, 100, steps), r.choice([0.25, 0.5, 1.0], steps)


def event_problem(seed: int, factor: float) -> Problem:
    """A fleet with constant limits, asked for its request times a factor."""
    power, energy, target, hours = an_event(seed)
    return Problem.build(
        step_h=hours, net_load_kw=np.zeros((len(power), len(hours))), max_charge_kw=power, max_discharge_kw=power,
        capacity_kwh=energy, soc=np.ones(len(power)), may_charge=False, commitment_kw=target * factor,
    )  # fmt: skip


@FEW
@given(SEEDS, st.floats(0.0, 400.0))
def test_the_split_by_cost_meets_the_target_with_the_cheapest(seed: int, target_kw: float) -> None:
    r = np.random.default_rng(seed)
    limit, price = r.uniform(0, 50, 12), r.choice([0.1, 0.2, 0.3], 12)
    share = split_by_cost(target_kw, limit, price)
    assert share.sum() == pytest.approx(min(target_kw, limit.sum()))
    used, spare = share > 1e-9, share < limit - 1e-9
    assert price[used].max(initial=-1.0) <= price[spare].min(initial=2.0) + 1e-12


@FEW
@given(SEEDS, st.floats(0.0, 1.2))
def test_the_split_by_time_to_go_meets_the_target_within_limits(seed: int, part: float) -> None:
    power, energy, _, hours = an_event(seed)
    most = np.minimum(power, energy / hours[0])
    share = split_by_time_to_go(part * most.sum(), power, energy, hours[0])
    assert share.sum() == pytest.approx(min(part, 1.0) * most.sum(), rel=1e-9, abs=1e-9)
    assert (share >= 0).all()
    assert (share <= most + 1e-9).all()


@FEW
@given(SEEDS)
def test_time_to_go_serves_whatever_the_closed_form_says_can_be_served(seed: int) -> None:
    power, energy, target, hours = an_event(seed)
    scale = shape_scale(target, hours, power, energy)
    served = split_all(event_problem(seed, scale * 0.999)).sum(axis=0)
    np.testing.assert_allclose(served, target * scale * 0.999, rtol=1e-6)


@FEW
@given(SEEDS)
def test_the_closed_form_is_the_most_the_programme_can_deliver(seed: int) -> None:
    power, energy, target, hours = an_event(seed)
    scale = shape_scale(target, hours, power, energy)
    assert solve(event_problem(seed, scale * 0.9999)).shortfall_kw.sum() == pytest.approx(0.0, abs=1e-5)
    assert solve(event_problem(seed, scale * 1.01)).shortfall_kw.sum() > 0


@FEW
@given(SEEDS)
def test_a_constant_request_can_be_held_up_to_the_sum_of_the_smaller_of_power_and_energy(seed: int) -> None:
    power, energy, _, hours = an_event(seed)
    most = held_kw(power, energy, float(hours.sum()))
    problem = event_problem(seed, 0.0)
    offered = Problem.build(
        {
            **problem.arrays(), "commitment_kw": None, "committed": None, "capacity_window": np.zeros(6, dtype=int),
            "capacity_price_per_kw": np.ones(1), "capacity_limit_kw": np.array([np.inf]),
            "shortfall_price_per_kwh": np.full(6, 1e3),
        }
    )  # fmt: skip
    assert solve(offered).capacity_kw[0] == pytest.approx(most, rel=1e-7)


@FEW
@given(SEEDS)
def test_what_can_be_held_can_be_delivered_and_is_never_more_than_asked(seed: int) -> None:
    problem = random_problem(seed)
    asked = np.array([problem.commitment_kw.max() + 1.0])
    window = np.where(problem.committed, 0, -1)
    offered = Problem.build(
        {
            **problem.arrays(), "commitment_kw": None, "committed": None, "capacity_window": window,
            "capacity_price_per_kw": np.full(1, 1e3), "capacity_limit_kw": asked,
            "shortfall_price_per_kwh": np.full(problem.steps, 1e5),
        }
    )  # fmt: skip
    held = most_held(offered, asked)
    assert held.kw[0] <= asked[0] + 1e-9
    owed = np.where(problem.committed, held.kw[0], 0.0)
    kept = solve(Problem.build({**problem.arrays(), "commitment_kw": owed, "shortfall_price_per_kwh": np.full(8, 1e5)}))
    assert kept.shortfall_kw.sum() == pytest.approx(0.0, abs=1e-4)


def test_the_closed_form_knows_when_it_does_not_hold() -> None:
    fixed = {"may_charge": False, "net_load_kw": np.full((2, 4), 6.0)}
    event = np.ones(4, dtype=bool)
    assert closed_form_holds(a_problem(**fixed), event)
    assert not closed_form_holds(a_problem(**{**fixed, "may_charge": True}), event)
    varying = np.array([[6.0, 1.0, 6.0, 6.0], [6.0, 6.0, 6.0, 6.0]])
    zero_export = {"net_load_kw": varying, "export_limit_kw": np.zeros(2)}
    assert not closed_form_holds(a_problem(**{**fixed, **zero_export}), event)
    peak = {"demand_window": np.ones((1, 4), dtype=bool), "demand_price_per_kw": np.ones((2, 1))}
    assert not closed_form_holds(a_problem(**fixed, **peak, peak_so_far_kw=np.full((2, 1), 5.0)), event)
    assert closed_form_holds(a_problem(**fixed, **peak, peak_so_far_kw=np.full((2, 1), 7.0)), event)


def test_the_split_of_one_step_prefers_saved_import_over_export() -> None:
    problem = a_problem(net_load_kw=np.array([[3.0] * 4, [0.0] * 4]))
    np.testing.assert_allclose(split_step(problem, 0, 2.5), [2.5, 0.0])
    np.testing.assert_allclose(split_step(problem, 0, 4.0).sum(), 4.0)


def test_the_split_keeps_what_a_site_needs_against_its_own_peak() -> None:
    load = np.array([[0.0, 0.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]])
    problem = a_problem(
        net_load_kw=load, demand_window=np.ones((1, 4), dtype=bool), demand_price_per_kw=np.array([[9.0], [0.0]]),
        peak_so_far_kw=np.full((2, 1), 4.0), commitment_kw=np.array([9.0, 9.0, 9.0, 0.0]),
    )  # fmt: skip
    answer = solve(problem, Options(solvers=()))
    assert (load - answer.battery_kw)[0, 3] <= 4.0 + 1e-9
