"""Explanations hold: the price lies between what the last and the next kWh cost, and the limit named really binds.

Method: the named limit of a site is moved a little in the problem itself, and the site is solved again at the
answer's prices by HiGHS. It must gain; and a limit that is named nowhere must not be worth anything.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, random_problem
from vpp.allocation import Allocation, Constraint, Options, Problem, explain, solve
from vpp.allocation.linear import build
from vpp.allocation.options import SolverName
from vpp.allocation.solver import run
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.fleet import Floats

FEW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 10_000)
LITTLE = 1e-3
PRECISE = 1e-5
UNNAMED = {Constraint.NOT_NEEDED, Constraint.FATIGUE, Constraint.FEEDER}


def alone(problem: Problem, site: int) -> Problem:
    return replace(problem.only(np.array([site])), feeder=np.array([-1]))


def least(problem: Problem, price: Floats) -> float:
    """What a site costs at least at these prices."""
    lp, _ = build(problem, price)
    solution = run(lp, SolverName.HIGHS, 10.0)
    assert solution.optimal
    return float(lp.cost @ solution.values + lp.offset)


def with_more(p: Problem, limit: Constraint) -> Problem:
    """One site's problem with a little more of a limit, said in the problem's own arrays."""
    kw = LITTLE * max(float(p.max_discharge_kw[0]), float(p.max_charge_kw[0]))
    match limit:
        case Constraint.POWER:
            return replace(p, max_discharge_kw=p.max_discharge_kw + kw, max_charge_kw=p.max_charge_kw + kw)
        case Constraint.EXPORT:
            return replace(p, export_limit_kw=p.export_limit_kw + kw)
        case Constraint.IMPORT:
            return replace(p, import_limit_kw=p.import_limit_kw + kw)
        case Constraint.PEAK:
            return replace(p, peak_so_far_kw=p.peak_so_far_kw + kw)
        case Constraint.AVAILABILITY:
            always = np.ones(p.available.shape, dtype=bool)
            return replace(p, available=always, may_charge=always)
        case Constraint.RESERVE:
            return replace(p, soc_floor=np.clip(np.minimum(p.soc_floor, p.soc) - LITTLE, 0.0, 1.0))
        case Constraint.ENERGY:
            return _larger(p, at_bottom=True)
        case Constraint.CEILING if p.soc_ceiling[0] >= 1.0:
            return _larger(p, at_bottom=False)
        case Constraint.CEILING:
            return replace(p, soc_ceiling=np.clip(np.maximum(p.soc_ceiling, p.soc) + LITTLE, 0.0, 1.0))
    raise AssertionError(limit)


def _larger(p: Problem, *, at_bottom: bool) -> Problem:
    """A battery a little larger: below what it holds, where that part is full, or above."""
    more = LITTLE * p.capacity_kwh
    shift = more if at_bottom else 0.0
    size = p.capacity_kwh + more
    floor = np.minimum(p.soc_floor, p.soc) * p.capacity_kwh
    top = np.maximum(p.soc_ceiling, p.soc) * p.capacity_kwh
    return replace(
        p, capacity_kwh=size, soc=(p.soc * p.capacity_kwh + shift) / size,
        soc_floor=floor / size, soc_ceiling=(top + more) / size,
    )  # fmt: skip


def gain(problem: Problem, answer: Allocation, site: int, limit: Constraint) -> float:
    """What a little more of a limit gains the site at the answer's prices."""
    one, price = alone(problem, site), answer.marginal_price_per_kwh
    more = with_more(one, limit)
    # the energy that a battery begins with is no gain, only what can be done with it
    given = float(one.terminal_value_per_kwh[0] * (more.soc * more.capacity_kwh - one.soc * one.capacity_kwh)[0])
    return least(one, price) - least(more, price) - given


@FEW
@given(SEEDS)
def test_the_price_lies_between_what_the_last_kwh_cost_and_what_the_next_would(seed: int) -> None:
    problem = random_problem(seed, sites=3, steps=8)
    for one in explain(problem, solve(problem), site=0).steps:
        assert one.low_per_kwh <= one.price_per_kwh + 1e-6
        assert one.high_per_kwh >= one.price_per_kwh - 1e-6


