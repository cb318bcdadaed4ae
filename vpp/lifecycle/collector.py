"""Reads every device on a schedule: often while a commitment is in force, seldom otherwise.

Sites are dealt into shards by their device. Any number of workers share them: a shard is read by whoever
holds its lock, and Valkey remembers for which round it was read last. A worker that dies loses the lock
with its connection, and its shard is still due.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, text

from vpp.commitments import in_force
from vpp.dispatch import Tools
from vpp.domain.site import Site
from vpp.domain.time import floor_to
from vpp.enrolment import load_sites
from vpp.lifecycle.metrics import DEVICE_READS
from vpp.store import outlast
from vpp.store.tables.accounts import tenant
from vpp.telemetry import collect

log = structlog.get_logger()

LOCK_CLASS = 7_201
"""First half of the advisory locks, the shard is the second."""


async def run_collector(
    tools: Tools, *, read_interval: timedelta, idle_read_interval: timedelta, shards: int = 1
) -> None:
    """Read what is due, sleep to the next round, for ever."""
    collector = _Collector(tools, read_interval, idle_read_interval, shards)
    while True:
        await tools.clock.sleep_until(await outlast("collector", collector.turn))


class _Collector:
    def __init__(self, tools: Tools, often: timedelta, seldom: timedelta, shards: int) -> None:
        self._tools, self._often, self._seldom, self._shards = tools, often, seldom, shards
        self._was_busy = False

    async def turn(self) -> datetime:
        """Read the shards that are due and that nobody else reads; return when to look again.

        Looks as often as devices may have to be read, for an event may be told at any time.
        """
        now = self._tools.clock.now()
        look = min(self._often, self._seldom)
        async with self._tools.store.begin() as connection:
            busy = bool(await in_force(connection, now, until=now + look))
        # Once more after the end, for what the last minutes delivered.
        step = self._often if busy or self._was_busy else self._seldom
        due_at, round_at = floor_to(now, step), floor_to(now, look)
        due = [shard for shard in range(self._shards) if await self._is_due(shard, due_at, round_at)]
        if due:
            sites = await self._sites()
            for shard in due:
                some = [site for site in sites if site.device_id % self._shards == shard]
                await self._read(shard, some, due_at, round_at)
        self._was_busy = busy
        return round_at + look

    async def _read(self, shard: int, sites: Sequence[Site], due_at: datetime, round_at: datetime) -> None:
        """Read one shard, unless somebody else does or did."""
        tools = self._tools
        async with tools.store.begin() as connection:
            lock = text(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {shard})")
            if not (await connection.execute(lock)).scalar_one() or not await self._is_due(shard, due_at, round_at):
                return
            tools.clock.now()  # a shard takes its time: show that we live
            outcome = await collect(tools.store, tools.adapters, sites, clock=tools.clock)
            await tools.store.redis.set(self._key(shard), round_at.isoformat())
        DEVICE_READS.labels("read").inc(len(outcome.readings))
        DEVICE_READS.labels("failed").inc(len(outcome.failures))
        log.info("devices read", shard=shard, sites=len(sites), failed=len(outcome.failures))

    async def _is_due(self, shard: int, due_at: datetime, round_at: datetime) -> bool:
        found = await self._tools.store.redis.get(self._key(shard))
        if found is None:
            return True
        read_for = datetime.fromisoformat(found.decode() if isinstance(found, bytes) else found)
        # Far ahead of the present it was another simulation that read.
        return not due_at <= read_for <= round_at + self._seldom

    async def _sites(self) -> list[Site]:
        """All sites of all tenants."""
        async with self._tools.store.begin() as connection:
            tenants = (await connection.execute(select(tenant.c.id).order_by(tenant.c.id))).scalars().all()
            return [site for name in tenants for site in await load_sites(connection, tenant_id=name)]

    def _key(self, shard: int) -> str:
        return f"vpp:collected:{shard}/{self._shards}"
