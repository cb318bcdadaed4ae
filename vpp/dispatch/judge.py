"""Did the last command do anything? Accepted is not applied, and applied is not effective."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.fleet import Quality
from vpp.enrolment import load_sites
from vpp.store.tables.dispatch import command as commands
from vpp.telemetry import read_snapshot

TOLERANCE_KW = 0.5
TOLERANCE_FRACTION = 0.2
FLOOR_MARGIN = 0.03
_SAID_YES = (ReceiptState.ACKED.value, ReceiptState.READBACK_OK.value)


async def judge_last_cycle(connection: AsyncConnection, commitment: Commitment, at: datetime) -> None:
    """Mark the last cycle's accepted commands EFFECTIVE, or FAILED where the battery's meter says otherwise.

    A battery near its reserve may well give less than asked; one without a good reading is left as it is.
    """
    rows = await connection.execute(
        select(commands.c.id, commands.c.site_id, commands.c.power_kw)
        .where(commands.c.commitment_id == commitment.id, commands.c.state.in_(_SAID_YES))
        .where(commands.c.cycle_start_at < at)
    )
    accepted = {row.site_id: row for row in rows}
    if not accepted:
        return
    sites = await load_sites(connection, tenant_id=commitment.tenant_id, program=commitment.program)
    sites = tuple(site for site in sites if site.id in accepted)
    state = await read_snapshot(connection, sites, at=at)
    effective: list[UUID] = []
    failed: list[UUID] = []
    for i, site in enumerate(sites):
        if state.quality[i] != Quality.GOOD:
            continue
        asked_kw = accepted[site.id].power_kw
        short_kw = asked_kw - float(state.battery_kw[i])
        near_floor = float(state.soc[i]) <= site.reserve_soc + FLOOR_MARGIN
        did = near_floor or short_kw <= max(TOLERANCE_KW, TOLERANCE_FRACTION * abs(asked_kw))
        (effective if did else failed).append(accepted[site.id].id)
    for ids, verdict, reason in (
        (effective, ReceiptState.EFFECTIVE, ""),
        (failed, ReceiptState.FAILED, "not effective at the battery's meter"),
    ):
        if ids:
            await connection.execute(
                update(commands).where(commands.c.id.in_(ids)).values(state=verdict.value, reason=reason, updated_at=at)
            )
