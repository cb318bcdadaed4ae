"""The message log: written beside the traffic, found again, and never larger than it may be.

Goal: noting costs its caller next to nothing and cannot harm it; what was noted is found by what an operator would
look for. Method: a real PostgreSQL, one log written by the loop it runs on.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import func, select, text

from tests.builders_peering import Ticks, stored_peer, until
from tests.clock import NOON, FixedClock
from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.peer import Direction, Protocol
from vpp.peering import MessageFilter, SqlMessageLog, get_message, last_heard, message_log, search_messages
from vpp.peering.metrics import LOG_DROPPED
from vpp.ports import MessageLog
from vpp.store.engine import Store
from vpp.store.tables.peering import message


def note(log: MessageLog, kind: str = "oadrCreatedEvent", **changes: Any) -> None:
    fields: dict[str, Any] = {"protocol": Protocol.OPENADR2, "direction": Direction.IN, "status": "200", "peer": "VEN1"}
    log.note(kind=kind, **(fields | changes))


async def kinds(store: Store, tenant_id: str = "default", limit: int = 50, **wanted: Any) -> list[str]:
    async with store.begin() as connection:
        found = await search_messages(connection, MessageFilter(**wanted), tenant_id=tenant_id, limit=limit)
    return [each.kind for each in found]


async def count(store: Store) -> int:
    async with store.begin() as connection:
        return int((await connection.execute(select(func.count()).select_from(message))).scalar() or 0)


def dropped(what: str) -> float:
    return float(LOG_DROPPED.labels(what)._value.get())


async def test_what_was_noted_is_found_in_its_order_redacted(store: Store, clock: FixedClock) -> None:
    log = SqlMessageLog(store, clock)
    for number in range(5):
        clock.advance(timedelta(seconds=1))
        note(log, f"kind-{number}", body=b'{"client_secret": "hunter2"}', summary=f"summary {number}")
    await log.flush()
    assert await kinds(store) == [f"kind-{number}" for number in (4, 3, 2, 1, 0)]
    async with store.begin() as connection:
        newest, *_ = await search_messages(connection, MessageFilter(), tenant_id="default")
        same = await get_message(connection, newest.id, tenant_id="default")
        with pytest.raises(NotFound):
            await get_message(connection, newest.id + 1, tenant_id="default")
    assert newest == same
    assert (newest.at, newest.last_at, newest.repeats) == (clock.now(), clock.now(), 1)
    assert (newest.protocol, newest.direction, newest.peer, newest.status) == (
        Protocol.OPENADR2, Direction.IN, "VEN1", "200",
    )  # fmt: skip
    assert newest.body == '{"client_secret": "***"}'


async def test_noting_costs_its_caller_less_than_twenty_microseconds(store: Store, clock: FixedClock) -> None:
    log, body = SqlMessageLog(store, clock), b"<x/>" * 10_000
    fastest_s = 1.0
    for _ in range(20):
        before_s = perf_counter()
        for _ in range(100):
            note(log, body=body)
        fastest_s = min(fastest_s, (perf_counter() - before_s) / 100)
    assert fastest_s < 20e-6


async def test_a_full_queue_drops_bodies_then_messages_and_counts_them(store: Store, clock: FixedClock) -> None:
    messages_before, bodies_before = dropped("message"), dropped("body")
    log = SqlMessageLog(store, clock, queue_max=5, queue_bytes_max=25)
    for number in range(7):
        note(log, f"kind-{number}", body=b"0123456789")
    assert (dropped("message") - messages_before, dropped("body") - bodies_before) == (2, 3)
    await log.flush()
    note(log, "after", body=b"0123456789")
    await log.flush()
    async with store.begin() as connection:
        found = await search_messages(connection, MessageFilter(), tenant_id="default")
    assert [each.kind for each in found] == ["after", "kind-4", "kind-3", "kind-2", "kind-1", "kind-0"]
    assert [each.body for each in found[::5]] == ["0123456789", "0123456789"]
    assert "left out: 10 bytes" in found[1].body


async def test_what_cannot_be_noted_harms_nobody(store: Store, clock: FixedClock) -> None:
    log = SqlMessageLog(store, clock)
    before = dropped("message")
    note(log, body=7)
    assert dropped("message") - before == 1
    note(log, "odd\0", body="\ud800", peer="x" * 1000, summary="\\N\t\n")
    await log.flush()
    assert await kinds(store) == ["odd"]


async def test_idle_polls_of_a_peer_are_one_row_with_a_count(store: Store, clock: FixedClock) -> None:
    peer, _ = await stored_peer(store, "site", party_id="VEN1", protocol=Protocol.OPENADR2)
    silent, _ = await stored_peer(store, "silent", protocol=Protocol.OPENADR2)
    log = SqlMessageLog(store, clock)
    for _ in range(3):
        for _ in range(10):
            clock.advance(timedelta(seconds=10))
            note(log, "oadrPoll")
            note(log, "oadrResponse", direction=Direction.OUT)
        await log.flush()
    async with store.begin() as connection:
        found = await search_messages(connection, MessageFilter(peer=peer), tenant_id="default")
        heard = await last_heard(connection, [peer, silent])
        assert await last_heard(connection, []) == {}
    assert [(each.kind, each.repeats, each.last_at) for each in found] == [
        ("oadrResponse", 30, clock.now()), ("oadrPoll", 30, clock.now()),
    ]  # fmt: skip
    assert heard == {peer.id: clock.now()}


async def test_messages_are_found_by_text_kind_direction_status_peer_and_time(store: Store, clock: FixedClock) -> None:
    peer, _ = await stored_peer(store, "site", client_id="client-1")
    log = SqlMessageLog(store, clock)
    note(log, "POST /events", protocol=Protocol.OPENADR3, peer=peer.id, body='{"eventName": "100%_Peak"}')
    note(log, "GET /events", protocol=Protocol.OPENADR3, peer="client-1", status="404")
    note(log, "oadrPoll", direction=Direction.OUT, peer="client-1", summary="asks the utility")
    clock.advance(timedelta(hours=1))
    note(log, "oadrRegisterReport", peer=None, status="452")
    await log.flush()
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"grep": "100%_peak"}, ["POST /events"]),
        ({"grep": "100__"}, []),
        ({"grep": "UTILITY"}, ["oadrPoll"]),
        ({"kind": "oadr"}, ["oadrRegisterReport", "oadrPoll"]),
        ({"status": "4"}, ["oadrRegisterReport", "GET /events"]),
        ({"direction": Direction.OUT}, ["oadrPoll"]),
        ({"protocol": Protocol.OPENADR2}, ["oadrRegisterReport", "oadrPoll"]),
        ({"peer": peer}, ["GET /events", "POST /events"]),
        ({"since": NOON + timedelta(minutes=1)}, ["oadrRegisterReport"]),
        ({"until": NOON + timedelta(minutes=1), "kind": "GET"}, ["GET /events"]),
        ({"since": NOON + timedelta(days=1)}, []),
    ]
    for wanted, right in cases:
        assert await kinds(store, **wanted) == right, wanted


async def test_pages_follow_each_other_by_id_and_new_messages_follow_the_last(store: Store, clock: FixedClock) -> None:
    log = SqlMessageLog(store, clock)
    for number in range(5):
        note(log, f"kind-{number}")
    await log.flush()
    async with store.begin() as connection:
        page = await search_messages(connection, MessageFilter(), tenant_id="default", limit=2)
    assert await kinds(store, limit=2, before_id=page[-1].id) == ["kind-2", "kind-1"]
    note(log, "kind-5")
    note(log, "kind-6")
    await log.flush()
    assert await kinds(store, after_id=page[0].id) == ["kind-5", "kind-6"]


async def test_a_tenants_messages_are_not_shown_to_another(store: Store, clock: FixedClock) -> None:
    ours, _ = await stored_peer(store, "ours", client_id="ours-1")
    theirs, _ = await stored_peer(store, "theirs", client_id="theirs-1", tenant_id="other")
    log = SqlMessageLog(store, clock)
    note(log, "of ours", peer=ours.id)
    note(log, "of theirs", protocol=Protocol.OPENADR3, peer=theirs.id)
    note(log, "of their client", protocol=Protocol.OPENADR3, peer="theirs-1")
    note(log, "of nobody", peer="stranger")
    note(log, "of no name", peer=None)
    await log.flush()
    assert await kinds(store) == ["of no name", "of nobody", "of ours"]
    assert await kinds(store, "other") == ["of no name", "of nobody", "of their client", "of theirs"]
    async with store.begin() as connection:
        (row,) = await search_messages(connection, MessageFilter(peer=theirs, kind="of theirs"), tenant_id="other")
        with pytest.raises(NotFound):
            await get_message(connection, row.id, tenant_id="default")


async def test_a_search_that_takes_too_long_says_so(store: Store) -> None:
    async with store.begin() as connection:
        await connection.execute(
            text(
                "insert into message (at, last_at, repeats, protocol, direction, kind, status, summary, body) "
                "select now(), now(), 1, 'openadr2', 'in', 'k', '200', '', repeat('x', 5000) "
                "from generate_series(1, 2000)"
            )
        )
    async with store.begin() as connection:
        with pytest.raises(InvalidRequest, match="shorter window"):
            await search_messages(connection, MessageFilter(grep="needle"), tenant_id="default", timeout_s=0.001)
        assert (await connection.execute(select(1))).scalar() == 1


@pytest.mark.parametrize("limits", [{"days": 1.0, "rows": 1000}, {"days": 9.0, "rows": 2}])
async def test_old_and_too_many_messages_go_a_batch_at_a_time_by_one_process(
    store: Store, clock: FixedClock, limits: dict[str, Any]
) -> None:
    log = SqlMessageLog(store, clock, prune_batch=3, **limits)
    for number in range(8):
        note(log, f"old-{number}")
    clock.advance(timedelta(days=1, seconds=1))
    note(log, "new-1")
    note(log, "new-2")
    await log.flush()
    async with store.begin() as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": message_log._LOCK})
        assert await log.prune() == 0
    assert await log.prune() == 8
    assert await kinds(store) == ["new-2", "new-1"]


async def running(log: SqlMessageLog, condition: Callable[[], Any]) -> None:
    task = asyncio.create_task(log.run())
    try:
        await until(condition)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_writer_writes_by_itself_and_the_rest_when_it_is_told_to_stop(
    store: Store, clock: FixedClock
) -> None:
    ticks = Ticks()
    log = SqlMessageLog(store, clock, ticks=ticks)
    for _ in range(message_log.BATCH):
        note(log)

    async def written() -> bool:
        return await count(store) == message_log.BATCH

    await running(log, written)
    note(log, "late")
    await running(log, written)
    assert await count(store) == message_log.BATCH + 1


async def test_an_outage_loses_nothing_the_queue_can_hold(store: Store, clock: FixedClock) -> None:
    log = SqlMessageLog(store, clock)
    note(log, "oadrPoll")
    await log.flush()
    gone = Store("postgresql://nobody@127.0.0.1:1/none", store.redis_url)
    there, log._store = log._store, gone
    note(log, "during")
    with pytest.raises(Exception, match="connection"):
        await log.flush()
    log._store = there
    note(log, "after")
    await log.flush()
    await gone.close()
    assert await kinds(store) == ["after", "during", "oadrPoll"]
