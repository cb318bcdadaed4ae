"""EiReport, the end that asks: what a peer can report, what it was asked for, and the values. Used by both ends:
by the VTN's desk for its VENs (`vtn.reports`), by our VEN for the VTN above it (`asking`).

Values are stored in a table and told by `NOTIFY vpp_vtn2_report`, in the transaction the peer's message is
answered after: what a consumer asked for goes on over any restart, its own included.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr2 import (
    INVALID_DATA,
    INVALID_ID,
    CanceledReports,
    CancelReports,
    CreatedReports,
    CreateReports,
    RegisterReports,
    ReportDemand,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    ResourceStatus,
    UpdateReports,
)
from vpp.domain.peer import Peer
from vpp.domain.time import floor_to
from vpp.gateway.outbox import close_answered, close_taken
from vpp.gateway.refused import Refused, check_ids
from vpp.peering import (
    REPORT_CHANNEL,
    ReportWish,
    add_demand,
    drop_demands,
    queue_message,
    report_offers,
    report_wishes,
)
from vpp.store.tables.openadr2_vtn import vtn2_report_offer, vtn2_report_request, vtn2_report_value

MAX_OFFERS = 500
SETTLED_AFTER = timedelta(hours=1)
"""A history is asked for so long after its end: by then what was measured in it has been reported."""
_METADATA, _HISTORY = "METADATA", "HISTORY_USAGE"
_VALUES_LOCK = text("select pg_advisory_xact_lock(hashtext('vtn2_report_value'))")
"""Values get their ids and are committed in one order, whoever writes them: a consumer reads on by id."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of values: did a report run that nobody had confirmed, and which must be stopped once more."""

    began: bool
    stop: CancelReports | None


async def take_offers(
    connection: AsyncConnection, peer: Peer, message: RegisterReports, *, ven_id: str | None, at: datetime
) -> None:
    """Take the reports a peer offers in place of those before, and ask again for what is wanted of them.

    A peer offers its reports when it starts: what it was asked for before, it may have forgotten. It is asked by
    oadrCreateReport, which is repeated until answered, and not in the answer to this, which may be lost.

    Raises:
        Refused: it offers too many.
    """
    if len(message.offers) > MAX_OFFERS:
        raise Refused(INVALID_DATA, f"at most {MAX_OFFERS} reports can be offered")
    check_ids(each.specifier_id for each in message.offers)
    offers = {each.specifier_id: each for each in message.offers}
    await connection.execute(delete(vtn2_report_offer).where(vtn2_report_offer.c.peer_id == peer.id))
    if offers:
        rows = [
            {"peer_id": peer.id, "specifier_id": name, "offer": msgspec.to_builtins(offer), "offered_at": at}
            for name, offer in offers.items()
        ]
        await connection.execute(insert(vtn2_report_offer), rows)
    await _answer_metadata(connection, peer.id, at)
    demands = [
        *await _ask_again(connection, peer.id, list(offers), at),
        *await _wanted(connection, peer, list(offers.values()), at),
    ]
    if demands:
        asking = CreateReports(request_id=uuid4().hex, demands=tuple(demands), ven_id=ven_id)
        await queue_message(connection, peer.id, asking, at=at)


async def ask_wanted(connection: AsyncConnection, peer: Peer, *, at: datetime) -> None:
    """Ask for what the peer's configuration wants of what it has offered, unless it is asked for; each by itself."""
    for demand in await _wanted(connection, peer, await report_offers(connection, peer.id), at):
        await queue_message(connection, peer.id, CreateReports(request_id=uuid4().hex, demands=(demand,)), at=at)


