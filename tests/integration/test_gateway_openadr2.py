"""Our VEN against openleadr's own server: whatever is lost on the way, each event is one commitment with one answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from openleadr import objects
from sqlalchemy import func, select

from tests.builders_gateway import (
    VEN_ID,
    Fleet,
    StockVtn,
    add_tenant,
    dispatch_event,
    running_ven,
    stock_vtn,
)
from tests.clock import FixedClock
from vpp.clock import SystemClock
from vpp.commitments import advance, load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.gateway import Openadr2Ven
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.gateway import openadr2_opt, openadr2_registration, openadr2_report

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def present() -> FixedClock:
    """The stock server reads the machine's clock; ours stands at the same minute."""
    return FixedClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture
async def vtn() -> AsyncIterator[StockVtn]:
    async with stock_vtn() as served:
        yield served


@pytest.fixture
async def ven(fleet_store: Store, present: FixedClock, vtn: StockVtn) -> AsyncIterator[Openadr2Ven]:
    async with running_ven(fleet_store, present, vtn.url) as made:
        await made.step()
        yield made


async def _only(store: Store) -> Commitment:
    async with store.begin() as connection:
        ids = (await connection.execute(select(commitments.c.id))).scalars().all()
        assert len(ids) == 1
        return await load(connection, ids[0])


async def _unsent(store: Store) -> int:
    async with store.begin() as connection:
        query = select(func.count()).where(openadr2_opt.c.sent_at.is_(None))
        return int((await connection.execute(query)).scalar_one())


async def _activate(store: Store, clock: FixedClock) -> Commitment:
    """What the lifecycle does when an event begins."""
    before = await _only(store)
    after = replace(before, state=CommitmentState.ACTIVE, revision=before.revision + 1)
    async with store.begin() as connection:
        await advance(connection, before, after, at=clock.now(), what="began")
    return after


