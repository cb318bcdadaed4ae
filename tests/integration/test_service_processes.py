"""`vpp work`, `vpp serve` and `vpp gateway` as processes: what they do unasked, and what they live through."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.builders import a_commitment, some_targets
from tests.builders_processes import eventually, free_port, vpp_process
from tests.builders_settlement import terms
from tests.builders_telemetry import a_reading, a_token, api_client, count_readings, enrolled_sites
from tests.clock import FixedClock
from vpp.clock import SystemClock
from vpp.commitments import load
from vpp.commitments.records import create
from vpp.config import Settings
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.enrolment import set_program_terms
from vpp.lifecycle.queue import wake
from vpp.store.embedded import ensure_servers, running_servers, stop_servers
from vpp.store.engine import Store
from vpp.store.migrate import migrate
from vpp.telemetry import publish

STARTS_WITHIN_S = 30.0
BACK_WITHIN_S = 30.0
AWAY_S = 4.0


def _answers(url: str, status: int = 200) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                return (await client.get(url)).status_code == status
        except httpx.TransportError:
            return False

    return ask


async def test_a_posted_reading_is_in_the_database_within_two_seconds(store: Store, tmp_path: Path) -> None:
    (site,) = await enrolled_sites(store, 1)
    token, now, port = await a_token(store, "telemetry"), SystemClock().now(), free_port()
    settings = {"database_url": store.database_url, "redis_url": store.redis_url, "metrics_port": port}
    with vpp_process("work", log=tmp_path / "work.log", **settings) as worker:
        assert await eventually(_answers(f"http://127.0.0.1:{port}/healthz"), STARTS_WITHIN_S)
        for number in range(3):
            entry = {
                "device_id": site.device_id,
                "measured_at": (now + timedelta(seconds=number)).isoformat(),
                "soc": 0.5,
            }
            async with api_client(store, FixedClock(now)) as client:
                answer = await client.post("/api/v1/telemetry", json={"readings": [entry]}, headers=token)
            assert answer.status_code == 202, answer.text

            async def is_stored(expected: int = number + 1) -> bool:
                return await count_readings(store) == expected

            # The first one may meet a worker that is still starting.
            assert await eventually(is_stored, STARTS_WITHIN_S if number == 0 else 2.0)
        async with httpx.AsyncClient() as client:
            assert "vpp_readings_stored_total 3.0" in (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0


@pytest.fixture
def var_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vpp-proc-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _kill_postgres(var_dir: Path) -> None:
    servers = json.loads((var_dir / "servers.json").read_text())["servers"]
    os.kill(next(int(each["pid"]) for each in servers if each["name"] == "postgres"), signal.SIGKILL)


async def _due_event(store: Store, external_id: str) -> Commitment:
    """An event that is over and was never begun: its first step is due."""
    start_at = SystemClock().now().replace(microsecond=0) - timedelta(hours=3)
    event = a_commitment(external_id=external_id, targets=some_targets(1.0, start_at=start_at), next_due_at=start_at)
    async with store.begin() as connection:
        await create(connection, event, at=start_at)
    return event


def _begun(store: Store, event: Commitment) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        async with store.begin() as connection:
            return (await load(connection, event.id)).state is not CommitmentState.ACCEPTED

    return ask


async def test_worker_portal_and_gateway_live_through_kill_9_of_the_database(var_dir: Path) -> None:
    embedded = Settings(var_dir=var_dir, database_url=None, redis_url=None)
    async with AsyncExitStack() as stack:
        urls = stack.enter_context(running_servers(embedded))
        await asyncio.to_thread(migrate, urls.database_url)
        store = Store(urls.database_url, urls.redis_url)
        stack.push_async_callback(store.close)
        (site,) = await enrolled_sites(store, 1)
        async with store.begin() as connection:
            await set_program_terms(connection, terms("elrp"), tenant_id=site.tenant_id)
        ports = {name: free_port() for name in ("work", "serve", "gateway")}
        addresses = {"database_url": urls.database_url, "redis_url": urls.redis_url}
        vtn_url = f"http://127.0.0.1:{free_port()}/OpenADR2/Simple/2.0b"
        started = {
            name: stack.enter_context(
                vpp_process(
                    name,
                    *(["--port", str(port)] if name == "serve" else []),
                    log=var_dir / f"{name}.log",
                    metrics_port=port,
                    openadr2_vtn_url=vtn_url,
                    heartbeat_s=1,
                    read_interval_s=1,
                    **addresses,
                )
            )
            for name, port in ports.items()
        }
        for port in ports.values():
            assert await eventually(_answers(f"http://127.0.0.1:{port}/healthz"), STARTS_WITHIN_S)
        event = await _due_event(store, "before")
        async with store.begin() as connection:
            await wake(connection, event, SystemClock())
        assert await eventually(_begun(store, event), STARTS_WITHIN_S)

        _kill_postgres(var_dir)
        assert await eventually(_answers(f"http://127.0.0.1:{ports['serve']}/readyz", 503), 10.0)
        await publish(store, [a_reading(site.device_id, SystemClock().now())])
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(ensure_servers, embedded)

        assert await eventually(_answers(f"http://127.0.0.1:{ports['serve']}/readyz"), BACK_WITHIN_S)

        async def is_stored() -> bool:
            return await count_readings(store) >= 1

        assert await eventually(is_stored, BACK_WITHIN_S), "the ingest did not come back"
        assert await eventually(_begun(store, await _due_event(store, "after")), BACK_WITHIN_S), "no step is taken"
        for name, port in ports.items():
            assert started[name].poll() is None, f"{name} ended: {(var_dir / f'{name}.log').read_text()[-2000:]}"
            assert await _answers(f"http://127.0.0.1:{port}/healthz")()


async def test_vpp_up_starts_a_killed_database_again_and_goes_on(var_dir: Path) -> None:
    port, metrics = free_port(), free_port()
    with vpp_process("up", "--port", str(port), log=var_dir / "up.log", var_dir=var_dir, metrics_port=metrics) as up:
        try:
            assert await eventually(_answers(f"http://127.0.0.1:{port}/readyz"), STARTS_WITHIN_S)
            assert await eventually(_answers(f"http://127.0.0.1:{metrics}/healthz"), STARTS_WITHIN_S)
            _kill_postgres(var_dir)
            assert await eventually(_answers(f"http://127.0.0.1:{port}/readyz", 503), 10.0)
            assert await eventually(_answers(f"http://127.0.0.1:{port}/readyz"), BACK_WITHIN_S)
            assert "starting it again" not in (var_dir / "up.log").read_text(), "a child ended"
            up.send_signal(signal.SIGTERM)
            assert up.wait(30) == 0
        finally:
            stop_servers(var_dir)
