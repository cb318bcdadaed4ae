"""What the pages read about sites: their last reading, their part in an event, power over time.

A reading in the future of `at` is not looked at: the simulation may have written ahead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, Select, and_, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.store.tables import dispatch, fleet, telemetry

LOOK_BACK = timedelta(days=7)
"""Older readings count as never; it bounds the partitions a page looks into."""

site, device, reading = fleet.site, fleet.device, telemetry.reading


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """A site with its last reading; the reading's values are None where the device did not say."""

    id: str
    name: str
    owner_id: str
    time_zone: str
    adapter: str
    capacity_kwh: float
    max_discharge_kw: float
    reserve_soc: float
    measured_at: datetime | None
    battery_kw: float | None
    grid_kw: float | None
    soc: float | None
    islanded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A site's part in one event: its last command there, and its hand-back."""

    command_state: str | None = None
    command_reason: str = ""
    power_kw: float = 0.0
    expires_at: datetime | None = None
    saved: bool = False
    released_at: datetime | None = None
    verified_at: datetime | None = None
    lease_until: datetime | None = None
    handback_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerBucket:
    """Metered battery power of an event's sites [kW], mean over one step, and how many sites were heard."""

    start_at: datetime
    power_kw: float
    heard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTotals:
    """The enrolled fleet's nameplate."""

    sites: int
    max_discharge_kw: float
    capacity_kwh: float


async def fleet_totals(connection: AsyncConnection, *, tenant_id: str) -> FleetTotals:
    """Return how much is enrolled."""
    query = select(
        func.count(),
        func.coalesce(func.sum(site.c.max_discharge_kw), 0.0),
        func.coalesce(func.sum(site.c.capacity_kwh), 0.0),
    )
    count, power_kw, capacity_kwh = (await connection.execute(query.where(site.c.tenant_id == tenant_id))).one()
    return FleetTotals(sites=count, max_discharge_kw=power_kw, capacity_kwh=capacity_kwh)


async def list_sites(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    at: datetime,
    owner_id: str | None = None,
    search: str = "",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[SiteRow], int]:
    """Return sites by id with their last reading, and how many match in all.

    `search` is looked for in id, name, utility account and adapter.
    """
    wanted: ColumnElement[bool] = site.c.tenant_id == tenant_id
    if owner_id is not None:
        wanted = and_(wanted, site.c.owner_id == owner_id)
    if search:
        columns = (site.c.id, site.c.name, site.c.utility_account, site.c.adapter)
        wanted = and_(wanted, or_(*(column.icontains(search, autoescape=True) for column in columns)))
    total = (await connection.execute(select(func.count()).select_from(site).where(wanted))).scalar_one()
    rows = await connection.execute(_with_reading(wanted, at).order_by(site.c.id).limit(limit).offset(offset))
    return [_site(row) for row in rows], total


async def program_sites(connection: AsyncConnection, *, tenant_id: str, program: str, at: datetime) -> list[SiteRow]:
    """Return the sites enrolled in a programme with their last reading, by id."""
    enrolled = fleet.program_enrolment
    in_program = select(enrolled.c.site_id).where(enrolled.c.program == program)
    wanted = and_(site.c.tenant_id == tenant_id, site.c.id.in_(in_program))
    return [_site(row) for row in await connection.execute(_with_reading(wanted, at).order_by(site.c.id))]


async def parts(connection: AsyncConnection, event_id: UUID) -> dict[str, Part]:
    """Return each site's part in an event; a site that was never touched has none."""
    command, handback = dispatch.command, dispatch.handback
    last = (
        select(command)
        .where(command.c.commitment_id == event_id)
        .ext(distinct_on(command.c.site_id))
        .order_by(command.c.site_id, command.c.cycle_start_at.desc())
        .subquery()
    )
    mine = select(handback).where(handback.c.commitment_id == event_id).subquery()
    rows = await connection.execute(
        select(
            func.coalesce(last.c.site_id, mine.c.site_id).label("site_id"),
            last.c.state,
            func.coalesce(last.c.reason, "").label("command_reason"),
            func.coalesce(last.c.power_kw, 0.0).label("power_kw"),
            last.c.expires_at,
            mine.c.saved_at,
            mine.c.released_at,
            mine.c.verified_at,
            mine.c.lease_until,
            func.coalesce(mine.c.reason, "").label("handback_reason"),
        ).select_from(last.join(mine, last.c.site_id == mine.c.site_id, full=True))
    )
    return {row.site_id: _part(row) for row in rows}


