"""What waits to be told, claimed by one worker at a time. Called by `webhooks.py` and `publisher.py`.

A channel is claimed for `LEASE`, longer with everything told over it. A worker that dies loses its claim by
that, and what it had told without noting it down is told again, with the same id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, Update, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr3 import VERSION, Operation, StoredObject
from vpp.domain.peer import PeerRole
from vpp.gateway.notify.policy import Policy
from vpp.peering import MQTT_CHANNEL, from_snapshot
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.notifications import notification as notifications
from vpp.store.tables.notifications import notification_change as changes
from vpp.store.tables.notifications import notification_channel as channels
from vpp.store.tables.peering import peer as peers

LEASE = timedelta(seconds=60)

_pending: ColumnElement[bool] = exists().where(notifications.c.channel_id == channels.c.id)
_in_force: ColumnElement[bool] = ~exists().where(
    peers.c.client_id == channels.c.client_id, peers.c.role != PeerRole.VTN.value, peers.c.revoked_at.is_not(None)
)
"""Who was revoked is told nothing more, also not what waited for it; that goes when it is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A claimed channel; `url` is None for the MQTT broker."""

    id: str
    url: str | None
    bearer_token: str | None
    client_id: str | None
    api_version: str
    failures: int
    first_failed_at: datetime | None
    broken_at: datetime | None
    ending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something to tell; `shown` None shows every target."""

    id: int
    operation: Operation
    object: StoredObject
    shown: frozenset[str] | None
    topic: str | None
    attempts: int
    created_at: datetime


