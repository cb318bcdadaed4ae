"""Reports a utility asks for: what is offered, each kind's values, once or again and again, and how they end."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from tests.builders_gateway import Fleet, MortalStore, add_tenant, running_ven
from tests.builders_ven2 import OK, ScriptedVtn, demand, grid_event
from tests.clock import FixedClock
from tests.integration.test_ven2_events import activate
from vpp.domain import openadr2 as m
from vpp.domain.openadr2 import ResourceStatus
from vpp.gateway import Openadr2Ven
from vpp.store.engine import Store
from vpp.store.tables.gateway import openadr2_report_request

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
USAGE, STATUS, HISTORY = "vpp-telemetry-usage", "vpp-telemetry-status", "vpp-history-usage"
POWER, ENERGY = "vpp-delivered-power", "vpp-delivered-energy"


@pytest.fixture
def present() -> FixedClock:
    return FixedClock(datetime.now(UTC).replace(minute=0, second=0, microsecond=0))


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


def values(vtn: ScriptedVtn) -> list[tuple[str, datetime, float | ResourceStatus | None]]:
    """(point, start, value) as heard."""
    return [
        (value.r_id, value.start_at, value.value)
        for heard in vtn.all(m.UpdateReports)
        for update in heard.updates
        for value in update.values
    ]


async def pending(store: Store) -> int:
    async with store.begin() as connection:
        table = openadr2_report_request
        return int((await connection.execute(select(func.count()).where(table.c.done_at.is_(None)))).scalar_one())


def asked(vtn: ScriptedVtn, *demands: m.ReportDemand) -> None:
    """Ask by a message that waits for the VEN's poll."""
    vtn.queue.append(m.CreateReports(request_id="c1", demands=demands, ven_id=vtn.ven_id))


@pytest.mark.conformance("2.0b", "EiReport", "VEN: metadata of TELEMETRY_USAGE, TELEMETRY_STATUS and HISTORY_USAGE")
async def test_power_energy_status_and_history_are_offered_with_their_units(vtn: ScriptedVtn, ven: Openadr2Ven) -> None:
    await ven.step()
    (offered,) = vtn.all(m.RegisterReports)
    assert {(o.name, p.r_id, p.unit) for o in offered.offers for p in o.points} == {
        ("METADATA_TELEMETRY_USAGE", POWER, "kW"),
        ("METADATA_TELEMETRY_USAGE", ENERGY, "kWh"),
        ("METADATA_TELEMETRY_STATUS", "vpp-status", None),
        ("METADATA_HISTORY_USAGE", POWER, "kW"),
        ("METADATA_HISTORY_USAGE", ENERGY, "kWh"),
    }


