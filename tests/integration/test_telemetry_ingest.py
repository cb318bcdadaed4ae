"""Readings reach the database once, whatever dies on the way; what cannot be written blocks nothing."""

import asyncio
import json
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.builders_telemetry import a_reading, a_token, api_client, count_readings, enrolled_sites
from tests.clock import NOON, FixedClock
from vpp.store.engine import Store
from vpp.telemetry import BacklogFull, IngestConsumer, backlog, publish, publish_batch
from vpp.telemetry.batch import batch_of
from vpp.telemetry.stream import DEAD_STREAM, FIELD, GROUP, STREAM
from vpp.telemetry.write import _once


def posted(device_id: int, minute: int = 0, **changes: object) -> dict[str, object]:
    at = (NOON - timedelta(minutes=minute)).isoformat()
    return {"device_id": device_id, "measured_at": at, "battery_kw": 1.5, "grid_kw": None, "soc": 0.5} | changes


async def test_posted_readings_are_stored_once_with_their_nulls(store: Store, clock: FixedClock) -> None:
    sites = await enrolled_sites(store, 3)
    headers = await a_token(store, "telemetry")
    readings = [posted(site.device_id, minute) for site in sites for minute in range(400)]
    async with api_client(store, clock) as client:
        for _ in range(2):
            answer = await client.post("/api/v1/telemetry", json={"readings": readings}, headers=headers)
            assert (answer.status_code, answer.json()) == (202, {"accepted": 1200})
    assert await backlog(store) == 6
    assert await IngestConsumer(store).drain() == 1200
    assert await IngestConsumer(store).drain() == 0
    assert await backlog(store) == 0
    async with store.begin() as connection:
        row = (await connection.execute(text("select * from reading order by device_id, measured_at desc"))).first()
        days = await connection.execute(text("select count(*) from pg_inherits where inhparent = 'reading'::regclass"))
        assert days.scalar_one() == 1
    assert row is not None
    assert (row.battery_kw, row.grid_kw, row.soc, row.islanded, row.controllable) == (1.5, None, 0.5, False, True)
    assert (row.measured_at, row.received_at, row.repeated_at) == (NOON, NOON, None)
    assert await count_readings(store) == 1200


@pytest.mark.parametrize(
    ("reading", "field", "hint"),
    [
        (posted(1, soc="full"), "soc", "finite number"),
        (posted(1) | {"battery_kw": float("nan")}, "battery_kw", "finite number"),
        (posted(1, power=3), "power", "one of the fields"),
        (posted(1, measured_at="2026-08-19T12:00:00"), "measured_at", "with a zone"),
        (posted(1, minute=-3), "measured_at", "an instant from"),
        (posted(1, minute=31 * 24 * 60), "measured_at", "an instant from"),
        (posted(1, measured_at="0001-01-01T00:00:00+14:00"), "measured_at", ""),
        (posted(999), "device_id", "your devices"),
        (posted(0), "device_id", "your devices"),
        ({"battery_kw": 1}, "device_id", "your devices"),
    ],
)
async def test_a_bad_reading_is_named_and_nothing_is_taken(
    store: Store, clock: FixedClock, reading: dict[str, object], field: str, hint: str
) -> None:
    (site,) = await enrolled_sites(store, 1)
    headers = await a_token(store, "telemetry")
    body = json.dumps({"readings": [posted(site.device_id), reading]})
    async with api_client(store, clock) as client:
        answer = await client.post("/api/v1/telemetry", content=body, headers=headers)
    assert answer.status_code == 422
    problem = answer.json()["problems"][0]
    assert (problem["index"], problem["field"]) == (1, field)
    assert hint in problem["allowed"]
    assert await backlog(store) == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"readings": 1}', b'{"readings": [], "x": 1}', b"\xff", b"[" * 9999]
)
async def test_a_body_that_is_no_list_of_readings_is_refused(store: Store, clock: FixedClock, body: bytes) -> None:
    await enrolled_sites(store, 1)
    headers = await a_token(store, "telemetry")
    async with api_client(store, clock) as client:
        answer = await client.post("/api/v1/telemetry", content=body, headers=headers)
    assert (answer.status_code, answer.json()["problems"][0]["index"]) == (422, None)


async def test_too_many_readings_or_bytes_are_refused(store: Store, clock: FixedClock) -> None:
    (site,) = await enrolled_sites(store, 1)
    headers = await a_token(store, "telemetry")
    async with api_client(store, clock) as client:
        many = await client.post(
            "/api/v1/telemetry", json={"readings": [posted(site.device_id)] * 5001}, headers=headers
        )
        large = await client.post("/api/v1/telemetry", content=b" " * 4_000_001, headers=headers)
    assert (many.status_code, many.json()["problems"][0]["field"]) == (422, "readings")
    assert large.status_code == 413


async def test_readings_need_a_token_and_the_tenants_own_devices(store: Store, clock: FixedClock) -> None:
    (site,) = await enrolled_sites(store, 1, "one")
    await enrolled_sites(store, 0, "two")
    body = {"readings": [posted(site.device_id)]}
    async with api_client(store, clock) as client:
        assert (await client.post("/api/v1/telemetry", json=body)).status_code == 401
        reads = await a_token(store, "read", "one")
        assert (await client.post("/api/v1/telemetry", json=body, headers=reads)).status_code == 403
        other = await a_token(store, "telemetry", "two")
        assert (await client.post("/api/v1/telemetry", json=body, headers=other)).status_code == 422


