"""What our OpenADR 2.0b VTN must remember over a restart, each row of one VEN (by its peer's id)."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

vtn2_registration = Table(
    "vtn2_registration",
    metadata,
    Column("peer_id", ForeignKey("peer.id"), primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("ven_id", Text, nullable=False),
    Column("registration_id", Text, nullable=False, unique=True),
    Column("profile", Text, nullable=False),
    Column("transport", Text, nullable=False),
    Column("transport_address", Text),
    Column("report_only", Boolean, nullable=False),
    Column("xml_signature", Boolean, nullable=False),
    Column("http_pull", Boolean, nullable=False),
    Column("registered_at", UtcInstant, nullable=False),
    Column("cancelled_at", UtcInstant),
    Column("cancelled_by", Text),
    Column("seen_at", UtcInstant),
    UniqueConstraint("tenant_id", "ven_id"),
)
"""A VEN's ids stay its own: a registration that has ended is kept, and gets the same ids when it comes back.
`seen_at` is written now and then, not with every poll."""

vtn2_delivery = Table(
    "vtn2_delivery",
    metadata,
    Column("peer_id", ForeignKey("peer.id"), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("event_id", Text, primary_key=True),
    Column("told_modification", Integer),
    Column("told_status", Text),
    Column("told_count", Integer, nullable=False),
    Column("told_at", UtcInstant),
    Column("settled_modification", Integer),
    Column("settled_status", Text),
    Column("answered_modification", Integer),
    Column("opt_in", Boolean),
    Column("answer_code", Integer),
    Column("answer_reason", Text),
    Column("answered_at", UtcInstant),
    ForeignKeyConstraint(["tenant_id", "event_id"], ["grid_event.tenant_id", "grid_event.event_id"]),
    Index("ix_vtn2_delivery_event", "tenant_id", "event_id"),
)
"""One event and one VEN: what it was last told, how often, what of that it has confirmed since it registered,
and its last answer. `told_*` and `settled_*` are forgotten when a VEN registers anew; the answer is not."""

vtn2_outbox = Table(
    "vtn2_outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("peer_id", ForeignKey("peer.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("message", JSONB, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("sent_count", Integer, nullable=False),
    Column("sent_at", UtcInstant),
    Column("closed_at", UtcInstant, index=True),
    Column("outcome", Text),
    Index("ix_vtn2_outbox_open", "peer_id", "id", postgresql_where=text("closed_at is null")),
)
"""Messages that wait for a VEN's poll, or are pushed to it, until it has answered them."""

vtn2_report_offer = Table(
    "vtn2_report_offer",
    metadata,
    Column("peer_id", ForeignKey("peer.id"), primary_key=True),
    Column("specifier_id", Text, primary_key=True),
    Column("offer", JSONB, nullable=False),
    Column("offered_at", UtcInstant, nullable=False),
)

vtn2_report_request = Table(
    "vtn2_report_request",
    metadata,
    Column("report_request_id", Text, primary_key=True),
    Column("peer_id", ForeignKey("peer.id"), nullable=False, index=True),
    Column("specifier_id", Text, nullable=False),
    Column("demand", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", UtcInstant, nullable=False),
    Column("changed_at", UtcInstant, nullable=False, index=True),
)
"""`state`: asked, running (confirmed), done (a single value that came), cancelled, refused (with its reason)."""

vtn2_report_value = Table(
    "vtn2_report_value",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("peer_id", ForeignKey("peer.id"), nullable=False),
    Column("report_request_id", ForeignKey("vtn2_report_request.report_request_id"), nullable=False),
    Column("r_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("start_at", UtcInstant, nullable=False),
    Column("duration_s", Double),
    Column("value", Double),
    Column("status", JSONB),
    Column("quality", Text),
    Column("confidence", Integer),
    Column("received_at", UtcInstant, nullable=False, index=True),
    UniqueConstraint("report_request_id", "r_id", "start_at"),
    Index("ix_vtn2_report_value_peer_id_id", "peer_id", "id"),
)
"""Numbers in `value`, TELEMETRY_STATUS in `status`. A value that is corrected gets a new id: who reads on from the
last id it saw misses none."""

vtn2_report_cursor = Table(
    "vtn2_report_cursor",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("last_id", BigInteger, nullable=False),
)
"""How far each consumer of report values has read."""

vtn2_opt = Table(
    "vtn2_opt",
    metadata,
    Column("peer_id", ForeignKey("peer.id"), primary_key=True),
    Column("opt_id", Text, primary_key=True),
    Column("opt_in", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("market_context", Text),
    Column("event_id", Text),
    Column("modification_number", Integer),
    Column("windows", JSONB, nullable=False),
    Column("targets", JSONB, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("received_at", UtcInstant, nullable=False, index=True),
    Column("cancelled_at", UtcInstant),
    Column("device_class", JSONB, nullable=False),
    Index(
        "ix_vtn2_opt_event", "event_id", "peer_id",
        postgresql_where=text("event_id is not null and cancelled_at is null"),
    ),
)  # fmt: skip
"""EiOpt: availability in windows of time, or for one event, where it overrides the event's answer; of the whole VEN,
or of what `targets` and `device_class` name."""
