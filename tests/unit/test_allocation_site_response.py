"""What one site does at given prices: as good as a linear programme says, and proven from below.

Goal: the oracle the large-fleet method rests on is exact for every kind of site. Method: random sites of
every kind of trouble against GLOP on the site's own programme; the dual function against schedules.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import breaches, random_arrays
from vpp.allocation import Problem
from vpp.allocation.answer import feasible, site_cost
from vpp.allocation.linear import build
from vpp.allocation.options import SolverName
from vpp.allocation.sequential import prepared
from vpp.allocation.sequential.cuts import lowest
from vpp.allocation.sequential.responses import best_response, load_site, undercut_with, work_for
from vpp.allocation.sequential.tables import tables_of
from vpp.allocation.solver import run
from vpp.domain.fleet import Floats

SEEDS = st.integers(0, 100_000)
FEW = settings(max_examples=60, deadline=None)
EXACT, ALL_PASSES = 1e-10, 40


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """The first test is not the one that waits for the compiler."""
    prepared().result(timeout=110)


def sites_alone(seed: int, *, windows: int = 2, tiers: int = 0, steps: int = 12) -> Problem:
    """Four sites that owe nothing, with as many demand windows and C-rate tiers as asked."""
    r = np.random.default_rng(seed)
    arrays = random_arrays(seed, sites=4, steps=steps)
    arrays |= {"committed": np.zeros(steps, dtype=bool), "commitment_kw": np.zeros(steps)}
    arrays["demand_window"] = r.random((windows, steps)) < 0.6
    arrays["demand_price_per_kw"] = r.choice([0.0, 12.0, 25.0], (4, windows))
    arrays["peak_so_far_kw"] = np.where(r.random((4, windows)) < 0.3, 0.0, r.uniform(0.0, 40.0, (4, windows)))
    if tiers:
        arrays["wear_c_rate"] = np.sort(r.uniform(0.05, 0.8, tiers))
        arrays["wear_factor"] = 1.0 + np.cumsum(r.uniform(0.1, 3.0, tiers))
    return Problem.build(arrays)


def prices(seed: int, steps: int) -> Floats:
    """Delivered prices, flat ones too: there every step ties."""
    r = np.random.default_rng(seed + 1)
    return np.full(steps, 0.3) if seed % 3 == 0 else r.uniform(0.0, 1.0, steps)


def responses(problem: Problem, price: Floats, *, passes: int = ALL_PASSES) -> tuple[Floats, Floats, Floats]:
    """Each site's power (N,T), its cost less what delivery earns (N,) and the bound on that (N,)."""
    tables = tables_of(problem)
    work, power = work_for(tables), np.zeros((problem.sites, problem.steps))
    value, bound = np.zeros(problem.sites), np.zeros(problem.sites)
    for i in range(problem.sites):
        load_site(i, tables, work)
        cost, bound[i] = best_response(
            i, tables, price, tables.peak_so_far[i].copy(), passes, EXACT, True, work, power[i]
        )
        value[i] = cost - float(power[i] * price @ problem.step_h)
    return power, value, bound


def least(problem: Problem, price: Floats) -> float:
    """The least all sites together can cost, by GLOP."""
    programme, _ = build(problem, price)
    solution = run(programme, SolverName.GLOP, 30.0)
    assert solution.optimal
    return solution.bound + programme.offset


@pytest.mark.parametrize(("windows", "tiers"), [*itertools.product((0, 1, 2, 4), (0, 2))])
@pytest.mark.parametrize("seed", range(6))
def test_a_site_does_what_its_own_programme_would(seed: int, windows: int, tiers: int) -> None:
    problem = sites_alone(seed, windows=windows, tiers=tiers)
    price = prices(seed, problem.steps)
    best = least(problem, price)
    _, value, bound = responses(problem, price)
    assert value.sum() == pytest.approx(best, rel=1e-8, abs=1e-8)
    assert bound.sum() == pytest.approx(best, rel=1e-8, abs=1e-8)


@FEW
@given(SEEDS, st.integers(0, 3), st.integers(0, 2))
def test_its_schedule_keeps_every_limit_and_costs_what_it_says(seed: int, windows: int, tiers: int) -> None:
    problem = sites_alone(seed, windows=windows, tiers=tiers)
    price = prices(seed, problem.steps)
    power, value, _ = responses(problem, price)
    kept, energy = feasible(problem, power)
    np.testing.assert_allclose(kept, power, atol=1e-8)
    assert max(breaches(problem, kept, energy / problem.capacity_kwh[:, None]).values()) <= 1e-6
    anew = site_cost(problem, kept, energy) - (kept * price) @ problem.step_h
    np.testing.assert_allclose(anew, value, rtol=1e-9, atol=1e-9)


@FEW
@given(SEEDS, st.integers(1, 3))
def test_a_bound_holds_however_soon_the_search_was_stopped(seed: int, passes: int) -> None:
    problem = sites_alone(seed)
    price = prices(seed, problem.steps)
    _, value, bound = responses(problem, price, passes=passes)
    best = least(problem, price)
    assert bound.sum() <= best + 1e-8 * max(1.0, abs(best))
    assert value.sum() >= best - 1e-8 * max(1.0, abs(best))


@FEW
@given(SEEDS)
def test_no_price_of_stored_energy_proves_more_than_the_best_schedule_costs(seed: int) -> None:
    problem = sites_alone(seed, windows=0)
    price, r = prices(seed, problem.steps), np.random.default_rng(seed)
    tables = tables_of(problem)
    work = work_for(tables)
    _, value, _ = responses(problem, price)
    for i in range(problem.sites):
        load_site(i, tables, work)
        work.energy_price_per_kwh[:] = r.normal(-0.3, 0.4, problem.steps)
        assert undercut_with(i, tables, price, 0, work) <= value[i] + 1e-9 * max(1.0, abs(value[i]))


@FEW
@given(SEEDS, st.integers(1, 3), st.integers(1, 12))
def test_the_lowest_point_of_planes_is_found(seed: int, dims: int, planes: int) -> None:
    r = np.random.default_rng(seed)
    value, slope = r.normal(0, 5, planes + 2), r.normal(0, 3, (planes + 2, dims))
    value[1], slope[1] = -20.0, r.uniform(0.5, 3.0, dims)
    at = np.zeros(dims)
    level = lowest(value, slope, planes + 2, at)
    assert (at >= 0).all()
    assert (value + slope @ at).max() == pytest.approx(level, abs=1e-7)
    for _ in range(50):
        other = r.exponential(4.0, dims)
        assert (value + slope @ other).max() >= level - 1e-9


def test_a_battery_without_room_does_nothing() -> None:
    problem = sites_alone(5)
    still = Problem.build({**problem.arrays(), "soc": 0.5, "soc_floor": 0.5, "soc_ceiling": 0.5})
    power, value, bound = responses(still, prices(5, still.steps))
    assert (power == 0).all()
    np.testing.assert_allclose(value, bound, rtol=1e-9)