class Outbox:
    """One worker's way to the queue."""

    def __init__(self, store: Store, clock: Clock, policy: Policy | None = None) -> None:
        self.clock, self.policy, self._store = clock, policy or Policy(), store
        self._name = uuid4().hex

    async def claim(self, *, limit: int) -> list[Channel]:
        """Claim subscribers' channels that have something to tell and are due."""
        return await self._claim(channels.c.subscription_id.is_not(None) & _pending & _in_force, limit)

    async def open_mqtt(self) -> None:
        """See to it that the broker has a channel."""
        now = self.clock.now()
        row = {
            "id": MQTT_CHANNEL, "api_version": VERSION, "wants": [], "created_at": now, "next_attempt_at": now,
            "failures": 0, "gone": False, "ending": False,
        }  # fmt: skip
        async with self._store.begin() as connection:
            await connection.execute(insert(channels).values(row).on_conflict_do_nothing())

    async def claim_mqtt(self) -> Channel | None:
        """Claim the broker's channel, whether or not anything waits, also where it is ours already."""
        claimed = await self._claim(channels.c.id == MQTT_CHANNEL, 1)
        return claimed[0] if claimed else None

    async def count_attempt(self, message_id: int) -> None:
        """Note that one message could not be told."""
        async with self._store.begin() as connection:
            await connection.execute(_one_attempt_more(message_id))

    async def _claim(self, which: ColumnElement[bool], limit: int) -> list[Channel]:
        now = self.clock.now()
        free = or_(channels.c.claimed_until.is_(None), channels.c.claimed_until <= now, self._is_ours)
        due = (
            select(channels.c.id)
            .where(which, free, channels.c.next_attempt_at <= now, ~channels.c.gone)
            .order_by(channels.c.next_attempt_at, channels.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)  # who queues for a channel does not keep us from it
            .cte("due")
        )
        statement = (
            update(channels)
            .where(channels.c.id.in_(select(due.c.id)))
            .values(claimed_by=self._name, claimed_until=now + LEASE)
            .returning(channels)
        )
        async with self._store.begin() as connection:
            return [_channel(row) for row in await connection.execute(statement)]

    @property
    def _is_ours(self) -> ColumnElement[bool]:
        # A subscriber's channel is let go after every turn, so only the broker's is claimed twice by one worker.
        return and_(channels.c.id == MQTT_CHANNEL, channels.c.claimed_by == self._name)

    async def waiting(self, channel_id: str, *, limit: int) -> list[Waiting]:
        """Return what is to be told over a channel, oldest first."""
        query = (
            select(notifications, changes.c.object)
            .join(changes, changes.c.id == notifications.c.change_id)
            .where(notifications.c.channel_id == channel_id)
            .order_by(notifications.c.id)
            .limit(limit)
        )
        async with self._store.begin() as connection:
            return [_waiting(row) for row in await connection.execute(query)]

    async def told(self, channel_id: str, ids: Sequence[int]) -> bool:
        """Note that these were told; False where the channel is no longer ours."""
        now = self.clock.now()
        healthy = {"failures": 0, "first_failed_at": None, "last_error": None, "broken_at": None, "last_told_at": now}
        async with self._store.begin() as connection:
            await connection.execute(delete(notifications).where(notifications.c.id.in_(ids)))
            return await self._set(connection, channel_id, **healthy, claimed_until=now + LEASE)

    async def failed(self, channel: Channel, why: str, *, gone: bool = False, message_id: int | None = None) -> bool:
        """Note a failure and when to try again; returns whether the channel has just been marked broken."""
        now = self.clock.now()
        failures, first_failed_at = channel.failures + 1, channel.first_failed_at or now
        broken = gone or self.policy.is_broken(failures, now - first_failed_at)
        wait = self.policy.wait(failures, broken=broken)
        async with self._store.begin() as connection:
            if channel.ending:
                await connection.execute(delete(channels).where(channels.c.id == channel.id))
                return False
            if message_id is not None:
                await connection.execute(_one_attempt_more(message_id))
            await self._set(
                connection, channel.id, failures=failures, first_failed_at=first_failed_at, last_error=why[:300],
                broken_at=(channel.broken_at or now) if broken else None, gone=gone, next_attempt_at=now + wait,
                claimed_by=None, claimed_until=None,
            )  # fmt: skip
        return broken and channel.broken_at is None

    async def release(self, channel_id: str) -> None:
        """Let a channel go; one whose subscription was deleted goes for good, once nothing waits."""
        async with self._store.begin() as connection:
            ended = and_(channels.c.id == channel_id, channels.c.ending, ~_pending)
            await connection.execute(delete(channels).where(ended))
            await self._set(connection, channel_id, claimed_by=None, claimed_until=None)

    async def drop(self, message_id: int) -> None:
        """Give up one message: too old, or tried too often."""
        async with self._store.begin() as connection:
            await connection.execute(delete(notifications).where(notifications.c.id == message_id))

    async def next_due_at(self) -> datetime | None:
        """When the next of the channels that have something to tell may be tried."""
        at = func.greatest(channels.c.next_attempt_at, func.coalesce(channels.c.claimed_until, channels.c.created_at))
        query = select(func.min(at)).where(
            channels.c.subscription_id.is_not(None), ~channels.c.gone, _pending, _in_force
        )
        async with self._store.begin() as connection:
            found: datetime | None = (await connection.execute(query)).scalar()
        return found

    async def sweep(self) -> int:
        """Drop what is too old or too much, and what nobody refers to any more; returns how many were dropped."""
        oldest_at = self.clock.now() - self.policy.max_age
        newest = (
            select(notifications.c.id, func.row_number().over(
                partition_by=notifications.c.channel_id, order_by=notifications.c.id.desc()
            ).label("place")).where(notifications.c.channel_id != MQTT_CHANNEL).subquery()
        )  # fmt: skip
        too_many = select(newest.c.id).where(newest.c.place > self.policy.most_waiting)
        async with self._store.begin() as connection:
            old = or_(notifications.c.created_at < oldest_at, notifications.c.id.in_(too_many))
            dropped = (await connection.execute(delete(notifications).where(old))).rowcount
            unused = ~exists().where(notifications.c.change_id == changes.c.id)
            await connection.execute(delete(changes).where(unused))
            await connection.execute(delete(channels).where(channels.c.ending, ~_pending))
        return dropped

    async def _set(self, connection: AsyncConnection, channel_id: str, **values: object) -> bool:
        ours = and_(channels.c.id == channel_id, channels.c.claimed_by == self._name)
        return (await connection.execute(update(channels).where(ours).values(**values))).rowcount > 0


def _one_attempt_more(message_id: int) -> Update:
    counted = update(notifications).where(notifications.c.id == message_id)
    return counted.values(attempts=notifications.c.attempts + 1)


def _channel(row: Row[tuple[object, ...]]) -> Channel:
    return Channel(
        id=row.id, url=row.callback_url, bearer_token=row.bearer_token, client_id=row.client_id,
        api_version=row.api_version, failures=row.failures, first_failed_at=row.first_failed_at,
        broken_at=row.broken_at, ending=row.ending,
    )  # fmt: skip


def _waiting(row: Row[tuple[object, ...]]) -> Waiting:
    return Waiting(
        id=row.id, operation=Operation(row.operation), object=from_snapshot(row.object),
        shown=None if row.shown is None else frozenset(row.shown), topic=row.topic, attempts=row.attempts,
        created_at=row.created_at,
    )  # fmt: skip
