"""How old a reading may be that an event is promised on, and how old one that a battery is commanded on."""

from datetime import timedelta

import pytest

from tests.builders import a_commitment
from tests.builders_telemetry import a_reading, enrolled_sites
from tests.clock import NOON, FixedClock
from vpp.bootstrap import decision
from vpp.commitments import Decision
from vpp.config import Settings
from vpp.dispatch import covers
from vpp.domain.site import Site
from vpp.store.engine import Store
from vpp.telemetry import IngestConsumer, publish

IDLE_S = 1800.0
BETWEEN_ROUNDS = timedelta(minutes=25)


@pytest.fixture
async def sites(store: Store) -> tuple[Site, ...]:
    """Three sites, each read once at noon."""
    tariff = {"name": "flat", "energy": [{"name": "all", "price_per_kwh": "0.30"}]}
    found = await enrolled_sites(store, 3, tariff=tariff, peaks_so_far_kw={})
    await publish(store, [a_reading(site.device_id) for site in found])
    await IngestConsumer(store).drain()
    return found


async def _decision(store: Store, clock: FixedClock, **options: float) -> Decision:
    async with store.begin() as connection:
        return await covers(connection, a_commitment(2.0), clock=clock, mode_adapters=frozenset(), **options)


async def test_an_event_told_late_between_two_idle_rounds_is_promised(
    store: Store, clock: FixedClock, sites: tuple[Site, ...]
) -> None:
    clock.advance(BETWEEN_ROUNDS)
    answer = await _decision(store, clock, max_age_s=1.5 * IDLE_S)
    assert answer.opt_in, answer.reason


async def test_a_reading_from_before_the_last_idle_round_promises_nothing(
    store: Store, clock: FixedClock, sites: tuple[Site, ...]
) -> None:
    clock.advance(timedelta(seconds=1.5 * IDLE_S + 1))
    answer = await _decision(store, clock, max_age_s=1.5 * IDLE_S)
    assert not answer.opt_in
    assert "usable reading" in answer.reason


async def test_once_an_event_has_begun_only_what_may_be_commanded_on_counts(
    store: Store, clock: FixedClock, sites: tuple[Site, ...]
) -> None:
    start_at = a_commitment().window.start_at
    await publish(store, [a_reading(site.device_id, start_at - BETWEEN_ROUNDS) for site in sites])
    await IngestConsumer(store).drain()
    clock.move_to(start_at - timedelta(seconds=1))
    assert (await _decision(store, clock, max_age_s=1.5 * IDLE_S)).opt_in
    clock.move_to(start_at)
    assert not (await _decision(store, clock, max_age_s=1.5 * IDLE_S)).opt_in


async def test_the_gateway_decides_by_the_interval_devices_are_read_in(
    store: Store, clock: FixedClock, sites: tuple[Site, ...]
) -> None:
    clock.move_to(NOON + BETWEEN_ROUNDS)
    for idle_s, expected in ((IDLE_S, True), (600.0, False)):
        decide = decision(Settings(idle_read_interval_s=idle_s), clock)
        async with store.begin() as connection:
            assert (await decide(connection, a_commitment(2.0))).opt_in is expected
