"""Which mode-only sites run when: never dearer than the greedy sweep, and the best there is where all can be tried."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.math_opt.python import mathopt

from tests.unit.test_allocation_blocks import IDLE, RELEASED, RUNNING, homes, switches
from vpp.allocation import ModeState, Problem
from vpp.allocation.blocks import Sweep, choose, deliverable_kwh, limits_kw, wanted_kw
from vpp.allocation.discrete.choices import Choice, Limits, Others, choose_best, others_of
from vpp.allocation.discrete.columns import candidates

SEEDS = st.integers(0, 10_000)
PRICES = {"shortfall_price_per_kwh": 3.0, "excess_price_per_kwh": 1.0}


def nobody(steps: int = 8) -> Others:
    """No site that takes kW."""
    return Others(power_kw=np.zeros((1, steps)), energy_kwh=np.zeros(1), price_per_kwh=np.zeros((1, steps)))


def an_instance(seed: int, sites: int, steps: int) -> tuple[Problem, list[ModeState], np.ndarray, Others]:
    """Homes of all kinds, three states, a target in two levels and two groups of others."""
    r = np.random.default_rng(seed)
    problem = homes(
        sites, steps, soc=r.uniform(0.1, 1.0, sites), step_h=r.choice([0.25, 0.5], steps),
        net_load_kw=r.uniform(0, 4, (sites, steps)), export_limit_kw=np.where(r.random(sites) < 0.3, 0.0, 10.0),
        max_discharge_kw=r.choice([3.0, 5.0, 7.0], sites), import_price_per_kwh=0.3, export_price_per_kwh=0.05,
        wear_price_per_kwh=0.04, terminal_value_per_kwh=0.2, discharge_efficiency=np.full(sites, 0.95), **PRICES,
    )  # fmt: skip
    target = np.repeat(r.uniform(0.2, 0.9, 2) * 5 * sites, [steps // 2, steps - steps // 2])
    others = Others(
        power_kw=np.repeat(r.uniform(0, 4, (2, 1)), steps, axis=1), energy_kwh=r.uniform(0, 6, 2),
        price_per_kwh=r.uniform(0.05, 0.4, (2, steps)),
    )  # fmt: skip
    return problem, [[IDLE, IDLE, RUNNING, RELEASED][k] for k in r.integers(0, 4, sites)], target, others


def held(problem: Problem, others: Others) -> tuple[np.ndarray, float]:
    """What the others can hold and deliver, as the greedy sweep is told."""
    most = np.minimum(others.power_kw, (others.energy_kwh / problem.step_h.sum())[:, None])
    return most.sum(axis=0), float(others.energy_kwh.sum())


def stated_cost(
    problem: Problem, states: list[ModeState], power_kw: np.ndarray, target: np.ndarray, others: Others
) -> float:
    """The stated cost of a choice, written out anew: power by power, and the others' best answer by HiGHS."""
    hours, total = problem.step_h, power_kw.sum(axis=0)
    cost = 0.0
    for i, t in itertools.product(range(problem.sites), range(problem.steps)):
        saved = min(power_kw[i, t], max(problem.net_load_kw[i, t], 0.0))
        worth = 0.04 + 0.2 / problem.discharge_efficiency[i]
        cost += hours[t] * (power_kw[i, t] * worth - 0.3 * saved - 0.05 * (power_kw[i, t] - saved))
    wanted = wanted_kw(problem, states, target, *held(problem, others))
    model = mathopt.Model()
    terms: list[Any] = []
    given_kwh: list[list[Any]] = [[] for _ in others.energy_kwh]
    for t in range(problem.steps):
        part = [model.add_variable(lb=0.0, ub=others.power_kw[g, t]) for g in range(len(given_kwh))]
        short, over = model.add_variable(lb=0.0), model.add_variable(lb=0.0)
        model.add_linear_constraint(total[t] + sum(part) + short - over == target[t])
        terms.append(hours[t] * (3.0 * short + 1.0 * over + 0.2 * abs(float(total[t] - wanted[t]))))
        for g, kw in enumerate(part):
            terms.append(hours[t] * others.price_per_kwh[g, t] * kw)
            given_kwh[g].append(hours[t] * kw)
    for g, kwh in enumerate(given_kwh):
        model.add_linear_constraint(mathopt.fast_sum(kwh) <= others.energy_kwh[g])
    model.minimize(mathopt.fast_sum(terms))
    return cost + float(mathopt.solve(model, mathopt.SolverType.HIGHS).objective_value())


