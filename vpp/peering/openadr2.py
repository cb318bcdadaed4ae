"""Room peering: what our OpenADR 2.0b VTN knows of its VENs. Read by portal, cli and whoever wants report values.

Report values arrive in a table, with `NOTIFY vpp_vtn2_report` and the request's id. A consumer reads on from
where it stopped (`next_report_values`, `keep_cursor` in the transaction that used them), so that one that was
away misses nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, and_, func, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import ReportDemand, ReportOffer, ResourceStatus
from vpp.domain.peer import PeerRole
from vpp.peering.openadr2_opts import VenOpt, event_opts
from vpp.store.tables.openadr2_vtn import (
    vtn2_delivery,
    vtn2_outbox,
    vtn2_registration,
    vtn2_report_cursor,
    vtn2_report_offer,
    vtn2_report_request,
    vtn2_report_value,
)
from vpp.store.tables.peering import peer

REPORT_CHANNEL = "vpp_vtn2_report"
"""The PostgreSQL channel on which the id of a report request is told for which values arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenState:
    """One registered VEN, or one whose registration has ended.

    Attributes:
        waiting: messages queued for it, events not counted.
        seen_at: when it was last heard, to about half a minute.
    """

    peer_id: str
    name: str
    ven_id: str
    registration_id: str
    registered_at: datetime
    cancelled_at: datetime | None
    cancelled_by: str | None
    transport_address: str | None
    http_pull: bool
    xml_signature: bool
    seen_at: datetime | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VenAnswer:
    """What one VEN was told of an event, and what it says to it.

    Attributes:
        opt_in: the answer in force: that of an EiOpt where there is one, else of its oadrCreatedEvent.
        opt_id: the EiOpt that overrides the answer, if any.
        partly: what the VEN declared of parts of itself, which leaves its answer as it is.
        code: the VEN's own response code, 200 for success.
    """

    peer_id: str
    name: str
    ven_id: str | None
    told_modification: int | None
    told_status: str | None
    told_at: datetime | None
    answered_modification: int | None
    answered_at: datetime | None
    opt_in: bool | None
    code: int | None
    reason: str
    opt_id: str | None
    partly: tuple[VenOpt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequestState:
    """A report we asked a VEN for, and how far that got: asked, running, done, cancelled or refused."""

    peer_id: str
    demand: ReportDemand
    state: str
    reason: str
    asked_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedReport:
    """A report a peer was asked for: how many values came, and when the latest of them began."""

    demand: ReportDemand
    state: str
    reason: str
    asked_at: datetime
    values: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenReportValue:
    """One value a VEN reported, in the unit of the point it offered."""

    id: int
    peer_id: str
    report_request_id: str
    r_id: str
    name: str
    start_at: datetime
    duration: timedelta | None
    value: float | ResourceStatus
    quality: str | None
    received_at: datetime


async def ven_states(connection: AsyncConnection, *, tenant_id: str) -> list[VenState]:
    """Return every VEN that is or was registered at our 2.0b VTN, by name."""
    open_messages = (
        select(vtn2_outbox.c.peer_id, func.count().label("waiting"))
        .where(vtn2_outbox.c.closed_at.is_(None))
        .group_by(vtn2_outbox.c.peer_id)
        .subquery()
    )
    query = (
        select(vtn2_registration, peer.c.name, func.coalesce(open_messages.c.waiting, 0).label("waiting"))
        .join(peer, peer.c.id == vtn2_registration.c.peer_id)
        .outerjoin(open_messages, open_messages.c.peer_id == vtn2_registration.c.peer_id)
        .where(vtn2_registration.c.tenant_id == tenant_id)
        .order_by(peer.c.name, vtn2_registration.c.ven_id)
    )
    names = VenState.__dataclass_fields__
    return [VenState(**{name: getattr(row, name) for name in names}) for row in await connection.execute(query)]


async def event_answers(connection: AsyncConnection, event_id: str, *, tenant_id: str) -> list[VenAnswer]:
    """Return, by name, every 2.0b VEN that was told of an event or spoke of it."""
    opts: dict[str, list[VenOpt]] = defaultdict(list)
    for opt in await event_opts(connection, event_id, tenant_id=tenant_id):
        opts[opt.peer_id].append(opt)
    query = (
        select(vtn2_delivery, peer.c.name, vtn2_registration.c.ven_id)
        .join(peer, peer.c.id == vtn2_delivery.c.peer_id)
        .outerjoin(vtn2_registration, vtn2_registration.c.peer_id == vtn2_delivery.c.peer_id)
        .where(vtn2_delivery.c.tenant_id == tenant_id, vtn2_delivery.c.event_id == event_id)
        .order_by(peer.c.name, peer.c.id)
    )
    return [_answer(row, opts[row.peer_id]) for row in await connection.execute(query)]


def _answer(row: Row[Any], opts: Sequence[VenOpt]) -> VenAnswer:
    """The VEN's answer, or what it declared of itself as a whole; not of a version it has answered a later one of."""
    number = row.answered_modification
    current = [each for each in opts if number is None or (each.modification_number or 0) >= number]
    said = next((each for each in current if not each.parts), None)
    return VenAnswer(
        peer_id=row.peer_id,
        name=row.name,
        ven_id=row.ven_id,
        told_modification=row.told_modification,
        told_status=row.told_status,
        told_at=row.told_at,
        answered_modification=number,
        answered_at=row.answered_at,
        opt_in=row.opt_in if said is None else said.opt_in,
        code=row.answer_code,
        reason=(row.answer_reason if said is None else said.reason) or "",
        opt_id=None if said is None else said.opt_id,
        partly=tuple(each for each in current if each.parts),
    )


async def report_offers(connection: AsyncConnection, peer_id: str) -> list[ReportOffer]:
    """Return the reports a VEN has said it can send."""
    query = select(vtn2_report_offer.c.offer).where(vtn2_report_offer.c.peer_id == peer_id)
    found = await connection.execute(query.order_by(vtn2_report_offer.c.specifier_id))
    return [msgspec.convert(row.offer, type=ReportOffer) for row in found]


async def report_requests(connection: AsyncConnection, peer_id: str) -> list[ReportRequestState]:
    """Return what was asked of a VEN, the latest first, at most a thousand."""
    query = select(vtn2_report_request).where(vtn2_report_request.c.peer_id == peer_id)
    query = query.order_by(vtn2_report_request.c.asked_at.desc(), vtn2_report_request.c.report_request_id).limit(1000)
    return [
        ReportRequestState(
            peer_id=row.peer_id,
            demand=msgspec.convert(row.demand, type=ReportDemand),
            state=row.state,
            reason=row.reason,
            asked_at=row.asked_at,
            changed_at=row.changed_at,
        )
        for row in await connection.execute(query)
    ]


async def received_reports(connection: AsyncConnection, peer_id: str, *, limit: int = 50) -> list[ReceivedReport]:
    """Return what was asked of a peer, be it below us or above, and how much of it came; the latest first."""
    requests, value = vtn2_report_request, vtn2_report_value
    came = (
        select(func.count().label("values"), func.max(value.c.start_at).label("last_at"))
        .where(value.c.report_request_id == requests.c.report_request_id)
        .lateral()
    )
    query = select(requests, came.c["values"].label("came"), came.c.last_at).join(came, true())
    query = query.where(requests.c.peer_id == peer_id)
    query = query.order_by(requests.c.asked_at.desc(), requests.c.report_request_id).limit(limit)
    return [
        ReceivedReport(
            demand=msgspec.convert(row.demand, type=ReportDemand),
            state=row.state,
            reason=row.reason,
            asked_at=row.asked_at,
            values=row.came,
            last_at=row.last_at,
        )
        for row in await connection.execute(query)
    ]


async def next_report_values(
    connection: AsyncConnection,
    consumer: str,
    *,
    tenant_id: str,
    report_request_ids: Sequence[str] | None = None,
    limit: int = 1000,
) -> list[VenReportValue]:
    """Return the values of VENs a consumer has not kept its place behind yet, in the order they arrived."""
    after = select(vtn2_report_cursor.c.last_id).where(vtn2_report_cursor.c.consumer == consumer).scalar_subquery()
    query = (
        select(vtn2_report_value)
        .join(peer, and_(peer.c.id == vtn2_report_value.c.peer_id, peer.c.tenant_id == tenant_id))
        .where(peer.c.role == PeerRole.VEN.value)
        .where(vtn2_report_value.c.id > func.coalesce(after, 0))
        .order_by(vtn2_report_value.c.id)
        .limit(limit)
    )
    if report_request_ids is not None:
        query = query.where(vtn2_report_value.c.report_request_id.in_(report_request_ids))
    return [_value(row) for row in await connection.execute(query)]


async def keep_cursor(connection: AsyncConnection, consumer: str, last_id: int) -> None:
    """Remember that a consumer is done with all values up to this one."""
    new = insert(vtn2_report_cursor).values(consumer=consumer, last_id=last_id)
    further = {"last_id": func.greatest(vtn2_report_cursor.c.last_id, last_id)}
    await connection.execute(new.on_conflict_do_update(index_elements=["consumer"], set_=further))


def _value(row: Row[Any]) -> VenReportValue:
    return VenReportValue(
        id=row.id,
        peer_id=row.peer_id,
        report_request_id=row.report_request_id,
        r_id=row.r_id,
        name=row.name,
        start_at=row.start_at,
        duration=None if row.duration_s is None else timedelta(seconds=row.duration_s),
        value=row.value if row.status is None else msgspec.convert(row.status, type=ResourceStatus),
        quality=row.quality,
        received_at=row.received_at,
    )
