"""What our OpenADR 3 VENs must remember over a restart."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

openadr3_ven = Table(
    "openadr3_ven",
    metadata,
    Column("source", Text, primary_key=True),
    Column("ven_id", Text),
    Column("targets", ARRAY(Text), nullable=False),
    Column("registered_at", UtcInstant),
    Column("subscription_ids", ARRAY(Text), nullable=False),
    Column("callback_hash", Text),
    Column("subscribed_at", UtcInstant),
)
"""Who we are to each VTN. `callback_hash`: SHA-256 of the token its notifications must carry."""

openadr3_event_seen = Table(
    "openadr3_event_seen",
    metadata,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("program_id", Text, nullable=False),
    Column("program", Text),
    Column("modification_number", Integer, nullable=False),
    Column("modified_at", UtcInstant),
    Column("digest", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("event", JSONB),
    Column("reports", JSONB, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("first_seen_at", UtcInstant, nullable=False),
    Column("changed_at", UtcInstant, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("gone_at", UtcInstant),
    Column("over_at", UtcInstant, index=True),
    Column("closed_at", UtcInstant),
    Column("asked", Integer, nullable=False),
    CheckConstraint("outcome in ('new', 'in', 'out', 'refused', 'gone')", name="outcome"),
    Index("ix_openadr3_event_seen_unclosed", "source", "over_at", postgresql_where=text("closed_at is null")),
)
"""Every event a VTN told us of. `modification_number` is ours: OpenADR 3 has none. `outcome` is
`new` until the version has reached the commitments; `missed` counts full lists that left the event out;
`event` is the GridEvent, null where the body cannot be read as one. `closed_at` is when its last version was heard,
after its end, null while one may be outstanding; `asked` counts questions after it that led to nothing."""

openadr3_report_plan = Table(
    "openadr3_report_plan",
    metadata,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("request", Text, primary_key=True),
    Column("next_number", Integer, nullable=False),
    Column("next_due_at", UtcInstant, index=True),
    ForeignKeyConstraint(["source", "event_id"], ["openadr3_event_seen.source", "openadr3_event_seen.event_id"]),
)
"""Which report of a series is next. `request` names a group of reportDescriptors with the same timing."""

openadr3_report = Table(
    "openadr3_report",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("report", JSONB, nullable=False),
    Column("made_at", UtcInstant, nullable=False),
    Column("tried_at", UtcInstant),
    Column("sent_at", UtcInstant),
    Column("report_id", Text),
    Column("refused", Text),
    UniqueConstraint("source", "event_id", "name"),
    Index(
        "ix_openadr3_report_unsent", "source", "id", postgresql_where=text("sent_at is null and refused is null")
    ),
)  # fmt: skip
"""Reports owed: made, then sent. One tried before is looked for at the VTN before it is sent again."""
