"""The snapshot tells good, missing, stale, frozen and out-of-range sites apart; the roll-up writes intervals."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from tests.builders_telemetry import a_reading, enrolled_sites
from tests.clock import NOON, FixedClock
from vpp.domain.device import Reading
from vpp.domain.errors import Unreachable
from vpp.domain.fleet import Quality
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.store.engine import Store
from vpp.telemetry import (
    IngestConsumer,
    MeterSeries,
    collect,
    hours_since_full_charge,
    import_meter_history,
    publish,
    read_snapshot,
    roll_up,
)
from vpp.telemetry.calibration import LAST_FULL

MINUTE = timedelta(minutes=1)


async def stored(store: Store, readings: list[Reading]) -> None:
    await publish(store, readings)
    await IngestConsumer(store).drain()


async def quality_of(store: Store, *changes: Mapping[str, Any], at: datetime = NOON) -> Quality:
    """The quality of one site after these readings; each says `at` in minutes before noon."""
    sites = await enrolled_sites(store, 1)
    await stored(
        store,
        [
            a_reading(sites[0].device_id, NOON - c["at"] * MINUTE, **{k: v for k, v in c.items() if k != "at"})
            for c in changes
        ],
    )
    async with store.begin() as connection:
        state = await read_snapshot(connection, sites, at=at)
    return Quality(state.quality[0])


def moving(battery_kw: float = 3.0, minutes: tuple[float, ...] = (0, 5, 10)) -> list[dict[str, Any]]:
    return [{"at": m, "battery_kw": battery_kw, "grid_kw": 2.0, "soc": 0.5 + m / 1000} for m in minutes]


def still(minutes: tuple[float, ...] = (0, 5, 10), **values: Any) -> list[dict[str, Any]]:
    return [{"at": m, "battery_kw": 3.0, "grid_kw": 2.0, "soc": 0.5, **values} for m in minutes]


@pytest.mark.parametrize(
    ("expected", "readings"),
    [
        (Quality.GOOD, moving()),
        (Quality.GOOD, moving(5.9)),
        (Quality.GOOD, still((0, 5, 10), battery_kw=0.0, grid_kw=0.0)),
        (Quality.GOOD, still((0, 5, 10), battery_kw=0.0, grid_kw=-1.25)),
        (Quality.GOOD, still((0, 0.01, 0.02))),
        (Quality.GOOD, still((0, 5), discharged_kwh_register=7.0)),
        (Quality.MISSING, []),
        (Quality.MISSING, [{"at": 0, "soc": None}]),
        (Quality.MISSING, [{"at": 0, "battery_kw": None}]),
        (Quality.MISSING, [{"at": -1}]),
        (Quality.STALE, [{"at": 16}]),
        (Quality.STALE, [{"at": 60 * 24 * 3}]),
        (Quality.FROZEN, still()),
        (Quality.FROZEN, still((0, 5, 10), discharged_kwh_register=7.0, charged_kwh_register=9.0)),
        (Quality.FROZEN, still((0, 10, 20, 30), battery_kw=0.0, grid_kw=-1.25)),
        (Quality.FROZEN, [{"at": 20}, {"at": 20, "received_at": NOON - MINUTE}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "soc": 80.0}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "soc": -0.01}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "battery_kw": 6.2}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "battery_kw": -6.2}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "grid_kw": 21.5}]),
        (Quality.OUT_OF_RANGE, [{"at": 0, "grid_kw": -41.5}]),
    ],
)
async def test_each_quality_is_told_apart(store: Store, expected: Quality, readings: list[dict[str, Any]]) -> None:
    assert await quality_of(store, *readings) == expected


async def test_a_frozen_clock_is_not_known_before_it_was_seen(store: Store) -> None:
    repeated = [{"at": 20}, {"at": 20, "received_at": NOON + MINUTE}]
    assert await quality_of(store, *repeated) == Quality.STALE


async def test_a_snapshot_is_aligned_and_speaks_of_its_instant(store: Store) -> None:
    sites = await enrolled_sites(store, 3)
    one, two, three = (site.device_id for site in sites)
    await stored(
        store,
        [
            a_reading(one, NOON - MINUTE, battery_kw=2.0, grid_kw=1.0, soc=0.6),
            a_reading(one, NOON + MINUTE, battery_kw=4.0, grid_kw=3.0, soc=0.5),
            a_reading(three, NOON, battery_kw=-1.0, grid_kw=-3.0, soc=1.0, islanded=True),
        ],
    )
    backwards = (sites[2], sites[1], sites[0])
    async with store.begin() as connection:
        state = await read_snapshot(connection, backwards, at=NOON)
        later = await read_snapshot(connection, sites, at=NOON + MINUTE)
    assert two
    assert state.site_ids == ("site-003", "site-002", "site-001")
    assert state.battery_kw.tolist() == [-1.0, 0.0, 2.0]
    assert state.soc.tolist() == [1.0, 0.0, 0.6]
    assert state.net_load_kw.tolist() == [2.0, 0.0, 1.0]
    assert state.islanded.tolist() == [True, False, False]
    assert state.available.tolist() == [False, False, True]
    assert later.battery_kw[0] == 4.0


async def test_an_empty_fleet_has_an_empty_snapshot(store: Store) -> None:
    async with store.begin() as connection:
        assert (await read_snapshot(connection, (), at=NOON)).site_ids == ()


async def intervals(store: Store) -> dict[tuple[str, str, float], tuple[float, str]]:
    """Energy and quality by site, channel and minutes after noon."""
    async with store.begin() as connection:
        rows = (await connection.execute(text("select * from metered_interval"))).all()
    return {(r.site_id, r.channel, (r.start_at - NOON) / MINUTE): (round(r.energy_kwh, 6), r.quality) for r in rows}


async def test_the_roll_up_writes_both_channels_and_repeats_without_harm(store: Store) -> None:
    sites = await enrolled_sites(store, 3)
    with_register, without, silent = sites
    readings = [
        reading
        for n in range(7)
        for reading in (
            a_reading(with_register.device_id, NOON + n * 5 * MINUTE, battery_kw=0.0, grid_kw=-2.0,
                      discharged_kwh_register=n * 0.4, charged_kwh_register=1.0),
            a_reading(without.device_id, NOON + n * 5 * MINUTE, battery_kw=4.0, grid_kw=3.0),
        )
    ]  # fmt: skip
    await stored(store, readings)
    half_hour = Interval(NOON, NOON + 30 * MINUTE)
    for _ in range(2):
        async with store.begin() as connection:
            assert await roll_up(connection, sites, half_hour, 15 * MINUTE) == 8
    assert await intervals(store) == {
        ("site-001", "battery", 0.0): (1.2, "measured"),
        ("site-001", "battery", 15.0): (1.2, "measured"),
        ("site-001", "grid", 0.0): (0.7, "measured"),
        ("site-001", "grid", 15.0): (0.7, "measured"),
        ("site-002", "battery", 0.0): (1.0, "measured"),
        ("site-002", "battery", 15.0): (1.0, "measured"),
        ("site-002", "grid", 0.0): (0.75, "measured"),
        ("site-002", "grid", 15.0): (0.75, "measured"),
    }
    assert silent.id == "site-003"


async def test_an_estimate_gives_way_to_a_measurement_and_not_the_other_way(store: Store) -> None:
    (site,) = await enrolled_sites(store, 1)
    quarter = Interval(NOON + 15 * MINUTE, NOON + 30 * MINUTE)
    gappy = [a_reading(site.device_id, NOON + m * MINUTE, grid_kw=-2.0) for m in (5, 10, 15, 20, 25, 36, 41, 46)]
    meter = MeterSeries(site_id=site.id, start_at=quarter.start_at, step=15 * MINUTE, energy_kwh=np.array([-0.6]))
    await stored(store, gappy)
    async with store.begin() as connection:
        await roll_up(connection, [site], quarter, 15 * MINUTE)
    assert (await intervals(store))["site-001", "grid", 15.0] == (-0.5, "estimated")
    async with store.begin() as connection:
        await import_meter_history(connection, [meter])
        await roll_up(connection, [site], quarter, 15 * MINUTE)
    assert (await intervals(store))["site-001", "grid", 15.0] == (-0.6, "measured")


async def test_meter_history_is_imported_replaced_and_leaves_missing_out(store: Store) -> None:
    sites = await enrolled_sites(store, 2)
    first = [
        MeterSeries(site_id=s.id, start_at=NOON, step=15 * MINUTE, energy_kwh=np.array([-1.0, np.nan, -3.0]))
        for s in sites
    ]
    again = [MeterSeries(site_id="site-001", start_at=NOON, step=15 * MINUTE, energy_kwh=np.array([-7.0, -8.0]))]
    async with store.begin() as connection:
        assert await import_meter_history(connection, first) == 4
        assert await import_meter_history(connection, again) == 2
        assert await import_meter_history(connection, []) == 0
    found = await intervals(store)
    assert {key: value[0] for key, value in found.items() if key[0] == "site-001"} == {
        ("site-001", "grid", 0.0): -7.0, ("site-001", "grid", 15.0): -8.0, ("site-001", "grid", 30.0): -3.0,
    }  # fmt: skip
    assert found["site-002", "grid", 30.0] == (-3.0, "measured")


async def test_energy_is_not_counted_twice_where_borders_differ(store: Store) -> None:
    (site,) = await enrolled_sites(store, 1)
    hour = Interval(NOON, NOON + 60 * MINUTE)
    await stored(store, [a_reading(site.device_id, NOON + n * 5 * MINUTE, grid_kw=-2.0) for n in range(13)])
    meter = MeterSeries(site_id=site.id, start_at=NOON, step=60 * MINUTE, energy_kwh=np.array([-1.9]))
    async with store.begin() as connection:
        assert await roll_up(connection, [site], hour, 15 * MINUTE) == 8
        await import_meter_history(connection, [meter])
    grid = {key: value for key, value in (await intervals(store)).items() if key[1] == "grid"}
    assert grid == {(site.id, "grid", 0.0): (-1.9, "measured")}
    async with store.begin() as connection:
        assert await roll_up(connection, [site], hour, 15 * MINUTE) == 4
    assert grid == {key: value for key, value in (await intervals(store)).items() if key[1] == "grid"}


class _Devices:
    """An adapter of a small world: even sites answer, the third is away, the fifth talks nonsense."""

    name = "sunspec"

    async def read(self, site: Site) -> Reading:
        number = int(site.id[-3:])
        if number == 3:
            raise Unreachable("asleep")
        return a_reading(site.device_id, NOON, soc=float("nan") if number == 5 else 0.5)


async def test_collecting_stores_what_answers_and_names_what_does_not(store: Store) -> None:
    sites = await enrolled_sites(store, 5)
    strange = [replace(sites[0], adapter="acme"), *sites[1:]]
    outcome = await collect(store, {"sunspec": _Devices()}, strange, clock=FixedClock())  # type: ignore[dict-item]
    assert [r.device_id for r in outcome.readings] == [sites[1].device_id, sites[3].device_id]
    assert {site_id: type(why).__name__ for site_id, why in outcome.failures.items()} == {
        "site-001": "Unsupported",
        "site-003": "Unreachable",
        "site-005": "ProtocolError",
    }
    assert outcome.stored == 2


async def test_the_last_full_charge_is_the_latest_one_known_within_the_look_back(store: Store) -> None:
    sites = await enrolled_sites(store, 5)
    hour = timedelta(hours=1)
    said = [
        (0, 30, 1.0), (0, 5, 0.991), (0, 2, 0.98),  # twice full
        (1, 300, 1.0), (1, 1, 0.5),  # full too long ago
        (2, 3, 99.0), (2, 2, None), (2, 1, 0.9),  # nonsense is no full charge
        (3, -1, 1.0),  # not yet known
    ]  # fmt: skip
    await stored(store, [a_reading(sites[n].device_id, NOON - h * hour, soc=soc) for n, h, soc in said])
    async with store.begin() as connection:
        found = await hours_since_full_charge(connection, sites[::-1], at=NOON, look_back=timedelta(days=8))
    np.testing.assert_allclose(found, [np.nan, np.nan, np.nan, np.nan, 5.0])


async def test_the_last_full_charge_is_looked_up_in_the_index_of_full_charges(store: Store) -> None:
    sites = await enrolled_sites(store, 2)
    await stored(store, [a_reading(site.device_id, NOON - n * MINUTE, soc=0.5) for site in sites for n in range(900)])
    asked = {"device_ids": [site.device_id for site in sites], "at": NOON, "since": NOON - timedelta(days=8)}
    async with store.begin() as connection:
        await connection.execute(text("analyze reading"))
        explained = "\n".join((await connection.execute(text(f"explain {LAST_FULL.text}"), asked)).scalars())
    # what the index already says is not asked of each row again
    assert "Index" in explained
    assert "0.99" not in explained
