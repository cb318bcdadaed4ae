"""Where the day stands: the latest steps of the event and the power behind it, for people who watch."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import in_force
from vpp.demo.script import TENANT
from vpp.dispatch import delivered_kw
from vpp.store.tables.commitments import commitment_step

QUIET = frozenset({"cycle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to the event."""

    id: int
    at: datetime
    what: str
    detail: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look at the day."""

    at: datetime
    target_kw: float | None
    delivered_kw: float | None
    steps: tuple[Step, ...]


async def moment(connection: AsyncConnection, at: datetime) -> Moment:
    """Look at the day now; `steps` are all that were taken so far, without the routine ones."""
    found = await in_force(connection, at, tenant_id=TENANT)
    rows = await connection.execute(
        select(commitment_step).where(commitment_step.c.what.not_in(QUIET)).order_by(commitment_step.c.id)
    )
    return Moment(
        at=at,
        target_kw=found[0].target_kw_at(at) if found else None,
        delivered_kw=await delivered_kw(connection, found[0], at) if found else None,
        steps=tuple(Step(id=row.id, at=row.at, what=row.what, detail=row.detail) for row in rows),
    )