@FEW
@given(SEEDS)
def test_the_limit_that_is_named_binds_and_one_that_is_worth_nothing_does_not(seed: int) -> None:
    problem = random_problem(seed, sites=3, steps=8)
    answer = solve(problem)
    told = explain(problem, answer, site=0)
    stated = set(told.limit_worth)
    for one in told.steps:
        if one.constraint in UNNAMED or one.also is not None:
            continue
        blocked_by_pv = one.constraint is Constraint.EXPORT and -problem.net_load_kw[0, one.step] >= float(
            problem.export_limit_kw[0]
        )
        if not blocked_by_pv:  # its own PV takes all of the export: a little more of it is no battery's
            assert one.worth > 0, one
            assert one.constraint in stated, one
    for limit in Constraint:
        if limit in {*UNNAMED, Constraint.MODE}:
            continue
        gained = gain(problem, answer, 0, limit) if limit is not other_floor(problem) else 0.0
        assert (gained > 0.5 * PRECISE * LITTLE) == (limit in stated), (limit, gained, told.limit_worth)


def other_floor(problem: Problem) -> Constraint:
    """An empty battery is at its reserve or out of energy, never both."""
    return Constraint.ENERGY if problem.soc_floor[0] > 0 else Constraint.RESERVE


@FEW
@given(SEEDS)
def test_a_named_limit_of_power_is_reached_and_an_empty_battery_is_short_of_energy(seed: int) -> None:
    problem = random_problem(seed, sites=3, steps=8)
    answer = solve(problem)
    for one in explain(problem, answer, site=0).steps:
        kw, net = one.battery_kw, float(problem.net_load_kw[0, one.step])
        if one.constraint is Constraint.POWER:
            most = problem.max_charge_kw[0] if one.charging else problem.max_discharge_kw[0]
            assert abs(kw) == pytest.approx(most, abs=1e-5)
        elif one.constraint is Constraint.EXPORT:
            assert kw - net >= problem.export_limit_kw[0] - 1e-5
        elif one.constraint is Constraint.IMPORT:
            assert net - kw >= problem.import_limit_kw[0] - 1e-5
        elif one.constraint is Constraint.AVAILABILITY:
            assert kw == 0
            assert not problem.available[0, one.step] or not problem.may_charge[0, one.step]


def test_a_site_that_keeps_its_energy_for_its_evening_peak_says_so() -> None:
    load = np.array([[1.0, 1.0, 1.0, 8.0], [1.0, 1.0, 1.0, 1.0]])
    problem = a_problem(
        net_load_kw=load, demand_window=np.ones((1, 4), dtype=bool), demand_price_per_kw=np.array([[20.0], [0.0]]),
        peak_so_far_kw=np.full((2, 1), 4.0), commitment_kw=np.array([3.0, 3.0, 3.0, 0.0]), may_charge=False,
        export_limit_kw=np.full(2, 10.0), soc=np.array([0.6, 0.8]),
    )  # fmt: skip
    answer = solve(problem)
    told = explain(problem, answer, site=0, steps=(1,)).steps[0]
    assert told.constraint is Constraint.PEAK
    assert told.price_per_kwh == pytest.approx(10.0)
    # a kWh given now is a kW that the evening imports more: 20 per kW, less what it saves now
    assert told.high_per_kwh == pytest.approx(20.0, abs=0.5)
    assert "because it would raise its demand peak; the fleet pays 10.00 $/kWh" in told.sentence


