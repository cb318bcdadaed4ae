"""Room bootstrap: the worker's process (`vpp work`)."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from vpp.bootstrap.frame import clock_for, open_store, until_stopped, watched_loops
from vpp.bootstrap.notify import tell
from vpp.bootstrap.wiring import programs, tools_for
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.lifecycle import job_app, run_collector, run_reconciler, run_worker
from vpp.observability import Pulse, WatchedClock
from vpp.store.engine import Store
from vpp.telemetry import IngestConsumer


async def work(settings: Settings) -> None:
    """Read devices, store what is posted, drive commitments and tell subscribers until told to stop."""
    with watched_loops(settings) as pulse:
        async with open_store(settings) as store:
            loops = [_collect(settings, store, pulse), _drive(settings, store, pulse)]
            if settings.clock_address is None:  # in a simulation the collector drains, in its turn
                loops.append(IngestConsumer(store).run(turned=lambda: pulse.beat("ingest")))
                loops.append(tell(settings, store, WatchedClock(SystemClock(), pulse, "notify")))
            await until_stopped(*loops)


async def _collect(settings: Settings, store: Store, pulse: Pulse) -> None:
    async with clock_for(settings, "collector") as clock, tools_for(settings, store, clock) as tools:
        await run_collector(
            replace(tools, clock=WatchedClock(clock, pulse, "collector")),
            read_interval=timedelta(seconds=settings.read_interval_s),
            idle_read_interval=timedelta(seconds=settings.idle_read_interval_s),
            # One worker reads in a simulation, and the whole fleet at once.
            shards=settings.collector_shards if settings.clock_address is None else 1,
        )


async def _drive(settings: Settings, store: Store, pulse: Pulse) -> None:
    stalled_after_s = 3 * settings.heartbeat_s
    async with clock_for(settings, "lifecycle") as clock, tools_for(settings, store, clock) as tools:
        app = job_app(tools, programs())
        watched = replace(tools, clock=WatchedClock(clock, pulse, "reconciler"))
        async with app.open_async(), asyncio.TaskGroup() as group:
            group.create_task(run_worker(app, heartbeat_s=settings.heartbeat_s, stalled_after_s=stalled_after_s))
            group.create_task(run_reconciler(watched, app, stalled_after_s=stalled_after_s))
