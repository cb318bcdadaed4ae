"""Events of a VTN above us, and of business logic at our OpenADR 3 VTN, told to those below us as they change."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_downstream import HOUR, START_AT, TENANT, a_series, add_tenant, an_event
from tests.clock import NOON, FixedClock
from vpp.bootstrap.translator import Translator
from vpp.domain.errors import Conflict, NotFound
from vpp.domain.grid_event import GridEvent, SeriesType, Target, TargetKind
from vpp.domain.openadr3 import Change, ObjectDraft, ObjectKind, ObjectQuery, Operation
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import (
    Forwarded,
    ForwardingChanges,
    NewPeer,
    NobodyTold,
    SqlObjectShelf,
    add_peer,
    cancel,
    forward_received,
    get_peer,
    list_downstream,
    list_received,
    list_versions,
    load_downstream,
    modify,
    on_received,
    publish,
)
from vpp.store.engine import Store

TRANSLATOR = Translator()


class Heard:
    """`Changes` that keeps what it was told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        self.changes.append(change)

    def operations(self) -> list[tuple[ObjectKind, Operation]]:
        return [(change.object.kind, change.operation) for change in self.changes]


@pytest.fixture
async def kept(store: Store) -> Store:
    """A store with a tenant."""
    await add_tenant(store)
    return store


async def a_vtn(store: Store, name: str = "utility", **config: object) -> Peer:
    """A VTN above us."""
    new = NewPeer(
        tenant_id=TENANT, protocol=Protocol.OPENADR2, role=PeerRole.VTN, name=name, url="https://vtn.example",
        config=config,
    )  # fmt: skip
    async with store.begin() as connection:
        return (await add_peer(connection, new, at=NOON))[0]


async def receive(store: Store, peer: Peer, event: GridEvent, *, at: datetime = NOON, **more: Any) -> Forwarded:
    async with store.begin() as connection:
        return await on_received(connection, peer, event, at=at, translator=TRANSLATOR, **more)


@pytest.mark.conformance("all", "one meaning", "an event of a utility is passed on, changed and withdrawn with it")
async def test_an_event_of_a_forwarding_peer_is_told_below_and_follows_the_one_above(kept: Store) -> None:
    peer = await a_vtn(kept, forward=True, forward_targets=["north"], forward_program="ours")
    event = an_event("x", modification_number=4, ramp_up=HOUR)
    first = await receive(kept, peer, event)
    assert first.event is not None
    assert [each.field for each in first.unsaid[Protocol.OPENADR3]] == ["ramp_up"]
    again = await receive(kept, peer, event)
    assert again.event == first.event
    longer = await receive(kept, peer, replace(event, modification_number=5, duration=3 * HOUR))
    gone = await receive(kept, peer, replace(event, modification_number=6, cancelled=True))
    back = await receive(kept, peer, replace(event, modification_number=7))
    told = [each.event for each in (longer, gone, back)]
    assert all(each is not None for each in told)
    assert [(e.modification_number, e.cancelled) for e in told if e] == [(1, False), (2, True), (3, False)]
    async with kept.begin() as connection:
        stands = await load_downstream(connection, "x@utility", tenant_id=TENANT)
        received = await list_received(connection, tenant_id=TENANT)
    assert (stands.origin, stands.event.program) == (f"peer:{peer.id}/x", "ours")
    assert stands.event.targets == (Target(TargetKind.GROUP, "north"),)
    assert [(each.event.modification_number, each.forwarded_as) for each in received] == [(7, "x@utility")]


