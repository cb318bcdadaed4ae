"""What utilities have told, with its meaning and what came of it. Called by the operator's pages of signals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.store.tables.commitments import commitment
from vpp.store.tables.signals import heard_event, heard_series


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One interval of a signal: from when to when (None: without end), its values and what they mean."""

    start_at: datetime
    end_at: datetime | None
    values: tuple[Any, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """One signal with what came of it; `said` holds the first of its `count` intervals."""

    type: str
    name: str
    unit: str | None
    said: tuple[Said, ...]
    count: int
    effect: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardRow:
    """An event as it last stood; `commitment_id` where it owes power."""

    source: str
    event_id: str
    comment: str
    program: str | None
    modification_number: int
    is_test: bool
    start_at: datetime
    over_at: datetime | None
    changed_at: datetime
    ended_at: datetime | None
    commitment_id: UUID | None
    signals: tuple[SignalRow, ...]

    @property
    def peer(self) -> tuple[str, str]:
        """The peer's name and its protocol, in words."""
        protocol, _, name = self.source.partition(":")
        return name, {"openadr2": "OpenADR 2.0b", "openadr3": "OpenADR 3"}.get(protocol, protocol)


async def list_heard(
    connection: AsyncConnection, *, tenant_id: str, limit: int, offset: int = 0
) -> tuple[list[HeardRow], int]:
    """Return events heard, the latest change first, and how many there are."""
    ours = heard_event.c.tenant_id == tenant_id
    query = select(heard_event).where(ours)
    order = (heard_event.c.changed_at.desc(), heard_event.c.source, heard_event.c.event_id)
    rows = (await connection.execute(query.order_by(*order).limit(limit).offset(offset))).all()
    total = (await connection.execute(select(func.count()).select_from(heard_event).where(ours))).scalar_one()
    return await _with_signals(connection, rows), int(total)


async def heard_of(connection: AsyncConnection, *, tenant_id: str, source: str, event_id: str) -> HeardRow | None:
    """Return one event as it was heard, None where it never was."""
    rows = await connection.execute(
        select(heard_event).where(
            heard_event.c.tenant_id == tenant_id, heard_event.c.source == source, heard_event.c.event_id == event_id
        )
    )
    found = await _with_signals(connection, rows.all())
    return found[0] if found else None


async def _with_signals(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[HeardRow]:
    keys = [(row.source, row.event_id) for row in rows]
    if not keys:
        return []
    series: dict[tuple[str, str], list[SignalRow]] = {}
    found = await connection.execute(
        select(heard_series)
        .where(tuple_(heard_series.c.source, heard_series.c.event_id).in_(keys))
        .order_by(heard_series.c.number)
    )
    for each in found:
        series.setdefault((each.source, each.event_id), []).append(_signal(each))
    owed = await connection.execute(
        select(commitment.c.source, commitment.c.external_id, commitment.c.id)
        .where(tuple_(commitment.c.source, commitment.c.external_id).in_(keys))
        .order_by(commitment.c.life)
    )
    ids = {(row.source, row.external_id): row.id for row in owed}
    return [
        HeardRow(
            source=row.source,
            event_id=row.event_id,
            comment=row.comment,
            program=row.program,
            modification_number=row.modification_number,
            is_test=row.is_test,
            start_at=row.start_at,
            over_at=row.over_at,
            changed_at=row.changed_at,
            ended_at=row.ended_at,
            commitment_id=ids.get((row.source, row.event_id)),
            signals=tuple(series.get((row.source, row.event_id), ())),
        )
        for row in rows
    ]


def _signal(row: Row[Any]) -> SignalRow:
    said = tuple(
        Said(
            start_at=datetime.fromisoformat(part["start_at"]),
            end_at=None if part["end_at"] is None else datetime.fromisoformat(part["end_at"]),
            values=tuple(part["values"]),
            words=part["words"],
        )
        for part in row.intervals
    )
    return SignalRow(
        type=row.type,
        name=row.name,
        unit=row.unit,
        said=said,
        count=row.interval_count,
        effect=row.effect,
        reason=row.reason,
    )
