"""A utility hears, once, that the fleet's capability has changed since it was answered, and when it is away."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from tests.builders_gateway import Fleet, add_tenant, running_ven, stock_vtn
from tests.builders_ven2 import ScriptedVtn, grid_event
from tests.clock import FixedClock
from tests.integration.test_ven2_events import activate, lives, steps
from vpp.domain.commitment import CommitmentState
from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.openadr2 import CancelOpt, CreatedEvents, CreateOpt
from vpp.domain.time import Interval
from vpp.gateway import Openadr2Ven, OptChanges
from vpp.peering import Unavailability, declare_unavailable, list_unavailability, withdraw_unavailability
from vpp.store.engine import Store
from vpp.store.tables.gateway import unavailability_told

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
async def vtn() -> AsyncIterator[ScriptedVtn]:
    async with ScriptedVtn().serving() as served:
        yield served


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
async def ven(fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, fleet: Fleet) -> AsyncIterator[Openadr2Ven]:
    terms = {"opt_changes": OptChanges.ALWAYS}
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet, terms=terms) as made:
        yield made


async def pass_minutes(ven: Openadr2Ven, clock: FixedClock, minutes: int, *, step: int = 5) -> None:
    for _ in range(minutes // step):
        clock.advance(step * MINUTE)
        await ven.step()


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: an opt that changes is told")
async def test_a_fleet_that_can_no_longer_opts_out_once_and_in_again_when_it_can(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, fleet: Fleet
) -> None:
    vtn.tell(grid_event("E1", present.now() + 3 * HOUR, 400.0))
    await ven.step()
    vtn.heard.clear()
    fleet.capable_kw = 300.0
    await pass_minutes(ven, present, 30)
    assert vtn.opts == [("E1", 0, "out", 200)]
    declined = (await lives(fleet_store))[0]
    assert (declined.state, declined.opt_reason) == (CommitmentState.DECLINED, "300 of 400 kW are there")
    assert declined.next_due_at is None
    fleet.capable_kw = 500.0
    await pass_minutes(ven, present, 30)
    assert vtn.opts == [("E1", 0, "out", 200), ("E1", 0, "in", 200)]
    again = (await lives(fleet_store))[0]
    assert (again.state, again.next_due_at) == (CommitmentState.ACCEPTED, again.window.start_at)
    assert (await steps(fleet_store))[-2:] == ["no longer covered", "covered again"]


async def test_a_fleet_on_the_edge_does_not_make_the_utility_hear_yes_and_no_by_turns(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, fleet: Fleet
) -> None:
    vtn.tell(grid_event("E1", present.now() + 3 * HOUR, 400.0))
    await ven.step()
    vtn.heard.clear()
    for capable_kw in (300.0, 500.0) * 4:
        fleet.capable_kw = capable_kw
        await pass_minutes(ven, present, 5)
    assert vtn.opts == []


async def test_a_change_of_mind_during_the_event_is_told_and_the_fleet_goes_on(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, fleet: Fleet
) -> None:
    vtn.tell(grid_event("E1", present.now(), 400.0, 300.0))
    await ven.step()
    await activate(fleet_store, present)
    vtn.heard.clear()
    fleet.capable_kw = 350.0
    await pass_minutes(ven, present, 20)
    held = (await lives(fleet_store))[0]
    assert vtn.opts == [("E1", 0, "out", 200)]
    assert (held.state, [target.target_kw for target in held.targets]) == (CommitmentState.ACTIVE, [400.0, 300.0])
    await pass_minutes(ven, present, 60, step=10)  # what is left of it is covered again
    assert vtn.opts == [("E1", 0, "out", 200), ("E1", 0, "in", 200)]


async def test_a_declined_change_does_not_become_an_opt_in_because_earlier_targets_are_covered(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    start_at = present.now() - 10 * MINUTE
    vtn.tell(grid_event("E1", start_at, 400.0, 300.0))
    await ven.step()
    await activate(fleet_store, present)
    vtn.tell(grid_event("E1", start_at, 400.0, 5000.0, number=1))
    await ven.step()
    vtn.heard.clear()
    await pass_minutes(ven, present, 30, step=10)
    assert vtn.opts == []


@pytest.mark.parametrize(("policy", "told"), [(OptChanges.NEVER, 0), (OptChanges.BEFORE, 1)])
async def test_what_is_told_is_the_peers_choice(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, fleet: Fleet, policy: OptChanges, told: int
) -> None:
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet, terms={"opt_changes": policy}) as ven:
        vtn.tell(grid_event("E1", present.now() + 2 * HOUR, 400.0), grid_event("E2", present.now() + 4 * HOUR, 100.0))
        await ven.step()
        vtn.heard.clear()
        fleet.capable_kw = 300.0
        await pass_minutes(ven, present, 20)
        assert len(vtn.opts) == told


async def test_a_changed_answer_the_utility_did_not_take_is_sent_until_it_does(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven, fleet: Fleet
) -> None:
    vtn.tell(grid_event("E1", present.now() + 3 * HOUR, 400.0))
    await ven.step()
    fleet.capable_kw = 300.0
    vtn.lost = {CreatedEvents}
    await pass_minutes(ven, present, 15)
    assert (await lives(fleet_store))[0].state is CommitmentState.DECLINED
    vtn.lost = set()
    vtn.heard.clear()
    async with running_ven(fleet_store, present, vtn.url, fleet=fleet) as restarted:
        await restarted.step()
    assert vtn.opts == [("E1", 0, "out", 200)]


async def declare(store: Store, clock: FixedClock, *, peer: str | None = None) -> Unavailability:
    window = Interval(clock.now() + HOUR, clock.now() + 3 * HOUR)
    async with store.begin() as connection:
        return await declare_unavailable(
            connection, tenant_id="t1", window=window, at=clock.now(), reason="outageRunStatus", peer=peer
        )


@pytest.mark.conformance("2.0b", "EiOpt", "VEN: oadrCreateOpt and oadrCancelOpt")
async def test_a_declared_window_is_told_once_and_taken_back_once(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    declared = await declare(fleet_store, present)
    for _ in range(2):
        await ven.step()
    (told,) = vtn.all(CreateOpt)
    assert (told.opt_id, told.opt_in, told.reason, told.windows) == (
        declared.id, False, "outageRunStatus", (declared.window,),
    )  # fmt: skip
    async with fleet_store.begin() as connection:
        await withdraw_unavailability(connection, declared.id, tenant_id="t1", at=present.now())
    async with running_ven(fleet_store, present, vtn.url) as restarted:
        for _ in range(2):
            await restarted.step()
    assert [cancel.opt_id for cancel in vtn.all(CancelOpt)] == [declared.id]
    assert len(vtn.all(CreateOpt)) == 1


async def test_a_window_is_told_when_the_utility_can_be_told_again_and_holds_up_nothing_till_then(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.without = {"EiOpt"}
    declared = await declare(fleet_store, present)
    vtn.tell(grid_event("E1", present.now() + 5 * HOUR, 400.0))
    await ven.step()
    assert ("E1", 0, "in", 200) in vtn.opts
    vtn.without = set()
    await ven.step()
    assert vtn.all(CreateOpt) == []  # it is left alone for a while
    present.advance(timedelta(seconds=6))
    await ven.step()
    assert [told.opt_id for told in vtn.all(CreateOpt)] == [declared.id]


async def test_a_window_the_utility_refuses_is_not_told_again_and_the_refusal_kept(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    vtn.refuse[CreateOpt] = 451
    await declare(fleet_store, present)
    for _ in range(2):
        await ven.step()
    assert len(vtn.all(CreateOpt)) == 1
    async with fleet_store.begin() as connection:
        refusal = (await connection.execute(select(unavailability_told.c.refusal))).scalar_one()
    assert "451" in refusal


@pytest.mark.conformance(
    "2.0b", "EiOpt", "VEN: a VTN without EiOpt is served all the same", peer="openleadr server 0.5.36"
)
async def test_a_stock_vtn_without_the_opt_service_goes_on_as_ever(fleet_store: Store, present: FixedClock) -> None:
    async with stock_vtn() as stock, running_ven(fleet_store, present, stock.url) as ven:
        await declare(fleet_store, present)
        await ven.step()
        assert "EiOpt" in stock.requests
        assert await ven.step() <= present.now() + MINUTE


async def test_an_event_in_a_declared_window_is_declined_by_it_and_by_no_other(
    fleet_store: Store, present: FixedClock, vtn: ScriptedVtn, ven: Openadr2Ven
) -> None:
    await declare(fleet_store, present)
    await declare(fleet_store, present, peer="another")
    early, inside = (present.now() + 30 * MINUTE, present.now() + 2 * HOUR)
    vtn.tell(grid_event("E1", inside, 400.0), grid_event("E2", early, 400.0, length=30 * MINUTE))
    await ven.step()
    assert {opt[:3] for opt in vtn.opts} == {("E1", 0, "out"), ("E2", 0, "in")}
    assert [told.windows[0].start_at for told in vtn.all(CreateOpt)] == [present.now() + HOUR]


async def test_a_declaration_that_cannot_be_is_refused_by_name(fleet_store: Store, present: FixedClock) -> None:
    async with fleet_store.begin() as connection:
        past = Interval(present.now() - 2 * HOUR, present.now() - HOUR)
        with pytest.raises(InvalidRequest, match="window"):
            await declare_unavailable(connection, tenant_id="t1", window=past, at=present.now())
        ahead = Interval(present.now(), present.now() + HOUR)
        with pytest.raises(InvalidRequest, match="reason"):
            await declare_unavailable(connection, tenant_id="t1", window=ahead, at=present.now(), reason="holiday")
        with pytest.raises(NotFound):
            await withdraw_unavailability(connection, "none", tenant_id="t1", at=present.now())
        assert await list_unavailability(connection, tenant_id="t1", after=present.now()) == []
