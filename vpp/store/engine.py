"""The way to the data: one engine for PostgreSQL, one client for Valkey, one transaction a task."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from redis.asyncio import Redis
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60


def driver_url(database_url: str) -> URL:
    """Return the address with our driver (psycopg 3), whatever driver the caller's text names."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


def create_engine(database_url: str, *, pool_size: int = 5) -> AsyncEngine:
    """Return an engine whose every statement has a deadline and whose clock is UTC.

    Its errors say no values: they are logged, and values may be tokens and other people's data.
    """
    return create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} -c timezone=UTC",
        },
    )


async def connect(database_url: str) -> psycopg.AsyncConnection[Any]:
    """Return a connection of the caller's own, in autocommit, for what has to be fast; with the same deadlines."""
    address = driver_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    return await psycopg.AsyncConnection.connect(
        address,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} -c timezone=UTC",
    )


class Store:
    """PostgreSQL and Valkey as one thing to hand around."""

    def __init__(self, database_url: str, redis_url: str, *, pool_size: int = 5) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.pool_size = pool_size
        self.engine = create_engine(database_url, pool_size=pool_size)
        self.redis: Redis = Redis.from_url(
            redis_url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=30
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back on any error."""
        async with self.engine.begin() as connection:
            yield connection

    async def close(self) -> None:
        """Give back every connection."""
        await self.redis.aclose()
        await self.engine.dispose()
