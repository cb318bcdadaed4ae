"""Room bootstrap: signed messages that were seen, kept in Valkey for all processes of the OpenADR 2.0b VTN."""

import asyncio
from datetime import timedelta

import structlog
from redis.exceptions import RedisError

from vpp.store.engine import Store

REPLAY_KEPT = timedelta(minutes=15)
"""Longer than a signed message counts as fresh, before and after its timestamp together."""
_TOGETHER = 500

log = structlog.get_logger(__name__)


class ValkeyReplay:
    """Remembers signed messages, those that come at the same time in one exchange with Valkey.

    Where Valkey does not answer, what the process itself remembers has to do.
    """

    def __init__(self, store: Store) -> None:
        self._redis = store.redis
        self._waiting: list[tuple[str, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def first_time(self, nonce: str) -> bool:
        """Return whether this message is new, and remember it."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((nonce, told))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="vtn replays")
        return await told

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                for (_, told), is_new in zip(batch, await self._remember([nonce for nonce, _ in batch]), strict=True):
                    if not told.done():
                        told.set_result(is_new)
        finally:
            self._task = None

    async def _remember(self, nonces: list[str]) -> list[bool]:
        kept_s = int(REPLAY_KEPT.total_seconds())
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for nonce in nonces:
                pipeline.set(f"vtn2:seen:{nonce}", 1, nx=True, ex=kept_s)
            return [bool(kept) for kept in await pipeline.execute()]
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("replays are held off by this process alone", error=str(error)[:200])
            return [True] * len(nonces)
