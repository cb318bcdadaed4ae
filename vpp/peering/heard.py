"""Room peering: what VTNs above us have told, with its meaning, kept; and what of it holds at a time.

Written by the gateway (`vpp/gateway/hearing.py`) for both protocols, read by dispatch, which honours limits, and by
the portal, which shows all of it.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Table, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.fleet_signal import Direction, Effect, FleetLimit
from vpp.store.tables.signals import (
    fleet_limit,
    grid_alert,
    heard_event,
    heard_series,
    program_price,
    wanted_charge,
)

MOST_SHOWN = 100
"""How many intervals of a series are kept for people to look at; what holds is kept for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardSeries:
    """One signal of an event and what came of it; `intervals` are JSON-able: start, end, values, words."""

    type: str
    name: str
    unit: str | None
    intervals: tuple[dict[str, Any], ...]
    effect: Effect
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardEvent:
    """An event of a VTN above us as it stands; `program` is ours, None where it is none of ours."""

    source: str
    event_id: str
    tenant_id: str
    program: str | None
    modification_number: int
    start_at: datetime
    over_at: datetime | None
    series: tuple[HeardSeries, ...]
    is_test: bool = False
    comment: str = ""
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPrice:
    """A price a utility told for a programme."""

    program: str
    kind: str
    amount: Decimal
    unit: str | None
    currency: str | None
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCharge:
    """A charge wanted from an instant on: a share at one site or each, or kWh at one site or of all together."""

    start_at: datetime
    end_at: datetime | None
    site_id: str | None = None
    share: float | None = None
    energy_kwh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridAlert:
    """An alert in the utility's words."""

    kind: str
    text: str
    start_at: datetime
    end_at: datetime | None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What of an event holds for a time."""

    limits: tuple[FleetLimit, ...] = ()
    prices: tuple[ProgramPrice, ...] = ()
    charges: tuple[WantedCharge, ...] = ()
    alerts: tuple[GridAlert, ...] = ()


_HELD = (fleet_limit, program_price, wanted_charge, grid_alert)


async def keep_heard(connection: AsyncConnection, event: HeardEvent, holding: Holding, *, at: datetime) -> bool:
    """Keep an event and what holds of it, in place of what was kept of it before; False if nothing has changed."""
    body = {"event": event, "holding": holding}
    digest = hashlib.sha256(json.dumps(body, default=_json, sort_keys=True).encode()).hexdigest()
    key = (heard_event.c.source == event.source) & (heard_event.c.event_id == event.event_id)
    known = (await connection.execute(select(heard_event.c.digest, heard_event.c.ended_at).where(key))).one_or_none()
    if known is not None and known.digest == digest and (known.ended_at is not None) == event.cancelled:
        return False
    values: dict[str, Any] = {
        "tenant_id": event.tenant_id,
        "program": event.program,
        "modification_number": event.modification_number,
        "is_test": event.is_test,
        "comment": event.comment,
        "start_at": event.start_at,
        "over_at": event.over_at,
        "digest": digest,
        "changed_at": at,
        "ended_at": at if event.cancelled else None,
    }
    new = upsert(heard_event).values(source=event.source, event_id=event.event_id, heard_at=at, **values)
    await connection.execute(new.on_conflict_do_update(index_elements=["source", "event_id"], set_=values))
    if known is not None:
        for table in (heard_series, *_HELD):
            await connection.execute(
                delete(table).where(table.c.source == event.source, table.c.event_id == event.event_id)
            )
    await _insert_series(connection, event)
    await _insert_holding(connection, event, holding)
    return True


async def end_heard(connection: AsyncConnection, source: str, event_ids: Collection[str], *, at: datetime) -> int:
    """Withdraw events: nothing of them holds any more; returns how many there were."""
    ended = await connection.execute(
        update(heard_event)
        .where(heard_event.c.source == source, heard_event.c.event_id.in_(event_ids), heard_event.c.ended_at.is_(None))
        .values(ended_at=at, changed_at=at)
        .returning(heard_event.c.event_id)
    )
    gone = [row.event_id for row in ended]
    if gone:
        for table in _HELD:
            await connection.execute(delete(table).where(table.c.source == source, table.c.event_id.in_(gone)))
        await connection.execute(
            update(heard_series)
            .where(heard_series.c.source == source, heard_series.c.event_id.in_(gone))
            .values(effect=Effect.ENDED.value, reason="withdrawn by the utility")
        )
    return len(gone)


async def open_heard(connection: AsyncConnection, source: str, *, after: datetime) -> set[str]:
    """Return the ids of a source's events that are neither withdrawn nor over by `after`."""
    rows = await connection.execute(
        select(heard_event.c.event_id)
        .where(heard_event.c.source == source, heard_event.c.ended_at.is_(None))
        .where(or_(heard_event.c.over_at.is_(None), heard_event.c.over_at > after))
    )
    return {row.event_id for row in rows}


