"""The split of one interval, with few sites and with many, and of a whole problem, without a solver."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, breaches, random_arrays
from vpp.allocation import Options, Problem, solve, split_by_cost, split_by_time_to_go
from vpp.allocation.linear import LinearProgram
from vpp.allocation.realtime import MANY, split_all, split_quadratic, split_step
from vpp.allocation.solver import SolverName
from vpp.allocation.solver import run as run_solver
from vpp.allocation.waterfill import Ramps, fill, time_to_go_ramps
from vpp.domain.errors import InvalidRequest

SEEDS = st.integers(0, 10_000)
PARTS = st.floats(0.0, 1.2)
FEW = settings(max_examples=40, deadline=None)
STEP_H = 0.25
METHODS = ("cost", "quadratic", "time_to_go")
Fleet = dict[str, np.ndarray]


def a_fleet(seed: int, sites: int = 12) -> Fleet:
    """Limits, prices, slopes, energies and weights; some sites have no power, no energy or no slope."""
    r = np.random.default_rng(seed)
    limit = r.uniform(1, 50, sites) * (r.random(sites) > 0.1)
    return {
        "limit": limit, "price": r.uniform(-0.1, 0.5, sites), "weight": r.uniform(0.2, 5, sites),
        "slope": r.uniform(0.001, 0.02, sites) * (r.random(sites) > 0.1),
        "energy": r.uniform(1, 50, sites) * r.uniform(0.0, 4, sites) * (r.random(sites) > 0.1),
    }  # fmt: skip


def split(
    method: str, target_kw: float, fleet: Fleet, weighted: bool = False, threads: int | None = None
) -> np.ndarray:
    weight = fleet["weight"] if weighted else None
    if method == "cost":
        return split_by_cost(target_kw, fleet["limit"], fleet["price"], weight=weight, threads=threads)
    if method == "quadratic":
        return split_quadratic(
            target_kw, fleet["limit"], fleet["price"], fleet["slope"], weight=weight, threads=threads
        )
    return split_by_time_to_go(target_kw, fleet["limit"], fleet["energy"], STEP_H, weight=weight, threads=threads)


def most_kw(method: str, fleet: Fleet) -> np.ndarray:
    """The most each site can give in the step."""
    return np.minimum(fleet["limit"], fleet["energy"] / STEP_H) if method == "time_to_go" else fleet["limit"]


every_method = pytest.mark.parametrize("method", METHODS)
with_and_without_weights = pytest.mark.parametrize("weighted", [False, True])


@every_method
@with_and_without_weights
@FEW
@given(SEEDS, PARTS)
def test_the_sum_is_the_target_or_all_there_is_and_no_limit_is_passed(
    method: str, weighted: bool, seed: int, part: float
) -> None:
    fleet = a_fleet(seed)
    most = most_kw(method, fleet)
    share = split(method, part * most.sum(), fleet, weighted)
    assert share.sum() == pytest.approx(min(part, 1.0) * most.sum(), abs=1e-9)
    assert share.min() >= 0.0
    assert (share <= most).all()


@every_method
@FEW
@given(SEEDS, PARTS)
def test_absorbing_mirrors_delivering(method: str, seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    target = part * float(most_kw(method, fleet).sum())
    np.testing.assert_array_equal(split(method, -target, fleet), -split(method, target, fleet))


@every_method
@with_and_without_weights
@FEW
@given(SEEDS, PARTS, PARTS)
def test_a_larger_target_lowers_nobodys_share(method: str, weighted: bool, seed: int, one: float, other: float) -> None:
    fleet = a_fleet(seed)
    total = float(most_kw(method, fleet).sum())
    less, more = (split(method, part * total, fleet, weighted) for part in sorted((one, other)))
    assert (more >= less - 1e-9).all()


@every_method
@with_and_without_weights
@FEW
@given(SEEDS, PARTS)
def test_the_order_of_sites_does_not_matter(method: str, weighted: bool, seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    target, order = part * float(most_kw(method, fleet).sum()), np.random.default_rng(seed).permutation(12)
    shuffled = {name: values[order] for name, values in fleet.items()}
    np.testing.assert_allclose(
        split(method, target, shuffled, weighted), split(method, target, fleet, weighted)[order], atol=1e-9
    )


@FEW
@given(SEEDS, PARTS)
def test_merit_order_costs_what_a_linear_programme_says(seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    target = min(part, 1.0) * float(fleet["limit"].sum())
    rows = np.zeros(12, dtype=np.int64)
    lp = LinearProgram(
        fleet["price"], np.zeros(12), fleet["limit"], np.array([target - 1e-9]), np.array([target + 1e-9]), rows,
        np.arange(12), np.ones(12),
    )  # fmt: skip
    best = run_solver(lp, SolverName.GLOP, 10.0)
    assert split("cost", target, fleet) @ fleet["price"] == pytest.approx(best.values @ fleet["price"], abs=1e-7)


def test_sites_of_the_same_price_are_served_in_order_or_by_weight() -> None:
    limit, price = np.full(4, 10.0), np.array([0.2, 0.1, 0.2, 0.2])
    np.testing.assert_allclose(split_by_cost(25.0, limit, price), [10, 10, 5, 0])
    shared = split_by_cost(25.0, limit, price, weight=np.array([1.0, 1.0, 2.0, 7.0]))
    np.testing.assert_allclose(shared, [5 / 3, 10, 10 / 3, 10])


@FEW
@given(SEEDS, PARTS)
def test_a_weight_in_merit_order_costs_nothing(seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    fleet["price"] = np.round(fleet["price"], 1)
    target = part * float(fleet["limit"].sum())
    plain, fair = (split("cost", target, fleet, weighted) @ fleet["price"] for weighted in (False, True))
    assert fair == pytest.approx(plain, abs=1e-9)


@FEW
@given(SEEDS, st.floats(0.01, 0.99))
def test_the_quadratic_split_makes_marginal_costs_equal(seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    share = split("quadratic", part * float(fleet["limit"].sum()), fleet, weighted=True)
    marginal = fleet["price"] + fleet["slope"] / fleet["weight"] * share
    gives, could = share > 1e-9, share < fleet["limit"] - 1e-9
    assert marginal[gives].max() <= marginal[could].min() + 1e-9


def test_alike_sites_share_the_quadratic_split_in_proportion_to_their_weights() -> None:
    share = split_quadratic(12.0, np.full(3, 50.0), np.full(3, 0.1), np.full(3, 0.01), weight=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(share, [2, 4, 6])


@FEW
@given(SEEDS, st.floats(0.01, 0.99))
def test_time_to_go_leaves_those_that_give_with_the_same_weighted_hours(seed: int, part: float) -> None:
    fleet = a_fleet(seed)
    most = most_kw("time_to_go", fleet)
    share = split("time_to_go", part * float(most.sum()), fleet, weighted=True)
    some = fleet["limit"] > 0
    left = (fleet["weight"] * (fleet["energy"] - share * STEP_H))[some] / fleet["limit"][some]
    gives, could = (share > 1e-9)[some], (share < most - 1e-9)[some]
    # nobody who gives is left with less than anyone who could give more
    assert left[gives].min(initial=np.inf) >= left[could].max(initial=-np.inf) - 1e-9


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: split_by_cost(np.nan, np.ones(2), np.ones(2)), "target_kw"),
        (lambda: split_by_cost(1.0, np.array([1.0, -1.0]), np.ones(2)), "limit_kw[1]"),
        (lambda: split_by_cost(1.0, np.ones(2), np.array([np.nan, 1.0])), "price_per_kwh[0]"),
        (lambda: split_by_cost(1.0, np.ones(2), np.ones(3)), "price_per_kwh"),
        (lambda: split_by_cost(1.0, np.ones(2), np.ones(2), weight=np.array([1.0, 0.0])), "weight[1]"),
        (lambda: split_quadratic(1.0, np.ones(2), np.ones(2), np.array([0.0, -1.0])), "slope_per_kwh_kw[1]"),
        (lambda: split_by_time_to_go(1.0, np.ones(2), np.array([-1.0, 1.0]), 0.25), "energy_kwh[0]"),
    ],
)
def test_what_is_no_number_of_its_kind_is_refused_by_name(call: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call()
    assert refused.value.field == field


# many sites: the compiled search


def strange_fleets() -> dict[str, Fleet]:
    """Fleets that a search by samples could get wrong."""
    n = MANY + 777
    plain, r = a_fleet(1, n), np.random.default_rng(5)
    giant = np.where(np.arange(n) == 17, 1e7, plain["limit"])
    return {
        "plain": plain,
        "three prices": {**plain, "price": r.choice([0.1, 0.2, 0.3], n), "slope": np.zeros(n)},
        "clones": {name: np.full(n, values[3] + 1.0) for name, values in plain.items()},
        "sorted": {**plain, "price": np.sort(plain["price"]), "energy": np.sort(plain["energy"])},
        "one holds most": {**plain, "limit": giant, "energy": giant * 2},
        "far prices": {**plain, "price": 10.0 ** r.uniform(-9, 3, n), "slope": 10.0 ** r.uniform(-9, 0, n)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def strange() -> dict[str, Fleet]:
    return strange_fleets()


def reference(method: str, target_kw: float, fleet: Fleet, weighted: bool) -> np.ndarray:
    """The same by sorting everything."""
    weight = fleet["weight"] if weighted else None
    if method == "cost":
        ramps = Ramps(fleet["price"], fleet["price"], fleet["limit"])
        return fill(ramps, target_kw, weight)
    if method == "quadratic":
        slope = fleet["slope"] / (fleet["weight"] if weighted else 1.0)
        return fill(Ramps(fleet["price"], fleet["price"] + slope * fleet["limit"], fleet["limit"]), target_kw)
    return fill(time_to_go_ramps(fleet["limit"], fleet["energy"], STEP_H, weight), target_kw)


@every_method
@with_and_without_weights
@pytest.mark.parametrize("kind", list(strange_fleets()))
def test_many_sites_get_what_sorting_all_of_them_gives(
    method: str, weighted: bool, kind: str, strange: dict[str, Fleet]
) -> None:
    fleet = strange[kind]
    most = most_kw(method, fleet)
    total = float(most.sum())
    for part in (0.0, 1e-6, 0.2, 0.3333, 0.5, 0.97, 1.0, 1.5):
        share = split(method, part * total, fleet, weighted)
        assert share.sum() == pytest.approx(min(part, 1.0) * total, rel=1e-13, abs=1e-9)
        assert share.min() >= 0.0
        assert (share <= most).all()
        np.testing.assert_allclose(share, reference(method, part * total, fleet, weighted), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("kind", list(strange_fleets()))
def test_a_sample_that_misleads_costs_time_and_not_the_answer(kind: str, strange: dict[str, Fleet]) -> None:
    # imported here, as the product does: the compiler is slow to load
    from vpp.allocation import split_kernels as kernels

    limit, price, slope = (strange[kind][name] for name in ("limit", "price", "slope"))
    for method, second in ((kernels.COST, None), (kernels.QUADRATIC, slope)):
        sites = kernels.sites_of(method, limit, price, second)
        for part in (0.1, 0.5, 0.9):
            target = part * float(limit.sum())
            share = kernels.split(sites, target, 1, spread=0.0)
            expected = fill(Ramps(price, price if second is None else price + slope * limit, limit), target)
            np.testing.assert_allclose(share, expected, rtol=1e-9, atol=1e-7)


@every_method
def test_the_number_of_threads_does_not_change_a_bit(method: str) -> None:
    fleet = a_fleet(2, 230_000)
    target = 0.4 * float(most_kw(method, fleet).sum())
    one, two, three = (split(method, target, fleet, threads=threads) for threads in (1, 2, 3))
    assert one.tobytes() == two.tobytes() == three.tobytes()


def test_few_sites_are_split_without_the_compiler() -> None:
    code = (
        "import sys, numpy as np; from vpp.allocation import split_by_time_to_go as f;"
        "f(5.0, np.ones(999), np.ones(999), 0.25); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# whole problems, and steps of them


def charge_of(p: Problem, battery_kw: np.ndarray) -> np.ndarray:
    """State of charge (N,T+1) that follows from battery power."""
    drawn = np.where(
        battery_kw > 0, battery_kw / p.discharge_efficiency[:, None], battery_kw * p.charge_efficiency[:, None]
    )
    used = np.cumsum(drawn * p.step_h, axis=1) / p.capacity_kwh[:, None]
    return p.soc[:, None] - np.concatenate((np.zeros((p.sites, 1)), used), axis=1)


@FEW
@given(SEEDS)
def test_the_split_of_a_whole_problem_keeps_every_hard_limit(seed: int) -> None:
    arrays, r = random_arrays(seed), np.random.default_rng(seed)
    commitment = arrays["commitment_kw"] * r.choice([-1.0, 1.0], 8)
    problem = Problem.build(
        {
            **arrays, "commitment_kw": commitment, "may_charge": True,
            "program_commitment_kw": r.choice([0.0, 5.0], (2, 8)) * (commitment >= 0),
            "program_site": r.random((2, 6)) < 0.6,
        }
    )  # fmt: skip
    power = split_all(problem)
    for name, breach in breaches(problem, power, charge_of(problem, power)).items():
        assert breach <= 1e-9, name


def test_what_is_to_be_absorbed_is_charged_and_delivered_again() -> None:
    problem = a_problem(commitment_kw=np.array([-3.0, -3.0, 5.0, 5.0]), soc=np.full(2, 0.2))
    power = split_all(problem)
    np.testing.assert_allclose(power.sum(axis=0), [-3, -3, 5, 1])


def test_absorbing_ends_at_the_ceiling() -> None:
    problem = a_problem(commitment_kw=np.full(4, -8.0), soc=np.array([0.2, 0.9]), soc_ceiling=np.full(2, 0.95))
    np.testing.assert_allclose(split_all(problem).sum(axis=1), [-7.5, -0.5])


def test_absorbing_raises_no_priced_peak() -> None:
    problem = a_problem(
        commitment_kw=np.full(4, -6.0), soc=np.full(2, 0.2), demand_window=np.ones((1, 4), dtype=bool),
        demand_price_per_kw=np.array([[9.0], [0.0]]), peak_so_far_kw=np.full((2, 1), 3.0),
    )  # fmt: skip
    power = split_all(problem)
    assert (problem.net_load_kw - power)[0].max() == pytest.approx(3.0)
    np.testing.assert_allclose(power[1, 0], -5.0)


def test_programmes_are_served_on_top_of_the_commitment() -> None:
    problem = a_problem(program_commitment_kw=np.full((1, 4), 1.0), fixed_kw=np.full(4, 0.5))
    np.testing.assert_allclose(split_all(problem).sum(axis=0), np.full(4, 2.5))


def test_a_programme_is_served_by_its_own_sites_and_the_dearer_one_first() -> None:
    site = np.array([[True, False], [True, False]])
    price = np.array([[5.0], [20.0]]) * np.ones(4)
    problem = a_problem(
        commitment_kw=np.zeros(4), program_commitment_kw=np.full((2, 4), 2.0), program_site=site,
        program_shortfall_price_per_kwh=price,
    )  # fmt: skip
    np.testing.assert_allclose(split_all(problem), [[4, 2, 0, 0], [0, 0, 0, 0]], atol=1e-12)
    answer = solve(problem, Options(solvers=()))
    assert answer.program_shortfall_kw[1, 0] == answer.program_shortfall_kw[0, 0] == 0
    np.testing.assert_allclose(answer.program_shortfall_kw[:, 1], [2, 0])


def test_the_dearer_programme_is_not_left_short_by_the_cheaper_one() -> None:
    problem = a_problem(
        commitment_kw=np.zeros(4), program_commitment_kw=np.array([[8.0, 0, 0, 0], [5.0, 0, 0, 0]]),
        program_site=np.array([[True, True], [True, False]]),
        program_shortfall_price_per_kwh=np.array([[5.0], [20.0]]) * np.ones(4),
    )  # fmt: skip
    np.testing.assert_allclose(split_all(problem)[:, 0], [5, 5])


def test_what_a_feeder_does_not_carry_is_asked_of_the_others() -> None:
    problem = a_problem(
        commitment_kw=np.full(4, 3.0), feeder=np.array([0, 1]), feeder_parent=np.array([-1, -1]),
        feeder_export_limit_kw=np.array([[0.0], [9.0]]) * np.ones(4), net_load_kw=np.array([[0.5] * 4, [2.0] * 4]),
    )  # fmt: skip
    power = split_all(problem)
    assert power[0].max() <= 0.5 + 1e-9
    np.testing.assert_allclose(power[:, 0].sum(), 3.0)


def test_an_unlimited_offer_asks_for_all_there_is() -> None:
    problem = a_problem(
        commitment_kw=None, committed=None, capacity_window=np.zeros(4, dtype=int), capacity_price_per_kw=np.ones(1)
    )
    np.testing.assert_allclose(split_all(problem)[:, 0], [5, 5])


def test_the_split_of_one_step_prefers_saved_import_over_export() -> None:
    problem = a_problem(net_load_kw=np.array([[3.0] * 4, [0.0] * 4]))
    np.testing.assert_allclose(split_step(problem, 0, 2.5), [2.5, 0.0])
    np.testing.assert_allclose(split_step(problem, 0, 4.0).sum(), 4.0)


def test_the_split_of_one_step_absorbs_sun_before_bought_energy() -> None:
    problem = a_problem(net_load_kw=np.array([[2.0] * 4, [-3.0] * 4]), soc=np.array([0.2, 0.8]))
    np.testing.assert_allclose(split_step(problem, 0, -1.5), [0.0, -1.5])
    np.testing.assert_allclose(split_step(problem, 0, -4.0), [-2.0, -2.0])


def test_the_split_keeps_what_a_site_needs_against_its_own_peak() -> None:
    load = np.array([[0.0, 0.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]])
    problem = a_problem(
        net_load_kw=load, demand_window=np.ones((1, 4), dtype=bool), demand_price_per_kw=np.array([[9.0], [0.0]]),
        peak_so_far_kw=np.full((2, 1), 4.0), commitment_kw=np.array([9.0, 9.0, 9.0, 0.0]),
    )  # fmt: skip
    answer = solve(problem, Options(solvers=()))
    assert (load - answer.battery_kw)[0, 3] <= 4.0 + 1e-9
