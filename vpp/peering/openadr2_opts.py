"""Room peering: what VENs of our OpenADR 2.0b VTN have declared by EiOpt. Read by `openadr2` and the portal."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.grid_event import Target, TargetKind
from vpp.domain.time import Interval
from vpp.store.tables.openadr2_vtn import vtn2_opt
from vpp.store.tables.peering import peer

MOST = 1000
_MAX_PART_CHARS = 120
_SHARES_TIME = text(
    "exists (select from jsonb_array_elements(vtn2_opt.windows) as said"
    " where (said ->> 'start_at')::timestamptz < :until and (said ->> 'end_at')::timestamptz > :since)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenOpt:
    """One declaration in force: available (`opt_in`) or not, for an event or in windows of time.

    Attributes:
        parts: what of the VEN it speaks of (`resource heat-pump`, `device class Thermostat`); () is all of it.
        modification_number: the version of the event it speaks of.
    """

    peer_id: str
    name: str
    opt_id: str
    opt_in: bool
    reason: str
    windows: tuple[Interval, ...]
    event_id: str | None
    modification_number: int | None
    parts: tuple[str, ...]
    received_at: datetime


async def event_opts(connection: AsyncConnection, event_id: str, *, tenant_id: str) -> list[VenOpt]:
    """Return the declarations for one event, the latest first, at most `MOST`."""
    query = _in_force(tenant_id).where(vtn2_opt.c.event_id == event_id)
    return [_opt(row) for row in await connection.execute(query)]


async def opts_between(
    connection: AsyncConnection, *, tenant_id: str, start_at: datetime, end_at: datetime
) -> list[VenOpt]:
    """Return the declarations of VENs for windows that share time with this stretch, the latest first."""
    query = _in_force(tenant_id).where(_SHARES_TIME)
    return [_opt(row) for row in await connection.execute(query, {"since": start_at, "until": end_at})]


def _in_force(tenant_id: str) -> Any:
    return (
        select(vtn2_opt, peer.c.name)
        .join(peer, peer.c.id == vtn2_opt.c.peer_id)
        .where(peer.c.tenant_id == tenant_id, peer.c.revoked_at.is_(None), vtn2_opt.c.cancelled_at.is_(None))
        .order_by(vtn2_opt.c.received_at.desc(), vtn2_opt.c.opt_id)
        .limit(MOST)
    )


def _opt(row: Row[Any]) -> VenOpt:
    return VenOpt(
        peer_id=row.peer_id,
        name=row.name,
        opt_id=row.opt_id,
        opt_in=row.opt_in,
        reason=row.reason,
        windows=tuple(msgspec.convert(each, type=Interval) for each in row.windows),
        event_id=row.event_id,
        modification_number=row.modification_number,
        parts=tuple(_parts(row)),
        received_at=row.received_at,
    )


def _parts(row: Row[Any]) -> Iterator[str]:
    for target in msgspec.convert(row.targets, type=list[Target]):
        if target.kind is not TargetKind.VEN:
            yield f"{target.label or target.kind.value} {target.value}"[:_MAX_PART_CHARS]
    for target in msgspec.convert(row.device_class, type=list[Target]):
        yield f"device class {target.value}"[:_MAX_PART_CHARS]
