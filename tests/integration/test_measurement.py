"""Measuring events on real PostgreSQL: sub-meter and baseline, with gaps, odd rows and odd days."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from market.elrp import Elrp
from tests.builders import TENANT
from tests.builders_settlement import HOUR, ZONE, a_fleet, an_accepted_event, local, meter
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotReady
from vpp.domain.time import Interval
from vpp.measurement import baselines_kwh, measure_event
from vpp.store.engine import Store
from vpp.store.tables.settlement import baseline, delivery, site_delivery

WEDNESDAY = date(2026, 8, 19)
BASELINE = "caiso_10_in_10"


async def history(connection: AsyncConnection, sites: list[str], day: date = WEDNESDAY, days: int = 46) -> None:
    """Each site imports 2 kWh every hour, up to and including `day`."""
    first = local(day - timedelta(days=days), 0)
    hours = round((local(day, 24) + 6 * HOUR - first) / HOUR)
    for site in sites:
        await meter(connection, site, "grid", first, [-2.0] * hours)


async def results(connection: AsyncConnection, method: str) -> list[Any]:
    query = select(delivery).where(delivery.c.method == method).order_by(delivery.c.start_at)
    return list((await connection.execute(query)).all())


async def codes(connection: AsyncConnection, method: str) -> list[str]:
    found = await connection.execute(select(baseline.c.findings).where(baseline.c.method == method))
    return [finding["code"] for finding in found.scalar_one()]


async def measure(connection: AsyncConnection, commitment: Commitment, program: Elrp | None = None) -> Any:
    return await measure_event(connection, commitment, program or Elrp(), tenant_id=TENANT)


async def a_day(connection: AsyncConnection, **options: Any) -> tuple[list[str], Commitment]:
    """Two sites with history and an event from 17 to 19 h in which each discharges 3 kW."""
    sites = await a_fleet(connection, 2, options=options)
    await history(connection, sites)
    for site in sites:
        await meter(connection, site, "battery", local(WEDNESDAY, 17), [3.0, 3.0])
        await meter(connection, site, "grid", local(WEDNESDAY, 17), [1.0, 1.0])
    return sites, await an_accepted_event(connection, local(WEDNESDAY, 17), 6.0, 5.0)


async def test_both_methods_are_written_and_the_programmes_own_is_returned(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [Decimal("6.000")] * 2
        assert [part.committed_kwh for part in found.intervals] == [Decimal(6), Decimal(5)]
        by_baseline = await results(connection, BASELINE)
        assert [(r.baseline_kwh, r.metered_kwh, r.delivered_kwh) for r in by_baseline] == [(4, -2, 6), (4, -2, 6)]
        days = (await connection.execute(select(baseline.c.days).where(baseline.c.method == BASELINE))).scalar_one()
        assert days[0] == "2026-08-05"
        assert len(days) == 10
        credited = (await connection.execute(select(site_delivery).order_by(site_delivery.c.site_id))).all()
        assert [(row.site_id, row.metered_kwh, row.credited_kwh) for row in credited] == [(s, 6, 6) for s in sites]


async def test_measuring_again_gives_the_same_rows(store: Store) -> None:
    async with store.begin() as connection:
        _, commitment = await a_day(connection)
        tables = (delivery, baseline, site_delivery)
        await measure(connection, commitment)
        first = [sorted(map(str, (await connection.execute(select(table))).all())) for table in tables]
        await measure(connection, commitment)
        assert first == [sorted(map(str, (await connection.execute(select(table))).all())) for table in tables]


async def test_a_programme_may_measure_by_baseline(store: Store) -> None:
    async with store.begin() as connection:
        _, commitment = await a_day(connection)
        for method in (BASELINE, "caiso_10_in_10_unadjusted"):
            found = await measure(connection, commitment, Elrp(measurement=method))
            assert [part.delivered_kwh for part in found.intervals] == [Decimal(6)] * 2
        with pytest.raises(NotReady, match="magic"):
            await measure(connection, commitment, Elrp(measurement="magic"))


async def test_rows_of_any_length_are_split_at_the_exact_instants(store: Store) -> None:
    async with store.begin() as connection:
        sites = await a_fleet(connection, 1)
        # From 16:50 on, 20 minutes each: the first row is half inside the event.
        await meter(connection, sites[0], "battery", local(WEDNESDAY, 16, 50), [1.0] * 8, step=timedelta(minutes=20))
        commitment = await an_accepted_event(connection, local(WEDNESDAY, 17), 3.0, 3.0)
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [Decimal("3.000")] * 2


async def test_a_start_between_hours_gives_pieces_of_the_local_clock_hours(store: Store) -> None:
    async with store.begin() as connection:
        sites, _ = await a_day(connection)
        for site in sites:
            await meter(connection, site, "grid", local(WEDNESDAY, 17), [1.0] * 3)
        late = await an_accepted_event(connection, local(WEDNESDAY, 17, 15), 4.0, 8.0, external_id="late")
        await measure(connection, late)
        rows = await results(connection, BASELINE)
        assert [row.start_at.astimezone(ZONE).strftime("%H:%M") for row in rows] == ["17:15", "18:00", "19:00"]
        assert [row.committed_kwh for row in rows] == [Decimal(3), Decimal(7), Decimal(2)]
        assert [row.baseline_kwh for row in rows] == [Decimal(3), Decimal(4), Decimal(1)]


async def test_charging_during_the_event_counts_against_a_site_but_not_below_zero(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        await meter(connection, sites[0], "battery", local(WEDNESDAY, 17), [3.0, -5.0])
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [Decimal(6), Decimal(-2)]
        row = (await connection.execute(select(site_delivery).where(site_delivery.c.site_id == sites[0]))).one()
        assert (row.metered_kwh, row.credited_kwh) == (Decimal(-2), Decimal(0))
        assert "net_charging" in await codes(connection, "submeter")


async def test_netting_by_interval_credits_each_interval_by_itself(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection, netting="interval")
        await meter(connection, sites[0], "battery", local(WEDNESDAY, 17), [3.0, -5.0])
        await measure(connection, commitment)
        row = (await connection.execute(select(site_delivery).where(site_delivery.c.site_id == sites[0]))).one()
        assert (row.metered_kwh, row.credited_kwh) == (Decimal(-2), Decimal(3))


async def test_a_site_whose_meters_were_lost_counts_on_neither_side_and_is_named(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        lost = f"site_id = '{sites[0]}' and start_at >= '{local(WEDNESDAY, 18).isoformat()}'"
        await connection.exec_driver_sql(f"delete from metered_interval where {lost}")
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [Decimal(6), Decimal(3)]
        assert [row.delivered_kwh for row in await results(connection, BASELINE)] == [Decimal(3), Decimal(3)]
        assert "submeter_missing" in await codes(connection, "submeter")
        assert "event_not_metered" in await codes(connection, BASELINE)
        row = (await connection.execute(select(site_delivery).where(site_delivery.c.site_id == sites[0]))).one()
        assert row.detail["cover"] == 0.5
        assert [part["metered_kwh"] for part in row.detail["intervals"]] == ["3.000", None]


async def test_with_no_meter_at_all_delivery_is_unknown_and_not_zero(store: Store) -> None:
    """Holds conventions, rule 4."""
    async with store.begin() as connection:
        await a_fleet(connection, 2)
        commitment = await an_accepted_event(connection, local(WEDNESDAY, 17), 6.0)
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [None]
        assert [row.baseline_kwh for row in await results(connection, BASELINE)] == [None]


async def test_two_rows_over_one_stretch_are_refused(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        await meter(connection, sites[0], "battery", local(WEDNESDAY, 17, 30), [1.5], step=HOUR / 2)
        found = await measure(connection, commitment)
        assert [part.delivered_kwh for part in found.intervals] == [Decimal(3), Decimal(6)]
        assert "submeter_missing" in await codes(connection, "submeter")


async def test_days_of_earlier_events_of_any_programme_of_the_sites_are_left_out(store: Store) -> None:
    async with store.begin() as connection:
        _, commitment = await a_day(connection)
        for number, (day, state) in enumerate(
            ((18, CommitmentState.SETTLED), (17, CommitmentState.CANCELLED), (14, CommitmentState.MEASURING))
        ):
            at = local(WEDNESDAY.replace(day=day), 17)
            await an_accepted_event(connection, at, 5.0, external_id=f"earlier-{number}", state=state)
        await measure(connection, commitment)
        days = (await connection.execute(select(baseline.c.days).where(baseline.c.method == BASELINE))).scalar_one()
        assert {"2026-08-18", "2026-08-14"}.isdisjoint(days)
        assert "2026-08-17" in days


async def test_what_spoils_the_adjustment_is_said(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        await meter(connection, sites[0], "battery", local(WEDNESDAY, 13), [-2.5])
        at = local(WEDNESDAY, 12)
        await an_accepted_event(connection, at, 5.0, 5.0, external_id="noon", state=CommitmentState.SETTLED)
        await measure(connection, commitment)
        assert {"charged_in_window", "window_in_event"} <= set(await codes(connection, BASELINE))


async def test_an_exporting_resource_is_measured_only_where_the_terms_name_a_substitute(store: Store) -> None:
    async with store.begin() as connection:
        sites, commitment = await a_day(connection)
        for back in range(46):
            day = WEDNESDAY - timedelta(days=back)
            for site in sites:
                await meter(connection, site, "grid", local(day, 13), [4.0] * 3)
        await measure(connection, commitment)
        assert [row.delivered_kwh for row in await results(connection, BASELINE)] == [None, None]
        assert "not_measurable" in await codes(connection, BASELINE)
        await connection.exec_driver_sql('update program_terms set options = options || \'{"undefined_ratio": "one"}\'')
        await measure(connection, commitment)
        assert [row.delivered_kwh for row in await results(connection, BASELINE)] == [Decimal(6)] * 2


@pytest.mark.parametrize(
    ("start_at", "hours"),
    [
        (local(date(2026, 8, 21), 22), 4),  # Friday into Saturday
        (local(date(2026, 8, 19), 1), 2),  # the hours before lie in the day before
        (local(date(2026, 11, 1), 0), 4),  # 25-hour day
        (local(date(2026, 3, 8), 0), 4),  # 23-hour day
        (local(date(2028, 2, 29), 17), 2),  # leap day
        (local(date(2026, 3, 9), 17), 2),  # business days before lie on the other side of a change
    ],
    ids=["over midnight", "early morning", "clock back", "clock on", "leap day", "after the change"],
)
async def test_odd_days_keep_a_flat_loads_baseline_flat(store: Store, start_at: datetime, hours: int) -> None:
    async with store.begin() as connection:
        sites = await a_fleet(connection, 2)
        day = start_at.astimezone(ZONE).date()
        await history(connection, sites, day, days=50)
        commitment = await an_accepted_event(connection, start_at, *([4.0] * hours))
        await measure(connection, commitment)
        rows = await results(connection, BASELINE)
        assert len(rows) == hours
        assert [row.baseline_kwh for row in rows] == [Decimal(4)] * hours
        assert [row.delivered_kwh for row in rows] == [Decimal(0)] * hours


async def test_an_event_over_midnight_has_days_of_both_kinds(store: Store) -> None:
    async with store.begin() as connection:
        sites = await a_fleet(connection, 1)
        friday = date(2026, 8, 21)
        await history(connection, sites, friday)
        await meter(connection, sites[0], "grid", local(friday, 18), [-2.2] * 3)  # the 2nd to 4th hour before
        commitment = await an_accepted_event(connection, local(friday, 22), *([2.0] * 4))
        await measure(connection, commitment)
        days = (await connection.execute(select(baseline.c.days).where(baseline.c.method == BASELINE))).scalar_one()
        weekend = [day for day in days if date.fromisoformat(day).weekday() >= 5]
        assert (len(weekend), len(days)) == (4, 14)
        assert "two_trading_days" in await codes(connection, BASELINE)
        assert [row.baseline_kwh for row in await results(connection, BASELINE)] == [Decimal("2.2")] * 4


async def test_sites_of_other_tenants_never_count(store: Store) -> None:
    """Holds conventions, rule 14."""
    async with store.begin() as connection:
        _, commitment = await a_day(connection)
        await connection.exec_driver_sql("insert into tenant values ('other', 'other')")
        await connection.exec_driver_sql(
            "insert into program_terms select 'other', program, nominated_kw, currency, options from program_terms"
        )
        with pytest.raises(NotReady, match="no enrolled site"):
            await measure_event(connection, commitment, Elrp(), tenant_id="other")


async def test_a_baseline_is_told_before_the_event_is_metered_and_not_at_all_without_history(store: Store) -> None:
    async with store.begin() as connection:
        sites = await a_fleet(connection, 2)
        event = await an_accepted_event(connection, local(WEDNESDAY, 17), 6.0, 5.0)
        first, half = event.targets[0].interval, Interval(local(WEDNESDAY, 18), local(WEDNESDAY, 18) + HOUR / 2)
        asked = (first, half, event.window)
        with pytest.raises(NotReady, match="only 0 usable days in 45"):
            await baselines_kwh(connection, event, Elrp(), asked, tenant_id=TENANT)
        for site in sites:
            at = local(WEDNESDAY - timedelta(days=46), 0)
            await meter(connection, site, "grid", at, [-2.0] * round((local(WEDNESDAY, 17) - at) / HOUR))
        told = await baselines_kwh(connection, event, Elrp(), asked, tenant_id=TENANT)
        assert told == {first: pytest.approx(4.0), half: pytest.approx(2.0), event.window: pytest.approx(8.0)}
        assert (await connection.execute(select(baseline))).first() is None  # nothing is settled by it


async def test_no_baseline_is_told_of_a_part_of_the_fleet_or_of_many_days(store: Store) -> None:
    async with store.begin() as connection:
        sites = await a_fleet(connection, 12)
        event = await an_accepted_event(connection, local(WEDNESDAY, 17), 6.0)
        await history(connection, sites[1:])
        with pytest.raises(NotReady, match="sites without one complete day"):
            await baselines_kwh(connection, event, Elrp(), [event.window], tenant_id=TENANT)
        long = Interval(event.window.start_at, event.window.start_at + 72 * HOUR)
        with pytest.raises(NotReady, match="at most 2 days"):
            await baselines_kwh(connection, event, Elrp(), [long], tenant_id=TENANT)
