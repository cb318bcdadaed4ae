"""What is still to be told to subscribers of our OpenADR 3 VTN, and over which way.

Written by `vpp/peering/openadr3` in the transaction of the change, told by `vpp/gateway/notify`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from vpp.store.tables.base import metadata
from vpp.store.types import UtcInstant

notification_channel = Table(
    "notification_channel",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id")),
    Column("subscription_id", Text, index=True),
    Column("client_id", Text, index=True),
    Column("callback_url", Text),
    Column("bearer_token", Text),
    Column("api_version", Text, nullable=False),
    Column("wants", ARRAY(Text), nullable=False),
    Column("program_id", Text),
    Column("targets", ARRAY(Text)),
    Column("created_at", UtcInstant, nullable=False),
    Column("next_attempt_at", UtcInstant, nullable=False),
    Column("claimed_by", Text),
    Column("claimed_until", UtcInstant),
    Column("failures", Integer, nullable=False),
    Column("first_failed_at", UtcInstant),
    Column("last_told_at", UtcInstant),
    Column("last_error", Text),
    Column("broken_at", UtcInstant),
    Column("gone", Boolean, nullable=False),
    Column("ending", Boolean, nullable=False),
    CheckConstraint("(subscription_id is null) = (callback_url is null)", name="callback"),
    Index("ix_notification_channel_wants", "wants", postgresql_using="gin"),
)
"""A way to tell: one callback address of a subscription, or the MQTT broker (id `mqtt`, no subscription).

`wants`: kind and operation (`EVENT CREATE`); `targets`: null where the subscription names none; `failures`: in a
row, since `first_failed_at`; `broken_at`: given up for now, tried seldom; `gone`: answered 410, not tried again;
`ending`: its subscription was deleted, what was queued before is told once.
"""

notification_change = Table(
    "notification_change",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", UtcInstant, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("object", JSONB, nullable=False),
)
"""One state of an object, a `StoredObject`, kept once for all who are told."""

notification = Table(
    "notification",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("change_id", ForeignKey("notification_change.id"), nullable=False, index=True),
    Column("channel_id", ForeignKey("notification_channel.id", ondelete="CASCADE"), nullable=False),
    Column("operation", Text, nullable=False),
    Column("shown", ARRAY(Text)),
    Column("topic", Text),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Index("ix_notification_channel", "channel_id", "id"),
)
"""Something to tell over one channel, deleted once told. `shown`: the targets this receiver may see, null for all."""

mqtt_login = Table(
    "mqtt_login",
    metadata,
    Column("username", Text, primary_key=True),
    Column("tenant_id", ForeignKey("tenant.id"), nullable=False),
    Column("client_id", Text, nullable=False, index=True),
    Column("made_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant, nullable=False, index=True),
)
"""Who may sign in at the MQTT broker; the password is the access token, which only the broker has, hashed."""
