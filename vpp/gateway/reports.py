"""Room gateway: reports a VTN asked for, and values written down before they are sent. Called by `reporter`.

What each point means is said in `offers`. Usage is written down only while an event of the source runs;
status always; history once, for the whole window asked for.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import ReportDemand, ReportedValue, ResourceStatus
from vpp.domain.time import Interval, floor_to
from vpp.gateway.measures import Telemetry, event_runs, value_of
from vpp.gateway.offers import HISTORY_USAGE, METADATA, TELEMETRY_STATUS, WantedReport
from vpp.store.tables.gateway import openadr2_report, openadr2_report_request

MAX_BACKLOG = 288
"""Values made up for at most after we were down; older ones are not worth the traffic."""
MAX_STANDING = 200
"""Report requests kept for one VTN."""
BATCH = 500
KEPT_AFTER_SENT = timedelta(days=7)
"""How long values are kept after they were sent, and a request after it was done with: told again within that
time, because our confirmation was lost, it is confirmed and not answered once more."""
MAX_DONE = 1000
"""Requests done with that are kept for one VTN."""
SNAPSHOT = timedelta(minutes=1)
"""What a single value speaks for, and how soon one that telemetry could not tell is looked for again."""


@dataclass(frozen=True, slots=True)
class StandingRequest:
    """A report request not yet done with.

    Attributes:
        next_due_at: the instant its next value is due; None where none is.
        after_id: of our VTN's reports, up to which value received from the VEN it has been told.
        unsent_since: when what the oldest of its values not yet sent speaks for began; None where all were sent.
    """

    request: WantedReport
    next_due_at: datetime | None
    unsent_since: datetime | None = None
    after_id: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether everything was sent and nothing more falls due."""
        return self.next_due_at is None and self.unsent_since is None


@dataclass(frozen=True, slots=True)
class UnsentValue:
    """A value with its row's id."""

    id: int
    value: ReportedValue


def digest_of(demand: ReportDemand) -> str:
    """What a demand is known by when it is told again: everything it says, as it was told."""
    return hashlib.sha256(msgspec.json.encode(demand)).hexdigest()


async def known_digests(connection: AsyncConnection, source: str, ids: Collection[str]) -> dict[str, str]:
    """Return by id what was asked before: requests in force, and those done with not long ago."""
    table = openadr2_report_request
    query = select(table.c.report_request_id, table.c.digest)
    query = query.where(table.c.source == source, table.c.report_request_id.in_(list(ids)))
    return {row.report_request_id: row.digest for row in await connection.execute(query)}


async def save_request(
    connection: AsyncConnection, source: str, request: WantedReport, digest: str, *, at: datetime
) -> None:
    """Keep a report request in place of one of the same id, whose values are forgotten."""
    values = {
        "request": _to_json(request),
        "granularity_s": request.granularity_s,
        "report_back_s": request.report_back_s,
        "next_due_at": _first_due(request, at),
        "digest": digest,
        "done_at": None,
        "after_id": None,
    }
    await connection.execute(
        delete(openadr2_report).where(
            openadr2_report.c.source == source, openadr2_report.c.report_request_id == request.report_request_id
        )
    )
    statement = insert(openadr2_report_request).values(
        source=source, report_request_id=request.report_request_id, **values
    )
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["source", "report_request_id"], set_=values)
    )


async def drop_requests(connection: AsyncConnection, source: str, ids: Collection[str] | None = None) -> None:
    """Forget report requests and what was not sent for them; where `ids` is None all that are not done with."""
    values, requests = openadr2_report, openadr2_report_request
    unsent = delete(values).where(values.c.source == source, values.c.sent_at.is_(None))
    dropped = delete(requests).where(requests.c.source == source)
    if ids is None:
        dropped = dropped.where(requests.c.done_at.is_(None))
    else:
        unsent = unsent.where(values.c.report_request_id.in_(list(ids)))
        dropped = dropped.where(requests.c.report_request_id.in_(list(ids)))
    await connection.execute(unsent)
    await connection.execute(dropped)


