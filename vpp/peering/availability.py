"""Room peering: when the operator has declared the fleet unavailable. Called by portal, cli and the gateway.

The gateway tells each utility's VTN of it (EiOpt in 2.0b), as often as it takes, and declines events that fall
into such a window. What is declared here is durable: it is told after any restart.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.time import Interval
from vpp.store.tables.gateway import unavailability as table

OPT_REASONS = (
    "economic", "emergency", "mustRun", "notParticipating", "outageRunStatus", "overrideStatus", "participating",
    "x-schedule",
)  # fmt: skip
"""The reasons 2.0b has words for (schema, OptReasonEnumeratedType)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailability:
    """A window in which the fleet takes no events; `peer` is the one VTN it is declared to, None for all."""

    id: str
    tenant_id: str
    window: Interval
    reason: str
    declared_at: datetime
    peer: str | None = None
    withdrawn_at: datetime | None = None


async def declare_unavailable(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    window: Interval,
    at: datetime,
    reason: str = "notParticipating",
    peer: str | None = None,
) -> Unavailability:
    """Write down that the fleet is not available in a window, to be told to the VTNs.

    Args:
        window: it must not be over.
        reason: one of `OPT_REASONS`.
        peer: name of the one VTN to tell; None tells all of them.

    Raises:
        InvalidRequest: the window is over, or the reason is none of OpenADR's.
    """
    if window.end_at <= at:
        raise InvalidRequest("window", window.end_at.isoformat(), f"an end after {at.isoformat()}")
    if reason not in OPT_REASONS:
        raise InvalidRequest("reason", reason, f"one of {', '.join(OPT_REASONS)}")
    declared = Unavailability(
        id=uuid4().hex, tenant_id=tenant_id, window=window, reason=reason, declared_at=at, peer=peer
    )
    await connection.execute(
        insert(table).values(
            id=declared.id,
            tenant_id=tenant_id,
            peer=peer,
            start_at=window.start_at,
            end_at=window.end_at,
            reason=reason,
            declared_at=at,
        )
    )
    return declared


async def withdraw_unavailability(
    connection: AsyncConnection, declared_id: str, *, tenant_id: str, at: datetime
) -> Unavailability:
    """Take a declaration back; doing it again changes nothing.

    Raises:
        NotFound: this tenant has declared no such window.
    """
    mine = (table.c.id == declared_id) & (table.c.tenant_id == tenant_id)
    await connection.execute(update(table).where(mine, table.c.withdrawn_at.is_(None)).values(withdrawn_at=at))
    row = (await connection.execute(select(table).where(mine))).one_or_none()
    if row is None:
        raise NotFound(f"no unavailability {declared_id}")
    return _declared(row)


async def list_unavailability(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    after: datetime,
    peer: str | None = None,
    withdrawn: bool = False,
) -> list[Unavailability]:
    """Return windows that end after an instant, by start.

    Args:
        after: windows that end at or before it are left out.
        peer: only those that hold for this VTN.
        withdrawn: whether those taken back are returned as well.
    """
    query = select(table).where(table.c.tenant_id == tenant_id, table.c.end_at > after)
    if peer is not None:
        query = query.where(or_(table.c.peer.is_(None), table.c.peer == peer))
    if not withdrawn:
        query = query.where(table.c.withdrawn_at.is_(None))
    rows = await connection.execute(query.order_by(table.c.start_at, table.c.id))
    return [_declared(row) for row in rows]


def _declared(row: Row[Any]) -> Unavailability:
    return Unavailability(
        id=row.id,
        tenant_id=row.tenant_id,
        window=Interval(row.start_at, row.end_at),
        reason=row.reason,
        declared_at=row.declared_at,
        peer=row.peer,
        withdrawn_at=row.withdrawn_at,
    )