def test_each_plain_case_is_named() -> None:
    cases: dict[Constraint, dict[str, object]] = {
        Constraint.POWER: {"commitment_kw": np.full(4, 12.0), "capacity_kwh": 1000.0, "export_limit_kw": 50.0},
        Constraint.EXPORT: {"commitment_kw": np.full(4, 9.0), "capacity_kwh": 1000.0, "export_limit_kw": 0.5},
        Constraint.RESERVE: {"commitment_kw": np.full(4, 9.0)},
        Constraint.ENERGY: {"commitment_kw": np.full(4, 9.0), "soc_floor": 0.0},
        Constraint.NOT_NEEDED: {"commitment_kw": np.full(4, 0.5), "import_price_per_kwh": 0.1, "terminal_value": 1.0},
        Constraint.FATIGUE: {"commitment_kw": np.zeros(4), "wear_price_per_kwh": 0.5, "terminal_value": 0.1},
        Constraint.AVAILABILITY: {"commitment_kw": np.full(4, 9.0), "available": np.array([False, True, True, True])},
    }
    for name, changes in cases.items():
        arrays = {("terminal_value_per_kwh" if key == "terminal_value" else key): v for key, v in changes.items()}
        problem = a_problem(may_charge=False, **arrays)
        told = explain(problem, solve(problem), site=0, steps=(0,)).steps[0]
        assert told.constraint is name, told


def test_a_site_that_must_absorb_says_why_it_takes_no_more() -> None:
    usual = {"commitment_kw": np.full(4, -50.0), "import_price_per_kwh": 0.1, "terminal_value_per_kwh": 0.0}
    cases: dict[Constraint, dict[str, object]] = {
        Constraint.POWER: {"capacity_kwh": 1000.0},
        Constraint.IMPORT: {"capacity_kwh": 1000.0, "import_limit_kw": 4.0},
        Constraint.CEILING: {},
        Constraint.PEAK: {
            "capacity_kwh": 1000.0, "demand_window": np.ones((1, 4), dtype=bool),
            "demand_price_per_kw": np.full((2, 1), 100.0), "peak_so_far_kw": np.full((2, 1), 3.0),
        },
    }  # fmt: skip
    for name, changes in cases.items():
        problem = a_problem(**{**usual, **changes})
        told = explain(problem, solve(problem), site=0, steps=(0,)).steps[0]
        assert told.charging
        assert told.price_per_kwh <= 0
        assert told.constraint is name, told


def test_a_full_feeder_is_named_with_what_the_fleet_pays_elsewhere() -> None:
    problem = a_problem(
        commitment_kw=np.full(4, 4.0), capacity_kwh=1000.0, export_limit_kw=50.0, net_load_kw=np.full((2, 4), 0.0),
        feeder=np.array([0, -1]), feeder_export_limit_kw=np.full((1, 4), 1.0),
        feeder_import_limit_kw=np.full((1, 4), 50.0), feeder_parent=np.array([-1]), may_charge=False,
        wear_price_per_kwh=np.array([0.05, 0.2]), terminal_value_per_kwh=0.3,
    )  # fmt: skip
    answer = solve(problem)
    told = explain(problem, answer, site=0, steps=(0,)).steps[0]
    assert told.battery_kw == pytest.approx(1.0)
    assert told.constraint is Constraint.FEEDER
    assert told.high_per_kwh < told.fleet_price_per_kwh
    assert "its feeder is full" in told.sentence


def test_a_schedule_that_is_not_the_sites_best_says_by_how_much() -> None:
    problem = random_problem(3, sites=3, steps=8)
    answer = solve(problem)
    assert explain(problem, answer, site=1, steps=(0,)).off_best == pytest.approx(0.0, abs=1e-6)
    lazy = replace(
        answer, battery_kw=np.zeros_like(answer.battery_kw), soc=np.repeat(problem.soc[:, None], problem.steps + 1, 1)
    )
    best = least(alone(problem, 1), answer.marginal_price_per_kwh)
    idle = least(replace(alone(problem, 1), available=np.zeros((1, 8), dtype=bool)), answer.marginal_price_per_kwh)
    assert explain(problem, lazy, site=1, steps=(0,)).off_best == pytest.approx(idle - best)


def test_what_cannot_be_explained_is_refused() -> None:
    problem = random_problem(3, sites=3, steps=8)
    answer = solve(problem)
    with pytest.raises(InvalidRequest, match="a row from 0 to 2"):
        explain(problem, answer, site=3)
    with pytest.raises(InvalidRequest, match="a step from 0 to 7"):
        explain(problem, answer, site=0, steps=(8,))
    split = solve(problem, Options(solvers=()))
    with pytest.raises(NotReady, match="real-time split"):
        explain(problem, split, site=0)
