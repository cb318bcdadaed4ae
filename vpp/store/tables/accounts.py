"""Who may come in: tenants, people with a role, their sessions, and tokens for machines."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Table, Text

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

tenant = Table(
    "tenant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
)

account = Table(
    "account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("owner_id", Text),
    Column("program", Text),
    CheckConstraint("role in ('operator', 'utility', 'owner')", name="role"),
    CheckConstraint("(role = 'owner') = (owner_id is not null)", name="owner"),
    CheckConstraint("(role = 'utility') = (program is not null)", name="utility"),
)

session = Table(
    "session",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", UtcInstant, nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("label", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    CheckConstraint("scope in ('operate', 'telemetry', 'read')", name="scope"),
)
