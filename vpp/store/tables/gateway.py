"""What a VEN must remember over a restart: its registration, report requests and answers owed."""

from sqlalchemy import Boolean, Column, Double, ForeignKey, Identity, Integer, Table, Text, UniqueConstraint
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
"""Answers owed to the VTN, one for each modification; `sent_at` is null until it took it."""

openadr2_report_request = Table(
    "openadr2_report_request",
    metadata,
    Column("source", Text, primary_key=True),
    Column("report_request_id", Text, primary_key=True),
    Column("request", JSONB, nullable=False),
    Column("granularity_s", Double, nullable=False),
    Column("report_back_s", Double, nullable=False),
    Column("next_due_at", UtcInstant),
)

openadr2_report = Table(
    "openadr2_report",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("source", Text, nullable=False),
    Column("report_request_id", Text, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("end_at", UtcInstant, nullable=False),
    Column("power_kw", Double, nullable=False),
    Column("sent_at", UtcInstant),
    UniqueConstraint("source", "report_request_id", "start_at"),
)
