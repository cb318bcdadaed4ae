"""Plans and promises for real sites: tariffs, time zones, telemetry quality and mode-only devices."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import a_battery, a_demand_charge, a_site, a_state, a_tariff, some_sites, some_targets
from tests.clock import NOON
from vpp.allocation import ModeState, Policy, capability, horizon_steps, plan
from vpp.allocation.horizon import owed
from vpp.allocation.tariffs import applies, prices
from vpp.domain.commitment import TargetInterval
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Quality
from vpp.domain.site import EnergyPeriod
from vpp.domain.time import Interval

START = NOON + timedelta(hours=4)
FEW = settings(max_examples=25, deadline=None)
EXACT = Policy(delivery_margin=0.0, capability_margin=0.0, drift_soc=0.0)


def steps_of(sites, targets, at=START):
    return horizon_steps(sites, targets, at)


def flat(sites, steps, kw=1.0):
    return np.full((len(sites), len(steps)), kw)


@FEW
@given(st.integers(0, 10_000), st.floats(0.1, 1.5))
def test_a_plan_keeps_every_limit_and_meets_the_target_less_its_shortfall(seed: int, size: float) -> None:
    r = np.random.default_rng(seed)
    sites = [
        a_site(n, reserve_soc=float(r.uniform(0, 0.5)), export_limit_kw=float(r.choice([0.0, 3.0, 10.0])))
        for n in range(1, 13)
    ]
    targets = some_targets(*(size * r.uniform(5, 40, 2)))
    steps = steps_of(sites, targets)
    state = a_state(sites, soc=r.uniform(0, 1, 12), quality=r.choice([0, 0, 0, 1, 2], 12))
    load = r.uniform(-3, 6, (12, len(steps)))
    modes = {site.id: ModeState.IDLE for site in sites[:4]}
    made = plan(sites, state, load, targets, steps, mode_sites=modes)
    target_kw, committed = owed(targets, steps)
    export = np.array([site.export_limit_kw for site in sites])[:, None]
    reserve = np.array([site.reserve_soc for site in sites])
    assert (made.power_kw <= 5.0 + 1e-9).all()
    assert (np.where(made.power_kw > 1e-9, made.power_kw - load, -1.0) <= export + 1e-6).all()
    assert (made.expected_soc[made.usable] >= np.minimum(reserve, state.soc)[made.usable, None] - 1e-9).all()
    assert (made.power_kw[~made.usable] == 0).all()
    assert (made.power_kw[:, committed] >= 0).all()
    total = made.power_kw.sum(axis=0)
    assert (total + made.shortfall_kw >= target_kw - 1e-6)[committed].all()
    assert (total <= target_kw * 1.03 + 1e-6)[committed].all()


def test_a_plan_does_not_depend_on_the_order_of_sites() -> None:
    sites = [a_site(n, battery=a_battery(capacity_kwh=10.0 + n)) for n in range(1, 9)]
    targets = some_targets(20, 25)
    steps = steps_of(sites, targets)
    modes = {"s0002": ModeState.IDLE, "s0005": ModeState.RUNNING}
    load = np.random.default_rng(0).uniform(0, 5, (8, len(steps)))
    forward = plan(sites, a_state(sites), load, targets, steps, mode_sites=modes)
    backward = plan(sites[::-1], a_state(sites), load[::-1], targets, steps, mode_sites=modes)
    np.testing.assert_array_equal(forward.power_kw, backward.power_kw[::-1])
    assert backward.site_ids == tuple(site.id for site in sites[::-1])
    json.dumps(forward.info)


def test_lost_and_islanded_sites_are_replaced_by_the_others() -> None:
    sites = some_sites(6)
    targets = some_targets(20, 5)
    steps = steps_of(sites, targets)
    quality = [Quality.GOOD, Quality.STALE, Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.GOOD]
    state = a_state(sites, quality=quality, islanded=[False] * 5 + [True])
    made = plan(sites, state, flat(sites, steps), targets, steps, policy=EXACT)
    assert (made.power_kw[[1, 5]] == 0).all()
    np.testing.assert_allclose(made.power_kw[:, 0].sum(), 20.0, atol=1e-6)
    assert made.info["usable"] == 4


def test_what_cannot_be_met_is_missing_at_the_end() -> None:
    sites, targets = some_sites(4), some_targets(20, 20)
    steps = steps_of(sites, targets)
    made = plan(sites, a_state(sites), flat(sites, steps), targets, steps, policy=EXACT)
    assert (np.diff(made.shortfall_kw) >= -1e-6).all()
    assert made.shortfall_kw[0] == 0
    assert made.shortfall_kw[-1] > 0


def test_nobody_is_moved_before_the_event_or_charged_during_it() -> None:
    # full batteries, dear energy and a load: left to its tariff alone, every site would discharge at once
    sites = some_sites(4)
    targets = some_targets(5, 5, start_at=START + timedelta(hours=1))
    steps = steps_of(sites, targets)
    made = plan(sites, a_state(sites, soc=1.0), flat(sites, steps, 4.0), targets, steps)
    before = [k for k, step in enumerate(steps) if step.end_at <= targets[0].interval.start_at]
    during = [k for k, step in enumerate(steps) if k not in before and step.end_at <= targets[-1].interval.end_at]
    assert (made.power_kw[:, before] == 0).all()
    assert (made.power_kw[:, during] >= 0).all()
    assert (made.power_kw[:, during].sum(axis=0) > 5.0).all()


def test_a_site_with_a_peak_after_the_event_keeps_energy_for_it() -> None:
    tariff = a_tariff(demand=(a_demand_charge(start_h=16, end_h=21),))
    site = a_site(1, tariff=tariff, peak_so_far_kw={"any_time": 4.0}, import_limit_kw=50.0)
    sites, targets = [site], some_targets(5, 5)
    steps = steps_of(sites, targets)
    assert steps[-1].end_at == START + timedelta(hours=5)
    load = np.array([[5.5 if step.start_at >= START + timedelta(hours=3) else 2.0 for step in steps]])
    made = plan(sites, a_state(sites, soc=1.0), load, targets, steps)
    late = [k for k, step in enumerate(steps) if step.start_at >= START + timedelta(hours=3)]
    alone = plan([replace(site, tariff=a_tariff())], a_state(sites, soc=1.0), load, targets, steps)
    assert made.expected_soc[0, late[0]] > alone.expected_soc[0, late[0]] + 0.2
    assert made.shortfall_kw.sum() > alone.shortfall_kw.sum()


def test_mode_only_sites_run_at_their_own_power_and_the_others_fill_the_rest() -> None:
    sites = some_sites(10)
    targets = some_targets(22, 22)
    steps = steps_of(sites, targets)
    modes = {site.id: ModeState.IDLE for site in sites[:5]}
    made = plan(sites, a_state(sites, soc=0.9), flat(sites, steps), targets, steps, mode_sites=modes, policy=EXACT)
    by_mode = made.power_kw[:5, 0]
    assert set(np.round(by_mode, 6)) <= {0.0, 5.0}
    np.testing.assert_allclose(made.power_kw[:, 0].sum(), 22.0, atol=1e-6)
    assert made.info["blocks_starting"] == int((by_mode > 0).sum()) > 0


def test_a_promise_is_what_a_plan_then_delivers() -> None:
    for seed in range(12):
        r = np.random.default_rng(seed)
        sites = some_sites(10)
        targets = some_targets(*r.uniform(5, 45, 3))
        steps = steps_of(sites, targets)
        load, state = r.uniform(-2, 6, (10, len(steps))), a_state(sites, soc=r.uniform(0.3, 1, 10))
        said = capability(sites, state, load, targets, steps, policy=EXACT)
        held = tuple(replace(t, target_kw=kw) for t, kw in zip(targets, said.deliverable_kw, strict=True))
        assert plan(sites, state, load, held, steps, policy=EXACT).shortfall_kw.sum() == pytest.approx(0, abs=1e-3)
        assert said.covered == (plan(sites, state, load, targets, steps, policy=EXACT).shortfall_kw.max() < 0.02)


def test_a_refusal_says_what_was_needed_when_and_what_there_is() -> None:
    sites = some_sites(4)
    targets = some_targets(10, 1200)
    steps = steps_of(sites, targets, NOON)
    said = capability(sites, a_state(sites, soc=1.0), flat(sites, steps), targets, steps)
    assert not said.covered
    assert said.reason == "needs 1,200 kW and 3% to spare at 17:00-18:00 PDT, fleet can hold 20 kW"
    assert said.deliverable_kw == pytest.approx((10.3, 20.0))


def test_a_promise_covers_with_a_margin_and_names_sites_that_cannot_be_used() -> None:
    sites = some_sites(4)
    targets = some_targets(15)
    steps = steps_of(sites, targets)
    said = capability(sites, a_state(sites, soc=1.0), flat(sites, steps), targets, steps)
    assert said.covered
    assert said.method == "closed_form"
    lost = a_state(sites, soc=1.0, quality=[1, 0, 0, 0])
    refused = capability(sites, lost, flat(sites, steps), targets, steps)
    assert not refused.covered
    assert refused.reason.endswith("fleet can hold 15 kW; 1 of 4 sites cannot be used now")


def test_no_owners_demand_peak_is_spent_on_a_promise() -> None:
    # even where the peak costs next to nothing and the promise would earn more
    tariff = a_tariff(demand=(a_demand_charge(start_h=18, end_h=21, price_per_kw=Decimal("0.50")),))
    sites = [a_site(1, tariff=tariff, peak_so_far_kw={"any_time": 4.0}, import_limit_kw=50.0)]
    targets = some_targets(4, 4)
    steps = steps_of(sites, targets)
    load = np.array([[9.0 if step.start_at >= START + timedelta(hours=3) else 2.0 for step in steps]])
    said = capability(sites, a_state(sites, soc=1.0), load, targets, steps)
    assert not said.covered
    assert capability(sites, a_state(sites, soc=1.0), load * 0.4, targets, steps).covered


def test_steps_that_end_before_the_event_are_refused() -> None:
    sites, targets = some_sites(2), some_targets(5, 5)
    steps = tuple(Interval(START, START + timedelta(hours=1)).steps(timedelta(minutes=5)))
    with pytest.raises(InvalidRequest, match="steps"):
        capability(sites, a_state(sites), flat(sites, steps), targets, steps)


def test_the_forecast_must_fit_the_sites() -> None:
    sites, targets = some_sites(2), some_targets(5)
    steps = steps_of(sites, targets)
    with pytest.raises(InvalidRequest, match="net_load_kw"):
        plan(sites, a_state(sites), np.zeros((3, len(steps))), targets, steps)
    with pytest.raises(InvalidRequest, match=r"net_load_kw\[1, 0\]"):
        plan(sites, a_state(sites), np.array([[1.0], [np.nan]]) * np.ones(len(steps)), targets, steps)


def test_the_horizon_is_fine_near_and_coarse_far_and_keeps_to_the_targets_edges() -> None:
    at = START + timedelta(minutes=3)
    targets = some_targets(5, 5, start_at=START + timedelta(minutes=7))
    steps = horizon_steps(some_sites(1), targets, at)
    assert steps[0] == Interval(at, START + timedelta(minutes=5))
    assert all(a.end_at == b.start_at for a, b in pairwise(steps))
    assert steps[-1].end_at == targets[-1].interval.end_at
    edges = {step.start_at for step in steps}
    assert {target.interval.start_at for target in targets} <= edges
    assert max(step.duration for step in steps) <= timedelta(minutes=15)
    assert horizon_steps(some_sites(1), targets, targets[-1].interval.end_at) == ()


@pytest.mark.parametrize("late_s", [0.0, 0.18, 899.82, 900.1, 1799.9])
def test_a_random_start_leaves_no_sliver_of_a_step(late_s: float) -> None:
    at = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    start_at = at + timedelta(hours=1, seconds=late_s)
    edges = [start_at + n * timedelta(hours=0.5) for n in range(4)]
    targets = [TargetInterval(Interval(*pair), 5.0) for pair in pairwise(edges)]
    for begin_at in (at, edges[1] - timedelta(seconds=0.1), edges[-1] - timedelta(seconds=1.5)):
        steps = horizon_steps(some_sites(1), targets, begin_at)
        assert min(step.duration for step in steps) >= timedelta(seconds=1)
        assert (steps[0].start_at, steps[-1].end_at) == (begin_at, edges[-1])
        assert all(one.end_at == other.start_at for one, other in pairwise(steps))
    assert horizon_steps(some_sites(1), targets, edges[-1] - timedelta(seconds=0.1)) == ()


def test_a_step_across_two_targets_owes_their_mean() -> None:
    targets = some_targets(10, 20)
    power, committed = owed(targets, [Interval(START + timedelta(minutes=50), START + timedelta(minutes=65))])
    np.testing.assert_allclose(power, [10 * 2 / 3 + 20 / 3])
    assert committed.all()


@pytest.mark.parametrize(("day", "length"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_prices_follow_the_local_clock_on_days_that_are_not_24_hours_long(day: str, length: int) -> None:
    zone = ZoneInfo("America/Los_Angeles")
    start = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC)
    steps = tuple(Interval(start, start + timedelta(hours=length)).steps(timedelta(hours=1)))
    tariff = a_tariff(
        energy=(
            EnergyPeriod(name="night", price_per_kwh=Decimal("0.10"), start_h=0, end_h=4),
            EnergyPeriod(name="day", price_per_kwh=Decimal("0.40")),
        ),
        demand=(a_demand_charge(start_h=16, end_h=21),),
    )
    found = prices([a_site(1, tariff=tariff)], steps)
    assert int((found.import_price_per_kwh == 0.10).sum()) == 4 - (24 - length)
    assert int(found.demand_window.sum()) == 5
    last_peak = max(k for k, on in enumerate(found.demand_window[0]) if on)
    assert steps[last_peak].start_at.astimezone(zone).hour == 20


def test_a_period_ends_where_the_next_one_begins() -> None:
    charge = a_demand_charge(start_h=16, end_h=21, weekdays=(1, 2, 3, 4, 5))
    friday, saturday = datetime(2026, 8, 21, tzinfo=UTC), datetime(2026, 8, 22, tzinfo=UTC)
    assert applies(charge, friday.replace(hour=16))
    assert applies(charge, friday.replace(hour=20, minute=59))
    assert not applies(charge, friday.replace(hour=21))
    assert not applies(charge, saturday.replace(hour=17))


def test_each_demand_charge_has_its_own_peak_and_sites_of_one_clock_share_a_window() -> None:
    both = (a_demand_charge(), a_demand_charge(name="again", price_per_kw=Decimal("3")))
    first = a_site(1, tariff=a_tariff(demand=both), peak_so_far_kw={"any_time": 7.0, "again": 9.0})
    second = a_site(2, tariff=a_tariff(demand=both[:1]), peak_so_far_kw={"any_time": 5.0})
    found = prices([first, second], [Interval(START, START + timedelta(hours=1))])
    assert found.demand_window.shape == (2, 1)
    np.testing.assert_allclose(found.peak_so_far_kw, [[7.0, 9.0], [5.0, 0.0]])
    np.testing.assert_allclose(found.demand_price_per_kw, [[18.0, 3.0], [18.0, 0.0]])


def test_an_export_price_above_the_import_price_is_taken_as_the_import_price() -> None:
    tariff = a_tariff(export_price_per_kwh=Decimal("2.00"))
    found = prices([a_site(1, tariff=tariff)], [Interval(START, START + timedelta(hours=1))])
    np.testing.assert_array_equal(found.export_price_per_kwh, found.import_price_per_kwh)


def test_a_site_that_needs_its_battery_against_its_own_peak_is_left_to_its_own_controller() -> None:
    tariff = a_tariff(demand=(a_demand_charge(start_h=16, end_h=21),))
    needy = a_site(1, tariff=tariff, peak_so_far_kw={"any_time": 4.0}, import_limit_kw=50.0)
    sites, targets = [needy, a_site(2)], some_targets(3, 3)
    steps = steps_of(sites, targets)
    load = np.array([[9.0 if step.start_at >= START + timedelta(hours=3) else 2.0 for step in steps]] * 2)
    made = plan(sites, a_state(sites, soc=1.0), load, targets, steps)
    assert not made.usable[0]
    assert not made.power_kw[0].any()
    assert made.power_kw[1, 0] >= 3.0
