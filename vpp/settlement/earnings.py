"""What the owner's page and the outcome of a run show of the money.

Part of the settlement room; called by the portal, the command line and the demo.
"""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotFound
from vpp.settlement.statements import StatementLine, latest_rows, line_of
from vpp.store.tables.fleet import owner as owners
from vpp.store.tables.fleet import site as sites
from vpp.store.tables.settlement import ledger_account, ledger_transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEarnings:
    """An owner's month over all their sites, by the latest settled versions."""

    owner_id: str
    month: date
    currency: str
    owner_cents: int
    credited_kwh: float
    events: int
    by_site: dict[str, int]


async def owner_earnings(connection: AsyncConnection, owner_id: str, month: date) -> OwnerEarnings:
    """Return what an owner earned in a month [cents], by site as well.

    Raises:
        NotFound: no such owner.
    """
    if (await connection.execute(select(owners.c.id).where(owners.c.id == owner_id))).first() is None:
        raise NotFound(f"no owner {owner_id!r}")
    site_ids = (
        (await connection.execute(select(sites.c.id).where(sites.c.owner_id == owner_id).order_by(sites.c.id)))
        .scalars()
        .all()
    )
    rows = await latest_rows(connection, site_ids, month.replace(day=1))
    by_site = dict.fromkeys(site_ids, 0)
    for row in rows:
        by_site[row.site_id] += row.owner_cents
    return OwnerEarnings(
        owner_id=owner_id,
        month=month.replace(day=1),
        currency=rows[0].detail["currency"] if rows else "USD",
        owner_cents=sum(by_site.values()),
        credited_kwh=float(sum(row.credited_kwh for row in rows)),
        events=len({row.commitment_id for row in rows}),
        by_site=by_site,
    )


async def last_receipt(connection: AsyncConnection, site_id: str) -> StatementLine | None:
    """Return the line of the site's latest settled event, or None where there was none."""
    rows = await latest_rows(connection, (site_id,))
    return line_of(rows[-1]) if rows else None


async def paid_cents(connection: AsyncConnection, tenant_id: str, *, owner_id: str | None = None) -> int:
    """Return what the ledger owes owners (or one owner) in all [cents]."""
    chosen = select(ledger_account.c.id).where(
        ledger_account.c.tenant_id == tenant_id, ledger_account.c.kind == "owner_payable"
    )
    if owner_id is not None:
        chosen = chosen.where(func.starts_with(ledger_account.c.id, f"{tenant_id}:owner_payable:{owner_id}:"))
    total = func.coalesce(func.sum(ledger_transfer.c.amount_cents), 0)
    credit = await connection.scalar(select(total).where(ledger_transfer.c.credit_account.in_(chosen)))
    debit = await connection.scalar(select(total).where(ledger_transfer.c.debit_account.in_(chosen)))
    return int(credit or 0) - int(debit or 0)


async def paid_by_site(connection: AsyncConnection, tenant_id: str, month: date) -> dict[str, int]:
    """Return each site's owner cents of a month, by the latest settled versions, ordered by site."""
    site_ids = (
        (await connection.execute(select(sites.c.id).where(sites.c.tenant_id == tenant_id).order_by(sites.c.id)))
        .scalars()
        .all()
    )
    paid = dict.fromkeys(site_ids, 0)
    for row in await latest_rows(connection, site_ids, month.replace(day=1)):
        paid[row.site_id] += row.owner_cents
    return paid
