"""Our OpenADR 2.0b VTN as it is deployed: `vpp vtn` on a real PostgreSQL and Valkey, with VENs that are registered.

VENs stand in SQL as registering them one by one leaves them; the event is published as the operator's page does it.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.bench.openadr.messages import FINGERPRINT_HEADER, fingerprints, ven_id
from tests.bench.openadr.processes import parent_of
from tests.builders_processes import free_port
from vpp.bootstrap.translator import Translator
from vpp.clock import SystemClock
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.peering import publish
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

INTERVALS = 96
QUEUED = 10
"""Messages that wait for each VEN when memory is looked at."""
_NO_LIMIT = {f"VPP_OPENADR2_VTN_{name}_PER_S": "0" for name in ("VEN", "ADDRESS", "STRANGER")}
_PEERS = """
    insert into peer (id, tenant_id, protocol, role, name, party_id, fingerprint, groups, granted_targets, config,
        created_at)
    select %(tenant)s || '-' || v, %(tenant)s, 'openadr2', 'ven', v, v, f, array[g], '{}', %(config)s, now()
    from unnest(%(vens)s::text[], %(fingerprints)s::text[], %(groups)s::text[]) as new (v, f, g)
"""
_REGISTRATIONS = """
    insert into vtn2_registration (peer_id, tenant_id, ven_id, registration_id, profile, transport, report_only,
        xml_signature, http_pull, registered_at)
    select id, tenant_id, party_id, id, '2.0b', 'simpleHttp', false, %(signs)s, true, now()
    from peer where tenant_id = %(tenant)s
"""
_QUEUE = """
    insert into vtn2_outbox (peer_id, kind, request_id, message, created_at, sent_count)
    select id, 'RequestReregistration', id || n, jsonb_build_object('ven_id', party_id), now(), 0
    from peer, generate_series(1, %(queued)s) n where tenant_id = %(tenant)s
"""


@dataclass(frozen=True, slots=True)
class OurVtn:
    """A running VTN, and the servers it works with."""

    pid: int
    port: int
    tenant: str
    urls: ServerUrls


def add_vens(urls: ServerUrls, tenant: str, vens: int, folder: Path | None, *, group: int = 10_000) -> None:
    """Register VENs of a tenant of their own, so many in each group; those with certificates sign."""
    names = [ven_id(each) for each in range(vens)]
    values = {
        "tenant": tenant,
        "vens": names,
        "groups": [group_of(each, group) for each in range(vens)],
        "fingerprints": [None] * vens if folder is None else fingerprints(folder),
        "config": json.dumps({"sign": folder is not None}),
        "signs": folder is not None,
    }
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("insert into tenant values (%(tenant)s, %(tenant)s)", values)
        connection.execute(_PEERS, values)
        connection.execute(_REGISTRATIONS, values)
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute("analyze peer, vtn2_registration")


def group_of(number: int, group: int) -> str:
    """The group of a VEN, where there are so many in each."""
    return f"group{number // group}"


def queue_messages(urls: ServerUrls, tenant: str) -> None:
    """Leave messages waiting for every VEN of a tenant."""
    with psycopg.connect(urls.database_url) as connection:
        connection.execute(_QUEUE, {"tenant": tenant, "queued": QUEUED})


@contextmanager
def our_vtn(urls: ServerUrls, var_dir: Path, tenant: str, folder: Path | None) -> Iterator[OurVtn]:
    """`vpp vtn` for one tenant. The limits on requests are off: they would stop the load client, as they should."""
    port = free_port()
    given = {
        "VPP_DATABASE_URL": urls.database_url,
        "VPP_REDIS_URL": urls.redis_url,
        "VPP_VAR_DIR": str(var_dir),
        "VPP_TENANT": tenant,
        **_NO_LIMIT,
        **dict.fromkeys(("VPP_OPENADR2_VTN_CONNECTIONS", "VPP_OPENADR2_VTN_CONNECTIONS_PER_ADDRESS"), "20000"),
    }
    if folder is not None:
        given |= {
            "VPP_OPENADR2_VTN_CERT": str(folder / "vtn.pem"),
            "VPP_OPENADR2_VTN_KEY": str(folder / "key.pem"),
            "VPP_OPENADR2_VTN_PROXIES": '["127.0.0.1"]',
            "VPP_OPENADR2_VTN_PROXY_HEADER": FINGERPRINT_HEADER,
            "VPP_OPENADR2_VTN_REQUIRE_SIGNATURE": "true",
        }
    log = (var_dir / f"{tenant}.log").open("wb")
    command = [sys.executable, "-m", "vpp", "vtn", "--port", str(port)]
    if os.environ.get("VPP_BENCH_PROFILE"):
        command[1:3] = os.environ["VPP_BENCH_PROFILE"].format(tenant=tenant).split()
    process = subprocess.Popen(command, env={**os.environ, **given}, stdout=log, stderr=log)
    try:
        _wait_until_up(port, process, var_dir / f"{tenant}.log")
        yield OurVtn(process.pid, port, tenant, urls)
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"vpp vtn did not come up: {log.read_text()[-2000:]}")


def server_pids(urls: ServerUrls) -> list[int]:
    """PostgreSQL's postmaster and Valkey."""
    with psycopg.connect(urls.database_url) as connection:
        (backend,) = connection.execute("select pg_backend_pid()").fetchone() or (0,)
        postmaster = parent_of(backend)
    with redis.Redis.from_url(urls.redis_url, socket_timeout=5) as valkey:
        info: Any = valkey.info("server")
    return [postmaster, int(info["process_id"])]


