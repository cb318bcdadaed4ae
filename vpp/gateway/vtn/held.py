"""The values our VTN holds of one VEN's reports, as they were received. Called by `sending`."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, Select, func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import ReportedValue, ResourceStatus
from vpp.domain.time import Interval, floor_to
from vpp.gateway.vtn.offering import Origin
from vpp.store.tables.openadr2_vtn import vtn2_report_request, vtn2_report_value

LATEST_OF = 5_000
"""The latest value of each point is looked for among so many values received last."""


async def last_id(connection: AsyncConnection, peer_id: str) -> int:
    """Return the id of the value received last, 0 where there is none."""
    query = select(func.max(vtn2_report_value.c.id)).where(vtn2_report_value.c.peer_id == peer_id)
    return int((await connection.execute(query)).scalar() or 0)


async def received_after(
    connection: AsyncConnection,
    peer_id: str,
    points: Collection[Origin],
    after_id: int,
    *,
    window: Interval | None,
    limit: int,
) -> list[Row[Any]]:
    """Return the values of points in the order they were received, those corrected since then included."""
    query = _held(peer_id).where(vtn2_report_value.c.id > after_id, _point().in_(list(points)))
    if window is not None:
        query = query.where(
            vtn2_report_value.c.start_at >= window.start_at, vtn2_report_value.c.start_at < window.end_at
        )
    return list((await connection.execute(query.order_by(vtn2_report_value.c.id).limit(limit))).all())


async def latest(connection: AsyncConnection, peer_id: str, points: Collection[Origin]) -> list[Row[Any]]:
    """Return the latest value of each point that has one."""
    recent = _held(peer_id).order_by(vtn2_report_value.c.id.desc()).limit(LATEST_OF).subquery()
    query = select(recent).where(tuple_(recent.c.specifier_id, recent.c.r_id).in_(list(points)))
    query = query.ext(distinct_on(recent.c.specifier_id, recent.c.r_id))
    query = query.order_by(recent.c.specifier_id, recent.c.r_id, recent.c.start_at.desc(), recent.c.id.desc())
    return list((await connection.execute(query)).all())


async def latest_status(connection: AsyncConnection, peer_id: str) -> ResourceStatus | None:
    """Return the status the VEN reported last, None where it reported none."""
    recent = _held(peer_id).order_by(vtn2_report_value.c.id.desc()).limit(LATEST_OF).subquery()
    query = select(recent.c.status).where(func.jsonb_typeof(recent.c.status) == "object")
    query = query.order_by(recent.c.start_at.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return None if row is None else msgspec.convert(row.status, type=ResourceStatus)


def told(rows: Iterable[Row[Any]], names: Mapping[Origin, str], step: timedelta) -> tuple[ReportedValue, ...]:
    """Return rows as reported values by our rIDs, in time; of several of a point in one `step` the latest."""
    found: dict[tuple[str, datetime], tuple[datetime, int, ReportedValue]] = {}
    for row in rows:
        name = names[row.specifier_id, row.r_id]
        slot = (name, floor_to(row.start_at, step) if step else row.start_at)
        before = found.get(slot)
        if before is None or before[:2] < (row.start_at, row.id):
            found[slot] = (row.start_at, row.id, _reported(row, name))
    values = [value for _, _, value in found.values()]
    return tuple(sorted(values, key=lambda value: (value.start_at, value.r_id)))


def _held(peer_id: str) -> Select[Any]:
    value, request = vtn2_report_value.c, vtn2_report_request.c
    columns = (value.id, value.r_id, value.start_at, value.duration_s, value.value, value.status)
    return (
        select(*columns, value.quality, value.confidence, request.specifier_id)
        .join(vtn2_report_request, request.report_request_id == value.report_request_id)
        .where(value.peer_id == peer_id)
    )


def _point() -> Any:
    return tuple_(vtn2_report_request.c.specifier_id, vtn2_report_value.c.r_id)


def _reported(row: Row[Any], name: str) -> ReportedValue:
    return ReportedValue(
        r_id=name,
        start_at=row.start_at,
        duration=None if row.duration_s is None else timedelta(seconds=row.duration_s),
        value=row.value if row.status is None else msgspec.convert(row.status, type=ResourceStatus),
        confidence=row.confidence,
        quality=row.quality,
    )
