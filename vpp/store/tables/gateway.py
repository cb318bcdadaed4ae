"""What a VEN must remember over a restart: its registration, report requests and answers owed."""

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
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

openadr2_registration = Table(
    "openadr2_registration",
    metadata,
    Column("source", Text, primary_key=True),
    Column("ven_id", Text, nullable=False),
    Column("registration_id", Text, nullable=False),
    Column("poll_interval_s", Double, nullable=False),
    Column("registered_at", UtcInstant, nullable=False),
    Column("vtn_id", Text),
)

openadr2_opt = Table(
    "openadr2_opt",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("modification_number", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("opt_in", Boolean, nullable=False),
    Column("sent_at", UtcInstant),
)
"""Answers owed to the VTN, one for each modification; `sent_at` is null until it took it. A change of mind
replaces the answer and owes it anew."""

openadr2_report_request = Table(
    "openadr2_report_request",
    metadata,
    Column("source", Text, primary_key=True),
    Column("report_request_id", Text, primary_key=True),
    Column("request", JSONB, nullable=False),
    Column("granularity_s", Double, nullable=False),
    Column("report_back_s", Double, nullable=False),
    Column("next_due_at", UtcInstant),
    Column("digest", Text, nullable=False),
    Column("done_at", UtcInstant),
    Column("after_id", BigInteger),
)
"""Reports a VTN asked for, or a VEN of ours (`source` is then `ven:` with its peer's id); `done_at` is when all of one
was sent. It is kept for a while after that, with the `digest` of what was asked, so that the same request told again
is known for one that was answered. `after_id`: up to which value of `vtn2_report_value` a VEN has been told."""

openadr2_report = Table(
    "openadr2_report",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("source", Text, nullable=False),
    Column("report_request_id", Text, nullable=False),
    Column("point_id", Text, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("end_at", UtcInstant, nullable=False),
    Column("value", Double),
    Column("status", JSONB(none_as_null=True)),
    Column("sent_at", UtcInstant),
    UniqueConstraint("source", "report_request_id", "point_id", "start_at", name="uq_openadr2_report_point"),
    CheckConstraint("(value is null) <> (status is null)", name="one_of"),
    Index(
        "ix_openadr2_report_unsent", "source", "report_request_id", "start_at",
        postgresql_where=text("sent_at is null"),
    ),
)  # fmt: skip
"""Values of reports: a number in the unit of its point [kW or kWh, toward the grid], or a status."""

unavailability = Table(
    "unavailability",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("peer", Text),
    Column("start_at", UtcInstant, nullable=False),
    Column("end_at", UtcInstant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("declared_at", UtcInstant, nullable=False),
    Column("withdrawn_at", UtcInstant),
    CheckConstraint("end_at > start_at", name="window"),
)
"""When the operator has declared the fleet unavailable; `peer` is the name of the one VTN it is for, null for all."""

unavailability_told = Table(
    "unavailability_told",
    metadata,
    Column("unavailability_id", ForeignKey("unavailability.id"), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("created_at", UtcInstant),
    Column("cancelled_at", UtcInstant),
    Column("refusal", Text),
)
"""What each VTN has taken of it: `created_at` the declaration, `cancelled_at` its withdrawal."""
