"""EiEvent of our OpenADR 2.0b VTN: what a VEN is told, how often, and what its answers change."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.builders_processes import eventually
from tests.builders_vtn2 import (
    CONTEXT,
    add_ven,
    an_event,
    change,
    listed,
    own_database,
    raw_ven,
    running_vtn,
    swept_store,
    tell,
    withdraw,
)
from tests.clock import FixedClock
from vpp.domain.grid_event import Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.openadr2 import (
    INVALID_ID,
    OUT_OF_SEQUENCE,
    Acknowledge,
    CreatedEvents,
    DistributeEvents,
    RequestEvents,
    Response,
)
from vpp.peering import event_answers, update_peer, ven_states
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


@pytest.mark.conformance("2.0b", "OadrPoll", "VTN: an event is told until oadrCreatedEvent answers it")
async def test_an_event_is_told_on_every_poll_until_it_is_answered(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == []
        event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
        await vtn.knows(event)
        for _ in range(6):
            assert await ven.told() == [("e1", 0, "far")]
        for code in (460, 200):
            assert (await ven.answer("e1", opt_in=code != 200, code=code)).code == 200
            assert await ven.told() == []
            async with store.begin() as connection:
                (answer,) = await event_answers(connection, "e1", tenant_id="t1")
            assert (answer.opt_in, answer.code) == (False, code), "who could not take the event takes no part in it"
    assert (answer.answered_modification, answer.told_status) == (0, "far")


async def test_a_ven_that_has_yet_to_decide_is_told_anew_only_after_its_poll_interval(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far")]
        undecided = CreatedEvents(response=Response(request_id="q"), ven_id="a", opts=())
        assert (await ven.say("EiEvent", undecided)).response.code == 200
        assert await ven.told() == []
        assert await ven.told() == [], "remembered as quiet no longer than that"
        event = await change(store, clock, event, priority=2)
        await vtn.knows(event)
        assert await ven.told() == [("e1", 1, "far")]
        assert (await ven.say("EiEvent", undecided)).response.code == 200
        assert await ven.told() == []
        clock.advance(vtn.desk.room.poll)
        assert await ven.told() == [("e1", 1, "far")]


@pytest.mark.conformance(
    "2.0b", "EiEvent", "VTN: modification before and during the event, modificationNumber in order"
)
async def test_a_change_before_and_during_the_event_is_told_and_older_answers_do_not_count(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far")]
        assert (await ven.answer("e1", 0)).code == 200
        event = await change(store, clock, event, priority=2)
        await vtn.knows(event)
        assert await ven.told() == [("e1", 1, "far")]
        assert (await ven.answer("e1", 0, opt_in=False)).code == OUT_OF_SEQUENCE
        assert (await ven.answer("e1", 7)).code == OUT_OF_SEQUENCE
        assert (await ven.answer("e1", 1)).code == 200
        clock.advance(HOUR + timedelta(minutes=5))
        assert await ven.told() == [("e1", 1, "active")]
        assert (await ven.answer("e1", 1)).code == 200
        assert await ven.told() == []
        event = await change(store, clock, event, comment="more")
        await vtn.knows(event)
        assert await ven.told() == [("e1", 2, "active")]
        assert (await ven.answer("e1", 2)).code == 200
    async with store.begin() as connection:
        (answer,) = await event_answers(connection, "e1", tenant_id="t1")
    assert (answer.opt_in, answer.answered_modification) == (True, 2)


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: eventStatus far, near, active, completed")
async def test_status_goes_far_near_active_completed_and_then_the_event_is_dropped(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + HOUR, ramp_up=timedelta(minutes=20)))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        for minutes, status in ((0, "far"), (45, "near"), (20, "active"), (60, "completed")):
            clock.advance(timedelta(minutes=minutes))
            assert await ven.told() == [("e1", 0, status)]
            assert (await ven.answer("e1")).code == 200
            assert await ven.told() == []


async def test_a_status_nobody_answers_is_told_three_times_and_no_more(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await ven.told()
        await ven.answer("e1")
        clock.advance(HOUR)
        assert [await ven.told() for _ in range(4)] == [[("e1", 0, "active")]] * 3 + [[]]
        clock.advance(HOUR)
        assert [await ven.told() for _ in range(4)] == [[("e1", 0, "completed")]] * 3 + [[]]


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: oadrResponseRequired never")
async def test_without_an_answer_wanted_each_change_is_told_once_and_again_when_asked(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR, answer_wanted=False))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert [await ven.told(), await ven.told()] == [[("e1", 0, "far")], []]
        asked = await ven.say("EiEvent", RequestEvents(request_id="r9", ven_id=ven.ven_id))
        assert listed(asked) == [("e1", 0, "far")]
        assert asked.response.request_id == "r9"
        event = await withdraw(store, clock, event)
        await vtn.knows(event)
        assert [await ven.told(), await ven.told()] == [[("e1", 1, "cancelled")], []]


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: cancellation, told until it is acknowledged")
async def test_a_cancellation_is_told_until_acknowledged_beside_what_still_stands(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    first = await tell(store, clock, an_event("e1", clock.now() + HOUR))
    await tell(store, clock, an_event("e2", clock.now() + 2 * HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far"), ("e2", 0, "far")]
        for event_id in ("e1", "e2"):
            await ven.answer(event_id)
        clock.advance(HOUR + timedelta(minutes=1))
        await vtn.knows(await withdraw(store, clock, first))
        for _ in range(5):
            assert await ven.told() == [("e2", 0, "far"), ("e1", 1, "cancelled")]
        assert (await ven.answer("e1", 1)).code == 200
        assert await ven.told() == []
        asked = await ven.say("EiEvent", RequestEvents(request_id="r", ven_id=ven.ven_id))
        assert listed(asked) == [("e2", 0, "far")]


async def test_who_was_never_told_of_a_cancelled_event_hears_nothing_of_it(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    await withdraw(store, clock, await tell(store, clock, an_event("e1", clock.now() + HOUR)))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == []
        assert (await ven.answer("e1", 1)).code == 200  # it may know of it from before it registered anew
        assert (await ven.answer("e7", 0)).code == INVALID_ID


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: order of events, and replyLimit")
async def test_events_are_listed_active_by_priority_then_those_to_come_by_start_and_cut_to_the_limit(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    for event_id, hours, priority in (
        ("late", 5, 1), ("none", 1, 0), ("soon", 2, 1), ("two", 1, 2), ("now", -0.5, 0), ("now1", -0.2, 1),
    ):  # fmt: skip
        ramp_up = 6 * HOUR if event_id == "late" else None
        await tell(store, clock, an_event(event_id, clock.now() + hours * HOUR, priority=priority, ramp_up=ramp_up))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        order = ["now1", "now", "two", "none", "soon", "late"]
        told = await ven.told()
        assert [event_id for event_id, _, _ in told] == order
        assert told[-1] == ("late", 0, "near"), "a long ramp brings no event before one that begins sooner"
        for limit in (1, 3):
            asked = await ven.say("EiEvent", RequestEvents(request_id="r", ven_id=ven.ven_id, reply_limit=limit))
            assert [each.event.event_id for each in asked.events] == order[:limit]


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: eiTarget by venID, group, resource and party")
async def test_targets_choose_vens_by_id_group_resource_and_party_and_name_nobody_else(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a", groups=("north",), config={"resources": ["r1"]})
    await add_ven(store, clock, "b", config={"parties": ["p1"], "market_contexts": ["http://other.example/x"]})
    soon = clock.now() + HOUR
    targets = {
        "both": ((TargetKind.VEN, "a"), (TargetKind.VEN, "b")),
        "group": ((TargetKind.GROUP, "north"),),
        "party": ((TargetKind.PARTY, "p1"),),
        "resource": ((TargetKind.RESOURCE, "r1"), (TargetKind.RESOURCE, "r2")),
        "nobody": ((TargetKind.GROUP, "south"),),
    }
    for event_id, wanted in targets.items():
        await tell(store, clock, an_event(event_id, soon, targets=tuple(Target(*each) for each in wanted)))
    await tell(store, clock, an_event("all", soon))
    await tell(store, clock, an_event("other", soon, program="http://other.example/x"))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as a, raw_ven(vtn.url, "b") as b:
        to_a, to_b = await a.poll(), await b.poll()
    assert isinstance(to_a, DistributeEvents)
    told_a = {each.event.event_id: each.event.targets for each in to_a.events}
    told_b = {each.event.event_id: each.event.targets for each in to_b.events}
    assert set(told_a) == {"both", "group", "resource", "all", "other"}
    assert set(told_b) == {"both", "party", "other"}
    assert told_a["both"] == (Target(TargetKind.VEN, "a"),)
    assert told_b["both"] == (Target(TargetKind.VEN, "b"),)
    assert told_a["resource"] == (Target(TargetKind.RESOURCE, "r1"),)
    assert told_a["all"] == (Target(TargetKind.VEN, "a"),)


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: currentValue of a SIMPLE signal")
async def test_the_value_in_force_is_told_of_simple_signals_and_never_an_old_one(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    start_at = clock.now() + HOUR
    parts = tuple(
        SeriesInterval(start_at=start_at + n * HOUR, duration=HOUR, values=(level,), uid=str(n))
        for n, level in enumerate((1.0, 3.0))
    )
    simple = Series(series_id="s0", type=SeriesType.SIMPLE, name="SIMPLE/level", intervals=parts)
    power = replace(an_event("x", start_at, 5.0, 7.0).series[0], current=5.0)  # as it stood when it was passed on
    await tell(store, clock, an_event("e1", start_at, 5.0, 7.0, series=(simple, power)))

    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        said = []
        for _ in range(3):
            (told,) = (await ven.poll()).events
            said.append((told.status.value, *(series.current for series in told.event.series)))
            clock.advance(timedelta(minutes=70))
    assert said == [("far", 0.0, None), ("active", 1.0, 5.0), ("active", 3.0, 7.0)]


async def test_an_event_that_is_for_others_now_is_cancelled_for_who_had_it(store: Store, clock: FixedClock) -> None:
    for name in ("a", "b"):
        await add_ven(store, clock, name)
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR, targets=(Target(TargetKind.VEN, "a"),)))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as a, raw_ven(vtn.url, "b") as b:
        assert [await a.told(), await b.told()] == [[("e1", 0, "far")], []]
        await vtn.knows(await change(store, clock, event, targets=(Target(TargetKind.VEN, "b"),)))
        assert [await a.told(), await b.told()] == [[("e1", 1, "cancelled")], [("e1", 1, "far")]]
        (gone,) = (await a.poll()).events
        assert gone.event.targets == (Target(TargetKind.VEN, "a"),), "whose it is now is none of its business"
        assert (await a.answer("e1", 1)).code == 200
        assert await a.told() == []


async def test_a_group_given_to_a_ven_brings_it_the_groups_events_and_one_taken_away_ends_them(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + HOUR, targets=(Target(TargetKind.GROUP, "g"),)))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == []
        async with store.begin() as connection:
            await update_peer(connection, peer.id, {"groups": ("g",)}, tenant_id="t1")
        await vtn.heard(lambda: vtn.desk.room.view.vens[peer.id].peer.groups == ("g",))
        assert await ven.told() == [("e1", 0, "far")]
        assert (await ven.answer("e1")).code == 200
        async with store.begin() as connection:
            await update_peer(connection, peer.id, {"groups": ()}, tenant_id="t1")
        await vtn.heard(lambda: vtn.desk.room.view.vens[peer.id].peer.groups == ())
        for _ in range(5):
            assert await ven.told() == [("e1", 0, "cancelled")]
        assert (await ven.answer("e1")).code == 200
        assert await ven.told() == []


async def test_an_event_openadr_2_has_no_words_for_holds_up_no_other(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    mute = an_event("mute", clock.now() + HOUR)
    await tell(store, clock, an_event("mute", clock.now() + HOUR, series=(), program=mute.program))
    await tell(store, clock, an_event("e1", clock.now() + HOUR, program=CONTEXT))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far")]


async def test_a_ven_that_registers_anew_is_told_everything_again_and_keeps_its_answer(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await ven.told()
        await ven.answer("e1", opt_in=False)
        ids = (ven.ven_id, ven.registration_id)
        await ven.register(request_id="again")
        assert (ven.ven_id, ven.registration_id) == ids
        assert await ven.told() == [("e1", 0, "far")]
    async with store.begin() as connection:
        (answer,) = await event_answers(connection, "e1", tenant_id="t1")
    assert answer.opt_in is False


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: events and answers survive a restart")
async def test_nothing_told_or_answered_is_lost_with_the_process(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far")]
        ids = ven.ven_id
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        ven.ven_id = ids
        assert await ven.told() == [("e1", 0, "far")]
        assert (await ven.answer("e1")).code == 200
    clock.advance(HOUR)
    event = await change(store, clock, event, comment="during")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        ven.ven_id = ids
        assert await ven.told() == [("e1", 1, "active")]
        assert (await ven.answer("e1", 1)).code == 200
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        ven.ven_id = ids
        assert isinstance(await ven.poll(), Acknowledge)


@pytest.mark.parametrize("vens", [40])
async def test_many_vens_that_ask_and_answer_at_once_are_each_told_once(
    store: Store, clock: FixedClock, vens: int
) -> None:
    names = [f"v{n}" for n in range(vens)]
    for name in names:
        await add_ven(store, clock, name)
    await tell(store, clock, an_event("e1", clock.now() + HOUR))

    async def live(url: str, name: str) -> list[list[tuple[str, int, str]]]:
        async with raw_ven(url, name) as ven:
            first = await ven.told()
            assert (await ven.answer("e1")).code == 200
            return [first, await ven.told()]

    async with running_vtn(store, clock) as vtn:
        lives = await asyncio.gather(*(live(vtn.url, name) for name in names))
    assert lives == [[[("e1", 0, "far")], []]] * vens
    async with store.begin() as connection:
        answers = await event_answers(connection, "e1", tenant_id="t1")
    assert [answer.opt_in for answer in answers] == [True] * vens


async def test_nothing_is_missed_when_every_connection_to_the_database_is_cut(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    first = await tell(store, clock, an_event("e1", clock.now() + HOUR))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        assert await ven.told() == [("e1", 0, "far")]
        async with store.begin() as connection:
            cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            await connection.execute(text(f"{cut} and pid <> pg_backend_pid()"))
        assert (await ven.answer("e1")).code == 200
        await vtn.knows(await change(store, clock, first, comment="more"))
        assert await ven.told() == [("e1", 1, "far")]


async def test_what_no_notice_told_is_found_within_a_minute_and_old_things_are_deleted(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        await vtn.desk.room.keeper.look_again()
        async with store.begin() as connection:
            await connection.execute(text("update peer set groups = '{silent}'"))
            await connection.execute(
                text(
                    "insert into vtn2_outbox (peer_id, kind, request_id, message, created_at, sent_count, closed_at) "
                    "values (:peer, 'RequestReregistration', 'r', '{}', :at, 1, :at)"
                ),
                {"peer": peer.id, "at": clock.now() - timedelta(days=500)},
            )
        clock.advance(timedelta(minutes=2))
        await ven.poll()

        async def is_found() -> bool:  # by this call, or by one the VTN made by itself just before
            await vtn.desk.room.keeper.look_again()
            return vtn.desk.room.view.vens[peer.id].peer.groups == ("silent",)

        assert await eventually(is_found, 5.0)
    async with store.begin() as connection:
        assert (await connection.execute(text("select count(*) from vtn2_outbox"))).scalar_one() == 0
        assert (await ven_states(connection, tenant_id="t1"))[0].seen_at == clock.now()
