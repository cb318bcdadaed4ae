"""The steps of a commitment's life. Each is safe to repeat, and ends in one compare-and-set.

ACCEPTED → ACTIVE at its start; while ACTIVE one control cycle after another; RELEASING at its end,
until every site is verified to be as it was found or a bounded number of rounds is through;
MEASURING once the last readings are in; SETTLED when ledger and statements are posted.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import advance, load
from vpp.dispatch import Tools, hand_back, open_handbacks, run_cycle
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotReady
from vpp.domain.time import Interval, floor_to
from vpp.enrolment import load_sites, program_terms, raise_peaks
from vpp.lifecycle.queue import wake
from vpp.measurement import measure_event
from vpp.ports import MarketProgram
from vpp.settlement import settle_month
from vpp.telemetry import roll_up

READINGS_SETTLE = timedelta(minutes=15)
"""How long after the end the last readings may take to arrive."""
RELEASE_ROUND = timedelta(minutes=5)
RELEASE_FOR_AT_MOST = timedelta(minutes=30)
"""Money does not wait for a site that is off the network; the reaper goes on handing it back."""
ROLL_UP_STEP = timedelta(minutes=15)
HOURS_AROUND = timedelta(hours=5)
"""Baselines adjust by the hours before the event, so these are rolled up with it."""


async def take_step(tools: Tools, programs: Mapping[str, MarketProgram], commitment_id: UUID) -> None:
    """Take the step that is due, if one is; return at once otherwise.

    Raises:
        Conflict: somebody else took it; nothing was done twice in the store.
    """
    async with tools.store.begin() as connection:
        commitment = await load(connection, commitment_id)
    now = tools.clock.now()
    if commitment.next_due_at is None or commitment.next_due_at > now:
        return
    match commitment.state:
        case CommitmentState.ACCEPTED:
            await _begin(tools, commitment, now)
        case CommitmentState.ACTIVE:
            await _control(tools, commitment, now)
        case CommitmentState.RELEASING:
            await _release(tools, commitment, now)
        case CommitmentState.MEASURING:
            await _settle(tools, programs, commitment, now)
        case _:
            raise NotReady(f"commitment {commitment.id} is {commitment.state} and has no step to take")


async def _begin(tools: Tools, commitment: Commitment, now: datetime) -> None:
    if now >= commitment.window.end_at:
        # We slept through the event: nothing was commanded, so nothing is owed but the measurement.
        await _move(tools, commitment, CommitmentState.ACTIVE, now, now, "began after its end")
        return
    await _move(tools, commitment, CommitmentState.ACTIVE, now, commitment.next_due_at or now, "event begins")


async def _control(tools: Tools, commitment: Commitment, now: datetime) -> None:
    end_at = commitment.window.end_at
    if now >= end_at:
        await _move(tools, commitment, CommitmentState.RELEASING, now, now, "event ends")
        return
    # From when it fell due, not from now: a cycle that a dead worker began is finished as the same cycle.
    start_at = max(commitment.next_due_at or now, floor_to(now, tools.cycle))
    interval = Interval(start_at, min(floor_to(start_at, tools.cycle) + tools.cycle, end_at))
    outcome = await run_cycle(tools, commitment, interval)
    detail = {
        "target_kw": outcome.target_kw,
        "planned_kw": outcome.planned_kw,
        "commands": outcome.sent,
        "failed": outcome.failed,
    }
    await _move(tools, commitment, CommitmentState.ACTIVE, now, interval.end_at, "cycle", detail)


async def _release(tools: Tools, commitment: Commitment, now: datetime) -> None:
    outcome = await hand_back(tools, commitment.id)
    async with tools.store.begin() as connection:
        still_owed = await open_handbacks(connection, commitment.id)
    end_at = commitment.window.end_at
    if still_owed and now < end_at + RELEASE_FOR_AT_MOST:
        next_at, state, what = now + RELEASE_ROUND, CommitmentState.RELEASING, "some sites not handed back yet"
    else:
        what = "sites still to hand back, measuring meanwhile" if still_owed else "every site handed back"
        next_at, state = max(now, end_at + READINGS_SETTLE), CommitmentState.MEASURING
    detail = {"verified": len(outcome.verified), "owed": still_owed}
    await _move(tools, commitment, state, now, next_at, what, detail)


async def _settle(tools: Tools, programs: Mapping[str, MarketProgram], commitment: Commitment, now: datetime) -> None:
    """Measure, compute pay, post the ledger and the end of this life, all in one transaction."""
    program = programs[commitment.program]
    async with tools.store.begin() as connection:
        sites = await load_sites(connection, tenant_id=commitment.tenant_id, program=commitment.program)
        window = commitment.window
        around = Interval(floor_to(window.start_at - HOURS_AROUND, timedelta(hours=1)), window.end_at)
        await roll_up(connection, sites, around, ROLL_UP_STEP)
        await raise_peaks(connection, sites, around)
        delivery = await measure_event(connection, commitment, program, tenant_id=commitment.tenant_id)
        month = await _local_month(connection, commitment)
        settlement = await settle_month(
            connection, tenant_id=commitment.tenant_id, program=program, month=month, now=now
        )
        done = replace(commitment, state=CommitmentState.SETTLED, next_due_at=None, revision=commitment.revision + 1)
        delivered = sum(float(i.delivered_kwh) for i in delivery.intervals if i.delivered_kwh is not None)
        detail = {"delivered_kwh": delivered, "gross_cents": settlement.gross_cents}
        await advance(connection, commitment, done, at=now, what="settled", detail=detail)


async def _local_month(connection: AsyncConnection, commitment: Commitment) -> Any:
    terms = await program_terms(connection, tenant_id=commitment.tenant_id, program=commitment.program)
    zone = ZoneInfo(str(terms.options.get("time_zone", "UTC")))
    return commitment.window.start_at.astimezone(zone).date().replace(day=1)


async def _move(
    tools: Tools,
    commitment: Commitment,
    state: CommitmentState,
    now: datetime,
    next_due_at: datetime,
    what: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Compare-and-set, history and the wake-up for the next step in one transaction."""
    moved = replace(commitment, state=state, next_due_at=next_due_at, revision=commitment.revision + 1)
    async with tools.store.begin() as connection:
        await advance(connection, commitment, moved, at=now, what=what, detail=detail)
        await wake(connection, moved, tools.clock)
