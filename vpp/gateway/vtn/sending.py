"""EiReport to VENs: demands are kept, and told by messages that wait for the VEN's poll or are pushed.

Called by `own_reports`, by `registration` and `polling` where a VEN goes, and by the loop run beside the desk, which
tells what falls due. Of each report one message at most waits: the next is made once the VEN has taken it, so that
a history of any length comes page by page. What is told, and how far a report is, stand in one transaction.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict
from vpp.domain.openadr2 import RegisterReports, ReportDemand, ReportedValue, ResourceStatus, UpdateReports
from vpp.domain.peer import Peer
from vpp.gateway import reports
from vpp.gateway.demands import Demanded, take_demands, update_of
from vpp.gateway.offers import HISTORY_USAGE, METADATA, WantedReport
from vpp.gateway.outbox import close_kinds, close_updates, waiting_updates
from vpp.gateway.vtn import held
from vpp.gateway.vtn.offering import VEN_POINT, Offered, offered
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven
from vpp.peering import queue_message, report_offers, tell_vtn2
from vpp.store.tables.gateway import openadr2_report_request
from vpp.store.tables.openadr2_vtn import vtn2_registration

MAX_STANDING = 20
"""Reports one VEN may have running."""
PAGE = 250
"""Values of one message."""
OFFLINE_AFTER_POLLS = 3
SEEN_WRITTEN = timedelta(minutes=2)
"""How old what is written down of when a VEN was seen may be."""
SOURCE = "ven:"
"""Before the id of a VEN, where its demands are kept beside those of VTNs above us."""


def source_of(peer_id: str) -> str:
    """Return what the demands of a VEN are kept by."""
    return f"{SOURCE}{peer_id}"


async def offer_unasked(
    connection: AsyncConnection, room: Room, peer: Peer, ven_id: str | None, *, at: datetime
) -> None:
    """Offer our reports where the peer's configuration has `offer_reports`; many VENs do not expect any."""
    if peer.config.get("offer_reports") is True:
        await offer(connection, room, peer, ven_id, at=at)


async def offer(
    connection: AsyncConnection,
    room: Room,
    peer: Peer,
    ven_id: str | None,
    *,
    asked_as: str | None = None,
    at: datetime,
) -> None:
    """Tell a VEN which reports it can have; `asked_as` is the request by which it asked for that."""
    ours = await _offered(connection, room, peer.id, at)
    message = RegisterReports(request_id=uuid4().hex, offers=ours.offers, ven_id=ven_id, report_request_id=asked_as)
    await close_kinds(connection, peer.id, ("RegisterReports",), "replaced", at=at)
    await queue_message(connection, peer.id, message, at=at)


async def take(
    connection: AsyncConnection, room: Room, ven: Ven, demands: Sequence[ReportDemand], *, at: datetime
) -> tuple[Demanded, tuple[str, ...]]:
    """Keep what a VEN asks for, tell what is due of it, and return what came of it and the reports that run."""
    source, metadata = source_of(ven.peer.id), [each for each in demands if each.specifier_id == METADATA]
    others = [each for each in demands if each.specifier_id != METADATA]
    ours = await _offered(connection, room, ven.peer.id, at)
    demanded = await take_demands(connection, source, others, ours.catalogue, most=MAX_STANDING, at=at)
    standing = await reports.standing(connection, source)
    for each in standing:
        if each.after_id is None and _goes_on(each.request):
            await _begin(connection, ven, each.request, at)
    for asking in metadata:
        await offer(connection, room, ven.peer, ven.ven_id, asked_as=asking.report_request_id, at=at)
    await reports.prune(connection, source, at=at)
    await tell_due(connection, room, ven, at=at)
    return demanded, tuple(each.request.report_request_id for each in standing)


async def tell_due(connection: AsyncConnection, room: Room, ven: Ven, *, at: datetime) -> None:
    """Queue the values of every report that is due and has none waiting."""
    source, table = source_of(ven.peer.id), openadr2_report_request.c
    due = select(table.report_request_id).where(
        table.source == source, table.done_at.is_(None), table.next_due_at <= at
    )
    ids = set((await connection.execute(due.with_for_update())).scalars())
    ids -= await waiting_updates(connection, ven.peer.id) if ids else set()
    if not ids:
        return
    ours = await _offered(connection, room, ven.peer.id, at)
    for each in await reports.standing(connection, source):
        if each.request.report_request_id in ids:
            with suppress(Conflict):  # too much waits for this VEN: it is told when it has taken some
                await _tell(connection, room, ven, ours, each, at)
    await reports.finish(connection, source, at=at)


