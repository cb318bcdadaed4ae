"""What we owe, every version the utility stated, and each step of its life."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.domain.commitment import CommitmentState
from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

_STATES = ", ".join(f"'{state.value}'" for state in CommitmentState)

commitment = Table(
    "commitment",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("program", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("modification_number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("start_offset_s", Double, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("is_test", Boolean, nullable=False),
    Column("opt_in", Boolean),
    Column("opt_reason", Text, nullable=False),
    Column("next_due_at", UtcInstant),
    Column("received_at", UtcInstant, nullable=False),
    Column("life", Integer, nullable=False, server_default="1"),
    Column("void_up_to", Integer),
    UniqueConstraint("source", "external_id", "life"),
    CheckConstraint(f"state in ({_STATES})", name="state"),
    CheckConstraint("modification_number >= 0", name="modification_number"),
    Index("ix_commitment_next_due_at", "next_due_at", postgresql_where="next_due_at is not null"),
)

"""A cancelled event that is stated again is a new row, its next `life`; the latest one counts."""

commitment_target = Table(
    "commitment_target",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("modification_number", Integer, primary_key=True),
    Column("start_at", UtcInstant, primary_key=True),
    Column("end_at", UtcInstant, nullable=False),
    Column("target_kw", Double, nullable=False),
    CheckConstraint("end_at > start_at", name="interval"),
    CheckConstraint("target_kw >= 0", name="target"),
)
"""Every modification's targets are kept, so that what was owed when can be replayed."""

commitment_step = Table(
    "commitment_step",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("commitment_id", ForeignKey("commitment.id"), nullable=False, index=True),
    Column("at", UtcInstant, nullable=False),
    Column("state", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
)
