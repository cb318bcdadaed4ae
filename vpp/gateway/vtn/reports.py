"""EiReport: what VENs can report, what they were asked for, and the values. Called by `desk`.

Values are stored in a table and told by `NOTIFY vpp_vtn2_report`, in the transaction the VEN's request is
answered after: what a consumer asked for goes on over any restart, its own included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    REPORT_NOT_SUPPORTED,
    Acknowledge,
    CanceledReports,
    CancelReports,
    CreatedReports,
    CreateReports,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    ResourceStatus,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway.outbox import close_answered, close_kinds, close_taken
from vpp.gateway.refused import Refused, check_ids, good
from vpp.gateway.vtn.metrics import VALUES
from vpp.gateway.vtn.room import Room
from vpp.gateway.vtn.view import Ven
from vpp.peering import REPORT_CHANNEL, add_demand, drop_demands, queue_message
from vpp.store.tables.openadr2_vtn import vtn2_report_offer, vtn2_report_request, vtn2_report_value

MAX_OFFERS = 500
_METADATA = "METADATA"
_VALUES_LOCK = text("select pg_advisory_xact_lock(hashtext('vtn2_report_value'))")
"""Values get their ids and are committed in one order, whoever writes them: a consumer reads on by id."""


async def registered(room: Room, ven: Ven, message: RegisterReports) -> RegisteredReports:
    """Take the reports a VEN offers in place of those before, and ask again for what is wanted of them.

    A VEN offers its reports when it starts: what it was asked for before, it may have forgotten. It is asked by
    oadrCreateReport, which is repeated until answered, and not in this answer, which may be lost.

    Raises:
        Refused: it offers too many.
    """
    if len(message.offers) > MAX_OFFERS:
        raise Refused(INVALID_DATA, f"at most {MAX_OFFERS} reports can be offered")
    check_ids(each.specifier_id for each in message.offers)
    now, peer_id = room.clock.now(), ven.peer.id
    offers = {each.specifier_id: each for each in message.offers}
    async with room.store.begin() as connection:
        await connection.execute(delete(vtn2_report_offer).where(vtn2_report_offer.c.peer_id == peer_id))
        if offers:
            await connection.execute(
                insert(vtn2_report_offer),
                [
                    {
                        "peer_id": peer_id,
                        "specifier_id": specifier_id,
                        "offer": msgspec.to_builtins(offer),
                        "offered_at": now,
                    }
                    for specifier_id, offer in offers.items()
                ],
            )
        await _answer_metadata(connection, peer_id, now)
        demands = [
            *await _ask_again(connection, peer_id, list(offers), now),
            *await _ask_standing(connection, ven, offers, now),
        ]
        if demands:
            asking = CreateReports(request_id=uuid4().hex, demands=tuple(demands), ven_id=ven.ven_id)
            await queue_message(connection, peer_id, asking, at=now)
    await room.keeper.load_ven(peer_id)
    return RegisteredReports(response=good(message.request_id), ven_id=ven.ven_id)


async def created(room: Room, ven: Ven, message: CreatedReports) -> Acknowledge:
    """Take a VEN's word on what it will report: those it names run, and where it refuses, none does."""
    now, peer_id, response = room.clock.now(), ven.peer.id, message.response
    async with room.store.begin() as connection:
        outcome = "answered" if response.code == 200 else "refused"
        sent = await close_answered(connection, peer_id, "CreateReports", response.request_id, outcome, at=now)
        if response.code != 200:
            asked = sent.demands if isinstance(sent, CreateReports) else ()
            reason = f"{response.code} {response.description}"[:500]
            await _set_state(
                connection, peer_id, [each.report_request_id for each in asked], "refused", now, reason=reason
            )
        else:
            await _set_state(connection, peer_id, list(message.pending), "running", now)
    await room.keeper.load_ven(peer_id)
    return Acknowledge(response=good(response.request_id), ven_id=ven.ven_id)


