"""What our access tokens are signed with: the same for all processes, over restarts. Called by `own_tokens`.

The file `openadr3_token_key` in `VPP_SECRETS_DIR` has one key a line: the first signs, all verify, so a new one is put
first and the old one taken away an hour later. Where there is no such file, keys are in SQL and a new one is made
every `ROTATE_AFTER`; the one before verifies until no token of it can be left.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotReady
from vpp.ports import Clock, Credentials
from vpp.store.engine import Store
from vpp.store.tables.peering import token_key

ROTATE_AFTER = timedelta(days=30)
KEEP_FOR = timedelta(days=2)
"""How long a key verifies after the next one has begun to sign; a token lives for a day at most."""
SECRET_NAME = "openadr3_token_key"  # noqa: S105 - the name of a file
_READ_AGAIN_S = 60.0
_UNKNOWN_AGAIN_S = 2.0
_MIN_CHARS = 32
_LOCK = 7_240_003


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key by its id, which stands in the head of every token it signed."""

    id: str
    secret: bytes


class TokenKeys:
    """The keys in force, read again every minute, or sooner for an id that is not known."""

    def __init__(
        self, store: Store, clock: Clock, secrets_by_name: Credentials | None, *, ticks: Callable[[], float] = monotonic
    ) -> None:
        self._store, self._clock, self._secrets, self._ticks = store, clock, secrets_by_name, ticks
        self._keys: dict[str, TokenKey] = {}
        self._signing: TokenKey | None = None
        self._read_s = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def signing(self) -> TokenKey:
        """The key to sign with.

        Raises:
            NotReady: the secret file holds a key that is too short.
        """
        if self._signing is None or self._ticks() - self._read_s > _READ_AGAIN_S:
            await self._read_once()
        assert self._signing is not None  # noqa: S101 - reading makes one where there is none
        return self._signing

    async def find(self, key_id: str) -> TokenKey | None:
        """The key with an id, or None; ids nobody has cost a query every few seconds, however many come."""
        age_s = self._ticks() - self._read_s
        if age_s > _READ_AGAIN_S or (key_id not in self._keys and age_s > _UNKNOWN_AGAIN_S):
            await self._read_once()
        return self._keys.get(key_id)

    async def _read_once(self) -> None:
        """Read, or wait for the reading that is on its way: after a start, many ask before anything is known."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._forget)
        await asyncio.shield(self._reading)

    def _forget(self, done: asyncio.Task[None]) -> None:
        self._reading = None
        if not done.cancelled():
            done.exception()  # told to who waited; if nobody does any more, to nobody

    async def _read(self) -> None:
        text = None if self._secrets is None else self._secrets.get(SECRET_NAME)
        found = await self._from_sql() if text is None else _from_file(text)
        self._signing, self._keys = found[0], {key.id: key for key in found}
        self._read_s = self._ticks()

    async def _from_sql(self) -> list[TokenKey]:
        now = self._clock.now()
        async with self._store.begin() as connection:
            rows = await _stored(connection)
            if not rows or rows[0][1] + ROTATE_AFTER <= now:
                await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
                rows = await _stored(connection)  # another process may have been first
                if not rows or rows[0][1] + ROTATE_AFTER <= now:
                    await connection.execute(
                        insert(token_key).values(id=secrets.token_hex(8), secret=secrets.token_hex(32), created_at=now)
                    )
                    rows = await _stored(connection)
            if rows[0][1] + KEEP_FOR <= now and len(rows) > 1:
                await connection.execute(delete(token_key).where(token_key.c.created_at < rows[0][1]))
                rows = rows[:1]
        return [key for key, _ in rows]


async def _stored(connection: AsyncConnection) -> list[tuple[TokenKey, datetime]]:
    query = select(token_key).order_by(token_key.c.created_at.desc(), token_key.c.id)
    return [(TokenKey(row.id, bytes.fromhex(row.secret)), row.created_at) for row in await connection.execute(query)]


def _from_file(text: str) -> list[TokenKey]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or any(len(line) < _MIN_CHARS for line in lines):
        raise NotReady(f"{SECRET_NAME} in VPP_SECRETS_DIR needs keys of {_MIN_CHARS} characters or more, one a line")
    return [TokenKey(hashlib.sha256(line.encode()).hexdigest()[:16], line.encode()) for line in lines]
