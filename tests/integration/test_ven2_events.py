"""Events of a utility over their whole life: cancelled and alive again, changed beyond the fleet, dropped."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_gateway import Fleet, MortalStore, add_tenant, running_ven
from tests.builders_ven2 import ScriptedVtn, grid_event
from tests.clock import FixedClock
from vpp.commitments import advance, load
from vpp.domain import openadr2 as m
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.grid_event import EventStatus, GridEvent, SeriesType
from vpp.gateway import Openadr2Ven
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.commitments import commitment_step
from vpp.store.tables.signals import heard_series

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
PRICE = (SeriesType.PRICE, "ELECTRICITY_PRICE/price", "KWH")


@pytest.fixture
def present() -> FixedClock:
    """The scripted VTN reads the machine's clock; ours stands at the same minute."""
    return FixedClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture
async def vtn(present: FixedClock) -> AsyncIterator[ScriptedVtn]:
    async with ScriptedVtn(now=present.now).serving() as served:
        yield served


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
async def ven(fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, fleet: Fleet) -> AsyncIterator[Openadr2Ven]:
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as made:
        yield made


async def lives(store: Store) -> list[Commitment]:
    """Every commitment, by life."""
    async with store.begin() as connection:
        rows = await connection.execute(select(commitments.c.id).order_by(commitments.c.life))
        return [await load(connection, id_) for id_ in rows.scalars()]


async def activate(store: Store, clock: FixedClock) -> None:
    """What the lifecycle does when an event begins."""
    before = (await lives(store))[-1]
    after = replace(before, state=CommitmentState.ACTIVE, revision=before.revision + 1)
    async with store.begin() as connection:
        await advance(connection, before, after, at=clock.now(), what="began")


async def steps(store: Store) -> list[str]:
    async with store.begin() as connection:
        return list((await connection.execute(select(commitment_step.c.what).order_by(commitment_step.c.id))).scalars())


