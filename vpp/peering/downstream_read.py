"""Room peering: reading the events we tell those below us. `downstream` writes them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotFound
from vpp.domain.grid_event import GridEvent
from vpp.peering.grid_event_json import event_from_json
from vpp.store.tables.downstream import grid_event, grid_event_version


@dataclass(frozen=True, slots=True)
class Downstream:
    """An event with what we keep beside it: whose it is, where it comes from, its object in OpenADR 3."""

    event: GridEvent
    tenant_id: str
    origin: str
    openadr3_id: str | None
    modified_at: datetime


async def load_downstream(
    connection: AsyncConnection, event_id: str, *, tenant_id: str, for_update: bool = False
) -> Downstream:
    """Return one event with what is kept beside it.

    Raises:
        NotFound: the tenant has none with this id.
    """
    query = select(grid_event).where(grid_event.c.event_id == event_id, grid_event.c.tenant_id == tenant_id)
    if for_update:
        query = query.with_for_update()
    row = (await connection.execute(query)).first() if event_id.isprintable() else None
    if row is None:
        raise NotFound(f"no event {event_id!r}")
    return _downstream(row)


async def load_grid_event(connection: AsyncConnection, event_id: str, *, tenant_id: str) -> GridEvent:
    """Return one event as it stands.

    Raises:
        NotFound: the tenant has none with this id.
    """
    return (await load_downstream(connection, event_id, tenant_id=tenant_id)).event


async def list_downstream(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    current_at: datetime | None = None,
    over_at: datetime | None = None,
    modified_since: datetime | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Downstream]:
    """Return events by start, then id, at most `limit`.

    Args:
        current_at: only those not over at this instant (recovery counts as not over).
        over_at: only those over at this instant, the latest first.
        modified_since: only those stored or changed at or after this instant.
    """
    query = _when(select(grid_event).where(grid_event.c.tenant_id == tenant_id), current_at, over_at)
    if modified_since is not None:
        query = query.where(grid_event.c.modified_at >= modified_since)
    order = grid_event.c.start_at if over_at is None else grid_event.c.start_at.desc()
    query = query.order_by(order, grid_event.c.event_id).limit(limit).offset(offset)
    return [_downstream(row) for row in await connection.execute(query)]


async def list_grid_events(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    current_at: datetime | None = None,
    modified_since: datetime | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[GridEvent]:
    """Return the events themselves, chosen as by `list_downstream`."""
    found = await list_downstream(
        connection,
        tenant_id=tenant_id,
        current_at=current_at,
        modified_since=modified_since,
        limit=limit,
        offset=offset,
    )
    return [each.event for each in found]


async def count_downstream(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    current_at: datetime | None = None,
    over_at: datetime | None = None,
) -> int:
    """Return how many events `list_downstream` would find."""
    query = select(func.count()).select_from(grid_event).where(grid_event.c.tenant_id == tenant_id)
    return int((await connection.execute(_when(query, current_at, over_at))).scalar_one())


async def list_versions(
    connection: AsyncConnection, event_id: str, *, tenant_id: str, limit: int = 100
) -> list[tuple[GridEvent, datetime]]:
    """Return every version of an event with when it was stated, the latest first."""
    query = select(grid_event_version.c.event, grid_event_version.c.stated_at)
    query = query.where(grid_event_version.c.tenant_id == tenant_id, grid_event_version.c.event_id == event_id)
    query = query.order_by(grid_event_version.c.modification_number.desc()).limit(limit)
    return [(event_from_json(row.event), row.stated_at) for row in await connection.execute(query)]


def _downstream(row: Row[Any]) -> Downstream:
    return Downstream(event_from_json(row.event), row.tenant_id, row.origin, row.openadr3_id, row.modified_at)


def _when(query: Select[Any], current_at: datetime | None, over_at: datetime | None) -> Select[Any]:
    if current_at is not None:
        query = query.where(or_(grid_event.c.over_at.is_(None), grid_event.c.over_at > current_at))
    if over_at is not None:
        query = query.where(grid_event.c.over_at <= over_at)
    return query
