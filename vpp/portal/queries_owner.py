"""What the owner's pages read beside the settlement's own statements: months there are, coming events.

Called by `owner` and `statements`.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import CommitmentState
from vpp.store.tables import commitments, fleet, settlement

line = settlement.statement_line


@dataclass(frozen=True, slots=True, kw_only=True)
class ComingEvent:
    """An event a site may be called in."""

    id: UUID
    program: str
    state: CommitmentState
    start_at: datetime
    end_at: datetime


async def months(connection: AsyncConnection, site_id: str) -> list[date]:
    """Return the months a site has lines for, newest first."""
    query = select(line.c.month).where(line.c.site_id == site_id).distinct().order_by(line.c.month.desc()).limit(120)
    return list((await connection.execute(query)).scalars())


async def coming_events(
    connection: AsyncConnection, *, tenant_id: str, site_id: str, at: datetime, limit: int = 5
) -> list[ComingEvent]:
    """Return accepted and running events of the site's programmes that are not over, soonest first."""
    event, target = commitments.commitment, commitments.commitment_target
    start_at, end_at = func.min(target.c.start_at), func.max(target.c.end_at)
    programs = select(fleet.program_enrolment.c.program).where(fleet.program_enrolment.c.site_id == site_id)
    latest = (
        select(func.max(target.c.modification_number)).where(target.c.commitment_id == event.c.id).correlate(event)
    ).scalar_subquery()
    query = (
        select(event.c.id, event.c.program, event.c.state, start_at.label("start_at"), end_at.label("end_at"))
        .join(target, target.c.commitment_id == event.c.id)
        .where(
            event.c.tenant_id == tenant_id,
            event.c.program.in_(programs),
            event.c.state.in_([CommitmentState.ACCEPTED.value, CommitmentState.ACTIVE.value]),
            target.c.modification_number == latest,
        )
        .group_by(event.c.id)
        .having(end_at > at)
        .order_by(start_at)
        .limit(limit)
    )
    return [
        ComingEvent(
            id=row.id,
            program=row.program,
            state=CommitmentState(row.state),
            start_at=row.start_at,
            end_at=row.end_at,
        )
        for row in await connection.execute(query)
    ]