async def take_created(connection: AsyncConnection, peer_id: str, message: CreatedReports, *, at: datetime) -> None:
    """Take a peer's word on what it will report: those it names run, and where it refuses, none does."""
    response = message.response
    outcome = "answered" if response.code == 200 else "refused"
    sent = await close_answered(connection, peer_id, "CreateReports", response.request_id, outcome, at=at)
    if response.code != 200:
        asked = sent.demands if isinstance(sent, CreateReports) else ()
        reason = f"{response.code} {response.description}"[:500]
        await set_state(connection, peer_id, [each.report_request_id for each in asked], "refused", at, reason=reason)
    else:
        await set_state(connection, peer_id, list(message.pending), "running", at)


async def take_values(
    connection: AsyncConnection, peer_id: str, message: UpdateReports, *, ven_id: str | None, at: datetime
) -> Taken:
    """Store the values of reports. Of a report we ended, the answer says so once more.

    Raises:
        Refused: no report with this id was asked of this peer; nothing of the message is to be stored then.
    """
    ids = sorted({update.report_request_id for update in message.updates})
    check_ids({value.r_id for update in message.updates for value in update.values})
    table = vtn2_report_request.c
    query = select(table.report_request_id, table.state, table.demand)
    query = query.where(table.peer_id == peer_id, table.report_request_id.in_(ids))
    known = {row.report_request_id: row for row in await connection.execute(query)}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise Refused(INVALID_ID, f"no report was asked for as {unknown[0][:100]}")
    await connection.execute(_VALUES_LOCK)
    for each in message.updates:
        await _store(connection, peer_id, each, at)
    taken = [name for name, row in known.items() if row.state == "asked"]
    if taken:  # some never confirm, and send values
        await set_state(connection, peer_id, taken, "running", at)
        await close_taken(connection, peer_id, taken, at=at)
    once = [name for name, row in known.items() if not msgspec.convert(row.demand, type=ReportDemand).back]
    await set_state(connection, peer_id, once, "done", at)
    for report_request_id in ids:
        await connection.execute(select(func.pg_notify(REPORT_CHANNEL, report_request_id)))
    ended = tuple(name for name, row in known.items() if row.state == "cancelled")
    stop = None
    if ended:
        stop = CancelReports(request_id=uuid4().hex, report_request_ids=ended, to_follow=False, ven_id=ven_id)
    return Taken(bool(taken), stop)


async def take_canceled(connection: AsyncConnection, peer_id: str, message: CanceledReports, *, at: datetime) -> None:
    """Take a peer's word that it ended reports."""
    outcome = "answered" if message.response.code == 200 else "refused"
    await close_answered(connection, peer_id, "CancelReports", message.response.request_id, outcome, at=at)


async def set_state(
    connection: AsyncConnection, peer_id: str, ids: Collection[str], state: str, at: datetime, *, reason: str = ""
) -> None:
    """Move open requests on; those cancelled or done stay what they are."""
    if ids:
        await connection.execute(
            update(vtn2_report_request)
            .where(
                vtn2_report_request.c.peer_id == peer_id,
                vtn2_report_request.c.report_request_id.in_(list(ids)),
                vtn2_report_request.c.state.in_(("asked", "running")),
            )
            .values(state=state, reason=reason, changed_at=at)
        )


async def _answer_metadata(connection: AsyncConnection, peer_id: str, at: datetime) -> None:
    """Whoever asked for the list of reports has it now."""
    asked = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.specifier_id == _METADATA,
            vtn2_report_request.c.state.in_(("asked", "running")),
        )
        .values(state="done", changed_at=at)
    )
    await connection.execute(asked)


async def _ask_again(
    connection: AsyncConnection, peer_id: str, specifier_ids: Sequence[str], at: datetime
) -> list[ReportDemand]:
    """Return the open demands, now asked anew; what waits to ask for them is not told any more."""
    still_open = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.state.in_(("asked", "running")),
            vtn2_report_request.c.specifier_id.in_(specifier_ids),
        )
        .values(state="asked", changed_at=at)
        .returning(vtn2_report_request.c.demand)
    )
    demands = [msgspec.convert(row.demand, type=ReportDemand) for row in await connection.execute(still_open)]
    await drop_demands(connection, peer_id, [each.report_request_id for each in demands], "replaced", at=at)
    return demands