def an_event(event_id: str, group: str) -> GridEvent:
    """LOAD_DISPATCH over a day in quarter hours, for every VEN of a group."""
    now = SystemClock().now()
    start_at, quarter = now + timedelta(days=1), timedelta(minutes=15)
    series = Series(
        series_id="s1",
        type=SeriesType.DISPATCH_SETPOINT,
        name="LOAD_DISPATCH/setpoint",
        unit="KW",
        intervals=tuple(
            SeriesInterval(start_at=start_at + quarter * each, duration=quarter, values=(100.0 + each,), uid=str(each))
            for each in range(INTERVALS)
        ),
    )
    return GridEvent(
        event_id=event_id,
        modification_number=0,
        program="http://utility.example/day-ahead",
        start_at=start_at,
        duration=INTERVALS * quarter,
        series=(series,),
        targets=(Target(TargetKind.GROUP, group),),
        created_at=now,
    )


async def publish_event(vtn: OurVtn, event_id: str, group: str) -> tuple[float, float]:
    """Publish one event to a group of VENs, in a process that has published before, as the portal's has.

    Returns when publishing was begun, by the monotonic clock, and how long it took [s].
    """
    store = Store(vtn.urls.database_url, vtn.urls.redis_url)
    try:
        async with store.engine.connect() as connection:
            await _publish(connection, vtn, an_event("tried before", group))
            await connection.rollback()
        started_s = time.monotonic()
        async with store.begin() as connection:
            await _publish(connection, vtn, an_event(event_id, group))
        return started_s, time.monotonic() - started_s
    finally:
        await store.close()


async def _publish(connection: AsyncConnection, vtn: OurVtn, event: GridEvent) -> None:
    await publish(connection, event, tenant_id=vtn.tenant, at=SystemClock().now(), translator=Translator())


def answers_counted(vtn: OurVtn, event_id: str) -> int:
    """VENs whose acceptance is committed."""
    with psycopg.connect(vtn.urls.database_url) as connection:
        query = "select count(*) from vtn2_delivery where event_id = %s and opt_in and answered_modification = 0"
        (counted,) = connection.execute(query, (event_id,)).fetchone() or (0,)
    return int(counted)
