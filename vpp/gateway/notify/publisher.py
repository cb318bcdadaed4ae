"""Publishes what waits for the MQTT broker. Called by `vpp work`; of any number of workers one does it at a time.

What cannot be published waits in SQL, so that nothing is lost while the broker is away; it is published in order,
QoS 1. A worker that dies between publishing and noting it publishes again, with the same `notification-id`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import aiomqtt
import structlog

from vpp.domain.errors import NotReady, PeerUnreachable
from vpp.domain.openadr3 import VERSION
from vpp.domain.peer import Direction, Protocol
from vpp.gateway.notify.access import Access
from vpp.gateway.notify.body import Render, as_stored, body_of
from vpp.gateway.notify.broker import Broker, BrokerAddress, connected
from vpp.gateway.notify.metrics import MQTT_CONNECTED, TOLD
from vpp.gateway.notify.outbox import Channel, Outbox, Waiting
from vpp.gateway.notify.policy import Policy
from vpp.gateway.notify.wake import Wake
from vpp.peering import MQTT_CHANNEL
from vpp.ports import MessageLog
from vpp.store import outlast

log = structlog.get_logger()

A_BATCH = 100
LOOK_EVERY = timedelta(seconds=5)
EXPIRE_EVERY = timedelta(minutes=1)
RECONCILE_EVERY = timedelta(minutes=10)


def mqtt_policy() -> Policy:
    """A broker is ours: it is tried again soon, and never given up; only a message it cannot take is."""
    return Policy(
        first_wait=timedelta(seconds=1), longest_wait=timedelta(seconds=30), broken_after=1_000_000, max_attempts=20
    )


class MqttPublisher:
    """Publishes until cancelled; `access` None leaves users and rules to whoever runs the broker."""

    def __init__(
        self,
        outbox: Outbox,
        address: BrokerAddress,
        *,
        prefix: str,
        wake: Wake,
        access: Access | None = None,
        messages: MessageLog | None = None,
        render: Render = as_stored,
    ) -> None:
        self.outbox, self._address, self._prefix, self._access = outbox, address, prefix, access
        self._wake, self._messages, self._render = wake, messages, render
        self._changed: set[str] = set()
        self._one_by_one = False

    def changed(self, client_id: str) -> None:
        """Hear that a client's VENs, or the client itself, changed; '' for any."""
        self._changed.add(client_id)
        self._wake.set()

    async def run(self) -> None:
        """Publish what waits, for ever."""
        await outlast("mqtt", self.outbox.open_mqtt)
        while True:
            channel = await outlast("mqtt", self.outbox.claim_mqtt)
            if channel is None:  # another worker does it, or the broker is left alone for a while
                await self._wake.wait(min(LOOK_EVERY, self.outbox.policy.first_wait))
                continue
            await self._session(channel)

    async def _session(self, channel: Channel) -> None:
        """Connect and publish until the connection breaks or another worker has taken over."""
        try:
            async with connected(self._address) as broker:
                if not await self._prepare(broker):
                    return
                channel = replace(channel, failures=0, first_failed_at=None)
                MQTT_CONNECTED.set(1)
                log.info("connected to the MQTT broker", host=self._address.host, port=self._address.port)
                await self._publish_for_ever(broker)
        except (PeerUnreachable, NotReady) as error:
            log.warning("the MQTT broker is away", error=str(error))
            TOLD.labels("mqtt", "failed").inc()
            why = str(error)
            await outlast("mqtt", lambda: self.outbox.failed(channel, why))
        except asyncio.CancelledError:
            with suppress(Exception):
                await self.outbox.release(MQTT_CHANNEL)
            raise
        finally:
            MQTT_CONNECTED.set(0)

    async def _prepare(self, broker: Broker) -> bool:
        if self._access is not None:
            if not await self._access.prepare(broker):
                return False
            self._changed.clear()
            await outlast("mqtt", lambda: self._reconcile(broker))
        await broker.check_rights(self._prefix)
        return True

    async def _publish_for_ever(self, broker: Broker) -> None:
        now = self.outbox.clock.now()
        expire_at, reconcile_at = now, now + RECONCILE_EVERY
        while await outlast("mqtt", self.outbox.claim_mqtt) is not None:
            now = self.outbox.clock.now()
            if now >= reconcile_at:
                self._changed.add("")
                reconcile_at = now + RECONCILE_EVERY
            expire_at = await outlast("mqtt", lambda: self._keep_access(broker, expire_at))  # noqa: B023 called at once
            batch = await outlast("mqtt", lambda: self.outbox.waiting(MQTT_CHANNEL, limit=self._limit))
            if batch:
                await self._publish(broker, batch)
            else:
                waiting = self._wake.wait(LOOK_EVERY)
                await broker.unless_broken(waiting, within_s=2 * LOOK_EVERY.total_seconds())

    async def _keep_access(self, broker: Broker, expire_at: datetime) -> datetime:
        if self._access is None:
            return expire_at
        changed, self._changed = self._changed, set()
        try:
            if "" in changed:
                await self._access.reconcile(broker)
            else:
                for client_id in sorted(changed):
                    await self._access.refresh(broker, client_id)
        except BaseException:
            self._changed |= changed
            raise
        if self.outbox.clock.now() < expire_at:
            return expire_at
        await self._access.expire(broker)
        return self.outbox.clock.now() + EXPIRE_EVERY

    async def _reconcile(self, broker: Broker) -> None:
        if self._access is not None:
            await self._access.reconcile(broker)

    @property
    def _limit(self) -> int:
        return 1 if self._one_by_one else A_BATCH

    async def _publish(self, broker: Broker, batch: Sequence[Waiting]) -> None:
        messages, hopeless = [], []
        for waiting in batch:
            body = self._body(waiting)
            if body is None:
                hopeless.append(waiting.id)
            else:
                messages.append((waiting.topic or "", body, f"n{waiting.id}"))
        for message_id in hopeless:
            TOLD.labels("mqtt", "given_up").inc()
            await outlast("mqtt", partial(self.outbox.drop, message_id))
        if not messages:
            return
        try:
            await broker.publish(messages)
        except aiomqtt.MqttError:
            # One that breaks the connection every time, being too large for the broker, is found by sending each
            # alone, and must not hold up the rest for ever.
            if self._one_by_one:
                await outlast("mqtt", lambda: self.outbox.count_attempt(batch[0].id))
            self._one_by_one = True
            raise
        self._one_by_one = False
        TOLD.labels("mqtt", "told").inc(len(messages))
        self._note(messages)
        await outlast("mqtt", lambda: self.outbox.told(MQTT_CHANNEL, [each.id for each in batch]))

    def _body(self, waiting: Waiting) -> bytes | None:
        """The message, or None where it was tried too often or cannot be written."""
        if waiting.attempts >= self.outbox.policy.max_attempts:
            log.warning("a notification was given up", channel=MQTT_CHANNEL, notification=waiting.id)
            return None
        try:
            return body_of(waiting, VERSION, self._render)
        except (ValueError, TypeError, LookupError):
            log.exception("a notification cannot be written", notification=waiting.id)
            return None

    def _note(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        for topic, body, _ in messages if self._messages is not None else ():
            self._messages.note(  # type: ignore[union-attr]
                protocol=Protocol.OPENADR3, direction=Direction.OUT, kind="publish", status="taken",
                summary=topic, body=body,
            )  # fmt: skip
