"""Live pictures of events over server-sent events. Called by the operator's routes.

One reader an event serves all its watchers; it reads at most every two seconds of real time, and less
often where reading is slow. A message's id is the hash of what it shows, so that a browser that comes
back with `Last-Event-ID` is sent nothing it has already seen, by whichever process it reaches.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from vpp.domain.errors import NotReady, VppError
from vpp.portal.metrics import LIVE_CONNECTIONS, LIVE_READ_SECONDS

READ_EVERY_S = 2.0
READ_SHARE = 5
"""The reader pauses at least this many times as long as its last reading took."""
HEARTBEAT_S = 15.0
LIFETIME_S = 600.0
"""After this the browser connects again, which checks its session anew."""
MOST_CONNECTIONS = 200
MOST_PER_ACCOUNT = 10

Read = Callable[[], Awaitable[dict[str, Any]]]

_log = structlog.get_logger("vpp.portal.live")


@dataclass(frozen=True, slots=True)
class Message:
    """One picture: its hash, and the line to send."""

    id: str
    data: str

    def encode(self) -> bytes:
        return f"id: {self.id}\nretry: 2000\ndata: {self.data}\n\n".encode()


@dataclass(slots=True)
class _Feed:
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    latest: Message | None = None
    as_of: str = ""
    watchers: int = 0
    reader: asyncio.Task[None] | None = None


class LiveFeeds:
    """The events being watched in this process, each with one reader, and a bound on the watchers."""

    def __init__(self, *, read_every_s: float = READ_EVERY_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._read_every_s = read_every_s
        self._heartbeat_s = heartbeat_s
        self._feeds: dict[UUID, _Feed] = {}
        self._by_account: dict[str, int] = {}
        self._closing = asyncio.Event()

    def admit(self, account_id: str) -> None:
        """Refuse a watcher too many.

        Raises:
            NotReady: this process or this account has its fill; the browser tries again.
        """
        mine = self._by_account.get(account_id, 0)
        if mine >= MOST_PER_ACCOUNT or sum(self._by_account.values()) >= MOST_CONNECTIONS:
            raise NotReady("too many live pages are open; close one, or try again soon")

    async def watch(self, event_id: UUID, account_id: str, read: Read, last_id: str | None) -> AsyncIterator[bytes]:
        """Yield the event's picture whenever it changes, and at least every heartbeat a word that it has not."""
        feed = self._feeds.setdefault(event_id, _Feed())
        feed.watchers += 1
        self._by_account[account_id] = self._by_account.get(account_id, 0) + 1
        LIVE_CONNECTIONS.inc()
        if feed.reader is None:
            feed.reader = asyncio.create_task(self._read(feed, read), name=f"live {event_id}")
        try:
            yield b": connected\n\n"
            until_s = asyncio.get_running_loop().time() + LIFETIME_S
            while not self._closing.is_set() and asyncio.get_running_loop().time() < until_s:
                message = await self._next(feed, last_id)
                if message is None:
                    yield f"event: unchanged\ndata: {json.dumps(feed.as_of)}\n\n".encode()
                    continue
                last_id = message.id
                yield message.encode()
        finally:
            LIVE_CONNECTIONS.dec()
            self._leave(event_id, feed, account_id)

    async def close(self) -> None:
        """Stop every reader; their watchers' streams end."""
        self._closing.set()
        for feed in list(self._feeds.values()):
            await self._stop(feed)

    async def _next(self, feed: _Feed, last_id: str | None) -> Message | None:
        """The next message that is not `last_id`, or None after a heartbeat's time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_s), feed.changed:
                await feed.changed.wait_for(lambda: feed.latest is not None and feed.latest.id != last_id)
                return feed.latest
        return None

    async def _read(self, feed: _Feed, read: Read) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            picture = await _picture(read)
            took_s = loop.time() - began_s
            LIVE_READ_SECONDS.set(took_s)
            message = encode(picture)
            feed.as_of = picture.get("as_of", feed.as_of)
            if feed.latest is None or message.id != feed.latest.id:
                async with feed.changed:
                    feed.latest = message
                    feed.changed.notify_all()
            await asyncio.sleep(max(self._read_every_s, READ_SHARE * took_s))

    def _leave(self, event_id: UUID, feed: _Feed, account_id: str) -> None:
        feed.watchers -= 1
        self._by_account[account_id] -= 1
        if self._by_account[account_id] == 0:
            del self._by_account[account_id]
        if feed.watchers == 0:
            self._feeds.pop(event_id, None)
            if feed.reader is not None:
                feed.reader.cancel()

    async def _stop(self, feed: _Feed) -> None:
        if feed.reader is not None:
            feed.reader.cancel()
            with suppress(asyncio.CancelledError):
                await feed.reader


def encode(picture: dict[str, Any]) -> Message:
    """Return a picture as a message. `as_of` alone does not make a new one."""
    seen = {name: value for name, value in picture.items() if name != "as_of"}
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]
    return Message(digest, json.dumps(picture, separators=(",", ":")))


async def _picture(read: Read) -> dict[str, Any]:
    """Read, or say that it could not be read: a page that shows old numbers must say so."""
    try:
        return await read()
    except (SQLAlchemyError, RedisError, VppError, OSError, TimeoutError) as error:
        _log.warning("live picture could not be read", error=str(error)[:500])
        return {"trouble": "The event could not be read just now. The numbers below are old."}