def least_cost(problem: Problem, states: list[ModeState], target: np.ndarray, others: Others) -> float:
    """The least stated cost of all choices among the candidates, each tried."""
    greedy = choose(problem, states, target, *held(problem, others))
    sweep = Sweep(
        limits_kw(problem, states, None), deliverable_kwh(problem), problem.step_h, target * 1.02, problem.committed
    )
    made = candidates(problem, states, sweep, greedy, 10_000)
    nothing = np.zeros(problem.steps)
    options = [
        ([] if state is RUNNING else [nothing]) + [made.power_kw[c] for c in np.flatnonzero(made.site == i)]
        for i, state in enumerate(states)
    ]
    allowed = (np.array(taken) for taken in itertools.product(*options))
    return min(
        stated_cost(problem, states, taken, target, others)
        for taken in allowed
        if (taken.sum(axis=0) <= target * 1.02 + 1e-9).all()
    )


def chosen(problem: Problem, states: list[ModeState], target: Any, others: Others, **limits: Any) -> Choice:
    """The choice at a target of one level or many."""
    return choose_best(problem, states, np.broadcast_to(np.asarray(target, float), problem.steps), others,
                       limits=Limits(**limits))  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.booleans())
def test_a_choice_is_never_dearer_than_the_greedy_one_and_costs_what_it_says(seed: int, prove: bool) -> None:
    problem, states, target, others = an_instance(seed, 8, 10)
    found = chosen(problem, states, target, others, prove=prove, work_limit=0.02)
    greedy = choose(problem, states, target, *held(problem, others))
    before, after = (
        stated_cost(problem, states, power, target, others) for power in (greedy.power_kw, found.blocks.power_kw)
    )
    assert after <= before + 1e-6
    assert found.cost == pytest.approx(after, abs=1e-5)
    assert found.greedy_cost == pytest.approx(before, abs=1e-5)
    assert found.bound <= found.cost + 1e-6


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_choice_keeps_to_the_cap_one_start_one_release_and_the_energy(seed: int) -> None:
    problem, states, target, others = an_instance(seed, 8, 10)
    found = chosen(problem, states, target, others, work_limit=0.02).blocks
    assert (found.power_kw.sum(axis=0) <= target * 1.02 + 1e-6).all()
    assert (switches(found.power_kw) <= 2).all()
    assert (found.power_kw @ problem.step_h <= deliverable_kwh(problem) + 1e-9).all()
    for state, start, power in zip(states, found.start, found.power_kw, strict=True):
        assert state is not RELEASED or (start == -1 and not power.any())
        assert state is not RUNNING or start == 0
        assert start != -1 or not power.any()
        assert not power[: max(start, 0)].any()


@pytest.mark.parametrize("seed", range(12))
def test_the_choice_is_the_best_of_all_that_can_be_counted(seed: int) -> None:
    problem, states, target, others = an_instance(seed, 3, 6)
    found = chosen(problem, states, target, others, gap=0.0, least_gain=1e-3, work_limit=2.0)
    least = least_cost(problem, states, target, others)
    assert found.bound <= least + 1e-6
    # CP-SAT sees power in steps of 10 W
    assert least - 1e-6 <= found.cost <= least + 0.02


@pytest.mark.parametrize("seed", [305, 306, 318])
def test_what_a_solver_cut_off_early_says_is_not_taken_where_it_is_worse(seed: int) -> None:
    *instance, others = an_instance(seed, 8, 10)
    cut_off = chosen(*instance, others, work_limit=0.005)
    assert cut_off.cost <= chosen(*instance, others, prove=False).cost
    assert cut_off.bound > -np.inf


