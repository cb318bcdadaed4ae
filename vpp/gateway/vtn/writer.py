"""Commits what many VENs do at the same time together. Called by the desk; each call returns once committed.

While one batch is being committed the next one gathers: a single VEN waits for one commit, five thousand of
them for a few.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog

from vpp.domain.errors import NotReady
from vpp.gateway.vtn.changes import Change, write_changes
from vpp.store.engine import Store, connect

MAX_WAITING = 20_000
MAX_BATCH = 2_000
COMMIT_WITHIN_S = 10.0

log = structlog.get_logger(__name__)


class GroupWriter:
    """Writes changes in batches, in the order they came.

    Args:
        lock: held from before a commit until `apply` has brought memory to it, so that memory is not
            replaced meanwhile by something read earlier.
        apply: brings memory to what was committed.
    """

    def __init__(self, store: Store, lock: asyncio.Lock, apply: Callable[[Change], None]) -> None:
        self._store, self._lock, self._apply = store, lock, apply
        self._waiting: list[tuple[Sequence[Change], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def write(self, changes: Sequence[Change]) -> None:
        """Return once these changes are committed.

        Raises:
            NotReady: the database does not take them, or too much waits for it.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise NotReady("too much waits for the database")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, done))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="vtn writer")
        await done

    async def close(self) -> None:
        """Wait for what was begun, and give back the connection."""
        if self._task is not None:
            await self._task
        await self._hang_up()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._commit(batch)
        finally:
            self._task = None

    async def _commit(self, batch: Sequence[tuple[Sequence[Change], asyncio.Future[None]]]) -> None:
        changes = [change for part, _ in batch for change in part]
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S), self._lock:
                await self._write(changes)
                for change in changes:
                    self._apply(change)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            if len(batch) > 1:  # one of them cannot be written: it must not take the others with it
                for each in batch:
                    await self._commit([each])
                return
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - told to every caller, whatever it is
            await self._hang_up()  # a deadline may have left it in the middle of something
            _fail(batch, error)
        else:
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _write(self, changes: Sequence[Change]) -> None:
        """Write on a connection of our own; one that turns out to be broken is replaced once."""
        is_old = self._connection is not None
        try:
            await write_changes(await self._line(), changes)
        except psycopg.OperationalError:
            await self._hang_up()
            if not is_old:
                raise
            await write_changes(await self._line(), changes)

    async def _line(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await connect(self._store.database_url)
        return self._connection

    async def _hang_up(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


def _fail(batch: Sequence[tuple[Sequence[Change], asyncio.Future[None]]], error: Exception) -> None:
    log.warning("could not write what VENs were told or said", callers=len(batch), error=str(error)[:300])
    for _, done in batch:
        if not done.done():
            done.set_exception(NotReady(f"the database did not take it: {type(error).__name__}"))
