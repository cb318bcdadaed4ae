"""Delivery as measured, pay as computed, and the ledger it ends in."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

delivery = Table(
    "delivery",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("method", Text, primary_key=True),
    Column("start_at", UtcInstant, primary_key=True),
    Column("end_at", UtcInstant, nullable=False),
    Column("committed_kwh", Numeric(16, 3), nullable=False),
    Column("baseline_kwh", Numeric(16, 3)),
    Column("metered_kwh", Numeric(16, 3)),
    Column("delivered_kwh", Numeric(16, 3)),
)
"""At resource level, by each applicable method; a null is an interval that could not be measured."""

site_delivery = Table(
    "site_delivery",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("site_id", ForeignKey("site.id"), primary_key=True),
    Column("metered_kwh", Numeric(16, 3), nullable=False),
    Column("credited_kwh", Numeric(16, 3), nullable=False),
    Column("detail", JSONB, nullable=False),
)

baseline = Table(
    "baseline",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("method", Text, primary_key=True),
    Column("days", JSONB, nullable=False),
    Column("adjustment", Numeric(12, 6)),
    Column("findings", JSONB, nullable=False),
)

ledger_account = Table(
    "ledger_account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("currency", Text, nullable=False),
    CheckConstraint("kind in ('receivable', 'revenue', 'owner_payable', 'adjustment')", name="kind"),
)

ledger_batch = Table(
    "ledger_batch",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("posted_at", UtcInstant, nullable=False),
    UniqueConstraint("tenant_id", "key"),
)

ledger_transfer = Table(
    "ledger_transfer",
    metadata,
    Column("batch_id", ForeignKey("ledger_batch.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("debit_account", ForeignKey("ledger_account.id"), nullable=False, index=True),
    Column("credit_account", ForeignKey("ledger_account.id"), nullable=False, index=True),
    Column("amount_cents", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    CheckConstraint("amount_cents > 0", name="amount"),
    CheckConstraint("debit_account <> credit_account", name="two_legs"),
)

statement_line = Table(
    "statement_line",
    metadata,
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("site_id", ForeignKey("site.id"), primary_key=True),
    Column("program", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("commitment_id", Uuid, primary_key=True),
    Column("metered_kwh", Numeric(16, 3), nullable=False),
    Column("credited_kwh", Numeric(16, 3), nullable=False),
    Column("gross_cents", BigInteger, nullable=False),
    Column("owner_cents", BigInteger, nullable=False),
    Column("detail", JSONB, nullable=False),
)
"""A site's share of one event, as known in a version of the month's settlement. `detail` holds what
an owner needs to recompute it: baseline days, price, performance factor, share, totals."""