async def prune_heard(connection: AsyncConnection, source: str, *, before: datetime) -> None:
    """Forget events of a source that ended or were over by then."""
    await connection.execute(
        delete(heard_event).where(
            heard_event.c.source == source, func.coalesce(heard_event.c.ended_at, heard_event.c.over_at) < before
        )
    )


async def limits_between(
    connection: AsyncConnection, *, tenant_id: str, start_at: datetime, end_at: datetime
) -> list[FleetLimit]:
    """Return the capacity limits that hold at any moment of a stretch of time."""
    rows = await connection.execute(
        select(fleet_limit)
        .where(_overlapping(fleet_limit, tenant_id, start_at, end_at))
        .order_by(fleet_limit.c.start_at, fleet_limit.c.id)
    )
    return [
        FleetLimit(
            source=row.source,
            event_id=row.event_id,
            direction=Direction(row.direction),
            limit_kw=row.limit_kw,
            start_at=row.start_at,
            end_at=row.end_at,
            site_id=row.site_id,
        )
        for row in rows
    ]


async def alerts_at(connection: AsyncConnection, *, tenant_id: str, at: datetime, limit: int = 20) -> list[GridAlert]:
    """Return the alerts in force, the latest first."""
    rows = await connection.execute(
        select(grid_alert)
        .where(grid_alert.c.tenant_id == tenant_id, grid_alert.c.start_at <= at)
        .where(or_(grid_alert.c.end_at.is_(None), grid_alert.c.end_at > at))
        .order_by(grid_alert.c.start_at.desc(), grid_alert.c.id)
        .limit(limit)
    )
    return [
        GridAlert(kind=row.kind, text=row.text, start_at=row.start_at, end_at=row.end_at, source=row.source)
        for row in rows
    ]


async def prices_between(
    connection: AsyncConnection, *, tenant_id: str, start_at: datetime, end_at: datetime, limit: int = 200
) -> list[ProgramPrice]:
    """Return the prices told for a stretch of time, by programme and start."""
    rows = await connection.execute(
        select(program_price)
        .where(_overlapping(program_price, tenant_id, start_at, end_at))
        .order_by(program_price.c.program, program_price.c.kind, program_price.c.start_at, program_price.c.id)
        .limit(limit)
    )
    return [
        ProgramPrice(
            program=row.program,
            kind=row.kind,
            amount=row.amount,
            unit=row.unit,
            currency=row.currency,
            start_at=row.start_at,
            end_at=row.end_at,
        )
        for row in rows
    ]


async def charges_between(
    connection: AsyncConnection, *, tenant_id: str, start_at: datetime, end_at: datetime, limit: int = 200
) -> list[WantedCharge]:
    """Return the charges wanted in a stretch of time, by start."""
    rows = await connection.execute(
        select(wanted_charge)
        .where(_overlapping(wanted_charge, tenant_id, start_at, end_at))
        .order_by(wanted_charge.c.start_at, wanted_charge.c.id)
        .limit(limit)
    )
    return [
        WantedCharge(
            start_at=row.start_at, end_at=row.end_at, site_id=row.site_id, share=row.share, energy_kwh=row.energy_kwh
        )
        for row in rows
    ]


def _overlapping(table: Table, tenant_id: str, start_at: datetime, end_at: datetime) -> Any:
    return (
        (table.c.tenant_id == tenant_id)
        & (table.c.start_at < end_at)
        & or_(table.c.end_at.is_(None), table.c.end_at > start_at)
    )


async def _insert_series(connection: AsyncConnection, event: HeardEvent) -> None:
    rows = [
        {
            "source": event.source,
            "event_id": event.event_id,
            "number": number,
            "type": each.type,
            "name": each.name,
            "unit": each.unit,
            "intervals": list(each.intervals[:MOST_SHOWN]),
            "interval_count": len(each.intervals),
            "effect": each.effect.value,
            "reason": each.reason,
        }
        for number, each in enumerate(event.series)
    ]
    if rows:
        await connection.execute(insert(heard_series), rows)


async def _insert_holding(connection: AsyncConnection, event: HeardEvent, holding: Holding) -> None:
    common = {"source": event.source, "event_id": event.event_id, "tenant_id": event.tenant_id}
    wanted: tuple[tuple[Table, Sequence[object], tuple[str, ...]], ...] = (
        (fleet_limit, holding.limits, ("site_id", "limit_kw")),
        (program_price, holding.prices, ("program", "kind", "amount", "unit", "currency")),
        (wanted_charge, holding.charges, ("site_id", "share", "energy_kwh")),
        (grid_alert, holding.alerts, ("kind", "text")),
    )
    for table, things, names in wanted:
        rows = [
            common | {name: getattr(each, name) for name in (*names, "start_at", "end_at")}
            | ({"direction": each.direction.value} if isinstance(each, FleetLimit) else {})
            for each in things
        ]  # fmt: skip
        if rows:
            await connection.execute(insert(table), rows)


def _json(value: object) -> object:
    if isinstance(value, datetime | Decimal):
        return str(value)
    fields = getattr(value, "__dataclass_fields__", None)
    return {name: getattr(value, name) for name in fields} if fields else str(value)
