"""Small things several workers must agree on: how many calls a vendor still allows, and its newest tokens."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from uuid import NAMESPACE_URL, uuid5

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.vendors import vendor_token

_KEEP_BUDGET_S = 3 * 24 * 3600
_TAKE = """
local taken = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
if ARGV[2] ~= '' and taken > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], taken, 'EX', ARGV[3])
return 1
"""


class SharedCallBudget:
    """Calls a vendor limits by the day, counted once for all workers."""

    def __init__(self, redis: Redis, vendor: str) -> None:
        self._redis, self._vendor = redis, vendor
        self._take = redis.register_script(_TAKE)

    async def take(self, key: str, day: date, count: int, limit: int | None) -> bool:
        """Add `count` in one step unless that would exceed `limit`; whether they were added."""
        name = f"vpp:budget:{self._vendor}:{day.isoformat()}:{key}"
        taken = await self._take(keys=[name], args=[count, "" if limit is None else limit, _KEEP_BUDGET_S])
        return bool(taken)


class SharedTokens:
    """A vendor's OAuth tokens in PostgreSQL, one refresh at a time among all workers."""

    def __init__(self, store: Store, clock: Clock, vendor: str) -> None:
        self._store, self._clock, self._vendor = store, clock, vendor
        self._seen: dict[str, tuple[str, str | None]] = {}
        self._refreshing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def load(self, account: str) -> tuple[str, str | None] | None:
        """The newest access and refresh token of an account.

        Answered from memory, since every call to the vendor asks; `exclusive` forgets, so that a
        refresh always starts from what another worker may have saved.
        """
        if account in self._seen:
            return self._seen[account]
        async with self._store.begin() as connection:
            query = select(vendor_token.c.access_token, vendor_token.c.refresh_token).where(
                vendor_token.c.vendor == self._vendor, vendor_token.c.account == account
            )
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        self._seen[account] = (row.access_token, row.refresh_token)
        return self._seen[account]

    async def save(self, account: str, access_token: str, refresh_token: str | None) -> None:
        """Keep tokens; returns when they are committed."""
        values = {"access_token": access_token, "refresh_token": refresh_token, "saved_at": self._clock.now()}
        statement = insert(vendor_token).values(vendor=self._vendor, account=account, **values)
        async with self._store.begin() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[vendor_token.c.vendor, vendor_token.c.account], set_=values
                )
            )
        self._seen[account] = (access_token, refresh_token)

    @asynccontextmanager
    async def exclusive(self, account: str) -> AsyncIterator[None]:
        """Held while an account's tokens are refreshed; ends with the connection if a worker dies."""
        key = uuid5(NAMESPACE_URL, f"{self._vendor}\n{account}").int % (1 << 63)
        # One waits in the database for all of this process, or waiting would use up its connections.
        async with self._refreshing[account], self._store.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(key)))
            self._seen.pop(account, None)
            yield
