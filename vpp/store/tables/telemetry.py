"""What the devices said, in daily partitions, and interval energy rolled up for settlement."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

reading = Table(
    "reading",
    metadata,
    Column("device_id", Integer, nullable=False),
    Column("measured_at", UtcInstant, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
    Column("battery_kw", Double),
    Column("grid_kw", Double),
    Column("soc", Double),
    Column("discharged_kwh_register", Double),
    Column("charged_kwh_register", Double),
    Column("islanded", Boolean, nullable=False),
    Column("controllable", Boolean, nullable=False),
    Column("repeated_at", UtcInstant),
    PrimaryKeyConstraint("device_id", "measured_at"),
    Index("ix_reading_full", "device_id", "measured_at", postgresql_where="soc >= 0.99"),
    postgresql_partition_by="RANGE (measured_at)",
)
"""No foreign key to `device`: ingest refuses unknown devices from a cached set, once a batch.
`repeated_at`: when the same `measured_at` last came again, later than a resend would; a device whose
clock stands still is told apart from one that is silent by this."""

metered_interval = Table(
    "metered_interval",
    metadata,
    Column("site_id", ForeignKey("site.id"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("end_at", UtcInstant, nullable=False),
    Column("energy_kwh", Double, nullable=False),
    Column("quality", Text, nullable=False),
    PrimaryKeyConstraint("site_id", "channel", "start_at"),
    CheckConstraint("channel in ('grid', 'battery')", name="channel"),
    CheckConstraint("end_at > start_at", name="interval"),
    CheckConstraint("quality in ('measured', 'estimated')", name="quality"),
)
"""Energy toward the grid [kWh]: `grid` at the utility meter (export +), `battery` at its sub-meter
(discharge +). A missing interval has no row."""
