"""The objects of our OpenADR 3 VTN in PostgreSQL: `vpp.ports.ObjectShelf`.

Made by bootstrap for `market/openadr3` and whoever else acts as business logic here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from psycopg.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery, StoredObject
from vpp.peering.openadr3.changes import Changes, NobodyTold
from vpp.peering.openadr3.read import client_of_ven_name, find_object, granted_targets, select_objects
from vpp.peering.openadr3.write import create_object, delete_object, replace_object
from vpp.ports import Clock
from vpp.store.engine import Store

Work = Callable[[AsyncConnection, datetime], Awaitable[StoredObject]]


class SqlObjectShelf:
    """`ObjectShelf`. Writing is one transaction each, with `changes` told inside it; reading takes none."""

    def __init__(self, store: Store, clock: Clock, changes: Changes | None = None) -> None:
        self._store = store
        self._clock = clock
        self._changes = changes or NobodyTold()
        self._engine = store.engine.execution_options(isolation_level="AUTOCOMMIT")
        # Waiting for a connection of the pool is cheaper than opening one more and closing it again at once.
        self._turns = asyncio.Semaphore(max(1, store.pool_size - 1))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._turns, self._engine.connect() as connection:
            yield connection

    async def _written(self, work: Work) -> StoredObject:
        """Do what writes, as a whole; again where PostgreSQL gave it up because another one waited for it in turn."""
        for last in (False, False, True):
            try:
                async with self._store.begin() as connection:
                    return await work(connection, self._clock.now())
            except OperationalError as error:
                if last or not isinstance(error.orig, DeadlockDetected):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def select(self, query: ObjectQuery) -> list[StoredObject]:
        """See `ObjectShelf.select`."""
        async with self._reading() as connection:
            return await select_objects(connection, query)

    async def find(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject | None:
        """See `ObjectShelf.find`."""
        async with self._reading() as connection:
            return await find_object(connection, kind, object_id, tenant_id=tenant_id)

    async def create(self, draft: ObjectDraft, *, resources: Sequence[ObjectDraft] = ()) -> StoredObject:
        """See `ObjectShelf.create`."""

        async def work(connection: AsyncConnection, at: datetime) -> StoredObject:
            stored = await create_object(connection, draft, at=at, changes=self._changes)
            for each in resources:
                below = replace(each, body={**each.body, "venID": stored.id})
                await create_object(connection, below, at=at, changes=self._changes)
            return stored

        return await self._written(work)

    async def replace(self, object_id: str, draft: ObjectDraft) -> StoredObject:
        """See `ObjectShelf.replace`."""
        return await self._written(
            lambda connection, at: replace_object(connection, object_id, draft, at=at, changes=self._changes)
        )

    async def delete(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject:
        """See `ObjectShelf.delete`."""
        return await self._written(
            lambda connection, at: delete_object(
                connection, kind, object_id, tenant_id=tenant_id, at=at, changes=self._changes
            )
        )

    async def granted_targets(self, client_id: str, *, tenant_id: str) -> frozenset[str]:
        """See `ObjectShelf.granted_targets`."""
        async with self._reading() as connection:
            return await granted_targets(connection, client_id, tenant_id=tenant_id)

    async def client_of_ven_name(self, ven_name: str, *, tenant_id: str) -> str | None:
        """See `ObjectShelf.client_of_ven_name`."""
        async with self._reading() as connection:
            return await client_of_ven_name(connection, ven_name, tenant_id=tenant_id)
