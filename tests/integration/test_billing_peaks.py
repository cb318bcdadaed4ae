"""What the meters saw during an event raises the billing period's peaks, and nothing else does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from tests.builders import a_commitment, some_targets
from tests.builders_enrolment import TARIFF
from tests.builders_settlement import terms
from tests.builders_telemetry import a_reading, enrolled_sites
from tests.clock import FixedClock
from vpp.bootstrap import programs
from vpp.commitments.records import create
from vpp.dispatch import Tools
from vpp.domain.commitment import CommitmentState
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites, raise_peaks, set_program_terms
from vpp.lifecycle import take_step
from vpp.store.engine import Store
from vpp.store.tables.telemetry import metered_interval
from vpp.telemetry import IngestConsumer, publish

QUARTER = timedelta(minutes=15)
DEMAND = [
    {"name": "summer", "price_per_kw": "18.50", "start_h": 16, "end_h": 21, "weekdays": [1, 2, 3, 4, 5]},
    {"name": "any", "price_per_kw": "5"},
]
CHANGES: Mapping[str, Any] = {
    "tariff": TARIFF | {"demand": DEMAND},
    "peaks_so_far_kw": {"summer": 4.0, "any": 6.0},
    "billing_start": "2026-08-01",
}


def local(day: int, hour: int, minute: int = 0, month: int = 8) -> datetime:
    """An instant by the clock in California, seven hours behind UTC in summer."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC) + timedelta(hours=7)


async def _peaks(store: Store, site: Site) -> dict[str, float]:
    async with store.begin() as connection:
        (found,) = await load_sites(connection, tenant_id=site.tenant_id)
    return found.peak_so_far_kw


async def _metered(store: Store, site: Site, at: datetime, kwh: float, **changes: Any) -> None:
    row = {"site_id": site.id, "channel": "grid", "start_at": at, "end_at": at + QUARTER, "energy_kwh": kwh}
    async with store.begin() as connection:
        await connection.execute(insert(metered_interval).values(row | {"quality": "measured"} | changes))
        await raise_peaks(connection, [site], Interval(local(1, 0, month=7), local(30, 0, month=9)))


async def test_the_highest_quarter_hour_of_a_charge_s_hours_becomes_its_peak(store: Store) -> None:
    (site,) = await enrolled_sites(store, 1, **CHANGES)
    await _metered(store, site, local(19, 17), -1.25)
    assert await _peaks(store, site) == {"summer": 5.0, "any": 6.0}
    await _metered(store, site, local(19, 20, 45), -2.0)
    assert await _peaks(store, site) == {"summer": 8.0, "any": 8.0}


@pytest.mark.parametrize(
    ("at", "kwh", "changes", "raised"),
    [
        (local(19, 21), -2.0, {}, {"any": 8.0}),
        (local(19, 15, 45), -2.0, {}, {"any": 8.0}),
        (local(22, 17), -2.0, {}, {"any": 8.0}),
        (local(19, 17), -0.5, {}, {}),
        (local(19, 17), 2.0, {}, {}),
        (local(19, 17), -2.0, {"quality": "estimated"}, {}),
        (local(19, 17), -2.0, {"channel": "battery"}, {}),
        (local(19, 17), -8.0, {"end_at": local(19, 18)}, {}),
        (local(31, 23, 45, month=7), -2.0, {}, {}),
        (local(1, 0), -2.0, {}, {"any": 8.0}),
        (local(31, 23, 45), -2.0, {}, {"any": 8.0}),
        (local(1, 17, month=9), -2.0, {}, {}),
    ],
    ids=[
        "after the hours", "before the hours", "on a Saturday", "a lower import", "an export", "an estimate",
        "the battery's meter", "an hour", "before the period", "its first quarter", "its last quarter", "the next one",
    ],
)  # fmt: skip
async def test_only_what_a_charge_counts_raises_its_peak(
    store: Store, at: datetime, kwh: float, changes: dict[str, Any], raised: dict[str, float]
) -> None:
    (site,) = await enrolled_sites(store, 1, **CHANGES)
    await _metered(store, site, at, kwh, **changes)
    assert await _peaks(store, site) == {"summer": 4.0, "any": 6.0} | raised


async def test_settling_an_event_raises_the_peaks_by_its_readings(store: Store) -> None:
    (site,) = await enrolled_sites(store, 1, **CHANGES)
    start_at = local(19, 16)
    clock = FixedClock(start_at + timedelta(hours=2))
    event = a_commitment(targets=some_targets(1.0, start_at=start_at), next_due_at=clock.now())
    minutes = range(0, 75, 5)
    await publish(store, [a_reading(site.device_id, start_at + timedelta(minutes=m), grid_kw=-7.0) for m in minutes])
    await IngestConsumer(store).drain()
    async with store.begin() as connection:
        await set_program_terms(connection, terms("elrp"), tenant_id=site.tenant_id)
        await create(connection, replace(event, state=CommitmentState.MEASURING), at=start_at)
    await take_step(Tools(store=store, clock=clock, adapters={}), programs(), event.id)
    peaks_kw = await _peaks(store, site)
    assert peaks_kw == {"summer": pytest.approx(7.0), "any": pytest.approx(7.0)}
