"""The queue's one task: take the step that is due. Failing steps are put off, never lost."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import structlog
from procrastinate import App, PsycopgConnector
from sqlalchemy import make_url

from vpp.commitments import postpone
from vpp.dispatch import Tools
from vpp.domain.errors import Conflict
from vpp.lifecycle.queue import QUEUE, TASK
from vpp.lifecycle.steps import take_step
from vpp.ports import MarketProgram

log = structlog.get_logger()
RETRY_AFTER = timedelta(seconds=60)


def job_app(tools: Tools, programs: Mapping[str, MarketProgram]) -> App:
    """Return the queue application for one worker."""
    url = make_url(tools.store.database_url).set(drivername="postgresql")
    app = App(connector=PsycopgConnector(conninfo=url.render_as_string(hide_password=False), min_size=1, max_size=4))

    @app.task(name=TASK, queue=QUEUE)
    async def take_due_step(commitment_id: str) -> None:
        try:
            await take_step(tools, programs, UUID(commitment_id))
        except Conflict as conflict:
            # Another worker or a signal moved the commitment on; its own wake-up is on the queue.
            log.info("step already taken", commitment=commitment_id, reason=str(conflict))
        except Exception as error:
            now = tools.clock.now()
            async with tools.store.begin() as connection:
                why = f"{type(error).__name__}: {error}"
                await postpone(connection, UUID(commitment_id), until=now + RETRY_AFTER, at=now, why=why)
            raise

    return app
