"""Builders of metered energy, measured events and contracts for tests of measurement and settlement."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders import PROGRAM, TENANT, TIME_ZONE, a_commitment
from tests.builders_enrolment import site_form
from tests.clock import NOON
from vpp.commitments import records as commitments
from vpp.domain.commitment import Commitment, TargetInterval
from vpp.domain.settlement import EventDelivery, IntervalDelivery, ProgramTerms
from vpp.domain.time import Interval
from vpp.enrolment import enrol, set_program_terms
from vpp.store.tables.accounts import tenant
from vpp.store.tables.telemetry import metered_interval

ZONE = ZoneInfo(TIME_ZONE)
HOUR = timedelta(hours=1)
_NAMESPACE = UUID("0c5be2a0-1e0e-4b0e-9a0b-6f2a0f3f9c11")


def terms(program: str = PROGRAM, nominated_kw: str = "100", **options: Any) -> ProgramTerms:
    """A contract for 100 kW; `options` as the programme's rules name them."""
    return ProgramTerms(program=program, nominated_kw=Decimal(nominated_kw), options=options)


def local(day: date, hour: int, minute: int = 0) -> datetime:
    """An instant by the Californian clock; hours from 24 are in the next day."""
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).replace(hour=hour % 24, minute=minute) + timedelta(
        days=hour // 24
    )


def an_event(
    *delivered_kwh: str | None, start_at: datetime = NOON + 4 * HOUR, step: timedelta = HOUR, is_test: bool = False
) -> EventDelivery:
    """A measured event of intervals with these energies [kWh]; None is not measurable."""
    intervals = tuple(
        IntervalDelivery(
            interval=Interval(start_at + n * step, start_at + (n + 1) * step),
            committed_kwh=Decimal(10),
            delivered_kwh=None if kwh is None else Decimal(kwh),
        )
        for n, kwh in enumerate(delivered_kwh)
    )
    window = Interval(intervals[0].interval.start_at, intervals[-1].interval.end_at)
    return EventDelivery(
        commitment_id=uuid5(_NAMESPACE, str(start_at)), window=window, is_test=is_test, intervals=intervals
    )


async def a_fleet(
    connection: AsyncConnection,
    count: int,
    *,
    program: str = PROGRAM,
    shares: Sequence[str] = ("0.8",),
    tenant_id: str = TENANT,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Enrol sites with owners' shares taken in turn, and the contract; return the sites' ids."""
    await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id))
    forms = [
        site_form(n, programs=[{"program": program, "owner_share": shares[(n - 1) % len(shares)]}])
        for n in range(1, count + 1)
    ]
    await set_program_terms(connection, terms(program, time_zone=TIME_ZONE, **(options or {})), tenant_id=tenant_id)
    return await enrol(connection, tenant_id, forms, now=NOON)


async def meter(
    connection: AsyncConnection,
    site_id: str,
    channel: str,
    start_at: datetime,
    kwh: Sequence[float],
    *,
    step: timedelta = HOUR,
    quality: str = "measured",
) -> None:
    """Store contiguous metered intervals, replacing those that begin in the same stretch."""
    first = start_at.astimezone(UTC)
    await connection.execute(
        delete(metered_interval).where(
            metered_interval.c.site_id == site_id,
            metered_interval.c.channel == channel,
            metered_interval.c.start_at >= first,
            metered_interval.c.start_at < first + step * len(kwh),
        )
    )
    await connection.execute(
        insert(metered_interval),
        [
            {
                "site_id": site_id,
                "channel": channel,
                "start_at": first + n * step,
                "end_at": first + (n + 1) * step,
                "energy_kwh": energy_kwh,
                "quality": quality,
            }
            for n, energy_kwh in enumerate(kwh)
        ],
    )


async def an_accepted_event(
    connection: AsyncConnection, start_at: datetime, *kw: float, external_id: str = "event-1", **changes: Any
) -> Commitment:
    """Store an event that owes these powers [kW] for an hour each."""
    starts = [start_at.astimezone(UTC) + n * HOUR for n in range(len(kw))]
    targets = tuple(TargetInterval(Interval(at, at + HOUR), power) for at, power in zip(starts, kw, strict=True))
    commitment = a_commitment(external_id=external_id, targets=targets, **changes)
    await commitments.create(connection, commitment, at=NOON)
    return commitment
