"""EiReport, the end that asks: what a peer can report, what it was asked for, and the values. Used by both ends:
by the VTN's desk for its VENs (`vtn.reports`), by our VEN for the VTN above it (`asking`).

Values are stored in a table and told by `NOTIFY vpp_vtn2_report`, in the transaction the peer's message is
answered after: what a consumer asked for goes on over any restart, its own included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import delete, func, or_, select, text
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
    ReportUpdate,
    ResourceStatus,
    UpdateReports,
)
from vpp.domain.peer import Peer
from vpp.gateway import wanted
from vpp.gateway.outbox import close_answered, close_taken
from vpp.gateway.refused import Refused, check_ids
from vpp.peering import (
    REPORT_CHANNEL,
)
from vpp.store.tables.openadr2_vtn import vtn2_report_offer, vtn2_report_request, vtn2_report_value

MAX_OFFERS = 500
_VALUES_LOCK = text("select pg_advisory_xact_lock(hashtext('vtn2_report_value'))")
"""Values get their ids and are committed in one order, whoever writes them: a consumer reads on by id."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of values: did a report run that nobody had confirmed, and which must be stopped once more."""

    began: bool
    stop: CancelReports | None


async def take_offers(
    connection: AsyncConnection,
    peer: Peer,
    message: RegisterReports,
    *,
    ven_id: str | None,
    apart: bool = False,
    at: datetime,
) -> None:
    """Take the reports a peer offers in place of those before, and ask again for what is wanted of them.

    A peer offers its reports when it starts: what it was asked for before, it may have forgotten. It is asked by
    oadrCreateReport, which is repeated until answered, and not in the answer to this, which may be lost.

    Args:
        apart: each report is asked for in a message of its own, for an answer that refuses one refuses the message.

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
    await wanted.answer_metadata(connection, peer.id, at)
    most = wanted.MAX_APART if apart else MAX_OFFERS
    demands = [
        *await wanted.ask_again(connection, peer.id, list(offers), at),
        *await wanted.new_demands(connection, peer, list(offers.values()), most=most, at=at),
    ]
    await wanted.ask(connection, peer.id, demands, ven_id=ven_id, apart=apart, at=at)


async def take_created(connection: AsyncConnection, peer_id: str, message: CreatedReports, *, at: datetime) -> None:
    """Take a peer's word on what it will report: those it names run, and where it refuses, no others do."""
    response, pending = message.response, set(message.pending)
    outcome = "answered" if response.code == 200 else "refused"
    sent = await close_answered(connection, peer_id, "CreateReports", response.request_id, outcome, at=at)
    await wanted.set_state(connection, peer_id, sorted(pending), "running", at)
    if response.code != 200 and isinstance(sent, CreateReports):
        refused = [each.report_request_id for each in sent.demands if each.report_request_id not in pending]
        reason = f"{response.code} {response.description}"[:500]
        await wanted.set_state(connection, peer_id, refused, "refused", at, reason=reason)


async def take_values(
    connection: AsyncConnection, peer_id: str, message: UpdateReports, *, ven_id: str | None, at: datetime
) -> Taken:
    """Store the values of reports. Of a report we ended, the answer says so once more.

    Raises:
        Refused: no report with this id was asked of this peer, or it has no such point; nothing of the message is to
            be stored then.
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
    demands = {name: msgspec.convert(row.demand, type=ReportDemand) for name, row in known.items()}
    await _check_points(connection, peer_id, message, demands)
    await connection.execute(_VALUES_LOCK)
    for each in message.updates:
        await _store(connection, peer_id, each, at)
    taken = [name for name, row in known.items() if row.state == "asked"]
    if taken:  # some never confirm, and send values
        await wanted.set_state(connection, peer_id, taken, "running", at)
        await close_taken(connection, peer_id, taken, at=at)
    once = [name for name, demand in demands.items() if not demand.back]
    await wanted.set_state(connection, peer_id, once, "done", at)
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


async def _check_points(
    connection: AsyncConnection, peer_id: str, message: UpdateReports, demands: Mapping[str, ReportDemand]
) -> None:
    """Take values of what was asked for, and of what the peer offers beside it in the same report."""
    offers: dict[str, set[str]] | None = None
    for update in message.updates:
        demand = demands[update.report_request_id]
        strange = {value.r_id for value in update.values} - {r_id for r_id, _ in demand.points}
        if strange and offers is None:
            table = vtn2_report_offer.c
            rows = await connection.execute(select(table.specifier_id, table.offer).where(table.peer_id == peer_id))
            offers = {row.specifier_id: {each["r_id"] for each in row.offer["points"]} for row in rows}
        strange -= (offers or {}).get(demand.specifier_id, set())
        if strange:
            raise Refused(INVALID_ID, f"report {demand.specifier_id[:100]} has no rID {min(strange)[:100]}")


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
