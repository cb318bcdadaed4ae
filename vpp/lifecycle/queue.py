"""Put a wake-up on the queue in the caller's own transaction, by the queue's own SQL function."""

import json
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.ports import Clock

QUEUE = "commitments"
TASK = "take_step"

_DEFER = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW("
    ":queue, :task, 0, :lock, NULL, CAST(:args AS jsonb), CAST(:at AS timestamptz)"
    ")::procrastinate_job_to_defer_v1])"
)


async def wake(connection: AsyncConnection, commitment: Commitment, clock: Clock) -> None:
    """Defer the job for the commitment's next step.

    Under a clock that is stepped by hand only a step due now can be put on the queue, since no timer
    knows when later ones fall due; the reconciler wakes those.
    """
    if commitment.next_due_at is None:
        return
    wall = clock.wall_time(commitment.next_due_at)
    if wall is None and commitment.next_due_at > clock.now():
        return
    await connection.execute(
        _DEFER,
        {
            "queue": QUEUE,
            "task": TASK,
            "lock": f"commitment:{commitment.id}",
            "args": json.dumps({"commitment_id": str(commitment.id)}),
            "at": wall,
        },
    )


async def pending(connection: AsyncConnection) -> int:
    """How many jobs are running or could run now."""
    query = text(
        "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
        " OR (status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()))"
    )
    return int((await connection.execute(query)).scalar_one())


async def waiting_for(connection: AsyncConnection, commitment_id: UUID) -> bool:
    """Whether a job for this commitment is running or could run now."""
    query = text(
        "SELECT 1 FROM procrastinate_jobs WHERE lock = :lock AND (status = 'doing'"
        " OR (status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()))) LIMIT 1"
    )
    found = await connection.execute(query, {"lock": f"commitment:{commitment_id}"})
    return found.first() is not None
