"""Hearing what other processes tell by `NOTIFY`, over outages. Called by whoever keeps rows of SQL in memory.

What was told while the connection was away is lost: `CONNECTED` says that everything must be read again.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

import psycopg
import structlog
from psycopg import sql

from vpp.store.engine import CONNECT_TIMEOUT_S, driver_url

RETRY_S = (0.2, 5.0)
"""Wait before the second attempt to connect, doubled up to the other."""

log = structlog.get_logger(__name__)


class Heard(StrEnum):
    """What came over the connection."""

    CONNECTED = "connected"
    NOTICE = "notice"
    ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class Notice:
    """`channel` and `payload` are empty unless `heard` is NOTICE."""

    heard: Heard
    channel: str = ""
    payload: str = ""


async def listen(database_url: str, *channels: str, beat_s: float = 2.0) -> AsyncGenerator[Notice, None]:
    """Yield what is told on `channels` until closed; ALIVE at least every `2 * beat_s` while the server answers."""
    address = driver_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    wait_s = RETRY_S[0]
    while True:
        try:
            async with aclosing(_connected(address, channels, beat_s)) as notices:
                async for notice in notices:
                    wait_s = RETRY_S[0]
                    yield notice
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("listening interrupted", channels=channels, error=str(error) or type(error).__name__)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, RETRY_S[1])


async def _connected(address: str, channels: tuple[str, ...], beat_s: float) -> AsyncGenerator[Notice, None]:
    connecting = psycopg.AsyncConnection.connect(address, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
    async with await connecting as connection:
        for channel in channels:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        yield Notice(Heard.CONNECTED)
        while True:
            async with aclosing(connection.notifies(timeout=beat_s)) as told:
                async for each in told:
                    yield Notice(Heard.NOTICE, each.channel, each.payload)
            async with asyncio.timeout(beat_s):
                await connection.execute("select 1")
            yield Notice(Heard.ALIVE)
