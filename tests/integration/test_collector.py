"""Any number of workers read the fleet together: each device once a round, often only when it is needed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from tests.builders import a_commitment, some_targets
from tests.builders_processes import eventually
from tests.builders_telemetry import a_reading, add_tenant, enrolled_sites
from tests.clock import NOON, FixedClock
from vpp.commitments.records import create
from vpp.dispatch import Tools
from vpp.domain.device import Capabilities, Command, ControlKind, Reading, Receipt
from vpp.domain.site import Site
from vpp.lifecycle import run_collector
from vpp.lifecycle.collector import LOCK_CLASS
from vpp.store.engine import Store

OFTEN, SELDOM = timedelta(minutes=5), timedelta(minutes=30)
SHARDS = 4


class Readers:
    """`ports.DeviceAdapter` that counts who was read; each read takes a moment."""

    name, control = "sunspec", ControlKind.SETPOINT_KW

    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock
        self.reads: Counter[str] = Counter()

    async def read(self, site: Site) -> Reading:
        await asyncio.sleep(0.05)
        self.reads[site.id] += 1
        return a_reading(site.device_id, self._clock.now())

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def describe(self, site: Site) -> Capabilities:
        raise NotImplementedError

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        raise NotImplementedError

    async def apply(self, site: Site, command: Command) -> Receipt:
        raise NotImplementedError

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        raise NotImplementedError


@asynccontextmanager
async def _workers(store: Store, clock: FixedClock, count: int) -> AsyncIterator[list[Readers]]:
    """This many collectors side by side; each sleeps at the start of the block, or waits for another one."""
    readers = [Readers(clock) for _ in range(count)]
    tasks = [
        asyncio.create_task(
            run_collector(
                Tools(store=store, clock=clock, adapters={"sunspec": each}),
                read_interval=OFTEN,
                idle_read_interval=SELDOM,
                shards=SHARDS,
            )
        )
        for each in readers
    ]
    try:
        await _settled(clock, count)
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(clock: FixedClock, count: int) -> None:
    """Return when all collectors sleep."""

    async def all_sleep() -> bool:
        return clock.sleepers == count

    assert await eventually(all_sleep, 20.0)


async def _advance(clock: FixedClock, by: timedelta, count: int) -> None:
    for _ in range(by // OFTEN):
        clock.advance(OFTEN)
        await _settled(clock, count)


def _sum(readers: list[Readers]) -> Counter[str]:
    return sum((each.reads for each in readers), Counter())


async def test_two_workers_share_a_round_and_read_each_device_once(store: Store, clock: FixedClock) -> None:
    sites = await enrolled_sites(store, 24)
    async with _workers(store, clock, 2) as readers:
        assert _sum(readers) == {site.id: 1 for site in sites}
        assert all(each.reads for each in readers)
        await _advance(clock, SELDOM - OFTEN, 2)
        assert _sum(readers).total() == len(sites)
        await _advance(clock, OFTEN, 2)
        assert _sum(readers) == {site.id: 2 for site in sites}


async def test_a_worker_that_starts_does_not_read_again_what_was_just_read(store: Store, clock: FixedClock) -> None:
    sites = await enrolled_sites(store, 5)
    async with _workers(store, clock, 1) as first:
        assert _sum(first).total() == len(sites)
    clock.advance(timedelta(minutes=1))
    async with _workers(store, clock, 1) as second:
        assert _sum(second).total() == 0


async def test_what_a_dead_worker_left_is_read_at_the_next_look(store: Store, clock: FixedClock) -> None:
    sites = await enrolled_sites(store, 8)
    held = {site.id for site in sites if site.device_id % SHARDS == 1}
    async with store.begin() as dying:
        await dying.execute(text(f"select pg_advisory_xact_lock({LOCK_CLASS}, 1)"))
        async with _workers(store, clock, 1) as readers:
            assert _sum(readers).keys() == {site.id for site in sites} - held
            await dying.rollback()
            await _advance(clock, OFTEN, 1)
            assert _sum(readers) == {site.id: 1 for site in sites}


async def test_an_event_told_between_two_rounds_is_read_from_its_begin_to_its_end(
    store: Store, clock: FixedClock
) -> None:
    await enrolled_sites(store, 1)
    start_at, length = NOON + timedelta(minutes=10), timedelta(minutes=5)
    async with _workers(store, clock, 1) as (reader,):
        assert reader.reads.total() == 1
        async with store.begin() as connection:
            event = a_commitment(targets=some_targets(1.0, start_at=start_at, step=length))
            await create(connection, event, at=clock.now())
        read_at = []
        for minute in range(5, 30, 5):
            before = reader.reads.total()
            await _advance(clock, OFTEN, 1)
            if reader.reads.total() > before:
                read_at.append(minute)
    assert read_at == [10, 15]


async def test_the_marks_of_another_simulation_do_not_keep_a_fleet_unread(store: Store, clock: FixedClock) -> None:
    sites = await enrolled_sites(store, 2)
    later = FixedClock(NOON + timedelta(days=30))
    for each in (later, clock):
        async with _workers(store, each, 1) as readers:
            assert _sum(readers).total() == len(sites)


async def test_an_error_that_is_no_outage_ends_the_collector(store: Store, clock: FixedClock) -> None:
    await add_tenant(store)
    async with store.begin() as connection:
        await connection.execute(text("alter table site rename to plot"))
    tools = Tools(store=store, clock=clock, adapters={})
    with pytest.raises(ProgrammingError):
        async with asyncio.timeout(10):
            await run_collector(tools, read_interval=OFTEN, idle_read_interval=SELDOM)
