"""Our OpenADR 3 VEN against an independent VTN: one event is one commitment, through all its changes and mishaps."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_gateway import Fleet, add_tenant
from tests.builders_ven3 import Deviations, FakeVtn, fake_vtn, only_event, running_ven3
from tests.clock import FixedClock
from vpp.commitments import Decision, advance, load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.ven3 import VenWanted
from vpp.gateway.ven3 import Openadr3Ven
from vpp.gateway.ven3.loop import MAX_ASKED, MAX_CONFIRMED, MISSED_TO_BELIEVE
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.openadr3_ven import openadr3_event_seen, openadr3_ven

HOUR = timedelta(hours=1)


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture(params=["3.1.0", "3.0.1"])
async def vtn(request: pytest.FixtureRequest, clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock, version=request.param) as served:
        yield served


@pytest.fixture
async def vtn31(clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock) as served:
        yield served


@pytest.fixture
async def ven(fleet_store: Store, clock: FixedClock, vtn31: FakeVtn) -> AsyncIterator[Openadr3Ven]:
    async with running_ven3(fleet_store, clock, vtn31.url) as made:
        yield made


async def _all(store: Store) -> list[Commitment]:
    async with store.begin() as connection:
        ids = (await connection.execute(select(commitments.c.id).order_by(commitments.c.life))).scalars().all()
        return [await load(connection, found) for found in ids]


async def _only(store: Store) -> Commitment:
    (found,) = await _all(store)
    return found


async def _activate(store: Store, clock: FixedClock) -> None:
    before = await _only(store)
    after = replace(before, state=CommitmentState.ACTIVE, revision=before.revision + 1)
    async with store.begin() as connection:
        await advance(connection, before, after, at=clock.now(), what="began")


@pytest.mark.conformance("3.x", "events", "VEN: the whole life of an event")
async def test_an_event_is_accepted_changed_and_withdrawn_in_both_versions(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn.url) as ven:
        event_id = vtn.event(300.0, 200.0)
        await ven.step()
        taken = await _only(fleet_store)
        assert taken.state is CommitmentState.ACCEPTED
        assert (taken.source, taken.external_id, taken.modification_number) == ("openadr3:utility", event_id, 0)
        assert [t.target_kw for t in taken.targets] == [300.0, 200.0]
        assert taken.window.start_at == clock.now() + HOUR

        vtn.event(100.0, event_id=event_id, start_at=clock.now() + 2 * HOUR)
        await ven.step()
        changed = await _only(fleet_store)
        assert ([t.target_kw for t in changed.targets], changed.modification_number) == ([100.0], 1)

        vtn.delete(event_id)
        await ven.step()
        assert (await _only(fleet_store)).state is CommitmentState.CANCELLED
        assert (await only_event(fleet_store))["outcome"] == "gone"


async def test_an_event_told_again_unchanged_changes_nothing(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    first = await _only(fleet_store)
    vtn31.put("events", vtn31.objects["events"][event_id], event_id)  # touched: only the stamp is new
    clock.advance(timedelta(minutes=1))
    await ven.step()
    assert await _only(fleet_store) == first


@pytest.mark.conformance("3.x", "events", "VEN: cancellation during the event")
async def test_an_event_can_be_cancelled_while_it_runs(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    clock.advance(1.5 * HOUR)
    await _activate(fleet_store, clock)
    vtn31.delete(event_id)
    await ven.step()
    ended = await _only(fleet_store)
    assert ended.cancel_requested
    assert ended.window.end_at == clock.now()


async def test_an_event_that_is_there_again_lives_again(fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    kept = vtn31.objects["events"].pop(event_id)
    await ven.step()
    vtn31.objects["events"][event_id] = kept
    await ven.step()
    first, second = await _all(fleet_store)
    assert (first.state, second.state) == (CommitmentState.CANCELLED, CommitmentState.ACCEPTED)
    assert second.targets == first.targets


async def test_an_event_missing_from_the_list_but_still_there_is_kept(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.hidden.add(event_id)
    for _ in range(3):
        await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


async def test_an_event_nobody_shows_us_is_believed_gone_the_second_time_in_a_row(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.odd.hides_deleted = True
    kept = vtn31.objects["events"].pop(event_id)
    await ven.step()
    vtn31.objects["events"][event_id] = kept
    await ven.step()
    vtn31.delete(event_id)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.CANCELLED


async def test_an_event_told_when_it_is_over_is_nothing_to_us_and_one_cut_short_in_the_past_ends(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    vtn31.event(300.0, start_at=clock.now() - 2 * HOUR)
    running = vtn31.event(200.0, start_at=clock.now())
    await ven.step()
    assert (await _only(fleet_store)).external_id == running
    await _activate(fleet_store, clock)
    clock.advance(HOUR / 2)
    vtn31.event(200.0, event_id=running, start_at=clock.now() - 1.2 * HOUR)
    await ven.step()
    assert (await _only(fleet_store)).window.end_at == clock.now()


async def test_events_that_are_over_are_asked_for_once_and_so_many_in_a_round(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    told = [f"over-{n}" for n in range(MAX_CONFIRMED + 1)]
    vtn31.event(1.0)
    await ven.step()
    async with fleet_store.begin() as connection:
        row = dict((await connection.execute(select(openadr3_event_seen))).mappings().one())
        over = {"over_at": clock.now() - HOUR, "closed_at": None}
        await connection.execute(insert(openadr3_event_seen), [row | over | {"event_id": each} for each in told])
    asked = []
    for _ in range(3):
        vtn31.requests.clear()
        await ven.step()
        asked.append(sum(vtn31.count(f"GET /events/{event_id}") for event_id in told))
    assert asked == [MAX_CONFIRMED, 1, 0]


async def test_an_event_that_is_over_and_not_shown_any_more_is_kept_as_it_was(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    clock.advance(3 * HOUR)
    vtn31.delete(event_id)
    vtn31.odd.hides_deleted = True
    for _ in range(4):
        await ven.step()
    assert vtn31.count(f"GET /events/{event_id}") == MISSED_TO_BELIEVE
    assert (await only_event(fleet_store))["outcome"] == "in"


async def test_a_last_version_that_cannot_be_taken_is_not_asked_for_without_end(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.event(200.0, event_id=event_id)
    vtn31.hidden.add(event_id)
    clock.advance(3 * HOUR)
    async with fleet_store.begin() as connection:
        await connection.execute(text("update program_terms set program = 'other'"))
        await connection.execute(update(openadr3_event_seen).values(asked=MAX_ASKED - 2))
    for _ in range(4):
        await ven.step()
    assert vtn31.count(f"GET /events/{event_id}") == 2
    given_up = await only_event(fleet_store)
    assert (given_up["outcome"], given_up["asked"]) == ("new", MAX_ASKED)
    assert "no contract in programme 'flat'" in given_up["reason"]


async def test_an_event_put_off_while_we_were_down_is_asked_for_after_its_new_end(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.hidden.add(event_id)
    for asked in (1, 2, 2):
        clock.advance(3 * HOUR)
        if asked == 1:
            vtn31.event(200.0, event_id=event_id)  # from an hour from now
        await ven.step()
        assert vtn31.count(f"GET /events/{event_id}") == asked
    assert [t.target_kw for t in (await _only(fleet_store)).targets] == [200.0]


async def test_a_version_that_did_not_reach_the_commitment_before_the_end_reaches_it_after(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.event(100.0, event_id=event_id)
    async with fleet_store.begin() as connection:
        await connection.execute(text("alter table commitment_target add constraint dead check (false) not valid"))
    await ven.step()
    vtn31.hidden.add(event_id)
    clock.advance(3 * HOUR)
    await ven.step()
    assert (await only_event(fleet_store))["outcome"] == "new"
    async with fleet_store.begin() as connection:
        await connection.execute(text("alter table commitment_target drop constraint dead"))
    await ven.step()
    changed = await _only(fleet_store)
    assert ([t.target_kw for t in changed.targets], changed.opt_reason) == ([100.0], "the event is over")


async def test_a_stale_copy_of_an_event_does_not_undo_its_change(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    before = vtn31.objects["events"][event_id]
    await ven.step()
    clock.advance(timedelta(minutes=1))
    vtn31.event(100.0, event_id=event_id)
    await ven.step()
    vtn31.stale[event_id] = before  # the list comes from a replica that lags
    await ven.step()
    assert [t.target_kw for t in (await _only(fleet_store)).targets] == [100.0]


async def test_a_vtn_whose_clock_was_set_back_is_still_believed(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    event_id = vtn31.event(300.0)
    await ven.step()
    vtn31.odd.clock_ahead = -timedelta(hours=3)
    vtn31.event(100.0, event_id=event_id)
    await ven.step()
    assert [t.target_kw for t in (await _only(fleet_store)).targets] == [100.0]


async def test_events_that_are_not_for_us_or_not_readable_hold_up_no_other(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    other = vtn31.put("programs", {"programName": "Other"})
    vtn31.event(300.0, program_id=other)
    vtn31.event(1.0, intervals="soon", eventName="\x00 and \ud800")
    good = vtn31.event(300.0)
    await ven.step()
    assert (await _only(fleet_store)).external_id == good
    async with fleet_store.begin() as connection:
        rows = await connection.execute(select(openadr3_event_seen).order_by(openadr3_event_seen.c.event_id))
    foreign, unreadable, taken = rows.all()
    assert (foreign.outcome, unreadable.outcome, taken.outcome) == ("refused", "refused", "in")
    assert "none of ours" in foreign.reason


async def test_an_event_of_a_programme_without_a_contract_waits_for_one_and_says_so(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    vtn31.event(300.0)
    async with fleet_store.begin() as connection:
        await connection.execute(text("update program_terms set program = 'other'"))
    await ven.step()
    row = await only_event(fleet_store)
    assert row["outcome"] == "new"
    assert "no contract in programme 'flat'" in row["reason"]
    async with fleet_store.begin() as connection:
        await connection.execute(text("update program_terms set program = 'flat'"))
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


async def test_units_an_event_leaves_out_are_its_programmes(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    descriptor = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "DISPATCH_SETPOINT", "units": "KW"}
    vtn31.put("programs", {"programName": "Flat", "payloadDescriptors": [descriptor]}, "program-1")
    vtn31.event(300.0, payloadDescriptors=None)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


@pytest.mark.conformance("3.1.0", "events", "VEN: asks by targets")
async def test_an_event_aimed_at_our_targets_is_asked_for(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    vtn31.put("vens", {"venName": "vpp", "targets": ["north"]})
    vtn31.event(300.0, targets=["north"])
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


@pytest.mark.conformance("3.x", "events", "VEN: randomizeStart")
async def test_the_random_start_is_drawn_once_and_survives_a_restart(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    start_at = clock.now() + HOUR
    period = {"start": start_at.isoformat(), "duration": "PT1H", "randomizeStart": "PT10M"}
    event_id = vtn31.event(300.0, intervalPeriod=period)
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    drawn = await _only(fleet_store)
    assert 0 < drawn.start_offset_s <= 600
    vtn31.event(200.0, event_id=event_id, intervalPeriod=period)
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    changed = await _only(fleet_store)
    assert changed.start_offset_s == drawn.start_offset_s
    assert changed.window.start_at == start_at + timedelta(seconds=drawn.start_offset_s)


async def test_an_hour_is_an_hour_when_the_clocks_change(fleet_store: Store, vtn31: FakeVtn) -> None:
    clock = FixedClock(datetime(2026, 10, 31, 12, tzinfo=UTC))
    vtn31.clock = clock
    period = {"start": "2026-11-01T01:00:00-07:00", "duration": "PT1H"}  # clocks go back an hour later
    vtn31.event(300.0, 300.0, intervalPeriod=period)
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    taken = await _only(fleet_store)
    assert taken.window.start_at == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert taken.window.end_at == datetime(2026, 11, 1, 10, tzinfo=UTC)


async def test_what_the_fleet_cannot_cover_is_declined_with_the_reason(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    vtn31.event(5000.0)
    async with running_ven3(fleet_store, clock, vtn31.url, fleet=Fleet(capable_kw=1000.0)) as ven:
        await ven.step()
    row = await only_event(fleet_store)
    assert (row["outcome"], row["reason"]) == ("out", "1000 of 5000 kW are there")


@pytest.mark.parametrize("table", ["commitment", "openadr3_report_plan"])
async def test_killed_between_two_steps_the_next_round_goes_on(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, table: str
) -> None:
    vtn31.event(300.0, reportDescriptors=[{"payloadType": "USAGE"}])
    async with fleet_store.begin() as connection:
        await connection.execute(text(f"alter table {table} add constraint dead check (false)"))
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    assert (await only_event(fleet_store))["outcome"] == "new"
    async with fleet_store.begin() as connection:
        await connection.execute(text(f"alter table {table} drop constraint dead"))
    async with running_ven3(fleet_store, clock, vtn31.url) as ven:
        await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED
    assert (await only_event(fleet_store))["outcome"] == "in"


async def test_a_vtn_that_fails_is_asked_again_and_one_that_asks_for_patience_is_given_it(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    vtn31.event(300.0)
    vtn31.failing = 1
    assert timedelta(0) < await ven.step() - clock.now() <= timedelta(seconds=5)
    in_two_minutes = format_datetime(datetime.now(UTC) + timedelta(seconds=121), usegmt=True)
    for patience in ("120", in_two_minutes):  # a date is read by the VTN's clock, years from ours
        vtn31.failing, vtn31.retry_after = 1, patience
        assert await ven.step() >= clock.now() + timedelta(seconds=110)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


@pytest.mark.conformance("3.x", "vens", "VEN: makes its ven and resources once")
async def test_our_ven_and_its_resources_are_made_once(fleet_store: Store, clock: FixedClock, vtn: FakeVtn) -> None:
    wanted = VenWanted(name="vpp", attributes={"MAX_POWER_EXPORT": (500.0,)}, resources=("north", "south"))
    for lost in ("POST /vens", "nothing"):
        vtn.lose_reply_to = {lost}
        async with running_ven3(fleet_store, clock, vtn.url, wanted=wanted) as ven:
            await ven.step()
            await ven.step()
    (mine,) = vtn.objects["vens"].values()
    assert mine["attributes"] == [{"type": "MAX_POWER_EXPORT", "values": [500.0]}]
    assert sorted(each["resourceName"] for each in vtn.objects["resources"].values()) == ["north", "south"]
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr3_ven.c.ven_id))).scalar_one() == mine["id"]


async def test_a_vtn_that_lets_us_have_no_ven_object_still_sends_events(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    vtn31.odd.no_vens = True
    vtn31.event(300.0)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


REFERENCE = Deviations(form_only=True, no_expires_in=True, naive_stamps=True, refuses_nulls=True)


@pytest.mark.parametrize(
    "odd",
    [REFERENCE, Deviations(tells_twice=True, no_auth_server=True, basic_only=True)],
    ids=["reference implementation", "all twice, no discovery"],
)
async def test_deviations_cost_no_event(fleet_store: Store, clock: FixedClock, odd: Deviations) -> None:
    async with fake_vtn(clock, odd=odd) as vtn:
        told = {vtn.event(1.0) for _ in range(3)}
        async with running_ven3(fleet_store, clock, f"{vtn.url}/3.1.0") as ven:
            await ven.step()
    assert {each.external_id for each in await _all(fleet_store)} == told


class OneAtATime(Fleet):
    """A fleet that can do one event only."""

    async def decide(self, connection: AsyncConnection, commitment: Commitment) -> Decision:
        others = select(commitments.c.id).where(commitments.c.id != commitment.id, commitments.c.state == "accepted")
        return Decision((await connection.execute(others)).first() is None, "another is served")


async def test_an_event_made_anew_under_another_id_takes_the_place_of_the_one_that_is_gone(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    first = vtn31.event(300.0)
    async with running_ven3(fleet_store, clock, vtn31.url, fleet=OneAtATime()) as ven:
        await ven.step()
        vtn31.delete(first)
        again = vtn31.event(300.0)
        await ven.step()
    found = {each.external_id: each.state for each in await _all(fleet_store)}
    assert found == {first: CommitmentState.CANCELLED, again: CommitmentState.ACCEPTED}


async def test_events_that_are_none_keep_no_other_from_us(fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven) -> None:
    for value in (10**400, float("nan"), float("-inf"), "1", None, [[]]):
        payload = {"type": "DISPATCH_SETPOINT", "values": [value]}
        vtn31.event(300.0, intervals=[{"id": 0, "payloads": [payload]}])
    for name in ([], {"a": 1}, None, 7):
        vtn31.event(300.0, payloadDescriptors=[{"payloadType": name, "units": "KW"}])
    good = vtn31.event(300.0)
    await ven.step()
    assert (await _only(fleet_store)).external_id == good


async def test_an_answer_that_is_no_list_of_events_changes_nothing(
    fleet_store: Store, vtn31: FakeVtn, ven: Openadr3Ven
) -> None:
    vtn31.event(300.0)
    await ven.step()
    before: Any = await only_event(fleet_store)
    for garbage in (b"<html>", b"[[", b"[" * 100_000, b'"events"', b""):
        vtn31.garbage = garbage
        await ven.step()
        assert await only_event(fleet_store) == before
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED
