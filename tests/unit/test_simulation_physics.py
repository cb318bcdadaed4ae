"""What a virtual battery may never do, whatever it is told."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_simulation import small_fleet
from vpp.domain.fleet import Floats
from vpp.simulation.faults import Fault, FaultKind
from vpp.simulation.physics import Flows, Params, native_kw, step
from vpp.simulation.setpoint import Setpoint
from vpp.simulation.tesla_modes import EXPORT, HOLD, MINUTES_A_WEEK, TO_LOAD, time_of_use_tariff, trade_table
from vpp.simulation.world import World, counterfactual

SITES = 3
kw = st.floats(0, 200)


def row(values: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    return st.lists(values, min_size=SITES, max_size=SITES).map(np.array)


def params(**changed: Floats) -> Params:
    ones = np.ones(SITES)
    columns = {
        "max_charge_kw": 5 * ones,
        "max_discharge_kw": 6 * ones,
        "capacity_kwh": 13.5 * ones,
        "charge_efficiency": 0.95 * ones,
        "discharge_efficiency": 0.96 * ones,
        "import_limit_kw": 24 * ones,
        "export_limit_kw": 10 * ones,
        "ramp_kw_per_s": ones,
        "shave_kw": 0 * ones,
        "fill_kw": 0 * ones,
        "is_tesla": np.zeros(SITES, dtype=bool),
    }
    return Params(**{name: np.array(column) for name, column in (columns | changed).items()})


@st.composite
def steps(draw: st.DrawFn) -> tuple[Params, dict[str, Floats], float]:
    installed = params(
        max_charge_kw=draw(row(kw)),
        max_discharge_kw=draw(row(kw)),
        capacity_kwh=draw(row(st.floats(0.5, 500))),
        charge_efficiency=draw(row(st.floats(0.7, 1))),
        discharge_efficiency=draw(row(st.floats(0.7, 1))),
        import_limit_kw=draw(row(kw)),
        export_limit_kw=draw(row(kw)),
        ramp_kw_per_s=draw(row(st.floats(0.01, 100))),
    )
    given_ = {
        "energy_kwh": installed.capacity_kwh * draw(row(st.floats(0, 1))),
        "previous_kw": np.zeros(SITES),
        "wanted_kw": draw(row(st.floats(-300, 300))),
        "floor_kwh": installed.capacity_kwh * draw(row(st.floats(0, 1))),
        "export_limit_kw": installed.export_limit_kw,
        "load_kw": draw(row(kw)),
        "pv_kw": draw(row(kw)),
        "islanded": np.array(draw(st.lists(st.booleans(), min_size=SITES, max_size=SITES))),
    }
    return installed, given_, draw(st.sampled_from([1.0, 60.0, 900.0]))


@given(steps())
@settings(max_examples=300, deadline=None)
def test_energy_balances_and_limits_hold_in_every_step(case: tuple[Params, dict[str, Floats], float]) -> None:
    installed, given_, dt_s = case
    flows = step(installed, **given_, dt_s=dt_s)
    dt_h, on_grid = dt_s / 3600.0, ~given_["islanded"].astype(bool)
    assert np.abs(flows.battery_kw + flows.pv_kw - flows.load_kw - flows.grid_kw).max() < 1e-9
    stored = np.maximum(-flows.battery_kw, 0) * installed.charge_efficiency * dt_h
    drawn = np.maximum(flows.battery_kw, 0) / installed.discharge_efficiency * dt_h
    assert np.abs(given_["energy_kwh"] + stored - drawn - flows.energy_kwh).max() < 1e-9
    assert (flows.energy_kwh >= 0).all()
    assert (flows.energy_kwh <= installed.capacity_kwh).all()
    assert (flows.battery_kw <= installed.max_discharge_kw + 1e-9).all()
    assert (flows.battery_kw >= -installed.max_charge_kw - 1e-9).all()
    assert (flows.grid_kw <= installed.export_limit_kw + 1e-9).all()
    charging = flows.battery_kw < 0
    assert (flows.grid_kw[charging] >= -installed.import_limit_kw[charging] - 1e-9).all()
    below = flows.energy_kwh < given_["floor_kwh"] - 1e-9
    assert (flows.battery_kw[below & on_grid] <= 1e-9).all()
    assert (flows.grid_kw[~on_grid] == 0).all()
    assert ((flows.pv_kw >= 0) & (flows.pv_kw <= given_["pv_kw"] + 1e-9)).all()
    assert (flows.load_kw <= given_["load_kw"] + 1e-9).all()


def run(wanted_kw: float, steps_: int, energy_kwh: float, **changed: Floats) -> tuple[Flows, float]:
    installed = params(**changed)
    energy, previous = np.full(SITES, energy_kwh), np.zeros(SITES)
    zero, total_kwh = np.zeros(SITES), 0.0
    for _ in range(steps_):
        flows = step(
            installed,
            energy_kwh=energy,
            previous_kw=previous,
            wanted_kw=np.full(SITES, wanted_kw),
            floor_kwh=zero,
            export_limit_kw=installed.export_limit_kw,
            load_kw=zero,
            pv_kw=zero,
            islanded=np.zeros(SITES, dtype=bool),
            dt_s=60.0,
        )
        energy, previous = flows.energy_kwh, flows.battery_kw
        total_kwh += float(flows.battery_kw[0]) / 60.0
    return flows, total_kwh


def test_a_full_cycle_returns_the_product_of_both_efficiencies() -> None:
    _, charged_kwh = run(-5.0, 300, 0.0)
    _, discharged_kwh = run(6.0, 300, 13.5)
    assert charged_kwh == pytest.approx(-13.5 / 0.95)
    assert discharged_kwh == pytest.approx(13.5 * 0.96)


def test_power_ramps_no_faster_than_the_device_can() -> None:
    flows, _ = run(6.0, 1, 13.5, ramp_kw_per_s=np.full(SITES, 0.01))
    assert flows.battery_kw[0] == pytest.approx(0.6)


def test_what_a_command_would_have_broken_is_told() -> None:
    flows, _ = run(6.0, 1, 13.5, export_limit_kw=np.full(SITES, 2.0))
    assert flows.battery_kw[0] == flows.grid_kw[0] == pytest.approx(2.0)
    assert flows.over_export_kw[0] == pytest.approx(4.0)


def test_one_native_law_gives_self_consumption_and_peak_shaving() -> None:
    net_kw = np.array([3.0, -2.0, 90.0])
    assert native_kw(params(), net_kw, peak_hours=False) == pytest.approx([3.0, -2.0, 90.0])
    shaver = params(shave_kw=np.full(SITES, 60.0), fill_kw=np.full(SITES, 20.0))
    assert native_kw(shaver, net_kw, peak_hours=False) == pytest.approx([-17.0, -22.0, 30.0])
    assert native_kw(shaver, net_kw, peak_hours=True) == pytest.approx([0.0, -2.0, 30.0])


def world_and_sunspec_row(**faults: FaultKind) -> tuple[World, int]:
    fleet = small_fleet()
    at = next(row for row, virtual in enumerate(fleet.sites) if virtual.site.adapter == "sunspec")
    span = {"start_at": fleet.start_at, "end_at": fleet.start_at + timedelta(days=1)}
    return World(fleet, faults=[Fault(site_id=fleet.site_ids[at], kind=kind, **span) for kind in faults.values()]), at


def test_a_setpoint_ends_by_the_devices_own_timer() -> None:
    world, at = world_and_sunspec_row()
    start_at, minute = world.now, timedelta(minutes=1)
    order = Setpoint(enabled=True, power_w=-1500, revert_s=600)
    world.set_setpoint(at, order, start_at, restart_timer=True)
    world.advance_to(start_at + 9 * minute)
    assert world.view(at).battery_kw == pytest.approx(-1.5)
    assert world.setpoint(at).remaining_s(world.now) == 60
    world.advance_to(start_at + 10 * minute)
    assert not world.setpoint(at).enabled
    world.advance_to(start_at + 11 * minute)
    native = counterfactual(world.fleet, world.now)
    assert world.view(at).battery_kw != pytest.approx(-1.5)
    assert native.end_at == world.now


def test_a_setpoint_without_a_timer_stays() -> None:
    world, at = world_and_sunspec_row()
    world.set_setpoint(at, Setpoint(enabled=True, power_w=-100), world.now, restart_timer=True)
    world.advance_to(world.now + timedelta(hours=6))
    assert world.setpoint(at).enabled


def test_a_command_below_the_owners_reserve_is_obeyed_and_seen() -> None:
    world, at = world_and_sunspec_row()
    world.set_setpoint(at, Setpoint(enabled=True, power_w=150_000), world.now, restart_timer=True)
    world.advance_to(world.now + timedelta(hours=8))
    assert world.soc[at] < world.reserve_soc[at]
    assert world.truth().reserve_breaches[at] >= 1
    assert counterfactual(world.fleet, world.now).reserve_breaches.sum() == 0


def test_an_island_lives_on_its_battery_and_takes_nothing_from_the_grid() -> None:
    world, at = world_and_sunspec_row(one=FaultKind.ISLANDED)
    world.advance_to(world.now + timedelta(minutes=30))
    view = world.view(at)
    assert view.islanded
    assert view.grid_kw == 0
    assert view.battery_kw == pytest.approx(view.load_kw - view.pv_kw)


def test_a_frozen_device_repeats_itself_while_the_world_goes_on() -> None:
    world, at = world_and_sunspec_row(one=FaultKind.FROZEN)
    world.advance_to(world.now + timedelta(minutes=10))
    before = world.view(at)
    world.advance_to(world.now + timedelta(minutes=10))
    after = world.view(at)
    assert (after.grid_kw, after.soc) == (before.grid_kw, before.soc)
    assert after.at > before.at
    assert world.true_state(at)["grid_kw"] != after.grid_kw


def test_no_two_minutes_read_alike() -> None:
    world, at = world_and_sunspec_row()
    seen = set()
    for minute in range(1, 61):
        world.advance_to(world.fleet.start_at + timedelta(minutes=minute))
        seen.add(round(world.view(at).grid_kw, 3))
    assert len(seen) == 60


def test_autonomous_mode_sells_only_where_selling_beats_every_other_hour() -> None:
    day = date(2026, 8, 19)
    usual = trade_table(time_of_use_tariff(0.52, 0.31, 0.08, (16, 21)), day)
    assert usual.shape == (MINUTES_A_WEEK,)
    wednesday_5pm, wednesday_noon = (2 * 24 + 17) * 60, (2 * 24 + 12) * 60
    assert usual[wednesday_5pm] == TO_LOAD
    assert usual[wednesday_noon] == HOLD
    event = time_of_use_tariff(0.52, 0.31, 0.08, (16, 21))
    event["sell_tariff"]["energy_charges"]["Summer"]["rates"]["ON_PEAK"] = 0.12
    assert (trade_table(event, day) != EXPORT).all()
    event["sell_tariff"]["energy_charges"]["Summer"]["rates"]["ON_PEAK"] = 5.0
    table = trade_table(event, day)
    assert table[wednesday_5pm] == EXPORT
    assert table[wednesday_noon] == HOLD


def test_a_powerwall_stops_at_its_reserve_and_sells_only_if_allowed() -> None:
    fleet = small_fleet()
    at = next(
        row
        for row, virtual in enumerate(fleet.sites)
        if virtual.site.adapter == "tesla" and virtual.site.export_limit_kw > 12 and virtual.recipe.pv_kw > 0
    )
    world = World(fleet)
    world.advance_to(datetime(2026, 8, 19, 23, 0, tzinfo=UTC))
    event = time_of_use_tariff(0.52, 0.31, 5.0, (16, 21))
    event["sell_tariff"]["energy_charges"]["Summer"]["rates"]["OFF_PEAK"] = 0.0
    settings_ = world.tesla(at).changed(default_real_mode="autonomous", tariff_content_v2=event)
    world.set_tesla(at, settings_, world.now, effect_delay_s=60)
    world.advance_to(world.now + timedelta(minutes=5))
    held = world.view(at)
    assert held.battery_kw <= max(0.0, held.load_kw - held.pv_kw) + 0.01
    allowed = settings_.changed(customer_preferred_export_rule="battery_ok")
    world.set_tesla(at, allowed, world.now, effect_delay_s=60)
    world.advance_to(world.now + timedelta(minutes=5))
    assert world.view(at).battery_kw == pytest.approx(fleet.sites[at].site.battery.max_discharge_kw)
    world.advance_to(world.now + timedelta(hours=4, minutes=30))
    assert world.soc[at] == pytest.approx(world.reserve_soc[at], abs=0.01)
    assert world.truth().reserve_breaches[at] == 0