async def _wanted(
    connection: AsyncConnection, peer: Peer, offers: Sequence[ReportOffer], at: datetime
) -> list[ReportDemand]:
    """Return, as new demands, what the peer's configuration wants of every report of a name, unless it is asked for."""
    wishes = report_wishes(peer.config)
    demands: list[ReportDemand] = []
    for offer in offers:
        name = offer.name.removeprefix("METADATA_")
        wish = wishes.get(name)
        if wish is None or not offer.points:
            continue
        demand = _history_demand(offer, wish, at) if name == _HISTORY else _demand(offer, wish, at)
        if not await _is_asked(connection, peer.id, demand, since=demand.start_at if name == _HISTORY else None):
            await add_demand(connection, peer.id, demand, at=at)
            demands.append(demand)
    return demands


def _demand(offer: ReportOffer, wish: ReportWish, at: datetime) -> ReportDemand:
    return ReportDemand(
        report_request_id=uuid4().hex,
        specifier_id=offer.specifier_id,
        points=tuple((point.r_id, point.reading_type) for point in offer.points),
        granularity=wish.granularity,
        back=wish.back,
        start_at=at if wish.back else None,  # some take no request for a report that goes on without its beginning
    )


def _history_demand(offer: ReportOffer, wish: ReportWish, at: datetime) -> ReportDemand:
    """The last whole period of which everything should have been reported."""
    end_at = floor_to(at - SETTLED_AFTER, wish.period)
    once = replace(_demand(offer, wish, at), back=timedelta(0))
    return replace(once, start_at=end_at - wish.period, duration=wish.period)


async def _is_asked(connection: AsyncConnection, peer_id: str, demand: ReportDemand, *, since: datetime | None) -> bool:
    """Whether a report runs; with `since`, whether its history from then on was asked for, whatever came of that."""
    table = vtn2_report_request.c
    again = select(table.report_request_id).where(table.peer_id == peer_id, table.specifier_id == demand.specifier_id)
    if since is None:
        again = again.where(or_(table.state == "asked", table.state == "running"))
    else:
        again = again.where(table.demand["start_at"].astext == msgspec.to_builtins(demand)["start_at"])
    return (await connection.execute(again.limit(1))).first() is not None


async def _store(connection: AsyncConnection, peer_id: str, report: ReportUpdate, at: datetime) -> None:
    """Write values; one told again is the same value, one told otherwise replaces what it was."""
    rows = {(each.r_id, each.start_at): _row(peer_id, report, each, at) for each in report.values}
    if not rows:
        return
    new = insert(vtn2_report_value)
    table, said = vtn2_report_value.c, new.excluded
    changed = or_(
        table.value.is_distinct_from(said.value),
        table.status.is_distinct_from(said.status),
        table.quality.is_distinct_from(said.quality),
        table.duration_s.is_distinct_from(said.duration_s),
    )
    newer = {name: getattr(said, name) for name in ("value", "status", "quality", "duration_s", "confidence")}
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=["report_request_id", "r_id", "start_at"],
            set_={**newer, "received_at": at, "id": text("default")},
            where=changed,
        ),
        list(rows.values()),
    )


def _row(peer_id: str, report: ReportUpdate, value: ReportedValue, at: datetime) -> Mapping[str, Any]:
    is_status = isinstance(value.value, ResourceStatus)
    return {
        "peer_id": peer_id,
        "report_request_id": report.report_request_id,
        "r_id": value.r_id,
        "name": report.name,
        "start_at": value.start_at,
        "duration_s": None if value.duration is None else value.duration.total_seconds(),
        "value": None if is_status else value.value,
        "status": msgspec.to_builtins(value.value) if is_status else None,
        "quality": value.quality,
        "confidence": value.confidence,
        "received_at": at,
    }
