"""The forecast of net load against metered history in a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.builders import TIME_ZONE, a_state, some_sites
from tests.builders_forecast import meter, site_rows
from tests.clock import NOON
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Quality
from vpp.domain.time import Interval
from vpp.forecast import forecast_net_load_kw
from vpp.forecast.history import similar_days
from vpp.store.engine import Store

QUARTER = timedelta(minutes=15)
STEPS = tuple(Interval(NOON, NOON + timedelta(hours=4)).steps(QUARTER))


def days_before(at: datetime, count: int, step: timedelta = QUARTER) -> list[datetime]:
    """Starts of all intervals of the days before, up to `at`."""
    return [at - step * k for k in range(1, int(count * timedelta(days=1) / step) + 1)]


def local_hour(at: datetime, zone: str = TIME_ZONE) -> float:
    local = at.astimezone(ZoneInfo(zone))
    return local.hour + local.minute / 60


async def test_follows_similar_days_at_the_same_local_time(store: Store) -> None:
    sites = some_sites(2)
    await site_rows(store, sites)
    await meter(store, sites, days_before(NOON, 15), lambda k, at: (k + 1) * local_hour(at), battery_kw=3.0)
    state = a_state(sites, grid_kw=[-local_hour(NOON), -2 * local_hour(NOON)])
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, state, STEPS)
    middle = np.array([local_hour(step.start_at) + 0.125 for step in STEPS])
    # hourly means of a ramp sit 1/8 h lower than the ramp, because quarter hours carry their start's value
    np.testing.assert_allclose(expected[0], middle, atol=0.2)
    np.testing.assert_allclose(expected[1], 2 * middle, atol=0.4)


@pytest.mark.parametrize("days", [3, 10, 150])
async def test_an_event_told_long_before_is_forecast_from_its_local_time_of_day(store: Store, days: int) -> None:
    sites = some_sites(2)
    await site_rows(store, sites[:1])
    await meter(store, sites[:1], days_before(NOON, 28), lambda k, at: local_hour(at))
    ahead = timedelta(days=days)
    steps = tuple(Interval(NOON + ahead, NOON + ahead + timedelta(hours=4)).steps(QUARTER))
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, a_state(sites, grid_kw=-30.0), steps)
    middle = [local_hour(step.start_at) + 0.125 for step in steps]
    np.testing.assert_allclose(expected[0], middle, atol=1.2 if days == 150 else 0.2)  # clocks change in between
    np.testing.assert_allclose(expected[1], 30.0)


async def test_the_latest_reading_counts_now_and_fades_out(store: Store) -> None:
    sites = some_sites(1)
    await site_rows(store, sites)
    await meter(store, sites, days_before(NOON, 15), lambda k, at: 2.0)
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, a_state(sites, grid_kw=-5.0), STEPS)
    assert expected[0, 0] == pytest.approx(5.0, abs=0.3)
    assert (np.diff(expected[0]) < 0).all()
    assert 2.0 < expected[0, -1] < 2.3


async def test_a_site_without_history_keeps_its_latest_reading_and_nothing_is_nan(store: Store) -> None:
    sites = some_sites(4)
    await site_rows(store, sites)
    await meter(store, sites[:2], days_before(NOON, 15), lambda k, at: 2.0)
    quality = [Quality.GOOD, Quality.MISSING, Quality.GOOD, Quality.STALE]
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, a_state(sites, grid_kw=-3.5, quality=quality), STEPS)
    np.testing.assert_allclose(expected[1], 2.0)
    np.testing.assert_allclose(expected[2], 3.5)
    np.testing.assert_allclose(expected[3], 0.0)
    assert np.isfinite(expected).all()


async def test_weekends_say_nothing_about_a_weekday(store: Store) -> None:
    sites = some_sites(1)
    await site_rows(store, sites)

    def load(_: int, at: datetime) -> float:
        return 50.0 if at.astimezone(ZoneInfo(TIME_ZONE)).isoweekday() >= 6 else 2.0

    await meter(store, sites, days_before(NOON, 15), load)
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, a_state(sites, grid_kw=-2.0), STEPS)
    np.testing.assert_allclose(expected, 2.0)
    assert all(day.isoweekday() >= 6 for day in similar_days(datetime(2026, 8, 22, tzinfo=UTC).date()))


async def test_order_of_sites_and_gaps_change_nothing(store: Store) -> None:
    sites = some_sites(3)
    await site_rows(store, sites)
    gappy = [at for at in days_before(NOON, 15) if local_hour(at) < 13 or local_hour(at) >= 15]
    await meter(store, sites, gappy, lambda k, at: k + 1.0)
    state = a_state(sites, grid_kw=[-1.0, -2.0, -3.0])
    async with store.begin() as connection:
        forward = await forecast_net_load_kw(connection, sites, state, STEPS)
        backward = await forecast_net_load_kw(connection, sites[::-1], state, STEPS)
    np.testing.assert_allclose(forward, np.array([[1.0], [2.0], [3.0]]) * np.ones(len(STEPS)))
    np.testing.assert_array_equal(backward, forward[::-1])


async def test_the_local_clock_decides_when_summer_time_began_in_between(store: Store) -> None:
    # clocks went forward on 2026-03-08: the days before and after differ by an hour of UTC
    now = datetime(2026, 3, 11, 12, tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
    sites = some_sites(1)
    await site_rows(store, sites)
    await meter(store, sites, days_before(now, 15), lambda k, at: 9.0 if 14 <= local_hour(at) < 15 else 1.0)
    steps = tuple(Interval(now, now + timedelta(hours=4)).steps(timedelta(hours=1)))
    async with store.begin() as connection:
        expected = await forecast_net_load_kw(connection, sites, a_state(sites, at=now), steps)
    np.testing.assert_allclose(expected[0], [1.0, 1.0, 9.0, 1.0], atol=1e-9)


async def test_a_state_without_one_of_the_sites_is_refused(store: Store) -> None:
    sites = some_sites(2)
    async with store.begin() as connection:
        with pytest.raises(InvalidRequest, match="s0002"):
            await forecast_net_load_kw(connection, sites, a_state(sites[:1]), STEPS)
