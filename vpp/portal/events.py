"""`/api/v1/events`: what we owe, for machines. Mounted by `app.create_app`."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from vpp.domain.commitment import CommitmentState
from vpp.portal import queries_events
from vpp.portal.auth import Subject, require
from vpp.portal.context import Ctx
from vpp.portal.paging import DEFAULT, Limit, Offset, Page

router = APIRouter(prefix="/api/v1/events", tags=["events"])
Reader = Annotated[Subject, Depends(require(roles=("operator", "utility"), scope="read"))]


class _FromRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class EventOut(_FromRow):
    """An event as the utility last stated it; powers in kW toward the grid, energy in kWh."""

    id: UUID
    program: str
    source: str
    external_id: str
    modification_number: int
    state: CommitmentState
    start_at: datetime
    end_at: datetime
    highest_target_kw: float
    committed_kwh: float
    opt_in: bool | None
    opt_reason: str
    cancel_requested: bool
    is_test: bool
    received_at: datetime


class TargetOut(BaseModel):
    """Power owed over an interval [kW]."""

    start_at: datetime
    end_at: datetime
    target_kw: float


class CycleOut(_FromRow):
    """One control cycle."""

    start_at: datetime
    end_at: datetime
    target_kw: float
    planned_kw: float
    shortfall_kw: float
    forecast_kwh: float


class DeliveryOut(_FromRow):
    """One interval as measured by one method; null where it could not be measured."""

    method: str
    start_at: datetime
    end_at: datetime
    committed_kwh: Decimal
    baseline_kwh: Decimal | None
    metered_kwh: Decimal | None
    delivered_kwh: Decimal | None


class EventDetail(EventOut):
    """An event with its targets, control cycles and measured delivery."""

    targets: list[TargetOut]
    cycles: list[CycleOut]
    deliveries: list[DeliveryOut]


@router.get("")
async def list_events(
    context: Ctx,
    subject: Reader,
    limit: Limit = DEFAULT,
    offset: Offset = 0,
    state: Annotated[list[CommitmentState] | None, Query(max_length=8)] = None,
) -> Page[EventOut]:
    """Events, latest start first."""
    async with context.store.begin() as connection:
        rows, total = await queries_events.list_events(
            connection,
            tenant_id=subject.tenant_id,
            program=subject.program,
            states=state or (),
            limit=limit,
            offset=offset,
        )
    return Page(items=[EventOut.model_validate(row) for row in rows], total=total, limit=limit, offset=offset)


@router.get("/{event_id}")
async def get_event(context: Ctx, subject: Reader, event_id: UUID) -> EventDetail:
    """One event."""
    async with context.store.begin() as connection:
        row, commitment = await queries_events.get_event(
            connection, event_id, tenant_id=subject.tenant_id, program=subject.program
        )
        cycles = await queries_events.cycles(connection, event_id)
        deliveries = await queries_events.deliveries(connection, event_id)
    return EventDetail(
        **EventOut.model_validate(row).model_dump(),
        targets=[
            TargetOut(start_at=t.interval.start_at, end_at=t.interval.end_at, target_kw=t.target_kw)
            for t in commitment.targets
        ],
        cycles=[CycleOut.model_validate(cycle) for cycle in cycles],
        deliveries=[DeliveryOut.model_validate(delivery) for delivery in deliveries],
    )
