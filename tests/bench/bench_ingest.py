"""Telemetry ingest: points a second from HTTP through the stream into PostgreSQL, each stored once.

Run by `vpp bench` or `python -m tests.bench.bench_ingest`. Everything is real: uvicorn and the consumer in
processes of their own, Valkey, PostgreSQL with synchronous_commit on. The load client shares the machine.
The peer, measured in the same run on the same rows in transactions as large as the consumer's: psycopg's
COPY of text rows into a temporary table and INSERT ... ON CONFLICT DO NOTHING, without HTTP or stream.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import text

from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.portal.auth import create_token
from vpp.store.embedded import ServerUrls, running_servers
from vpp.store.engine import Store
from vpp.store.migrate import migrate
from vpp.telemetry import IngestConsumer, backlog

DEVICES = 2000
POINTS = 600_000
BATCH = 500
PEER_BATCH = 64 * BATCH
DUPLICATES = 0.01
CONNECTIONS = 8
DRAIN_TIMEOUT_S = 120.0

Row = tuple[int, datetime, float, float, float]


def run(points: int = POINTS) -> dict[str, Any]:
    """Measure once; takes about half a minute. Raises if not exactly the distinct readings are stored."""
    folder = Path(tempfile.mkdtemp(prefix="vpp-bench-"))
    try:
        with running_servers(Settings(var_dir=folder, database_url=None, redis_url=None)) as urls:
            migrate(urls.database_url)
            return asyncio.run(_measure(urls, points))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(urls: ServerUrls, points: int) -> dict[str, Any]:
    store = Store(urls.database_url, urls.redis_url)
    try:
        token = await _fleet(store)
        rows = list(_rows(points))
        distinct = len({row[:2] for row in rows})
        batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        with _processes(urls) as base_url:
            await _wait_until_up(base_url)
            accepted_s, whole_s = await _through_http(store, base_url, token, batches)
        stored = await _count(store)
        if stored != distinct:
            raise AssertionError(f"{stored} readings stored, {distinct} expected")
        peer_s = await asyncio.to_thread(_peer, urls.database_url, rows, distinct)
    finally:
        await store.close()
    return {
        "name": "telemetry_ingest",
        "points": len(rows),
        "duplicates": len(rows) - distinct,
        "stored": stored,
        "batch": BATCH,
        "accepted_points_per_s": round(len(rows) / accepted_s),
        "points_per_s": round(len(rows) / whole_s),
        "peer": f"psycopg COPY and ON CONFLICT in transactions of {PEER_BATCH}, without HTTP",
        "peer_points_per_s": round(len(rows) / peer_s),
        "ratio_to_peer": round(peer_s / whole_s, 3),
        "cpus": os.cpu_count(),
    }


async def _fleet(store: Store) -> str:
    """A tenant with devices and a token. Device numbers are 1 to DEVICES."""
    site_row = (
        "insert into site select 's' || n, 'bench', 'bench', 's', 'a' || n, 'UTC', 'none', '', 5, 5, 10, 1, 1, "
        "10, 10, 0, '{}', null, now() from generate_series(1, :count) n"
    )
    async with store.begin() as connection:
        await connection.execute(text("insert into tenant values ('bench', 'bench')"))
        await connection.execute(text("insert into owner values ('bench', 'bench', 'bench', 'bench@example.com')"))
        await connection.execute(text(site_row), {"count": DEVICES})
        await connection.execute(text("insert into device (site_id) select id from site order by id"))
        return await create_token(
            connection, tenant_id="bench", label="bench", scope="telemetry", now=SystemClock().now()
        )


def _rows(points: int) -> Iterator[Row]:
    """Readings of all devices in turn, five seconds apart, and one in a hundred said twice."""
    first_at = SystemClock().now().replace(microsecond=0) - timedelta(hours=1)
    again_every = round(1 / DUPLICATES)
    said = 0
    while said < points:
        step, device = divmod(said, DEVICES)
        row = (device + 1, first_at + step * timedelta(seconds=5), 2.5 + device / 1000, -1.25, 0.5 + step / 10_000)
        yield row
        said += 1
        if said % again_every == 0 and said < points:
            points -= 1
            yield row


def _body(rows: list[Row]) -> bytes:
    names = ("device_id", "measured_at", "battery_kw", "grid_kw", "soc")
    readings = [dict(zip(names, (row[0], row[1].isoformat(), *row[2:]), strict=True)) for row in rows]
    return json.dumps({"readings": readings}).encode()


@contextmanager
def _processes(urls: ServerUrls) -> Iterator[str]:
    """The API and one consumer, each in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.bench_ingest", urls.database_url, urls.redis_url]
    started = [subprocess.Popen([*command, "serve", str(port)]), subprocess.Popen([*command, "consume"])]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=15)


def _serve(database_url: str, redis_url: str, port: int) -> None:
    import uvicorn

    from tests.builders_telemetry import api

    store = Store(database_url, redis_url)
    app = api(store, SystemClock())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", loop="uvloop", http="httptools")


def _consume(database_url: str, redis_url: str) -> None:
    import uvloop

    uvloop.run(IngestConsumer(Store(database_url, redis_url)).run())


async def _wait_until_up(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url) as client:
        for _ in range(300):
            try:
                await client.get("/api/v1/sites")
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
    raise TimeoutError(f"{base_url} did not come up")


async def _through_http(store: Store, base_url: str, token: str, batches: list[list[Row]]) -> tuple[float, float]:
    """Seconds until all was accepted, and until all was in PostgreSQL."""
    bodies = iter([_body(batch) for batch in batches])
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    begun_s = time.monotonic()

    async def sender(client: httpx.AsyncClient) -> None:
        for body in bodies:
            while (answer := await client.post("/api/v1/telemetry", content=body)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            answer.raise_for_status()

    async with (
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(CONNECTIONS):
            group.create_task(sender(client))
    accepted_s = time.monotonic() - begun_s
    async with asyncio.timeout(DRAIN_TIMEOUT_S):
        while await backlog(store):  # noqa: ASYNC110 - only Valkey knows
            await asyncio.sleep(0.01)
    return accepted_s, time.monotonic() - begun_s


async def _count(store: Store) -> int:
    async with store.begin() as connection:
        return int((await connection.execute(text("select count(*) from reading"))).scalar_one())


def _peer(database_url: str, rows: list[Row], distinct: int) -> float:
    """Seconds for the same rows as one would write it by hand."""
    now = datetime.now(UTC)
    columns = "device_id, measured_at, received_at, battery_kw, grid_kw, soc, islanded, controllable"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate reading")
        connection.execute("create temporary table peer (like reading) on commit delete rows")
        begun_s = time.monotonic()
        for at in range(0, len(rows), PEER_BATCH):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(f"copy peer ({columns}) from stdin") as copy:
                    for row in rows[at : at + PEER_BATCH]:
                        copy.write_row((*row[:2], now, *row[2:], False, True))
                cursor.execute(f"insert into reading ({columns}) select {columns} from peer on conflict do nothing")
        spent_s = time.monotonic() - begun_s
        (stored,) = connection.execute("select count(*) from reading").fetchone() or (0,)
    if stored != distinct:
        raise AssertionError(f"the peer stored {stored} readings, {distinct} expected")
    return spent_s


if __name__ == "__main__":
    match sys.argv[1:]:
        case [database_url, redis_url, "serve", port]:
            _serve(database_url, redis_url, int(port))
        case [database_url, redis_url, "consume"]:
            _consume(database_url, redis_url)
        case _:
            sys.stdout.write(json.dumps(run(), indent=2) + "\n")