def declined_changes() -> float | None:
    return REGISTRY.get_sample_value("vpp_gateway_declined_changes", {"source": "openadr2:utility"})


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: an event that is no longer cancelled is taken again")
async def test_a_cancelled_event_stated_again_before_its_start_is_taken_again_and_answered(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    first = grid_event("E1", present.now() + HOUR, 400.0, start_tolerance=10 * MINUTE)
    vtn.tell(first)
    await ven.step()
    vtn.tell(replace(first, modification_number=1, cancelled=True))
    await ven.step()
    vtn.tell(replace(first, modification_number=2))
    await ven.step()
    gone, again = await lives(fleet_store)
    assert (gone.state, again.state) == (CommitmentState.CANCELLED, CommitmentState.ACCEPTED)
    assert again.start_offset_s == gone.start_offset_s > 0
    assert again.window == gone.window
    assert [opt[:3] for opt in vtn.opts if opt[1] == 2] == [("E1", 2, "in")]


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: the same while it runs")
async def test_a_cancelled_event_stated_again_while_it_runs_is_owed_from_now_on(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    first = grid_event("E1", present.now() - 30 * MINUTE, 400.0, 300.0)
    vtn.tell(first)
    await ven.step()
    await activate(fleet_store, present)
    vtn.tell(replace(first, modification_number=1, cancelled=True))
    await ven.step()
    vtn.tell(replace(first, modification_number=2))
    await ven.step()
    ended, again = await lives(fleet_store)
    assert ended.window.end_at == again.window.start_at == present.now()
    assert (again.state, again.next_due_at) == (CommitmentState.ACCEPTED, present.now())
    assert [target.target_kw for target in again.targets] == [400.0, 300.0]
    assert vtn.opts[-1] == ("E1", 2, "in", 200)


async def test_an_event_that_was_missing_for_a_while_is_taken_again_by_the_version_we_knew(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    event, other = (grid_event(name, present.now() + HOUR, 400.0, number=3) for name in ("E1", "E2"))
    vtn.tell(event, other)
    await ven.step()
    vtn.tell(other)
    await ven.step()
    vtn.heard.clear()
    vtn.tell(event, other)
    await ven.step()
    found = {(c.external_id, c.life): c.state.value for c in await lives(fleet_store)}
    assert found == {("E1", 1): "cancelled", ("E1", 2): "accepted", ("E2", 1): "accepted"}
    assert ("E1", 3, "in", 200) in vtn.opts


async def test_a_modification_number_beyond_belief_holds_up_no_other_event(
    ven: Openadr2Ven, vtn: ScriptedVtn, fleet_store: Store, present: FixedClock
) -> None:
    start_at = present.now() + HOUR
    vtn.events = [grid_event("far-off", start_at, 100, number=2**32 - 1), grid_event("good", start_at, 100)]
    await ven.step()
    assert [each.external_id for each in await lives(fleet_store)] == ["good"]
    assert ("good", 0, "in", 200) in vtn.opts


async def test_the_answer_to_a_cancellation_is_not_sent_once_the_event_lives_again(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    event = grid_event("E1", present.now() + HOUR, 400.0)
    vtn.tell(event)
    await ven.step()
    vtn.without = {"EiEvent"}  # no answer of ours is taken
    vtn.tell(replace(event, modification_number=1, cancelled=True))
    await ven.step()
    assert (await lives(fleet_store))[0].state is CommitmentState.CANCELLED
    vtn.without, vtn.events = set(), [replace(event, modification_number=2)]
    vtn.heard.clear()
    await ven.step()
    assert set(vtn.opts) == {("E1", 2, "in", 200)}


async def test_a_change_the_fleet_cannot_cover_during_the_event_is_seen_from_outside(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    event = grid_event("E1", present.now() - 30 * MINUTE, 400.0, 300.0)
    vtn.tell(event)
    await ven.step()
    await activate(fleet_store, present)
    vtn.tell(grid_event("E1", event.start_at, 400.0, 5000.0, number=1))
    await ven.step()
    held = (await lives(fleet_store))[0]
    assert vtn.opts[-1] == ("E1", 1, "out", 200)
    assert (held.state, held.opt_in, [t.target_kw for t in held.targets]) == (
        CommitmentState.ACTIVE, False, [400.0, 300.0],
    )  # fmt: skip
    assert "modification declined, earlier targets stay" in await steps(fleet_store)
    assert declined_changes() == 1
    vtn.tell(grid_event("E1", event.start_at, 400.0, 500.0, number=2))
    await ven.step()
    assert declined_changes() == 0
    assert vtn.opts[-1] == ("E1", 2, "in", 200)


async def test_a_change_we_do_not_understand_during_the_event_is_seen_from_outside(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    event = grid_event("E1", present.now() - 30 * MINUTE, 400.0)
    vtn.tell(event)
    await ven.step()
    await activate(fleet_store, present)
    for _ in range(2):
        vtn.tell(grid_event("E1", event.start_at, 0.3, number=1, kind=PRICE))
        await ven.step()
    assert (await lives(fleet_store))[0].state is CommitmentState.ACTIVE
    assert vtn.opts[-1] == ("E1", 1, "out", 460)
    assert (await steps(fleet_store)).count("a change cannot be taken") == 1
    assert declined_changes() == 1


async def test_an_event_is_not_withdrawn_that_has_ended_by_the_utilitys_clock(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.ahead = 10 * MINUTE
    vtn.tell(grid_event("E1", present.now() - 55 * MINUTE, 400.0))
    await ven.step()
    await activate(fleet_store, present)
    vtn.tell()
    await ven.step()
    assert not (await lives(fleet_store))[0].cancel_requested
    offset_s = REGISTRY.get_sample_value("vpp_gateway_clock_offset_seconds", {"source": "openadr2:utility"})
    assert offset_s == pytest.approx(600, abs=2)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=5)])
async def test_an_event_dropped_early_is_withdrawn_where_the_clock_does_not_explain_it(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, ahead: timedelta
) -> None:
    vtn.ahead = ahead
    vtn.tell(grid_event("E1", present.now() - 55 * MINUTE, 400.0))
    await ven.step()
    await activate(fleet_store, present)
    vtn.tell()
    await ven.step()
    assert (await lives(fleet_store))[0].cancel_requested


def completed(vtn: ScriptedVtn, event: GridEvent) -> None:
    """Tell on the next poll that an event is over."""
    told = m.DistributedEvent(event=event, status=EventStatus.COMPLETED)
    vtn.queue.append(m.DistributeEvents(request_id="d1", vtn_id=vtn.vtn_id, events=(told,), response=m.Response()))


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: an event told completed before its end ends then")
async def test_an_event_told_completed_before_its_end_is_owed_until_then_and_told_active_again_from_then_on(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    event = grid_event("E1", present.now() - 30 * MINUTE, 400.0, 300.0)
    vtn.tell(event)
    await ven.step()
    await activate(fleet_store, present)
    vtn.heard.clear()
    for _ in range(2):
        completed(vtn, event)
        await ven.step()
    (ended,) = await lives(fleet_store)
    assert (ended.window.end_at, ended.next_due_at) == (present.now(), present.now())
    assert ([each.target_kw for each in ended.targets], ended.state) == ([400.0], CommitmentState.ACTIVE)
    assert (await steps(fleet_store)).count("told completed before its end") == 1
    assert vtn.opts == []  # nothing more is to be answered
    vtn.tell(event)
    present.advance(10 * MINUTE)
    await ven.step()
    before, again = await lives(fleet_store)
    assert before.window == ended.window
    assert (again.state, again.window.start_at) == (CommitmentState.ACCEPTED, present.now())


async def test_an_event_told_completed_with_a_shorter_length_or_before_its_start_is_over_and_below_us_too(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    passed: list[tuple[str, GridEvent | None]] = []

    class PassedOn:
        async def __call__(self, connection: AsyncConnection, event_id: str, event: GridEvent | None) -> None:
            passed.append((event_id, event))

        async def told_below(self, connection: AsyncConnection, *, after: datetime) -> list[str]:
            return ["E1"]

    running, shorter = (grid_event("E1", present.now() - 30 * MINUTE, 400.0, length=n * MINUTE) for n in (60, 20))
    shorter = replace(shorter, modification_number=1)
    later = grid_event("E2", present.now() + HOUR, 400.0)
    async with running_ven(fleet_store, present, vtn.url, terms={"pass_on": PassedOn()}) as ven:
        vtn.tell(running)
        await ven.step()
        await activate(fleet_store, present)
        completed(vtn, shorter)
        await ven.step()
        assert passed[-1] == ("E1", shorter)
        vtn.tell(later)
        await ven.step()
        completed(vtn, later)
        await ven.step()
        assert passed[-1] == ("E2", None)
    found = {each.external_id: each for each in await lives(fleet_store)}
    assert (found["E1"].state, found["E1"].window.end_at) == (CommitmentState.ACTIVE, present.now())
    assert found["E2"].state is CommitmentState.CANCELLED


async def test_an_event_told_completed_at_its_end_by_the_utilitys_clock_is_not_cut_short(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.ahead = 10 * MINUTE
    event = grid_event("E1", present.now() - 55 * MINUTE, 400.0)
    vtn.tell(event)
    await ven.step()
    await activate(fleet_store, present)
    completed(vtn, event)
    await ven.step()
    (held,) = await lives(fleet_store)
    assert (held.cancel_requested, held.window.end_at) == (False, event.end_at)


async def told_again(clock: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven) -> None:
    vtn.tell(*vtn.events)
    clock.advance(MINUTE)
    await ven.step()


async def test_a_message_of_events_told_again_is_recognised_at_once_and_answered_where_an_answer_is_wanted(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    async def transactions(count: int) -> int:
        counting = MortalStore(fleet_store)
        async with running_ven(counting, present, vtn.url) as ven:
            silent = [grid_event(f"E{n}", present.now() + HOUR, 9.0, answer_wanted=False) for n in range(count)]
            asking = grid_event("asking", present.now() + HOUR, 9.0, number=count)
            vtn.tell(*silent, asking)
            await ven.step()
            vtn.heard.clear()
            before = counting.left
            await told_again(present, vtn, ven)
        assert vtn.opts == [("asking", count, "in", 200)]
        return before - counting.left

    assert await transactions(1) == await transactions(8)


async def test_an_event_told_again_is_taken_anew_where_our_part_in_it_has_changed_or_it_was_withdrawn(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    async def effects() -> dict[str, str]:
        async with fleet_store.begin() as connection:
            rows = await connection.execute(select(heard_series.c.event_id, heard_series.c.effect))
            return {row.event_id: row.effect for row in rows}

    start_at = present.now() + 3 * HOUR
    vtn.tell(grid_event("power", start_at, 9.0), grid_event("price", start_at, 9.0, kind=PRICE))
    await ven.step()
    assert await effects() == {"power": "committed", "price": "shown"}
    (before,) = await lives(fleet_store)
    declined = replace(before, opt_in=False, opt_reason="too hot", revision=before.revision + 1)
    async with fleet_store.begin() as connection:
        await advance(connection, before, declined, at=present.now(), what="declined")
    everything, vtn.events = vtn.events, vtn.events[:1]
    await told_again(present, vtn, ven)
    assert await effects() == {"power": "refused", "price": "ended"}
    vtn.events = everything
    await told_again(present, vtn, ven)
    assert await effects() == {"power": "refused", "price": "shown"}