def test_a_target_the_greedy_sweep_lets_dip_is_held_throughout() -> None:
    problem = homes(3, 8, **PRICES)
    found = chosen(problem, [IDLE] * 3, 5.0, nobody())
    assert choose(problem, [IDLE] * 3, np.full(8, 5.0), np.zeros(8), 0.0).power_kw.sum(axis=0).min() == pytest.approx(1)
    np.testing.assert_allclose(found.blocks.power_kw.sum(axis=0), 5.0)
    assert found.cost < found.greedy_cost


def test_what_is_cheaper_runs_first() -> None:
    problem = homes(4, 4, wear_price_per_kwh=np.array([0.5, 0.1, 0.1, 0.5]), **PRICES)
    found = chosen(problem, [IDLE] * 4, 10.0, nobody(4), balance_price_per_kwh=0.0)
    assert np.flatnonzero(found.blocks.power_kw[:, 0]).tolist() == [1, 2]


def test_blocks_start_only_where_the_others_would_cost_more() -> None:
    problem = homes(4, 4, wear_price_per_kwh=0.2, **PRICES)
    cheap, dear = (
        Others(power_kw=np.full((1, 4), 10.0), energy_kwh=np.full(1, 99.0), price_per_kwh=np.full((1, 4), price))
        for price in (0.1, 0.3)
    )
    assert chosen(problem, [IDLE] * 4, 10.0, cheap, balance_price_per_kwh=0.0).blocks.power_kw.sum() == 0
    assert chosen(problem, [IDLE] * 4, 10.0, dear, balance_price_per_kwh=0.0).blocks.power_kw[:, 0].sum() == 10.0


def test_a_running_site_is_not_released_to_save_money() -> None:
    problem = homes(2, 4, wear_price_per_kwh=5.0, **PRICES)
    found = chosen(problem, [RUNNING, IDLE], 10.0, nobody(4))
    assert (found.blocks.power_kw[0, :3] == 5.0).all()
    assert not found.blocks.power_kw[1].any()


def test_the_same_input_gives_the_same_choice() -> None:
    first, second = (chosen(*an_instance(5, 20, 12), work_limit=0.05) for _ in range(2))
    np.testing.assert_array_equal(first.blocks.power_kw, second.blocks.power_kw)
    assert first.method == second.method


def test_with_too_little_time_the_greedy_choice_stays() -> None:
    problem, states, target, others = an_instance(3, 8, 10)
    found = chosen(problem, states, target, others, time_limit_s=1e-9)
    greedy = choose(problem, states, target, *held(problem, others))
    np.testing.assert_array_equal(found.blocks.power_kw, greedy.power_kw)
    assert found.method == "greedy"


def test_many_candidates_are_thinned_and_the_greedy_ones_stay() -> None:
    problem, states, target, others = an_instance(7, 20, 12)
    few = chosen(problem, states, target, others, most_columns=40, prove=False)
    assert few.candidates < chosen(problem, states, target, others, prove=False).candidates / 3
    assert few.cost <= few.greedy_cost


def test_groups_hold_all_power_and_energy_of_the_sites_that_take_kw() -> None:
    r = np.random.default_rng(2)
    problem = homes(9, 4, soc=r.uniform(0, 1, 9), capacity_kwh=r.uniform(5, 30, 9), import_price_per_kwh=0.3,
                    wear_price_per_kwh=0.05, terminal_value_per_kwh=0.1)  # fmt: skip
    groups = others_of(problem)
    can = deliverable_kwh(problem) > 0
    assert groups.energy_kwh.sum() == pytest.approx(deliverable_kwh(problem).sum())
    np.testing.assert_allclose(groups.power_kw.sum(axis=0), problem.max_discharge_kw[can].sum())
    # 1 of 5 kW saves an import, 4 of 5 are given away
    np.testing.assert_allclose(groups.price_per_kwh[groups.power_kw > 0], 0.15 - 0.3 / 5)
    hours = groups.energy_kwh / np.maximum(groups.power_kw[:, 0], 1e-9)
    assert (np.diff(hours[groups.energy_kwh > 0]) > 0).all()
