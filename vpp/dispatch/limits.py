"""Which capacity limits hold for a plan, and what the rest of the fleet sends to the grid meanwhile."""

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import GridLimits
from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.fleet_signal import Direction
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.peering import limits_between
from vpp.store.tables.dispatch import command as commands
from vpp.telemetry import read_snapshot


async def read_limits(
    connection: AsyncConnection,
    commitment: Commitment,
    sites: Sequence[Site],
    steps: Sequence[Interval],
    *,
    at: datetime,
    max_age_s: float,
    alone: bool = False,
) -> GridLimits:
    """Return the limits that hold at any time of the steps.

    Args:
        sites: those of the plan.
        alone: wait until no other plan of this tenant is being made under a fleet limit, and keep others
            waiting until the transaction ends: two plans made at once could exceed together what each keeps to.
    """
    if not steps:
        return GridLimits()
    found = await limits_between(
        connection, tenant_id=commitment.tenant_id, start_at=steps[0].start_at, end_at=steps[-1].end_at
    )
    of_plan = {site.id for site in sites}
    limits = tuple(limit for limit in found if limit.site_id is None or limit.site_id in of_plan)
    if all(limit.site_id is not None for limit in limits):
        return GridLimits(limits)
    if alone:
        await connection.execute(select(func.pg_advisory_xact_lock(_lock_key(commitment.tenant_id))))
    others = [
        site for site in await load_sites(connection, tenant_id=commitment.tenant_id) if site.id not in of_plan
    ]  # fmt: skip
    return GridLimits(limits, await _sent_kw(connection, others, at=at, max_age_s=max_age_s))


def next_tighter_at(limits: GridLimits, site_id: str, now: Interval) -> datetime | None:
    """When, after an interval, the first limit begins that allows a site less than those that hold in it."""
    counted = [limit for limit in limits.limits if limit.site_id in (None, site_id)]
    holding: dict[tuple[Direction, str | None], float] = {}
    for limit in counted:
        if limit.overlaps(now.start_at, now.end_at):
            key = (limit.direction, limit.site_id)
            holding[key] = min(holding.get(key, math.inf), limit.limit_kw)
    tighter = [
        limit.start_at
        for limit in counted
        if limit.start_at >= now.end_at and limit.limit_kw < holding.get((limit.direction, limit.site_id), math.inf)
    ]
    return min(tighter, default=None)


async def _sent_kw(connection: AsyncConnection, sites: Sequence[Site], *, at: datetime, max_age_s: float) -> float:
    """What sites send to the grid together [kW]: as measured, or as they are commanded where that is more.

    A site nobody can read counts for nothing: the limit is kept for what we see.
    """
    if not sites:
        return 0.0
    state = await read_snapshot(connection, sites, at=at, max_age_s=max_age_s)
    standing = await connection.execute(
        select(commands.c.site_id, commands.c.power_kw, commands.c.release)
        .where(commands.c.site_id.in_([site.id for site in sites]))
        .where(commands.c.not_before <= at, commands.c.expires_at > at)
        .where(commands.c.state != ReceiptState.FAILED.value)
        .ext(distinct_on(commands.c.site_id))
        .order_by(commands.c.site_id, commands.c.cycle_start_at.desc())
    )
    commanded = {row.site_id: row.power_kw for row in standing if not row.release}
    battery_kw = np.array([commanded.get(site_id, -np.inf) for site_id in state.site_ids])
    sent = np.maximum(state.battery_kw, battery_kw) - state.net_load_kw
    return float(np.where(state.available, sent, 0.0).sum())


def _lock_key(tenant_id: str) -> int:
    return int.from_bytes(hashlib.sha256(b"fleet limit" + tenant_id.encode()).digest()[:8], "big", signed=True)
