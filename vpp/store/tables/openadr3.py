"""The objects of our OpenADR 3 VTN."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

_ORDERED = ("tenant_id", "kind", "number")

openadr3_object = Table(
    "openadr3_object",
    metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("api_version", Text, nullable=False),
    Column("name", Text),
    Column("client_id", Text),
    Column("program_id", ForeignKey("openadr3_object.id")),
    Column("event_id", ForeignKey("openadr3_object.id")),
    Column("ven_id", ForeignKey("openadr3_object.id")),
    Column("targets", ARRAY(Text), nullable=False),
    Column("target_types", JSONB(none_as_null=True)),
    Column("objects", ARRAY(Text), nullable=False),
    Column("start_at", UtcInstant),
    Column("end_at", UtcInstant),
    Column("body", Text, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("modified_at", UtcInstant, nullable=False),
    CheckConstraint("kind in ('PROGRAM', 'EVENT', 'REPORT', 'SUBSCRIPTION', 'VEN', 'RESOURCE')", name="kind"),
    Index("ix_openadr3_object_order", *_ORDERED),
    Index("ix_openadr3_object_untargeted", *_ORDERED, postgresql_where=text("targets = '{}'::text[]")),
    Index("ix_openadr3_object_name", "tenant_id", "kind", "name"),
    Index("ix_openadr3_object_client", "client_id", "kind", "number"),
    Index("ix_openadr3_object_program", "program_id", "kind", "number"),
    Index("ix_openadr3_object_event", "event_id", "number"),
    Index("ix_openadr3_object_ven", "ven_id", "number"),
    Index("ix_openadr3_object_targets", "targets", postgresql_using="gin"),
    Index("ix_openadr3_object_end", "tenant_id", "end_at", postgresql_where=text("kind = 'EVENT'")),
    Index("ix_openadr3_object_report", "tenant_id", "modified_at", postgresql_where=text("kind = 'REPORT'")),
    Index(
        "uq_openadr3_object_name", "tenant_id", "kind", "name", unique=True,
        postgresql_where=text("kind in ('PROGRAM', 'VEN')"),
    ),
    Index(
        "uq_openadr3_object_resource", "ven_id", "name", unique=True, postgresql_where=text("kind = 'RESOURCE'"),
    ),
)  # fmt: skip
"""`body` is the object as 3.1.0 JSON, as text because it is sent as it stands (cast it to jsonb to look inside),
without its targets, which are shown or hidden by who asks. `number` is the order of creation: who inserts holds
a lock until it commits, so that no smaller number becomes visible after a greater one. `api_version` is the one
it was last written in; `target_types` says what 3.0.1 called a target's type, if it did. An end is null where an
event has none."""
