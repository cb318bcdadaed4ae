"""What signals of VTNs above us mean for the fleet: everything heard, and what of it holds when."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

heard_event = Table(
    "heard_event",
    metadata,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("program", Text),
    Column("modification_number", Integer, nullable=False),
    Column("is_test", Boolean, nullable=False),
    Column("comment", Text, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("over_at", UtcInstant),
    Column("digest", Text, nullable=False),
    Column("heard_at", UtcInstant, nullable=False),
    Column("changed_at", UtcInstant, nullable=False),
    Column("ended_at", UtcInstant),
    Index("ix_heard_event_tenant_id_changed_at", "tenant_id", "changed_at"),
)
"""Every event heard, as it last stood; `program` is ours, null where it is none of ours; `ended_at` is when it was
cancelled or withdrawn; `digest` tells whether anything about it, or what came of it, has changed."""

heard_series = Table(
    "heard_series",
    metadata,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", Text),
    Column("intervals", JSONB, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("effect", Text, nullable=False),
    Column("reason", Text, nullable=False),
    ForeignKeyConstraint(
        ["source", "event_id"], ["heard_event.source", "heard_event.event_id"], ondelete="cascade"
    ),
    CheckConstraint("effect in ('committed', 'limit', 'shown', 'refused', 'ended')", name="effect"),
)  # fmt: skip
"""One signal of an event: the first of its `intervals` with their values as told and in words, and what came of it."""


def _held(name: str, *columns: Column[object] | CheckConstraint) -> Table:
    """Something that holds from an instant on, until its event is told anew or withdrawn."""
    return Table(
        name,
        metadata,
        Column("id", Integer, Identity(), primary_key=True),
        Column("source", Text, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
        Column("start_at", UtcInstant, nullable=False),
        Column("end_at", UtcInstant),
        *columns,
        ForeignKeyConstraint(
            ["source", "event_id"], ["heard_event.source", "heard_event.event_id"], ondelete="cascade"
        ),
        Index(f"ix_{name}_tenant_id_end_at", "tenant_id", "end_at"),
        Index(f"ix_{name}_source_event_id", "source", "event_id"),
    )  # fmt: skip


fleet_limit = _held(
    "fleet_limit",
    Column("site_id", ForeignKey("site.id")),
    Column("direction", Text, nullable=False),
    Column("limit_kw", Double, nullable=False),
    CheckConstraint("direction in ('import', 'export')", name="direction"),
    CheckConstraint("limit_kw >= 0", name="limit_kw"),
)
"""A capacity limit at one site, or for all sites of the tenant together where `site_id` is null."""

program_price = _held(
    "program_price",
    Column("program", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", Numeric, nullable=False),
    Column("unit", Text),
    Column("currency", Text),
)
"""Prices a utility told in one of our programmes."""

wanted_charge = _held(
    "wanted_charge",
    Column("site_id", ForeignKey("site.id")),
    Column("share", Double),
    Column("energy_kwh", Double),
    CheckConstraint("(share is null) <> (energy_kwh is null)", name="one"),
)
"""The charge a utility wants held from an instant on, at one site or (`site_id` null) at every site as a share,
by all together in kWh."""

grid_alert = _held(
    "grid_alert",
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
)
"""Alerts in the utility's words; `kind` is the payload type."""