async def updated(room: Room, ven: Ven, message: UpdateReports) -> UpdatedReports:
    """Store the values of reports. Of a report we ended, the answer says so once more.

    Raises:
        Refused: no report with this id was asked of this VEN; nothing of the message is stored then.
    """
    now, peer_id = room.clock.now(), ven.peer.id
    ids = sorted({update.report_request_id for update in message.updates})
    check_ids({value.r_id for update in message.updates for value in update.values})
    async with room.store.begin() as connection:
        query = select(
            vtn2_report_request.c.report_request_id, vtn2_report_request.c.state, vtn2_report_request.c.demand
        ).where(vtn2_report_request.c.peer_id == peer_id, vtn2_report_request.c.report_request_id.in_(ids))
        known = {row.report_request_id: row for row in await connection.execute(query)}
        unknown = [each for each in ids if each not in known]
        if unknown:
            raise Refused(INVALID_ID, f"no report was asked for as {unknown[0][:100]}")
        await connection.execute(_VALUES_LOCK)
        for each in message.updates:
            await _store(connection, peer_id, each, now)
        taken = [name for name, row in known.items() if row.state == "asked"]
        if taken:  # some never confirm, and send values
            await _set_state(connection, peer_id, taken, "running", now)
            await close_taken(connection, peer_id, taken, at=now)
        once = [name for name, row in known.items() if not msgspec.convert(row.demand, type=ReportDemand).back]
        await _set_state(connection, peer_id, once, "done", now)
        for report_request_id in ids:
            await connection.execute(select(func.pg_notify(REPORT_CHANNEL, report_request_id)))
    if taken:
        await room.keeper.load_ven(peer_id)
    ended = tuple(name for name, row in known.items() if row.state == "cancelled")
    stop = None
    if ended:
        stop = CancelReports(request_id=uuid4().hex, report_request_ids=ended, to_follow=False, ven_id=ven.ven_id)
    VALUES.inc(sum(len(each.values) for each in message.updates))
    return UpdatedReports(response=good(message.request_id), cancel=stop, ven_id=ven.ven_id)


async def cancelled(room: Room, ven: Ven, message: CanceledReports) -> Acknowledge:
    """Take a VEN's word that it ended reports."""
    now, response = room.clock.now(), message.response
    outcome = "answered" if response.code == 200 else "refused"
    async with room.store.begin() as connection:
        await close_answered(connection, ven.peer.id, "CancelReports", response.request_id, outcome, at=now)
    await room.keeper.load_ven(ven.peer.id)
    return Acknowledge(response=good(response.request_id), ven_id=ven.ven_id)


async def asked_of_us(room: Room, ven: Ven, message: CreateReports) -> CreatedReports:
    """Answer a VEN that asks for reports: we have none, and say so in a list of nothing where it asks for that.

    Raises:
        Refused: it asks for a report.
    """
    if any(demand.specifier_id != _METADATA for demand in message.demands):
        raise Refused(REPORT_NOT_SUPPORTED, "this VTN offers no reports")
    async with room.store.begin() as connection:
        offer = RegisterReports(request_id=uuid4().hex, offers=(), ven_id=ven.ven_id)
        await close_kinds(connection, ven.peer.id, ("RegisterReports",), "replaced", at=room.clock.now())
        await queue_message(connection, ven.peer.id, offer, at=room.clock.now())
    await room.keeper.load_ven(ven.peer.id)
    return CreatedReports(response=good(message.request_id), ven_id=ven.ven_id)


async def not_ours(room: Room, ven: Ven, message: CancelReports) -> CanceledReports:
    """Answer a VEN that ends reports we never sent."""
    return CanceledReports(
        response=Response(INVALID_ID, "this VTN sends no such report", message.request_id), ven_id=ven.ven_id
    )


async def offers_taken(room: Room, ven: Ven, message: RegisteredReports) -> Acknowledge:
    """Take a VEN's answer to the reports we offer."""
    return await _answered(room, ven, "RegisterReports", message.response)


async def values_taken(room: Room, ven: Ven, message: UpdatedReports) -> Acknowledge:
    """Take a VEN's answer to values we sent."""
    return await _answered(room, ven, "UpdateReports", message.response)


