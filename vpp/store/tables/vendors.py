"""What a vendor's cloud makes us remember: OAuth tokens that replace each other."""

from sqlalchemy import Column, Table, Text

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

vendor_token = Table(
    "vendor_token",
    metadata,
    Column("vendor", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("access_token", Text, nullable=False),
    Column("refresh_token", Text),
    Column("saved_at", UtcInstant, nullable=False),
)
"""A refresh token works once: losing the newest one locks the account out, so it is committed before use."""
