"""`vpp serve --openadr2-port`: the VTN as a process of its own, killed in the middle of an event."""

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from market.openadr2.vtn import PREFIX
from tests.builders_processes import eventually, free_port, vpp_process
from tests.builders_vtn2 import add_ven, an_event, change, raw_ven, running_vtn, tell
from vpp.bootstrap.vtn2 import watch_parent
from vpp.clock import SystemClock
from vpp.peering import event_answers
from vpp.store.engine import Store

STARTS_WITHIN_S = 40.0


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_vtn_whose_parent_has_gone_stops() -> None:
    async with asyncio.timeout(5):
        await watch_parent(os.getpid())


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: killed in the middle of an event, nothing is lost")
async def test_a_vtn_killed_mid_event_is_started_again_and_nothing_is_lost(store: Store, tmp_path: Path) -> None:
    clock, port = SystemClock(), free_port()
    url = f"http://127.0.0.1:{port}{PREFIX}"
    await add_ven(store, clock, "a")
    event = await tell(store, clock, an_event("e1", clock.now() - timedelta(minutes=10)))
    settings = {
        "database_url": store.database_url, "redis_url": store.redis_url, "tenant": "t1", "var_dir": tmp_path,
        "openadr2_vtn_connections": 10**9,
    }  # fmt: skip

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(timeout=5) as http:
                return (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def is_silent() -> bool:
        return not await answers()

    arguments = ("serve", "--port", str(free_port()), "--openadr2-port", str(port))
    with vpp_process(*arguments, log=tmp_path / "serve.log", **settings) as served:
        assert await eventually(answers, STARTS_WITHIN_S), (tmp_path / "log" / "vtn.log").read_text()
        assert "limit of open files is too low" in (tmp_path / "log" / "vtn.log").read_text()
        async with raw_ven(url, "a") as ven:
            assert await ven.told() == [("e1", 0, "active")]
            assert (await ven.answer("e1", opt_in=False)).code == 200
            event = await change(store, clock, event, comment="more")
            (vtn,) = children_of(served.pid)
            os.kill(vtn, signal.SIGKILL)
            assert await eventually(is_silent, 5)

            async def is_back() -> bool:
                return children_of(served.pid) not in ([], [vtn])

            assert await eventually(is_back, 5)
            async with running_vtn(store, clock) as other:  # what it comes back with is in the database
                ven.url = other.url
                assert await ven.told() == [("e1", 1, "active")]
                assert (await ven.answer("e1", 1, opt_in=False)).code == 200
                assert await ven.told() == []
        (vtn,) = children_of(served.pid)
        served.send_signal(signal.SIGTERM)
        served.wait(20)
        assert not is_alive(vtn)
    async with store.begin() as connection:
        (answer,) = await event_answers(connection, "e1", tenant_id="t1")
    assert (answer.answered_modification, answer.opt_in) == (1, False)
