"""Which sites a commitment may call on now, and what they are doing."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import GridLimits, full_charge_look_back, horizon_steps
from vpp.commitments import overlapping
from vpp.dispatch.limits import read_limits
from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.fleet import FleetState, Floats, Quality
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.forecast import forecast_net_load_kw
from vpp.store.tables.dispatch import command as commands
from vpp.telemetry import hours_since_full_charge, read_snapshot

REST_AFTER_FAILURE = timedelta(minutes=15)
FAILURES_UNTIL_EXCLUDED = 3
FRESH_S = 900.0
"""How old a reading may be that a battery is commanded on [s]."""
DECIMALS = 6
"""Of a forecast power [kW]: far below what any meter tells apart, far above rounding noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """The fleet as a commitment sees it: columns aligned with `sites`.

    `hours_since_full_charge` is NaN for a site of which no full charge is known.
    """

    sites: tuple[Site, ...]
    state: FleetState
    steps: tuple[Interval, ...]
    net_load_kw: Floats
    hours_since_full_charge: Floats
    limits: GridLimits


async def call_fleet(
    connection: AsyncConnection, commitment: Commitment, *, at: datetime, max_age_s: float = FRESH_S,
    alone: bool = False,
) -> Called:  # fmt: skip
    """Read snapshot and forecast of the sites this commitment may call on.

    A site owed to another commitment at the same time is left out, so that no kWh is sold twice.
    A site that just failed rests; one that failed too often stays out of this event. A site whose last
    reading is older than `max_age_s` is not counted on. `alone` as in `read_limits`: for a plan that will be
    carried out.
    """
    sites = await load_sites(connection, tenant_id=commitment.tenant_id, program=commitment.program)
    earlier = {
        other.program
        for other in await overlapping(connection, commitment)
        if (other.window.start_at, str(other.id)) < (commitment.window.start_at, str(commitment.id))
    }
    taken = {
        site.id
        for program in sorted(earlier)
        for site in await load_sites(connection, tenant_id=commitment.tenant_id, program=program)
    }
    sites = tuple(site for site in sites if site.id not in taken)
    state = await read_snapshot(connection, sites, at=at, max_age_s=max_age_s)
    state = without(state, await _resting(connection, commitment, at))
    steps = horizon_steps(sites, commitment.targets, max(at, commitment.window.start_at))
    # The last digit of a sum depends on the plan the database chose, and a vertex may depend on that digit:
    # a worker that was just restarted must split as the one before it would have.
    net_load_kw = np.round(await forecast_net_load_kw(connection, sites, state, steps), DECIMALS)
    full = await hours_since_full_charge(connection, sites, at=at, look_back=full_charge_look_back())
    limits = await read_limits(connection, commitment, sites, steps, at=at, max_age_s=max_age_s, alone=alone)
    return Called(
        sites=sites, state=state, steps=steps, net_load_kw=net_load_kw, hours_since_full_charge=full, limits=limits
    )


def without(state: FleetState, site_ids: Collection[str]) -> FleetState:
    """The same snapshot, in which these sites cannot be counted on."""
    left_out = np.isin(state.site_ids, sorted(site_ids))
    return replace(state, quality=np.where(left_out, Quality.MISSING, state.quality))


async def _resting(connection: AsyncConnection, commitment: Commitment, at: datetime) -> set[str]:
    rows = await connection.execute(
        select(commands.c.site_id, commands.c.cycle_start_at).where(
            commands.c.commitment_id == commitment.id,
            commands.c.state.in_([ReceiptState.FAILED.value, ReceiptState.UNKNOWN.value]),
        )
    )
    failures: dict[str, list[datetime]] = {}
    for row in rows:
        failures.setdefault(row.site_id, []).append(row.cycle_start_at)
    return {
        site_id
        for site_id, times in failures.items()
        if len(times) >= FAILURES_UNTIL_EXCLUDED or max(times) > at - REST_AFTER_FAILURE
    }
