"""Why each site gives what it gives: `/api/v1/events/.../explanation` and that part of the operator's event page.

Mounted by `app.create_app`; `operator` shows the same part first. Read from what each control cycle kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import Constraint, Reason, Reasons, constraint_words, read_reasons
from vpp.domain.errors import NotFound
from vpp.portal import queries_events
from vpp.portal.auth import Subject, require, require_role
from vpp.portal.context import Ctx
from vpp.portal.render import page, window
from vpp.store.tables import dispatch

router = APIRouter()
Reader = Annotated[Subject, Depends(require(roles=("operator",), scope="read"))]
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[AwareDatetime | None, Query(description="The cycle in force then; the latest by default.")]

SITES_SHOWN = 12
NEXT_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReasons:
    """A control cycle and why it came out as it did; `reasons` is None where it was planned without prices."""

    start_at: datetime
    end_at: datetime
    reasons: Reasons | None


class OfferOut(BaseModel):
    """A site that would have given the next kW: its price per kWh and for how many kW that holds."""

    site_id: str
    price_per_kwh: float
    room_kw: float


class CycleOut(BaseModel):
    """A cycle and what the fleet paid per kWh in it."""

    start_at: datetime
    end_at: datetime
    price_per_kwh: float


class FleetExplanationOut(CycleOut):
    """Supply of the fleet in a cycle: price per kWh and cumulative power [kW]; how many sites were stopped by what."""

    delivered_kw: float
    curve_price_per_kwh: list[float]
    curve_kw: list[float]
    stopped: dict[Constraint, int]
    next_kw: list[OfferOut]


class SiteExplanationOut(CycleOut):
    """Why a site did what it did: what its last kWh cost it and its next would have, null where none was possible."""

    site_id: str
    battery_kw: float
    low_per_kwh: float | None
    high_per_kwh: float | None
    room_kw: float
    constraint: Constraint
    sentence: str
    next_kw: list[OfferOut]


@router.get("/api/v1/events/{event_id}/explanation", tags=["events"])
async def fleet_explanation(context: Ctx, subject: Reader, event_id: UUID, at: At = None) -> FleetExplanationOut:
    """The fleet's supply in a control cycle, and what stopped the sites."""
    cycle, found = await _known(context, subject, event_id, at)
    return FleetExplanationOut(
        start_at=cycle.start_at,
        end_at=cycle.end_at,
        price_per_kwh=found.price_per_kwh,
        delivered_kw=found.delivered_kw,
        curve_price_per_kwh=list(found.curve_price_per_kwh),
        curve_kw=list(found.curve_kw),
        stopped=found.stopped,
        next_kw=_offers(found.next_kw(NEXT_SHOWN)),
    )


@router.get("/api/v1/events/{event_id}/sites/{site_id}/explanation", tags=["events"])
async def site_explanation(
    context: Ctx, subject: Reader, event_id: UUID, site_id: str, at: At = None
) -> SiteExplanationOut:
    """Why one site did what it did in a control cycle, and who would have given the next kW."""
    cycle, found = await _known(context, subject, event_id, at)
    one = found.sites.get(site_id)
    if one is None:
        raise NotFound(f"no reason of site {site_id} in the cycle of {cycle.start_at.isoformat()}")
    return SiteExplanationOut(
        start_at=cycle.start_at,
        end_at=cycle.end_at,
        price_per_kwh=one.price_per_kwh,
        site_id=site_id,
        battery_kw=one.battery_kw,
        low_per_kwh=one.low_per_kwh,
        high_per_kwh=one.high_per_kwh,
        room_kw=one.room_kw,
        constraint=one.constraint,
        sentence=one.sentence,
        next_kw=_offers(found.next_kw(NEXT_SHOWN)),
    )


@router.get("/operator/events/{event_id}/reasons", include_in_schema=False)
async def reasons_part(
    request: Request,
    context: Ctx,
    subject: Operator,
    event_id: UUID,
    search: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """That part of the operator's event page, for the cycle that is new or the sites that are looked for."""
    async with context.store.begin() as connection:
        event, _ = await queries_events.get_event(connection, event_id, tenant_id=subject.tenant_id)
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id, program=event.program)
        cycle = await cycle_reasons(connection, event_id)
    values = {"why": section(cycle, zone, search.strip()), "event_id": event_id}
    return page(request, "event_reasons.html", values, subject=subject)


async def cycle_reasons(connection: AsyncConnection, event_id: UUID, at: datetime | None = None) -> CycleReasons | None:
    """Return the cycle in force at an instant, or the latest; None before the first."""
    table = dispatch.cycle.c
    query = select(table.start_at, table.end_at, table.solve["reasons"].label("reasons"))
    query = query.where(table.commitment_id == event_id).order_by(table.start_at.desc()).limit(1)
    if at is not None:
        query = query.where(table.start_at <= at, table.end_at > at)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return CycleReasons(start_at=row.start_at, end_at=row.end_at, reasons=read_reasons(row.reasons))


def section(cycle: CycleReasons | None, zone: str, search: str = "") -> dict[str, Any]:
    """What the template shows of a cycle; sites whose id holds `search`, the most telling first."""
    found = cycle.reasons if cycle is not None else None
    if cycle is None or found is None:
        return {"cycle": None if cycle is None else window(cycle.start_at, cycle.end_at, zone), "found": None}
    wanted = [one for one in found.sites.values() if search.lower() in one.site_id.lower()]
    return {
        "cycle": window(cycle.start_at, cycle.end_at, zone),
        "found": found,
        "chart": {
            "kw": found.curve_kw, "price": found.curve_price_per_kwh,
            "delivered_kw": found.delivered_kw, "paid": found.price_per_kwh,
        },
        "stopped": sorted(found.stopped.items(), key=lambda pair: (-pair[1], pair[0])),
        "next": found.next_kw(NEXT_SHOWN),
        "search": search,
        "shown": _telling(wanted)[:SITES_SHOWN],
        "matching": len(wanted),
        "words": constraint_words,
    }  # fmt: skip


def _telling(sites: Sequence[Reason]) -> list[Reason]:
    """One of each constraint in turn, those that give most first, so that a short list shows every kind."""
    ranks: dict[Constraint, int] = {}
    ranked = []
    for one in sorted(sites, key=lambda one: (-one.battery_kw, one.site_id)):
        ranks[one.constraint] = ranks.get(one.constraint, 0) + 1
        ranked.append((ranks[one.constraint], one))
    return [one for _, one in sorted(ranked, key=lambda pair: (pair[0], -pair[1].battery_kw, pair[1].site_id))]


def _offers(sites: Sequence[Reason]) -> list[OfferOut]:
    return [
        OfferOut(site_id=one.site_id, price_per_kwh=one.high_per_kwh, room_kw=one.room_kw)
        for one in sites
        if one.high_per_kwh is not None
    ]


async def _known(context: Ctx, subject: Subject, event_id: UUID, at: datetime | None) -> tuple[CycleReasons, Reasons]:
    """The cycle of an event that this reader may see.

    Raises:
        NotFound: no such event for this reader, no cycle then, or one that kept no reasons.
    """
    async with context.store.begin() as connection:
        await queries_events.get_event(connection, event_id, tenant_id=subject.tenant_id, program=subject.program)
        cycle = await cycle_reasons(connection, event_id, at)
    if cycle is None:
        raise NotFound("no control cycle has run" if at is None else f"no control cycle at {at.isoformat()}")
    if cycle.reasons is None:
        raise NotFound(f"the cycle of {cycle.start_at.isoformat()} was planned without prices, so it kept no reasons")
    return cycle, cycle.reasons
