"""The operator's page of signals, and alerts where people look.

Goal: whatever a utility said is there in its words, with what it means, what came of it and why not.
Method: events through the gateway's keeper into a real store; the real application asked as a browser would.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, select

from tests.builders_portal import NOW, World, a_world, browser, portal, signed_in
from tests.clock import FixedClock
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesInterval, SeriesType, Target, TargetKind, Value
from vpp.gateway.hearing import Hearing, Outcome
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.commitments import commitment

SIGNALS = "/operator/signals"
HOUR = timedelta(hours=1)
S = SeriesType


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=4)


@pytest.fixture
def app(store: Store, world: World) -> FastAPI:
    return portal(store, FixedClock(NOW))


def series(
    type_: SeriesType,
    *values: Value,
    unit: str | None = None,
    currency: str | None = None,
    name: str = "",
    count: int = 1,
) -> Series:
    parts = tuple(
        SeriesInterval(start_at=NOW - HOUR / 2 + n * HOUR, duration=HOUR, values=values, uid=str(n))
        for n in range(count)
    )
    return Series(
        series_id="0", type=type_, name=name or type_.value, intervals=parts, unit=unit, currency=currency
    )  # fmt: skip


def event(event_id: str, *told: Series, targets: Sequence[Target] = ()) -> GridEvent:
    return GridEvent(
        event_id=event_id, modification_number=0, program="p", start_at=NOW - HOUR / 2, duration=HOUR, series=told,
        created_at=NOW, targets=tuple(targets),
    )  # fmt: skip


async def hear(store: Store, world: World, *events: GridEvent, outcome: Outcome | None = None) -> Hearing:
    hearing = Hearing(store, FixedClock(NOW), "openadr3:utility", world.tenant_id)
    for each in events:
        await hearing.hear(each, outcome or Outcome(program="elrp", opted_in=True))
    return hearing


async def shown(app: FastAPI, who: str, path: str) -> str:
    async with browser(app) as client:
        assert (await signed_in(client, who)).status_code == 303
        answer = await client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.text.split())


async def test_every_signal_is_shown_with_its_meaning_its_effect_and_the_reason(
    store: Store, world: World, app: FastAPI
) -> None:
    site = Target(TargetKind.RESOURCE, world.sites[0])
    await hear(
        store,
        world,
        event("power", series(S.DISPATCH_SETPOINT, 300.0, unit="KW")),
        event("limits", series(S.EXPORT_CAPACITY_LIMIT, 12.5, unit="KW")),
        event("prices", series(S.PRICE, 0.31, unit="KWH", currency="USD", count=5)),
        event("charge", series(S.CHARGE_STATE_SETPOINT, 0.1, unit="PERCENT"), targets=[site]),
        event("offset", series(S.CONTROL_LEVEL_OFFSET, 3), series(S.CURVE, Point(1, 2))),
        event("custom", series(S.OTHER, "left", 7, name="X_TURN")),
        event("wrong", series(S.CHARGE_STATE_SETPOINT, 80, unit="PERCENT")),
    )
    page = await shown(app, world.operator, SIGNALS)
    for said in (
        "deliver 300 kW",
        "committed",
        "export at most 12.5 kW",
        "a hard limit for the fleet together",
        "in force",
        "energy costs 0.31 USD per kWh",
        "3 more",
        "Import price, elrp, USD/kWh",
        '<td class="num">0.31 USD/kWh</td>',
        "hold a charge of 10",
        "20 % within reserve and full",  # never below the owner's reserve
        "3 steps less load than normal",
        "no programme of ours says how many kW a step is",
        "curve through (1, 2)",
        "X_<wbr>TURN",
        "a type we do not know",
        "left, 7",
        "CHARGE_STATE_SETPOINT 80 PERCENT; it should be a share from 0 to 1, as 0.8 for 80 %",
        "from utility, OpenADR 3; programme elrp; version 0",
    ):
        assert said in page, said
    assert "<script>" not in page
    assert " style=" not in page


async def test_what_is_none_of_ours_and_what_was_withdrawn_is_shown_as_such(
    store: Store, world: World, app: FastAPI
) -> None:
    limit = series(S.IMPORT_CAPACITY_LIMIT, 5.0, unit="KW")
    refused = Outcome(program=None, reason="programme 'z' is none of ours")
    await hear(store, world, event("theirs", limit), outcome=refused)
    hearing = await hear(store, world, event("gone", limit))
    assert await hearing.withdraw({"gone"}) == 1
    page = await shown(app, world.operator, SIGNALS)
    assert "none of our programmes" in page
    assert "programme &#39;z&#39; is none of ours" in page
    assert "withdrawn by the utility" in page
    assert "in force" not in page


async def test_an_alert_is_a_banner_for_operator_and_owner_while_it_is_in_force(
    store: Store, world: World, app: FastAPI
) -> None:
    fire = series(S.ALERT_FIRE, "Smoke <b>near</b> the valley")
    over = series(S.ALERT_WIND, "old news")
    over = replace(over, intervals=(replace(over.intervals[0], start_at=NOW - 2 * HOUR),))
    hearing = await hear(store, world, event("fire", fire), event("wind", over))
    pages = [
        (world.operator, "/operator"),
        (world.operator, f"/operator/events/{world.running}"),
        (world.operator, SIGNALS),
        (world.owner, "/owner"),
    ]
    for who, path in pages:
        page = await shown(app, who, path)
        assert 'role="alert">Fire: Smoke &lt;b&gt;near&lt;/b&gt; the valley' in page, path
        assert "Wind: old news" not in page
    await hearing.withdraw({"fire"})
    assert 'role="alert">Fire' not in await shown(app, world.owner, "/owner")


async def test_the_page_of_an_event_says_what_the_utility_said(store: Store, world: World, app: FastAPI) -> None:
    async with store.begin() as connection:
        row = (await connection.execute(select(commitment).where(commitment.c.id == world.running))).one()
    hearing = Hearing(store, FixedClock(NOW), row.source, world.tenant_id)
    told = event(row.external_id, series(S.DISPATCH_SETPOINT, 10.0, unit="KW"), series(S.OTHER, 1, name="X_MORE"))
    await hearing.hear(told, Outcome(program="elrp", opted_in=True))
    page = await shown(app, world.operator, f"/operator/events/{world.running}")
    assert "What the utility said" in page
    assert "X_<wbr>MORE" in page
    assert f'href="/operator/events/{world.running}"' in await shown(app, world.operator, SIGNALS)


async def test_nothing_of_another_tenant_is_shown(store: Store, world: World, app: FastAPI) -> None:
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id="south", name="South"))
    hearing = Hearing(store, FixedClock(NOW), "openadr3:utility", "south")
    await hearing.hear(event("secret", series(S.ALERT_FIRE, "theirs")), Outcome(program="elrp"))
    page = await shown(app, world.operator, SIGNALS)
    assert "theirs" not in page
    assert "Nothing yet" in page
