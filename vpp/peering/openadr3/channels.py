"""How notifying goes: each subscriber's callback, and the MQTT broker. Called by cli and portal."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.peering.openadr3.audience import MQTT_CHANNEL
from vpp.store.tables.notifications import notification as notifications
from vpp.store.tables.notifications import notification_channel as channels

MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """One way to tell, as it stands.

    Attributes:
        callback_url: None for the MQTT broker, as are subscription and client.
        waiting: how many messages wait, the oldest since `waiting_since`.
        failures: in a row; 0 where the last message was taken.
        broken_at: since when it is tried only seldom; None where it is not broken.
        gone: it answered 410, and is not tried until the subscription is replaced.
    """

    subscription_id: str | None
    client_id: str | None
    callback_url: str | None
    waiting: int
    waiting_since: datetime | None
    failures: int
    last_error: str | None
    last_told_at: datetime | None
    next_attempt_at: datetime
    broken_at: datetime | None
    gone: bool


async def list_channels(connection: AsyncConnection, *, tenant_id: str, broken: bool = False) -> list[ChannelState]:
    """Return up to 1,000 of a tenant's callbacks, and the broker; with `broken` only those that are broken."""
    waiting = (
        select(
            notifications.c.channel_id, func.count().label("messages"), func.min(notifications.c.created_at).label("at")
        )
        .group_by(notifications.c.channel_id)
        .subquery()
    )
    query = (
        select(channels, waiting.c.messages, waiting.c.at)
        .outerjoin(waiting, waiting.c.channel_id == channels.c.id)
        .where(or_(channels.c.tenant_id == tenant_id, channels.c.id == MQTT_CHANNEL), ~channels.c.ending)
        .order_by(channels.c.client_id.nulls_first(), channels.c.created_at, channels.c.id)
        .limit(MOST)
    )
    if broken:
        query = query.where(channels.c.broken_at.is_not(None))
    return [
        ChannelState(
            subscription_id=row.subscription_id, client_id=row.client_id, callback_url=row.callback_url,
            waiting=row.messages or 0, waiting_since=row.at, failures=row.failures, last_error=row.last_error,
            last_told_at=row.last_told_at, next_attempt_at=row.next_attempt_at, broken_at=row.broken_at, gone=row.gone,
        )
        for row in await connection.execute(query)
    ]  # fmt: skip
