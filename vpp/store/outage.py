"""Riding out a PostgreSQL or Valkey that is away: a loop's turn is taken again, later each time.

Called by every loop that must not end with its servers: collector, reconciler and queue in `vpp.lifecycle`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog
from prometheus_client import Counter
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
OUTAGES = Counter("vpp_outages_total", "Turns of a loop that failed because a server was away", ["loop"])

Result = TypeVar("Result")
_log = structlog.get_logger("vpp.store")


def is_outage(error: BaseException | None) -> bool:
    """Whether a server was away or broke off, and not we who asked something wrong."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_outage(each) for each in error.exceptions)
    if error is not None and _of_the_queue(error):
        return is_outage(error.__cause__)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    away = OperationalError | InterfaceError | NoFreeConnection | RedisError | OSError
    return isinstance(error, away | psycopg.OperationalError | psycopg.InterfaceError)


async def outlast(loop: str, turn: Callable[[], Awaitable[Result]], *, attempts: int | None = None) -> Result:
    """Take a turn of a loop, again until the servers it needs are there. Other errors go through.

    Waits in real time, also in a simulation: its clock stands still meanwhile. With `attempts` the last
    failure goes through too.
    """
    failures = 0
    while True:
        try:
            return await turn()
        except Exception as error:
            task = asyncio.current_task()
            failures += 1
            if not is_outage(error) or failures == attempts or (task is not None and task.cancelling()):
                raise
            wait_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            OUTAGES.labels(loop).inc()
            _log.warning("a server is away", loop=loop, error=_first(error), failures=failures, retry_s=wait_s)
            await asyncio.sleep(wait_s)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error.__cause__ is not None and _of_the_queue(error):
        error = error.__cause__
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _of_the_queue(error: BaseException) -> bool:
    """Whether the job queue wraps what its connection said."""
    from procrastinate.exceptions import ConnectorException  # most processes have no queue, and start without it

    return isinstance(error, ConnectorException)
