"""The ledger: two-leg transfers of integer cents, in batches that are posted once and never changed.

Part of the settlement room. A transfer debits one account and credits another, so the books balance
by construction; corrections are new transfers the other way round. A batch has a key: posting the
same again does nothing, posting something else under it is refused. Batches of a tenant are chained
by hash, so that a change made behind our back shows. The database refuses UPDATE and DELETE.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.time import as_utc
from vpp.store.tables.settlement import ledger_account, ledger_batch, ledger_transfer

GENESIS = "0" * 64
"""What the first batch of a tenant points back to."""


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """An account; ids name tenant, kind, whose it is, and currency."""

    id: str
    kind: str
    currency: str


def receivable(tenant_id: str, program: str, currency: str) -> Account:
    """What a programme's utility owes us."""
    return Account(f"{tenant_id}:receivable:{program}:{currency}", "receivable", currency)


def revenue(tenant_id: str, currency: str) -> Account:
    """What stays with the aggregator."""
    return Account(f"{tenant_id}:revenue:{currency}", "revenue", currency)


def owner_payable(tenant_id: str, owner_id: str, currency: str) -> Account:
    """What we owe a site owner."""
    return Account(f"{tenant_id}:owner_payable:{owner_id}:{currency}", "owner_payable", currency)


def unallocated(tenant_id: str, currency: str) -> Account:
    """Pay that no site was credited for, kept apart until somebody decides."""
    return Account(f"{tenant_id}:adjustment:unallocated:{currency}", "adjustment", currency)


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_cents`, above zero, from the credited account to the debited one."""

    debit: Account
    credit: Account
    amount_cents: int
    memo: str

    def __post_init__(self) -> None:
        if self.amount_cents <= 0:
            raise InvalidRequest("amount_cents", self.amount_cents, "an amount above zero; turn the legs round instead")
        if self.debit.id == self.credit.id:
            raise InvalidRequest("credit", self.credit.id, "another account than the debited one")
        if self.debit.currency != self.credit.currency:
            raise InvalidRequest("currency", self.credit.currency, f"{self.debit.currency}, as on the other leg")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of posting. `posted` is false where the same batch was there already."""

    posted: bool
    batch_id: int


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """How many batches were checked, and which do not match their hash or their predecessor's."""

    batches: int
    broken: tuple[int, ...]


async def lock_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    """Hold a tenant's ledger until the transaction ends; taking it again in one transaction is free."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"ledger {tenant_id}", 0))))


async def post_batch(
    connection: AsyncConnection, *, tenant_id: str, key: str, transfers: Sequence[Transfer], now: datetime
) -> BatchResult:
    """Post transfers together, once.

    Raises:
        Conflict: the key was used for other transfers, or an account is another tenant's or kind's.
        InvalidRequest: there is no transfer.
    """
    if not transfers:
        raise InvalidRequest("transfers", "none", "at least one transfer")
    await lock_tenant(connection, tenant_id)
    fingerprint = _fingerprint([(t.debit.id, t.credit.id, t.amount_cents, t.memo) for t in transfers])
    known = (
        await connection.execute(
            select(ledger_batch.c.id, ledger_batch.c.fingerprint).where(
                ledger_batch.c.tenant_id == tenant_id, ledger_batch.c.key == key
            )
        )
    ).one_or_none()
    if known is not None:
        if known.fingerprint != fingerprint:
            raise Conflict(f"batch {key!r} was posted with other transfers")
        return BatchResult(False, known.id)
    await _ensure_accounts(connection, tenant_id, {a for t in transfers for a in (t.debit, t.credit)})
    last = select(ledger_batch.c.hash).where(ledger_batch.c.tenant_id == tenant_id).order_by(ledger_batch.c.id.desc())
    previous_hash = (await connection.execute(last.limit(1))).scalar() or GENESIS
    batch_id: int = (
        await connection.execute(
            insert(ledger_batch)
            .values(
                tenant_id=tenant_id,
                key=key,
                fingerprint=fingerprint,
                previous_hash=previous_hash,
                hash=_chain_hash(tenant_id, key, fingerprint, previous_hash, now),
                posted_at=now,
            )
            .returning(ledger_batch.c.id)
        )
    ).scalar_one()
    await connection.execute(
        insert(ledger_transfer),
        [
            {
                "batch_id": batch_id,
                "seq": seq,
                "debit_account": transfer.debit.id,
                "credit_account": transfer.credit.id,
                "amount_cents": transfer.amount_cents,
                "memo": transfer.memo,
            }
            for seq, transfer in enumerate(transfers, start=1)
        ],
    )
    return BatchResult(True, batch_id)


async def trial_balance(connection: AsyncConnection, tenant_id: str) -> dict[str, int]:
    """Return each account's debits less credits [cents], by account id."""
    debit = select(ledger_transfer.c.debit_account.label("id"), ledger_transfer.c.amount_cents.label("cents"))
    credit = select(ledger_transfer.c.credit_account, -ledger_transfer.c.amount_cents)
    legs = debit.union_all(credit).subquery()
    query = (
        select(ledger_account.c.id, func.coalesce(func.sum(legs.c.cents), 0))
        .select_from(ledger_account.outerjoin(legs, legs.c.id == ledger_account.c.id))
        .where(ledger_account.c.tenant_id == tenant_id)
        .group_by(ledger_account.c.id)
        .order_by(ledger_account.c.id)
    )
    return {account_id: int(cents) for account_id, cents in await connection.execute(query)}


async def ledger_sum(connection: AsyncConnection, tenant_id: str) -> int:
    """Return the sum of the trial balance [cents]; anything but 0 is a defect."""
    return sum((await trial_balance(connection, tenant_id)).values())


async def verify_chain(connection: AsyncConnection, tenant_id: str) -> ChainCheck:
    """Recompute every fingerprint and hash of a tenant from what is stored."""
    rows = (
        await connection.execute(
            select(
                ledger_batch,
                ledger_transfer.c.debit_account,
                ledger_transfer.c.credit_account,
                ledger_transfer.c.amount_cents,
                ledger_transfer.c.memo,
            )
            .select_from(ledger_batch.outerjoin(ledger_transfer, ledger_transfer.c.batch_id == ledger_batch.c.id))
            .where(ledger_batch.c.tenant_id == tenant_id)
            .order_by(ledger_batch.c.id, ledger_transfer.c.seq)
        )
    ).all()
    legs: dict[int, list[tuple[str, str, int, str]]] = {}
    for row in rows:
        legs.setdefault(row.id, []).append((row.debit_account, row.credit_account, row.amount_cents, row.memo))
    broken = []
    previous_hash = GENESIS
    for row in {row.id: row for row in rows}.values():
        fingerprint = _fingerprint(legs[row.id])
        expected = _chain_hash(tenant_id, row.key, fingerprint, previous_hash, row.posted_at)
        if (row.fingerprint, row.previous_hash, row.hash) != (fingerprint, previous_hash, expected):
            broken.append(row.id)
        previous_hash = row.hash
    return ChainCheck(len(legs), tuple(broken))


async def _ensure_accounts(connection: AsyncConnection, tenant_id: str, accounts: set[Account]) -> None:
    wanted = [{"id": a.id, "tenant_id": tenant_id, "kind": a.kind, "currency": a.currency} for a in sorted(accounts)]
    await connection.execute(upsert(ledger_account).on_conflict_do_nothing(), wanted)
    found = await connection.execute(select(ledger_account).where(ledger_account.c.id.in_([a.id for a in accounts])))
    for row in found:
        if row.tenant_id != tenant_id or Account(row.id, row.kind, row.currency) not in accounts:
            raise Conflict(f"ledger account {row.id!r} exists with another tenant, kind or currency")


def _fingerprint(legs: Sequence[tuple[str, str, int, str]]) -> str:
    return hashlib.sha256(json.dumps(legs, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()


def _chain_hash(tenant_id: str, key: str, fingerprint: str, previous_hash: str, posted_at: datetime) -> str:
    told = [tenant_id, key, fingerprint, previous_hash, as_utc(posted_at).isoformat()]
    return hashlib.sha256(json.dumps(told, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()
