"""The operator's pages: events, one event live, the fleet. Mounted by `app.create_app`."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from vpp.domain.commitment import CommitmentState
from vpp.domain.fleet import Quality
from vpp.enrolment import load_sites
from vpp.peering import alerts_at
from vpp.portal import queries_events, queries_fleet
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Context, Ctx
from vpp.portal.event_view import read_event_view
from vpp.portal.heard_pages import ALERT_WORDS, EFFECT_WORDS
from vpp.portal.live import LiveFeeds
from vpp.portal.live_page import STATE_WORDS, picture
from vpp.portal.paging import DEFAULT, FARTHEST
from vpp.portal.queries_signals import heard_of
from vpp.portal.reasons import cycle_reasons, section
from vpp.portal.render import page
from vpp.portal.site_quality import WORDS, site_qualities

router = APIRouter(prefix="/operator", include_in_schema=False)
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[int, Query(ge=0, le=FARTHEST)]


@router.get("")
async def event_list(request: Request, context: Ctx, subject: Operator, offset: At = 0) -> Response:
    """Events that are open, and those that are over."""
    async with context.store.begin() as connection:
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
        current, _ = await queries_events.list_events(
            connection, tenant_id=subject.tenant_id, states=queries_events.OPEN_STATES, limit=100
        )
        past, total = await queries_events.list_events(
            connection,
            tenant_id=subject.tenant_id,
            states=(CommitmentState.SETTLED, CommitmentState.DECLINED, CommitmentState.CANCELLED),
            limit=DEFAULT,
            offset=offset,
        )
        totals = await queries_fleet.fleet_totals(connection, tenant_id=subject.tenant_id)
        alerts = await alerts_at(connection, tenant_id=subject.tenant_id, at=context.clock.now())
    values = {
        "alerts": alerts,
        "alert_words": ALERT_WORDS,
        "zone": zone,
        "current": sorted(current, key=lambda event: event.start_at),
        "past": past,
        "total": total,
        "offset": offset,
        "step": DEFAULT,
        "totals": totals,
        "words": STATE_WORDS,
        "titles": titles(context),
    }
    return page(request, "operator_events.html", values, subject=subject)


@router.get("/events/{event_id}")
async def event(request: Request, context: Ctx, subject: Operator, event_id: UUID) -> Response:
    """One event, live."""
    async with context.store.begin() as connection:
        view = await read_event_view(
            connection,
            event_id,
            tenant_id=subject.tenant_id,
            program=None,
            at=context.clock.now(),
            settings=context.settings,
        )
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id, program=view.event.program)
        why = await cycle_reasons(connection, event_id)
        alerts = await alerts_at(connection, tenant_id=subject.tenant_id, at=context.clock.now())
        heard = await heard_of(
            connection, tenant_id=subject.tenant_id, source=view.event.source, event_id=view.event.external_id
        )
    values = {
        "alerts": alerts,
        "alert_words": ALERT_WORDS,
        "heard": heard,
        "effect_words": EFFECT_WORDS,
        "view": view,
        "why": section(why, zone),
        "live": picture(view, zone, method_of(context, view.event.program)),
        "zone": zone,
        "titles": titles(context),
    }
    return page(request, "operator_event.html", values, subject=subject)


@router.get("/events/{event_id}/live")
async def live(request: Request, context: Ctx, subject: Operator, event_id: UUID) -> Response:
    """The event's picture as server-sent events."""
    feeds: LiveFeeds = request.app.state.feeds
    feeds.admit(subject.account_id)
    async with context.store.begin() as connection:
        found, _ = await queries_events.get_event(connection, event_id, tenant_id=subject.tenant_id)
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id, program=found.program)

    async def read() -> dict[str, Any]:
        async with context.store.begin() as connection:
            view = await read_event_view(
                connection,
                event_id,
                tenant_id=subject.tenant_id,
                program=None,
                at=context.clock.now(),
                settings=context.settings,
            )
        return picture(view, zone, method_of(context, found.program))

    last_id = request.headers.get("last-event-id")
    stream: AsyncIterator[bytes] = feeds.watch(event_id, subject.account_id, read, last_id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/fleet")
async def sites(
    request: Request,
    context: Ctx,
    subject: Operator,
    search: Annotated[str, Query(max_length=100)] = "",
    offset: At = 0,
) -> Response:
    """The enrolled sites; asked by htmx, only the table."""
    now = context.clock.now()
    search = search.strip()
    async with context.store.begin() as connection:
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
        rows, total = await queries_fleet.list_sites(
            connection, tenant_id=subject.tenant_id, at=now, search=search, limit=DEFAULT, offset=offset
        )
        active = await queries_events.any_active(connection, tenant_id=subject.tenant_id)
        shown = await load_sites(connection, tenant_id=subject.tenant_id, site_ids=[row.id for row in rows])
        qualities = await site_qualities(connection, shown, at=now, settings=context.settings, active=active)
        totals = await queries_fleet.fleet_totals(connection, tenant_id=subject.tenant_id)
    values = {
        "rows": rows,
        "total": total,
        "offset": offset,
        "step": DEFAULT,
        "search": search,
        "totals": totals,
        "now": now,
        "zone": zone,
        "qualities": qualities,
        "good": Quality.GOOD,
        "quality_words": WORDS,
    }
    partial = request.headers.get("hx-request") == "true" and "hx-boosted" not in request.headers
    return page(request, "fleet_table.html" if partial else "fleet.html", values, subject=subject)


def method_of(context: Context, program: str) -> str | None:
    """How a programme counts delivery; None where this installation does not know it."""
    known = context.programs.get(program)
    return known.measurement if known else None


def titles(context: Context) -> dict[str, str]:
    """The programmes' full names by their short ones."""
    return {name: program.title for name, program in context.programs.items()}
