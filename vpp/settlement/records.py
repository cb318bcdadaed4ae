"""Statement lines as rows, versioned; events and credits of a month read from measurement's tables.

Part of the settlement room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.settlement.lines import SiteCredit, SiteLine
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.settlement import (
    baseline,
    delivery,
    ledger_batch,
    ledger_transfer,
    site_delivery,
    statement_line,
)


@dataclass(frozen=True, slots=True)
class MonthKey:
    """Which month of which programme of which tenant; `month` is its first day."""

    tenant_id: str
    program: str
    month: date

    @property
    def prefix(self) -> str:
        """How the ledger keys of this month's settlements begin."""
        return f"settle:{self.tenant_id}:{self.program}:{self.month:%Y-%m}:v"


async def measured_events(connection: AsyncConnection, key: MonthKey, method: str, zone: ZoneInfo) -> list[UUID]:
    """Return the events that began in the month by the local clock and are measured, in order of time."""
    after = datetime(key.month.year, key.month.month, 1, tzinfo=UTC) - timedelta(days=1)
    start_at = func.min(delivery.c.start_at)
    query = (
        select(commitments.c.id, start_at.label("start_at"))
        .join(delivery, delivery.c.commitment_id == commitments.c.id)
        .where(
            commitments.c.tenant_id == key.tenant_id,
            commitments.c.program == key.program,
            delivery.c.method == method,
        )
        .group_by(commitments.c.id)
        .having((start_at >= after) & (start_at < after + timedelta(days=33)))
        .order_by(start_at, commitments.c.id)
    )
    rows = (await connection.execute(query)).all()
    return [row.id for row in rows if row.start_at.astimezone(zone).date().replace(day=1) == key.month]


async def credits_of(connection: AsyncConnection, commitment_id: UUID, method: str) -> list[SiteCredit]:
    """Return what each site was credited in an event, ordered by site, with the facts behind it."""
    facts = await _event_facts(connection, commitment_id, method)
    query = (
        select(site_delivery).where(site_delivery.c.commitment_id == commitment_id).order_by(site_delivery.c.site_id)
    )
    return [
        SiteCredit(
            commitment_id=commitment_id,
            site_id=row.site_id,
            metered_kwh=row.metered_kwh,
            credited_kwh=row.credited_kwh,
            facts=facts | {"site": row.detail},
        )
        for row in await connection.execute(query)
    ]


async def _event_facts(connection: AsyncConnection, commitment_id: UUID, method: str) -> dict[str, Any]:
    rows = await connection.execute(select(baseline).where(baseline.c.commitment_id == commitment_id))
    totals = await connection.execute(
        select(
            delivery.c.method,
            func.min(delivery.c.start_at).label("start_at"),
            func.max(delivery.c.end_at).label("end_at"),
            func.sum(delivery.c.committed_kwh).label("committed_kwh"),
            func.sum(delivery.c.baseline_kwh).label("baseline_kwh"),
            func.sum(delivery.c.metered_kwh).label("metered_kwh"),
            func.sum(delivery.c.delivered_kwh).label("delivered_kwh"),
        )
        .where(delivery.c.commitment_id == commitment_id)
        .group_by(delivery.c.method)
    )
    by_method = {row.method: row for row in totals}
    own = by_method[method]
    return {
        "start_at": own.start_at.isoformat(),
        "end_at": own.end_at.isoformat(),
        "measurement": method,
        "committed_kwh": str(own.committed_kwh),
        "methods": {
            row.method: {
                "days": row.days,
                "adjustment": _text(row.adjustment),
                "findings": row.findings,
                **{
                    name: _text(getattr(by_method[row.method], name))
                    for name in ("baseline_kwh", "metered_kwh", "delivered_kwh")
                },
            }
            for row in rows
        },
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


async def latest_version(connection: AsyncConnection, key: MonthKey) -> int:
    """Return the month's highest settled version; 0 where there is none."""
    query = select(func.max(statement_line.c.version)).where(*_of_month(key))
    return (await connection.execute(query)).scalar() or 0


async def lines_of(connection: AsyncConnection, key: MonthKey, version: int) -> Sequence[Row[Any]]:
    """Return the rows of one version, ordered by site and event."""
    query = (
        select(statement_line)
        .where(*_of_month(key), statement_line.c.version == version)
        .order_by(statement_line.c.site_id, statement_line.c.commitment_id)
    )
    return (await connection.execute(query)).all()


def row_of(key: MonthKey, line: SiteLine, shared: dict[str, Any]) -> dict[str, Any]:
    """Return a line as it is stored, without its version; `shared` holds the facts of the month."""
    credit = line.credit
    return {
        "tenant_id": key.tenant_id,
        "site_id": credit.site_id,
        "program": key.program,
        "month": key.month,
        "commitment_id": credit.commitment_id,
        "metered_kwh": credit.metered_kwh,
        "credited_kwh": credit.credited_kwh,
        "gross_cents": line.gross_cents,
        "owner_cents": line.owner_cents,
        "detail": credit.facts
        | shared
        | {"owner_id": line.terms.owner_id, "owner_share": str(line.terms.owner_share), "parts": list(line.parts)},
    }


async def add_version(connection: AsyncConnection, rows: Sequence[dict[str, Any]], version: int) -> None:
    """Store the lines of a new version."""
    await connection.execute(insert(statement_line), [row | {"version": version} for row in rows])


async def posted_so_far(connection: AsyncConnection, key: MonthKey) -> dict[tuple[str, str], int]:
    """Return what the month's settlements moved from receivable so far [cents], by (account, memo)."""
    query = (
        select(ledger_transfer)
        .join(ledger_batch, ledger_batch.c.id == ledger_transfer.c.batch_id)
        .where(ledger_batch.c.tenant_id == key.tenant_id, func.starts_with(ledger_batch.c.key, key.prefix))
    )
    posted: dict[tuple[str, str], int] = {}
    ours = f"{key.tenant_id}:receivable:{key.program}:"
    for row in await connection.execute(query):
        forward = row.debit_account.startswith(ours)
        account = row.credit_account if forward else row.debit_account
        at = (account, row.memo)
        posted[at] = posted.get(at, 0) + (row.amount_cents if forward else -row.amount_cents)
    return posted


def _of_month(key: MonthKey) -> tuple[Any, ...]:
    return (
        statement_line.c.tenant_id == key.tenant_id,
        statement_line.c.program == key.program,
        statement_line.c.month == key.month,
    )