async def _answered(room: Room, ven: Ven, kind: str, response: Response) -> Acknowledge:
    outcome = "answered" if response.code == 200 else "refused"
    async with room.store.begin() as connection:
        await close_answered(connection, ven.peer.id, kind, response.request_id, outcome, at=room.clock.now())
    await room.keeper.load_ven(ven.peer.id)
    return Acknowledge(response=good(response.request_id), ven_id=ven.ven_id)


async def _answer_metadata(connection: AsyncConnection, peer_id: str, now: datetime) -> None:
    """Whoever asked for the list of reports has it now."""
    asked = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.specifier_id == _METADATA,
            vtn2_report_request.c.state.in_(("asked", "running")),
        )
        .values(state="done", changed_at=now)
    )
    await connection.execute(asked)


async def _ask_again(
    connection: AsyncConnection, peer_id: str, specifier_ids: Sequence[str], now: datetime
) -> list[ReportDemand]:
    """Return the open demands, now asked anew; what waits to ask for them is not told any more."""
    still_open = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.state.in_(("asked", "running")),
            vtn2_report_request.c.specifier_id.in_(specifier_ids),
        )
        .values(state="asked", changed_at=now)
        .returning(vtn2_report_request.c.demand)
    )
    demands = [msgspec.convert(row.demand, type=ReportDemand) for row in await connection.execute(still_open)]
    await drop_demands(connection, peer_id, [each.report_request_id for each in demands], "replaced", at=now)
    return demands


async def _ask_standing(
    connection: AsyncConnection, ven: Ven, offers: Mapping[str, ReportOffer], now: datetime
) -> list[ReportDemand]:
    """Return, as new demands, what the peer's configuration wants of every report of a name, unless it is asked for.

    `reports` there is an object: by report name (`TELEMETRY_USAGE`), `granularity_s` and `back_s`.
    """
    wanted = ven.peer.config.get("reports")
    demands: list[ReportDemand] = []
    if not isinstance(wanted, Mapping):
        return demands
    for offer in offers.values():
        times = wanted.get(offer.name.removeprefix("METADATA_"))
        if not isinstance(times, Mapping) or not offer.points:
            continue
        again = select(vtn2_report_request.c.report_request_id).where(
            vtn2_report_request.c.peer_id == ven.peer.id,
            vtn2_report_request.c.specifier_id == offer.specifier_id,
            or_(vtn2_report_request.c.state == "asked", vtn2_report_request.c.state == "running"),
        )
        if (await connection.execute(again.limit(1))).first() is None:
            demand = ReportDemand(
                report_request_id=uuid4().hex,
                specifier_id=offer.specifier_id,
                points=tuple((point.r_id, point.reading_type) for point in offer.points),
                granularity=timedelta(seconds=float(times.get("granularity_s", 0))),
                back=timedelta(seconds=float(times.get("back_s", 0))),
            )
            if demand.back:  # some take no request for a report that goes on without the instant it begins at
                demand = replace(demand, start_at=now)
            await add_demand(connection, ven.peer.id, demand, at=now)
            demands.append(demand)
    return demands


async def _set_state(
    connection: AsyncConnection, peer_id: str, ids: Sequence[str], state: str, now: datetime, *, reason: str = ""
) -> None:
    """Move open requests on; those cancelled or done stay what they are."""
    if ids:
        await connection.execute(
            update(vtn2_report_request)
            .where(
                vtn2_report_request.c.peer_id == peer_id,
                vtn2_report_request.c.report_request_id.in_(ids),
                vtn2_report_request.c.state.in_(("asked", "running")),
            )
            .values(state=state, reason=reason, changed_at=now)
        )


async def _store(connection: AsyncConnection, peer_id: str, report: ReportUpdate, now: datetime) -> None:
    """Write values; one told again is the same value, one told otherwise replaces what it was."""
    rows = {(each.r_id, each.start_at): _row(peer_id, report, each, now) for each in report.values}
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
            set_={**newer, "received_at": now, "id": text("default")},
            where=changed,
        ),
        list(rows.values()),
    )


def _row(peer_id: str, report: ReportUpdate, value: ReportedValue, now: datetime) -> dict[str, Any]:
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
        "received_at": now,
    }
