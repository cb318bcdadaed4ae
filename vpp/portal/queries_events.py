"""What pages and API read about events: lists, history, answers, cycles, delivery.

Every function takes the tenant, and the programme where the reader may see only one, and narrows by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, select, true
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotFound
from vpp.store.tables import commitments, dispatch, fleet, gateway, settlement

commitment, target = commitments.commitment, commitments.commitment_target

OPEN_STATES = (
    CommitmentState.RECEIVED,
    CommitmentState.ACCEPTED,
    CommitmentState.ACTIVE,
    CommitmentState.RELEASING,
    CommitmentState.MEASURING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event in a list; its window and targets are those of the latest modification."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    """One control cycle: power owed, planned and short [kW]; energy expected of the whole event [kWh]."""

    start_at: datetime
    end_at: datetime
    target_kw: float
    planned_kw: float
    shortfall_kw: float
    forecast_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One measured interval [kWh]; None where it could not be measured."""

    method: str
    start_at: datetime
    end_at: datetime
    committed_kwh: Decimal
    baseline_kwh: Decimal | None
    metered_kwh: Decimal | None
    delivered_kwh: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One line of an event's history."""

    at: datetime
    state: str
    what: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Our answer to one modification; `sent_at` is None until the utility's server took it."""

    modification_number: int
    opt_in: bool
    sent_at: datetime | None


async def list_events(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    program: str | None = None,
    states: Sequence[CommitmentState] = (),
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[EventRow], int]:
    """Return events, latest start first, and how many there are in all."""
    wanted = _visible(tenant_id, program)
    if states:
        wanted = and_(wanted, commitment.c.state.in_([state.value for state in states]))
    total = (await connection.execute(select(func.count()).select_from(commitment).where(wanted))).scalar_one()
    query = _with_window(wanted).order_by(_WINDOW_START.desc(), commitment.c.id).limit(limit).offset(offset)
    return [_event(row) for row in await connection.execute(query)], total


async def get_event(
    connection: AsyncConnection, event_id: UUID, *, tenant_id: str, program: str | None = None
) -> tuple[EventRow, Commitment]:
    """Return one event as a row and as the domain's value.

    Raises:
        NotFound: it does not exist, or not for this reader.
    """
    row = (
        await connection.execute(_with_window(and_(_visible(tenant_id, program), commitment.c.id == event_id)))
    ).first()
    if row is None:
        raise NotFound(f"no event {event_id}")
    return _event(row), await load(connection, event_id)


async def cycles(connection: AsyncConnection, event_id: UUID) -> list[CycleRow]:
    """Return an event's control cycles in order."""
    table = dispatch.cycle.c
    # not `solve`: with a reason for every site it is by far the largest of a row
    query = select(
        table.start_at, table.end_at, table.target_kw, table.planned_kw, table.shortfall_kw, table.forecast_kwh
    )
    rows = await connection.execute(query.where(table.commitment_id == event_id).order_by(table.start_at))
    return [
        CycleRow(
            start_at=row.start_at,
            end_at=row.end_at,
            target_kw=row.target_kw,
            planned_kw=row.planned_kw,
            shortfall_kw=row.shortfall_kw,
            forecast_kwh=row.forecast_kwh,
        )
        for row in rows
    ]


async def deliveries(connection: AsyncConnection, event_id: UUID) -> list[DeliveryRow]:
    """Return what was measured by every method, in order of time."""
    table = settlement.delivery
    query = select(table).where(table.c.commitment_id == event_id).order_by(table.c.method, table.c.start_at)
    return [
        DeliveryRow(
            method=row.method,
            start_at=row.start_at,
            end_at=row.end_at,
            committed_kwh=row.committed_kwh,
            baseline_kwh=row.baseline_kwh,
            metered_kwh=row.metered_kwh,
            delivered_kwh=row.delivered_kwh,
        )
        for row in await connection.execute(query)
    ]


