"""Events told downstream: every version kept, told once, numbered in order."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_downstream import HOUR, START_AT, TENANT, TRANSLATOR, a_series, add_tenant, an_event
from tests.clock import NOON
from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.grid_event import GridEvent, Point, SeriesType, Target, TargetKind
from vpp.domain.peer import Protocol
from vpp.peering import (
    CHANNEL,
    Changes,
    NobodyTold,
    Published,
    cancel,
    count_downstream,
    event_from_json,
    event_to_json,
    list_downstream,
    list_grid_events,
    list_versions,
    load_downstream,
    load_grid_event,
    modify,
    publish,
)
from vpp.store.engine import Store

WORDS = {"tenant_id": TENANT, "translator": TRANSLATOR}


@pytest.fixture
async def told(store: Store) -> Store:
    """A store with a tenant."""
    await add_tenant(store)
    return store


async def tell(
    store: Store, event: GridEvent, *, at: datetime = NOON, tenant_id: str = TENANT, changes: Changes | None = None
) -> Published:
    async with store.begin() as connection:
        return await publish(connection, event, tenant_id=tenant_id, at=at, translator=TRANSLATOR, changes=changes)


async def test_two_first_events_of_a_programme_told_at_once_are_both_told(told: Store) -> None:
    async with told.begin() as first:
        await publish(first, an_event("event-1"), at=NOON, changes=NobodyTold(), **WORDS)
        second = asyncio.create_task(tell(told, an_event("event-2"), changes=NobodyTold()))
        await asyncio.wait({second}, timeout=0.3)  # it waits for the name
        assert not second.done()
    assert (await second).changed
    async with told.begin() as connection:
        found = [await load_downstream(connection, name, tenant_id=TENANT) for name in ("event-1", "event-2")]
    assert all(each.openadr3_id is not None for each in found)


ODD = (True, 3, 3.0, -0.0, 1e22, float("inf"), "text ☀", Point(1.0, -2.5), 5e-324, 0.1, 2**70)


async def test_an_event_comes_back_from_the_database_as_it_was_told(told: Store) -> None:
    event = an_event(
        series=(
            a_series(*ODD, kind=SeriesType.OTHER, name="x-custom", unit="KW", currency="EUR", current=2.0,
                     targets=(Target(TargetKind.OTHER, "a", "FEEDER"),)),
        ),
        duration=None, priority=2, comment="come", start_tolerance=timedelta(seconds=90), is_test=True,
        notification=timedelta(minutes=5), ramp_up=timedelta(minutes=1), recovery=timedelta(microseconds=7),
        answer_wanted=False, reports_wanted=("USAGE",), modification_reason="why",
        extras={"openadr3": {"reportDescriptors": [{"payloadType": "USAGE", "aggregate": None}]}},
    )  # fmt: skip
    await tell(told, event, at=NOON)
    async with told.begin() as connection:
        back = await load_grid_event(connection, "event-1", tenant_id=TENANT)
    assert back == replace(event, modified_at=NOON)
    kept = [interval.values[0] for interval in back.series[0].intervals]
    assert [repr(value) for value in kept] == [repr(value) for value in ODD]  # types and signs of zero too


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800"])
def test_a_text_the_database_cannot_keep_is_refused_by_name(bad: str) -> None:
    with pytest.raises(InvalidRequest, match="event"):
        event_to_json(an_event(comment=bad))
    event_to_json(an_event(comment="a backslash and \\u0000 spelt out"))


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda s: st.lists(s) | st.dictionaries(st.text(), s))
)
@settings(max_examples=25, deadline=None)
def test_any_json_is_read_as_an_event_or_refused(value: object) -> None:
    body = event_to_json(an_event())
    for key in body:
        try:
            event_from_json({**body, key: value})
        except InvalidRequest:
            continue


async def test_publishing_twice_is_publishing_once(told: Store) -> None:
    first = await tell(told, an_event())
    again = await tell(told, an_event(created_at=NOON), at=NOON + HOUR)
    assert (first.changed, again.changed, again.event) == (True, False, first.event)
    async with told.begin() as connection:
        await modify(connection, "event-1", lambda event: replace(event, priority=1), at=NOON, **WORDS)
    late = await tell(told, an_event())
    assert (late.changed, late.event.modification_number) == (False, 1)


async def test_an_id_is_not_given_to_another_event_of_the_tenant(told: Store) -> None:
    await tell(told, an_event())
    with pytest.raises(Conflict, match="said something else"):
        await tell(told, an_event(comment="other"))
    with pytest.raises(Conflict, match="taken"):
        async with told.begin() as connection:
            await publish(connection, an_event(), at=NOON, origin="peer:p/event-1", **WORDS)


async def test_every_change_is_a_version_with_the_next_number(told: Store) -> None:
    await tell(told, an_event())
    async with told.begin() as connection:
        await modify(connection, "event-1", lambda event: replace(event, duration=3 * HOUR), at=NOON, **WORDS)
        same = await modify(connection, "event-1", lambda event: event, at=NOON, **WORDS)
        gone = await cancel(connection, "event-1", at=NOON + HOUR, **WORDS)
        twice = await cancel(connection, "event-1", at=NOON + 2 * HOUR, **WORDS)
        back = await modify(
            connection, "event-1", lambda event: replace(event, cancelled=False), at=NOON, revive=True, **WORDS
        )
        versions = await list_versions(connection, "event-1", tenant_id=TENANT)
        stands = await load_downstream(connection, "event-1", tenant_id=TENANT)
    assert (same.changed, gone.changed, twice.changed, back.changed) == (False, True, False, True)
    assert [event.modification_number for event, _ in versions] == [3, 2, 1, 0]
    assert [event.cancelled for event, _ in versions] == [False, True, False, False]
    assert stands.event == versions[0][0] == back.event
    assert gone.event.modified_at == NOON + HOUR


async def test_a_change_cannot_set_the_number_the_id_or_the_creation(told: Store) -> None:
    first = await tell(told, an_event())
    async with told.begin() as connection:
        changed = await modify(
            connection,
            "event-1",
            lambda _: an_event("other", modification_number=9, created_at=NOON, priority=1),
            at=NOON,
            **WORDS,
        )
    assert (changed.event.event_id, changed.event.modification_number) == ("event-1", 1)
    assert changed.event.created_at == first.event.created_at


async def test_changes_are_refused_where_they_contradict_what_stands(told: Store) -> None:
    await tell(told, an_event())
    over_at = START_AT + 2 * HOUR
    async with told.begin() as connection:

        async def change(**more: object) -> Published:
            arguments = {"at": NOON, **WORDS, **more}
            return await modify(
                connection, "event-1", lambda e: replace(e, priority=(e.priority or 0) + 1), **arguments
            )

        with pytest.raises(Conflict, match="modification 0, not 4"):
            await change(expected_number=4)
        with pytest.raises(Conflict, match="modification 0, not 4"):
            await cancel(connection, "event-1", at=NOON, expected_number=4, **WORDS)
        with pytest.raises(Conflict, match="over"):
            await change(at=over_at)
        with pytest.raises(Conflict, match="over"):
            await cancel(connection, "event-1", at=over_at, **WORDS)
        with pytest.raises(NotFound):
            await change(tenant_id="other")
        for nobodys in ("a\0b", "\0"):
            with pytest.raises(NotFound):
                await cancel(connection, nobodys, at=NOON, **WORDS)
            with pytest.raises(NotFound):
                await load_grid_event(connection, nobodys, tenant_id=TENANT)
        with pytest.raises(NotFound):
            await load_grid_event(connection, "event-1", tenant_id="other")
        await cancel(connection, "event-1", at=NOON, **WORDS)
        with pytest.raises(Conflict, match="cancelled"):
            await change()


async def test_two_changes_at_once_get_two_numbers(told: Store) -> None:
    await tell(told, an_event(priority=0))

    async def one() -> int:
        async with told.begin() as connection:
            done = await modify(
                connection, "event-1", lambda e: replace(e, priority=(e.priority or 0) + 1), at=NOON, **WORDS
            )
        return done.event.modification_number

    assert sorted(await asyncio.gather(*(one() for _ in range(4)))) == [1, 2, 3, 4]
    async with told.begin() as connection:
        assert (await load_grid_event(connection, "event-1", tenant_id=TENANT)).priority == 4


async def test_a_listener_hears_of_committed_changes_only(told: Store, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute(f"listen {CHANNEL}".encode())
        async with told.begin() as connection:
            await publish(connection, an_event("lost"), at=NOON, **WORDS)
            await connection.rollback()
        await tell(told, an_event())
        async with told.begin() as connection:
            await cancel(connection, "event-1", at=NOON, **WORDS)
        heard = [note.payload async for note in listener.notifies(timeout=5, stop_after=2)]
    assert heard == ["event-1", "event-1"]


async def test_events_are_listed_by_whether_they_are_over_and_since_when_they_changed(told: Store) -> None:
    await tell(told, an_event("short", recovery=HOUR), at=NOON)
    await tell(told, an_event("endless", duration=None, start_at=START_AT - HOUR), at=NOON + HOUR)
    async with told.begin() as connection:

        async def current(at: datetime) -> list[str]:
            found = await list_grid_events(connection, tenant_id=TENANT, current_at=at)
            assert await count_downstream(connection, tenant_id=TENANT, current_at=at) == len(found)
            return [event.event_id for event in found]

        assert await current(NOON) == ["endless", "short"]
        assert await current(START_AT + 2.5 * HOUR) == ["endless", "short"], "recovering is not over"
        assert await current(START_AT + 3 * HOUR) == ["endless"]
        since = await list_grid_events(connection, tenant_id=TENANT, modified_since=NOON + HOUR)
        assert [event.event_id for event in since] == ["endless"]
        over = await list_downstream(connection, tenant_id=TENANT, over_at=START_AT + 3 * HOUR)
        assert [each.event.event_id for each in over] == ["short"]
        assert await list_grid_events(connection, tenant_id="other") == []
        await cancel(connection, "endless", at=START_AT, **WORDS)
        assert await current(START_AT + 26 * HOUR) == [], "a cancelled event without an end is told for a day"


@pytest.mark.conformance("all", "one meaning", "what a protocol cannot say is reported")
async def test_what_a_protocol_cannot_say_comes_back(told: Store) -> None:
    published = await tell(told, an_event(comment="hello"))
    assert [u.field for u in published.unsaid[Protocol.OPENADR2]] == ["comment"]


async def test_what_is_too_large_is_refused(told: Store) -> None:
    for bad in (
        an_event("i" * 129),
        an_event("a\nb"),
        an_event(series=(a_series(1.0),) * 33),
        an_event(modification_number=2**31),
    ):
        with pytest.raises(InvalidRequest):
            await tell(told, bad)


def test_instants_keep_their_meaning_across_zones() -> None:
    event = an_event(start_at=START_AT.astimezone(None))
    assert event_from_json(event_to_json(event)).start_at == START_AT.astimezone(UTC)
