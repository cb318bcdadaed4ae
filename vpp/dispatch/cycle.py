"""One control cycle: read, split, compare, send, record. Re-run after a crash it does the same again.

1. judge what the last cycle's commands did at the meter
2. read the fleet: snapshot, forecast, who may be called on
3. split what is owed over the rest of the event
4. compare with what is commanded, and write plan and commands down
5. save the native settings of every site commanded for the first time
6. send, with an expiry, and record the receipts
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import ModeState, Plan, plan
from vpp.dispatch.fleet import Called, call_fleet
from vpp.dispatch.judge import judge_last_cycle
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

GRACE_AFTER_END = timedelta(seconds=60)
"""How long a command may outlive the event: the release follows at its end, the timer is for the case
that it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleOutcome:
    """What a cycle asked for and what came of it."""

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
        if not await _is_planned(connection, commitment, interval):
            await judge_last_cycle(connection, commitment, interval.start_at)
            called = await call_fleet(connection, commitment, at=interval.start_at)
            await _plan(connection, tools, commitment, interval, called)
    failures = await send(tools, commitment, interval)
    async with tools.store.begin() as connection:
        row = (
            await connection.execute(
                select(cycles.c.target_kw, cycles.c.planned_kw).where(
                    cycles.c.commitment_id == commitment.id, cycles.c.start_at == interval.start_at
                )
            )
        ).one()
    return CycleOutcome(
        interval=interval,
        target_kw=row.target_kw,
        planned_kw=row.planned_kw,
        sent=failures.asked,
        failed=failures.failed,
    )


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
        plan, called.sites, called.state, called.net_load_kw, remaining, called.steps, mode_sites=modes
    )
    await _record_plan(connection, commitment, interval, made)
    extended = await ends_too_early(connection, commitment, modes)
    rows = [
        _command_row(commitment, site, power_kw, interval, mode=site.id in modes)
        for site, power_kw in _wanted(made, called, modes, commitment.window.end_at, extended)
    ]
    if rows:
        await connection.execute(insert(commands), rows)


def _wanted(
    made: Plan, called: Called, modes: Mapping[str, ModeState], event_end_at: datetime, extended: frozenset[str]
) -> list[tuple[Site, float]]:
    """Which sites get a command this cycle, and what for.

    A setpoint site with a part in the event is commanded every cycle, at zero too: its timer wants
    renewing, and its energy must wait for its turn. A mode site is told to start once; while it runs
    only its lease is renewed; it is told to stop when the plan drops it.
    """
    available = called.state.available
    event_steps = sum(step.start_at < event_end_at for step in made.steps)
    wanted: list[tuple[Site, float]] = []
    for i, site in enumerate(called.sites):
        now_kw = float(made.power_kw[i, 0])
        if site.id in modes:
            running = modes[site.id] is ModeState.RUNNING
            if ((now_kw > 0) != running or (running and site.id in extended)) and (available[i] or running):
                wanted.append((site, now_kw))
        elif available[i] and bool((abs(made.power_kw[i, :event_steps]) > 1e-6).any()):
            wanted.append((site, now_kw))
    return wanted


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


def _command_row(
    commitment: Commitment, site: Site, power_kw: float, interval: Interval, *, mode: bool
) -> dict[str, Any]:
    """The row of one command. A mode device is told once, so its order runs to the event's end; the lease
    that a worker renews each cycle is what the reaper watches."""
    end_at = commitment.window.end_at + GRACE_AFTER_END
    lease = end_at if mode else interval.start_at + 2 * interval.duration
    return {
        "id": command_id(commitment, site.id, interval.start_at),
        "commitment_id": commitment.id,
        "site_id": site.id,
        "cycle_start_at": interval.start_at,
        "power_kw": power_kw,
        "reserve_soc": site.reserve_soc,
        "not_before": interval.start_at,
        "expires_at": min(lease, end_at),
        "state": ReceiptState.PLANNED.value,
        "reason": "",
        "updated_at": interval.start_at,
    }


def command_id(commitment: Commitment, site_id: str, cycle_start_at: datetime) -> UUID:
    """The same command always has the same id, so that sending it twice is sending it once."""
    return uuid5(commitment.id, f"{site_id}\n{cycle_start_at.isoformat()}")
