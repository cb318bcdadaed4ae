"""What both VTNs keep is forgotten once it was over long ago, and nothing that still counts is."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Boolean, Integer, Table, Text, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB

from tests.builders_downstream import START_AT, TENANT, add_tenant, an_event
from tests.builders_grid_events import answered
from tests.clock import NOON, FixedClock
from vpp.bootstrap.translator import Translator
from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.hearing import KEPT, Hearing
from vpp.gateway.ven3 import seen
from vpp.peering import (
    NewPeer,
    NobodyTold,
    SqlObjectShelf,
    add_peer,
    forget_old,
    list_versions,
    modify,
    on_received,
    publish,
)
from vpp.store.engine import Store
from vpp.store.tables.downstream import grid_event, grid_event_version, received_event
from vpp.store.tables.openadr2_vtn import vtn2_delivery, vtn2_opt, vtn2_report_request, vtn2_report_value
from vpp.store.tables.openadr3_ven import openadr3_event_seen, openadr3_report
from vpp.store.types import UtcInstant

DAY = timedelta(days=1)
LATER = START_AT + 20 * DAY
BEFORE = START_AT + 10 * DAY
WORDS: dict[str, Any] = {"at": NOON, "translator": Translator(), "changes": NobodyTold()}
EVENTS = (
    an_event("over"),
    an_event("open", duration=None),
    an_event("to come", start_at=LATER),
)


@pytest.fixture
async def kept(store: Store) -> Store:
    await add_tenant(store)
    await add_tenant(store, "other")
    return store


async def a_peer(store: Store, role: PeerRole, **config: Any) -> Peer:
    new = NewPeer(
        tenant_id=TENANT, protocol=Protocol.OPENADR2, role=role, name="x", url="https://x.example", config=config
    )
    async with store.begin() as connection:
        return (await add_peer(connection, new, at=NOON))[0]


async def ids(store: Store, column: Any) -> set[str]:
    async with store.begin() as connection:
        return set((await connection.execute(select(column))).scalars())


async def forget(store: Store, *, most: int = 100, tenant_id: str = TENANT) -> int:
    async with store.begin() as connection:
        return await forget_old(connection, tenant_id=tenant_id, before=BEFORE, most=most)


async def put(store: Store, table: Table, **values: Any) -> None:
    """Insert a row in which only what the test is about says anything."""
    nothing = {Text: "", Boolean: False, Integer: 0, JSONB: [], UtcInstant: NOON}
    blank = {
        each.name: nothing[type(each.type)]
        for each in table.c
        if not (each.nullable or each.foreign_keys or each.identity) and type(each.type) in nothing
    }
    async with store.begin() as connection:
        await connection.execute(insert(table).values(blank | values))


async def an_opt(store: Store, peer: Peer, opt_id: str, **fields: Any) -> None:
    await put(store, vtn2_opt, peer_id=peer.id, opt_id=opt_id, **fields)


async def asked(store: Store, peer: Peer, name: str, state: str, *, value: bool = False) -> None:
    await put(store, vtn2_report_request, report_request_id=name, peer_id=peer.id, state=state)
    if value:
        await put(store, vtn2_report_value, report_request_id=name, peer_id=peer.id, value=1.0)


async def test_events_over_long_ago_go_with_all_that_was_said_of_them_and_others_stay(kept: Store) -> None:
    ven = await a_peer(kept, PeerRole.VEN)
    async with kept.begin() as connection:
        for event in EVENTS:
            await publish(connection, event, tenant_id=TENANT, **WORDS)
            await answered(connection, ven, event.event_id)
        await publish(connection, EVENTS[0], tenant_id="other", **WORDS)
        await modify(connection, "open", lambda event: replace(event, priority=1), tenant_id=TENANT, **WORDS)
    shelf = SqlObjectShelf(kept, FixedClock(NOON), NobodyTold())
    for event_id in await ids(kept, grid_event.c.openadr3_id):
        report = {"eventID": event_id, "clientName": "c", "resources": []}
        draft = ObjectDraft(kind=ObjectKind.REPORT, tenant_id=TENANT, body=report, client_id="c")
        if await shelf.find(ObjectKind.EVENT, event_id, tenant_id=TENANT):
            await shelf.create(draft)
    assert await forget(kept, tenant_id="other") > 0
    assert await ids(kept, grid_event.c.event_id) == {each.event_id for each in EVENTS}
    while await forget(kept, most=1):
        pass
    async with kept.begin() as connection:
        versions = await list_versions(connection, "open", tenant_id=TENANT)
    assert [event.modification_number for event, _ in versions] == [1]
    for table in (grid_event, grid_event_version, vtn2_delivery):
        assert await ids(kept, table.c.event_id) == {"open", "to come"}
    objects = await shelf.select(ObjectQuery(kind=ObjectKind.EVENT, tenant_id=TENANT))
    assert {each.id for each in objects} == await ids(kept, grid_event.c.openadr3_id)
    assert await shelf.select(ObjectQuery(kind=ObjectKind.REPORT, tenant_id=TENANT)) == []


async def test_opts_and_refused_requests_go_in_parts_and_what_still_counts_stays(kept: Store) -> None:
    ven = await a_peer(kept, PeerRole.VEN)
    async with kept.begin() as connection:
        for event in EVENTS:
            await publish(connection, event, tenant_id=TENANT, **WORDS)
    past, coming = ([{"start_at": str(NOON), "end_at": str(end)}] for end in (START_AT, LATER))
    await an_opt(kept, ven, "over", event_id="over")
    await an_opt(kept, ven, "nobody's", event_id="no such")
    await an_opt(kept, ven, "past", windows=past)
    await an_opt(kept, ven, "taken back", windows=coming, cancelled_at=START_AT)
    await an_opt(kept, ven, "OPEN", event_id="open")
    await an_opt(kept, ven, "COMING", windows=coming)
    await an_opt(kept, ven, "NEW", event_id="over", received_at=LATER)
    for state in ("refused", "cancelled", "done"):
        await asked(kept, ven, state, state)
    await asked(kept, ven, "running", "running", value=True)
    await asked(kept, ven, "asked", "asked")
    assert await forget(kept, most=1) < 8
    while await forget(kept, most=1):
        pass
    assert await ids(kept, vtn2_opt.c.opt_id) == {"OPEN", "COMING", "NEW"}
    assert await ids(kept, vtn2_report_request.c.report_request_id) == {"running", "asked"}
    assert await ids(kept, vtn2_report_value.c.report_request_id) == set()


async def test_a_ven_forgets_what_it_received_unless_it_is_in_force_here_or_below(kept: Store) -> None:
    vtn = await a_peer(kept, PeerRole.VTN, forward=True)

    async def hear(event: GridEvent) -> None:
        async with kept.begin() as connection:
            assert (await on_received(connection, vtn, event, **WORDS)).refusal is None

    for event in (*EVENTS, an_event("gone", duration=None, cancelled=True)):
        await hear(event)
    async with kept.begin() as connection:
        await connection.execute(text("update grid_event set over_at = null where event_id = 'over@x'"))
    hearing = Hearing(kept, FixedClock(BEFORE + KEPT), "openadr2:x", TENANT)
    await hearing.prune()
    assert await ids(kept, received_event.c.event_id) == {"over", "open", "to come"}
    async with kept.begin() as connection:
        await connection.execute(text("update grid_event set over_at = start_at where event_id = 'over@x'"))
    await hearing.prune()
    assert await ids(kept, received_event.c.event_id) == {"open", "to come"}


async def test_a_ven_of_openadr3_forgets_old_reports_of_an_event_that_goes_on(kept: Store) -> None:
    here = {"source": "openadr3:x", "event_id": "open"}
    await put(kept, openadr3_event_seen, **here, outcome="in")
    for name, made_at in (("old", NOON), ("new", LATER)):
        await put(kept, openadr3_report, **here, name=name, made_at=made_at)
    async with kept.begin() as connection:
        await seen.prune(connection, "openadr3:x", before=BEFORE)
    assert await ids(kept, openadr3_report.c.name) == {"new"}
    assert await ids(kept, openadr3_event_seen.c.event_id) == {"open"}
