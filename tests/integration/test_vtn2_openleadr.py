"""The whole life of events, reports and opts between our OpenADR 2.0b VTN and openleadr's own client."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from openleadr import OpenADRClient, enums
from openleadr.objects import Target as OpenleadrTarget

from tests.builders_processes import eventually
from tests.builders_vtn2 import add_ven, an_event, change, own_database, running_vtn, swept_store, tell, withdraw
from tests.clock import FixedClock
from vpp.clock import SystemClock
from vpp.peering import (
    ask_report,
    ask_reregistration,
    cancel_report,
    event_answers,
    next_report_values,
    report_offers,
    report_requests,
)
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        yield store


@pytest.fixture
def clock() -> FixedClock:
    """The client knows real time only."""
    return FixedClock(SystemClock().now())


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The client's own lines of information about opts cannot be formatted."""
    caplog.set_level(logging.WARNING, logger="openleadr")


class Client:
    """openleadr's client, polled by the test, and what its handlers were given."""

    def __init__(self, url: str, name: str = "a") -> None:
        self.stock: Any = OpenADRClient(ven_name=name, vtn_url=url, show_fingerprint=False)
        self.stock.add_handler("on_event", self._new)
        self.stock.add_handler("on_update_event", self._changed)
        self.events: list[tuple[str, str, int, str]] = []
        self.says = "optIn"

    async def _new(self, event: dict[str, Any]) -> str:
        return self._heard("new", event)

    async def _changed(self, event: dict[str, Any]) -> str:
        return self._heard("changed", event)

    def _heard(self, how: str, event: dict[str, Any]) -> str:
        told = event["event_descriptor"]
        self.events.append((how, told["event_id"], told["modification_number"], told["event_status"]))
        return self.says

    async def poll(self) -> None:
        await self.stock._poll()


