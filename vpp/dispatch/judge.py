"""Did the last commands do anything? Accepted is not applied, and applied is not effective."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.fleet import Quality
from vpp.domain.site import Site
from vpp.enrolment import load_sites
from vpp.store.tables.dispatch import command as commands
from vpp.telemetry import read_snapshot

TOLERANCE_KW = 0.5
TOLERANCE_FRACTION = 0.2
FLOOR_MARGIN = 0.03
TAKES_EFFECT_WITHIN = timedelta(seconds=60)
"""A reading sooner after the answer may still show the ramp."""
LOOK_BACK = timedelta(minutes=15)
"""Setpoints that expired longer ago have been judged, or never can be."""

# The last reading of each command's own time: after it took effect, before it expired or another took its place.
# A site that was handed back since is not doing what it was told, and should not.
_WITH_READING = text("""
    select c.id, c.site_id, c.power_kw, c.state, r.battery_kw, r.soc
      from (select id, site_id, power_kw, state, updated_at, expires_at,
                   lead(cycle_start_at) over (partition by site_id order by cycle_start_at) as next_at
              from command
             where commitment_id = :commitment_id and cycle_start_at < :at and expires_at > :since
               and state <> 'planned' and not release) c
      join device d on d.site_id = c.site_id
      join site s on s.id = c.site_id
      join handback h on h.commitment_id = :commitment_id and h.site_id = c.site_id
     cross join lateral (
           select battery_kw, soc from reading
            where device_id = d.id and measured_at > c.updated_at + :takes_effect and measured_at > :earliest
              and measured_at <= least(:at, c.next_at) and measured_at < c.expires_at
              and battery_kw is not null and soc is not null
            order by measured_at desc limit 1) r
     where (c.state in ('sent', 'acked', 'readback_ok') or c.state = 'effective' and s.adapter = any(:mode_adapters))
       and h.saved_at <= c.updated_at and (h.released_at is null or h.released_at < c.updated_at)
     order by c.site_id, c.id
""")


async def judge_commands(
    connection: AsyncConnection, commitment: Commitment, at: datetime, *, mode_adapters: Collection[str]
) -> None:
    """Mark commands EFFECTIVE, or FAILED where the battery's meter says otherwise.

    A battery near its reserve may well give less than asked; one without a good reading since the
    command is left as it is. A command whose answer was lost with a worker (SENT) is proven by the
    meter or stays unproven: that is not the site's failure. A mode device runs on one order for
    hours, so it is looked at again each time.
    """
    given = {
        "commitment_id": commitment.id,
        "at": at,
        "since": at - LOOK_BACK,
        "earliest": commitment.window.start_at,
        "takes_effect": TAKES_EFFECT_WITHIN,
        "mode_adapters": sorted(mode_adapters),
    }
    rows = (await connection.execute(_WITH_READING, given)).all()
    if not rows:
        return
    judged = sorted({row.site_id for row in rows})
    sites = await load_sites(connection, tenant_id=commitment.tenant_id, site_ids=judged)
    state = await read_snapshot(connection, sites, at=at)
    good = {site.id: site for site, quality in zip(sites, state.quality, strict=True) if quality == Quality.GOOD}
    verdicts = [
        (row.id, verdict, reason)
        for row in rows
        if row.site_id in good
        for verdict, reason in _verdict(row, good[row.site_id], good[row.site_id].adapter in mode_adapters)
    ]
    for verdict, reason in sorted({(verdict, reason) for _, verdict, reason in verdicts}):
        ids = [command_id for command_id, *said in verdicts if tuple(said) == (verdict, reason)]
        await connection.execute(
            update(commands).where(commands.c.id.in_(ids)).values(state=verdict, reason=reason, updated_at=at)
        )


def _verdict(row: Row[Any], site: Site, by_mode: bool) -> list[tuple[str, str]]:
    """The new state of a command and why; none where nothing changes."""
    short_kw = row.power_kw - row.battery_kw
    near_floor = row.soc <= site.reserve_soc + FLOOR_MARGIN
    if row.state == ReceiptState.EFFECTIVE:
        # A running mode follows the house and its export limit; only one that gives next to nothing has ended.
        ended = not near_floor and row.battery_kw <= TOLERANCE_FRACTION * row.power_kw
        return [(ReceiptState.FAILED.value, "no longer effective at the battery's meter")] if ended else []
    if near_floor or short_kw <= max(TOLERANCE_KW, TOLERANCE_FRACTION * abs(row.power_kw)):
        return [(ReceiptState.EFFECTIVE.value, "")]
    if row.state == ReceiptState.SENT:
        return []
    return [(ReceiptState.FAILED.value, "not effective at the battery's meter")]
