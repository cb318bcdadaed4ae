"""Where each mode-only site stands in an event: not yet used, running, or used up."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import ModeState
from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.site import Site
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import handback as handbacks
from vpp.store.tables.fleet import site as site_table

_FAILED = frozenset({ReceiptState.FAILED.value, ReceiptState.UNKNOWN.value})
_UNFINISHED = (ReceiptState.PLANNED.value, ReceiptState.SENT.value)


async def mode_states(
    connection: AsyncConnection,
    commitment: Commitment,
    sites: Sequence[Site],
    mode_adapters: Collection[str],
    *,
    at: datetime,
) -> dict[str, ModeState]:
    """The state of each mode site before the cycle that begins at `at`, by site id.

    A site that was stopped, handed back or failed once is not started again in the same event: its
    vendor allows only a few settings a day, and the way back must stay affordable. One that was
    never written to is as free as before. An order whose answer was lost with a worker proves nothing.
    """
    mode_sites = [site.id for site in sites if site.adapter in mode_adapters]
    if not mode_sites:
        return {}
    latest = await connection.execute(
        select(commands.c.site_id, commands.c.release, commands.c.state, handbacks.c.released_at)
        .join(
            handbacks,
            (handbacks.c.commitment_id == commands.c.commitment_id) & (handbacks.c.site_id == commands.c.site_id),
        )
        .where(commands.c.commitment_id == commitment.id, commands.c.site_id.in_(mode_sites))
        .where(commands.c.cycle_start_at < at)
        .where(commands.c.state.not_in(_UNFINISHED) | handbacks.c.released_at.is_not(None))
        .ext(distinct_on(commands.c.site_id))
        .order_by(commands.c.site_id, commands.c.cycle_start_at.desc())
    )
    states = dict.fromkeys(mode_sites, ModeState.IDLE)
    for row in latest:
        over = row.release or row.state in _FAILED or row.released_at is not None
        states[row.site_id] = ModeState.RELEASED if over else ModeState.RUNNING
    return states


async def given_up(
    connection: AsyncConnection, commitment: Commitment, mode_adapters: Collection[str], *, at: datetime
) -> frozenset[str]:
    """Mode sites whose last order before `at` failed and that nobody has tried to hand back.

    They may be discharging all the same, and no timer ends that before the event does.
    """
    last = (
        select(commands.c.site_id, commands.c.state)
        .where(commands.c.commitment_id == commitment.id, commands.c.cycle_start_at < at)
        .ext(distinct_on(commands.c.site_id))
        .order_by(commands.c.site_id, commands.c.cycle_start_at.desc())
        .subquery()
    )
    rows = await connection.execute(
        select(handbacks.c.site_id)
        .join(last, last.c.site_id == handbacks.c.site_id)
        .join(site_table, site_table.c.id == handbacks.c.site_id)
        .where(handbacks.c.commitment_id == commitment.id, handbacks.c.released_at.is_(None))
        .where(last.c.state.in_(_FAILED), site_table.c.adapter.in_(mode_adapters))
    )
    return frozenset(row.site_id for row in rows)


async def ends_too_early(
    connection: AsyncConnection, commitment: Commitment, modes: Mapping[str, ModeState]
) -> frozenset[str]:
    """Running mode sites whose order ends before the event does, as after a modification that extends it."""
    running = [site_id for site_id, state in modes.items() if state is ModeState.RUNNING]
    if not running:
        return frozenset()
    rows = await connection.execute(
        select(commands.c.site_id, func.max(commands.c.expires_at).label("expires_at"))
        .where(commands.c.commitment_id == commitment.id, commands.c.site_id.in_(running))
        .group_by(commands.c.site_id)
    )
    return frozenset(row.site_id for row in rows if row.expires_at < commitment.window.end_at)
