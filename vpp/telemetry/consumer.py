"""Room telemetry: takes entries off the stream and writes them to PostgreSQL, each at least once.

Run by `vpp work` (`run`) and by `collect` (`drain`), in any number of processes. An entry is acknowledged
and deleted after its transaction is committed. A consumer that dies in between leaves it pending; another
one claims it and writes it again, which the unique key makes harmless.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from vpp.domain.errors import InvalidRequest
from vpp.store.engine import Store
from vpp.store.partitions import ensure_partitions
from vpp.telemetry.batch import Batch, decode
from vpp.telemetry.metrics import STORED
from vpp.telemetry.stream import DEAD_STREAM, FIELD, GROUP, STREAM
from vpp.telemetry.write import days_of, write_batch

CLAIM_AFTER_MS = 30_000
"""A pending entry idle for longer belongs to a consumer that died."""
READ_BLOCK_MS = 1000
MAX_DEAD = 1000
FORGET_CONSUMER_MS = 3_600_000
_BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 10.0)

Entry = tuple[bytes, dict[bytes, bytes]]

_log = structlog.get_logger("vpp.telemetry")


class IngestConsumer:
    """One member of the group that empties the stream.

    Args:
        max_entries: entries written in one transaction; 64 are up to 32,000 readings.
    """

    def __init__(self, store: Store, *, stream: str = STREAM, max_entries: int = 64) -> None:
        self._store = store
        self._stream = stream
        self._max_entries = max_entries
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._days: set[date] = set()

    async def run(self, *, turned: Callable[[], None] = lambda: None) -> None:
        """Write whatever comes until cancelled; waits out a database or stream that is away.

        `turned` is called at least every few seconds, to tell that this still turns.
        """
        failures = 0
        next_claim_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            turned()
            try:
                if loop.time() >= next_claim_s:
                    await self._prepare()
                    await self._take_over(CLAIM_AFTER_MS)
                    next_claim_s = loop.time() + CLAIM_AFTER_MS / 2000
                if failures:  # what was read and not written is pending in our own name
                    await self._recover()
                    failures = 0
                await self._store_entries(await self._read(READ_BLOCK_MS))
            except (RedisError, SQLAlchemyError, OSError) as away:
                wait_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                next_claim_s = 0.0  # a stream that was lost is made anew
                _log.warning("ingest waits", error=type(away).__name__, wait_s=wait_s, failures=failures)
                await asyncio.sleep(wait_s)

    async def drain(self) -> int:
        """Write everything that was published before the call; returns how many readings were new.

        Also what another consumer has taken and not yet acknowledged: it may be dead.

        Raises:
            RedisError, SQLAlchemyError: a server is away; nothing is lost, drain again.
        """
        await self._prepare()
        written = 0
        while entries := await self._read(None):
            written += await self._store_entries(entries)
        return written + await self._take_over(0)

    async def _recover(self) -> None:
        """Write our own pending entries again before new ones."""
        while entries := _entries(
            await self._store.redis.xreadgroup(GROUP, self._name, {self._stream: "0"}, self._max_entries)
        ):
            await self._store_entries(entries)

    async def _prepare(self) -> None:
        try:
            await self._store.redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as refused:
            if "BUSYGROUP" not in str(refused):
                raise
        for consumer in await self._store.redis.xinfo_consumers(self._stream, GROUP):
            if consumer["pending"] == 0 and consumer["idle"] > FORGET_CONSUMER_MS:
                await self._store.redis.xgroup_delconsumer(self._stream, GROUP, consumer["name"])

    async def _read(self, block_ms: int | None) -> list[Entry]:
        answer = await self._store.redis.xreadgroup(
            GROUP, self._name, {self._stream: ">"}, count=self._max_entries, block=block_ms
        )
        return _entries(answer)

    async def _take_over(self, idle_ms: int) -> int:
        """Claim and write entries that others hold since at least `idle_ms`."""
        written = 0
        cursor: Any = b"0-0"
        while True:
            cursor, entries, _ = await self._store.redis.xautoclaim(
                self._stream, GROUP, self._name, idle_ms, start_id=cursor, count=self._max_entries
            )
            written += await self._store_entries([(key, fields) for key, fields in entries if fields is not None])
            if cursor in (b"0-0", "0-0"):
                return written

    async def _store_entries(self, entries: Sequence[Entry]) -> int:
        """Write and acknowledge; entries that can never be written go to the dead-letter stream."""
        batches: list[tuple[Entry, Batch]] = []
        for entry in entries:
            try:
                batches.append((entry, decode(_payload(entry))))
            except InvalidRequest as unreadable:
                await self._bury(entry, str(unreadable))
        if not batches:
            return 0
        try:
            written = await self._write([batch for _, batch in batches])
        except DBAPIError as refused:
            if not _is_poison(refused):
                raise
            return await self._write_one_by_one(batches)
        await self._acknowledge([entry for entry, _ in batches])
        return written

    async def _write_one_by_one(self, batches: Sequence[tuple[Entry, Batch]]) -> int:
        written = 0
        for entry, batch in batches:
            try:
                written += await self._write([batch])
            except DBAPIError as refused:
                if not _is_poison(refused):
                    raise
                await self._bury(entry, str(refused.orig))
            else:
                await self._acknowledge([entry])
        return written

    async def _write(self, batches: Sequence[Batch]) -> int:
        whole = np.concatenate(batches)
        for day in days_of(whole):
            if day not in self._days:
                async with self._store.begin() as connection:
                    await ensure_partitions(connection, day, day)
                self._days.add(day)
        try:
            async with self._store.begin() as connection:
                written = await write_batch(connection, whole)
        except DBAPIError:
            self._days.clear()  # a partition may have been dropped since
            raise
        STORED.inc(written)
        return written

    async def _acknowledge(self, entries: Sequence[Entry]) -> None:
        keys = [key for key, _ in entries]
        async with self._store.redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(self._stream, GROUP, *keys)
            pipeline.xdel(self._stream, *keys)
            await pipeline.execute()

    async def _bury(self, entry: Entry, reason: str) -> None:
        key, fields = entry
        _log.error("entry moved to the dead-letter stream", entry=key.decode(), reason=reason[:500])
        async with self._store.redis.pipeline(transaction=True) as pipeline:
            content: dict[Any, Any] = {**fields, b"entry": key, b"reason": reason[:500].encode()}
            pipeline.xadd(DEAD_STREAM, content, maxlen=MAX_DEAD, approximate=True)
            pipeline.xack(self._stream, GROUP, key)
            pipeline.xdel(self._stream, key)
            await pipeline.execute()


def _entries(answer: Any) -> list[Entry]:
    """Entries of one stream as redis-py hands them over, in either protocol version."""
    if not answer:
        return []
    if isinstance(answer, dict):
        found = [entry for group in answer.values() for part in group for entry in part]
    else:
        found = [entry for _, part in answer for entry in part]
    return [(key, fields) for key, fields in found if fields]


def _payload(entry: Entry) -> bytes:
    payload = entry[1].get(FIELD.encode())
    if payload is None:
        raise InvalidRequest("entry", sorted(entry[1])[:5], f"a field {FIELD}")
    return payload


def _is_poison(refused: DBAPIError) -> bool:
    """Whether PostgreSQL refused the content, and will again, and not the moment."""
    if isinstance(refused, DataError):
        return True
    # A missing partition is a check violation too, but is made on the next try.
    return isinstance(refused, IntegrityError) and "no partition" not in str(refused.orig)
