"""What was measured, as rows: replaced as a whole for one event, and read back as domain values.

Part of the measurement room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotFound
from vpp.domain.settlement import EventDelivery, IntervalDelivery
from vpp.domain.time import Interval
from vpp.measurement.baselines.days import Finding
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.commitments import commitment_target
from vpp.store.tables.fleet import program_enrolment
from vpp.store.tables.settlement import baseline, delivery, site_delivery

_TAKEN_PLACE = (
    CommitmentState.ACTIVE,
    CommitmentState.RELEASING,
    CommitmentState.MEASURING,
    CommitmentState.SETTLED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One interval by one method [kWh]; None is not measurable."""

    interval: Interval
    committed_kwh: Decimal
    baseline_kwh: Decimal | None
    metered_kwh: Decimal | None
    delivered_kwh: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """One site's part in an event [kWh]; `credited_kwh` is never below 0."""

    site_id: str
    metered_kwh: Decimal
    credited_kwh: Decimal
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """An event by one method."""

    method: str
    rows: Sequence[DeliveryRow]
    days: tuple[date, ...]
    adjustment: float | None
    findings: tuple[Finding, ...]
    sites: Sequence[SiteRow]


async def lock(connection: AsyncConnection, commitment_id: UUID) -> None:
    """Let one transaction at a time measure an event."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"measure {commitment_id}", 0))))


async def replace_results(connection: AsyncConnection, commitment_id: UUID, results: Sequence[Result]) -> None:
    """Replace all that is written about an event."""
    for table in (delivery, baseline, site_delivery):
        await connection.execute(delete(table).where(table.c.commitment_id == commitment_id))
    for result in results:
        await connection.execute(
            insert(baseline).values(
                commitment_id=commitment_id,
                method=result.method,
                days=[day.isoformat() for day in result.days],
                adjustment=None if result.adjustment is None else Decimal(repr(round(result.adjustment, 6))),
                findings=list(result.findings),
            )
        )
        await connection.execute(
            insert(delivery),
            [
                {
                    "commitment_id": commitment_id,
                    "method": result.method,
                    "start_at": row.interval.start_at,
                    "end_at": row.interval.end_at,
                    "committed_kwh": row.committed_kwh,
                    "baseline_kwh": row.baseline_kwh,
                    "metered_kwh": row.metered_kwh,
                    "delivered_kwh": row.delivered_kwh,
                }
                for row in result.rows
            ],
        )
        if result.sites:
            await connection.execute(
                insert(site_delivery),
                [
                    {
                        "commitment_id": commitment_id,
                        "site_id": site.site_id,
                        "metered_kwh": site.metered_kwh,
                        "credited_kwh": site.credited_kwh,
                        "detail": site.detail,
                    }
                    for site in result.sites
                ],
            )


async def load_delivery(connection: AsyncConnection, commitment_id: UUID, method: str) -> EventDelivery:
    """Return an event as measured by a method.

    Raises:
        NotFound: the event was not measured by this method.
    """
    query = (
        select(delivery, commitments.c.is_test)
        .join(commitments, commitments.c.id == delivery.c.commitment_id)
        .where(delivery.c.commitment_id == commitment_id, delivery.c.method == method)
        .order_by(delivery.c.start_at)
    )
    rows = (await connection.execute(query)).all()
    if not rows:
        raise NotFound(f"commitment {commitment_id} is not measured by {method}")
    return EventDelivery(
        commitment_id=commitment_id,
        window=Interval(rows[0].start_at, rows[-1].end_at),
        is_test=rows[0].is_test,
        intervals=tuple(
            IntervalDelivery(
                interval=Interval(row.start_at, row.end_at),
                committed_kwh=row.committed_kwh,
                delivered_kwh=row.delivered_kwh,
            )
            for row in rows
        ),
    )


async def other_events(
    connection: AsyncConnection, commitment: Commitment, site_ids: Sequence[str], within: Interval
) -> list[Interval]:
    """Return windows of other events, of any programme these sites are in, that took place in a time."""
    latest = (
        select(commitment_target.c.commitment_id, func.max(commitment_target.c.modification_number).label("number"))
        .group_by(commitment_target.c.commitment_id)
        .subquery()
    )
    start_at, end_at = func.min(commitment_target.c.start_at), func.max(commitment_target.c.end_at)
    query = (
        select(start_at.label("start_at"), end_at.label("end_at"))
        .select_from(commitments)
        .join(latest, latest.c.commitment_id == commitments.c.id)
        .join(
            commitment_target,
            (commitment_target.c.commitment_id == commitments.c.id)
            & (commitment_target.c.modification_number == latest.c.number),
        )
        .where(
            commitments.c.tenant_id == commitment.tenant_id,
            commitments.c.id != commitment.id,
            commitments.c.state.in_([state.value for state in _TAKEN_PLACE]),
            commitments.c.program.in_(
                select(program_enrolment.c.program).where(program_enrolment.c.site_id.in_(site_ids))
            ),
        )
        .group_by(commitments.c.id)
        .having((start_at < within.end_at) & (end_at > within.start_at))
        .order_by(start_at)
    )
    return [Interval(row.start_at, row.end_at) for row in await connection.execute(query)]
