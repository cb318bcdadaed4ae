"""Settles a month of a programme: target, less what is posted, gives what to post now.

Called by the lifecycle after each measured event, by the command line, and again after a correction
of metering. Settling an unchanged month does nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict
from vpp.domain.settlement import MonthlyPay, ProgramTerms
from vpp.domain.site import Site
from vpp.enrolment import load_sites, program_terms
from vpp.measurement import load_delivery, time_zone_of
from vpp.ports import MarketProgram
from vpp.settlement import ledger, records
from vpp.settlement.ledger import Account, Transfer
from vpp.settlement.lines import Allocation, SiteTerms, allocate
from vpp.settlement.records import MonthKey

REVENUE_MEMO = "aggregator"
UNALLOCATED_MEMO = "not allocated"


def site_memo(site_id: str) -> str:
    """How a transfer for a site says so."""
    return f"site {site_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A month as settled now.

    Attributes:
        version: the version in force; 0 where nothing was measured yet.
        changed: this call made a new version.
        batch_id: the ledger batch this call posted, if any cents moved.
        delta_cents: what this call added to what the utility owes; negative takes back.
    """

    program: str
    month: date
    version: int
    changed: bool
    batch_id: int | None
    gross_cents: int
    owner_cents: int
    unallocated_cents: int
    delta_cents: int
    pay: MonthlyPay


async def settle_month(
    connection: AsyncConnection, *, tenant_id: str, program: MarketProgram, month: date, now: datetime
) -> Settlement:
    """Bring statements and ledger of a month to what its measured events say.

    Writes a new version of the statement lines only where something changed, and posts only the
    difference in cents, account by account, under the key
    `settle:<tenant>:<program>:<yyyy-mm>:v<version>`. An owner's share, once settled for an event,
    stays as it was for that event.

    Args:
        month: any day of it, by the programme's local clock.

    Raises:
        NotReady: a credited site has no owner's share.
        Conflict: the month was settled and its events have vanished.
    """
    await ledger.lock_tenant(connection, tenant_id)
    key = MonthKey(tenant_id, program.name, month.replace(day=1))
    terms = await program_terms(connection, tenant_id=tenant_id, program=program.name)
    sites = await load_sites(connection, tenant_id=tenant_id, program=program.name)
    version = await records.latest_version(connection, key)
    settled = await records.lines_of(connection, key, version)
    pay, allocation = await _target(connection, key, program, terms, sites, settled)
    shared = _shared_facts(program, pay, terms)
    rows = sorted(
        (records.row_of(key, line, shared) for line in allocation.lines),
        key=lambda row: (row["site_id"], row["commitment_id"]),
    )
    changed = _as_told(rows) != _as_told([dict(row._mapping) for row in settled])
    if settled and not rows:
        raise Conflict(f"{key.program} {key.month:%Y-%m} was settled, but none of its events is measured any more")
    if changed:
        version += 1
        await records.add_version(connection, rows, version)
    transfers = _transfers(key, allocation, terms.currency, await records.posted_so_far(connection, key))
    batch_id = None
    if transfers:
        posted = await ledger.post_batch(
            connection, tenant_id=tenant_id, key=f"{key.prefix}{version}", transfers=transfers, now=now
        )
        batch_id = posted.batch_id
    return Settlement(
        program=program.name,
        month=key.month,
        version=version,
        changed=changed,
        batch_id=batch_id,
        gross_cents=pay.total_cents,
        owner_cents=sum(line.owner_cents for line in allocation.lines),
        unallocated_cents=allocation.unallocated_cents,
        delta_cents=sum(t.amount_cents if t.debit.kind == "receivable" else -t.amount_cents for t in transfers),
        pay=pay,
    )


async def _target(
    connection: AsyncConnection,
    key: MonthKey,
    program: MarketProgram,
    terms: ProgramTerms,
    sites: Sequence[Site],
    settled: Sequence[Any],
) -> tuple[MonthlyPay, Allocation]:
    """Return the month's pay and who gets it, from measured events alone."""
    commitment_ids = (
        await records.measured_events(connection, key, program.measurement, time_zone_of(terms, sites)) if sites else []
    )
    events = [await load_delivery(connection, one, program.measurement) for one in commitment_ids]
    credits_ = [
        credit for one in commitment_ids for credit in await records.credits_of(connection, one, program.measurement)
    ]
    pay = program.monthly_pay(key.month, events, terms)
    return pay, allocate(pay, credits_, _site_terms(sites, key.program), _kept_terms(settled))


def _site_terms(sites: Sequence[Site], program: str) -> dict[str, SiteTerms]:
    return {
        site.id: SiteTerms(site.owner_id, part.owner_share)
        for site in sites
        for part in site.programs
        if part.program == program
    }


def _kept_terms(settled: Sequence[Any]) -> dict[tuple[str, Any], SiteTerms]:
    return {
        (row.site_id, row.commitment_id): SiteTerms(row.detail["owner_id"], Decimal(row.detail["owner_share"]))
        for row in settled
    }


def _shared_facts(program: MarketProgram, pay: MonthlyPay, terms: ProgramTerms) -> dict[str, Any]:
    return {
        "program_title": program.title,
        "currency": pay.currency,
        "nominated_kw": str(terms.nominated_kw),
        "performance_factor": None if pay.performance_factor is None else str(pay.performance_factor),
        "month_cents": pay.total_cents,
    }


def _as_told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "version"} for row in rows]


def _transfers(
    key: MonthKey, allocation: Allocation, currency: str, posted: Mapping[tuple[str, str], int]
) -> list[Transfer]:
    """Return what moves the ledger from what is posted to the target, in a fixed order."""
    target: dict[tuple[Account, str], int] = {}

    def owe(account: Account, memo: str, cents: int) -> None:
        target[(account, memo)] = target.get((account, memo), 0) + cents

    for line in allocation.lines:
        account = ledger.owner_payable(key.tenant_id, line.terms.owner_id, currency)
        owe(account, site_memo(line.credit.site_id), line.owner_cents)
        owe(ledger.revenue(key.tenant_id, currency), REVENUE_MEMO, line.gross_cents - line.owner_cents)
    owe(ledger.unallocated(key.tenant_id, currency), UNALLOCATED_MEMO, allocation.unallocated_cents)
    accounts = {account.id: account for account, _ in target}
    for account_id, _ in posted:
        kind = account_id.removeprefix(f"{key.tenant_id}:").split(":", 1)[0]
        accounts.setdefault(account_id, Account(account_id, kind, currency))
    wanted = {(account.id, memo): cents for (account, memo), cents in target.items()}
    owed_by = ledger.receivable(key.tenant_id, key.program, currency)
    transfers = []
    for account_id, memo in sorted({*wanted, *posted}):
        delta_cents = wanted.get((account_id, memo), 0) - posted.get((account_id, memo), 0)
        if delta_cents > 0:
            transfers.append(Transfer(owed_by, accounts[account_id], delta_cents, memo))
        elif delta_cents < 0:
            transfers.append(Transfer(accounts[account_id], owed_by, -delta_cents, memo))
    return transfers
