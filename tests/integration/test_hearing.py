"""What utilities say beside power, from the wire to the tables, by both protocols.

Goal: limits, prices, charges and alerts are kept as stated while they stand, and end with their event; nothing a
utility says is lost. Method: our VENs at a VTN of OpenADR 3 and of 2.0b on real sockets, a real store.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders_gateway import Fleet, add_tenant, running_ven
from tests.builders_ven2 import ScriptedVtn, grid_event
from tests.builders_ven3 import FakeVtn, fake_vtn, only_event, running_ven3
from tests.clock import FixedClock
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import SeriesType
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.hearing import HearingTerms
from vpp.peering import alerts_at, charges_between, limits_between, prices_between
from vpp.store.engine import Store
from vpp.store.tables.signals import heard_event, heard_series

HOUR = timedelta(hours=1)
PRICE = (SeriesType.PRICE, "ELECTRICITY_PRICE/price", "KWH")


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture
async def vtn3(clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock) as served:
        yield served


@pytest.fixture
def present() -> FixedClock:
    return FixedClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def vtn2(present: FixedClock) -> AsyncIterator[ScriptedVtn]:
    async with ScriptedVtn(now=present.now).serving() as served:
        yield served


def told(vtn: FakeVtn, *payloads: tuple[str, Any, str | None], event_id: str | None = None, **more: Any) -> str:
    """An event of one hour that began half an hour ago."""
    start_at = vtn.clock.now() - HOUR / 2
    descriptors = [
        {"payloadType": name, "units": unit} | ({"currency": "USD"} if "PRICE" in name else {})
        for name, _, unit in payloads
        if unit
    ]
    intervals = [{"id": 0, "payloads": [{"type": name, "values": [value]} for name, value, _ in payloads]}]
    return vtn.event(event_id=event_id, start_at=start_at, payloadDescriptors=descriptors, intervals=intervals, **more)


async def holding(store: Store, at: datetime) -> dict[str, list[Any]]:
    window: dict[str, Any] = {"tenant_id": "t1", "start_at": at, "end_at": at + HOUR}
    async with store.begin() as connection:
        found = {
            "limits": [(x.direction.value, x.limit_kw, x.site_id) for x in await limits_between(connection, **window)],
            "prices": [(x.program, x.kind, x.amount, x.currency) for x in await prices_between(connection, **window)],
            "charges": [(x.share, x.energy_kwh, x.site_id) for x in await charges_between(connection, **window)],
            "alerts": [(x.kind, x.text) for x in await alerts_at(connection, tenant_id="t1", at=at)],
        }
    return {name: rows for name, rows in found.items() if rows}


async def effects(store: Store) -> list[tuple[str, str, str]]:
    async with store.begin() as connection:
        rows = await connection.execute(select(heard_series).order_by(heard_series.c.event_id, heard_series.c.number))
        return [(row.name, row.effect, row.reason) for row in rows]


async def test_what_holds_of_an_event_is_kept_while_it_stands_and_ends_with_it(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn3.url) as ven:
        event_id = told(
            vtn3,
            ("EXPORT_CAPACITY_LIMIT", 40, "KW"),
            ("EXPORT_PRICE", 0.07, "KWH"),
            ("CHARGE_STATE_SETPOINT", 0.9, "PERCENT"),
            ("ALERT_FLEX_ALERT", "spare some", None),
        )
        await ven.step()
        everything = {
            "limits": [("export", 40.0, None)],
            "prices": [("flat", "export", Decimal("0.07"), "USD")],
            "charges": [(0.9, None, None)],
            "alerts": [("ALERT_FLEX_ALERT", "spare some")],
        }
        assert await holding(fleet_store, clock.now()) == everything
        told(vtn3, ("IMPORT_CAPACITY_LIMIT", 55.5, "KW"), event_id=event_id)
        await ven.step()
        assert await holding(fleet_store, clock.now()) == {"limits": [("import", 55.5, None)]}
        seen = await only_event(fleet_store)
        assert (seen["outcome"], seen["reason"]) == ("in", "a hard limit for the fleet together")
        vtn3.delete(event_id)
        await ven.step()
        assert await holding(fleet_store, clock.now()) == {}
        assert [effect for _, effect, _ in await effects(fleet_store)] == ["ended"]


async def test_power_beside_other_signals_is_committed_and_each_keeps_its_own_effect(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn3.url, fleet=Fleet(capable_kw=100.0)) as ven:
        for kw in (80, 300):
            payloads = [
                {"type": "DISPATCH_SETPOINT", "values": [kw]},
                {"type": "SIMPLE", "values": [1]},
                {"type": "X_OWN", "values": ["?", 1]},
            ]
            vtn3.event(event_id=f"e{kw}", intervals=[{"id": 0, "payloads": payloads}])
        await ven.step()
    assert await effects(fleet_store) == [
        ("DISPATCH_SETPOINT", "refused", "100 of 300 kW are there"),
        ("SIMPLE", "shown", "another signal of the event counts"),
        ("X_OWN", "shown", "kept and shown by its name; nothing is guessed"),
        ("DISPATCH_SETPOINT", "committed", ""),
        ("SIMPLE", "shown", "another signal of the event counts"),
        ("X_OWN", "shown", "kept and shown by its name; nothing is guessed"),
    ]


async def test_an_event_that_asks_what_nobody_does_is_refused_and_kept(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn3.url) as ven:
        told(vtn3, ("CONTROL_LEVEL_OFFSET", 3, None))
        await ven.step()
    assert (await only_event(fleet_store))["outcome"] == "refused"
    assert [effect for _, effect, _ in await effects(fleet_store)] == ["shown"]


async def test_an_event_of_a_strange_programme_limits_nothing(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    vtn3.put("programs", {"programName": "Other"}, "other")
    async with running_ven3(fleet_store, clock, vtn3.url) as ven:
        told(vtn3, ("IMPORT_CAPACITY_LIMIT", 1, "KW"), program_id="other")
        await ven.step()
    assert await holding(fleet_store, clock.now()) == {}
    ((_, effect, reason),) = await effects(fleet_store)
    assert (effect, "none of ours" in reason) == ("refused", True)


async def test_terms_changed_later_count_for_events_told_before(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    told(vtn3, ("IMPORT_CAPACITY_LIMIT", 1, "KW"))
    for may_limit, count in ((True, 1), (False, 0), (True, 1)):
        hearing = HearingTerms(may_limit=may_limit)
        async with running_ven3(fleet_store, clock, vtn3.url, hearing=hearing) as ven:
            await ven.step()
        assert len((await holding(fleet_store, clock.now())).get("limits", [])) == count


async def test_limits_of_a_vtn_that_is_a_peer_no_longer_end(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn3.url) as ven:
        told(vtn3, ("IMPORT_CAPACITY_LIMIT", 1, "KW"))
        await ven.step()
        assert await holding(fleet_store, clock.now()) != {}
        await ven.leave()
    assert await holding(fleet_store, clock.now()) == {}


async def test_a_price_by_2_0b_is_kept_and_ends_when_it_is_listed_no_longer(
    fleet_store: Store, present: FixedClock, vtn2: ScriptedVtn
) -> None:
    async with running_ven(fleet_store, present, vtn2.url) as ven:
        event = grid_event("p1", present.now() - HOUR / 2, 0.25, 0.5, kind=PRICE)
        priced = replace(event, series=(replace(event.series[0], currency="USD"),))
        vtn2.tell(priced)
        await ven.step()
        assert await holding(fleet_store, present.now()) == {
            "prices": [("flat", "import", Decimal("0.25"), "USD"), ("flat", "import", Decimal("0.5"), "USD")]
        }
        vtn2.tell()
        present.advance(timedelta(minutes=16))
        await ven.step()
        assert await holding(fleet_store, present.now()) == {}
    async with fleet_store.begin() as connection:
        (row,) = (await connection.execute(select(heard_event))).all()
    assert row.ended_at == present.now()


@pytest.mark.parametrize("config", [{"limits": "no"}, {"sites": ["a"]}, {"sites": {"a": 1}}])
def test_terms_that_cannot_be_are_refused_by_name(config: dict[str, Any]) -> None:
    peer = Peer(id="p", tenant_id="t1", protocol=Protocol.OPENADR3, role=PeerRole.VTN, name="x", config=config)
    with pytest.raises(InvalidRequest, match=rf"config\.{next(iter(config))}"):
        HearingTerms.of(peer)


async def test_numbers_beyond_belief_are_kept_as_told_and_hold_up_no_other_event(
    fleet_store: Store, clock: FixedClock, vtn3: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn3.url) as ven:
        told(vtn3, ("DISPATCH_SETPOINT", 10**400, "KW"))
        told(vtn3, ("X_OWN", 10**400, None))
        told(vtn3, ("IMPORT_CAPACITY_LIMIT", 5, "KW"))
        await ven.step()
    assert await holding(fleet_store, clock.now()) == {"limits": [("import", 5.0, None)]}
    found = await effects(fleet_store)
    assert [effect for _, effect, _ in found] == ["refused", "shown", "limit"]
