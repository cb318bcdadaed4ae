"""The simulation's clock: one loop at a time, in order, over real sockets."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from vpp.domain.errors import NotReady
from vpp.simulation.clock import ClockServer, SteppedClock

START_AT = datetime(2026, 8, 19, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def _loop(address: str, name: str, rank: int, every: timedelta, seen: list[tuple[str, int]]) -> None:
    clock = SteppedClock(address, name, rank)
    await clock.connect()
    try:
        while True:
            before = clock.now()
            await asyncio.sleep(0.001)  # real time passes, virtual time must not
            assert clock.now() == before
            seen.append((name, (clock.now() - START_AT) // MINUTE))
            await clock.sleep_until(clock.now() + every)
    finally:
        await clock.close()


async def test_loops_run_one_at_a_time_in_order_of_time_then_rank() -> None:
    server = ClockServer(START_AT)
    address = await server.start()
    seen: list[tuple[str, int]] = []
    tasks = [
        asyncio.create_task(_loop(address, "second", 1, 2 * MINUTE, seen)),
        asyncio.create_task(_loop(address, "first", 0, MINUTE, seen)),
    ]
    await server.wait_for({"first", "second"}, 5)
    await server.run_until(START_AT + 4 * MINUTE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == [
        ("first", 0),
        ("second", 0),
        ("first", 1),
        ("first", 2),
        ("second", 2),
        ("first", 3),
    ]
    assert server.now == START_AT + 4 * MINUTE
    await server.stop()


async def test_time_stands_still_until_a_loop_that_died_at_work_is_back() -> None:
    server = ClockServer(START_AT)
    address = await server.start()
    doomed = SteppedClock(address, "worker", 0)
    joining = asyncio.create_task(doomed.connect())
    await server.wait_for({"worker"}, 5)
    running = asyncio.create_task(server.run_until(START_AT + MINUTE))
    await joining
    await doomed.close()  # as after kill -9: the socket closes while it holds the turn
    await asyncio.sleep(0.05)
    assert not running.done()
    heir = SteppedClock(address, "worker", 0)
    await heir.connect()
    assert heir.now() == START_AT
    sleeping = asyncio.create_task(heir.sleep_until(START_AT + 5 * MINUTE))
    await asyncio.wait_for(running, 5)
    sleeping.cancel()
    await heir.close()
    await server.stop()


async def test_the_conductor_knows_who_is_at_work_and_who_is_away() -> None:
    server = ClockServer(START_AT)
    address = await server.start()
    turns: list[tuple[str, str | None]] = []
    server.on_turn = lambda name, _: turns.append((name, server.at_work))
    worker = SteppedClock(address, "worker", 0)
    joining = asyncio.create_task(worker.connect())
    await server.wait_for({"worker"}, 5)
    running = asyncio.create_task(server.run_until(START_AT + MINUTE))
    await joining
    assert (turns, server.away) == ([("worker", "worker")], frozenset())
    await worker.close()
    await asyncio.sleep(0.05)
    assert server.away == {"worker"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop()


async def test_a_loop_that_never_joins_is_named() -> None:
    server = ClockServer(START_AT)
    await server.start()
    with pytest.raises(NotReady, match="gateway"):
        await server.wait_for({"gateway"}, 0.05)
    await server.stop()
