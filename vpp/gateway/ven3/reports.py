"""Room gateway, OpenADR 3 VEN: reports owed and reports sent, in SQL. Called by `intake` and `reporter`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.grid_event import GridEvent
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportedInterval, ReportedResource, ReportOut, ReportValue, ReportWanted
from vpp.gateway.ven3.plan import due, requests_of
from vpp.store.tables.openadr3_ven import openadr3_report, openadr3_report_plan

BATCH = 100


@dataclass(frozen=True, slots=True)
class Planned:
    """The next report of one series."""

    event_id: str
    request: str
    number: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A report to be sent, with its row's id; `tried` says that the VTN may have it already."""

    id: int
    report: ReportOut
    tried: bool


async def plan_reports(
    connection: AsyncConnection, source: str, event: GridEvent, reports: Sequence[ReportWanted]
) -> None:
    """Plan the series an event asks for now; those it no longer asks for end. A series goes on where it was."""
    plan = openadr3_report_plan
    mine = (plan.c.source == source) & (plan.c.event_id == event.event_id)
    requests = requests_of(reports)
    await connection.execute(delete(plan).where(mine, plan.c.request.not_in([r.key for r in requests])))
    rows = await connection.execute(select(plan.c.request, plan.c.next_number).where(mine))
    next_number = {row.request: row.next_number for row in rows}
    for request in requests:
        number = next_number.get(request.key, 0)
        following = due(event, request, number)
        values = {"next_number": number, "next_due_at": following.at if following else None}
        statement = insert(plan).values(source=source, event_id=event.event_id, request=request.key, **values)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["source", "event_id", "request"], set_=values)
        )


async def end_plans(connection: AsyncConnection, source: str, event_id: str) -> None:
    """The event is gone: nothing more is reported of it, and what was not sent is not wanted."""
    plan, report = openadr3_report_plan, openadr3_report
    await connection.execute(delete(plan).where(plan.c.source == source, plan.c.event_id == event_id))
    await connection.execute(
        update(report)
        .where(report.c.source == source, report.c.event_id == event_id)
        .where(report.c.sent_at.is_(None), report.c.refused.is_(None))
        .values(refused="the event is gone")
    )


async def planned(connection: AsyncConnection, source: str, *, at: datetime) -> list[Planned]:
    """Return the reports due by `at`, oldest first, at most `BATCH`."""
    plan = openadr3_report_plan
    rows = await connection.execute(
        select(plan)
        .where(plan.c.source == source, plan.c.next_due_at <= at)
        .order_by(plan.c.next_due_at, plan.c.event_id, plan.c.request)
        .limit(BATCH)
    )
    return [Planned(row.event_id, row.request, row.next_number) for row in rows]


async def advance(connection: AsyncConnection, source: str, made: Planned, *, next_due_at: datetime | None) -> bool:
    """Go on to the next report of a series; False where another process has done so."""
    plan = openadr3_report_plan
    changed = await connection.execute(
        update(plan)
        .where(plan.c.source == source, plan.c.event_id == made.event_id)
        .where(plan.c.request == made.request, plan.c.next_number == made.number)
        .values(next_number=made.number + 1, next_due_at=next_due_at)
    )
    return changed.rowcount == 1


async def next_due_at(connection: AsyncConnection, source: str) -> datetime | None:
    """When the next report falls due."""
    plan = openadr3_report_plan
    found: datetime | None = (
        await connection.execute(select(func.min(plan.c.next_due_at)).where(plan.c.source == source))
    ).scalar()
    return found


async def queue(connection: AsyncConnection, source: str, report: ReportOut, *, at: datetime) -> None:
    """Owe a report; one of the same event and name is owed already."""
    await connection.execute(
        insert(openadr3_report)
        .values(source=source, event_id=report.event_id, name=report.name, report=_to_json(report), made_at=at)
        .on_conflict_do_nothing()
    )


async def unsent(connection: AsyncConnection, source: str) -> list[Owed]:
    """Return reports owed, oldest first, at most `BATCH`."""
    table = openadr3_report
    rows = await connection.execute(
        select(table)
        .where(table.c.source == source, table.c.sent_at.is_(None), table.c.refused.is_(None))
        .order_by(table.c.id)
        .limit(BATCH)
    )
    return [Owed(row.id, _from_json(row.event_id, row.name, row.report), row.tried_at is not None) for row in rows]


async def mark(connection: AsyncConnection, owed: Owed, **values: Any) -> None:
    """Note `tried_at`, or `sent_at` with `report_id`, or why it was `refused`."""
    await connection.execute(update(openadr3_report).where(openadr3_report.c.id == owed.id).values(**values))


def _to_json(report: ReportOut) -> dict[str, Any]:
    return {
        "program_id": report.program_id,
        "client_name": report.client_name,
        "resources": [
            {
                "name": resource.name,
                "intervals": [
                    {
                        "start_at": part.interval.start_at.isoformat(),
                        "end_at": part.interval.end_at.isoformat(),
                        "values": [[v.payload_type, v.value, v.units, v.reading_type] for v in part.values],
                    }
                    for part in resource.intervals
                ],
            }
            for resource in report.resources
        ],
    }


def _from_json(event_id: str, name: str, stored: dict[str, Any]) -> ReportOut:
    return ReportOut(
        event_id=event_id,
        program_id=stored["program_id"],
        name=name,
        client_name=stored["client_name"],
        resources=tuple(
            ReportedResource(each["name"], tuple(_interval_from_json(part) for part in each["intervals"]))
            for each in stored["resources"]
        ),
    )


def _interval_from_json(part: dict[str, Any]) -> ReportedInterval:
    interval = Interval(datetime.fromisoformat(part["start_at"]), datetime.fromisoformat(part["end_at"]))
    return ReportedInterval(interval, tuple(ReportValue(*value) for value in part["values"]))
