"""Room peering: what an operator asks of an OpenADR 2.0b VEN, put into the queue our VTN sends from.

Called by the portal, the cli and the VTN itself. A message and what it is about are written in the caller's
transaction, which also says `NOTIFY vpp_vtn2` with the peer's id; the VTN tells it at the VEN's next poll, or
pushes it, and repeats it until the VEN has answered.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.openadr2 import (
    CancelRegistration,
    CancelReports,
    CreateReports,
    Openadr2Message,
    RegisterReports,
    ReportDemand,
    RequestReregistration,
    UpdateReports,
)
from vpp.store.tables.openadr2_vtn import vtn2_outbox, vtn2_registration, vtn2_report_offer, vtn2_report_request

VTN2_CHANNEL = "vpp_vtn2"
"""The PostgreSQL channel on which the id of a peer is told whose queue or registration changed."""
METADATA = "METADATA"
"""Names, instead of a report, the list of reports a VEN can send (profile 2.0b, 8.5.2)."""
_NO_POINT = (("0", "x-notApplicable"),)
QUEUEABLE = (
    CancelRegistration, RequestReregistration, CreateReports, CancelReports, RegisterReports, UpdateReports,
)  # fmt: skip
_BY_KIND: dict[str, type[Any]] = {each.__name__: each for each in QUEUEABLE}
MAX_POINTS = 1000
MAX_WAITING = 200
"""Messages that may wait for one VEN: one that never polls is not filled up for ever."""


def message_from_json(kind: str, body: Any) -> Openadr2Message:
    """Return a message as the queue keeps it."""
    message: Openadr2Message = msgspec.convert(body, type=_BY_KIND[kind])
    return message


async def queue_message(connection: AsyncConnection, peer_id: str, message: Openadr2Message, *, at: datetime) -> str:
    """Put a message into a VEN's queue and return its request id.

    Raises:
        Conflict: too many messages wait for this VEN already.
        InvalidRequest: it is no message a VTN sends of its own accord.
    """
    kind = type(message).__name__
    if kind not in _BY_KIND:
        raise InvalidRequest("message", kind, " or ".join(_BY_KIND))
    waiting = select(func.count()).where(vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.closed_at.is_(None))
    if (await connection.execute(waiting)).scalar_one() >= MAX_WAITING:
        raise Conflict(f"{MAX_WAITING} messages wait for this VEN already: it does not poll, or does not answer")
    request_id = str(getattr(message, "request_id", "") or uuid4().hex)
    await connection.execute(
        insert(vtn2_outbox).values(
            peer_id=peer_id,
            kind=kind,
            request_id=request_id,
            message=msgspec.to_builtins(message),
            created_at=at,
            sent_count=0,
        )
    )
    await tell_vtn2(connection, peer_id)
    return request_id


async def ask_report(
    connection: AsyncConnection,
    peer_id: str,
    *,
    specifier_id: str,
    points: Sequence[tuple[str, str]],
    granularity: timedelta,
    back: timedelta,
    start_at: datetime | None = None,
    duration: timedelta | None = None,
    at: datetime,
) -> str:
    """Ask a VEN for a report and return the request's id, under which values will arrive.

    Args:
        specifier_id: one the VEN has offered, or METADATA for the offers themselves.
        points: (rID, readingType) of the points wanted; none for METADATA.
        granularity, back: a value every so long, sent every so long; zero and zero is one value, once.
        start_at, duration: the time reported on, for a history or a report that ends.

    Raises:
        NotFound: the VEN is not registered, or offers no such report.
        InvalidRequest: the request makes no sense.
        Conflict: too much waits for this VEN.
    """
    registered = await _registered(connection, peer_id)
    if specifier_id == METADATA and not points:
        points = _NO_POINT
    if granularity < timedelta(0) or back < timedelta(0):
        raise InvalidRequest("granularity, back", f"{granularity}, {back}", "no less than nothing")
    if not 1 <= len(points) <= MAX_POINTS:
        raise InvalidRequest("points", len(points), f"1 to {MAX_POINTS}")
    if specifier_id != METADATA:
        offered = select(vtn2_report_offer.c.specifier_id).where(vtn2_report_offer.c.peer_id == peer_id)
        known = set((await connection.execute(offered)).scalars())
        if specifier_id not in known:
            raise NotFound(f"this VEN offers no report {specifier_id!r}, but {', '.join(sorted(known)) or 'none'}")
    demand = ReportDemand(
        report_request_id=uuid4().hex,
        specifier_id=specifier_id,
        points=tuple(points),
        granularity=granularity,
        back=back,
        start_at=start_at,
        duration=duration,
    )
    await add_demand(connection, peer_id, demand, at=at)
    message = CreateReports(request_id=uuid4().hex, demands=(demand,), ven_id=registered.ven_id)
    await queue_message(connection, peer_id, message, at=at)
    return demand.report_request_id


async def add_demand(connection: AsyncConnection, peer_id: str, demand: ReportDemand, *, at: datetime) -> None:
    """Remember a report that is asked for."""
    await connection.execute(
        insert(vtn2_report_request).values(
            report_request_id=demand.report_request_id,
            peer_id=peer_id,
            specifier_id=demand.specifier_id,
            demand=msgspec.to_builtins(demand),
            state="asked",
            reason="",
            asked_at=at,
            changed_at=at,
        )
    )


async def cancel_report(
    connection: AsyncConnection, report_request_id: str, *, tenant_id: str, to_follow: bool = False, at: datetime
) -> None:
    """End a report; with `to_follow` the VEN sends once more what it has. Ended twice is ended once.

    Raises:
        NotFound: there is no such request.
    """
    query = (
        select(vtn2_report_request.c.peer_id, vtn2_report_request.c.state, vtn2_registration.c.ven_id)
        .join(vtn2_registration, vtn2_registration.c.peer_id == vtn2_report_request.c.peer_id)
        .where(vtn2_report_request.c.report_request_id == report_request_id, vtn2_registration.c.tenant_id == tenant_id)
        .with_for_update(of=vtn2_report_request)
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"no report request {report_request_id!r}")
    if row.state not in ("asked", "running"):
        return
    await connection.execute(
        update(vtn2_report_request)
        .where(vtn2_report_request.c.report_request_id == report_request_id)
        .values(state="cancelled", changed_at=at)
    )
    await drop_demands(connection, row.peer_id, [report_request_id], "cancelled", at=at)
    message = CancelReports(
        request_id=uuid4().hex, report_request_ids=(report_request_id,), to_follow=to_follow, ven_id=row.ven_id
    )
    await queue_message(connection, row.peer_id, message, at=at)


async def drop_demands(
    connection: AsyncConnection, peer_id: str, report_request_ids: Sequence[str], outcome: str, *, at: datetime
) -> None:
    """Take demands out of the messages that wait for a VEN, so that they are not repeated to it.

    A message that asks for nothing more is closed with `outcome`.
    """
    waiting = select(vtn2_outbox.c.id, vtn2_outbox.c.message).where(
        vtn2_outbox.c.peer_id == peer_id, vtn2_outbox.c.kind == "CreateReports", vtn2_outbox.c.closed_at.is_(None)
    )
    for row in (await connection.execute(waiting.order_by(vtn2_outbox.c.id).with_for_update())).all():
        asking = msgspec.convert(row.message, type=CreateReports)
        rest = tuple(each for each in asking.demands if each.report_request_id not in report_request_ids)
        if len(rest) == len(asking.demands):
            continue
        values: dict[str, Any] = {"message": msgspec.to_builtins(replace(asking, demands=rest))}
        if not rest:
            values = {"closed_at": at, "outcome": outcome}
        await connection.execute(update(vtn2_outbox).where(vtn2_outbox.c.id == row.id).values(values))
        await tell_vtn2(connection, peer_id)


async def end_registration(connection: AsyncConnection, peer_id: str, *, at: datetime) -> None:
    """Tell a VEN that its registration has ended; it ends when the VEN confirms, or has not for too long.

    Raises:
        NotFound: the VEN is not registered.
    """
    row = await _registered(connection, peer_id)
    message = CancelRegistration(request_id=uuid4().hex, registration_id=row.registration_id, ven_id=row.ven_id)
    await _once(connection, peer_id, message, at)


async def ask_reregistration(connection: AsyncConnection, peer_id: str, *, at: datetime) -> None:
    """Ask a VEN to register anew.

    Raises:
        NotFound: the VEN is not registered.
    """
    row = await _registered(connection, peer_id)
    await _once(connection, peer_id, RequestReregistration(ven_id=row.ven_id), at)


async def tell_vtn2(connection: AsyncConnection, peer_id: str) -> None:
    """Let the VTN look at a VEN again once this transaction is committed."""
    await connection.execute(select(func.pg_notify(VTN2_CHANNEL, peer_id)))


async def _once(connection: AsyncConnection, peer_id: str, message: Openadr2Message, at: datetime) -> None:
    """Queue a message unless one of its kind waits already."""
    waiting = select(vtn2_outbox.c.id).where(
        vtn2_outbox.c.peer_id == peer_id,
        vtn2_outbox.c.kind == type(message).__name__,
        vtn2_outbox.c.closed_at.is_(None),
    )
    if (await connection.execute(waiting)).first() is None:
        await queue_message(connection, peer_id, message, at=at)


async def _registered(connection: AsyncConnection, peer_id: str) -> Any:
    query = select(vtn2_registration.c.ven_id, vtn2_registration.c.registration_id).where(
        vtn2_registration.c.peer_id == peer_id, vtn2_registration.c.cancelled_at.is_(None)
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"VEN {peer_id} is not registered")
    return row
