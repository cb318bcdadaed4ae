"""Who our peers are, and every message to and from them."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

peer = Table(
    "peer",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("protocol", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("party_id", Text),
    Column("client_id", Text),
    Column("secret_hash", Text),
    Column("url", Text),
    Column("fingerprint", Text),
    Column("groups", ARRAY(Text), nullable=False),
    Column("granted_targets", ARRAY(Text), nullable=False),
    Column("config", JSONB, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("revoked_at", UtcInstant),
    Column("stands_since_at", UtcInstant),
    Column("trouble", Text),
    CheckConstraint("protocol in ('openadr2', 'openadr3')", name="protocol"),
    CheckConstraint("role in ('ven', 'vtn', 'bl')", name="role"),
    CheckConstraint("trouble is null or stands_since_at is not null", name="since"),
    Index(
        "uq_peer_name", "tenant_id", "protocol", "role", "name", unique=True,
        postgresql_where=text("revoked_at is null"),
    ),
    Index(
        "uq_peer_party", "tenant_id", "protocol", "role", "party_id", unique=True,
        postgresql_where=text("revoked_at is null and party_id is not null"),
    ),
    Index("uq_peer_client", "client_id", unique=True, postgresql_where=text("role <> 'vtn'")),
)  # fmt: skip
"""`party_id`: venID or vtnID in 2.0b, venName in 3. A revoked peer's name may be used again; the client id
under which it came to us may not, for its objects at our VTN are kept under it.
`trouble`: why the last round with a VTN above us failed, null where it went well; `stands_since_at`: since when it
stands so or so, null where there was no round yet."""

token_key = Table(
    "token_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
)
"""What our own access tokens are signed with, where no secret file says; the newest signs, older ones still verify."""

message = Table(
    "message",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", UtcInstant, nullable=False, index=True),
    Column("last_at", UtcInstant, nullable=False),
    Column("repeats", Integer, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("peer", Text),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("body", Text, nullable=False),
    CheckConstraint("direction in ('in', 'out')", name="direction"),
    Index("ix_message_peer", "peer", "id"),
)
"""The message log: bodies are redacted and cut before they get here. Idle polls that follow one another are one
row: the first of them, with how many there were (`repeats`, 1 for any other message) and when the last was."""
