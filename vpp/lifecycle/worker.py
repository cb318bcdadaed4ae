"""Takes jobs off the queue for ever. Called by `vpp work`."""

import asyncio

import structlog
from procrastinate import App

from vpp.store import outlast

log = structlog.get_logger()

PAUSE_S = 0.5


async def run_worker(app: App, *, heartbeat_s: float, stalled_after_s: float) -> None:
    """Run the queue's worker, and a new one when it ends.

    It ends without an error where its listening connection breaks, and with one where it cannot fetch jobs.
    """
    while True:
        await outlast(
            "queue",
            lambda: app.run_worker_async(
                concurrency=4,
                install_signal_handlers=False,
                update_heartbeat_interval=heartbeat_s,
                stalled_worker_timeout=stalled_after_s,
                delete_jobs="successful",
            ),
        )
        log.warning("the queue's worker ended, beginning a new one")
        await asyncio.sleep(PAUSE_S)
