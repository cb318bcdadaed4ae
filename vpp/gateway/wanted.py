"""EiReport, the end that asks: what a peer is asked to report, by its configuration (`reports`). Called by `consumer`,
and by `asking` with every round of our VEN.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec
import structlog
from sqlalchemy import ARRAY, Text, any_, delete, exists, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import CancelReports, CreateReports, ReportDemand, ReportOffer
from vpp.domain.peer import Peer
from vpp.domain.time import floor_to
from vpp.gateway.offers import HISTORY_USAGE, METADATA
from vpp.peering import ReportWish, add_demand, drop_demands, queue_message, report_offers, report_wishes
from vpp.store.tables.openadr2_vtn import vtn2_report_request, vtn2_report_value

SETTLED_AFTER = timedelta(hours=1)
"""A history is asked for so long after its end: by then what was measured in it has been reported."""
ASKED_AGAIN = timedelta(days=1)
"""What was refused, or led to no offers, is asked for again after that."""
KEPT, KEPT_ENDED = timedelta(days=400), timedelta(days=30)
"""How long values of a VTN above us are kept, and requests that have ended and have no values."""
MAX_VALUES = 200_000
"""Values kept of one VTN above us."""
MAX_APART = 50
"""Reports asked for at a time, each in a message of its own."""
_OPEN = ("asked", "running")

log = structlog.get_logger("vpp.gateway")


async def ask(
    connection: AsyncConnection,
    peer_id: str,
    demands: Sequence[ReportDemand],
    *,
    ven_id: str | None,
    apart: bool,
    at: datetime,
) -> None:
    """Queue the messages that ask for reports; `apart` makes one of each."""
    for part in [(each,) for each in demands] if apart else [tuple(demands)]:
        if part:
            asking = CreateReports(request_id=uuid4().hex, demands=part, ven_id=ven_id)
            await queue_message(connection, peer_id, asking, at=at)


async def ask_offers(connection: AsyncConnection, peer_id: str, *, at: datetime) -> None:
    """Ask a peer what it can report, once more where it was asked before and has not said."""
    before = await answer_metadata(connection, peer_id, at)
    await drop_demands(connection, peer_id, before, "replaced", at=at)
    demand = ReportDemand(
        report_request_id=uuid4().hex,
        specifier_id=METADATA,
        points=(("0", "x-notApplicable"),),
        granularity=timedelta(0),
        back=timedelta(0),
    )
    await add_demand(connection, peer_id, demand, at=at)
    await ask(connection, peer_id, [demand], ven_id=None, apart=True, at=at)


async def keep_to_wishes(connection: AsyncConnection, peer: Peer, *, at: datetime) -> None:
    """Ask a peer for what its configuration wants and is not asked for, and end what it does not want any more.

    A single value is asked for when it is offered only (`consumer.take_offers`); what was refused, once a day.
    """
    offers = {offer.specifier_id: offer for offer in await report_offers(connection, peer.id)}
    wishes, table = _wishes(peer), vtn2_report_request.c
    wish_of = {specifier_id: wishes.get(_name(offer)) for specifier_id, offer in offers.items()}
    query = select(table.report_request_id, table.specifier_id, table.state, table.demand).where(
        table.peer_id == peer.id, or_(table.state.in_(_OPEN), table.changed_at > at - ASKED_AGAIN)
    )
    rows = (await connection.execute(query)).all()
    asked = [row for row in rows if row.state in _OPEN and row.specifier_id != METADATA]
    unwanted = [row.report_request_id for row in asked if not _meets(row.demand, wish_of.get(row.specifier_id))]
    await stop(connection, peer.id, unwanted, at=at)
    if wishes and not offers and not any(row.specifier_id == METADATA for row in rows):
        await ask_offers(connection, peer.id, at=at)
    refused = {row.specifier_id for row in rows if row.state == "refused"}
    lasting = [
        offer
        for specifier_id, offer in offers.items()
        if (wish := wish_of[specifier_id]) is not None
        and (_name(offer) == HISTORY_USAGE or (wish.back and specifier_id not in refused))
    ]
    demands = await new_demands(connection, peer, lasting, most=MAX_APART, at=at)
    await ask(connection, peer.id, demands, ven_id=None, apart=True, at=at)


async def stop(connection: AsyncConnection, peer_id: str, report_request_ids: Sequence[str], *, at: datetime) -> None:
    """End reports a peer sends us, or was asked for."""
    if report_request_ids:
        ids = tuple(sorted(report_request_ids))
        await set_state(connection, peer_id, ids, "cancelled", at)
        await drop_demands(connection, peer_id, ids, "cancelled", at=at)
        ending = CancelReports(request_id=uuid4().hex, report_request_ids=ids, to_follow=False)
        await queue_message(connection, peer_id, ending, at=at)


async def prune(connection: AsyncConnection, peer_id: str, *, at: datetime) -> None:
    """Forget values received long ago and all but the last of them, and requests without values that have ended."""
    value, request = vtn2_report_value, vtn2_report_request
    beyond = select(value.c.id).where(value.c.peer_id == peer_id).order_by(value.c.id.desc())
    old = or_(value.c.received_at < at - KEPT, value.c.id <= beyond.offset(MAX_VALUES).limit(1).scalar_subquery())
    await connection.execute(delete(value).where(value.c.peer_id == peer_id, old))
    await connection.execute(
        delete(request).where(
            request.c.peer_id == peer_id,
            request.c.state.in_(("done", "cancelled", "refused")),
            request.c.changed_at < at - KEPT_ENDED,
            ~exists().where(value.c.report_request_id == request.c.report_request_id),
        )
    )


async def set_state(
    connection: AsyncConnection, peer_id: str, ids: Collection[str], state: str, at: datetime, *, reason: str = ""
) -> None:
    """Move open requests on; those cancelled or done stay what they are."""
    if ids:
        await connection.execute(
            update(vtn2_report_request)
            .where(
                vtn2_report_request.c.peer_id == peer_id,
                vtn2_report_request.c.report_request_id == any_(literal(list(ids), ARRAY(Text))),
                vtn2_report_request.c.state.in_(_OPEN),
            )
            .values(state=state, reason=reason, changed_at=at)
        )


async def answer_metadata(connection: AsyncConnection, peer_id: str, at: datetime) -> list[str]:
    """Whoever asked for the list of reports has it now; returns those requests."""
    asked = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.specifier_id == METADATA,
            vtn2_report_request.c.state.in_(_OPEN),
        )
        .values(state="done", changed_at=at)
        .returning(vtn2_report_request.c.report_request_id)
    )
    return list((await connection.execute(asked)).scalars())


async def ask_again(
    connection: AsyncConnection, peer_id: str, specifier_ids: Sequence[str], at: datetime
) -> list[ReportDemand]:
    """Return the open demands, now asked anew; what waits to ask for them is not told any more."""
    still_open = (
        update(vtn2_report_request)
        .where(
            vtn2_report_request.c.peer_id == peer_id,
            vtn2_report_request.c.state.in_(_OPEN),
            vtn2_report_request.c.specifier_id.in_(specifier_ids),
        )
        .values(state="asked", changed_at=at)
        .returning(vtn2_report_request.c.demand)
    )
    demands = [msgspec.convert(row.demand, type=ReportDemand) for row in await connection.execute(still_open)]
    await drop_demands(connection, peer_id, [each.report_request_id for each in demands], "replaced", at=at)
    return demands


async def new_demands(
    connection: AsyncConnection, peer: Peer, offers: Sequence[ReportOffer], *, most: int, at: datetime
) -> list[ReportDemand]:
    """Return, as new demands, what the peer's configuration wants of every report of a name, unless it is asked for."""
    wishes = _wishes(peer)
    demands: list[ReportDemand] = []
    for offer in offers:
        name = _name(offer)
        wish = wishes.get(name)
        if wish is None or not offer.points or len(demands) == most:
            continue
        demand = _history_demand(offer, wish, at) if name == HISTORY_USAGE else _demand(offer, wish, at)
        if not await _is_asked(connection, peer.id, demand, since=demand.start_at if name == HISTORY_USAGE else None):
            await add_demand(connection, peer.id, demand, at=at)
            demands.append(demand)
    return demands


def _wishes(peer: Peer) -> dict[str, ReportWish]:
    """What the configuration wants; nothing where it was stored before anybody checked it, and cannot be."""
    try:
        return report_wishes(peer.config)
    except InvalidRequest as error:
        log.warning("reports not asked for", peer=peer.name, error=str(error))
        return {}


def _meets(asked: object, wish: ReportWish | None) -> bool:
    """Whether a report that was asked for is still wanted, and as often."""
    demand = msgspec.convert(asked, type=ReportDemand)
    return wish is not None and (not demand.back or (demand.granularity, demand.back) == (wish.granularity, wish.back))


def _name(offer: ReportOffer) -> str:
    return offer.name.removeprefix("METADATA_")


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