async def test_two_tenants_pass_on_events_of_one_id_from_utilities_of_one_name(kept: Store) -> None:
    await add_tenant(kept, "other")
    one, same = await a_vtn(kept, forward=True), {"name": "utility", "url": "https://vtn.example"}
    async with kept.begin() as connection:
        new = NewPeer(
            tenant_id="other", protocol=Protocol.OPENADR3, role=PeerRole.VTN, config={"forward": True}, **same
        )
        two = (await add_peer(connection, new, at=NOON))[0]
        with pytest.raises(Conflict, match="taken"):  # what is kept of a VTN above us is kept under this name
            await add_peer(connection, replace(new, protocol=Protocol.OPENADR2), at=NOON)
    for peer, comment in ((one, "in 2.0b"), (two, "in 3")):
        assert (await receive(kept, peer, an_event("x", comment=comment), changes=NobodyTold())).refusal is None
    await receive(kept, two, an_event("x", comment="hotter", modification_number=1), changes=NobodyTold())
    await receive(kept, one, an_event("x", cancelled=True, modification_number=1), changes=NobodyTold())
    async with kept.begin() as connection:
        stand = [await load_downstream(connection, "x@utility", tenant_id=each) for each in (TENANT, "other")]
        versions = [
            [event.comment for event, _ in await list_versions(connection, "x@utility", tenant_id=each)]
            for each in (TENANT, "other")
        ]
    assert [(each.event.cancelled, each.origin) for each in stand] == [
        (True, f"peer:{one.id}/x"),
        (False, f"peer:{two.id}/x"),
    ]
    assert stand[0].openadr3_id not in (None, stand[1].openadr3_id)
    assert versions[1] == ["hotter", "in 3"]
    async with kept.begin() as connection:
        three = (await add_peer(connection, replace(new, tenant_id=TENANT, name="grid"), at=NOON))[0]
    grid = await a_vtn(kept, "grid", forward=True)
    for peer in (grid, three, grid, three):  # one utility by both protocols, with events of its own in each
        assert (await receive(kept, peer, an_event("x"), changes=NobodyTold())).refusal is None
    async with kept.begin() as connection:
        found = {each.event.event_id: each.origin for each in await list_downstream(connection, tenant_id=TENANT)}
    assert (found["x@grid"], found["x@grid.openadr3"]) == (f"peer:{grid.id}/x", f"peer:{three.id}/x")


async def test_without_the_word_of_its_peer_an_event_waits_for_the_operator(kept: Store) -> None:
    peer = await a_vtn(kept)
    assert await receive(kept, peer, an_event("x")) == Forwarded()
    async with kept.begin() as connection:
        assert await list_downstream(connection, tenant_id=TENANT) == []
        group = Target(TargetKind.GROUP, "south")
        common: dict[str, Any] = {"at": NOON, "translator": TRANSLATOR, "targets": (group,)}
        done = await forward_received(connection, peer.id, "x", tenant_id=TENANT, **common)
        with pytest.raises(NotFound):
            await forward_received(connection, peer.id, "y", tenant_id=TENANT, **common)
        with pytest.raises(NotFound):
            await forward_received(connection, peer.id, "x", tenant_id="other", **common)
    assert done.event is not None
    assert done.event.targets == (group,)
    followed = await receive(kept, peer, an_event("x", modification_number=1, priority=1))
    assert followed.event is not None
    assert (followed.event.priority, followed.event.targets) == (1, (group,))


async def test_what_is_cancelled_or_over_is_not_passed_on_any_more(kept: Store) -> None:
    peer = await a_vtn(kept, forward=True)
    assert await receive(kept, peer, an_event("c", cancelled=True)) == Forwarded()
    assert await receive(kept, peer, an_event("o"), at=START_AT + 2 * HOUR) == Forwarded()
    async with kept.begin() as connection:
        for event_id, state in (("c", "cancelled"), ("o", "completed")):
            with pytest.raises(Conflict, match=state):
                await forward_received(
                    connection, peer.id, event_id, tenant_id=TENANT, at=START_AT + 2 * HOUR, translator=TRANSLATOR
                )


async def test_a_change_after_the_end_is_refused_and_the_receipt_kept(kept: Store) -> None:
    peer = await a_vtn(kept, forward=True)
    await receive(kept, peer, an_event("x"))
    late = await receive(kept, peer, an_event("x", modification_number=1, cancelled=True), at=START_AT + 9 * HOUR)
    assert late.refusal is not None
    async with kept.begin() as connection:
        (received,) = await list_received(connection, tenant_id=TENANT)
    assert (received.event.cancelled, received.refusal) == (True, late.refusal)


