"""A month settled on real PostgreSQL: statements, ledger, replays and true-ups."""

import csv
import io
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from market.coned_csrp import ConEdCsrp
from market.elrp import Elrp
from tests.builders import TENANT, a_commitment
from tests.builders_settlement import a_fleet, an_accepted_event, local, meter
from tests.clock import NOON
from vpp.commitments import load
from vpp.domain.errors import Conflict, NotFound
from vpp.measurement import measure_event
from vpp.ports import MarketProgram
from vpp.settlement import (
    Settlement,
    last_receipt,
    ledger_sum,
    owner_earnings,
    paid_by_site,
    paid_cents,
    settle_month,
    statement,
    statement_csv,
    trial_balance,
    verify_chain,
)
from vpp.store.engine import Store
from vpp.store.tables.settlement import ledger_batch, ledger_transfer, statement_line

DAY = date(2026, 8, 19)
AUGUST = date(2026, 8, 1)


async def settle(connection: AsyncConnection, program: MarketProgram | None = None) -> Settlement:
    return await settle_month(connection, tenant_id=TENANT, program=program or Elrp(), month=DAY, now=NOON)


async def an_event(
    connection: AsyncConnection,
    discharged_kwh: Sequence[float],
    *,
    day: date = DAY,
    program: MarketProgram | None = None,
    sites: Sequence[str] | None = None,
) -> list[str]:
    """A fleet (unless given) in which site n discharges so much in each of two hours from 17 h, measured."""
    program = program or Elrp()
    shares = ("0.8", "0.75", "0.333")
    ids = list(sites or await a_fleet(connection, len(discharged_kwh), program=program.name, shares=shares))
    for site, kwh in zip(ids, discharged_kwh, strict=True):
        await meter(connection, site, "battery", local(day, 17), [kwh, kwh])
    commitment = await an_accepted_event(
        connection, local(day, 17), 5.0, 5.0, external_id=day.isoformat(), program=program.name
    )
    await measure_event(connection, commitment, program, tenant_id=TENANT)
    return ids


async def counts(connection: AsyncConnection) -> tuple[int, ...]:
    tables = (ledger_batch, ledger_transfer, statement_line)
    return tuple([await connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables])


async def test_a_settled_event_pays_each_owner_their_share_to_the_cent(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.111, 2.5, 0.0])
        found = await settle(connection)
        # 7.222 kWh x $2 = $14.44(4); by energy 4.4427.. and 9.9972..: 444 and 1000 cents.
        assert (found.version, found.gross_cents, found.delta_cents) == (1, 1444, 1444)
        assert await paid_by_site(connection, TENANT, AUGUST) == dict(zip(sites, (355, 750, 0), strict=True))
        assert await ledger_sum(connection, TENANT) == 0
        assert await paid_cents(connection, TENANT) == found.owner_cents == 1105
        assert (await trial_balance(connection, TENANT))[f"{TENANT}:revenue:USD"] == -339


async def test_settling_an_unchanged_month_again_changes_nothing(store: Store) -> None:
    async with store.begin() as connection:
        await an_event(connection, [1.0, 2.5])
        first = await settle(connection)
        before = await counts(connection)
        again = await settle(connection)
        assert await counts(connection) == before
        assert (again.version, again.changed, again.batch_id, again.delta_cents) == (1, False, None, 0)
        assert again.owner_cents == first.owner_cents


async def test_a_later_event_posts_only_what_it_adds(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.0, 2.0])
        await settle(connection)
        await an_event(connection, [3.0, 0.5], day=date(2026, 8, 25), sites=sites)
        second = await settle(connection)
        assert (second.version, second.gross_cents, second.delta_cents) == (2, 2600, 1400)
        first_site = await statement(connection, sites[0], DAY)
        assert [line.gross_cents for line in first_site.lines] == [400, 1200]
        assert first_site.ledger_cents == first_site.owner_cents == 1280


async def test_a_correction_of_metering_is_trued_up_with_deltas_both_ways(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [2.0, 2.0])
        await settle(connection)
        await meter(connection, sites[0], "battery", local(DAY, 17), [1.0, 1.0])
        await meter(connection, sites[1], "battery", local(DAY, 17), [2.0, 2.25])
        commitment = await load(connection, a_commitment(external_id=DAY.isoformat()).id)
        await measure_event(connection, commitment, Elrp(), tenant_id=TENANT)
        found = await settle(connection)
        assert (found.version, found.delta_cents) == (2, -350)
        moved = await connection.execute(
            select(ledger_transfer.c.memo, ledger_transfer.c.amount_cents, ledger_transfer.c.debit_account)
            .where(ledger_transfer.c.batch_id == found.batch_id)
            .order_by(ledger_transfer.c.seq)
        )
        assert [(memo, cents, "payable" in debit or "revenue" in debit) for memo, cents, debit in moved] == [
            (f"site {sites[0]}", 320, True),  # reversed: the owner is debited
            (f"site {sites[1]}", 38, False),  # 75 % of 850 is 637.5, rounded up, less 600
            ("aggregator", 68, True),
        ]
        for site in sites:
            await statement(connection, site, DAY)  # raises where lines and ledger disagree
        assert (await verify_chain(connection, TENANT)).broken == ()


async def test_an_owners_share_stays_as_it_was_for_events_settled_before(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.0])
        await settle(connection)
        await connection.exec_driver_sql("update program_enrolment set owner_share = 0.5")
        await an_event(connection, [1.0], day=date(2026, 8, 26), sites=sites)
        await settle(connection)
        found = await statement(connection, sites[0], DAY)
        assert [line.owner_share for line in found.lines] == [Decimal("0.8"), Decimal("0.5")]
        assert [line.owner_cents for line in found.lines] == [320, 200]


