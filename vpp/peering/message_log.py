"""Every message to and from a peer, written down beside the traffic (`vpp.ports.MessageLog`). Made by bootstrap.

Goal: noting a message costs its caller a few microseconds, never waits and never fails, and the log cannot take the
machine's memory or disk. Method: a bounded queue, drained twice a second; redaction in a thread; rows by COPY; old
rows deleted by one process, a batch at a time. What the queue cannot hold is counted in
`vpp_message_log_dropped_total`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.peer import Direction, Protocol
from vpp.peering.log_rows import BODY_MAX, Coalescer, LogRow, Noted
from vpp.peering.metrics import LOG_DROPPED, LOG_ROWS
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.outage import is_outage

QUEUE_MAX = 20_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
BATCH = 500
WRITE_EVERY_S = 0.5
COUNTS_EVERY_S = 30.0
"""How late `repeats` and `last_at` of idle polls may be in SQL."""
PRUNE_EVERY_S = 300.0
PRUNE_BATCH = 5000
_LOOK_EVERY_S = 0.05
_LAST_WRITE_S = 5.0
_LOCK = 7_240_004
_COPY = "copy message (id, at, last_at, repeats, protocol, direction, peer, kind, status, summary, body) from stdin"
_IDS = text(
    "select array_agg(new.id order by new.id) from (select nextval(pg_get_serial_sequence('message', 'id')) as id "
    "from generate_series(1, cast(:count as integer))) as new"
)
_COUNT = text(
    "update message set repeats = told.repeats, last_at = told.last_at from unnest("
    "cast(:ids as bigint[]), cast(:repeats as integer[]), cast(:lasts as timestamptz[])) as told(id, repeats, last_at) "
    "where message.id = told.id"
)
_MY_TURN = text("select pg_try_advisory_xact_lock(:lock)")
_TOO_OLD = text("delete from message where id in (select id from message where at < :before order by at limit :batch)")
_NEWEST_TOO_MANY = text("select id from message order by id desc offset :rows limit 1")
_TOO_MANY = text("delete from message where id in (select id from message where id <= :last order by id limit :batch)")

log = structlog.get_logger(__name__)


class SqlMessageLog:
    """The message log in PostgreSQL; one for each process, all on the loop it runs on.

    Args:
        days, rows: how long, and how many messages are kept, in all; deleted `prune_batch` at a time.
        queue_max, queue_bytes_max: messages, and bytes of their bodies, that may wait to be written.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        days: float = 30.0,
        rows: int = 2_000_000,
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        prune_batch: int = PRUNE_BATCH,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._clock, self._ticks = store, clock, ticks
        self._keep_for, self._keep_rows, self._prune_batch = timedelta(days=days), rows, prune_batch
        self._queue_max, self._queue_bytes_max = queue_max, queue_bytes_max
        self._queue: deque[Noted] = deque()
        self._queued_bytes = 0
        self._coalescer = Coalescer()
        self._made: list[LogRow] = []
        self._writing = asyncio.Lock()
        self._written_s = self._counts_s = ticks()

    def note(
        self,
        *,
        protocol: Protocol,
        direction: Direction,
        kind: str,
        status: str,
        peer: str | None = None,
        summary: str = "",
        body: bytes | str = b"",
    ) -> None:
        """Note one message: never blocks, never raises; what the queue cannot hold is counted and dropped."""
        try:
            if len(self._queue) >= self._queue_max:
                LOG_DROPPED.labels("message").inc()
                return
            kept = body[:BODY_MAX]
            if self._queued_bytes + len(kept) > self._queue_bytes_max:
                kept = b""
                LOG_DROPPED.labels("body").inc()
            self._queued_bytes += len(kept)
            now = self._clock.now()
            self._queue.append(Noted(now, protocol, direction, peer, kind, status, summary, kept, len(body)))
        except Exception:  # noqa: BLE001 - a message that cannot be noted must not harm the traffic
            LOG_DROPPED.labels("message").inc()

    async def run(self) -> None:
        """Write what is noted, and prune, until cancelled; then write what is left."""
        pruned_s = self._ticks()
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                if len(self._queue) >= BATCH or self._ticks() - self._written_s >= WRITE_EVERY_S:
                    await self._try(self._write())
                if self._ticks() - pruned_s >= PRUNE_EVERY_S:
                    pruned_s = self._ticks()
                    await self._try(self.prune())
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._try(self.flush())

    async def flush(self) -> None:
        """Write everything noted so far, counts included."""
        await self._write()
        while self._queue or self._made:
            await self._write()
        await self._write(counts=True)

    async def prune(self) -> int:
        """Delete messages that are too old or too many, unless another process is at it; returns how many."""
        gone = await self._delete(_TOO_OLD, {"before": self._clock.now() - self._keep_for})
        async with self._store.begin() as connection:
            last = (await connection.execute(_NEWEST_TOO_MANY, {"rows": self._keep_rows})).scalar()
        return gone if last is None else gone + await self._delete(_TOO_MANY, {"last": last})

    async def _delete(self, query: TextClause, values: dict[str, Any]) -> int:
        """Delete in batches, each a transaction of its own, while no other process does."""
        gone = 0
        while True:
            async with self._store.begin() as connection:
                if not (await connection.execute(_MY_TURN, {"lock": _LOCK})).scalar():
                    return gone
                deleted = (await connection.execute(query, values | {"batch": self._prune_batch})).rowcount
            gone += deleted
            if deleted < self._prune_batch:
                return gone

    async def _try(self, work: Coroutine[Any, Any, Any]) -> None:
        """Outages are ridden out: the queue's bound holds meanwhile, and the next turn writes again.

        Rows that PostgreSQL will not have are dropped: the log must not end what it only watches.
        """
        try:
            await work
        except Exception as error:  # noqa: BLE001
            log.warning("the message log cannot write", error=f"{type(error).__name__}: {error}"[:500])
            if not is_outage(error):
                LOG_DROPPED.labels("message").inc(len(self._made))
                self._made = []
            await asyncio.sleep(WRITE_EVERY_S)

    async def _write(self, *, counts: bool = False) -> None:
        async with self._writing:
            self._written_s = self._ticks()
            if not self._made and self._queue:
                taken = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._queued_bytes -= sum(len(each.body) for each in taken)
                self._made = await asyncio.to_thread(self._coalescer.take, taken)
            counts = counts or self._ticks() - self._counts_s >= COUNTS_EVERY_S
            counted = [(row, row.repeats) for row in self._coalescer.counted()] if counts else []
            if self._made or counted:
                async with self._store.begin() as connection:
                    ids = await _insert(connection, self._made)
                    await _count(connection, counted)
                for row, row_id in zip(self._made, ids, strict=True):
                    row.id = row_id
                LOG_ROWS.inc(len(self._made))
                self._coalescer.stored(self._made)
                self._made = []
                self._coalescer.told(counted)
            if counts:
                self._counts_s = self._ticks()


async def _insert(connection: AsyncConnection, rows: Sequence[LogRow]) -> list[int]:
    """Insert rows, whose ids follow their order; returns the ids."""
    if not rows:
        return []
    ids: list[int] = (await connection.execute(_IDS, {"count": len(rows)})).scalar_one()
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    async with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row_id, row in zip(ids, rows, strict=True):
            await copy.write_row(
                (
                    row_id, row.at, row.last_at, row.repeats, row.protocol, row.direction, row.peer, row.kind,
                    row.status, row.summary, row.body,
                )
            )  # fmt: skip
    return ids


async def _count(connection: AsyncConnection, counted: Sequence[tuple[LogRow, int]]) -> None:
    if counted:
        values = {
            "ids": [row.id for row, _ in counted],
            "repeats": [repeats for _, repeats in counted],
            "lasts": [row.last_at for row, _ in counted],
        }
        await connection.execute(_COUNT, values)