@asynccontextmanager
async def living(url: str, *, report: bool = False) -> AsyncIterator[Client]:
    client = Client(url)
    if report:
        client.stock.add_report(
            callback=lambda: 12.5, resource_id="meter", measurement="RealPower", unit="W", scale="k",
            sampling_rate=timedelta(seconds=1), report_specifier_id="usage", r_id="power",
            report_duration=HOUR, market_context="http://utility.example/flat",
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        await client.stock.run()
    try:
        yield client
    finally:
        await client.stock.stop()


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: the whole life of an event", peer="openleadr client 0.5.36")
async def test_an_event_is_told_modified_before_and_during_and_cancelled(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR, 5.0, 6.0))
    async with running_vtn(store, clock) as vtn, living(vtn.url) as client:
        assert client.stock.ven_id == "a"
        assert client.stock.poll_frequency == timedelta(seconds=10)
        assert client.events == [("new", "e1", 0, "far")]
        client.says = "optOut"
        event = await change(store, clock, event, priority=1)
        await vtn.knows(event)
        await client.poll()
        assert client.events[1:] == [("changed", "e1", 1, "far")]
        clock.advance(HOUR)
        await client.poll()
        await client.poll()
        event = await change(store, clock, event, comment="stay")
        await vtn.knows(event)
        await client.poll()
        assert client.events[2:] == [("changed", "e1", 2, "active")]
        event = await withdraw(store, clock, event)
        await vtn.knows(event)
        await client.poll()
        assert client.events[3:] == [("changed", "e1", 3, "cancelled")]
        await client.poll()
        assert vtn.notes.kinds[-1][1] != "oadrPoll", "there is nothing left to tell"
    async with store.begin() as connection:
        (answer,) = await event_answers(connection, "e1", tenant_id="t1")
    assert (answer.opt_in, answer.answered_modification, answer.code) == (False, 3, 200)


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: offers", peer="openleadr client 0.5.36")
async def test_reports_we_offer_are_acknowledged_by_a_client_that_takes_none(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a", config={"offer_reports": True})
    async with running_vtn(store, clock) as vtn, living(vtn.url) as client:
        await client.poll()
        assert ("out", "oadrRegisterReport", "200") in vtn.notes.kinds
        assert vtn.desk.room.view.vens[peer.id].queue == [], "it was answered"


@pytest.mark.conformance("2.0b", "EiReport", "VTN: the whole life of a report", peer="openleadr client 0.5.36")
@pytest.mark.parametrize("once", [True, False])
async def test_a_report_is_offered_asked_for_and_sent(store: Store, clock: FixedClock, once: bool) -> None:
    peer = await add_ven(store, clock, "a")
    every = timedelta(0) if once else timedelta(seconds=1)
    async with running_vtn(store, clock) as vtn, living(vtn.url, report=True) as client:
        async with store.begin() as connection:
            (offer,) = await report_offers(connection, peer.id)
            (point,) = offer.points
            asked = await ask_report(
                connection, peer.id, specifier_id=offer.specifier_id, points=[(point.r_id, point.reading_type)],
                granularity=every, back=every, at=clock.now(),
            )  # fmt: skip
        await vtn.heard(lambda: bool(vtn.desk.room.view.vens[peer.id].queue))
        await client.poll()

        async def arrived() -> bool:
            async with store.begin() as connection:
                values = await next_report_values(connection, "test", tenant_id="t1")
            return [(each.report_request_id, each.value) for each in values[:1]] == [(asked, 12.5)]

        assert await eventually(arrived, 6)
        async with store.begin() as connection:
            (request,) = await report_requests(connection, peer.id)
        assert request.state == ("done" if once else "running")
        if not once:
            async with store.begin() as connection:
                await cancel_report(connection, asked, tenant_id="t1", at=clock.now())
            await vtn.heard(lambda: bool(vtn.desk.room.view.vens[peer.id].queue))
            await client.poll()
            await vtn.heard(lambda: not vtn.desk.room.view.vens[peer.id].queue)


@pytest.mark.conformance("2.0b", "EiOpt", "VTN: create and cancel", peer="openleadr client 0.5.36")
async def test_an_opt_of_the_clients_own_counts_and_is_taken_back(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, living(vtn.url) as client:
        targets = [OpenleadrTarget(ven_id="a")]
        await client.stock.create_opt(
            enums.OPT.OPT_OUT, enums.OPT_REASON.ECONOMIC, targets, event_id="e1", modification_number=0, opt_id="o1"
        )

        async def opted() -> tuple[bool | None, str | None]:
            async with store.begin() as connection:
                (answer,) = await event_answers(connection, "e1", tenant_id="t1")
            return answer.opt_in, answer.opt_id

        assert await opted() == (False, "o1")
        await client.stock.cancel_opt("o1")
        assert await opted() == (True, None)


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VTN: oadrRequestReregistration", peer="openleadr client 0.5.36")
async def test_a_ven_is_asked_to_register_anew_and_does_so_by_itself(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, living(vtn.url) as client:
        async with store.begin() as connection:
            await ask_reregistration(connection, peer.id, at=clock.now())
        await vtn.heard(lambda: bool(vtn.desk.room.view.vens[peer.id].queue))
        await client.poll()
        assert not vtn.desk.room.view.vens[peer.id].queue
        await client.stock.cancel_party_registration()
        assert not vtn.desk.room.view.vens[peer.id].is_registered


@pytest.mark.conformance(
    "2.0b", "EiRegisterParty", "VTN: registrations survive a restart", peer="openleadr client 0.5.36"
)
async def test_a_client_goes_on_with_a_vtn_that_started_anew(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, living(vtn.url) as client:
        pass_on = client
        event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
        await vtn.knows(event)
        await client.poll()
        async with asyncio.timeout(10), running_vtn(store, clock) as again:
            pass_on.stock.vtn_url = again.url
            await client.poll()
            assert client.events == [("new", "e1", 0, "far")]
            await again.knows(await change(store, clock, event, comment="more"))
            await client.poll()
            assert client.events[1:] == [("changed", "e1", 1, "far")]
