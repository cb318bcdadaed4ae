"""What is held back for drift, forecast errors and failures: buffers, chances and margins."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import a_demand_charge, a_site, a_state, a_tariff, some_sites, some_targets
from tests.clock import NOON
from vpp.allocation import Policy, capability, horizon_steps, plan
from vpp.allocation.chance import Exposure, chance, monte_carlo
from vpp.allocation.normal import Normal
from vpp.allocation.robust import (
    MOST_MARGIN,
    Drift,
    SiteClass,
    classes_of,
    deliverable_at,
    drift_soc,
    exposure_of,
    fatigue,
    guard_of_errors,
    look_back_h,
    margin,
)
from vpp.domain.errors import InvalidRequest

START = NOON + timedelta(hours=4)
FEW = settings(max_examples=25, deadline=None)


def an_exposure(sites: int = 1000, seed: int = 0, **changes):
    """A mixed fleet in five regions and three classes, two hours, 3 % dropouts and 3 % error of charge."""
    r = np.random.default_rng(seed)
    power = r.choice([3.0, 5.0, 20.0], sites)
    full = power * r.choice([1.0, 2.0, 4.0], sites)
    usual = {
        "power_kw": power,
        "energy_kwh": full * r.uniform(0.1, 0.9, sites),
        "full_kwh": full,
        "hours": 2.0,
        "dropout": np.full(sites, 0.03),
        "soc_error": np.full(sites, 0.03),
        "group": r.integers(-1, 5, (1, sites)),
        "outage": (np.full(5, 0.02),),
        "kind": r.integers(0, 3, sites),
    }
    return Exposure(**{**usual, **changes})


def nothing_fails(sites: int = 1000, **changes):
    still = {"dropout": np.zeros(sites), "soc_error": np.zeros(sites), "outage": (np.zeros(5),)}
    return an_exposure(sites, **{**still, **changes})


@FEW
@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_buffer_grows_with_time_up_to_its_cap_and_shrinks_after_a_full_charge(one: float, other: float) -> None:
    drift = Drift(least_soc=0.01, growth_soc_per_day=0.005, most_soc=0.05)
    sooner, later, full = drift_soc(np.array([min(one, other), max(one, other), 0.0]), [drift], np.zeros(3, int))
    assert 0.01 == full <= sooner <= later <= 0.05
    assert drift_soc(np.array([48.0]), [drift], np.zeros(1, int))[0] == pytest.approx(0.02)


def test_an_unknown_full_charge_keeps_the_largest_buffer_of_its_own_class() -> None:
    drifts = [Drift(), Drift(growth_soc_per_day=0.0, most_soc=0.02)]
    found = drift_soc(np.array([np.nan, np.nan, 0.0]), drifts, np.array([0, 1, 1]))
    np.testing.assert_allclose(found, [0.05, 0.02, 0.01])


def test_a_full_charge_before_the_look_back_gives_the_largest_buffer_anyway() -> None:
    drifts = [Drift(), Drift(growth_soc_per_day=0.0)]
    hours = look_back_h(drifts)
    assert drift_soc(np.array([hours]), drifts[:1], np.zeros(1, int))[0] == pytest.approx(drifts[0].most_soc)
    assert drift_soc(np.array([hours - 24.0]), drifts[:1], np.zeros(1, int))[0] < drifts[0].most_soc - 0.004


@pytest.mark.parametrize("wrong", [{"least_soc": 0.06}, {"most_soc": 1.2}, {"growth_soc_per_day": -0.1}])
def test_a_drift_that_contradicts_itself_is_refused(wrong) -> None:
    with pytest.raises(InvalidRequest):
        Drift(**wrong)


@pytest.mark.parametrize("sites", [7, 1000])
def test_where_nothing_can_fail_all_that_is_held_can_be_promised(sites: int) -> None:
    exposure = nothing_fails(sites)
    nominal = exposure.nominal_kw.sum()
    for probability in (0.5, 0.95, 0.999):
        assert deliverable_at(probability, exposure) == pytest.approx(nominal, rel=1e-6)
    assert margin(exposure, 0.95).share == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("sites", [30, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_more_certainty_never_promises_more(sites: int, seed: int) -> None:
    found = chance(an_exposure(sites, seed=seed))
    powers = [found.at(probability) for probability in np.linspace(0.02, 0.995, 12)]
    assert (np.diff(powers) <= 1e-9).all()
    assert powers[0] <= found.nominal_kw.sum()
    assert found.probability(found.at(0.9)) == pytest.approx(0.9, abs=1e-3)


def test_errors_in_common_cost_more_than_errors_of_each_site() -> None:
    # the same errors of every site; only what they share differs
    shared = [nothing_fails(soc_error=np.full(1000, 0.03), soc_error_common=c) for c in np.linspace(0, 1, 6)]
    powers = np.array([deliverable_at(0.95, exposure) for exposure in shared])
    assert (np.diff(powers) < 0).all()
    assert powers[-1] < 0.97 * powers[0]


def test_dropouts_in_common_spread_more_than_dropouts_of_each_site() -> None:
    alone = nothing_fails(dropout=np.full(1000, 0.2))
    regions = nothing_fails(group=np.arange(1000)[None] % 5, outage=(np.full(5, 0.2),))
    all_at_once = nothing_fails(group=np.zeros((1, 1000), int), outage=(np.array([0.2]),))
    powers = [deliverable_at(0.95, exposure) for exposure in (alone, regions, all_at_once)]
    assert powers[0] > powers[1] > powers[2] == pytest.approx(0.0, abs=1e-3)


def test_a_larger_fleet_averages_dropouts_out_but_not_what_it_shares() -> None:
    alone = [margin(nothing_fails(n, dropout=np.full(n, 0.05)), 0.95).share for n in (300, 3000, 30000)]
    assert alone[0] > alone[1] > alone[2] == pytest.approx(1 / 0.95 - 1, abs=0.005)
    shared = [margin(an_exposure(n), 0.95).share for n in (3000, 30000)]
    assert shared[1] > 0.08


@pytest.mark.parametrize("sites", [5, 60, 1000, 4000])
@pytest.mark.parametrize("case", ["mixed", "alone", "strongly_shared", "many_groups"])
def test_powers_agree_with_drawing_every_site(sites: int, case: str) -> None:
    r = np.random.default_rng(1)
    changes = {
        "mixed": {},
        "alone": {"outage": (np.zeros(5),), "soc_error_common": 0.0},
        "strongly_shared": {"outage": (np.full(5, 0.1),), "soc_error_common": 0.9},
        "many_groups": {
            "group": np.stack([r.integers(-1, 20, sites), r.integers(0, 3, sites)]),
            "outage": (np.full(20, 0.02), np.full(3, 0.005)),
        },
    }[case]
    exposure = an_exposure(sites, **changes)
    drawn = monte_carlo(exposure, 4000 if sites <= 1000 else 1500, seed=3)
    found, nominal = chance(exposure), exposure.nominal_kw.sum()
    for probability in (0.8, 0.9, 0.95):
        # how sure the drawn quantile itself is: four deviations of a count
        unsure = 4 * np.sqrt(probability * (1 - probability) / len(drawn))
        assert (drawn >= found.at(probability) * (1 - 2e-3)).mean() >= probability - unsure - 0.01
        assert (drawn >= found.at(probability) * (1 + 2e-3)).mean() <= probability + unsure + 0.02
    assert found.at(0.95) <= nominal


def test_the_same_seed_gives_the_same_margin() -> None:
    exposure = an_exposure(group=np.random.default_rng(0).integers(0, 30, (1, 1000)), outage=(np.full(30, 0.02),))
    assert margin(exposure, 0.95, seed=4).share == margin(exposure, 0.95, seed=4).share
    assert margin(exposure, 0.95, seed=4).share == pytest.approx(margin(exposure, 0.95, seed=5).share, rel=0.03)


@pytest.mark.parametrize("sites", [40, 1000])
def test_what_classes_hold_back_makes_up_the_whole_margin_and_the_worse_class_holds_back_more(sites: int) -> None:
    kind = np.arange(sites) % 2
    exposure = an_exposure(sites, kind=kind, dropout=np.where(kind == 0, 0.0, 0.2), group=kind[None],
                           outage=(np.array([0.0, 0.01]),), soc_error_common=0.5)  # fmt: skip
    found = margin(exposure, 0.95)
    nominal = np.bincount(kind, weights=exposure.nominal_kw)
    assert nominal @ (1.0 - found.held_back) == pytest.approx(found.deliverable_kw, rel=1e-3)
    assert found.held_back[1] > found.held_back[0] + 0.1
    assert found.share == pytest.approx(nominal.sum() / found.deliverable_kw - 1.0)


def test_a_probability_that_cannot_be_had_promises_nothing() -> None:
    exposure = nothing_fails(group=np.zeros((1, 1000), int), outage=(np.array([0.3]),))
    found = margin(exposure, 0.95)
    assert found.deliverable_kw == pytest.approx(0.0, abs=1e-3)
    assert found.share == MOST_MARGIN


@pytest.mark.parametrize(
    "wrong",
    [
        {"dropout": np.full(1000, 1.5)},
        {"hours": 0.0},
        {"power_kw": np.full(1000, -1.0)},
        {"group": np.full((1, 1000), 5)},
        {"outage": (np.array([-0.1] * 5),)},
        {"kind": np.zeros(3, int)},
    ],
)
def test_an_exposure_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(InvalidRequest):
        an_exposure(**wrong)


def test_a_probability_outside_0_to_1_is_refused() -> None:
    for wrong in (0.0, 1.0, 95.0):
        with pytest.raises(InvalidRequest):
            deliverable_at(wrong, an_exposure())


@FEW
@given(st.floats(-3, 10), st.floats(0.01, 5), st.floats(0.1, 6))
def test_a_clipped_normal_has_the_moments_that_drawing_it_gives(mean: float, sd: float, most: float) -> None:
    drawn = np.clip(mean + sd * np.random.default_rng(0).standard_normal(200_000), 0.0, most)
    first, second = Normal().clipped(np.array([mean]), np.array([sd]), np.array([most]))
    assert first[0] == pytest.approx(drawn.mean(), abs=0.012 * min(sd, most))
    assert second[0] == pytest.approx(np.square(drawn).mean(), abs=0.02 * most * min(sd, most))


def test_sites_of_one_adapter_are_one_class_and_an_unknown_one_takes_the_default() -> None:
    sites = [a_site(1), replace(a_site(2), adapter="other"), a_site(3)]
    own = SiteClass(dropout=0.1)
    classes, kind = classes_of(sites, {sites[0].adapter: own})
    assert [classes[k] for k in kind] == [own, SiteClass(), own]
    exposure = exposure_of(sites, np.full(3, 5.0), np.full(3, 8.0), 2.0, {sites[0].adapter: own})
    np.testing.assert_array_equal(exposure.dropout, [0.1, 0.02, 0.1])
    np.testing.assert_array_equal(exposure.nominal_kw, [4.0, 4.0, 4.0])


def test_a_region_that_may_be_out_costs_a_promise() -> None:
    sites = some_sites(300)
    power, energy = np.full(300, 5.0), np.full(300, 8.0)
    alone = margin(exposure_of(sites, power, energy, 2.0, {}), 0.95)
    half = margin(exposure_of(sites, power, energy, 2.0, {}, np.arange(300) % 2, np.full(2, 0.1)), 0.95)
    assert half.share > alone.share + 0.5


def test_a_guard_is_the_quantile_of_how_far_loads_went_over_their_forecast() -> None:
    r = np.random.default_rng(0)
    kind = np.array([0] * 20 + [1] * 20 + [2])
    forecast = np.full((41, 200), 50.0)
    actual = forecast + np.where(kind == 0, 2.0, 10.0)[:, None] * r.standard_normal(forecast.shape)
    actual[:, 50:] = np.where((kind == 2)[:, None], np.nan, actual[:, 50:])
    guards = guard_of_errors(actual, forecast, np.full(41, 100.0), kind, 0.95)
    np.testing.assert_allclose(guards[:2], [0.0329, 0.1645], atol=0.01)
    assert np.isnan(guards[2])
    over = (actual > forecast + 100.0 * np.where(kind == 0, guards[0], guards[1])[:, None])[kind < 2].mean()
    assert over == pytest.approx(0.05, abs=0.005)


@FEW
@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.floats(0, 1))
def test_fatigue_makes_dearer_who_worked_more_and_leaves_the_unknown_as_they_are(worked, strength: float) -> None:
    cycles = np.array([*worked, np.nan])
    factor = fatigue(cycles, strength)
    assert factor[-1] == 1.0
    assert (factor >= 0).all()
    assert (factor <= 2).all()
    order = np.argsort(cycles[:-1])
    assert (np.diff(factor[order]) >= -1e-12).all()


def planned(sites, state, targets=None, **more):
    targets = targets or some_targets(100, 100)
    steps = horizon_steps(sites, targets, START)
    return plan(sites, state, np.full((len(sites), len(steps)), 1.0), targets, steps, **more)


def test_a_site_keeps_a_buffer_above_its_reserve_that_follows_its_last_full_charge() -> None:
    # more is owed than there is, so that everyone is emptied as far as allowed
    sites = some_sites(4)
    hours = np.array([0.0, 96.0, 1000.0, np.nan])
    made = planned(sites, a_state(sites, soc=0.5), hours_since_full_charge=hours)
    np.testing.assert_allclose(made.expected_soc.min(axis=1), 0.2 + np.array([0.01, 0.03, 0.05, 0.05]), atol=1e-6)
    flat = planned(sites, a_state(sites, soc=0.5))
    np.testing.assert_allclose(flat.expected_soc.min(axis=1), 0.21, atol=1e-6)


def test_each_adapter_has_its_own_buffer() -> None:
    sites = [a_site(1), replace(a_site(2), adapter="other")]
    policy = Policy(site_classes={"other": SiteClass(drift=Drift(most_soc=0.02))})
    made = planned(sites, a_state(sites, soc=0.5), hours_since_full_charge=np.full(2, np.nan), policy=policy)
    np.testing.assert_allclose(made.expected_soc.min(axis=1), [0.25, 0.22], atol=1e-6)


def test_a_promise_counts_on_less_where_no_full_charge_is_known_and_never_more_than_the_plan_then_gives() -> None:
    sites, targets = some_sites(10), some_targets(100)
    state = a_state(sites, soc=0.5)
    steps = horizon_steps(sites, targets, START)
    load = np.full((10, len(steps)), 1.0)
    known, unknown = (
        capability(sites, state, load, targets, steps, hours_since_full_charge=np.full(10, hours)).deliverable_kw[0]
        for hours in (0.0, np.nan)
    )
    assert known == pytest.approx(10 * 13.5 * 0.95 * 0.29, rel=1e-3)
    assert unknown == pytest.approx(10 * 13.5 * 0.95 * 0.25, rel=1e-3)
    made = planned(sites, state, targets, hours_since_full_charge=np.full(10, np.nan))
    assert made.power_kw[:, : len(steps)].sum(axis=0)[0] >= unknown - 1e-3


def test_wrong_lengths_are_refused() -> None:
    sites = some_sites(3)
    for name in ("hours_since_full_charge", "recent_discharge_kwh"):
        with pytest.raises(InvalidRequest) as refused:
            planned(sites, a_state(sites), **{name: np.zeros(2)})
        assert name in str(refused.value)


def promised(sites, policy: Policy, kw: float = 60.0):
    targets = some_targets(kw)
    steps = horizon_steps(sites, targets, START)
    return capability(sites, a_state(sites, soc=0.9), np.zeros((len(sites), len(steps))), targets, steps, policy=policy)


def test_what_is_known_of_a_class_takes_the_place_of_the_flat_margin() -> None:
    sites = [a_site(n, export_limit_kw=10.0) for n in range(1, 16)]
    safe = SiteClass(dropout=0.0, outage=0.0, soc_error=0.0)
    doubtful, hopeless = replace(safe, dropout=0.1), replace(safe, outage=0.5)
    name = sites[0].adapter
    # 15 sites hold 75 kW: 60 kW need 25 % to spare at most
    assert promised(sites, Policy(site_classes={name: safe}), 74.9).covered
    assert not promised(sites, Policy(), 74.9).covered
    sure, surer = (promised(sites, Policy(site_classes={name: doubtful}, promise_probability=p)) for p in (0.8, 0.99))
    assert sure.covered
    assert not surer.covered
    assert not promised(sites, Policy(site_classes={name: hopeless}), 1.0).covered
    assert promised(sites, Policy(site_classes={name: hopeless}, promise_probability=0.4)).covered


def test_a_class_with_worse_forecasts_stays_further_below_its_peak() -> None:
    tariff = a_tariff(demand=(a_demand_charge(start_h=16, end_h=21, price_per_kw=Decimal("18")),))
    sites = [
        replace(a_site(n, tariff=tariff, peak_so_far_kw={"any_time": 4.0}), adapter=f"v{n}") for n in (1, 2)
    ]  # fmt: skip
    policy = Policy(site_classes={"v2": SiteClass(peak_guard=0.5)}, headroom=0.0, own_peak_share=1.0)
    targets = some_targets(1)
    steps = horizon_steps(sites, targets, START)
    load = np.full((2, len(steps)), 3.9)
    made = plan(sites, a_state(sites, soc=1.0), load, targets, steps, policy=policy)
    during = [k for k, step in enumerate(steps) if step.end_at <= targets[-1].interval.end_at]
    imports = (load - made.power_kw)[:, during].max(axis=1)
    assert imports[0] == pytest.approx(4.0 * 0.92, abs=0.3)
    assert imports[1] == pytest.approx(2.0, abs=0.01)


def test_who_worked_more_lately_is_spared() -> None:
    sites = some_sites(4)
    worked = np.array([0.0, 5.0, 30.0, np.nan])
    made = planned(sites, a_state(sites, soc=0.9), some_targets(8, 8), recent_discharge_kwh=worked)
    # its own kW is served from its battery as ever; what is exported comes from those who rested
    assert (made.power_kw[2] <= 1.0 + 1e-6).all()
    assert made.power_kw[0, 0] > 2.0