async def standing(connection: AsyncConnection, source: str) -> list[StandingRequest]:
    """Return the requests in force, by id."""
    table, values = openadr2_report_request, openadr2_report
    unsent_since = (
        select(func.min(values.c.start_at))
        .where(
            values.c.source == table.c.source,
            values.c.report_request_id == table.c.report_request_id,
            values.c.sent_at.is_(None),
        )
        .scalar_subquery()
    )
    query = select(table, unsent_since.label("unsent_since")).where(table.c.source == source, table.c.done_at.is_(None))
    rows = await connection.execute(query.order_by(table.c.report_request_id))
    return [StandingRequest(_from_json(row), row.next_due_at, row.unsent_since, row.after_id) for row in rows]


async def count_standing(connection: AsyncConnection, source: str) -> int:
    """Return how many requests are in force."""
    table = openadr2_report_request
    query = select(func.count()).where(table.c.source == source, table.c.done_at.is_(None))
    return int((await connection.execute(query)).scalar_one())


async def finish(connection: AsyncConnection, source: str, *, at: datetime) -> None:
    """Note which requests are done with: everything was sent and nothing more falls due."""
    table, values = openadr2_report_request, openadr2_report
    unsent = exists().where(
        values.c.source == table.c.source,
        values.c.report_request_id == table.c.report_request_id,
        values.c.sent_at.is_(None),
    )
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.done_at.is_(None), table.c.next_due_at.is_(None), ~unsent)
        .values(done_at=at)
    )


async def move(
    connection: AsyncConnection,
    source: str,
    request: WantedReport,
    *,
    next_due_at: datetime | None,
    after_id: int | None = None,
) -> None:
    """Note when a report is due next, and up to which value it has been told."""
    table = openadr2_report_request
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.report_request_id == request.report_request_id)
        .values(next_due_at=next_due_at, after_id=after_id)
    )


async def write_due(
    connection: AsyncConnection, source: str, due: StandingRequest, telemetry: Telemetry, *, at: datetime
) -> None:
    """Write down the values of a request that are due until `at`; repeating it changes nothing."""
    request = due.request
    next_due_at: datetime | None
    if request.name == HISTORY_USAGE:
        next_due_at = await _write_history(connection, source, request, telemetry)
    elif request.granularity_s <= 0:
        wrote = await _write(connection, source, request, Interval(at - SNAPSHOT, at), telemetry)
        next_due_at = None if wrote else at + SNAPSHOT
    else:
        next_due_at = await _write_ticks(connection, source, due, telemetry, at)
    await move(connection, source, request, next_due_at=next_due_at)


async def _write_ticks(
    connection: AsyncConnection, source: str, due: StandingRequest, telemetry: Telemetry, at: datetime
) -> datetime | None:
    request, step = due.request, timedelta(seconds=due.request.granularity_s)
    tick_at = max(due.next_due_at or at, floor_to(at, step) - MAX_BACKLOG * step)
    last_at = min(at, request.window.end_at) if request.window else at
    while tick_at <= last_at:
        interval = Interval(tick_at - step, tick_at)
        if request.name == TELEMETRY_STATUS:
            if tick_at + step > last_at:  # what the status was is known for now only
                await _write(connection, source, request, interval, telemetry)
        elif await event_runs(connection, source, interval):
            await _write(connection, source, request, interval, telemetry)
        tick_at += step
    over = request.window is not None and tick_at > request.window.end_at
    return None if over else tick_at


async def _write_history(
    connection: AsyncConnection, source: str, request: WantedReport, telemetry: Telemetry
) -> datetime | None:
    if request.window is None:
        return None
    for interval in request.window.steps(timedelta(seconds=request.granularity_s)):
        if await event_runs(connection, source, interval):
            await _write(connection, source, request, interval, telemetry)
    return None


