"""Reads every device on a schedule: often while a commitment is in force, seldom otherwise."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select

from vpp.commitments import in_force
from vpp.dispatch import Tools
from vpp.domain.site import Site
from vpp.domain.time import floor_to
from vpp.enrolment import load_sites
from vpp.store.tables.accounts import tenant
from vpp.telemetry import collect

log = structlog.get_logger()


async def run_collector(tools: Tools, *, read_interval: timedelta, idle_read_interval: timedelta) -> None:
    """Read all sites, sleep to the next round, for ever."""
    while True:
        started_at = tools.clock.now()
        sites, busy = await _round(tools, started_at, idle_read_interval)
        outcome = await collect(tools.store, tools.adapters, sites, clock=tools.clock)
        log.info("devices read", sites=len(sites), failed=len(outcome.failures))
        step = read_interval if busy else idle_read_interval
        await tools.clock.sleep_until(floor_to(started_at, step) + step)


async def _round(tools: Tools, at: datetime, ahead: timedelta) -> tuple[Sequence[Site], bool]:
    """All sites of all tenants, and whether an event is on or near."""
    async with tools.store.begin() as connection:
        tenants = (await connection.execute(select(tenant.c.id).order_by(tenant.c.id))).scalars().all()
        sites = [site for name in tenants for site in await load_sites(connection, tenant_id=name)]
        busy = bool(await in_force(connection, at, until=at + ahead))
    return sites, busy
