"""What ties sites together: turn-up, programmes that count the same kWh, feeders; and wear by C-rate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.math_opt.python import mathopt

from tests.builders_allocation import a_problem, breaches
from tests.builders_instances import instance
from tests.unit.test_allocation_oracle import worst_breach
from vpp.allocation import Allocation, Options, Problem, solve
from vpp.allocation.answer import feasible, fleet_cost, site_cost
from vpp.allocation.exact import SPLIT
from vpp.allocation.feeders import below, room
from vpp.allocation.linear import build
from vpp.allocation.programs import patterns, serve
from vpp.allocation.solver import SolverName, run

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=40, deadline=None)
ORTOOLS = Options(method="ortools")


def homes(**changes: Any) -> Problem:
    """Two full batteries of 5 kW and 10 kWh, one hour, no load, energy worth nothing: they give what they are asked."""
    usual: dict[str, Any] = {
        "net_load_kw": np.zeros((2, 1)), "soc": 1.0, "import_price_per_kwh": 0.0, "export_price_per_kwh": 0.0,
        "terminal_value_per_kwh": 0.01, "commitment_kw": None,
    }  # fmt: skip
    return a_problem(**{**usual, **changes})


def delivered(answer: Allocation) -> list[float]:
    return [round(float(kw), 6) for kw in answer.battery_kw.sum(axis=0)]


def test_turn_up_absorbs_what_is_owed_and_costs_what_energy_does() -> None:
    lossy = {"soc": 0.5, "charge_efficiency": 0.9}
    answer = solve(a_problem(**lossy, commitment_kw=[-6, 0, 0, 0], committed=[True, False, False, False]))
    assert answer.battery_kw[:, 0].sum() == pytest.approx(-6)
    assert answer.shortfall_kw.tolist() == [0, 0, 0, 0]
    assert answer.marginal_price_per_kwh[0] <= 0
    # of 6 kWh bought at 0.30, 0.6 are lost, and the rest saves as much later
    free = solve(a_problem(**lossy, commitment_kw=None))
    assert answer.objective == pytest.approx(free.objective + 0.6 * 0.3)


def test_absorption_that_cannot_be_had_is_a_shortfall_above_zero() -> None:
    answer = solve(a_problem(commitment_kw=[-100, 0, 0, 0], committed=[True, False, False, False]))
    # 2 x 2 kWh of room, and 5 kW an inverter
    assert answer.shortfall_kw[0] == pytest.approx(96)
    assert answer.marginal_price_per_kwh[0] == pytest.approx(-10)


def test_absorbing_more_than_owed_is_excess() -> None:
    cheap = {"soc": 0.2, "import_price_per_kwh": 0.1, "export_price_per_kwh": 0.0, "terminal_value_per_kwh": 0.5}
    owed = {"commitment_kw": np.full(4, -1.0)}
    assert sum(delivered(solve(a_problem(**cheap, **owed)))) == pytest.approx(-16)
    assert delivered(solve(a_problem(**cheap, **owed, excess_price_per_kwh=1.0))) == [-1, -1, -1, -1]
    answer = solve(a_problem(**cheap, **owed))
    priced = solve(a_problem(**cheap, **owed, excess_price_per_kwh=0.05))
    beyond_kwh = -answer.battery_kw.sum() - 4
    assert priced.objective == pytest.approx(answer.objective + 0.05 * beyond_kwh)


@FEW
@given(SEEDS)
def test_a_kwh_is_worth_something_where_delivery_is_owed_and_costs_where_absorption_is(seed: int) -> None:
    arrays = {**instance("turn_up", 5, seed).arrays(), "excess_price_per_kwh": 0.0}
    problem = Problem.build(arrays)
    price = solve(problem, ORTOOLS).marginal_price_per_kwh
    assert (price[problem.commitment_kw > 0] >= -1e-9).all()
    assert (price[problem.commitment_kw < 0] <= 1e-9).all()
    assert (price[~problem.committed] == 0).all()


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.floats(0.0, 30.0))
def test_owing_more_absorption_never_costs_less(seed: int, more_kw: float) -> None:
    arrays = {**instance("turn_up", 4, seed).arrays(), "excess_price_per_kwh": 0.0}
    more = np.where(arrays["commitment_kw"] < 0, arrays["commitment_kw"] - more_kw, arrays["commitment_kw"])
    less, worse = (solve(Problem.build({**arrays, "commitment_kw": c})) for c in (arrays["commitment_kw"], more))
    assert worse.objective >= less.bound - 1e-6 * abs(less.objective)


def test_nobody_burns_energy_to_absorb_more() -> None:
    full = a_problem(
        soc=1.0, soc_ceiling=1.0, commitment_kw=np.full(4, -8.0), charge_efficiency=0.8, discharge_efficiency=0.8
    )
    answer = solve(full)
    assert (answer.battery_kw[:, 0] >= 0).all()
    assert max(breaches(full, answer.battery_kw, answer.soc).values()) <= 1e-6
    assert answer.objective >= answer.bound


def test_a_delivered_kwh_counts_once_and_the_dearest_shortfall_comes_first() -> None:
    programs = {"program_commitment_kw": [[3.0], [3.0]], "program_shortfall_price_per_kwh": [[1.0], [5.0]]}
    main = {"commitment_kw": [6.0], "shortfall_price_per_kwh": 0.5}
    answer = solve(homes(**programs, **main))
    assert answer.program_shortfall_kw.ravel() == pytest.approx([0.0, 0.0])
    assert answer.shortfall_kw == pytest.approx([2.0])
    first = solve(homes(**programs, commitment_kw=[6.0], shortfall_price_per_kwh=2.0))
    assert first.program_shortfall_kw.ravel() == pytest.approx([2.0, 0.0])
    assert first.shortfall_kw == pytest.approx([0.0])
    # a kWh more would have met what is missing
    assert answer.marginal_price_per_kwh == pytest.approx([0.5])
    assert first.marginal_price_per_kwh == pytest.approx([1.0])


def test_a_kwh_more_is_worth_what_the_dearest_open_programme_pays() -> None:
    owed = {"program_commitment_kw": [[20.0], [1.0]], "program_shortfall_price_per_kwh": [[1.5], [4.0]]}
    answer = solve(homes(**owed))
    assert answer.program_shortfall_kw.ravel() == pytest.approx([11.0, 0.0])
    assert answer.marginal_price_per_kwh == pytest.approx([1.5])


def test_a_programme_counts_its_own_sites_only() -> None:
    mine = {"program_commitment_kw": [[6.0], [1.0]], "program_site": [[True, False], [True, True]]}
    answer = solve(homes(**mine, program_shortfall_price_per_kwh=3.0))
    np.testing.assert_allclose(answer.battery_kw.ravel(), [5.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(answer.program_shortfall_kw.ravel(), [1.0, 0.0], atol=1e-6)


def test_while_a_programme_is_owed_power_its_sites_do_not_absorb_on_balance() -> None:
    charging = {"soc": 0.3, "import_price_per_kwh": 0.1, "terminal_value_per_kwh": 0.5}
    owed = {"program_commitment_kw": [[2.0]], "program_shortfall_price_per_kwh": 0.01}
    assert delivered(solve(homes(**charging))) == [-10.0]
    assert delivered(solve(homes(**charging, **owed)))[0] == pytest.approx(0.0)
    others = solve(homes(**charging, **owed, program_site=[[True, False]]))
    np.testing.assert_allclose(others.battery_kw.ravel(), [0.0, -5.0], atol=1e-6)


@FEW
@given(SEEDS)
def test_splitting_a_delivery_costs_what_a_programme_of_the_split_costs(seed: int) -> None:
    """The greedy split against a transport problem solved by GLOP."""
    r = np.random.default_rng(seed)
    programs, sites = int(r.integers(1, 5)), int(r.integers(1, 7))
    problem = a_problem(
        net_load_kw=np.zeros((sites, 1)), max_charge_kw=5.0, max_discharge_kw=5.0, capacity_kwh=10.0, soc=0.5,
        soc_floor=0.2, commitment_kw=[float(r.choice([0.0, 3.0, 12.0]))] if seed % 3 else None,
        program_commitment_kw=r.choice([0.0, 1.0, 4.0, 9.0], (programs, 1)),
        program_shortfall_price_per_kwh=r.choice([0.0, 1.0, 2.0, 3.0], (programs, 1)),
        program_site=r.random((programs, sites)) < 0.5, shortfall_price_per_kwh=2.0,
        excess_price_per_kwh=float(r.choice([0.0, 0.5])),
    )  # fmt: skip
    battery_kw = r.uniform(0.0, 5.0, (problem.sites, 1))
    assert fleet_cost(problem, battery_kw, np.zeros(0)).cost == pytest.approx(_transport(problem, battery_kw), abs=1e-6)
    served = serve(problem, battery_kw, problem.commitment_kw)
    assert (served.programs_kw <= problem.program_commitment_kw + 1e-9).all()
    assert served.programs_kw.sum() + served.rest_kw.sum() == pytest.approx(battery_kw.sum())


def _transport(p: Problem, battery_kw: np.ndarray) -> float:
    model = mathopt.Model()
    owed = p.program_commitment_kw[:, 0]
    part = [
        [model.add_variable(lb=0, ub=float("inf") if p.program_site[c, i] else 0.0) for i in range(p.sites)]
        for c in range(len(owed))
    ]
    cost, given_away = 0.0, 0.0
    for i in range(p.sites):
        used = mathopt.fast_sum([row[i] for row in part])
        model.add_linear_constraint(used <= float(battery_kw[i, 0]))
        given_away += used
    for c, kw in enumerate(owed):
        short = model.add_variable(lb=0)
        model.add_linear_constraint(mathopt.fast_sum(part[c]) + short == float(kw))
        cost += short * float(p.program_shortfall_price_per_kwh[c, 0])
    if p.committed[0]:
        short, beyond = model.add_variable(lb=0), model.add_variable(lb=0)
        rest = float(battery_kw.sum()) - given_away
        model.add_linear_constraint(rest + short - beyond == float(p.commitment_kw[0]))
        cost += short * float(p.shortfall_price_per_kwh[0]) + beyond * float(p.excess_price_per_kwh[0])
    model.minimize(cost)
    result = mathopt.solve(model, mathopt.SolverType.GLOP)
    return float(result.objective_value())


@FEW
@given(SEEDS, st.floats(0.0, 40.0))
def test_owing_a_programme_more_never_costs_less(seed: int, more_kw: float) -> None:
    arrays = {**instance("programs", 4, seed).arrays(), "excess_price_per_kwh": 0.0}
    less = solve(Problem.build(arrays), ORTOOLS)
    raised = {**arrays, "program_commitment_kw": arrays["program_commitment_kw"] + more_kw}
    more = solve(Problem.build(raised), ORTOOLS)
    assert more.objective >= less.objective - 1e-6 * max(1.0, abs(less.objective))
    assert (more.marginal_price_per_kwh >= -1e-9).all()


@FEW
@given(SEEDS)
def test_the_order_of_sites_changes_no_total_whatever_ties_them_together(seed: int) -> None:
    problem = instance("mixed", 6, seed)
    turned = problem.only(np.random.default_rng(seed).permutation(6))
    there, back = solve(problem, ORTOOLS), solve(turned, ORTOOLS)
    assert back.objective == pytest.approx(there.objective, rel=1e-9, abs=1e-7)
    np.testing.assert_array_equal(back.over_feeder, there.over_feeder)


def test_sites_with_the_same_programmes_are_one_pattern() -> None:
    found = patterns(homes(program_commitment_kw=np.ones((2, 1)), program_site=[[True, True], [False, False]]))
    assert found.of_site.tolist() == [0, 0]
    assert found.serves.tolist() == [[True, False]]


def a_street(**changes: Any) -> Problem:
    """Four homes: two on feeder 1, one on feeder 2, both fed from feeder 0, the last one on none."""
    usual: dict[str, Any] = {
        "step_h": 1.0, "net_load_kw": np.zeros((4, 3)), "max_charge_kw": 5.0, "max_discharge_kw": 5.0,
        "capacity_kwh": 20.0, "soc": 0.9, "soc_floor": 0.1, "terminal_value_per_kwh": 0.01,
        "commitment_kw": np.full(3, 20.0), "shortfall_price_per_kwh": 1.0, "feeder": [1, 1, 2, -1],
        "feeder_parent": [-1, 0, 0],
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def test_a_feeder_limits_all_sites_below_it_and_an_override_is_a_lower_limit() -> None:
    limit = np.array([[12.0, 12.0, 12.0], [np.inf, 0.0, 6.0], [np.inf, np.inf, np.inf]])
    answer = solve(a_street(feeder_export_limit_kw=limit))
    power = answer.battery_kw
    np.testing.assert_allclose(power[:3].sum(axis=0), [12.0, 5.0, 11.0], atol=1e-6)
    np.testing.assert_allclose(power[:2].sum(axis=0)[1:], [0.0, 6.0], atol=1e-6)
    np.testing.assert_allclose(power[3], 5.0, atol=1e-6)
    np.testing.assert_allclose(answer.shortfall_kw, [3.0, 10.0, 4.0], atol=1e-6)
    assert (answer.feeder_price_per_kwh <= 1e-9).all()
    assert answer.feeder_price_per_kwh[0, 0] < -0.9
    assert answer.feeder_price_per_kwh[1, 1] < -0.9
    assert not answer.over_feeder.any()


def test_where_idle_batteries_break_a_feeders_limit_their_flow_is_the_limit_and_is_reported() -> None:
    sunny = np.zeros((4, 3))
    sunny[:2, 1] = -4.0
    answer = solve(a_street(net_load_kw=sunny, feeder_export_limit_kw=[[np.inf] * 3, [5.0] * 3, [np.inf] * 3]))
    assert answer.over_feeder.tolist() == [[False] * 3, [False, True, False], [False] * 3]
    np.testing.assert_allclose(answer.battery_kw[:2].sum(axis=0), [5.0, 0.0, 5.0], atol=1e-6)


def test_a_feeder_limits_charging_too() -> None:
    charging = {"soc": 0.2, "commitment_kw": None, "terminal_value_per_kwh": 0.5, "feeder_import_limit_kw": 4.0}
    answer = solve(a_street(**charging))
    np.testing.assert_allclose(answer.battery_kw[:3].sum(axis=0), -4.0, atol=1e-6)
    assert (answer.feeder_price_per_kwh >= -1e-9).all()
    assert answer.feeder_price_per_kwh.max() > 0.4


def test_a_feeders_price_is_what_a_kw_more_would_save() -> None:
    limit = np.array([[12.0, 11.0, 10.0], [np.inf, 3.0, 6.0], [np.inf, np.inf, np.inf]])
    answer = solve(a_street(feeder_export_limit_kw=limit))
    for f, t in ((0, 0), (1, 1), (0, 2)):
        wider = limit.copy()
        wider[f, t] += 0.5
        saved = answer.objective - solve(a_street(feeder_export_limit_kw=wider)).objective
        assert saved == pytest.approx(-0.5 * answer.feeder_price_per_kwh[f, t], abs=1e-6)


@FEW
@given(SEEDS, st.sampled_from(["feeders", "mixed"]))
def test_any_power_is_cut_back_to_what_feeders_allow_and_no_battery_does_more(seed: int, kind: str) -> None:
    problem = instance(kind, 9, seed)
    wanted = np.random.default_rng(seed).normal(0, 1, (9, 24)) * problem.max_discharge_kw[:, None] * 1.5
    power, energy = feasible(problem, wanted)
    limits, flow = room(problem), below(problem, power)
    assert (flow <= limits.most_kw + 1e-6).all()
    assert (flow >= limits.least_kw - 1e-6).all()
    assert (np.abs(power) <= np.abs(wanted)).all()
    assert (power * wanted >= 0).all()
    assert max(breaches(problem, power, energy / problem.capacity_kwh[:, None]).values()) <= 1e-9


def test_power_that_feeders_allow_is_left_alone() -> None:
    problem = a_street(feeder_export_limit_kw=10.0)
    wanted = np.full((4, 3), 3.0)
    np.testing.assert_array_equal(feasible(problem, wanted)[0], wanted)
    np.testing.assert_allclose(feasible(problem, 2 * wanted)[0][:3].sum(axis=0), 10.0, atol=1e-6)


def test_only_the_sites_below_a_limit_are_cut_back() -> None:
    """Feeder 2 hangs on 1, which hangs on 0; 1 may give half of what is wanted."""
    limit = np.array([[np.inf] * 3, [5.0] * 3, [np.inf] * 3])
    problem = a_street(feeder=[2, 2, 0, -1], feeder_parent=[-1, 0, 1], feeder_export_limit_kw=limit)
    power, _ = feasible(problem, np.full((4, 3), 5.0))
    np.testing.assert_allclose(power, np.array([[2.5] * 3, [2.5] * 3, [5.0] * 3, [5.0] * 3]), atol=1e-6)


@pytest.mark.parametrize("kind", ["feeders", "turn_up", "mixed", "programs"])
def test_the_split_keeps_every_hard_limit_too(kind: str) -> None:
    problem = instance(kind, 12, 5)
    answer = solve(problem, Options(solvers=()))
    assert answer.status == SPLIT
    assert answer.method == SPLIT
    assert worst_breach(problem, answer) <= 1e-6


def test_wear_grows_with_the_c_rate() -> None:
    tiers = {"wear_price_per_kwh": 0.1, "wear_c_rate": [0.2, 0.4], "wear_factor": [2.0, 4.0]}
    problem = homes(**tiers)
    power = np.array([[5.0], [3.0]])
    energy = np.array([[10.0, 5.0], [10.0, 7.0]])
    # 2 kWh gentle, 2 at double, 1 at fourfold wear; 2 gentle and 1 at double
    worn = site_cost(problem, power, energy) + 0.01 * energy[:, -1]
    np.testing.assert_allclose(worn, [0.1 * (2 + 2 * 2 + 1 * 4), 0.1 * (2 + 1 * 2)])


def test_wear_by_c_rate_spreads_the_work() -> None:
    owed = {"commitment_kw": [8.0, 0.0], "net_load_kw": np.zeros((2, 2)), "terminal_value_per_kwh": [0.01, 0.02]}
    np.testing.assert_allclose(solve(homes(**owed)).battery_kw[:, 0], [5.0, 3.0], atol=1e-6)
    gentle = solve(homes(**owed, wear_price_per_kwh=0.1, wear_c_rate=[0.4], wear_factor=[2.0]))
    np.testing.assert_allclose(gentle.battery_kw[:, 0], [4.0, 4.0], atol=1e-6)


@pytest.mark.parametrize("kind", ["p2b", "evening", "c_rate", "turn_up"])
def test_at_the_final_prices_the_sites_own_problems_prove_the_bound(kind: str) -> None:
    """Strong duality: what the sites cost at the prices, and what is owed at them, is the optimum."""
    problem = Problem.build({**instance(kind, 8, 2).arrays(), "excess_price_per_kwh": 0.0})
    answer = solve(problem, ORTOOLS)
    price = answer.marginal_price_per_kwh

    def dual(at: np.ndarray) -> float:
        lp, _ = build(problem, at)
        found = run(lp, SolverName.GLOP, 30.0)
        assert found.optimal
        return found.bound + lp.offset + float(at @ (problem.step_h * problem.commitment_kw))

    assert np.abs(price).max() > 0.01
    assert dual(price) == pytest.approx(answer.objective, rel=1e-8)
    for factor in (0.0, 0.9, 1.3):
        assert dual(factor * price) <= answer.objective + 1e-6
    one_by_one, _ = build(problem, np.tile(price, (problem.sites, 1)))
    np.testing.assert_array_equal(one_by_one.cost, build(problem, price)[0].cost)


def test_nothing_can_be_held_through_a_window_without_steps() -> None:
    window = {"capacity_window": [0, 0, -1, -1], "capacity_price_per_kw": [0.1, 5.0], "commitment_kw": None}
    answer = solve(a_problem(**window))
    assert answer.capacity_kw[0] > 0
    assert answer.capacity_kw[1] == 0
    assert answer.status == "optimal"


def test_delivering_more_than_a_window_holds_is_no_excess() -> None:
    greedy = {"net_load_kw": np.full((2, 4), 5.0), "commitment_kw": None, "capacity_window": [0, 0, 0, 0]}
    offer = {"capacity_price_per_kw": [0.1], "capacity_limit_kw": [1.0]}
    free, priced = (solve(a_problem(**greedy, **offer, excess_price_per_kwh=price)) for price in (0.0, 5.0))
    assert free.battery_kw.sum() == pytest.approx(12.0)
    assert priced.objective == pytest.approx(free.objective)


def test_an_answer_cut_off_by_the_deadline_is_feasible_and_not_late() -> None:
    problem = instance("p3", 60, 0)
    for limit_s in (0.05, 0.5, 1.0):
        answer = solve(problem, Options(method="ortools", time_limit_s=limit_s))
        assert answer.seconds <= limit_s + 0.75
        assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6
        assert answer.status in ("optimal", "feasible", SPLIT)
        assert (answer.status == SPLIT) == (answer.method == SPLIT)
        assert answer.objective >= answer.bound
