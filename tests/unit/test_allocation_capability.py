"""What a fleet can hold: the closed form against the programme, and where it is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, random_problem
from vpp.allocation import Problem, solve, split_by_time_to_go
from vpp.allocation.capability import CLOSED_FORM, closed_form_holds, held_kw, most_held, shape_scale, within_kwh
from vpp.allocation.realtime import MANY, split_all
from vpp.domain.errors import InvalidRequest

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=40, deadline=None)


def an_event(seed: int, sites: int = 8, steps: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Power, deliverable energy, a shaped request and its step lengths."""
    r = np.random.default_rng(seed)
    power = r.uniform(1, 50, sites)
    return power, power * r.uniform(0.1, 4, sites), r.uniform(0, 100, steps), r.choice([0.25, 0.5, 1.0], steps)


def event_problem(seed: int, factor: float = 0.0, **changes: Any) -> Problem:
    """A fleet with constant limits, asked for its request times a factor."""
    power, energy, target, hours = an_event(seed)
    usual = {
        "step_h": hours, "net_load_kw": np.zeros((len(power), len(hours))), "max_charge_kw": power,
        "max_discharge_kw": power, "capacity_kwh": energy, "soc": np.ones(len(power)), "may_charge": False,
        "commitment_kw": target * factor,
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def offered(seed: int, window: np.ndarray, asked: np.ndarray, **changes: Any) -> Problem:
    """The same fleet with capacity in windows instead; shortage is dearer than giving capacity up."""
    lengths = np.array([an_event(seed)[3][window == k].sum() for k in range(len(asked))])
    return event_problem(
        seed, **{
            "commitment_kw": None, "capacity_window": window, "capacity_limit_kw": asked,
            "capacity_price_per_kw": 5.0 * lengths * (1 - 1e-3 * np.arange(len(asked))),
            "shortfall_price_per_kwh": 1e3, **changes,
        },
    )  # fmt: skip


def simulated_unserved_kwh(seed: int, factor: float, sites: int) -> float:
    """Energy short when the request is split by greatest time-to-go, step by step."""
    power, energy, target, hours = an_event(seed, sites)
    unserved = 0.0
    for kw, h in zip(target * factor, hours, strict=True):
        share = split_by_time_to_go(kw, power, energy, h)
        energy = np.clip(energy - share * h, 0.0, None)
        unserved += max(0.0, kw - float(share.sum())) * h
    return unserved


@pytest.mark.parametrize("sites", [2, 8, 300])
@FEW
@given(SEEDS)
def test_time_to_go_serves_up_to_the_closed_forms_limit_and_nothing_serves_more(sites: int, seed: int) -> None:
    power, energy, target, hours = an_event(seed, sites)
    scale = shape_scale(target, hours, power, energy)
    asked_kwh = float((target * hours).sum()) * scale
    assert simulated_unserved_kwh(seed, scale, sites) <= 1e-9 * asked_kwh
    assert simulated_unserved_kwh(seed, 1.01 * scale, sites) > 1e-6 * asked_kwh


@FEW
@given(SEEDS)
def test_the_split_of_a_whole_problem_serves_whatever_the_closed_form_says(seed: int) -> None:
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
    problem = offered(seed, np.zeros(6, dtype=int), np.array([np.inf]))
    assert solve(problem).capacity_kw[0] == pytest.approx(most, rel=1e-7)
    held = most_held(problem, np.array([np.inf]))
    assert held.kw[0] == pytest.approx(most, rel=1e-12)
    assert held.method == CLOSED_FORM


@FEW
@given(SEEDS, st.floats(0.1, 2.0))
def test_one_window_beside_others_power_holds_what_the_programme_says(seed: int, part: float) -> None:
    power, energy, _, hours = an_event(seed)
    fixed = np.random.default_rng(seed).uniform(0, 0.3, 6) * power.sum()
    asked = np.array([part * held_kw(power, energy, float(hours.sum()))])
    problem = offered(seed, np.zeros(6, dtype=int), asked, fixed_kw=fixed)
    held = most_held(problem, asked)
    assert (held.method, held.kw[0]) == (CLOSED_FORM, pytest.approx(solve(problem).capacity_kw[0], rel=1e-6))


@FEW
@given(SEEDS, st.lists(st.floats(0.1, 2.5), min_size=3, max_size=3))
def test_windows_that_cannot_all_be_held_are_filled_as_the_programme_fills_them(seed: int, parts: list[float]) -> None:
    power, energy, _, hours = an_event(seed)
    window = np.array([0, 0, 1, 1, 2, 2])
    asked = np.array(parts) * held_kw(power, energy, float(hours.sum()))
    fixed = np.array([3.0, 0.0, 7.0])[window]
    problem = offered(seed, window, asked, fixed_kw=fixed)
    held, best = most_held(problem, asked), solve(problem)
    assert held.method == CLOSED_FORM
    # a window that pays as much per kWh as another may trade with it; what all earn may not differ
    worth = problem.capacity_price_per_kw
    assert held.kw @ worth == pytest.approx(best.capacity_kw @ worth, rel=1e-6)


@FEW
@given(SEEDS)
def test_what_can_be_held_can_be_delivered_and_is_never_more_than_asked(seed: int) -> None:
    problem = random_problem(seed)
    asked = np.array([problem.commitment_kw.max() + 1.0])
    window = np.where(problem.committed, 0, -1)
    capacity = Problem.build(
        {
            **problem.arrays(), "commitment_kw": None, "committed": None, "capacity_window": window,
            "capacity_price_per_kw": np.full(1, 1e3), "capacity_limit_kw": asked,
            "shortfall_price_per_kwh": np.full(problem.steps, 1e5),
        }
    )  # fmt: skip
    held = most_held(capacity, asked)
    assert held.kw[0] <= asked[0] + 1e-9
    owed = np.where(problem.committed, held.kw[0], 0.0)
    kept = solve(Problem.build({**problem.arrays(), "commitment_kw": owed, "shortfall_price_per_kwh": np.full(8, 1e5)}))
    assert kept.shortfall_kw.sum() == pytest.approx(0.0, abs=1e-4)


EVENT = np.ones(4, dtype=bool)
PEAK = {"demand_window": np.ones((1, 4), dtype=bool), "demand_price_per_kw": np.ones((2, 1))}


@pytest.mark.parametrize(
    "change",
    [
        {"may_charge": True},
        {"net_load_kw": np.array([[6.0, 1.0, 6.0, 6.0], [6.0] * 4]), "export_limit_kw": np.zeros(2)},
        {"available": np.array([[True, False, True, True], [True] * 4])},
        {**PEAK, "peak_so_far_kw": np.full((2, 1), 5.0)},
        {"feeder": np.array([0, -1]), "feeder_parent": np.array([-1])},
        {"program_commitment_kw": np.full((1, 4), 1.0)},
        {"commitment_kw": np.array([1.0, 1.0, 1.0, -1.0])},
    ],
    ids=["recharging", "limits that vary", "an outage", "a peak at risk", "a feeder", "a programme", "turn-up"],
)
def test_the_closed_form_is_refused_where_it_does_not_hold(change: dict[str, Any]) -> None:
    usual = {"may_charge": False, "net_load_kw": np.full((2, 4), 6.0)}
    assert closed_form_holds(a_problem(**usual), EVENT)
    assert not closed_form_holds(a_problem(**{**usual, **change}), EVENT)


def test_the_closed_form_bears_a_peak_that_is_safe_and_refuses_what_is_owed_outside_the_event() -> None:
    usual = {"may_charge": False, "net_load_kw": np.full((2, 4), 6.0)}
    assert closed_form_holds(a_problem(**usual, **PEAK, peak_so_far_kw=np.full((2, 1), 7.0)), EVENT)
    assert not closed_form_holds(a_problem(**usual), np.array([True, True, True, False]))
    assert not closed_form_holds(a_problem(**usual), np.zeros(4, dtype=bool))


def test_the_programme_answers_where_the_closed_form_does_not_hold() -> None:
    window = np.zeros(6, dtype=int)
    problem = offered(3, window, np.array([1e4]), may_charge=np.arange(6) < 3, soc=np.full(8, 0.5))
    held = most_held(problem, np.array([1e4]))
    assert held.method.startswith("linear_programme")
    assert held.allocation is not None
    power, energy, _, hours = an_event(3)
    # charging within the event cannot help a constant request: it takes from what is delivered meanwhile
    assert held.kw[0] == pytest.approx(held_kw(power, energy * 0.5, float(hours.sum())), rel=1e-6)


@pytest.mark.parametrize("sites", [1, 50, MANY + 3])
def test_energy_within_any_hours_is_the_sum_of_the_smaller_of_power_and_energy(sites: int) -> None:
    r = np.random.default_rng(sites)
    power = r.uniform(0, 50, sites) * (r.random(sites) > 0.1)
    energy = r.uniform(0, 150, sites) * (r.random(sites) > 0.1)
    hours = np.concatenate((r.uniform(0.01, 6, 97), [2.0, 2.0]))
    expected = [np.minimum(power * s, energy).sum() for s in hours]
    np.testing.assert_allclose(within_kwh(hours, power, energy), expected, rtol=1e-12)
    assert held_kw(power, energy, 2.0) == pytest.approx(expected[-1] / 2.0, rel=1e-12)


def test_nothing_asked_can_be_multiplied_without_end_and_no_hours_are_refused() -> None:
    assert shape_scale(np.zeros(3), np.ones(3), np.ones(2), np.ones(2)) == np.inf
    with pytest.raises(InvalidRequest, match="hours"):
        held_kw(np.ones(2), np.ones(2), 0.0)
