"""Tells subscribers at their callback addresses. Called by `vpp work`; any number of workers share the queue.

What waits for one address is told in order, the next only after the one before was taken (2xx). A failure puts
the address off, longer each time; after several over some time it is marked broken, and tried seldom, until it
takes something or its subscription is replaced. 410 Gone marks it at once, and then only a replacement helps.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx
import structlog

from vpp.domain.errors import InvalidRequest, PeerUnreachable
from vpp.domain.peer import Direction, Protocol
from vpp.gateway.notify.body import Render, as_stored, body_of
from vpp.gateway.notify.callbacks import CallbackClient
from vpp.gateway.notify.metrics import BROKEN, TOLD
from vpp.gateway.notify.outbox import Channel, Outbox, Waiting
from vpp.gateway.notify.signing import headers_of
from vpp.gateway.notify.wake import Wake
from vpp.ports import MessageLog
from vpp.store import outlast

log = structlog.get_logger()

A_TURN = 20
"""Messages told over one channel before it is let go, so that every channel has its turn."""
LOOK_EVERY = timedelta(seconds=5)
SWEEP_EVERY_TURNS = 12


class WebhookWorker:
    """Tells what waits, until cancelled."""

    def __init__(
        self,
        outbox: Outbox,
        client: CallbackClient,
        *,
        wake: Wake,
        messages: MessageLog | None = None,
        render: Render = as_stored,
    ) -> None:
        self.outbox, self._client, self.wake = outbox, client, wake
        self._messages, self._render = messages, render

    async def run(self) -> None:
        """Tell what is due, wait for more, for ever."""
        turns = 0
        while True:
            await outlast("notify", self.turn)
            if turns % SWEEP_EVERY_TURNS == 0:
                await outlast("notify", self.outbox.sweep)
            turns += 1
            due_at = await outlast("notify", self.outbox.next_due_at)
            wait = LOOK_EVERY if due_at is None else min(LOOK_EVERY, due_at - self.outbox.clock.now())
            await self.wake.wait(max(wait, timedelta(milliseconds=50)))

    async def turn(self) -> None:
        """Tell everything that is due, at most `at_once` addresses at a time; a slow one holds up no other."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                free = self.outbox.policy.at_once - len(running)
                claimed = await self.outbox.claim(limit=free) if free else []
                running |= {asyncio.create_task(self._tell(channel)) for channel in claimed}
                if not running:
                    return
                woken = asyncio.create_task(self.wake.wait(LOOK_EVERY))
                try:
                    done, _ = await asyncio.wait({*running, woken}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
                done.discard(woken)
                running -= done
                for task in done:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _tell(self, channel: Channel) -> None:
        for waiting in await self.outbox.waiting(channel.id, limit=A_TURN):
            if self._is_hopeless(waiting):
                log.warning("a notification was given up", channel=channel.id, notification=waiting.id)
                TOLD.labels("webhook", "given_up").inc()
                await self.outbox.drop(waiting.id)
                continue
            why, gone = await self._send(channel, waiting)
            if why is not None:
                TOLD.labels("webhook", "failed").inc()
                if await self.outbox.failed(channel, why, gone=gone, message_id=waiting.id):
                    BROKEN.inc()
                    log.warning("a callback is broken", channel=channel.id, client=channel.client_id, error=why)
                return
            TOLD.labels("webhook", "told").inc()
            if not await self.outbox.told(channel.id, [waiting.id]):
                return
            channel = replace(channel, failures=0, first_failed_at=None, broken_at=None)
        await self.outbox.release(channel.id)

    def _is_hopeless(self, waiting: Waiting) -> bool:
        policy = self.outbox.policy
        age = self.outbox.clock.now() - waiting.created_at
        return age > policy.max_age or waiting.attempts >= policy.max_attempts

    async def _send(self, channel: Channel, waiting: Waiting) -> tuple[str | None, bool]:
        """Return why it was not taken (None: it was), and whether nobody will ever be there."""
        try:
            body = body_of(waiting, channel.api_version, self._render)
        except (ValueError, TypeError, LookupError) as error:
            log.exception("a notification cannot be written", notification=waiting.id)
            return f"cannot be written: {type(error).__name__}", False
        headers = headers_of(f"n{waiting.id}", body, at=self.outbox.clock.now(), bearer_token=channel.bearer_token)
        status, why = "", None
        try:
            answer = await self._client.send("POST", channel.url or "", headers=headers, body=body)
            status = str(answer.status)
            if not httpx.codes.is_success(answer.status):
                why = f"status {answer.status}"
        except (PeerUnreachable, InvalidRequest) as error:
            why = str(error)
        kind = f"notify {waiting.object.kind.value} {waiting.operation.value}"
        if self._messages is not None:
            self._messages.note(
                protocol=Protocol.OPENADR3, direction=Direction.OUT, kind=kind, status=status or "unreachable",
                peer=channel.client_id, summary=why or f"told {(channel.url or '').partition('?')[0]}", body=body,
            )  # fmt: skip
        return why, status == str(int(httpx.codes.GONE))