@pytest.mark.parametrize("round_trip", ["mine", "mine@other"])
async def test_our_own_event_come_round_is_refused(kept: Store, round_trip: str) -> None:
    peer = await a_vtn(kept, forward=True)
    async with kept.begin() as connection:
        await publish(connection, an_event("mine"), tenant_id=TENANT, at=NOON, translator=TRANSLATOR)
    refused = await receive(kept, peer, an_event(round_trip))
    assert refused.event is None
    assert "our own event 'mine'" in str(refused.refusal)


async def test_an_event_is_not_passed_on_without_end(kept: Store) -> None:
    peer = await a_vtn(kept, forward=True)
    assert "4 times" in str((await receive(kept, peer, an_event("x@a@b@c@d"))).refusal)
    assert (await receive(kept, peer, an_event("x@a@b@c"))).event is not None


@pytest.mark.conformance("all", "one meaning", "an event told in 2.0b is an object of OpenADR 3")
async def test_an_event_is_also_an_object_at_our_openadr3_vtn(kept: Store) -> None:
    heard = Heard()
    shelf = SqlObjectShelf(kept, FixedClock(), NobodyTold())
    common: dict[str, Any] = {"tenant_id": TENANT, "at": NOON, "translator": TRANSLATOR, "changes": heard}
    ven = NewPeer(
        tenant_id=TENANT, protocol=Protocol.OPENADR3, role=PeerRole.VEN, name="v", party_id="ven-1", groups=("g",)
    )
    async with kept.begin() as connection:
        added, _ = await add_peer(connection, ven, at=NOON)
        targets = (Target(TargetKind.VEN, "ven-1"), Target(TargetKind.GROUP, "g"))
        await publish(connection, an_event("e", targets=targets), **common)
        await modify(connection, "e", lambda event: replace(event, comment="more"), **common)
        object_id = (await load_downstream(connection, "e", tenant_id=TENANT)).openadr3_id
        granted = (await get_peer(connection, added.id, tenant_id=TENANT)).granted_targets
    assert {"ven:ven-1", "g"} <= set(granted)
    (found,) = await shelf.select(ObjectQuery(kind=ObjectKind.EVENT, tenant_id=TENANT))
    assert (found.id, found.name, set(found.targets)) == (object_id, "more", {"ven:ven-1", "g"})
    (program,) = await shelf.select(ObjectQuery(kind=ObjectKind.PROGRAM, tenant_id=TENANT))
    assert program.name == "http://utility/peak"
    async with kept.begin() as connection:
        await cancel(connection, "e", **common)
    (found,) = await shelf.select(ObjectQuery(kind=ObjectKind.EVENT, tenant_id=TENANT))
    assert found.wire()["intervalPeriod"] == {"start": "0001-01-01", "duration": "PT0S"}
    create, update = Operation.CREATE, Operation.UPDATE
    event, programme = ObjectKind.EVENT, ObjectKind.PROGRAM
    assert heard.operations() == [(programme, create), (event, create), (event, update), (event, update)]


async def test_a_test_event_is_never_told_where_it_would_be_taken_for_real(kept: Store) -> None:
    heard = Heard()
    common: dict[str, Any] = {"tenant_id": TENANT, "at": NOON, "translator": TRANSLATOR, "changes": heard}
    async with kept.begin() as connection:
        done = await publish(connection, an_event("t", is_test=True), **common)
        assert [each.field for each in done.unsaid[Protocol.OPENADR3]] == ["event"]
        assert heard.changes == []
        await modify(connection, "t", lambda event: replace(event, is_test=False), **common)
        await modify(connection, "t", lambda event: replace(event, is_test=True), **common)
        assert heard.operations()[1:] == [(ObjectKind.EVENT, Operation.CREATE), (ObjectKind.EVENT, Operation.DELETE)]
        assert (await load_downstream(connection, "t", tenant_id=TENANT)).openadr3_id is None


