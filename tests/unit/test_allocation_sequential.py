"""Large fleets from the outside: deadlines, lost clusters, second looks, and the same answer twice."""

import time

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.builders_allocation import breaches
from tests.builders_instances import instance
from vpp.allocation import Options, Problem, solve
from vpp.allocation.sequential import prepared

SITES = 2_500
GAP = 1e-4


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Deadlines below are of solving, not of compiling."""
    prepared().result(timeout=110)


@pytest.mark.parametrize("kind", ["p2b", "p3", "fresh", "turn_up"])
def test_a_large_fleet_is_allocated_within_the_gap_and_every_limit(kind: str) -> None:
    problem = instance(kind, SITES, 3)
    answer = solve(problem, Options(gap=GAP, time_limit_s=60.0))
    assert (answer.method, answer.status) == ("sequential", "optimal")
    assert answer.gap <= GAP
    assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6


def test_the_coupling_prices_are_what_holds_the_fleet_together() -> None:
    answer = solve(instance("p2b", SITES, 3), Options(gap=GAP, time_limit_s=60.0))
    assert (answer.marginal_price_per_kwh > 1e-6).all()


@pytest.mark.parametrize("shortfall_price_per_kwh", [10.0, 1e3, 1e5])
@pytest.mark.parametrize("kind", ["p2b", "infeasible", "turn_up"])
def test_a_price_of_shortfall_far_beyond_energy_s_is_found(kind: str, shortfall_price_per_kwh: float) -> None:
    event = instance(kind, 300, 1)
    more = {"shortfall_price_per_kwh": shortfall_price_per_kwh, "commitment_kw": 1.6 * event.commitment_kw}
    problem = Problem.build({**event.arrays(), **more})
    answer = solve(problem, Options(gap=GAP, time_limit_s=60.0, method="sequential"))
    assert answer.method == "sequential"
    assert answer.gap <= GAP
    if answer.shortfall_kw.sum() > 1e4:
        assert answer.marginal_price_per_kwh.max() == pytest.approx(shortfall_price_per_kwh)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_and_number_of_shards_give_the_same_bits(workers: int) -> None:
    problem, options = instance("p3", SITES, 1), Options(gap=GAP, time_limit_s=60.0, workers=workers, seed=4)
    first, again = solve(problem, options), solve(problem, options)
    np.testing.assert_array_equal(first.battery_kw, again.battery_kw)
    assert (first.objective, first.bound) == (again.objective, again.bound)


def test_more_workers_change_the_answer_by_no_more_than_the_gap() -> None:
    problem = instance("p2b", SITES, 1)
    one, two = (solve(problem, Options(gap=GAP, time_limit_s=60.0, workers=workers)) for workers in (1, 2))
    size = abs(one.objective)
    assert abs(one.objective - two.objective) <= GAP * size
    assert max(one.bound, two.bound) <= min(one.objective, two.objective) + 1e-9 * size


@pytest.mark.parametrize("times", [0.3, 2.0])
@pytest.mark.parametrize("excess_price_per_kwh", [0.0, 0.3])
def test_programmes_that_overlap_go_without_in_the_order_of_their_prices(
    times: float, excess_price_per_kwh: float
) -> None:
    event = instance("p2b", 120, 2)
    base, step = event.commitment_kw, np.arange(event.steps)
    cheap, dear = base * 0.3 * times * (step > 10), base * 0.4 * times * (step < 35)
    problem = Problem.build(
        {
            **event.arrays(), "commitment_kw": 0.5 * base, "committed": step % 7 != 3,
            "program_commitment_kw": np.stack([dear, cheap]), "program_site": True,
            "program_shortfall_price_per_kwh": np.repeat([[1.2], [0.45]], event.steps, axis=1),
            "excess_price_per_kwh": excess_price_per_kwh,
        }
    )  # fmt: skip
    answer = solve(problem, Options(gap=5e-5, time_limit_s=60.0, method="sequential"))
    exact = solve(problem, Options(method="ortools", time_limit_s=60.0))
    assert answer.method == "sequential"
    assert answer.bound <= exact.objective + 1e-9 * abs(exact.objective)
    assert answer.objective <= exact.objective + 5e-5 * abs(exact.objective)
    if times > 1:
        assert answer.program_shortfall_kw[1].sum() > 100 * max(answer.program_shortfall_kw[0].sum(), 1.0)


def test_a_sample_of_the_answer_is_solved_again_by_another_method() -> None:
    answer = solve(instance("p3", SITES, 2), Options(gap=GAP, time_limit_s=60.0, audit="sample"))
    assert answer.audit is not None
    assert answer.audit["passed"], answer.audit["failures"]
    assert answer.audit["sites"] == 16
    assert answer.audit["worst_relative_difference"] <= 1e-8


def test_a_full_second_look_proves_the_bound_again() -> None:
    answer = solve(instance("evening", 450, 2), Options(gap=GAP, time_limit_s=60.0, audit="full"))
    assert answer.method == "sequential"
    assert answer.audit is not None
    assert answer.audit["passed"], answer.audit["failures"]
    assert answer.audit["sites"] == 450
    assert answer.bound - 1e-9 * abs(answer.bound) <= answer.audit["bound"] <= answer.objective


def test_no_time_gives_the_split_by_its_name_and_on_time() -> None:
    problem = instance("p2b", SITES, 1)
    begun = time.perf_counter()
    answer = solve(problem, Options(time_limit_s=1e-3))
    assert answer.status == answer.method == "realtime_split"
    assert answer.bound == -np.inf
    assert time.perf_counter() - begun < 10.0  # a slow machine; the split itself takes some 50 ms
    assert max(breaches(problem, answer.battery_kw, answer.soc).values()) <= 1e-6


def test_a_cluster_that_is_not_there_is_named_and_threads_answer() -> None:
    options = Options(gap=GAP, time_limit_s=60.0, dask_url="tcp://127.0.0.1:9")
    with capture_logs() as logged:
        answer = solve(instance("p3", SITES, 1), options)
    assert answer.status == "optimal"
    assert [entry["event"] for entry in logged] == ["allocation_cluster_lost"]
    assert any("no Dask scheduler answers" in said for said in answer.attempts), answer.attempts