async def test_power_and_energy_of_one_report_come_together_while_an_event_runs(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.demands = (demand("R1", USAGE, POWER, ENERGY, every=15 * MINUTE),)
    vtn.tell(grid_event("E1", present.now(), 400.0, length=15 * MINUTE))
    await ven.step()
    start_at = present.now()
    for _ in range(2):
        present.advance(15 * MINUTE)
        await ven.step()
    assert values(vtn) == [(ENERGY, start_at, 120.0), (POWER, start_at, 480.0)]
    (confirmed,) = vtn.all(m.CreatedReports)
    assert confirmed.pending == ("R1",)


@pytest.mark.conformance("2.0b", "EiReport", "VEN: TELEMETRY_STATUS")
async def test_status_says_online_and_what_is_owed_and_delivered_and_comes_without_an_event_too(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.demands = (demand("R1", STATUS, "vpp-status", every=5 * MINUTE),)
    await ven.step()
    present.advance(5 * MINUTE)
    await ven.step()
    vtn.tell(grid_event("E1", present.now(), 400.0))
    await ven.step()
    await activate(fleet_store, present)
    present.advance(5 * MINUTE)
    await ven.step()
    assert [value for _, _, value in values(vtn)] == [
        ResourceStatus(online=True, overridden=False),
        ResourceStatus(online=True, overridden=False, levels=(("capacity", 480.0), ("setpoint", 400.0))),
    ]


async def test_status_says_overridden_while_an_event_runs_that_we_declined(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.demands = (demand("R1", STATUS, "vpp-status", every=5 * MINUTE),)
    vtn.tell(grid_event("E1", present.now(), 5000.0))
    await ven.step()
    present.advance(5 * MINUTE)
    await ven.step()
    assert [value for _, _, value in values(vtn)] == [ResourceStatus(online=True, overridden=True)]


@pytest.mark.conformance("2.0b", "EiReport", "VEN: HISTORY_USAGE of a window")
async def test_history_of_a_window_is_sent_once_without_what_no_event_covers(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    start_at = present.now()
    vtn.tell(grid_event("E1", start_at, 400.0))
    await ven.step()
    await activate(fleet_store, present)
    present.advance(2 * HOUR)
    asked = demand(
        "H1", HISTORY, ENERGY, every=30 * MINUTE, back=timedelta(0), start_at=start_at - HOUR, duration=3 * HOUR
    )
    vtn.queue.append(m.CreateReports(request_id="c1", demands=(asked,), ven_id=vtn.ven_id))
    for _ in range(2):
        await ven.step()
    assert values(vtn) == [(ENERGY, start_at, 240.0), (ENERGY, start_at + 30 * MINUTE, 240.0)]
    assert vtn.all(m.UpdateReports)[0].updates[0].name == "HISTORY_USAGE"
    assert await pending(fleet_store) == 0


@pytest.mark.conformance("2.0b", "EiReport", "VEN: one-shot reports")
async def test_a_single_value_is_sent_once_as_soon_as_telemetry_can_tell_it(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, fleet: Fleet
) -> None:
    fleet.delivered_kw = None
    vtn.demands = (demand("R1", USAGE, POWER, every=timedelta(0)),)
    await ven.step()
    assert values(vtn) == []
    fleet.delivered_kw = 12.5
    for _ in range(3):
        present.advance(MINUTE)
        await ven.step()
    assert [value for _, _, value in values(vtn)] == [12.5]
    assert await pending(fleet_store) == 0


@pytest.mark.conformance("2.0b", "EiReport", "VEN: oadrCancelReport with reportToFollow")
@pytest.mark.parametrize("to_follow", [True, False])
async def test_a_cancelled_report_ends_with_or_without_what_is_pending(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, to_follow: bool
) -> None:
    vtn.demands = (demand("R1", USAGE, POWER, every=MINUTE, back=30 * MINUTE),)
    vtn.tell(grid_event("E1", present.now(), 400.0))
    await ven.step()
    for _ in range(3):
        present.advance(MINUTE)
        await ven.step()
    assert values(vtn) == []  # its time to be sent has not come
    cancel = m.CancelReports(request_id="c1", report_request_ids=("R1",), to_follow=to_follow, ven_id=vtn.ven_id)
    vtn.queue.append(cancel)
    await ven.step()
    assert len(values(vtn)) == (3 if to_follow else 0)
    (confirmed,) = vtn.all(m.CanceledReports)
    assert (confirmed.response.request_id, confirmed.pending) == ("c1", ())
    assert await pending(fleet_store) == 0


async def test_a_report_cancelled_in_the_answer_to_one_stops(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.demands = (demand("R1", USAGE, POWER, every=MINUTE),)
    vtn.tell(grid_event("E1", present.now(), 400.0))
    await ven.step()
    vtn.cancel_with_update = m.CancelReports(request_id="c1", report_request_ids=("R1",), to_follow=False)
    for _ in range(3):
        present.advance(MINUTE)
        await ven.step()
    assert len(values(vtn)) == 1
    assert await pending(fleet_store) == 0


async def test_a_utility_that_asks_for_our_offers_gets_them_by_its_own_request(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    await ven.step()
    asked = demand("M1", "METADATA", "0", every=timedelta(0))
    vtn.demands = (demand("R9", USAGE, POWER, every=MINUTE),)
    vtn.queue.append(m.CreateReports(request_id="c1", demands=(asked,), ven_id=vtn.ven_id))
    await ven.step()
    first, again = vtn.all(m.RegisterReports)
    assert (first.report_request_id, again.report_request_id) == (None, "M1")
    assert vtn.all(m.CreatedReports)[-1].pending == ("R9",)
    assert await pending(fleet_store) == 1


@pytest.mark.conformance("2.0b", "EiReport", "VEN: code 461 for what it does not offer")
async def test_what_is_finer_older_or_other_than_offered_is_refused_and_the_rest_taken(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    old = {"start_at": present.now() - timedelta(days=9), "duration": HOUR}
    vtn.demands = (
        demand("R1", USAGE, POWER, every=timedelta(seconds=1)),
        demand("R2", "somebody-elses", POWER, every=MINUTE),
        demand("R3", USAGE, "vpp-status", every=MINUTE),
        demand("R4", HISTORY, POWER, every=MINUTE, **old),
        demand("R5", HISTORY, POWER, every=MINUTE),
        demand("R6", USAGE, POWER, every=MINUTE),
    )
    await ven.step()
    (confirmed,) = vtn.all(m.CreatedReports)
    assert (confirmed.response.code, confirmed.pending) == (461, ("R6",))
    assert all(f"R{n}: " in confirmed.response.description for n in range(1, 6))


async def test_a_new_registration_offers_anew_and_ends_earlier_requests(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.demands = (demand("R1", USAGE, POWER, every=MINUTE),)
    await ven.step()
    vtn.demands = (demand("R2", USAGE, POWER, every=MINUTE),)
    vtn.queue.append(m.RequestReregistration(ven_id=vtn.ven_id))
    for _ in range(2):
        await ven.step()
    assert len(vtn.all(m.RegisterReports)) == 2
    assert vtn.all(m.CreatedReports)[-1].pending == ("R2",)


async def test_reports_the_utility_offers_or_sends_are_answered_and_no_more(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    await ven.step()
    theirs = m.ReportOffer(
        specifier_id="their-usage",
        name="METADATA_TELEMETRY_USAGE",
        points=(m.PointOffer(r_id="p", report_type="usage", reading_type="Direct Read", unit="kW", scale="k"),),
        created_at=present.now(),
    )
    vtn.queue.append(m.RegisterReports(request_id="o1", offers=(theirs,), ven_id=vtn.ven_id))
    value = m.ReportedValue(r_id="p", start_at=present.now(), duration=MINUTE, value=1.0)
    sent = m.ReportUpdate(
        report_request_id="x", specifier_id="their-usage", name="TELEMETRY_USAGE", created_at=present.now(),
        values=(value,), start_at=present.now(), duration=MINUTE,
    )  # fmt: skip
    vtn.queue.append(m.UpdateReports(request_id="u1", updates=(sent,), ven_id=vtn.ven_id))
    vtn.queue.append(m.CreatedOpt(response=OK, opt_id="nobody asked"))
    vtn.tell(grid_event("E1", present.now() + HOUR, 400.0))
    await ven.step()
    (declined,), (taken,) = vtn.all(m.RegisteredReports), vtn.all(m.UpdatedReports)
    assert (declined.response.request_id, declined.demands) == ("o1", ())
    assert taken.response.request_id == "u1"
    assert ("E1", 0, "in", 200) in vtn.opts  # what was queued behind is heard as well


@pytest.mark.conformance(
    "2.0b", "EiReport", "VEN: a report asked for again, for its confirmation was lost, is sent once"
)
async def test_a_report_asked_for_again_after_it_was_sent_is_confirmed_and_not_sent_again(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    once = demand("R1", USAGE, POWER, every=timedelta(0))
    past = demand("H1", HISTORY, POWER, every=HOUR, start_at=present.now() - 2 * HOUR, back=timedelta(0))
    for again in range(3):
        asked(vtn, once, past)
        await ven.step()
        present.advance(timedelta(days=3 * again))  # the window of the history is no longer one we would take
        confirmed = vtn.all(m.CreatedReports)[-1]
        assert (confirmed.response.code, confirmed.response.request_id) == (200, "c1")
        await ven.step()
        assert (len(values(vtn)), await pending(fleet_store)) == (1, 0)
    asked(vtn, replace(once, points=((POWER, "x-notApplicable"), (ENERGY, "x-notApplicable"))))
    await ven.step()
    assert len(values(vtn)) == 3  # the same id, but another request
    asked(vtn, replace(once, report_request_id="R2"))
    await ven.step()
    assert len(values(vtn)) == 4


async def test_a_request_done_with_may_be_cancelled_and_is_a_new_one_after_that_or_long_after(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    once = demand("R1", USAGE, POWER, every=timedelta(0))
    asked(vtn, once)
    await ven.step()
    vtn.queue.append(m.CancelReports(request_id="x1", report_request_ids=("R1",), to_follow=True, ven_id=vtn.ven_id))
    await ven.step()
    (cancelled,) = vtn.all(m.CanceledReports)
    assert (cancelled.response.code, cancelled.pending, len(values(vtn))) == (200, (), 1)
    asked(vtn, once)
    await ven.step()
    assert len(values(vtn)) == 2
    present.advance(8 * timedelta(days=1))
    await ven.step()
    asked(vtn, once)
    await ven.step()
    assert len(values(vtn)) == 3


async def test_a_single_value_is_told_once_wherever_between_two_transactions_we_were_killed(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    lives, mortal = 13, MortalStore(fleet_store)
    for transactions in range(lives):
        once = demand(f"R{transactions}", USAGE, POWER, every=timedelta(0))
        async with running_ven(mortal, present, vtn.url) as ven:
            await ven.step()  # hears what the one before was asked for once more
            asked(vtn, once)
            mortal.left = transactions
            await ven.step()
        spared, mortal.left = mortal.left > 0, 1000
        asked(vtn, once)
        present.advance(MINUTE)
    async with running_ven(mortal, present, vtn.url) as ven:
        await ven.step()
    told = [(update.report_request_id, *update.values) for u in vtn.all(m.UpdateReports) for update in u.updates]
    assert [id_ for id_, _ in dict.fromkeys(told)] == [f"R{n}" for n in range(lives)]
    assert len(told) == lives + 1  # one was killed after the utility took its value, before it had noted that
    assert (spared, await pending(fleet_store)) == (True, 0)


async def test_a_round_reads_all_report_requests_at_once(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    async def transactions(*demands: m.ReportDemand) -> int:
        vtn.demands = demands
        counting = MortalStore(fleet_store)
        async with running_ven(counting, present, vtn.url) as ven:
            vtn.queue.append(m.RequestReregistration(ven_id=vtn.ven_id))
            for _ in range(2):
                await ven.step()
            vtn.tell(grid_event("E1", present.now(), 400.0))
            await ven.step()
            before = counting.left
            present.advance(MINUTE)
            await ven.step()
        return before - counting.left

    some = [demand(f"R{n}", USAGE, POWER, every=MINUTE, back=HOUR) for n in range(40)]
    assert await transactions(*some[:1]) == await transactions(*some)
