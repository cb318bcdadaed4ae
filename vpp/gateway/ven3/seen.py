"""Room gateway, OpenADR 3 VEN: events as a VTN told them, in SQL, with our count of their changes.

Called by `intake` and `loop`. OpenADR 3 numbers no versions. We count: 0 when an event is first seen, one
more whenever what it says has changed, or it is there again. The count is stored with what it counts, so it
never goes back.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.grid_event import GridEvent
from vpp.domain.ven3 import EventSeen, ReportIntervals, ReportWanted
from vpp.peering import event_from_json, event_to_json
from vpp.store.tables.openadr3_ven import openadr3_event_seen as table
from vpp.store.tables.openadr3_ven import openadr3_report, openadr3_report_plan

NEW, IN, OUT, REFUSED, GONE = "new", "in", "out", "refused", "gone"
BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event as it was last told.

    Attributes:
        outcome: `new` until this version has reached the commitments, then `in`, `out` or `refused`; `gone`
            once the VTN no longer has it.
        event: None where the body cannot be read as an event.
        missed: how many full lists have left it out, one after the other.
    """

    event_id: str
    program_id: str
    program: str | None
    modification_number: int
    modified_at: datetime | None
    digest: str
    outcome: str
    reason: str
    first_seen_at: datetime
    missed: int
    over_at: datetime | None
    event: GridEvent | None
    reports: tuple[ReportWanted, ...]

    @property
    def is_gone(self) -> bool:
        """Whether the VTN has deleted it: what it states again then is a new version."""
        return self.outcome == GONE


async def find_seen(
    connection: AsyncConnection, source: str, event_id: str, *, for_update: bool = False
) -> Seen | None:
    """Return what we hold of an event, None where it was never told."""
    query = select(table).where(table.c.source == source, table.c.event_id == event_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    return _seen(row) if row else None


async def unchanged(connection: AsyncConnection, source: str, digests: Mapping[str, str]) -> set[str]:
    """Return which of these events, given by id with their digests, are held as they are and taken already."""
    rows = await connection.execute(
        select(table.c.event_id, table.c.digest)
        .where(table.c.source == source, table.c.event_id.in_(list(digests)), table.c.missed == 0)
        .where(table.c.outcome.not_in([NEW, GONE]))
    )
    return {row.event_id for row in rows if digests[row.event_id] == row.digest}


async def prune(connection: AsyncConnection, source: str, *, before: datetime) -> None:
    """Forget events that were gone or over by then, with their reports and plans, and reports as old of others."""
    old = select(table.c.event_id).where(
        table.c.source == source, func.coalesce(table.c.gone_at, table.c.over_at) < before, table.c.changed_at < before
    )
    for each in (openadr3_report, openadr3_report_plan, table):
        await connection.execute(delete(each).where(each.c.source == source, each.c.event_id.in_(old)))
    of_old = delete(openadr3_report).where(openadr3_report.c.source == source, openadr3_report.c.made_at < before)
    await connection.execute(of_old)


async def open_events(connection: AsyncConnection, source: str, *, after: datetime) -> dict[str, Seen]:
    """Return by id the events that are not gone and not over by `after`, at most `BATCH`."""
    rows = await connection.execute(_open(select(table), source, after))
    return {row.event_id: _seen(row) for row in rows}


async def open_ids(connection: AsyncConnection, source: str, *, after: datetime) -> list[str]:
    """Return their ids alone, those first heard of first."""
    return list((await connection.execute(_open(select(table.c.event_id), source, after))).scalars())


def _open(query: Select[Any], source: str, after: datetime) -> Select[Any]:
    return (
        query.where(table.c.source == source, table.c.gone_at.is_(None))
        .where(table.c.over_at.is_(None) | (table.c.over_at > after))
        .order_by(table.c.first_seen_at, table.c.event_id)
        .limit(BATCH)
    )


async def save_version(
    connection: AsyncConnection,
    source: str,
    told: EventSeen,
    *,
    number: int,
    digest: str,
    program: str | None,
    event: GridEvent | None,
    at: datetime,
) -> None:
    """Keep a version as `new`, in place of the one before."""
    values: dict[str, Any] = {
        "program_id": told.program_id,
        "program": program,
        "modification_number": number,
        "modified_at": told.modified_at,
        "digest": digest,
        "body": dict(told.body),
        "event": None if event is None else event_to_json(event),
        "reports": [_report_to_json(wanted) for wanted in told.reports],
        "outcome": NEW,
        "reason": "",
        "changed_at": at,
        "missed": 0,
        "gone_at": None,
        "over_at": None if event is None else event.end_at,
        "closed_at": None,
    }
    statement = insert(table).values(source=source, event_id=told.event_id, first_seen_at=at, asked=0, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["source", "event_id"], set_=values))


