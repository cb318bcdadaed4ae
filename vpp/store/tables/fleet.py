"""Enrolment: owners, sites with their terms, devices, programmes and billing-period peaks."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

owner = Table(
    "owner",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
)

site = Table(
    "site",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False, index=True),
    Column("owner_id", ForeignKey("owner.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("utility_account", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("max_charge_kw", Double, nullable=False),
    Column("max_discharge_kw", Double, nullable=False),
    Column("capacity_kwh", Double, nullable=False),
    Column("charge_efficiency", Double, nullable=False),
    Column("discharge_efficiency", Double, nullable=False),
    Column("import_limit_kw", Double, nullable=False),
    Column("export_limit_kw", Double, nullable=False),
    Column("reserve_soc", Double, nullable=False),
    Column("tariff", JSONB, nullable=False),
    Column("billing_start", Date),
    Column("enrolled_at", UtcInstant, nullable=False),
    UniqueConstraint("tenant_id", "utility_account"),
    CheckConstraint("max_charge_kw >= 0 and max_discharge_kw >= 0 and capacity_kwh > 0", name="battery"),
    CheckConstraint("charge_efficiency > 0 and charge_efficiency <= 1", name="charge_efficiency"),
    CheckConstraint("discharge_efficiency > 0 and discharge_efficiency <= 1", name="discharge_efficiency"),
    CheckConstraint("import_limit_kw >= 0 and export_limit_kw >= 0", name="interconnection"),
    CheckConstraint("reserve_soc >= 0 and reserve_soc <= 1", name="reserve"),
)

reserve_change = Table(
    "reserve_change",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("site_id", ForeignKey("site.id"), nullable=False, index=True),
    Column("reserve_soc", Double, nullable=False),
    Column("changed_at", UtcInstant, nullable=False),
    Column("changed_by", Text, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("site_id", ForeignKey("site.id"), nullable=False, unique=True),
)

program_terms = Table(
    "program_terms",
    metadata,
    Column("tenant_id", ForeignKey("tenant.id"), primary_key=True),
    Column("program", Text, primary_key=True),
    Column("nominated_kw", Numeric(12, 3), nullable=False),
    Column("currency", Text, nullable=False),
    Column("options", JSONB, nullable=False),
)

program_enrolment = Table(
    "program_enrolment",
    metadata,
    Column("site_id", ForeignKey("site.id"), primary_key=True),
    Column("program", Text, primary_key=True),
    Column("owner_share", Numeric(6, 5), nullable=False),
    CheckConstraint("owner_share >= 0 and owner_share <= 1", name="owner_share"),
)

billing_peak = Table(
    "billing_peak",
    metadata,
    Column("site_id", ForeignKey("site.id"), primary_key=True),
    Column("demand_charge", Text, primary_key=True),
    Column("billing_start", Date, primary_key=True),
    Column("peak_kw", Double, nullable=False),
)
