"""One control cycle: read, split, compare, send, record. Re-run after a crash it does the same again.

1. judge what the last cycle's commands did at the meter
2. read the fleet: snapshot, forecast, who may be called on
3. split what is owed over the rest of the event
4. compare with what is commanded, and write plan and commands down
5. save the native settings of every site commanded for the first time
6. send, with an expiry, and record the receipts
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import GridLimits, ModeState, Plan, plan
from vpp.dispatch.fleet import Called, call_fleet, without
from vpp.dispatch.handback import owed_to_others
from vpp.dispatch.judge import judge_commands
from vpp.dispatch.limits import next_tighter_at
from vpp.dispatch.modes import ends_too_early, mode_states
from vpp.dispatch.progress import delivered_kwh
from vpp.dispatch.send import send
from vpp.dispatch.tools import Tools
from vpp.domain.commitment import Commitment
from vpp.domain.device import ReceiptState
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import cycle as cycles
from vpp.store.tables.dispatch import handback as handbacks

GRACE_AFTER_END = timedelta(seconds=60)
"""How long a command may outlive the event: the release follows at its end, the timer is for the case
that it does not."""

SHORTEST_LEASE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleOutcome:
    """What a cycle asked for and what came of it; the same however often the cycle was begun."""

    interval: Interval
    target_kw: float
    planned_kw: float
    sent: int
    failed: int


async def run_cycle(tools: Tools, commitment: Commitment, interval: Interval) -> CycleOutcome:
    """Carry out the cycle that covers `interval` of a commitment in force.

    Plan and commands are stored before anything is sent, so that a cycle begun by a worker that
    died is finished by the next one as it was planned.
    """
    async with tools.store.begin() as connection:
        # Two workers may hold the same step for a moment, when one was taken for dead: one plans, both send.
        await connection.execute(select(func.pg_advisory_xact_lock(_lock_key(commitment))))
        if not await _is_planned(connection, commitment, interval):
            await judge_commands(connection, commitment, interval.start_at, mode_adapters=tools.mode_adapters)
            called = await call_fleet(connection, commitment, at=interval.start_at, alone=True)
            state = without(called.state, await owed_to_others(connection, commitment.id))
            await _plan(connection, tools, commitment, interval, replace(called, state=state))
    await send(tools, commitment, interval)
    async with tools.store.begin() as connection:
        return await _outcome(connection, commitment, interval)


async def _outcome(connection: AsyncConnection, commitment: Commitment, interval: Interval) -> CycleOutcome:
    planned = await connection.execute(
        select(cycles.c.target_kw, cycles.c.planned_kw).where(
            cycles.c.commitment_id == commitment.id, cycles.c.start_at == interval.start_at
        )
    )
    is_failed = commands.c.state.in_([ReceiptState.FAILED.value, ReceiptState.UNKNOWN.value])
    told = await connection.execute(
        select(func.count().label("sent"), func.count().filter(is_failed).label("failed")).where(
            commands.c.commitment_id == commitment.id, commands.c.cycle_start_at == interval.start_at
        )
    )
    row, counted = planned.one(), told.one()
    return CycleOutcome(
        interval=interval,
        target_kw=row.target_kw,
        planned_kw=row.planned_kw,
        sent=counted.sent,
        failed=counted.failed,
    )


def _lock_key(commitment: Commitment) -> int:
    return int.from_bytes(hashlib.sha256(b"cycle" + commitment.id.bytes).digest()[:8], "big", signed=True)


async def _is_planned(connection: AsyncConnection, commitment: Commitment, interval: Interval) -> bool:
    query = select(cycles.c.start_at).where(
        cycles.c.commitment_id == commitment.id, cycles.c.start_at == interval.start_at
    )
    return (await connection.execute(query)).first() is not None


async def _plan(
    connection: AsyncConnection, tools: Tools, commitment: Commitment, interval: Interval, called: Called
) -> None:
    modes = await mode_states(connection, commitment, called.sites, tools.mode_adapters, at=interval.start_at)
    remaining = tuple(t for t in commitment.targets if t.interval.end_at > interval.start_at)
    # Off the event loop: a solve may take a second, and a worker that is silent so long looks dead.
    made = await asyncio.to_thread(
        plan, called.sites, called.state, called.net_load_kw, remaining, called.steps, mode_sites=modes,
        hours_since_full_charge=called.hours_since_full_charge, policy=tools.policy, limits=called.limits,
    )  # fmt: skip
    await _record_plan(connection, commitment, interval, made)
    told = await _told_before(connection, commitment) - modes.keys()
    extended = await ends_too_early(connection, commitment, modes)
    # However short a modification makes this cycle, its setpoints outlive it by the length of the next.
    standing = Interval(interval.start_at, interval.end_at + tools.cycle)
    rows = [
        _command_row(commitment, interval, order)
        for order in _wanted(made, called, modes, commitment, standing, told | extended)
    ]
    if rows:
        await connection.execute(insert(commands), rows)


@dataclass(frozen=True, slots=True)
class _Order:
    """What one site is to do, how long that may stand without a word from us, or that its part is over."""

    site: Site
    power_kw: float
    lease_end_at: datetime
    release: bool


def _wanted(
    made: Plan,
    called: Called,
    modes: Mapping[str, ModeState],
    commitment: Commitment,
    standing: Interval,
    told: frozenset[str],
) -> list[_Order]:
    """Which sites get a command this cycle.

    A setpoint site with a part in the event is commanded every cycle, at zero too: its timer wants
    renewing and its energy must wait for its turn. When its part is over it is given back, so that it
    shaves its own peaks again. A mode site is told to start once, and to go on if the event was
    extended; it is given back when the plan drops it.
    """
    available = called.state.available
    event_steps = sum(step.start_at < commitment.window.end_at for step in made.steps)
    wanted: list[_Order] = []
    event_end_at = commitment.window.end_at + GRACE_AFTER_END
    for i, site in enumerate(called.sites):
        order_kw = float(made.power_kw[i, 0])
        if site.id in modes:
            running = modes[site.id] is ModeState.RUNNING
            if ((order_kw > 0) != running or (running and site.id in told)) and (available[i] or running):
                wanted.append(_Order(site, order_kw, event_end_at, release=order_kw <= 0))
        elif available[i] and bool((abs(made.power_kw[i, :event_steps]) > 1e-6).any()):
            lease_end_at = _lease_end_at(site, float(called.state.soc[i]), order_kw, standing, called.limits)
            wanted.append(_Order(site, order_kw, min(lease_end_at, event_end_at), release=False))
        elif available[i] and site.id in told:
            wanted.append(_Order(site, 0.0, min(standing.end_at, event_end_at), release=True))
    return wanted


def _lease_end_at(site: Site, soc: float, order_kw: float, standing: Interval, limits: GridLimits) -> datetime:
    """This cycle and the next, but never longer than the energy above the owner's reserve lasts at this power.

    So the reserve holds even if we fall silent right after sending. Nor into a capacity limit yet to begin.
    """
    lease = standing.duration
    if order_kw > 0:
        above_kwh = (soc - site.reserve_soc) * site.battery.capacity_kwh * site.battery.discharge_efficiency
        lease = min(lease, max(SHORTEST_LEASE, timedelta(hours=above_kwh / order_kw)))
    limit_at = next_tighter_at(limits, site.id, Interval(standing.start_at, standing.start_at + SHORTEST_LEASE))
    return standing.start_at + lease if limit_at is None else min(standing.start_at + lease, limit_at)


async def _told_before(connection: AsyncConnection, commitment: Commitment) -> frozenset[str]:
    """Setpoint sites that were commanded in this event and are not handed back."""
    rows = await connection.execute(
        select(handbacks.c.site_id).where(handbacks.c.commitment_id == commitment.id, handbacks.c.verified_at.is_(None))
    )
    return frozenset(row.site_id for row in rows)


async def _record_plan(connection: AsyncConnection, commitment: Commitment, interval: Interval, made: Plan) -> None:
    planned_kw = float(made.power_kw[:, 0].sum())
    event = [(k, step.duration_h) for k, step in enumerate(made.steps) if step.start_at < commitment.window.end_at]
    ahead_kwh = float(sum(made.power_kw[:, k].sum() * step_h for k, step_h in event))
    await connection.execute(
        insert(cycles).values(
            commitment_id=commitment.id,
            start_at=interval.start_at,
            end_at=interval.end_at,
            target_kw=commitment.target_kw_at(interval.start_at),
            planned_kw=planned_kw,
            shortfall_kw=float(made.shortfall_kw[0]),
            forecast_kwh=await delivered_kwh(connection, commitment, interval.start_at) + ahead_kwh,
            solve=made.info,
        )
    )


def _command_row(commitment: Commitment, interval: Interval, order: _Order) -> dict[str, Any]:
    return {
        "id": command_id(commitment, order.site.id, interval.start_at),
        "commitment_id": commitment.id,
        "site_id": order.site.id,
        "cycle_start_at": interval.start_at,
        "power_kw": order.power_kw,
        "release": order.release,
        "reserve_soc": order.site.reserve_soc,
        "not_before": interval.start_at,
        "expires_at": order.lease_end_at,
        "state": ReceiptState.PLANNED.value,
        "reason": "",
        "updated_at": interval.start_at,
    }


def command_id(commitment: Commitment, site_id: str, cycle_start_at: datetime) -> UUID:
    """The same command always has the same id, so that sending it twice is sending it once."""
    return uuid5(commitment.id, f"{site_id}\n{cycle_start_at.isoformat()}")
