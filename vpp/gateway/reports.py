"""Room gateway: reports a VTN asked for, and values written down before they are sent. Called by `ven`.

A value is the power delivered toward the grid [kW] at the end of its interval; where telemetry
cannot tell, there is no value. Values exist only while an event of this source runs.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import CommitmentState
from vpp.domain.time import Interval, floor_to
from vpp.domain.ven import ReportedPower, ReportRequest
from vpp.store.tables.commitments import commitment, commitment_target
from vpp.store.tables.gateway import openadr2_report, openadr2_report_request

DeliveredKw = Callable[[AsyncConnection, datetime], Awaitable[float | None]]
"""Power the fleet delivers toward the grid at an instant [kW]; None where telemetry cannot tell."""

MAX_BACKLOG = 288
"""Values made up for at most after we were down; older ones are not worth the traffic."""
BATCH = 500
SNAPSHOT = timedelta(minutes=1)
"""What a single value speaks for."""

_RUNNING = tuple(
    state.value
    for state in CommitmentState
    if state not in (CommitmentState.RECEIVED, CommitmentState.DECLINED, CommitmentState.CANCELLED)
)


@dataclass(frozen=True, slots=True)
class StandingRequest:
    """A report request with the instant its next value is due; None where none is."""

    request: ReportRequest
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class UnsentValue:
    """A value with its row's id."""

    id: int
    power: ReportedPower


async def save_requests(
    connection: AsyncConnection, source: str, requests: Sequence[ReportRequest], *, at: datetime
) -> None:
    """Keep report requests; one of the same id is replaced."""
    for request in requests:
        values = {
            "request": _to_json(request),
            "granularity_s": request.granularity_s,
            "report_back_s": request.report_back_s,
            "next_due_at": _first_due(request, at),
        }
        statement = insert(openadr2_report_request).values(
            source=source, report_request_id=request.report_request_id, **values
        )
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["source", "report_request_id"], set_=values)
        )


async def drop_requests(connection: AsyncConnection, source: str, ids: Collection[str] | None = None) -> None:
    """Forget report requests and what was not sent for them; all of the source where `ids` is None."""
    for table, unsent_only in ((openadr2_report, True), (openadr2_report_request, False)):
        statement = delete(table).where(table.c.source == source)
        if ids is not None:
            statement = statement.where(table.c.report_request_id.in_(list(ids)))
        await connection.execute(statement.where(table.c.sent_at.is_(None)) if unsent_only else statement)


async def standing(connection: AsyncConnection, source: str) -> list[StandingRequest]:
    """Return the requests in force, by id."""
    table = openadr2_report_request
    rows = await connection.execute(select(table).where(table.c.source == source).order_by(table.c.report_request_id))
    return [StandingRequest(_from_json(row.report_request_id, row), row.next_due_at) for row in rows]


async def event_runs(connection: AsyncConnection, source: str, interval: Interval) -> bool:
    """Return whether an event of the source that we take part in shares time with the interval."""
    latest = (commitment_target.c.commitment_id == commitment.c.id) & (
        commitment_target.c.modification_number == commitment.c.modification_number
    )
    found = await connection.execute(
        select(commitment.c.id)
        .join(commitment_target, latest)
        .where(
            commitment.c.source == source,
            commitment.c.state.in_(_RUNNING),
            commitment_target.c.start_at < interval.end_at,
            commitment_target.c.end_at > interval.start_at,
        )
        .limit(1)
    )
    return found.first() is not None


async def write_due(
    connection: AsyncConnection, source: str, due: StandingRequest, delivered_kw: DeliveredKw, *, at: datetime
) -> datetime | None:
    """Write down the values due until `at`; repeating it changes nothing. Returns when the next one is due."""
    request = due.request
    if due.next_due_at is None or due.next_due_at > at:
        return due.next_due_at
    if request.granularity_s <= 0:
        await _write(connection, source, request, Interval(at - SNAPSHOT, at), delivered_kw)
        next_due_at = None
    else:
        step = timedelta(seconds=request.granularity_s)
        tick_at = max(due.next_due_at, floor_to(at, step) - MAX_BACKLOG * step)
        while tick_at <= at:
            interval = Interval(tick_at - step, tick_at)
            if await event_runs(connection, source, interval):
                await _write(connection, source, request, interval, delivered_kw)
            tick_at += step
        over = request.window is not None and tick_at > request.window.end_at
        next_due_at = None if over else tick_at
    table = openadr2_report_request
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.report_request_id == request.report_request_id)
        .values(next_due_at=next_due_at)
    )
    return next_due_at


async def _write(
    connection: AsyncConnection, source: str, request: ReportRequest, interval: Interval, delivered_kw: DeliveredKw
) -> None:
    power_kw = await delivered_kw(connection, interval.end_at)
    if power_kw is None:  # at the instant an event ends it is no longer in force: ask about just before
        power_kw = await delivered_kw(connection, interval.end_at - timedelta(microseconds=1))
    if power_kw is None:
        return
    await connection.execute(
        insert(openadr2_report)
        .values(
            source=source,
            report_request_id=request.report_request_id,
            start_at=interval.start_at,
            end_at=interval.end_at,
            point_id=request.point_id,
            value=power_kw,
        )
        .on_conflict_do_nothing()
    )


async def unsent(connection: AsyncConnection, source: str, request: ReportRequest) -> list[UnsentValue]:
    """Return values not yet sent, oldest first, at most `BATCH`."""
    table = openadr2_report
    rows = await connection.execute(
        select(table)
        .where(
            table.c.source == source,
            table.c.report_request_id == request.report_request_id,
            table.c.sent_at.is_(None),
        )
        .order_by(table.c.start_at)
        .limit(BATCH)
    )
    return [UnsentValue(row.id, ReportedPower(Interval(row.start_at, row.end_at), row.value)) for row in rows]


async def mark_sent(connection: AsyncConnection, values: Sequence[UnsentValue], *, at: datetime) -> None:
    """Note that the VTN took these values."""
    ids = [value.id for value in values]
    await connection.execute(update(openadr2_report).where(openadr2_report.c.id.in_(ids)).values(sent_at=at))


def _first_due(request: ReportRequest, at: datetime) -> datetime:
    begin_at = max(at, request.window.start_at) if request.window else at
    if request.granularity_s <= 0:
        return begin_at
    step = timedelta(seconds=request.granularity_s)
    return floor_to(begin_at, step) + step


def _to_json(request: ReportRequest) -> dict[str, object]:
    window = request.window
    return {
        "specifier_id": request.specifier_id,
        "points": [request.point_id],
        "name": "TELEMETRY_USAGE",
        "window": [window.start_at.isoformat(), window.end_at.isoformat()] if window else None,
    }


def _from_json(report_request_id: str, row: object) -> ReportRequest:
    stored = row.request  # type: ignore[attr-defined]
    window = stored["window"]
    return ReportRequest(
        report_request_id=report_request_id,
        specifier_id=stored["specifier_id"],
        point_id=stored["points"][0],
        granularity_s=row.granularity_s,  # type: ignore[attr-defined]
        report_back_s=row.report_back_s,  # type: ignore[attr-defined]
        window=Interval(*(datetime.fromisoformat(at) for at in window)) if window else None,
    )
