"""What an event has delivered so far, from the batteries' own meters: live figures, not settlement."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.time import Interval
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.fleet import device
from vpp.store.tables.telemetry import reading

FRESH = timedelta(minutes=15)


async def delivered_kw(connection: AsyncConnection, commitment: Commitment, at: datetime) -> float | None:
    """Battery power of the sites commanded in this event now [kW]; None where no reading is fresh."""
    latest = (
        select(reading.c.device_id, reading.c.battery_kw)
        .where(reading.c.measured_at <= at, reading.c.measured_at > at - FRESH)
        .where(reading.c.device_id.in_(_commanded_devices(commitment)))
        .ext(distinct_on(reading.c.device_id))
        .order_by(reading.c.device_id, reading.c.measured_at.desc())
        .subquery()
    )
    total: float | None = (await connection.execute(select(func.sum(latest.c.battery_kw)))).scalar()
    return total


async def delivered_kwh(connection: AsyncConnection, commitment: Commitment, at: datetime) -> float:
    """Energy discharged by the sites commanded in this event from its start until `at` [kWh].

    Mean of each device's readings times the time passed: good to a few percent while the event runs.
    """
    start_at, end_at = commitment.window.start_at, min(at, commitment.window.end_at)
    if end_at <= start_at:
        return 0.0
    means = (
        select(func.avg(reading.c.battery_kw).label("mean_kw"))
        .where(reading.c.measured_at > start_at, reading.c.measured_at <= end_at)
        .where(reading.c.device_id.in_(_commanded_devices(commitment)))
        .group_by(reading.c.device_id)
        .subquery()
    )
    total: float | None = (await connection.execute(select(func.sum(means.c.mean_kw)))).scalar()
    return (total or 0.0) * Interval(start_at, end_at).duration_h


def _commanded_devices(commitment: Commitment):  # type: ignore[no-untyped-def]
    return (
        select(device.c.id)
        .join(commands, commands.c.site_id == device.c.site_id)
        .where(commands.c.commitment_id == commitment.id)
    )