async def save_outcome(
    connection: AsyncConnection, source: str, event_id: str, *, number: int, outcome: str, reason: str
) -> None:
    """Note what came of a version, unless a later one is there by now."""
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.event_id == event_id, table.c.modification_number == number)
        .values(outcome=outcome, reason=reason[:500])
    )


async def note_trouble(connection: AsyncConnection, source: str, event_id: str, *, why: str) -> None:
    """Say why a version has not reached the commitments yet; the next round tries again."""
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.event_id == event_id, table.c.outcome == NEW)
        .values(reason=why[:500])
    )


async def note_listed(connection: AsyncConnection, source: str, event_id: str) -> None:
    """The event was told again, unchanged."""
    await connection.execute(
        update(table).where(table.c.source == source, table.c.event_id == event_id, table.c.missed > 0).values(missed=0)
    )


async def ended(connection: AsyncConnection, source: str, *, by: datetime) -> dict[str, str]:
    """Return the outcomes by id of events over by then whose last version may be outstanding, at most `BATCH`.

    Those asked for least often come first, so that none that leads to nothing holds up the others.
    """
    rows = await connection.execute(
        select(table.c.event_id, table.c.outcome)
        .where(table.c.source == source, table.c.closed_at.is_(None), table.c.over_at <= by)
        .order_by(table.c.asked, table.c.over_at, table.c.event_id)
        .limit(BATCH)
    )
    return {row.event_id: row.outcome for row in rows}


async def close(
    connection: AsyncConnection, source: str, event_ids: Collection[str], *, by: datetime, at: datetime
) -> None:
    """The last version of these events was heard. One that is not over by then, for it has changed, stays open."""
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.event_id.in_(event_ids))
        .where(table.c.closed_at.is_(None), table.c.over_at <= by)
        .values(closed_at=at)
    )


async def note_asked(connection: AsyncConnection, source: str, event_id: str) -> int:
    """An event that is over was asked for in vain; returns how often so far."""
    asked: int = (
        await connection.execute(
            update(table)
            .where(table.c.source == source, table.c.event_id == event_id)
            .values(asked=table.c.asked + 1)
            .returning(table.c.asked)
        )
    ).scalar_one()
    return asked


async def note_missed(connection: AsyncConnection, source: str, event_id: str) -> int:
    """One more full list has left the event out; returns how many have."""
    missed: int = (
        await connection.execute(
            update(table)
            .where(table.c.source == source, table.c.event_id == event_id)
            .values(missed=table.c.missed + 1)
            .returning(table.c.missed)
        )
    ).scalar_one()
    return missed


async def note_gone(connection: AsyncConnection, source: str, event_id: str, *, at: datetime, reason: str) -> None:
    """The VTN no longer has the event."""
    await connection.execute(
        update(table)
        .where(table.c.source == source, table.c.event_id == event_id)
        .values(outcome=GONE, reason=reason[:500], gone_at=at, closed_at=at)
    )


def _seen(row: Row[Any]) -> Seen:
    return Seen(
        event_id=row.event_id,
        program_id=row.program_id,
        program=row.program,
        modification_number=row.modification_number,
        modified_at=row.modified_at,
        digest=row.digest,
        outcome=row.outcome,
        reason=row.reason,
        first_seen_at=row.first_seen_at,
        missed=row.missed,
        over_at=row.over_at,
        event=None if row.event is None else event_from_json(row.event),
        reports=tuple(_report_from_json(each) for each in row.reports),
    )


def _report_to_json(wanted: ReportWanted) -> dict[str, Any]:
    return {
        "payload_type": wanted.payload_type,
        "reading_type": wanted.reading_type,
        "units": wanted.units,
        "aggregate": wanted.aggregate,
        "start_interval": wanted.start_interval,
        "interval_count": wanted.interval_count,
        "historical": wanted.historical,
        "frequency": wanted.frequency,
        "repeat": wanted.repeat,
        "intervals": wanted.intervals.value,
        "targets": list(wanted.targets),
    }


def _report_from_json(stored: dict[str, Any]) -> ReportWanted:
    said = {"intervals": ReportIntervals(stored["intervals"]), "targets": tuple(stored.get("targets", ()))}
    return ReportWanted(**(stored | said))
