"""The queue's one task: take the step that is due. Failing steps are put off, never lost."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import structlog
from procrastinate import App, PsycopgConnector
from sqlalchemy import make_url

from vpp.commitments import postpone
from vpp.dispatch import Tools
from vpp.domain.errors import Conflict
from vpp.lifecycle.metrics import STEPS
from vpp.lifecycle.queue import QUEUE, TASK
from vpp.lifecycle.steps import take_step
from vpp.ports import MarketProgram
from vpp.store import outlast

log = structlog.get_logger()
RETRY_AFTER = timedelta(seconds=60)
_POOL: dict[str, Any] = {"min_size": 1, "max_size": 4, "timeout": 10.0, "reconnect_timeout": 30.0}
"""The pool waits longer with each failure to connect, within the last figure [s]: short, so that it is
soon back after the database is. Whoever asks for a connection later makes it try anew, and is told
after `timeout` [s] that there is none."""


class _Connector(PsycopgConnector):
    """Says again what a broken connection cut off.

    A job whose end could not be written down would be held for running for ever, and its commitment's
    next steps with it. All that passes here may be said twice.
    """

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        await outlast("queue", lambda: super(_Connector, self).execute_query_async(query, **arguments), attempts=6)


def job_app(tools: Tools, programs: Mapping[str, MarketProgram]) -> App:
    """Return the queue application for one worker."""
    url = make_url(tools.store.database_url).set(drivername="postgresql")
    app = App(connector=_Connector(conninfo=url.render_as_string(hide_password=False), **_POOL))

    @app.task(name=TASK, queue=QUEUE)
    async def take_due_step(commitment_id: str) -> None:
        try:
            await take_step(tools, programs, UUID(commitment_id))
            STEPS.labels("taken").inc()
        except Conflict as conflict:
            # Another worker or a signal moved the commitment on; its own wake-up is on the queue.
            STEPS.labels("already taken").inc()
            log.info("step already taken", commitment=commitment_id, reason=str(conflict))
        except Exception as error:
            STEPS.labels("failed").inc()
            now = tools.clock.now()
            async with tools.store.begin() as connection:
                why = f"{type(error).__name__}: {error}"
                await postpone(connection, UUID(commitment_id), until=now + RETRY_AFTER, at=now, why=why)
            raise

    return app
