"""Our standing with a utility: registered, registered anew, ended by it, and how far its clock is from ours."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.builders_gateway import add_tenant, running_ven
from tests.builders_ven2 import ScriptedVtn, demand, grid_event
from tests.clock import NOON, FixedClock
from tests.integration.test_ven2_events import lives
from vpp.domain import openadr2 as m
from vpp.domain.commitment import CommitmentState
from vpp.domain.errors import PeerUnreachable
from vpp.gateway import Openadr2Ven
from vpp.gateway.offset import ClockOffset
from vpp.store.engine import Store
from vpp.store.tables.gateway import openadr2_registration

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def present() -> FixedClock:
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
async def ven(fleet_store: Store, present: FixedClock, vtn: ScriptedVtn) -> AsyncIterator[Openadr2Ven]:
    async with running_ven(fleet_store, present, vtn.url) as made:
        yield made


def known_by(vtn: ScriptedVtn) -> list[tuple[str | None, str | None]]:
    """The ids we named at each registration."""
    return [(asked.ven_id, asked.registration_id) for asked in vtn.all(m.CreateRegistration)]


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VEN: oadrRequestReregistration")
async def test_a_utility_that_asks_for_it_gets_a_new_registration_under_the_ids_it_gave(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    assert await ven.step() == present.now() + 30 * SECOND
    vtn.poll = timedelta(seconds=600)
    vtn.queue.append(m.RequestReregistration(ven_id=vtn.ven_id))
    await ven.step()
    assert [ack.ven_id for ack in vtn.all(m.Acknowledge)] == ["ven-7"]
    due_at = await ven.step()
    assert known_by(vtn) == [(None, None), ("ven-7", "reg-7")]
    assert due_at - present.now() > 30 * SECOND  # its new poll interval holds
    async with fleet_store.begin() as connection:
        row = (await connection.execute(select(openadr2_registration))).one()
    assert (row.poll_interval_s, row.vtn_id) == (600.0, "Utility2")


async def test_a_utility_that_refuses_our_old_ids_is_asked_as_by_a_stranger(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    await ven.step()
    original = vtn.answer

    def forgetful(message: m.Openadr2Message) -> m.Openadr2Message:
        if isinstance(message, m.CreateRegistration) and message.registration_id:
            return m.Acknowledge(response=m.Response(452, "unknown registrationID"))
        return original(message)

    vtn.answers = forgetful
    vtn.ven_id = "ven-8"
    vtn.queue.append(m.RequestReregistration(ven_id="ven-7"))
    for _ in range(2):
        await ven.step()
    assert known_by(vtn)[1:] == [("ven-7", "reg-7"), (None, None)]
    assert vtn.all(m.Poll)[-1].ven_id == "ven-8"


@pytest.mark.conformance("2.0b", "EiRegisterParty", "VEN: cancellation by the VTN")
async def test_a_registration_the_utility_ends_is_confirmed_and_asked_for_again_and_what_we_owe_stays(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.tell(grid_event("E1", present.now() + HOUR, 400.0))
    await ven.step()
    vtn.queue.append(m.CancelRegistration(request_id="x0", registration_id="reg-8", ven_id="ven-7"))
    vtn.queue.append(m.CancelRegistration(request_id="x1", registration_id="reg-7", ven_id="ven-7"))
    await ven.step()
    not_ours, confirmed = vtn.all(m.CanceledRegistration)
    assert (not_ours.response.code, not_ours.registration_id) == (m.INVALID_ID, "reg-8")
    assert (confirmed.response.request_id, confirmed.registration_id) == ("x1", "reg-7")
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr2_registration))).all() == []
    await ven.step()
    assert known_by(vtn) == [(None, None), (None, None)]
    assert (await lives(fleet_store))[0].state is CommitmentState.ACCEPTED


async def test_an_id_given_beforehand_is_named_and_a_vtn_that_is_another_is_not_registered_with(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    terms = {"ven_id": "given-1", "vtn_id": "SomebodyElse"}
    async with running_ven(fleet_store, present, vtn.url, terms=terms) as ven:
        await ven.step()
    assert known_by(vtn) == [("given-1", None)]
    assert vtn.all(m.Poll) == []
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr2_registration))).all() == []


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: events under another vtnID than agreed are refused")
async def test_events_of_another_vtn_than_agreed_are_answered_so_and_withdraw_nothing(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn
) -> None:
    async with running_ven(fleet_store, present, vtn.url, terms={"vtn_id": "Utility2"}) as ven:
        vtn.tell(grid_event("E1", present.now() + HOUR, 400.0))
        await ven.step()
        vtn.vtn_id = "Another9"
        vtn.tell(grid_event("E2", present.now() + HOUR, 400.0))
        await ven.step()
    refused = vtn.all(m.CreatedEvents)[-1]
    assert (refused.response.code, refused.response.request_id, refused.opts) == (m.INVALID_ID, "d1", ())
    assert [(one.external_id, one.state) for one in await lives(fleet_store)] == [("E1", CommitmentState.ACCEPTED)]


async def test_we_take_our_leave_and_forget_the_utility_even_where_it_does_not_hear(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    await ven.step()
    vtn.lost = {m.CancelRegistration}
    with pytest.raises(PeerUnreachable, match="503"):
        await ven.leave()
    assert len(vtn.all(m.CancelRegistration)) == 1
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr2_registration))).all() == []


@pytest.mark.conformance("2.0b", "Messages", "VEN: a clock offset for each VTN")
@pytest.mark.parametrize(
    ("ahead", "moved"), [(10 * MINUTE, 10 * MINUTE), (2 * SECOND, 0 * SECOND), (5 * HOUR, 0 * SECOND)]
)
async def test_messages_are_stamped_in_the_utilitys_time_where_its_clock_is_off_and_believed(
    present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, ahead: timedelta, moved: timedelta
) -> None:
    vtn.ahead = ahead
    vtn.demands = (demand("R1", "vpp-telemetry-status", "vpp-status", every=MINUTE),)
    await ven.step()
    present.advance(MINUTE)
    await ven.step()
    (update,) = vtn.all(m.UpdateReports)[0].updates
    assert abs(update.created_at - present.now() - moved) < 5 * SECOND
    assert update.values[0].start_at == present.now() - MINUTE  # when it was is true time


def test_an_offset_is_the_median_of_the_last_answers_and_told_once() -> None:
    offset = ClockOffset("openadr2:somebody")
    assert (offset.seconds, offset.believed()) == (None, timedelta(0))
    with capture_logs() as logs:
        for ahead_s in (20.0, 20.5, 3000.0, 19.5):  # one answer is no measure
            offset.heard(NOON + timedelta(seconds=ahead_s - 0.5), asked_at=NOON, heard_at=NOON)
        offset.heard(NOON + HOUR, asked_at=NOON, heard_at=NOON + MINUTE)  # too long on its way
        offset.heard(None, asked_at=NOON, heard_at=NOON)
    assert offset.believed() == timedelta(seconds=20.25)
    assert [entry["event"] for entry in logs] == ["the utility's clock is off"]


def test_an_answer_on_its_way_for_a_while_is_taken_for_its_middle() -> None:
    offset = ClockOffset("openadr2:somebody")
    offset.heard(NOON + 10 * SECOND, asked_at=NOON, heard_at=NOON + 2 * SECOND)
    assert offset.seconds == pytest.approx(9.5)
