"""The simulated utility plays its script to our VEN, in virtual time, whoever restarts on the way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.builders_gateway import CONTEXT, add_tenant, running_ven
from tests.clock import NOON, FixedClock
from vpp.simulation.clock import ClockServer, SteppedClock
from vpp.simulation.utility import PREFIX, SimulatedUtility
from vpp.simulation.utility_script import Block, Change, ScriptedEvent, UtilityScript
from vpp.store.engine import Store

MINUTE = timedelta(minutes=1)
START_AT = NOON + 30 * MINUTE


def _script(*changes: Change, **fields: Any) -> UtilityScript:
    event = ScriptedEvent(
        event_id="GCE-1",
        market_context=CONTEXT,
        announce_at=NOON + 10 * MINUTE,
        start_at=START_AT,
        blocks=(Block(minutes=10, value=400.0), Block(minutes=10, value=300.0)),
        changes=changes,
        **fields,
    )
    return UtilityScript(events=(event,), poll_s=300, report_s=300)


MORE = Change(at=START_AT + 5 * MINUTE, blocks=(Block(minutes=10, value=400.0), Block(minutes=10, value=450.0)))


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@contextlib.asynccontextmanager
async def _playing(clock: FixedClock, script: UtilityScript) -> AsyncIterator[tuple[SimulatedUtility, str]]:
    utility = SimulatedUtility(clock, UtilityScript.model_validate_json(script.model_dump_json()))
    url = await utility.start()
    running = asyncio.create_task(utility.run())
    try:
        yield utility, url
    finally:
        running.cancel()
        await utility.stop()


async def _move(clock: FixedClock, by: timedelta) -> None:
    """Let the utility wake at the new instant before anyone asks it."""
    clock.advance(by)
    for _ in range(3):
        await asyncio.sleep(0)


def _acks(utility: SimulatedUtility) -> dict[str, str]:
    event: dict[str, Any] = utility.state()["events"][0]
    return {number: ack["opt"] for number, ack in event["acks"].items()}


async def test_announced_modified_and_reported(fleet_store: Store, clock: FixedClock) -> None:
    async with _playing(clock, _script(MORE)) as (utility, url), running_ven(fleet_store, clock, url) as ven:
        await ven.step()
        assert _acks(utility) == {}
        await _move(clock, 10 * MINUTE)
        await ven.step()
        assert _acks(utility) == {"0": "optIn"}
        for _ in range(5):
            await _move(clock, 5 * MINUTE)
            await ven.step()
        assert _acks(utility) == {"0": "optIn", "1": "optIn"}
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            state = (await http.get(url.removesuffix(PREFIX) + "/state")).json()
        assert state["events"][0]["status"] == "active"
        assert state["reports"][0]["start_at"] == START_AT.isoformat()


async def test_an_event_is_told_until_it_is_answered_and_a_cancelled_one_is_no_longer_told(
    fleet_store: Store, clock: FixedClock
) -> None:
    async with _playing(clock, _script(Change(at=NOON + 20 * MINUTE))) as (utility, url):
        await _move(clock, 10 * MINUTE)
        _, told = utility._distribution()
        assert [e["event_descriptor"]["modification_number"] for e in told["events"]] == [0]
        async with running_ven(fleet_store, clock, url) as ven:
            await ven.step()
        await _move(clock, 10 * MINUTE)
        async with running_ven(fleet_store, clock, url) as again:
            await again.step()
        assert _acks(utility) == {"0": "optIn", "1": "optIn"}
        assert utility._distribution()[1]["events"] == []


async def test_a_utility_that_restarted_gets_us_back(
    fleet_store: Store, clock: FixedClock, unused_tcp_port: int
) -> None:
    script = _script()
    url = f"http://127.0.0.1:{unused_tcp_port}{PREFIX}"
    async with running_ven(fleet_store, clock, url) as ven:
        for _ in range(2):
            utility = SimulatedUtility(clock, script)
            await utility.start(port=unused_tcp_port)
            for _ in range(3):
                await ven.step()
            assert utility.state()["registered"] == ["VEN-fleet"]
            await utility.stop()


async def test_in_stepped_time_the_script_and_the_ven_take_turns(fleet_store: Store) -> None:
    conductor = ClockServer(NOON)
    address = await conductor.start()
    utility_clock, ven_clock = SteppedClock(address, "utility", 1), SteppedClock(address, "gateway", 3)
    utility = SimulatedUtility(utility_clock, _script(MORE))

    async def play() -> None:
        await utility_clock.connect()
        await utility.run()

    url = await utility.start()
    async with running_ven(fleet_store, ven_clock, url) as ven:

        async def ask() -> None:
            await ven_clock.connect()
            await ven.run()

        tasks = [asyncio.create_task(play()), asyncio.create_task(ask())]
        await conductor.wait_for({"utility", "gateway"}, 5)
        await conductor.run_until(START_AT + 30 * MINUTE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(utility_clock.close(), ven_clock.close())
    await conductor.stop()
    await utility.stop()
    event = utility.state()["events"][0]
    assert event["status"] == "completed"
    assert [ack["opt"] for ack in event["acks"].values()] == ["optIn", "optIn"]
