"""The exact allocation against an independent oracle, and the properties every answer must have."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, breaches, oracle_objective, random_arrays, random_problem
from vpp.allocation import Options, Problem, solve
from vpp.allocation.answer import feasible
from vpp.allocation.exact import SPLIT
from vpp.allocation.limits import max_charge_kw, max_discharge_kw
from vpp.allocation.linear import segment_ends
from vpp.allocation.solver import SolverName

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("seed", range(60))
def test_costs_no_more_and_no_less_than_the_oracle(seed: int) -> None:
    problem = random_problem(seed, sites=1 + seed % 7, steps=2 + seed % 9)
    best = oracle_objective(problem)
    answer = solve(problem)
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert answer.bound <= best + 1e-6 * max(1.0, abs(best))
    assert abs(answer.gap) <= 1e-7


@FEW
@given(SEEDS, st.booleans())
def test_hard_limits_are_kept_with_and_without_a_solver(seed: int, exact: bool) -> None:
    """Holds conventions, rule 7."""
    problem = random_problem(seed)
    answer = solve(problem, Options() if exact else Options(solvers=()))
    worst = breaches(problem, answer.battery_kw, answer.soc)
    assert max(worst.values()) <= 1e-6, worst
    assert answer.status == ("optimal" if exact else SPLIT)


@FEW
@given(SEEDS)
def test_what_is_not_delivered_is_shortfall(seed: int) -> None:
    problem = random_problem(seed)
    answer = solve(problem)
    delivered = answer.battery_kw.sum(axis=0)
    owed = problem.commitment_kw
    assert (delivered + answer.shortfall_kw >= owed - 1e-6)[problem.committed].all()
    assert (answer.shortfall_kw[~problem.committed] == 0).all()
    short = answer.shortfall_kw > 1e-6
    np.testing.assert_allclose((delivered + answer.shortfall_kw)[short], owed[short], atol=1e-6)


@FEW
@given(SEEDS, st.floats(0.0, 50.0))
def test_owing_more_never_costs_less(seed: int, more_kw: float) -> None:
    arrays = random_arrays(seed)
    raised = {**arrays, "commitment_kw": np.where(arrays["committed"], arrays["commitment_kw"] + more_kw, 0.0)}
    less, more = solve(Problem.build(arrays)), solve(Problem.build(raised))
    assert more.objective >= less.objective - 1e-6 * max(1.0, abs(less.objective))


@FEW
@given(SEEDS)
def test_the_marginal_price_is_never_negative_nor_above_the_price_of_shortfall(seed: int) -> None:
    problem = random_problem(seed)
    price = solve(problem).marginal_price_per_kwh
    assert (price >= -1e-7).all()
    assert (price <= problem.shortfall_price_per_kwh + 1e-7).all()
    assert (price[~problem.committed] == 0).all()


@FEW
@given(SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_sites_changes_no_total(seed: int, random: Random) -> None:
    problem = random_problem(seed)
    order = list(range(problem.sites))
    random.shuffle(order)
    arrays = problem.arrays()
    by_site = {
        name: arrays[name][order]
        for name, array in arrays.items()
        if array.shape[:1] == (problem.sites,) and name not in ("step_h", "demand_window")
    }
    turned = solve(Problem.build({**arrays, **by_site}))
    assert turned.objective == pytest.approx(solve(problem).objective, rel=1e-9, abs=1e-7)


@FEW
@given(SEEDS)
def test_without_one_site_the_others_may_not_do_more(seed: int) -> None:
    arrays = random_arrays(seed)
    whole = Problem.build(arrays)
    fewer = Problem.build({n: a[1:] if np.shape(a)[:1] == (6,) and n != "step_h" else a for n, a in arrays.items()})
    np.testing.assert_array_equal(max_discharge_kw(fewer), max_discharge_kw(whole)[1:])
    np.testing.assert_array_equal(max_charge_kw(fewer), max_charge_kw(whole)[1:])
    assert solve(fewer).shortfall_kw.sum() >= 0


def test_the_same_problem_gives_the_same_bits() -> None:
    first, second = (solve(random_problem(7, sites=30, steps=12)) for _ in range(2))
    np.testing.assert_array_equal(first.battery_kw, second.battery_kw)


def test_a_commitment_nobody_can_meet_is_a_priced_shortfall() -> None:
    """Holds conventions, rule 7."""
    answer = solve(a_problem(commitment_kw=np.full(4, 100.0)))
    can_kwh = 2 * 0.6 * 10
    assert answer.status == "optimal"
    assert answer.shortfall_kw.sum() == pytest.approx(400 - can_kwh)
    np.testing.assert_allclose(answer.marginal_price_per_kwh, 10.0)
    np.testing.assert_allclose(answer.soc[:, -1], 0.2)


def test_a_site_with_an_evening_peak_keeps_the_energy_for_it() -> None:
    load = np.array([[1.0, 1.0, 1.0, 8.0], [1.0, 1.0, 1.0, 1.0]])
    demand = {
        "net_load_kw": load, "demand_window": np.ones((1, 4), dtype=bool),
        "demand_price_per_kw": np.array([[20.0], [0.0]]), "peak_so_far_kw": np.full((2, 1), 4.0),
        "commitment_kw": np.array([3.0, 3.0, 3.0, 0.0]), "export_limit_kw": np.full(2, 10.0),
    }  # fmt: skip
    answer = solve(a_problem(**demand, may_charge=False))
    imported = load - answer.battery_kw
    assert imported[0].max() <= 4.0 + 1e-6
    # 9 kWh are owed, 12 are there, 4 are needed against the peak: one kWh stays owed
    assert answer.shortfall_kw.sum() == pytest.approx(1.0)


def test_a_battery_below_its_reserve_may_charge_but_not_discharge() -> None:
    answer = solve(a_problem(soc=np.array([0.1, 0.8]), soc_floor=np.array([0.3, 0.2])))
    assert (answer.battery_kw[0] <= 0).all()
    assert (np.diff(answer.soc[0]) >= -1e-12).all()


def test_site_limits_an_idle_battery_breaks_are_reported() -> None:
    net = np.array([[-9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]])
    answer = solve(a_problem(net_load_kw=net, export_limit_kw=np.full(2, 5.0), import_limit_kw=np.full(2, 6.0)))
    assert np.argwhere(answer.over_export).tolist() == [[0, 0]]
    assert np.argwhere(answer.over_import).tolist() == [[1, 2]]


def test_nobody_charges_and_discharges_at_once_where_energy_is_worth_less_than_nothing() -> None:
    problem = a_problem(
        import_price_per_kwh=np.full(4, -0.2), export_price_per_kwh=np.full(4, -0.2), soc=np.full(2, 1.0),
        charge_efficiency=np.full(2, 0.8), discharge_efficiency=np.full(2, 0.8), commitment_kw=None,
    )  # fmt: skip
    answer = solve(problem)
    assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6
    # the programme would burn energy in the losses; the answer does not, and says what that may cost
    assert answer.gap >= 0


def test_too_little_time_gives_the_split_by_its_name() -> None:
    answer = solve(random_problem(3, sites=60, steps=40), Options(time_limit_s=1e-6))
    assert answer.status == SPLIT
    assert answer.solver == "none"
    assert answer.bound == -np.inf


@pytest.mark.parametrize("solver", list(SolverName))
def test_each_solver_alone_proves_the_same_optimum(solver: SolverName) -> None:
    problem = random_problem(11, sites=20, steps=12)
    answer = solve(problem, Options(solvers=(solver,)))
    assert answer.solver == solver
    assert answer.objective == pytest.approx(solve(problem).objective, rel=1e-8)


def test_excess_is_priced_only_where_it_says_so() -> None:
    # discharging earns 0.3 and stored energy is worth nothing: without a price all is given at once
    greedy = solve(a_problem(net_load_kw=np.full((2, 4), 5.0)))
    modest = solve(a_problem(net_load_kw=np.full((2, 4), 5.0), excess_price_per_kwh=1.0))
    assert greedy.battery_kw.sum() == pytest.approx(12.0)
    np.testing.assert_allclose(modest.battery_kw.sum(axis=0), 2.0)


def test_power_that_is_fixed_elsewhere_counts_as_delivered() -> None:
    answer = solve(a_problem(fixed_kw=np.full(4, 1.5), excess_price_per_kwh=1.0))
    np.testing.assert_allclose(answer.battery_kw.sum(axis=0), 0.5)


def test_power_a_battery_cannot_give_is_cut_back_whatever_a_solver_says() -> None:
    problem = a_problem(discharge_efficiency=np.full(2, 0.5))
    power, energy = feasible(problem, np.full((2, 4), 5.0))
    # 6 kWh above the floor give 3 kWh at the terminals
    np.testing.assert_allclose(power.sum(axis=1), 3.0)
    np.testing.assert_allclose(energy[:, -1], 2.0)


def test_no_sites_means_shortfall_and_no_error() -> None:
    nothing = {name: np.zeros(0) for name in ("max_charge_kw", "max_discharge_kw", "capacity_kwh", "soc", "soc_floor")}
    answer = solve(a_problem(net_load_kw=np.zeros((0, 4)), **nothing))
    np.testing.assert_allclose(answer.shortfall_kw, 2.0)


def test_a_segment_ends_only_where_the_direction_can_turn() -> None:
    discharge = np.array([[True, True, False, False, True, True], [True, False, True, True, False, True]])
    charge = np.array([[False, False, False, True, True, False], [False, False, False, False, False, False]])
    ends = segment_ends(discharge, charge)
    assert np.flatnonzero(ends[0]).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(ends[1]).tolist() == [5]


@pytest.mark.parametrize("audit", ["sample", "full"])
def test_a_second_look_is_another_solvers(audit: str) -> None:
    answer = solve(random_problem(4), Options(audit=audit))
    assert answer.audit is not None
    assert answer.audit["passed"]
    assert {answer.solver, answer.audit["solver"]} == {"glop", "highs"}
    assert answer.audit["worst_relative_difference"] <= 1e-9
    assert solve(random_problem(4)).audit is None