async def history(connection: AsyncConnection, event_id: UUID, *, limit: int = 50) -> list[StepRow]:
    """Return an event's latest steps, newest first."""
    table = commitments.commitment_step
    query = select(table).where(table.c.commitment_id == event_id).order_by(table.c.id.desc()).limit(limit)
    return [
        StepRow(at=row.at, state=row.state, what=row.what, detail=row.detail) for row in await connection.execute(query)
    ]


async def decision(connection: AsyncConnection, event_id: UUID) -> StepRow | None:
    """Return the latest step in which we answered the utility; None before the first answer."""
    table = commitments.commitment_step
    query = (
        select(table)
        .where(
            table.c.commitment_id == event_id,
            table.c.detail.has_key("modification_number"),
            table.c.state != CommitmentState.RECEIVED.value,
        )
        .order_by(table.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return None if row is None else StepRow(at=row.at, state=row.state, what=row.what, detail=row.detail)


async def answers(connection: AsyncConnection, event_id: UUID) -> list[Answer]:
    """Return our answers to the utility, one for each modification, latest first."""
    table = gateway.openadr2_opt
    query = select(table).where(table.c.commitment_id == event_id).order_by(table.c.modification_number.desc())
    return [
        Answer(modification_number=row.modification_number, opt_in=row.opt_in, sent_at=row.sent_at)
        for row in await connection.execute(query)
    ]


async def any_active(connection: AsyncConnection, *, tenant_id: str) -> bool:
    """Whether an event of the tenant is running, in which case devices are read more often."""
    query = select(commitment.c.id).where(
        commitment.c.tenant_id == tenant_id, commitment.c.state == CommitmentState.ACTIVE.value
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def fleet_zone(connection: AsyncConnection, *, tenant_id: str, program: str | None = None) -> str:
    """Return the time zone most of the sites are in; UTC where there are none."""
    query = select(fleet.site.c.time_zone).where(fleet.site.c.tenant_id == tenant_id)
    if program is not None:
        enrolled = fleet.program_enrolment
        query = query.join(enrolled, enrolled.c.site_id == fleet.site.c.id).where(enrolled.c.program == program)
    query = query.group_by(fleet.site.c.time_zone).order_by(func.count().desc(), fleet.site.c.time_zone).limit(1)
    return (await connection.execute(query)).scalar() or "UTC"


def _visible(tenant_id: str, program: str | None) -> ColumnElement[bool]:
    mine = commitment.c.tenant_id == tenant_id
    return mine if program is None else and_(mine, commitment.c.program == program)


_hours = func.extract("epoch", target.c.end_at - target.c.start_at) / 3600.0
_latest = (
    select(
        func.min(target.c.start_at).label("start_at"),
        func.max(target.c.end_at).label("end_at"),
        func.max(target.c.target_kw).label("highest_target_kw"),
        func.sum(target.c.target_kw * _hours).label("committed_kwh"),
    )
    .where(
        target.c.commitment_id == commitment.c.id,
        target.c.modification_number
        == select(func.max(target.c.modification_number))
        .where(target.c.commitment_id == commitment.c.id)
        .correlate(commitment)
        .scalar_subquery(),
    )
    .lateral("latest")
)
_WINDOW_START = _latest.c.start_at


def _with_window(wanted: ColumnElement[bool]) -> Select[Any]:
    return select(commitment, _latest).join(_latest, true()).where(wanted)


def _event(row: Row[Any]) -> EventRow:
    return EventRow(
        id=row.id,
        program=row.program,
        source=row.source,
        external_id=row.external_id,
        modification_number=row.modification_number,
        state=CommitmentState(row.state),
        start_at=row.start_at,
        end_at=row.end_at,
        highest_target_kw=row.highest_target_kw,
        committed_kwh=float(row.committed_kwh),
        opt_in=row.opt_in,
        opt_reason=row.opt_reason,
        cancel_requested=row.cancel_requested,
        is_test=row.is_test,
        received_at=row.received_at,
    )
