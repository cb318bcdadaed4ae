"""The same seed is the same fleet; its days are real days moved by whole weeks."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.builders_simulation import DAY, small_fleet
from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval
from vpp.enrolment import read_sites_csv
from vpp.simulation.faults import FaultKind, demo_faults, fault_from_json
from vpp.simulation.fleet import TIME_ZONE, make_fleet
from vpp.simulation.profiles import load_profiles, local_minutes, sample
from vpp.simulation.recipes import Kind
from vpp.simulation.truth import demand_peak_breaches, limit_breaches
from vpp.simulation.world import World, counterfactual

EVENT = Interval(datetime(2026, 8, 19, 23, tzinfo=UTC), datetime(2026, 8, 20, 3, tzinfo=UTC))


def test_a_seed_makes_one_fleet_and_another_seed_another() -> None:
    one, again = (make_fleet(seed=5, sites=20, day=DAY) for _ in range(2))
    other = make_fleet(seed=6, sites=20, day=DAY)
    assert one.enrolment_csv() == again.enrolment_csv() != other.enrolment_csv()
    worlds = [World(fleet) for fleet in (one, again, other)]
    for world in worlds:
        world.advance_to(world.now + timedelta(hours=3))
    first, second, third = (world.truth().imported_kwh for world in worlds)
    assert (first == second).all()
    assert not np.allclose(first, third)


def test_the_course_does_not_depend_on_when_the_world_is_looked_at() -> None:
    often, rarely = (World(small_fleet()) for _ in range(2))
    until = often.now + timedelta(hours=2)
    while often.now < until:
        often.advance_to(often.now + timedelta(seconds=61))
    rarely.advance_to(until)
    assert (often.truth().end_soc == rarely.truth().end_soc).all()


def test_the_calendar_is_moved_by_whole_weeks() -> None:
    profiles = load_profiles()
    assert profiles.source_day(DAY) == date(2016, 8, 17)
    assert all(
        profiles.source_day(day).weekday() == day.weekday() for day in (date(2026, 1, 5), DAY, date(2031, 11, 1))
    )


def test_a_local_hour_replays_the_same_local_hour() -> None:
    profiles = load_profiles()
    at = datetime(2026, 8, 19, 14, 7, 30, tzinfo=ZoneInfo(TIME_ZONE))
    minutes = local_minutes(np.array([at.timestamp()]), TIME_ZONE, profiles.first_day)[:, None]
    kind = profiles.kind("G1-B")
    quarter = (date(2016, 8, 17) - date(2016, 6, 1)).days * 96 + 14 * 4
    assert sample(profiles.load, np.array([kind]), minutes)[0, 0] == pytest.approx(profiles.load[kind, quarter])


def test_offices_sleep_on_sundays() -> None:
    load = load_profiles()
    days = load.load[load.kind("G1-B")].reshape(-1, 96).sum(axis=1)
    weekdays = np.array([load.source_day(load.first_day + timedelta(days=day)).weekday() for day in range(len(days))])
    assert days[weekdays == 6].mean() < 0.3 * days[weekdays < 5].mean()


def test_the_fleet_is_a_mix_an_operator_would_recognise() -> None:
    fleet = make_fleet(seed=1, sites=300, day=DAY)
    kinds = [virtual.recipe.kind for virtual in fleet.sites]
    reserve_soc = fleet.reserve_soc
    assert fleet.params.is_tesla.sum() == 105
    assert {kind: kinds.count(kind) for kind in Kind} == {Kind.HOME: 230, Kind.COMMERCE: 66, Kind.HOSPITAL: 4}
    assert 0.2 < (fleet.params.export_limit_kw == 0).mean() < 0.4
    hospital = np.array([kind is Kind.HOSPITAL for kind in kinds])
    assert (reserve_soc[hospital] >= 0.6).all()
    assert ((reserve_soc[~hospital] >= 0.1) & (reserve_soc[~hospital] <= 0.4)).all()
    owners = [virtual.site.owner_id for virtual in fleet.sites]
    assert len(set(owners)) < len(owners) - 20
    charged = [virtual.site for virtual in fleet.sites if virtual.site.tariff.demand]
    assert all(site.peak_so_far_kw[charge.name] > 0 for site in charged for charge in site.tariff.demand)
    assert all(site.billing_start == date(2026, 8, 1) for site in charged)


def test_the_enrolment_file_is_accepted_as_it_is() -> None:
    fleet = small_fleet()
    forms = read_sites_csv(fleet.enrolment_csv(), adapters={"sunspec", "tesla"}, programs={"elrp"})
    assert [form.site for form in forms] == list(fleet.site_ids)
    assert [form.reserve_soc for form in forms] == list(fleet.reserve_soc)


def test_history_ends_where_the_simulation_begins_in_whole_hours() -> None:
    fleet = make_fleet(seed=2, sites=6, day=DAY, start_at=datetime(2026, 8, 19, 13, tzinfo=UTC))
    hours, grid_kwh, battery_kwh = fleet.history(days=60)
    assert grid_kwh.shape == battery_kwh.shape == (60 * 24, 6)
    assert hours[-1] + timedelta(hours=1) == fleet.start_at
    assert np.isfinite(grid_kwh).all()
    without_battery = grid_kwh - battery_kwh
    assert (np.abs(without_battery).max(axis=0) > 0).all()


def test_left_alone_nobody_breaks_reserve_limit_or_peak() -> None:
    truth = counterfactual(small_fleet(), EVENT.end_at)
    assert truth.reserve_breaches.sum() == 0
    assert limit_breaches(small_fleet(), truth) == {"export": 0, "import": 0, "zero_export": 0, "actual": 0}
    assert demand_peak_breaches(small_fleet(), truth, truth) == []


def test_charging_through_the_peak_is_seen_as_harm() -> None:
    fleet = small_fleet()
    at = next(row for row, virtual in enumerate(fleet.sites) if virtual.recipe.kind is Kind.COMMERCE)
    world = World(fleet)
    world.advance_to(EVENT.start_at - timedelta(hours=8))
    for hour, power_w in ((-8, 200_000), (0, -200_000)):
        world.advance_to(EVENT.start_at + timedelta(hours=hour))
        setpoint = world.setpoint(at)
        setpoint.enabled, setpoint.power_w = True, power_w
        world.set_setpoint(at, setpoint, world.now, restart_timer=True)
    world.advance_to(EVENT.end_at)
    harmed = demand_peak_breaches(fleet, world.truth(), counterfactual(fleet, EVENT.end_at))
    assert {entry["site_id"] for entry in harmed} == {fleet.site_ids[at]}


def test_the_demo_loses_five_different_sites_and_they_recover_after_the_event() -> None:
    fleet = small_fleet()
    faults = demo_faults(fleet, EVENT)
    assert faults == demo_faults(fleet, EVENT)
    assert [fault.kind for fault in faults] == [
        FaultKind.OFFLINE,
        FaultKind.OFFLINE,
        FaultKind.FROZEN,
        FaultKind.ISLANDED,
        FaultKind.WRITE_IGNORED,
    ]
    assert len({fault.site_id for fault in faults}) == 5
    assert all(EVENT.start_at < fault.start_at < EVENT.end_at < fault.end_at for fault in faults)
    assert [fault_from_json(fault.as_json()) for fault in faults] == list(faults)


def test_impossible_fleets_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        make_fleet(seed=1, sites=0, day=DAY)
    with pytest.raises(InvalidRequest):
        make_fleet(seed=1, sites=5, day=DAY, tesla_share=35)