def an_object(**more: Any) -> dict[str, Any]:
    return {
        "intervalPeriod": {"start": START_AT.isoformat(), "duration": "PT1H"}, "eventName": "dear",
        "intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [0.9]}]}], **more,
    }  # fmt: skip


@pytest.mark.conformance("all", "one meaning", "an event of OpenADR 3 is told in 2.0b")
async def test_events_of_marked_programmes_reach_2_0b_as_they_change(kept: Store) -> None:
    heard = Heard()
    shelf = SqlObjectShelf(kept, FixedClock(), ForwardingChanges(heard, TRANSLATOR))

    def draft(kind: ObjectKind, body: Mapping[str, Any]) -> ObjectDraft:
        return ObjectDraft(kind=kind, tenant_id=TENANT, body=body)

    marked = {"programName": "peak", "attributes": [{"type": "FORWARD", "values": [True]}],
              "payloadDescriptors": [{"payloadType": "PRICE", "units": "KWH", "currency": "USD"}]}  # fmt: skip
    programs = [await shelf.create(draft(ObjectKind.PROGRAM, body)) for body in (marked, {"programName": "plain"})]
    events = [await shelf.create(draft(ObjectKind.EVENT, an_object(programID=p.id))) for p in programs]
    odd = await shelf.create(draft(ObjectKind.EVENT, {**an_object(programID=programs[0].id), "intervals": [
        {"id": 0, "intervalPeriod": {"duration": "P9999Y"}, "payloads": []}, {"id": 1, "payloads": []}]}))  # fmt: skip
    async with kept.begin() as connection:
        (told,) = await list_downstream(connection, tenant_id=TENANT)
    assert (told.event.event_id, told.openadr3_id, told.origin) == (
        events[0].id,
        events[0].id,
        f"openadr3/{events[0].id}",
    )
    assert (told.event.program, told.event.comment) == ("peak", "dear")
    series = told.event.series[0]
    assert (series.type, series.unit, series.currency) == (SeriesType.PRICE, "KWH", "USD")
    assert odd.id != told.event.event_id

    body = an_object(programID=programs[0].id, eventName="dearer")
    await shelf.replace(events[0].id, draft(ObjectKind.EVENT, body))
    nothing = {"start": "0001-01-01", "duration": "PT0S"}
    await shelf.replace(events[0].id, draft(ObjectKind.EVENT, {**body, "intervalPeriod": nothing}))
    await shelf.replace(events[0].id, draft(ObjectKind.EVENT, body))
    await shelf.delete(ObjectKind.EVENT, events[0].id, tenant_id=TENANT)
    async with kept.begin() as connection:
        versions = [event for event, _ in await list_versions(connection, events[0].id, tenant_id=TENANT)]
    assert [(event.comment, event.cancelled) for event in reversed(versions)] == [
        ("dear", False), ("dearer", False), ("dearer", True), ("dearer", False), ("dearer", True)
    ]  # fmt: skip
    assert len(heard.changes) == 9, "who is told of objects hears all of it"


async def test_what_the_operator_told_in_both_is_not_told_twice(kept: Store) -> None:
    forwarding = ForwardingChanges(NobodyTold(), TRANSLATOR)
    common: dict[str, Any] = {"tenant_id": TENANT, "at": NOON, "translator": TRANSLATOR}
    async with kept.begin() as connection:
        await publish(connection, an_event("e", series=(a_series(1),)), changes=NobodyTold(), **common)
        object_id = (await load_downstream(connection, "e", tenant_id=TENANT)).openadr3_id
    assert object_id is not None
    shelf = SqlObjectShelf(kept, FixedClock(), forwarding)
    found = await shelf.find(ObjectKind.EVENT, object_id, tenant_id=TENANT)
    assert found is not None
    await shelf.replace(
        object_id, ObjectDraft(kind=ObjectKind.EVENT, tenant_id=TENANT, body=found.wire() | {"priority": 5})
    )
    async with kept.begin() as connection:
        (stands,) = await list_downstream(connection, tenant_id=TENANT)
    assert (stands.event.event_id, stands.event.modification_number, stands.event.priority) == ("e", 0, None)
