"""Runs what tells subscribers, in one process. Called by `vpp work`."""

import asyncio
from contextlib import aclosing

from vpp.gateway.notify.publisher import MqttPublisher
from vpp.gateway.notify.wake import Wake
from vpp.gateway.notify.webhooks import WebhookWorker
from vpp.peering import ACCESS_CHANNEL, NOTIFICATION_CHANNEL, PEER_CHANNEL
from vpp.store.engine import Store
from vpp.store.listen import Heard, listen


async def run_notify(store: Store, webhooks: WebhookWorker, publisher: MqttPublisher | None, *wakes: Wake) -> None:
    """Tell until cancelled; `wakes` are woken whenever something is queued."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(store, publisher, wakes))
        group.create_task(webhooks.run())
        if publisher is not None:
            group.create_task(publisher.run())


async def _hear(store: Store, publisher: MqttPublisher | None, wakes: tuple[Wake, ...]) -> None:
    channels = (NOTIFICATION_CHANNEL, ACCESS_CHANNEL, PEER_CHANNEL)
    async with aclosing(listen(store.database_url, *channels)) as notices:
        async for notice in notices:
            if notice.heard is Heard.ALIVE:
                continue
            if publisher is not None and notice.channel != NOTIFICATION_CHANNEL:
                # A peer is named by its own id, not its client's, and after an outage anything may have changed.
                publisher.changed(notice.payload if notice.channel == ACCESS_CHANNEL else "")
            for wake in wakes:
                wake.set()
