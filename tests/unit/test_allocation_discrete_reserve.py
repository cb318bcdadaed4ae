"""An award that survives the loss of a group: followed by hand for every group, and against a programme per loss."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.math_opt.python import mathopt

from tests.builders_allocation import a_problem, breaches, random_arrays
from vpp.allocation import Options, Problem, solve
from vpp.allocation.answer import feasible
from vpp.allocation.discrete import Reserved, reserve, with_reserve
from vpp.domain.errors import InvalidRequest

SEEDS = st.integers(0, 10_000)


def an_event(seed: int, sites: int = 5, steps: int = 5) -> Problem:
    """Sites that may not charge, owed what half of them could deliver."""
    r = np.random.default_rng(seed)
    power = r.uniform(3, 8, sites)
    return Problem.build(
        step_h=r.choice([0.5, 1.0], steps), net_load_kw=r.uniform(0, 4, (sites, steps)), max_charge_kw=power,
        max_discharge_kw=power, capacity_kwh=power * r.uniform(1, 5, sites), soc=r.uniform(0.4, 1.0, sites),
        soc_floor=np.full(sites, 0.1), discharge_efficiency=r.uniform(0.8, 1.0, sites), may_charge=False,
        import_price_per_kwh=0.3, export_price_per_kwh=0.05, wear_price_per_kwh=r.uniform(0.0, 0.2, sites),
        terminal_value_per_kwh=np.full(sites, 0.4), commitment_kw=power.sum() * r.uniform(0.1, 0.5, steps),
    )  # fmt: skip


def after_loss(problem: Problem, made: Reserved, group: np.ndarray, lost: int) -> np.ndarray:
    """What the rest delivers if it calls its reserve for a group that is lost from the start, (T,)."""
    left = np.flatnonzero(group != lost)
    wanted = (made.allocation.battery_kw + made.reserve_kw)[left]
    power, _ = feasible(problem.only(left), wanted)
    return np.asarray(power.sum(axis=0))


def least_cost(problem: Problem, group: np.ndarray, price: float) -> float:
    """The least cost with a reserve of its own for every loss, written out site by site (no demand charges)."""
    p, model, terms = problem, mathopt.Model(), []
    power = [[model.add_variable(lb=0.0, ub=float(p.max_discharge_kw[i])) for _ in range(p.steps)]
             for i in range(p.sites)]  # fmt: skip
    for i in range(p.sites):
        used: Any = 0.0
        for t in range(p.steps):
            bought = model.add_variable(lb=0.0)
            flow = p.net_load_kw[i, t] - power[i][t]
            model.add_linear_constraint(bought - flow >= 0.0)
            terms.append(p.step_h[t] * (0.25 * bought + 0.05 * flow + p.wear_price_per_kwh[i] * power[i][t]))
            used = used + p.step_h[t] / p.discharge_efficiency[i] * power[i][t]
        model.add_linear_constraint(used <= (p.soc[i] - p.soc_floor[i]) * p.capacity_kwh[i])
        terms.append(0.4 * (used - p.soc[i] * p.capacity_kwh[i]))
    for t in range(p.steps):
        short = model.add_variable(lb=0.0)
        model.add_linear_constraint(mathopt.fast_sum(row[t] for row in power) + short >= p.commitment_kw[t])
        terms.append(p.step_h[t] * 10.0 * short)
    groups = np.unique(group[group >= 0])
    worst = [model.add_variable(lb=0.0) for _ in range(p.steps)]
    for lost in groups:
        missing = _cover(model, p, power, group, int(lost))
        for t in range(p.steps):
            model.add_linear_constraint(worst[t] >= missing[t])
            terms.append(p.step_h[t] * price * (0.01 / len(groups) * missing[t] + 0.99 / len(groups) * worst[t]))
    model.minimize(mathopt.fast_sum(terms))
    return float(mathopt.solve(model, mathopt.SolverType.HIGHS).objective_value())


def _cover(model: mathopt.Model, p: Problem, power: list[Any], group: np.ndarray, lost: int) -> list[Any]:
    missing = [model.add_variable(lb=0.0) for _ in range(p.steps)]
    left = [i for i in range(p.sites) if group[i] != lost]
    more = {(i, t): model.add_variable(lb=0.0) for i in left for t in range(p.steps)}
    for i in left:
        for t in range(p.steps):
            model.add_linear_constraint(power[i][t] + more[i, t] <= p.max_discharge_kw[i])
        drawn = mathopt.fast_sum(p.step_h[t] * (power[i][t] + more[i, t]) for t in range(p.steps))
        stored = (p.soc[i] - p.soc_floor[i]) * p.capacity_kwh[i] * p.discharge_efficiency[i]
        model.add_linear_constraint(drawn <= stored)
    for t in range(p.steps):
        gone = mathopt.fast_sum(power[i][t] for i in range(p.sites) if group[i] == lost)
        model.add_linear_constraint(mathopt.fast_sum(more[i, t] for i in left) + missing[t] >= gone)
    return missing


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_when_any_group_is_lost_the_rest_delivers_all_but_what_is_said_to_be_uncovered(seed: int) -> None:
    problem = an_event(seed)
    group = np.random.default_rng(seed).integers(-1, 3, problem.sites)
    made = with_reserve(problem, group)
    owed = problem.commitment_kw - made.allocation.shortfall_kw
    for g, lost in enumerate(made.groups):
        assert (after_loss(problem, made, group, int(lost)) + made.uncovered_kw[g] >= owed - 1e-5).all()
    assert max(breaches(problem, made.allocation.battery_kw, made.allocation.soc).values()) <= 1e-6
    assert made.allocation.objective >= solve(problem).objective - 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_with_one_group_to_lose_no_schedule_is_cheaper(seed: int) -> None:
    problem = an_event(seed)
    group = np.where(np.arange(5) < 2, 7, -1)
    made = with_reserve(problem, group, price_per_kwh=5.0)
    penalty = 5.0 * float(
        (0.99 * made.uncovered_kw.max(axis=0) + 0.01 * made.uncovered_kw.mean(axis=0)) @ problem.step_h
    )
    assert made.groups.tolist() == [7]
    assert made.allocation.objective + penalty == pytest.approx(least_cost(problem, group, 5.0), abs=1e-5)
    assert made.allocation.gap <= 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_with_many_to_lose_it_costs_little_more_than_a_reserve_for_each_loss(seed: int) -> None:
    problem, group = an_event(seed), np.arange(5)
    made = with_reserve(problem, group, price_per_kwh=5.0)
    penalty = 5.0 * float(
        (0.99 * made.uncovered_kw.max(axis=0) + 0.01 * made.uncovered_kw.mean(axis=0)) @ problem.step_h
    )
    least = least_cost(problem, group, 5.0)
    assert least - 1e-6 <= made.allocation.objective + penalty <= least + 0.05 * abs(least)


def test_the_cheap_vendor_does_not_carry_what_the_others_could_not_take_over() -> None:
    wear = np.array([0.0, 0.0, 0.3, 0.3])
    problem = a_problem(
        net_load_kw=np.full((4, 4), 5.0), commitment_kw=np.full(4, 8.0), may_charge=False, wear_price_per_kwh=wear,
        terminal_value_per_kwh=np.full(4, 0.4), excess_price_per_kwh=1.0,
        **{name: np.full(4, value) for name, value in (
            ("max_charge_kw", 5.0), ("max_discharge_kw", 5.0), ("capacity_kwh", 40.0), ("soc", 1.0), ("soc_floor", 0.2),
        )},
    )  # fmt: skip
    plain, vendor = solve(problem), np.array([0, 0, 1, 1])
    np.testing.assert_allclose(plain.battery_kw[:2].sum(axis=0), 8.0)
    made = with_reserve(problem, vendor)
    # 2 x 5 kW remain if a vendor is lost, and so 8 kW are safe with either
    assert made.uncovered_kw.max() == 0
    np.testing.assert_allclose(made.allocation.shortfall_kw, 0.0)
    np.testing.assert_allclose(after_loss(problem, made, vendor, 0), 8.0, atol=1e-6)
    more = with_reserve(a_problem(**{**problem.arrays(), "commitment_kw": np.full(4, 14.0)}), vendor)
    # 14 kW are delivered although only 10 are safe: delivering comes first
    np.testing.assert_allclose(more.allocation.shortfall_kw, 0.0)
    assert more.uncovered_kw.max() == pytest.approx(4.0, abs=1e-6)


def test_no_more_is_offered_than_survives_a_loss_if_that_is_what_it_costs() -> None:
    arrays = {name: np.full(4, value) for name, value in (
        ("max_charge_kw", 5.0), ("max_discharge_kw", 5.0), ("capacity_kwh", 40.0), ("soc", 1.0), ("soc_floor", 0.2),
    )}  # fmt: skip
    problem = a_problem(
        **arrays, net_load_kw=np.full((4, 4), 5.0), commitment_kw=None, capacity_window=np.zeros(4, dtype=int),
        capacity_price_per_kw=np.full(1, 4.0), may_charge=False,
    )  # fmt: skip
    assert solve(problem).capacity_kw[0] == pytest.approx(20.0)
    safe = with_reserve(problem, np.arange(4), price_per_kwh=50.0)
    assert safe.allocation.capacity_kw[0] == pytest.approx(15.0)
    assert safe.uncovered_kw.max() == 0


def test_reserve_behind_a_full_feeder_does_not_count() -> None:
    feeder = {"feeder": np.array([-1, 0]), "feeder_parent": np.array([-1]),
              "feeder_export_limit_kw": np.full((1, 4), 1.0)}  # fmt: skip
    usual = {"commitment_kw": np.full(4, 4.0), "may_charge": False, "capacity_kwh": np.full(2, 40.0)}
    free, behind = (with_reserve(a_problem(**usual, **more), np.array([0, -1])) for more in ({}, feeder))
    assert free.uncovered_kw.max() == 0
    # 2 kW of load and 1 kW of export: 3 of the 4 kW at most, whatever the battery could do
    assert ((behind.allocation.battery_kw + behind.reserve_kw)[1] <= 3.0 + 1e-6).all()
    np.testing.assert_allclose(behind.uncovered_kw, 1.0, atol=1e-6)


def test_a_fleet_too_large_to_plan_is_told_what_its_headroom_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, group = an_event(3), np.array([0, 0, 1, 1, 1])
    planned = with_reserve(problem, group)
    monkeypatch.setattr(reserve, "WHOLE", 1)
    told = with_reserve(problem, group)
    assert told.allocation.objective == pytest.approx(solve(problem).objective)
    assert told.uncovered_kw.sum() >= planned.uncovered_kw.sum() - 1e-6
    owed = problem.commitment_kw - told.allocation.shortfall_kw
    for g, lost in enumerate(told.groups):
        assert (after_loss(problem, told, group, int(lost)) + told.uncovered_kw[g] >= owed - 1e-5).all()


def test_nothing_to_lose_or_nothing_owed_is_the_plain_answer() -> None:
    problem = an_event(1)
    alone = with_reserve(problem, np.full(5, -1))
    np.testing.assert_allclose(alone.allocation.battery_kw, solve(problem).battery_kw)
    assert alone.uncovered_kw.shape == (0, 5)
    nothing = Problem.build({**random_arrays(1), "commitment_kw": None, "committed": None})
    assert with_reserve(nothing, np.zeros(6, dtype=int)).reserve_kw.max() == 0


@pytest.mark.parametrize("group", [[0, 1], [0.5] * 5, "abcde"])
def test_groups_that_do_not_fit_the_sites_are_refused(group: Any) -> None:
    with pytest.raises(InvalidRequest, match="group"):
        with_reserve(an_event(1), group, Options())