async def test_a_full_stream_takes_nothing_and_says_when_to_come_back(store: Store, clock: FixedClock) -> None:
    (site,) = await enrolled_sites(store, 1)
    headers = await a_token(store, "telemetry")
    batch = batch_of([a_reading(site.device_id, NOON - timedelta(seconds=n)) for n in range(1001)])
    with pytest.raises(BacklogFull):
        await publish_batch(store, batch, max_backlog=2)
    assert await backlog(store) == 0
    assert await publish_batch(store, batch, max_backlog=3) == 1001
    assert await backlog(store) == 3
    for _ in range(2000):
        await store.redis.xadd(STREAM, {"filler": "x"})
    async with api_client(store, clock) as client:
        answer = await client.post("/api/v1/telemetry", json={"readings": [posted(site.device_id)]}, headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_entries_a_dead_consumer_held_are_written_by_another(store: Store) -> None:
    await publish(store, [a_reading(1, NOON - timedelta(seconds=n)) for n in range(1500)])
    await store.redis.xgroup_create(STREAM, GROUP, id="0")
    taken = await store.redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=2)
    assert taken
    assert await IngestConsumer(store).drain() == 1500
    assert await backlog(store) == 0


CONSUMER = """
import asyncio, sys
from vpp.store.engine import Store
from vpp.telemetry import IngestConsumer
asyncio.run(IngestConsumer(Store(sys.argv[1], sys.argv[2]), max_entries=1).run())
"""


async def test_killing_the_consumer_again_and_again_loses_and_doubles_nothing(store: Store) -> None:
    """Holds conventions, rule 12."""
    readings = [a_reading(1 + n % 50, NOON - timedelta(seconds=n)) for n in range(40_000)]
    for at in range(0, len(readings), 10_000):
        await publish(store, readings[at : at + 10_000])
    kills = 0
    for wait_s in (0.05, 0.1, 0.15, 0.2):
        before = await backlog(store)
        arguments = [sys.executable, "-c", CONSUMER, store.database_url, store.redis_url]
        process = await asyncio.to_thread(subprocess.Popen, arguments)
        deadline_s = time.monotonic() + 20
        while await backlog(store) == before and time.monotonic() < deadline_s:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.002)
        await asyncio.sleep(wait_s)
        process.kill()
        await asyncio.to_thread(process.wait)
        kills += await backlog(store) > 0
    assert kills, "the consumer was never killed while it had work: give it more"
    await publish(store, readings[:5000])
    await IngestConsumer(store).drain()
    assert await backlog(store) == 0
    assert await count_readings(store) == 40_000


async def test_an_entry_that_cannot_be_read_is_put_aside_and_the_rest_written(store: Store) -> None:
    await store.redis.xadd(STREAM, {FIELD: b"junk"})
    await store.redis.xadd(STREAM, {"readings.99": b"from the future"})
    await publish(store, [a_reading(1)])
    assert await IngestConsumer(store).drain() == 1
    assert (await backlog(store), await store.redis.xlen(DEAD_STREAM)) == (0, 2)


async def test_an_entry_the_database_refuses_is_put_aside_and_the_rest_written(store: Store) -> None:
    async with store.begin() as connection:
        await connection.execute(text("alter table reading add check (soc < 100)"))
    await publish(store, [a_reading(1)])
    await publish(store, [a_reading(2, soc=1000.0)])
    await publish(store, [a_reading(3)])
    assert await IngestConsumer(store).drain() == 2
    assert (await backlog(store), await store.redis.xlen(DEAD_STREAM)) == (0, 1)


async def test_a_running_consumer_goes_on_after_its_database_connections_were_cut(store: Store) -> None:
    running = asyncio.create_task(IngestConsumer(store).run())
    try:
        for device_id in (1, 2):
            await publish(store, [a_reading(device_id)])
            async with asyncio.timeout(20):
                while await backlog(store):  # noqa: ASYNC110 - only Valkey knows
                    await asyncio.sleep(0.02)
            async with store.begin() as connection:
                cut = """select pg_terminate_backend(pid) from pg_stat_activity
                         where pid <> pg_backend_pid() and datname = current_database()"""
                await connection.execute(text(cut))
    finally:
        running.cancel()
    assert await count_readings(store) == 2


async def test_readings_over_several_days_get_a_partition_each(store: Store) -> None:
    await publish(store, [a_reading(1, NOON - timedelta(days=n)) for n in (0, 1, 5)])
    assert await IngestConsumer(store).drain() == 3
    async with store.begin() as connection:
        names = await connection.execute(
            text("select relname from pg_class where relname ~ '^reading_2' and relkind = 'r'")
        )
        assert set(names.scalars()) == {"reading_20260819", "reading_20260818", "reading_20260814"}


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 200)), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_of_equal_readings_the_first_received_is_kept(rows: list[tuple[int, int, int]]) -> None:
    readings = [
        a_reading(d, NOON + timedelta(seconds=m), received_at=NOON + timedelta(seconds=r), battery_kw=float(r))
        for d, m, r in rows
    ]
    once, repeated_us = _once(batch_of(readings))
    first: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], int] = {}
    for d, m, r in rows:
        first[d, m] = min(first.get((d, m), r), r)
        last[d, m] = max(last.get((d, m), r), r)
    assert len(once) == len(first)
    assert once["battery_kw"].tolist() == [float(first[key]) for key in sorted(first)]
    assert (repeated_us > 0).tolist() == [last[key] - first[key] > 60 for key in sorted(first)]
    assert np.all(np.diff(once["device_id"]) >= 0)