async def _write(
    connection: AsyncConnection, source: str, request: WantedReport, interval: Interval, telemetry: Telemetry
) -> bool:
    """Write down the value of each point; False where telemetry can tell none."""
    wrote = False
    for point in request.points:
        value = await value_of(connection, telemetry, source, point, interval)
        if value is None:
            continue
        wrote = True
        is_status = isinstance(value, ResourceStatus)
        await connection.execute(
            insert(openadr2_report)
            .values(
                source=source,
                report_request_id=request.report_request_id,
                point_id=point,
                start_at=interval.start_at,
                end_at=interval.end_at,
                value=None if is_status else value,
                status=_status_json(value) if isinstance(value, ResourceStatus) else None,
            )
            .on_conflict_do_nothing()
        )
    return wrote


async def prune(connection: AsyncConnection, source: str, *, at: datetime) -> None:
    """Drop values the VTN took long ago and requests long done with, and of the latter all but the last ones."""
    values, table = openadr2_report, openadr2_report_request
    before = at - KEPT_AFTER_SENT
    await connection.execute(delete(values).where(values.c.source == source, values.c.sent_at < before))
    done = select(table.c.report_request_id).where(table.c.source == source, table.c.done_at.is_not(None))
    beyond = done.order_by(table.c.done_at.desc(), table.c.report_request_id).offset(MAX_DONE)
    await connection.execute(
        delete(table).where(
            table.c.source == source, or_(table.c.done_at < before, table.c.report_request_id.in_(beyond))
        )
    )


async def unsent(connection: AsyncConnection, source: str, request: WantedReport) -> list[UnsentValue]:
    """Return values not yet sent, oldest first, at most `BATCH`."""
    table = openadr2_report
    rows = await connection.execute(
        select(table)
        .where(
            table.c.source == source,
            table.c.report_request_id == request.report_request_id,
            table.c.sent_at.is_(None),
        )
        .order_by(table.c.start_at, table.c.point_id)
        .limit(BATCH)
    )
    return [UnsentValue(row.id, _reported(row)) for row in rows]


async def mark_sent(connection: AsyncConnection, source: str, values: Sequence[UnsentValue], *, at: datetime) -> None:
    """Note that the VTN took these values, and which requests are done with by that."""
    ids = [value.id for value in values]
    await connection.execute(update(openadr2_report).where(openadr2_report.c.id.in_(ids)).values(sent_at=at))
    await finish(connection, source, at=at)


def _first_due(request: WantedReport, at: datetime) -> datetime:
    if request.name in (HISTORY_USAGE, METADATA):
        return at
    begin_at = max(at, request.window.start_at) if request.window else at
    if request.granularity_s <= 0:
        return begin_at
    step = timedelta(seconds=request.granularity_s)
    return floor_to(begin_at, step) + step


def _reported(row: Row[Any]) -> ReportedValue:
    status = row.status
    return ReportedValue(
        r_id=row.point_id,
        start_at=row.start_at,
        duration=row.end_at - row.start_at,
        value=round(row.value, 3)
        if status is None
        else ResourceStatus(
            online=status["online"],
            overridden=status["overridden"],
            levels=tuple((name, float(level)) for name, level in status["levels"]),
        ),
    )


def _status_json(status: ResourceStatus) -> dict[str, object]:
    return {
        "online": status.online,
        "overridden": status.overridden,
        "levels": [[name, level] for name, level in status.levels],
    }


def _to_json(request: WantedReport) -> dict[str, object]:
    window = request.window
    return {
        "specifier_id": request.specifier_id,
        "name": request.name,
        "points": list(request.points),
        "window": [window.start_at.isoformat(), window.end_at.isoformat()] if window else None,
    }


def _from_json(row: Row[Any]) -> WantedReport:
    stored = row.request
    window = stored["window"]
    return WantedReport(
        report_request_id=row.report_request_id,
        specifier_id=stored["specifier_id"],
        name=stored["name"],
        points=tuple(stored["points"]),
        granularity_s=row.granularity_s,
        report_back_s=row.report_back_s,
        window=Interval(*(datetime.fromisoformat(at) for at in window)) if window else None,
    )