async def test_months_are_by_the_local_clock(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.0], day=date(2026, 8, 31))  # 17 h local is 1 September in UTC
        assert (await settle(connection)).gross_cents == 400
        assert len((await statement(connection, sites[0], AUGUST)).lines) == 1
        assert (await statement(connection, sites[0], date(2026, 9, 1))).lines == ()


async def test_a_month_without_events_settles_to_nothing(store: Store) -> None:
    async with store.begin() as connection:
        await a_fleet(connection, 1)
        found = await settle(connection)
        assert (found.version, found.changed, found.gross_cents) == (0, False, 0)


async def test_capacity_pay_is_shared_over_sites_and_their_events(store: Store) -> None:
    program = ConEdCsrp()
    async with store.begin() as connection:
        sites = await an_event(connection, [10.0, 30.0], program=program)
        await an_event(connection, [20.0, 20.0], day=date(2026, 8, 26), program=program, sites=sites)
        found = await settle(connection, program)
        # Factor 0.4 of 100 kW: 40 x $18 = $720 reservation; $80 for each event's 80 kWh.
        assert found.pay.performance_factor == Decimal("0.4")
        assert found.gross_cents == 72000 + 8000 + 8000
        lines = (await statement(connection, sites[0], DAY)).lines
        # Site 0: 60 of 160 kWh of the month: $270, by 20 and 40 kWh; energy $20 and $40.
        assert [[part.event_cents for part in line.parts] for line in lines] == [[9000, 2000], [18000, 4000]]


async def test_pay_nobody_was_credited_for_waits_in_its_own_account(store: Store) -> None:
    program = Elrp(measurement="caiso_10_in_10")
    async with store.begin() as connection:
        sites = await a_fleet(connection, 1)
        first = local(DAY - timedelta(days=46), 0)
        await meter(connection, sites[0], "grid", first, [-2.0] * 24 * 47)
        await meter(connection, sites[0], "grid", local(DAY, 17), [0.0, 0.0])
        commitment = await an_accepted_event(connection, local(DAY, 17), 2.0, 2.0)
        await measure_event(connection, commitment, program, tenant_id=TENANT)
        found = await settle(connection, program)
        assert (found.gross_cents, found.owner_cents, found.unallocated_cents) == (800, 0, 800)
        assert (await trial_balance(connection, TENANT))[f"{TENANT}:adjustment:unallocated:USD"] == -800


async def test_an_owner_can_compute_the_statement_again_from_the_csv(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.111, 2.5, 0.777])
        await an_event(connection, [0.123, 4.56, 0.0], day=date(2026, 8, 28), sites=sites)
        await settle(connection)
        for site in sites:
            told = statement_csv(await statement(connection, site, DAY))
            rows = list(csv.DictReader(io.StringIO(told)))
            total = rows[-1]
            events = [row for row in rows if row["row"] == "event"]
            for event in events:
                own = [row for row in rows if row["event_id"] == event["event_id"]]
                metered = sum(Decimal(row["metered_kwh"]) for row in own if row["row"] == "interval")
                assert metered == Decimal(event["metered_kwh"])
                assert max(metered, Decimal(0)) == Decimal(event["credited_kwh"])
                pay = [row for row in own if row["row"] == "pay"]
                for part in pay:
                    cents = (Decimal(part["quantity"]) * Decimal(part["price"]) * 100).quantize(
                        Decimal(1), rounding=ROUND_HALF_UP
                    )
                    assert cents == int(part["resource_cents"])
                    fair = cents * Decimal(part["site_kwh"]) / Decimal(part["all_sites_kwh"])
                    assert 0 <= abs(fair - int(part["site_cents"])) < 1
                assert sum(int(part["event_cents"]) for part in pay) == int(event["gross_cents"])
                owner = (int(event["gross_cents"]) * Decimal(event["owner_share"])).quantize(
                    Decimal(1), rounding=ROUND_HALF_UP
                )
                assert owner == int(event["owner_cents"])
            assert sum(int(event["owner_cents"]) for event in events) == int(total["owner_cents"])
            assert total["owner_cents"] == total["ledger_cents"]


async def test_a_statement_that_disagrees_with_the_ledger_is_not_shown(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.0])
        await settle(connection)
        await connection.exec_driver_sql("set local session_replication_role = replica")
        await connection.exec_driver_sql("update statement_line set owner_cents = owner_cents + 1")
        with pytest.raises(Conflict, match="lines say 321, the ledger 320 cents"):
            await statement(connection, sites[0], DAY)


async def test_the_owners_page_has_its_figures(store: Store) -> None:
    async with store.begin() as connection:
        sites = await an_event(connection, [1.0, 2.0])
        assert await last_receipt(connection, sites[0]) is None
        await settle(connection)
        await an_event(connection, [2.0, 2.0], day=date(2026, 8, 27), sites=sites)
        await settle(connection)
        earned = await owner_earnings(connection, "owner-001", DAY)
        assert (earned.owner_cents, earned.events, earned.by_site) == (960, 2, {sites[0]: 960})
        receipt = await last_receipt(connection, sites[0])
        assert receipt is not None
        assert (receipt.start_at, receipt.owner_cents) == (local(date(2026, 8, 27), 17), 640)
        assert (await owner_earnings(connection, "owner-001", date(2026, 9, 1))).owner_cents == 0
        with pytest.raises(NotFound):
            await owner_earnings(connection, "nobody", DAY)
        with pytest.raises(NotFound):
            await statement(connection, "nowhere", DAY)
