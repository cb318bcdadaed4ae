"""Events we send to those below us, each as it stands and every version it had.

An event's id is its tenant's: two tenants' utilities, or their operators, may use the same one.
"""

from sqlalchemy import Boolean, Column, ForeignKey, ForeignKeyConstraint, Integer, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

grid_event = Table(
    "grid_event",
    metadata,
    Column("tenant_id", ForeignKey("tenant.id"), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("program", Text, nullable=False),
    Column("modification_number", Integer, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("over_at", UtcInstant, index=True),
    Column("event", JSONB, nullable=False),
    Column("origin", Text, nullable=False),
    Column("openadr3_id", Text),
    Column("created_at", UtcInstant, nullable=False),
    Column("modified_at", UtcInstant, nullable=False),
)
"""`event` is a GridEvent; `over_at` is its end with recovery, null where it has none; `origin` is
`operator`, or the peer it was forwarded from; `openadr3_id` is its object at our OpenADR 3 VTN, if there."""

grid_event_version = Table(
    "grid_event_version",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("modification_number", Integer, primary_key=True),
    Column("event", JSONB, nullable=False),
    Column("stated_at", UtcInstant, nullable=False, index=True),
    ForeignKeyConstraint(["tenant_id", "event_id"], ["grid_event.tenant_id", "grid_event.event_id"]),
)

received_event = Table(
    "received_event",
    metadata,
    Column("source", ForeignKey("peer.id"), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("event", JSONB, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
    Column("changed_at", UtcInstant, nullable=False, index=True),
    Column("forwarded_as", Text),
    Column("refusal", Text),
    ForeignKeyConstraint(["tenant_id", "forwarded_as"], ["grid_event.tenant_id", "grid_event.event_id"]),
    UniqueConstraint("tenant_id", "forwarded_as"),
)
"""Events of VTNs above us as they last stood; `forwarded_as` is what we made of one for those below us, which
follows it from then on; `refusal` is why it, or its last change, could not be passed on."""
