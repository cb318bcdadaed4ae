"""Picks up what a crash let fall: overdue commitments, stalled jobs, sites nobody handed back."""

import asyncio
from datetime import datetime, timedelta

import structlog
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from psycopg.errors import RaiseException
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import due, next_due_at
from vpp.dispatch import Tools, expired_leases, hand_back
from vpp.lifecycle.queue import pending, waiting_for, wake
from vpp.store import outlast

log = structlog.get_logger()

LEADER_KEY = 7_201_604_812
"""Advisory lock: of many workers one reconciles."""
ROUND = timedelta(seconds=10)
STEPPED_ROUND = timedelta(minutes=15)
DRAIN_POLL_S = 0.02


async def run_reconciler(tools: Tools, app: App, *, stalled_after_s: float) -> None:
    """Reconcile for ever.

    Under real time this is a safety net that looks every few seconds. Under a stepped clock it is
    also what wakes each step, and it lets time go on only when no job is left to run.
    """
    while True:
        await tools.clock.sleep_until(await outlast("reconciler", lambda: _turn(tools, app, stalled_after_s)))


async def _turn(tools: Tools, app: App, stalled_after_s: float) -> datetime:
    """Reconcile once and return when to do so again."""
    now = tools.clock.now()
    await reconcile(tools, app, stalled_after_s=stalled_after_s)
    if tools.clock.wall_time(now) is not None:
        return now + ROUND
    await _drained(tools, app, stalled_after_s)
    async with tools.store.begin() as connection:
        next_at = await next_due_at(connection)
    until = now + STEPPED_ROUND
    return until if next_at is None else max(now, min(next_at, until))


async def reconcile(tools: Tools, app: App, *, stalled_after_s: float) -> None:
    """One round. Harmless to run twice, and by two at once."""
    await _take_over_stalled(app, stalled_after_s)
    async with tools.store.begin() as connection:
        if not await _leads(connection):
            return
        for commitment in await due(connection, tools.clock.now()):
            if not await waiting_for(connection, commitment.id):
                await wake(connection, commitment, tools.clock)
        # A commitment with a job at hand looks after its own sites.
        lapsed = {
            commitment_id: site_ids
            for commitment_id, site_ids in (await expired_leases(connection, tools.clock.now())).items()
            if not await waiting_for(connection, commitment_id)
        }
    for commitment_id, site_ids in lapsed.items():
        outcome = await hand_back(tools, commitment_id, only=site_ids)
        log.warning(
            "handed back sites past their lease",
            commitment=str(commitment_id),
            owed=outcome.owed,
            verified=len(outcome.verified),
        )


async def _take_over_stalled(app: App, stalled_after_s: float) -> None:
    """Put jobs of workers that died back on the queue."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=stalled_after_s):
        log.warning("taking over a stalled job", job=job.id, lock=job.lock)
        try:
            await app.job_manager.retry_job(job)
        except ConnectorException as error:
            # Another reconciler was faster, or the worker was only slow and has ended the job.
            if not isinstance(error.__cause__, RaiseException):
                raise


async def _drained(tools: Tools, app: App, stalled_after_s: float) -> None:
    """Return when no job is running or could run; take over those of workers that died meanwhile."""
    polls = 0
    while True:
        async with tools.store.begin() as connection:
            if await pending(connection) == 0:
                return
        polls += 1
        if polls % 100 == 0:
            await _take_over_stalled(app, stalled_after_s)
        await asyncio.sleep(DRAIN_POLL_S)


async def _leads(connection: AsyncConnection) -> bool:
    return bool((await connection.execute(text(f"SELECT pg_try_advisory_xact_lock({LEADER_KEY})"))).scalar_one())