async def cancel(
    connection: AsyncConnection, room: Room, ven: Ven, ids: Collection[str], *, to_follow: bool, at: datetime
) -> tuple[set[str], tuple[str, ...]]:
    """End reports; with `to_follow` what there is of them is told. Returns those that ran, and those that still do."""
    source = source_of(ven.peer.id)
    standing = {each.request.report_request_id: each for each in await reports.standing(connection, source)}
    waiting = await waiting_updates(connection, ven.peer.id)
    known = set(ids) & (standing.keys() | waiting)
    if to_follow:
        ours = await _offered(connection, room, ven.peer.id, at)
        for each in sorted(known & standing.keys() - waiting):
            await _tell(connection, room, ven, ours, standing[each], at, is_last=True)
    else:
        await close_updates(connection, ven.peer.id, sorted(known), "cancelled", at=at)
    await reports.drop_requests(connection, source, known)
    return known, tuple(sorted(standing.keys() - known))


async def drop(connection: AsyncConnection, peer_id: str, ids: Collection[str], outcome: str, *, at: datetime) -> None:
    """End reports that the VEN does not take."""
    await close_updates(connection, peer_id, sorted(ids), outcome, at=at)
    await reports.drop_requests(connection, source_of(peer_id), ids)


async def end(connection: AsyncConnection, peer_id: str, outcome: str, *, at: datetime) -> None:
    """End everything a VEN asked for and was offered: it registers, or its registration ends."""
    await close_kinds(connection, peer_id, ("UpdateReports", "RegisterReports"), outcome, at=at)
    table = openadr2_report_request
    await connection.execute(delete(table).where(table.c.source == source_of(peer_id)))
    await tell_vtn2(connection, peer_id)


async def _offered(connection: AsyncConnection, room: Room, peer_id: str, at: datetime) -> Offered:
    return offered(await report_offers(connection, peer_id), kept=room.keeper.keep_for, at=at)


def _goes_on(request: WantedReport) -> bool:
    return request.name != HISTORY_USAGE and request.report_back_s > 0


async def _begin(connection: AsyncConnection, ven: Ven, request: WantedReport, at: datetime) -> None:
    """A report that goes on tells what is received from now on, for the first time when one is due."""
    begin_at = at if request.window is None else max(at, request.window.start_at)
    await reports.move(
        connection,
        source_of(ven.peer.id),
        request,
        next_due_at=begin_at + timedelta(seconds=request.report_back_s),
        after_id=await held.last_id(connection, ven.peer.id),
    )


async def _tell(
    connection: AsyncConnection,
    room: Room,
    ven: Ven,
    ours: Offered,
    due: reports.StandingRequest,
    at: datetime,
    *,
    is_last: bool = False,
) -> None:
    """Queue one page of a report, and note how far it is. One that ends without a value says so by an empty report."""
    request, names = due.request, {ours.origin[point]: point for point in due.request.points if point in ours.origin}
    if _goes_on(request) or request.name == HISTORY_USAGE:
        rows = await held.received_after(
            connection, ven.peer.id, names, due.after_id or 0, window=request.window, limit=PAGE
        )
    else:
        rows = await held.latest(connection, ven.peer.id, names)
    is_full = len(rows) == PAGE and (_goes_on(request) or request.name == HISTORY_USAGE)
    step = timedelta(0) if request.name == HISTORY_USAGE else timedelta(seconds=request.granularity_s)
    values = held.told(rows, names, step)
    if VEN_POINT in request.points:
        values = (*values, await _ven_status(connection, room, ven, at))
    next_due_at = None if is_last else at if is_full else _next(due, at)
    if values or next_due_at is None:
        updates = (update_of(request, values, at=at),)
        message = UpdateReports(request_id=uuid4().hex, updates=updates, ven_id=ven.ven_id)
        await queue_message(connection, ven.peer.id, message, at=at)
    after_id = max((row.id for row in rows), default=due.after_id or 0)
    await reports.move(connection, source_of(ven.peer.id), request, next_due_at=next_due_at, after_id=after_id)


def _next(due: reports.StandingRequest, at: datetime) -> datetime | None:
    """When a report is due after this: never, or at the next multiple of its period, or where it ends."""
    request, window = due.request, due.request.window
    if not _goes_on(request) or due.next_due_at is None or (window is not None and window.end_at <= at):
        return None
    back = timedelta(seconds=request.report_back_s)
    next_at = due.next_due_at + ((at - due.next_due_at) // back + 1) * back
    return next_at if window is None else min(next_at, window.end_at)


async def _ven_status(connection: AsyncConnection, room: Room, ven: Ven, at: datetime) -> ReportedValue:
    """How we count the VEN itself: online if it was heard lately, or, pushed to, if it owes us no answer."""
    query = select(vtn2_registration.c.seen_at).where(vtn2_registration.c.peer_id == ven.peer.id)
    seen = [each for each in ((await connection.execute(query)).scalar(), ven.seen_at) if each is not None]
    online = bool(seen) and at - max(seen) <= OFFLINE_AFTER_POLLS * room.poll + SEEN_WRITTEN
    if ven.registration is not None and not ven.registration.http_pull:
        online = online or all(each.sent_count < 2 for each in ven.queue)
    latest = await held.latest_status(connection, ven.peer.id)
    overridden = latest is not None and latest.overridden
    return ReportedValue(
        r_id=VEN_POINT, start_at=at, duration=None, value=ResourceStatus(online=online, overridden=overridden)
    )
