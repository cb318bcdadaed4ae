"""Our OpenADR 2.0b VTN where two things happen at once, and where somebody speaks who has no right to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen, remove

from tests.builders_vtn2 import (
    Vtn,
    add_ven,
    an_event,
    change,
    own_database,
    raw_ven,
    running_vtn,
    swept_store,
    tell,
    withdraw,
)
from tests.clock import FixedClock
from vpp.domain.openadr2 import (
    DEPLOYMENT_ERROR,
    INVALID_DATA,
    INVALID_ID,
    NOT_REGISTERED,
    CancelOpt,
    CancelRegistration,
    CreatedEvents,
    CreateOpt,
    CreateRegistration,
    EventOpt,
    PointOffer,
    RegisterReports,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    Response,
    UpdateReports,
)
from vpp.domain.time import Interval
from vpp.gateway.vtn.keeper import CHECK_EVERY
from vpp.gateway.vtn.opts import MAX_OPTS
from vpp.peering import ask_report
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

HOUR = timedelta(hours=1)


@contextmanager
def counted(store: Store, asked: list[str]) -> Iterator[None]:
    """Keep what the database is asked for."""

    def note(*args: Any) -> None:
        asked.append(args[2])

    listen(store.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        remove(store.engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as made:
        yield made


@pytest.fixture
async def vtn(store: Store, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(store, clock) as made:
        yield made


async def test_a_ven_that_registers_twice_at_once_is_told_the_same_ids_twice(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    async with raw_ven(vtn.url, "ven-1", register=False) as ven:
        say = [ven.say("EiRegisterParty", CreateRegistration(request_id=f"r{n}", ven_name="ven-1")) for n in range(6)]
        answers = await asyncio.gather(*say)
    assert {answer.response.code for answer in answers} == {200}
    assert len({answer.registration_id for answer in answers}) == 1


async def test_a_ven_that_signs_cannot_be_signed_off_without_its_signature(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    peer = await add_ven(store, clock, "ven-1")
    async with raw_ven(vtn.url, "ven-1") as ven:
        await ven.register(xml_signature=True)
        registration_id = ven.registration_id
        answer = await ven.say(
            "EiRegisterParty", CancelRegistration(request_id="c", registration_id=registration_id, ven_id=None)
        )
    assert answer.response.code == NOT_REGISTERED
    assert vtn.desk.room.view.vens[peer.id].is_registered


async def test_a_ven_is_told_by_one_vtn_that_an_event_is_cancelled_which_another_told_it(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    async with running_vtn(store, clock) as other, raw_ven(vtn.url, "ven-1") as ven:
        event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
        await vtn.knows(event)
        await other.knows(event)
        await other.heard(lambda: all(each.is_registered for each in other.desk.room.view.vens.values()))
        assert await ven.told() == [("e1", 0, "far")]
        assert (await ven.answer("e1", 0)).code == 200
        event = await withdraw(store, clock, event)
        await other.knows(event)
        ven.url = other.url
        assert await ven.told() == [("e1", 1, "cancelled")]


async def test_what_one_vtn_told_another_knows_after_a_while_though_it_heard_of_nothing(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    async with running_vtn(store, clock) as other, raw_ven(vtn.url, "ven-1") as ven:
        event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
        event = await change(store, clock, event, comment="again")
        await vtn.knows(event)
        await other.knows(event)
        await other.heard(lambda: all(each.is_registered for each in other.desk.room.view.vens.values()))
        await other.desk.room.keeper.look_again()
        assert await ven.told() == [("e1", 1, "far")]
        assert (await ven.answer("e1", 1)).code == 200
        clock.advance(CHECK_EVERY)
        await other.desk.room.keeper.look_again()
        ven.url = other.url
        assert await ven.told() == []


async def test_an_id_longer_than_an_index_takes_is_refused_as_wrong_and_not_as_an_outage(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    long = token_hex(4500)
    opt = CreateOpt(
        request_id="q", opt_id=long, ven_id="ven-1", opt_in=False, reason="economic", created_at=clock.now(),
        windows=(Interval(clock.now(), clock.now() + HOUR),),
    )  # fmt: skip
    point = PointOffer(r_id="p", report_type="usage", reading_type="Direct Read", unit="kW", item="powerReal")
    offer = ReportOffer(specifier_id="s", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=clock.now())
    async with raw_ven(vtn.url, "ven-1") as ven:
        await ven.say("EiReport", RegisterReports(request_id="o", offers=(offer,), ven_id="ven-1"))
        said = [
            await ven.say("EiOpt", opt),
            await ven.say(
                "EiReport", RegisterReports(request_id="o", offers=(replace(offer, specifier_id=long),), ven_id="ven-1")
            ),
        ]
        async with store.begin() as connection:
            peer_id = (await connection.execute(text("select id from peer"))).scalar_one()
            asked = await ask_report(
                connection, peer_id, specifier_id="s", points=[("p", "Direct Read")], granularity=HOUR, back=HOUR,
                at=clock.now(),
            )  # fmt: skip
        value = ReportedValue(r_id=long, start_at=clock.now(), duration=HOUR, value=1.0)
        report = ReportUpdate(
            report_request_id=asked, specifier_id="s", name="TELEMETRY_USAGE", created_at=clock.now(), values=(value,)
        )
        said.append(await ven.say("EiReport", UpdateReports(request_id="u", updates=(report,), ven_id="ven-1")))
    assert [answer.response.code for answer in said] == [INVALID_DATA] * 3


async def test_a_ven_declares_so_many_opts_and_no_more_until_it_takes_some_back(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    peer = await add_ven(store, clock, "ven-1")
    opt = CreateOpt(
        request_id="q", opt_id="1", ven_id="ven-1", opt_in=False, reason="economic", created_at=clock.now(),
        windows=(Interval(clock.now(), clock.now() + HOUR),),
    )  # fmt: skip
    copied = (
        "insert into vtn2_opt select (jsonb_populate_record(o, jsonb_build_object('opt_id', n::text))).*"
        " from vtn2_opt as o, generate_series(2, :most) as n where o.peer_id = :peer"
    )
    async with raw_ven(vtn.url, "ven-1") as ven:
        await ven.say("EiOpt", opt)
        async with store.begin() as connection:
            await connection.execute(text(copied), {"most": MAX_OPTS, "peer": peer.id})
        one_more = replace(opt, opt_id="more")
        codes = [(await ven.say("EiOpt", said)).response.code for said in (one_more, opt)]
        await ven.say("EiOpt", CancelOpt(request_id="c", opt_id="2", ven_id="ven-1"))
        codes.append((await ven.say("EiOpt", one_more)).response.code)
    assert codes == [DEPLOYMENT_ERROR, 200, 200]


async def test_answers_to_thousands_of_events_there_are_not_ask_the_database_for_few(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    asked: list[str] = []
    async with raw_ven(vtn.url, "ven-1") as ven:
        await vtn.knows(await tell(store, clock, an_event("e1", clock.now() + HOUR)))
        assert await ven.told() == [("e1", 0, "far")]
        ids = [*(f"none-{number}" for number in range(1000)), "e1"]
        opts = tuple(EventOpt(event_id=each, modification_number=0, request_id="q", opt_in=True) for each in ids)
        created = CreatedEvents(response=Response(request_id="q"), ven_id=ven.ven_id, opts=opts)
        with counted(store, asked):
            answer = await ven.say("EiEvent", created)
    assert answer.response.code == INVALID_ID
    assert len(asked) < 100
    assert vtn.desk.room.view.vens[next(iter(vtn.desk.room.view.vens))].deliveries["e1"].settled_modification == 0
