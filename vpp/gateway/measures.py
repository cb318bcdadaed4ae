"""Room gateway: the values of our report points, from what the fleet delivered. Called by `reports`.

A value that telemetry cannot tell is not there: never 0, never the last one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import CommitmentState
from vpp.domain.openadr2 import ResourceStatus
from vpp.domain.time import Interval
from vpp.gateway.offers import ENERGY, POWER
from vpp.store.tables.commitments import commitment, commitment_target

DeliveredKw = Callable[[AsyncConnection, datetime], Awaitable[float | None]]
"""Power the fleet delivers toward the grid in events at an instant, now or past [kW]; None where telemetry
cannot tell."""
IsOnline = Callable[[AsyncConnection, datetime], Awaitable[bool]]
"""Whether the fleet can be reached at an instant."""

SAMPLE = timedelta(minutes=5)
"""How often power is read to make energy of it."""
_JUST_BEFORE = timedelta(microseconds=1)

_RUNNING = tuple(
    state.value
    for state in CommitmentState
    if state not in (CommitmentState.RECEIVED, CommitmentState.DECLINED, CommitmentState.CANCELLED)
)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the fleet can tell of itself; `is_online` is taken to be true where nobody can say."""

    delivered_kw: DeliveredKw
    is_online: IsOnline | None = None


async def value_of(
    connection: AsyncConnection, telemetry: Telemetry, source: str, point: str, interval: Interval
) -> float | ResourceStatus | None:
    """Return the value of a point for an interval, or None where telemetry cannot tell."""
    if point == POWER:
        return await _power_kw(connection, telemetry, interval.end_at)
    if point == ENERGY:
        return await _energy_kwh(connection, telemetry, interval)
    return await status(connection, telemetry, source, at=interval.end_at)


async def _power_kw(connection: AsyncConnection, telemetry: Telemetry, at: datetime) -> float | None:
    power_kw = await telemetry.delivered_kw(connection, at)
    if power_kw is None:  # at the instant an event ends it is no longer in force: ask about just before
        power_kw = await telemetry.delivered_kw(connection, at - _JUST_BEFORE)
    return power_kw


async def _energy_kwh(connection: AsyncConnection, telemetry: Telemetry, interval: Interval) -> float | None:
    energy_kwh = 0.0
    for part in interval.steps(SAMPLE):
        power_kw = await _power_kw(connection, telemetry, part.end_at)
        if power_kw is None:
            return None
        energy_kwh += power_kw * part.duration_h
    return energy_kwh


async def status(connection: AsyncConnection, telemetry: Telemetry, source: str, *, at: datetime) -> ResourceStatus:
    """Return online and override, and while an event of the source runs what is owed and delivered [kW].

    Overridden: an event runs that we do not take part in, or no longer as it was last stated.
    """
    online = True if telemetry.is_online is None else await telemetry.is_online(connection, at)
    rows = (await connection.execute(_targets_at(source, at))).all()
    taken = [row for row in rows if row.state in _RUNNING]
    levels: list[tuple[str, float]] = []
    if taken:
        power_kw = await _power_kw(connection, telemetry, at)
        if power_kw is not None:
            levels.append(("capacity", power_kw))
        levels.append(("setpoint", sum(row.target_kw for row in taken)))
    return ResourceStatus(online=online, overridden=any(row.opt_in is False for row in rows), levels=tuple(levels))


def _targets_at(source: str, at: datetime):  # type: ignore[no-untyped-def]
    return select(commitment.c.state, commitment.c.opt_in, commitment_target.c.target_kw).where(
        commitment_target.c.commitment_id == commitment.c.id,
        commitment_target.c.modification_number == latest_number(),
        commitment.c.source == source,
        commitment.c.cancel_requested.is_(False),
        commitment_target.c.start_at <= at,
        commitment_target.c.end_at > at,
    )


async def event_runs(connection: AsyncConnection, source: str, interval: Interval) -> bool:
    """Return whether an event of the source that we take part in shares time with the interval."""
    return (await connection.execute(_running_in(source, interval).limit(1))).first() is not None


async def event_times(connection: AsyncConnection, source: str, span: Interval) -> list[Interval]:
    """Return when, around `span`, events of the source run that we take part in."""
    return [Interval(row.start_at, row.end_at) for row in await connection.execute(_running_in(source, span))]


def _running_in(source: str, span: Interval):  # type: ignore[no-untyped-def]
    return select(commitment_target.c.start_at, commitment_target.c.end_at).where(
        commitment_target.c.commitment_id == commitment.c.id,
        commitment_target.c.modification_number == latest_number(),
        commitment.c.source == source,
        commitment.c.state.in_(_RUNNING),
        commitment_target.c.start_at < span.end_at,
        commitment_target.c.end_at > span.start_at,
    )


def latest_number() -> ColumnElement[int]:
    """The latest version of a commitment's targets, as a subquery on the commitment of the statement around it."""
    versions = commitment_target.alias()
    return (
        select(func.max(versions.c.modification_number))
        .where(versions.c.commitment_id == commitment.c.id)
        .correlate(commitment)
        .scalar_subquery()
    )
