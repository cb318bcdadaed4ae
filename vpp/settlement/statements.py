"""A site's monthly statement: every figure an owner needs to compute their money again offline.

Part of the settlement room; shown by the portal as a page and a CSV. See
`docs/guides/read-a-statement.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, NotFound
from vpp.settlement.records import MonthKey, posted_so_far
from vpp.settlement.settle import site_memo
from vpp.store.tables.fleet import site as sites
from vpp.store.tables.settlement import statement_line


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredPart:
    """A stretch of the event at the site's sub-meter; None is not metered."""

    start_at: datetime
    end_at: datetime
    metered_kwh: Decimal | None
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPart:
    """How one line of the utility's pay became cents of this event at this site.

    `resource_cents` = quantity x price, rounded once. The site has `site_kwh / all_sites_kwh` of it,
    `site_cents`, and the event `event_kwh / site_kwh` of that, `event_cents`, both by largest remainder.
    """

    kind: str
    quantity: Decimal
    unit: str
    price: Decimal
    resource_cents: int
    site_kwh: Decimal
    all_sites_kwh: Decimal
    site_cents: int
    event_kwh: Decimal
    event_cents: int
    clause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One event at one site.

    `baseline_days`, `adjustment`, and the `resource_*` figures are of the resource's baseline, shown
    for comparison where the programme pays by sub-meter. `cover` is the share of the event, 0-1, for which
    this site's sub-meter was read. `findings` are sentences about the resource, with their method.
    """

    program: str
    program_title: str
    version: int
    commitment_id: UUID
    start_at: datetime
    end_at: datetime
    measurement: str
    baseline_method: str | None
    baseline_days: tuple[date, ...]
    adjustment: Decimal | None
    resource_baseline_kwh: Decimal | None
    resource_metered_kwh: Decimal | None
    resource_delivered_kwh: Decimal | None
    metered: tuple[MeteredPart, ...]
    cover: float
    metered_kwh: Decimal
    credited_kwh: Decimal
    performance_factor: Decimal | None
    parts: tuple[PayPart, ...]
    gross_cents: int
    owner_share: Decimal
    owner_cents: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A site's month. `ledger_cents` is what the ledger posted to the owner for it; it equals the lines."""

    tenant_id: str
    site_id: str
    site_name: str
    owner_id: str
    time_zone: str
    month: date
    currency: str
    lines: tuple[StatementLine, ...]
    gross_cents: int
    owner_cents: int
    ledger_cents: int


async def statement(connection: AsyncConnection, site_id: str, month: date) -> Statement:
    """Return a site's statement of a month, by the latest settled version of each programme.

    Raises:
        NotFound: no such site.
        Conflict: the ledger and the lines disagree, so nothing may be shown.
    """
    site = (await connection.execute(select(sites).where(sites.c.id == site_id))).one_or_none()
    if site is None:
        raise NotFound(f"no site {site_id!r}")
    first = month.replace(day=1)
    rows = await latest_rows(connection, (site_id,), first)
    lines = tuple(line_of(row) for row in rows)
    ledger_cents = 0
    for program in await _programs(connection, site.tenant_id, first):
        posted = await posted_so_far(connection, MonthKey(site.tenant_id, program, first))
        ledger_cents += sum(cents for (_, memo), cents in posted.items() if memo == site_memo(site_id))
    owner_cents = sum(line.owner_cents for line in lines)
    if owner_cents != ledger_cents:
        raise Conflict(
            f"statement of {site_id} {first:%Y-%m}: lines say {owner_cents}, the ledger {ledger_cents} cents"
        )
    return Statement(
        tenant_id=site.tenant_id,
        site_id=site_id,
        site_name=site.name,
        owner_id=site.owner_id,
        time_zone=site.time_zone,
        month=first,
        currency=rows[0].detail["currency"] if rows else "USD",
        lines=lines,
        gross_cents=sum(line.gross_cents for line in lines),
        owner_cents=owner_cents,
        ledger_cents=ledger_cents,
    )


async def latest_rows(
    connection: AsyncConnection, site_ids: Sequence[str], month: date | None = None
) -> Sequence[Row[Any]]:
    """Return rows of the sites in the latest version of each programme and month, in order of time."""
    same = statement_line.alias()
    newest = (
        select(func.max(same.c.version))
        .where(
            same.c.tenant_id == statement_line.c.tenant_id,
            same.c.program == statement_line.c.program,
            same.c.month == statement_line.c.month,
        )
        .scalar_subquery()
    )
    query = select(statement_line).where(statement_line.c.site_id.in_(site_ids), statement_line.c.version == newest)
    if month is not None:
        query = query.where(statement_line.c.month == month)
    rows = (await connection.execute(query)).all()
    return sorted(rows, key=lambda row: (row.detail["start_at"], row.program, row.site_id))


async def _programs(connection: AsyncConnection, tenant_id: str, month: date) -> Sequence[str]:
    query = (
        select(statement_line.c.program)
        .where(statement_line.c.tenant_id == tenant_id, statement_line.c.month == month)
        .distinct()
        .order_by(statement_line.c.program)
    )
    return (await connection.execute(query)).scalars().all()


def line_of(row: Row[Any]) -> StatementLine:
    """Return a stored line as a value."""
    detail = row.detail
    measurement = detail["measurement"]
    methods = detail["methods"]
    baseline_method = next((m for m in (measurement, *sorted(methods)) if m in methods and m != "submeter"), None)
    shown = methods.get(baseline_method, {})
    return StatementLine(
        program=row.program,
        program_title=detail["program_title"],
        version=row.version,
        commitment_id=row.commitment_id,
        start_at=datetime.fromisoformat(detail["start_at"]),
        end_at=datetime.fromisoformat(detail["end_at"]),
        measurement=measurement,
        baseline_method=baseline_method,
        baseline_days=tuple(date.fromisoformat(day) for day in shown.get("days", ())),
        adjustment=_decimal(shown.get("adjustment")),
        resource_baseline_kwh=_decimal(shown.get("baseline_kwh")),
        resource_metered_kwh=_decimal(shown.get("metered_kwh")),
        resource_delivered_kwh=_decimal(shown.get("delivered_kwh")),
        metered=tuple(_metered(part) for part in detail["site"]["intervals"]),
        cover=detail["site"]["cover"],
        metered_kwh=row.metered_kwh,
        credited_kwh=row.credited_kwh,
        performance_factor=_decimal(detail["performance_factor"]),
        parts=tuple(_part(part) for part in detail["parts"]),
        gross_cents=row.gross_cents,
        owner_share=Decimal(detail["owner_share"]),
        owner_cents=row.owner_cents,
        findings=tuple(
            f"{method}: {found['text']}" for method in sorted(methods) for found in methods[method]["findings"]
        ),
    )


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _metered(part: dict[str, Any]) -> MeteredPart:
    return MeteredPart(
        start_at=datetime.fromisoformat(part["start_at"]),
        end_at=datetime.fromisoformat(part["end_at"]),
        metered_kwh=_decimal(part["metered_kwh"]),
        estimated=part["estimated"],
    )


def _part(part: dict[str, Any]) -> PayPart:
    return PayPart(
        kind=part["kind"],
        quantity=Decimal(part["quantity"]),
        unit=part["unit"],
        price=Decimal(part["price"]),
        resource_cents=part["resource_cents"],
        site_kwh=Decimal(part["site_kwh"]),
        all_sites_kwh=Decimal(part["all_sites_kwh"]),
        site_cents=part["site_cents"],
        event_kwh=Decimal(part["event_kwh"]),
        event_cents=part["event_cents"],
        clause=part["clause"],
    )