async def power_buckets(
    connection: AsyncConnection, event_id: UUID, *, start_at: datetime, end_at: datetime, step: timedelta
) -> list[PowerBucket]:
    """Return the metered power of the sites an event has touched, by step from `start_at`.

    Each site's readings are averaged over a step and the averages added; a site that was not heard
    in a step adds nothing, which is why `heard` is told. A reading at the very end of a step belongs
    to it: orders are given where a step begins, and what they did is seen where it ends. What a site
    gives while it is cut off from the grid does not count.
    """
    touched = (
        select(device.c.id)
        .join(dispatch.handback, dispatch.handback.c.site_id == device.c.site_id)
        .where(dispatch.handback.c.commitment_id == event_id)
    )
    just_before = reading.c.measured_at - literal(timedelta(microseconds=1), type_=Interval())
    bucket = func.date_bin(step, just_before, literal(start_at, type_=reading.c.measured_at.type))
    by_site = (
        select(bucket.label("start_at"), func.avg(reading.c.battery_kw).label("power_kw"))
        .where(
            reading.c.device_id.in_(touched),
            reading.c.measured_at > start_at,
            reading.c.measured_at <= end_at,
            reading.c.battery_kw.is_not(None),
            reading.c.islanded.is_(False),
        )
        .group_by(reading.c.device_id, bucket)
        .subquery()
    )
    rows = await connection.execute(
        select(by_site.c.start_at, func.sum(by_site.c.power_kw).label("power_kw"), func.count().label("heard"))
        .group_by(by_site.c.start_at)
        .order_by(by_site.c.start_at)
    )
    return [PowerBucket(start_at=row.start_at, power_kw=row.power_kw, heard=row.heard) for row in rows]


async def registered_kwh(
    connection: AsyncConnection, event_id: UUID, *, start_at: datetime, end_at: datetime
) -> tuple[float | None, int, int]:
    """Return what the touched sites' battery meters counted from `start_at` to `end_at` [kWh].

    Also how many sites gave both register values, and how many were touched. None where no site did.
    """
    touched = (
        select(device.c.id.label("device_id"))
        .join(dispatch.handback, dispatch.handback.c.site_id == device.c.site_id)
        .where(dispatch.handback.c.commitment_id == event_id)
        .subquery()
    )

    def register_at(at: datetime, after: datetime, name: str) -> Any:
        return (
            select((reading.c.discharged_kwh_register - reading.c.charged_kwh_register).label("kwh"))
            .where(
                reading.c.device_id == touched.c.device_id,
                reading.c.measured_at <= at,
                reading.c.measured_at > after,
                reading.c.discharged_kwh_register.is_not(None),
                reading.c.charged_kwh_register.is_not(None),
            )
            .order_by(reading.c.measured_at.desc())
            .limit(1)
            .lateral(name)
        )

    first = register_at(start_at, start_at - timedelta(days=1), "first")
    last = register_at(end_at, start_at, "last")
    counted = last.c.kwh - first.c.kwh
    query = select(func.sum(counted), func.count(counted), func.count()).select_from(
        touched.outerjoin(first, true()).outerjoin(last, true())
    )
    energy_kwh, heard, sites = (await connection.execute(query)).one()
    return energy_kwh, heard, sites


def _with_reading(wanted: ColumnElement[bool], at: datetime) -> Select[Any]:
    last = (
        select(reading)
        .where(reading.c.device_id == device.c.id, reading.c.measured_at <= at, reading.c.measured_at > at - LOOK_BACK)
        .order_by(reading.c.measured_at.desc())
        .limit(1)
        .lateral("last")
    )
    return (
        select(
            site,
            last.c.measured_at,
            last.c.battery_kw,
            last.c.grid_kw,
            last.c.soc,
            func.coalesce(last.c.islanded, False).label("islanded"),
        )
        .join(device, device.c.site_id == site.c.id)
        .outerjoin(last, true())
        .where(wanted)
    )


def _site(row: Row[Any]) -> SiteRow:
    return SiteRow(
        id=row.id,
        name=row.name,
        owner_id=row.owner_id,
        time_zone=row.time_zone,
        adapter=row.adapter,
        capacity_kwh=row.capacity_kwh,
        max_discharge_kw=row.max_discharge_kw,
        reserve_soc=row.reserve_soc,
        measured_at=row.measured_at,
        battery_kw=row.battery_kw,
        grid_kw=row.grid_kw,
        soc=row.soc,
        islanded=row.islanded,
    )


def _part(row: Any) -> Part:
    return Part(
        command_state=row.state,
        command_reason=row.command_reason,
        power_kw=row.power_kw,
        expires_at=row.expires_at,
        saved=row.saved_at is not None,
        released_at=row.released_at,
        verified_at=row.verified_at,
        lease_until=row.lease_until,
        handback_reason=row.handback_reason,
    )