def _values(commitment: Commitment) -> list[float]:
    return [target.target_kw for target in commitment.targets]


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: optIn", peer="openleadr server 0.5.36")
async def test_an_event_becomes_a_commitment_and_is_answered_with_opt_in(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0, 300.0))
    await ven.step()
    taken = await _only(fleet_store)
    assert (taken.state, taken.external_id, _values(taken)) == (CommitmentState.ACCEPTED, "E1", [400.0, 300.0])
    assert taken.window.start_at == present.now() + HOUR
    assert vtn.opts == [("E1", 0, "optIn")]
    assert await _unsent(fleet_store) == 0
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr2_registration.c.ven_id))).scalars().all() == [VEN_ID]


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: optOut with the reason", peer="openleadr server 0.5.36")
async def test_an_event_the_fleet_cannot_cover_is_answered_with_opt_out_and_the_reason(
    fleet_store: Store, present: FixedClock, vtn: StockVtn
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    async with running_ven(fleet_store, present, vtn.url, fleet=Fleet(capable_kw=350)) as ven:
        await ven.step()
    assert set(vtn.opts) == {("E1", 0, "optOut")}
    assert vtn.heard[0]["response_description"] == "350 of 400 kW are there"
    taken = await _only(fleet_store)
    assert (taken.state, taken.opt_reason) == (CommitmentState.DECLINED, "350 of 400 kW are there")


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: modification before the event", peer="openleadr server 0.5.36")
async def test_a_modification_before_the_event_replaces_its_targets(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() + HOUR, 400.0, 300.0)
    vtn.announce(event)
    await ven.step()
    vtn.change(event, 500.0, 200.0)
    await ven.step()
    taken = await _only(fleet_store)
    assert (taken.modification_number, _values(taken)) == (1, [500.0, 200.0])
    assert vtn.opts == [("E1", 0, "optIn"), ("E1", 1, "optIn")]


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: modification during the event", peer="openleadr server 0.5.36")
async def test_a_modification_during_the_event_holds_from_now_on(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() - 30 * MINUTE, 400.0, 300.0)
    vtn.announce(event)
    await ven.step()
    await _activate(fleet_store, present)
    vtn.change(event, 500.0, 200.0)
    await ven.step()
    taken = await _only(fleet_store)
    assert _values(taken) == [400.0, 500.0, 200.0]
    assert taken.targets[1].interval.start_at == present.now()
    assert vtn.opts[-1] == ("E1", 1, "optIn")


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: cancellation before the event", peer="openleadr server 0.5.36")
async def test_a_cancellation_before_the_event_ends_it_and_is_confirmed(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() + HOUR, 400.0)
    vtn.announce(event)
    await ven.step()
    vtn.cancel(event)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.CANCELLED
    assert vtn.opts[-1] == ("E1", 1, "optIn")
    assert vtn.server.events[VEN_ID] == []


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: cancellation during the event", peer="openleadr server 0.5.36")
async def test_a_cancellation_during_the_event_ends_what_is_owed_now(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() - 30 * MINUTE, 400.0)
    vtn.announce(event)
    await ven.step()
    await _activate(fleet_store, present)
    vtn.cancel(event)
    await ven.step()
    taken = await _only(fleet_store)
    assert taken.cancel_requested
    assert taken.window.end_at == present.now()
    assert vtn.opts[-1] == ("E1", 1, "optIn")


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: implied cancellation", peer="openleadr server 0.5.36")
async def test_an_event_the_utility_no_longer_lists_is_withdrawn(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    gone, other = (dispatch_event(name, present.now() + HOUR, 400.0) for name in ("E1", "E2"))
    vtn.announce(gone)
    vtn.announce(other)
    await ven.step()
    vtn.drop(gone)
    vtn.tell_again()
    await ven.step()
    async with fleet_store.begin() as connection:
        rows = await connection.execute(select(commitments.c.external_id, commitments.c.state))
        assert {row.external_id: row.state for row in rows} == {"E1": "cancelled", "E2": "accepted"}


async def test_a_utility_that_lost_its_memory_withdraws_nothing(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    await ven.step()
    vtn.server.events.clear()
    async with running_ven(fleet_store, present, vtn.url) as again:
        await again.step()
    assert (await _only(fleet_store)).state is CommitmentState.ACCEPTED


async def test_an_answer_is_sent_after_our_restart_where_the_utility_did_not_take_it(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    fleet = Fleet()
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as first:
        await first.step()
        vtn.heard.clear()
        vtn.tell_again()
        vtn.lose_reply_to.add("EiEvent")
        await first.step()
        assert await _unsent(fleet_store) == 1
        vtn.lose_reply_to.clear()
        vtn.heard.clear()
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as second:
        await second.step()
    assert vtn.opts == [("E1", 0, "optIn")]
    assert await _unsent(fleet_store) == 0
    assert vtn.registrations == 1
    assert fleet.asked == 1


async def test_an_owed_answer_needs_no_new_message_to_be_sent(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    await ven.step()
    async with fleet_store.begin() as connection:  # as a crash between the transaction and the sending leaves it
        await connection.execute(openadr2_opt.update().values(sent_at=None))
    vtn.heard.clear()
    await ven.step()
    assert vtn.opts == [("E1", 0, "optIn")]


async def test_an_event_whose_telling_was_lost_is_asked_for(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    vtn.lose_reply_to.add("OadrPoll")  # the server takes the event for delivered
    await ven.step()
    vtn.lose_reply_to.clear()
    assert not vtn.server.events_updated[VEN_ID]
    await ven.step()
    assert vtn.opts == [("E1", 0, "optIn")]


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: startafter is drawn once and kept", peer="openleadr server 0.5.36")
async def test_a_random_start_is_drawn_once(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() + HOUR, 400.0, startafter=10 * MINUTE)
    vtn.announce(event)
    await ven.step()
    first = await _only(fleet_store)
    assert 0 < first.start_offset_s < 600
    assert first.window.start_at == present.now() + HOUR + timedelta(seconds=first.start_offset_s)
    vtn.change(event, 450.0)
    async with running_ven(fleet_store, present, vtn.url) as again:
        await again.step()
    changed = await _only(fleet_store)
    assert (changed.start_offset_s, changed.window) == (first.start_offset_s, first.window)


@pytest.mark.conformance(
    "2.0b", "EiEvent", "VEN: response codes for what it does not understand", peer="openleadr server 0.5.36"
)
async def test_a_signal_we_do_not_understand_is_refused_with_its_code_and_leaves_no_commitment(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() + HOUR, 400.0)
    event.event_signals[0].signal_name, event.event_signals[0].signal_type = "ELECTRICITY_PRICE", "price"
    event.event_signals[0].measurement = None
    vtn.announce(event)
    await ven.step()
    assert [(r["response_code"], r["opt_type"]) for r in vtn.heard] == [(460, "optOut")]
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(func.count()).select_from(commitments))).scalar_one() == 0


async def test_a_change_we_do_not_understand_ends_our_part_before_the_event(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    event = dispatch_event("E1", present.now() + HOUR, 400.0)
    vtn.announce(event)
    await ven.step()
    event.event_signals[0].measurement = objects.Measurement(
        name="voltage", description="Voltage", unit="V", scale="none"
    )
    vtn.change(event, 1.0)
    await ven.step()
    assert (await _only(fleet_store)).state is CommitmentState.CANCELLED
    assert (vtn.heard[-1]["response_code"], vtn.heard[-1]["opt_type"]) == (460, "optOut")


@pytest.mark.conformance(
    "2.0b", "EiRegisterParty", "VEN: registers anew where it is no longer known", peer="openleadr server 0.5.36"
)
async def test_a_utility_that_forgot_us_gets_a_new_registration(
    fleet_store: Store, present: FixedClock, vtn: StockVtn, ven: Openadr2Ven
) -> None:
    vtn.known = False
    retry_at = await ven.step()
    assert present.now() < retry_at <= present.now() + 5 * timedelta(seconds=1)
    vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
    await ven.step()
    assert vtn.registrations == 2
    assert set(vtn.opts) == {("E1", 0, "optIn")}


@pytest.mark.conformance(
    "2.0b", "EiRegisterParty", "VEN: registration is tried for ever", peer="openleadr server 0.5.36"
)
async def test_we_never_give_up_on_a_utility_that_is_down(
    fleet_store: Store, present: FixedClock, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/OpenADR2/Simple/2.0b"
    async with running_ven(fleet_store, present, url, poll_s=600) as ven:
        waits = [(await ven.step() - present.now()).total_seconds() for _ in range(12)]
        assert 2.5 <= waits[0] <= 5
        assert 150 <= waits[-1] <= 300
        async with stock_vtn(port=unused_tcp_port) as vtn:
            await ven.step()
            assert vtn.registrations == 1


@pytest.mark.conformance("2.0b", "EiReport", "VEN: periodic reports outlive a restart", peer="openleadr server 0.5.36")
async def test_reports_flow_while_an_event_runs_and_outlive_our_restart(
    fleet_store: Store, present: FixedClock
) -> None:
    fleet = Fleet(delivered_kw=480.0)
    async with stock_vtn(reports_every=MINUTE) as vtn:
        start_at = present.now() + 2 * MINUTE
        vtn.announce(dispatch_event("E1", start_at, 400.0, hours=3 / 60))
        async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as ven:
            await ven.step()
            present.advance(2 * MINUTE)
            await ven.step()
            assert vtn.values == []  # before the event there is nothing to tell
            present.advance(MINUTE)
            await ven.step()
            assert vtn.values == [(start_at, 480.0)]
            vtn.lose_reply_to.add("EiReport")
            fleet.delivered_kw = 470.0
            present.advance(MINUTE)
            await ven.step()
        vtn.lose_reply_to.clear()
        vtn.values.clear()
        async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as again:
            await again.step()
            assert vtn.values == [(start_at + MINUTE, 470.0)]
            fleet.delivered_kw = None  # missing is missing
            present.advance(MINUTE)
            await again.step()
            assert len(vtn.values) == 1
    async with fleet_store.begin() as connection:
        query = select(func.count()).where(openadr2_report.c.sent_at.is_not(None))
        assert (await connection.execute(query)).scalar_one() == 2


@pytest.mark.conformance("2.0b", "EiReport", "VEN: oadrCancelReport", peer="openleadr server 0.5.36")
async def test_a_cancelled_report_stops(fleet_store: Store, present: FixedClock) -> None:
    async with stock_vtn(reports_every=MINUTE) as vtn:
        vtn.announce(dispatch_event("E1", present.now(), 400.0))
        async with running_ven(fleet_store, present, vtn.url) as ven:
            await ven.step()
            present.advance(MINUTE)
            await ven.step()
            assert len(vtn.values) == 1
            request_id = vtn.server.services["report_service"].requested_reports[VEN_ID][0].report_request_id
            cancel = {"request_id": "C1", "report_request_id": request_id, "report_to_follow": False, "ven_id": VEN_ID}
            handlers = vtn.server.services["poll_service"].handlers
            poll, messages = handlers["oadrPoll"], [("oadrCancelReport", cancel)]
            handlers["oadrPoll"] = lambda payload: messages.pop() if messages else poll(payload)
            for _ in range(2):
                present.advance(MINUTE)
                await ven.step()
            assert len(vtn.values) == 1


async def test_the_loop_answers_within_seconds_on_the_machines_clock(fleet_store: Store, vtn: StockVtn) -> None:
    async with running_ven(fleet_store, SystemClock(), vtn.url) as ven:
        running = asyncio.create_task(ven.run())
        try:
            async with asyncio.timeout(20):
                await vtn.registered.wait()
                vtn.announce(dispatch_event("E1", datetime.now(UTC) + HOUR, 400.0))
                await vtn.answered.wait()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    assert vtn.opts == [("E1", 0, "optIn")]
