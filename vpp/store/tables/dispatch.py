"""What was planned and ordered: one row per control cycle, per command, per site to hand back."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

cycle = Table(
    "cycle",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("start_at", UtcInstant, primary_key=True),
    Column("end_at", UtcInstant, nullable=False),
    Column("target_kw", Double, nullable=False),
    Column("planned_kw", Double, nullable=False),
    Column("shortfall_kw", Double, nullable=False),
    Column("forecast_kwh", Double, nullable=False),
    Column("solve", JSONB, nullable=False),
    CheckConstraint("end_at > start_at", name="interval"),
)
"""`forecast_kwh`: energy expected from the event as a whole, delivered so far plus planned."""

command = Table(
    "command",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("commitment_id", ForeignKey("commitment.id"), nullable=False),
    Column("site_id", ForeignKey("site.id"), nullable=False),
    Column("cycle_start_at", UtcInstant, nullable=False),
    Column("power_kw", Double, nullable=False),
    Column("release", Boolean, nullable=False, server_default=false()),
    Column("reserve_soc", Double, nullable=False),
    Column("not_before", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("updated_at", UtcInstant, nullable=False),
    UniqueConstraint("commitment_id", "site_id", "cycle_start_at"),
    CheckConstraint("expires_at > not_before", name="expiry"),
    Index("ix_command_site_id_expires_at", "site_id", "expires_at"),
)

"""With `release` the site's part is over: it is given back its own settings, and `power_kw` is 0."""

handback = Table(
    "handback",
    metadata,
    Column("commitment_id", ForeignKey("commitment.id"), primary_key=True),
    Column("site_id", ForeignKey("site.id"), primary_key=True),
    Column("native", JSONB, nullable=False),
    Column("saved_at", UtcInstant, nullable=False),
    Column("lease_until", UtcInstant, nullable=False),
    Column("released_at", UtcInstant),
    Column("verified_at", UtcInstant),
    Column("reason", Text, nullable=False),
)
"""The settings found before the first write; a row without `verified_at` is a site we still owe."""
