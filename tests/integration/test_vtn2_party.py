"""EiRegisterParty, EiReport and EiOpt of our OpenADR 2.0b VTN, and the messages an operator queues for VENs."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.builders_vtn2 import (
    RawVen,
    Vtn,
    add_ven,
    an_event,
    change,
    own_database,
    raw_ven,
    running_vtn,
    swept_store,
    tell,
)
from tests.clock import NOON, FixedClock
from vpp.domain.errors import NotFound
from vpp.domain.grid_event import Target, TargetKind
from vpp.domain.openadr2 import (
    COMPLIANCE_ERROR,
    INVALID_DATA,
    INVALID_ID,
    NOT_ALLOWED,
    NOT_REGISTERED,
    OUT_OF_SEQUENCE,
    REPORT_NOT_SUPPORTED,
    Acknowledge,
    CanceledRegistration,
    CanceledReports,
    CancelOpt,
    CancelRegistration,
    CancelReports,
    CreatedReports,
    CreateOpt,
    CreateReports,
    PointOffer,
    QueryRegistration,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    RequestEvents,
    RequestReregistration,
    ResourceStatus,
    Response,
    UpdateReports,
)
from vpp.domain.peer import Peer
from vpp.domain.time import Interval
from vpp.gateway.vtn.polling import AGAIN_AFTER
from vpp.gateway.vtn.view import MAX_SENDS
from vpp.peering import (
    VenAnswer,
    ask_report,
    ask_reregistration,
    cancel_report,
    end_registration,
    event_answers,
    keep_cursor,
    next_report_values,
    opts_between,
    report_offers,
    report_requests,
    revoke_peer,
    ven_states,
)
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

MINUTE = timedelta(minutes=1)
EVERY = timedelta(minutes=5)


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        yield store


def an_offer(specifier_id: str = "spec", name: str = "METADATA_TELEMETRY_USAGE") -> ReportOffer:
    point = PointOffer(
        r_id="p1", report_type="usage", reading_type="Direct Read", unit="kW", scale="k", item="powerReal",
        min_sampling=MINUTE, max_sampling=EVERY,
    )  # fmt: skip
    return ReportOffer(specifier_id=specifier_id, name=name, points=(point,), created_at=NOON)


def values(request_id: str, *found: float | ResourceStatus, start: int = 0) -> UpdateReports:
    update = ReportUpdate(
        report_request_id=request_id,
        specifier_id="spec",
        name="TELEMETRY_USAGE",
        created_at=NOON,
        values=tuple(
            ReportedValue(r_id="p1", start_at=NOON + (start + n) * MINUTE, duration=MINUTE, value=value)
            for n, value in enumerate(found)
        ),
    )
    return UpdateReports(request_id="u1", updates=(update,))


async def ask(store: Store, vtn: Vtn, peer: Peer, **wanted: Any) -> str:
    """Ask for a report as the API does, and wait until the VTN knows of it."""
    given: dict[str, Any] = {
        "specifier_id": "spec",
        "points": [("p1", "Direct Read")],
        "granularity": MINUTE,
        "back": EVERY,
    }
    async with store.begin() as connection:
        request_id = await ask_report(connection, peer.id, **(given | wanted), at=NOON)
    await vtn.heard(
        lambda: any("CreateReports" in type(q.message).__name__ for q in vtn.desk.room.view.vens[peer.id].queue)
    )
    return request_id


async def offering(ven: RawVen) -> None:
    answer = await ven.say("EiReport", RegisterReports(request_id="o1", offers=(an_offer(),), ven_id=ven.ven_id))
    assert isinstance(answer, RegisteredReports)
    assert answer.response == Response(200, "OK", "o1")


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VTN: query, create, register again with the same ids")
async def test_a_ven_registers_by_id_or_name_keeps_its_ids_and_strangers_do_not(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    await add_ven(store, clock, "b", party_id="VEN-7")
    async with running_vtn(store, clock) as vtn:
        async with raw_ven(vtn.url, "a", register=False) as ven:
            query = await ven.say("EiRegisterParty", QueryRegistration(request_id="q1"))
            assert (query.response.request_id, query.vtn_id, query.ven_id, query.registration_id) == (
                "q1",
                "Vtn1",
                None,
                None,
            )
            first = await ven.register()
            assert (first.ven_id, first.poll) == ("a", timedelta(seconds=10))
            assert (
                await ven.register(ven_id="a", registration_id=first.registration_id)
            ).registration_id == first.registration_id
            assert (await ven.register(ven_id="a", registration_id="other")).response.code == INVALID_ID
        async with raw_ven(vtn.url, "b", register=False) as ven:
            assert (await ven.register(ven_id="a")).response.code == 200, "without certificates, the id given decides"
            assert (await ven.register(ven_id="VEN-8")).response.code == INVALID_ID
            assert (await ven.register()).ven_id == "VEN-7"
            assert (await ven.register(ven_name="who")).response.code == NOT_REGISTERED
            assert (await ven.register(profile="2.0a")).response.code == NOT_ALLOWED
            assert (await ven.register(http_pull=False)).response.code == INVALID_DATA
            assert (await ven.register(http_pull=False, transport_address="ftp://x")).response.code == INVALID_DATA
    async with store.begin() as connection:
        assert [(each.name, each.ven_id) for each in await ven_states(connection, tenant_id="t1")] == [
            ("a", "a"),
            ("b", "VEN-7"),
        ]


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VTN: cancellation from either side")
async def test_a_registration_ends_from_either_side_and_comes_back_with_the_same_ids(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        ids = (ven.ven_id, ven.registration_id)
        gone = await ven.say("EiRegisterParty", CancelRegistration(request_id="c1", registration_id=ids[1], ven_id="a"))
        assert (gone.response.code, gone.registration_id) == (200, ids[1])
        assert await ven.poll() == RequestReregistration(ven_id="a")
        refused = await ven.say("EiEvent", RequestEvents(request_id="r", ven_id="a"))
        assert refused.response.code == NOT_REGISTERED
        await ven.register()
        assert (ven.ven_id, ven.registration_id) == ids
        async with store.begin() as connection:
            await end_registration(connection, peer.id, at=clock.now())
            await end_registration(connection, peer.id, at=clock.now())
        await vtn.heard(lambda: len(vtn.desk.room.view.vens[peer.id].queue) == 1)
        told = await ven.poll()
        assert isinstance(told, CancelRegistration)
        done = CanceledRegistration(response=Response(request_id=told.request_id), registration_id=ids[1], ven_id="a")
        assert (await ven.say("EiRegisterParty", done)).response.code == 200
        assert await ven.poll() == RequestReregistration(ven_id="a")
    async with store.begin() as connection:
        (state,) = await ven_states(connection, tenant_id="t1")
    assert (state.cancelled_by, state.waiting) == ("vtn", 0)


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VTN: oadrRequestReregistration until it is heeded")
async def test_a_ven_is_asked_to_register_anew_until_it_does(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        async with store.begin() as connection:
            await ask_reregistration(connection, peer.id, at=clock.now())
        await vtn.heard(lambda: bool(vtn.desk.room.view.vens[peer.id].queue))
        for _ in range(2):
            assert await ven.poll() == RequestReregistration(ven_id="a")
            clock.advance(AGAIN_AFTER)
        taken = Acknowledge(response=Response(request_id="x"), ven_id="a")
        assert (await ven.say("EiRegisterParty", taken)).response.code == 200
        await ven.register()
        assert isinstance(await ven.poll(), Acknowledge)


async def test_a_message_nobody_answers_is_given_up_and_does_not_hold_up_events(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        request_id = await ask(store, vtn, peer)
        await vtn.knows(await tell(store, clock, an_event("e1", NOON + timedelta(hours=1))))
        kinds = []
        for _ in range(2 * MAX_SENDS + 2):
            kinds.append(type(await ven.poll()).__name__)
            clock.advance(AGAIN_AFTER)
        assert kinds == ["DistributeEvents", "CreateReports"] * MAX_SENDS + ["DistributeEvents"] * 2
    async with store.begin() as connection:
        (request,) = await report_requests(connection, peer.id)
    assert (request.demand.report_request_id, request.state) == (request_id, "refused")


async def test_a_revoked_peer_is_nobody(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert (await ven.poll()).response.code == 200
        async with store.begin() as connection:
            await revoke_peer(connection, peer.id, at=clock.now())
        await vtn.heard(lambda: peer.id not in vtn.desk.room.view.vens)
        assert (await ven.poll()).response.code == NOT_REGISTERED
        assert (await ven.register()).response.code == NOT_REGISTERED
        again = await add_ven(store, clock, "a")
        assert (await ven.register()).response.code == 200
    async with store.begin() as connection:
        assert [each.peer_id for each in await ven_states(connection, tenant_id="t1")] == [again.id]


@pytest.mark.conformance("2.0b", "EiReport", "VTN: register, create, update, cancel")
async def test_a_report_is_offered_asked_for_sent_corrected_and_ended(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        with pytest.raises(NotFound, match="offers no report"):
            await ask(store, vtn, peer)
        await offering(ven)
        request_id = await ask(store, vtn, peer)
        asked = [await ven.poll()]
        assert isinstance(await ven.poll(), Acknowledge), "it has had no time to answer"
        clock.advance(AGAIN_AFTER)
        asked.append(await ven.poll())
        assert asked[0] == asked[1]
        assert isinstance(asked[0], CreateReports)
        (demand,) = asked[0].demands
        assert (demand.report_request_id, demand.granularity, demand.back) == (request_id, MINUTE, EVERY)
        created = CreatedReports(response=Response(request_id=asked[0].request_id), pending=(request_id,), ven_id="a")
        assert (await ven.say("EiReport", created)).response.code == 200
        assert isinstance(await ven.poll(), Acknowledge)
        for _ in range(2):  # told twice, kept once
            assert (await ven.say("EiReport", values(request_id, 1.5, 2.5))).response == Response(200, "OK", "u1")
        async with store.begin() as connection:
            seen = await next_report_values(connection, "test", tenant_id="t1")
            await keep_cursor(connection, "test", seen[0].id)
        assert [each.value for each in seen] == [1.5, 2.5]
        await ven.say("EiReport", values(request_id, 1.75))
        async with store.begin() as connection:
            rest = await next_report_values(connection, "test", tenant_id="t1")
        assert [(each.start_at, each.value) for each in rest] == [(NOON + MINUTE, 2.5), (NOON, 1.75)]
        strange = values("nobody", 1.0)
        assert (await ven.say("EiReport", strange)).response.code == NOT_REGISTERED
        assert (await ven.say("EiReport", replace(strange, ven_id="a"))).response.code == INVALID_ID
        async with store.begin() as connection:
            await cancel_report(connection, request_id, tenant_id="t1", at=NOON)
        assert (await ven.say("EiReport", values(request_id, 3.0))).cancel.report_request_ids == (request_id,)
        await vtn.heard(lambda: bool(vtn.desk.room.view.vens[peer.id].queue))
        told = await ven.poll()
        assert isinstance(told, CancelReports)
        done = CanceledReports(response=Response(request_id=told.request_id), ven_id="a")
        assert (await ven.say("EiReport", done)).response.code == 200
        assert isinstance(await ven.poll(), Acknowledge)


@pytest.mark.conformance("2.0b", "EiReport", "VTN: report requests survive a restart of either side")
async def test_reports_asked_for_go_on_after_either_side_starts_anew(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(
        store, clock, "a", config={"reports": {"TELEMETRY_USAGE": {"granularity_s": 60, "back_s": 300}}}
    )
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        (demand,) = (await ven.poll()).demands
        async with store.begin() as connection:
            (request,) = await report_requests(connection, peer.id)
        assert (replace(request.demand, duration=timedelta(0)), request.state) == (demand, "asked")
        assert demand.start_at == clock.now()
    clock.advance(AGAIN_AFTER)
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        again = await ven.poll()
        assert again.demands == (demand,)
        created = CreatedReports(
            response=Response(request_id=again.request_id), pending=(demand.report_request_id,), ven_id="a"
        )
        await ven.say("EiReport", created)
        assert (await ven.say("EiReport", values(demand.report_request_id, 4.0))).response.code == 200
        await offering(ven)  # it started anew and has forgotten
        assert (await ven.poll()).demands == (demand,)
    async with store.begin() as connection:
        assert [each.value for each in await next_report_values(connection, "x", tenant_id="t1")] == [4.0]
        assert len(await report_offers(connection, peer.id)) == 1


async def test_a_ven_that_sends_values_has_taken_the_request_without_saying_so(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        request_id = await ask(store, vtn, peer)
        assert isinstance(await ven.poll(), CreateReports)
        assert (await ven.say("EiReport", values(request_id, 1.5))).response.code == 200
        clock.advance(AGAIN_AFTER)
        assert isinstance(await ven.poll(), Acknowledge), "it is not asked again"
    async with store.begin() as connection:
        (request,) = await report_requests(connection, peer.id)
    assert request.state == "running"


@pytest.mark.conformance("2.0b", "EiReport", "VTN: one-shot reports and TELEMETRY_STATUS")
async def test_a_single_value_and_a_status_are_reports_too(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    nothing = timedelta(0)
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        request_id = await ask(store, vtn, peer, granularity=nothing, back=nothing)
        status = ResourceStatus(online=True, overridden=False, levels=(("capacity", 0.5),))
        assert (await ven.say("EiReport", values(request_id, status))).response.code == 200
    async with store.begin() as connection:
        (request,) = await report_requests(connection, peer.id)
        (value,) = await next_report_values(connection, "x", tenant_id="t1")
    assert (request.state, value.value) == ("done", status)


@pytest.mark.conformance("2.0b", "EiReport", "VTN: what was answered or cancelled is not asked for again")
async def test_a_request_repeated_over_a_restart_asks_for_nothing_that_came_already_or_is_cancelled(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    nothing = timedelta(0)

    async def asked(ven: RawVen) -> tuple[str, set[str]]:
        clock.advance(timedelta(seconds=1))
        told = await ven.poll()
        return type(told).__name__, {each.report_request_id for each in getattr(told, "demands", ())}

    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        once = await ask(store, vtn, peer, granularity=nothing, back=nothing)
        always = await ask(store, vtn, peer)
        assert await asked(ven) == ("CreateReports", {once})
        await offering(ven)  # it may have forgotten what it was told: it is asked for all in one message
        assert await asked(ven) == await asked(ven) == ("CreateReports", {once, always})
        assert (await ven.say("EiReport", values(once, 1.0))).response.code == 200  # it never confirms
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        ven.ven_id = "a"
        assert await asked(ven) == ("CreateReports", {always})
        async with store.begin() as connection:
            await cancel_report(connection, always, tenant_id="t1", at=clock.now())
        await vtn.heard(
            lambda: [type(each.message) for each in vtn.desk.room.view.vens[peer.id].queue] == [CancelReports]
        )
        assert [await asked(ven) for _ in range(3)] == 3 * [("CancelReports", set())]


@pytest.mark.conformance("2.0b", "EiReport", "VTN: a refused report")
async def test_a_ven_that_refuses_a_report_is_believed_and_one_that_asks_for_what_is_not_offered_is_told(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await offering(ven)
        await ask(store, vtn, peer)
        asked = await ven.poll()
        refused = CreatedReports(response=Response(461, "no", asked.request_id), ven_id="a")
        assert (await ven.say("EiReport", refused)).response.code == 200
        async with store.begin() as connection:
            (request,) = await report_requests(connection, peer.id)
        assert (request.state, request.reason) == ("refused", "461 no")
        both = [await ask(store, vtn, peer), await ask(store, vtn, peer)]
        for taken in both:  # each has a request of its own; of either the VEN names the first as pending
            partly = CreatedReports(response=Response(461, "no", (await ven.poll()).request_id), pending=(both[0],))
            assert (await ven.say("EiReport", partly)).response.code == 200, taken
        async with store.begin() as connection:
            states = {each.demand.report_request_id: each.state for each in await report_requests(connection, peer.id)}
        assert [states[each] for each in both] == ["running", "refused"], "what it names as pending it has not refused"
        update = values(both[0], 1.0).updates[0]
        strange = replace(update, values=tuple(replace(value, r_id="p9") for value in update.values))
        answer = await ven.say("EiReport", UpdateReports(request_id="u", updates=(strange,), ven_id="a"))
        assert answer.response.code == INVALID_ID, "no such point was asked for or offered"
        ours = ReportDemand(
            report_request_id="x", specifier_id="y", points=(("p", "Direct Read"),), granularity=MINUTE, back=MINUTE
        )
        assert (
            await ven.say("EiReport", CreateReports(request_id="1", demands=(ours,), ven_id="a"))
        ).response.code == REPORT_NOT_SUPPORTED
        strange = CancelReports(request_id="2", report_request_ids=("x",), to_follow=False, ven_id="a")
        assert (await ven.say("EiReport", strange)).response.code == INVALID_ID
        assert (await ven.say("EiRegisterParty", RequestReregistration(ven_id="a"))).response.code == COMPLIANCE_ERROR


@pytest.mark.conformance("2.0b", "EiOpt", "VTN: an opt for an event, and its cancellation")
async def test_an_opt_for_an_event_overrides_its_answer_until_it_is_taken_back(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", NOON + timedelta(hours=1)))

    def an_opt(opt_id: str, **fields: Any) -> CreateOpt:
        given: dict[str, Any] = {
            "request_id": "o",
            "opt_id": opt_id,
            "ven_id": "a",
            "opt_in": False,
            "reason": "economic",
            "created_at": NOON,
        }
        return CreateOpt(**(given | fields))

    async def answered() -> tuple[bool | None, str, str | None]:
        async with store.begin() as connection:
            (found,) = await event_answers(connection, "e1", tenant_id="t1")
        return found.opt_in, found.reason, found.opt_id

    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await ven.told()
        await ven.answer("e1")
        opt = an_opt("o1", event_id="e1", modification_number=0)
        answer = await ven.say("EiOpt", opt)
        assert (answer.response.code, answer.response.request_id, answer.opt_id) == (200, "o", "o1")
        assert await answered() == (False, "economic", "o1")
        assert (
            await ven.say("EiOpt", an_opt("o2", event_id="e1", modification_number=4))
        ).response.code == OUT_OF_SEQUENCE
        assert (await ven.say("EiOpt", an_opt("o2", event_id="e9", modification_number=0))).response.code == INVALID_ID
        for _ in range(2):
            assert (await ven.say("EiOpt", CancelOpt(request_id="c", opt_id="o1", ven_id="a"))).response.code == 200
        assert await answered() == (True, "", None)
        assert (await ven.say("EiOpt", CancelOpt(request_id="c", opt_id="o7", ven_id="a"))).response.code == INVALID_ID
        windows = (Interval(NOON, NOON + MINUTE), Interval(NOON + EVERY, NOON + 2 * EVERY))
        assert (await ven.say("EiOpt", an_opt("o3", windows=windows))).response.code == 200
        assert (await ven.say("EiOpt", an_opt("o4"))).response.code == INVALID_DATA, "it speaks of no time"
    async with store.begin() as connection:
        found = {"tenant_id": "t1", "start_at": NOON + EVERY, "end_at": NOON + EVERY + MINUTE}
        (declared,) = await opts_between(connection, **found)
        between = {"tenant_id": "t1", "start_at": NOON + MINUTE, "end_at": NOON + EVERY}
        assert await opts_between(connection, **between) == []
    assert (declared.name, declared.windows, declared.parts) == ("a", windows, ())


@pytest.mark.conformance("2.0b", "EiOpt", "VTN: an opt of a resource or a class of devices leaves the VEN's answer")
async def test_an_opt_of_a_part_or_of_an_earlier_version_leaves_the_vens_answer(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", NOON + timedelta(hours=1)))
    common: dict[str, Any] = {"ven_id": "a", "opt_in": False, "reason": "economic", "created_at": NOON}
    about = common | {"event_id": "e1", "modification_number": 0, "request_id": "o"}

    async def answer() -> VenAnswer:
        async with store.begin() as connection:
            (found,) = await event_answers(connection, "e1", tenant_id="t1")
        return found

    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await ven.told()
        await ven.answer("e1")
        pump, kind = Target(TargetKind.RESOURCE, "pump"), Target(TargetKind.OTHER, "Thermostat", "endDeviceAsset")
        await ven.say("EiOpt", CreateOpt(opt_id="o1", targets=(pump,), **about))
        await ven.say("EiOpt", CreateOpt(opt_id="o2", device_class=(kind,), **about))
        found = await answer()
        assert (found.opt_in, found.opt_id) == (True, None)
        assert {each.parts for each in found.partly} == {("resource pump",), ("device class Thermostat",)}
        await ven.say("EiOpt", CreateOpt(opt_id="o3", targets=(Target(TargetKind.VEN, "a"),), **about))
        assert (await answer()).opt_in is False, "of itself by name is all of it"
        await vtn.knows(await change(store, clock, event, comment="hotter"))
        await ven.told()
        await ven.answer("e1", 1)
        found = await answer()
        assert (found.opt_in, found.opt_id, found.partly) == (True, None, ()), "the answer is to a later version"
