"""The utility's pages: its events as we acknowledged them, power by interval, the report to download.

Mounted by `app.create_app`. A utility's account sees one programme of one tenant.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from vpp.domain.errors import NotFound
from vpp.portal import queries_events
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Ctx
from vpp.portal.live_page import STATE_WORDS
from vpp.portal.operator import method_of, titles
from vpp.portal.owner import csv_answer
from vpp.portal.paging import DEFAULT, FARTHEST
from vpp.portal.render import page
from vpp.portal.report import read_report, report_csv

router = APIRouter(prefix="/utility", include_in_schema=False)
Utility = Annotated[Subject, Depends(require_role("utility"))]


@router.get("")
async def event_list(
    request: Request, context: Ctx, subject: Utility, offset: Annotated[int, Query(ge=0, le=FARTHEST)] = 0
) -> Response:
    """The programme's events and our answers."""
    program = _program(subject)
    async with context.store.begin() as connection:
        events, total = await queries_events.list_events(
            connection, tenant_id=subject.tenant_id, program=program, limit=DEFAULT, offset=offset
        )
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id, program=program)
    values = {
        "events": events,
        "total": total,
        "offset": offset,
        "step": DEFAULT,
        "zone": zone,
        "words": STATE_WORDS,
        "title": titles(context).get(program, program),
    }
    return page(request, "utility_events.html", values, subject=subject)


@router.get("/events/{event_id}")
async def event(request: Request, context: Ctx, subject: Utility, event_id: UUID) -> Response:
    """One event: how it was acknowledged, and power by interval."""
    program = _program(subject)
    async with context.store.begin() as connection:
        row, commitment = await queries_events.get_event(
            connection, event_id, tenant_id=subject.tenant_id, program=program
        )
        report = await read_report(connection, commitment, method=method_of(context, program), at=context.clock.now())
        values = {
            "event": row,
            "report": report,
            "answers": await queries_events.answers(connection, event_id),
            "decided": await queries_events.decision(connection, event_id),
            "zone": await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id, program=program),
            "words": STATE_WORDS,
            "title": titles(context).get(program, program),
        }
    return page(request, "utility_event.html", values, subject=subject)


@router.get("/events/{event_id}/report.csv")
async def download(context: Ctx, subject: Utility, event_id: UUID) -> Response:
    """The event's report as CSV."""
    program = _program(subject)
    async with context.store.begin() as connection:
        _, commitment = await queries_events.get_event(
            connection, event_id, tenant_id=subject.tenant_id, program=program
        )
        report = await read_report(connection, commitment, method=method_of(context, program), at=context.clock.now())
    return csv_answer(report_csv(commitment, report), f"report-{commitment.external_id}.csv")


def _program(subject: Subject) -> str:
    if subject.program is None:  # the table's constraint forbids it; a query must never widen for it
        raise NotFound("this account has no programme")
    return subject.program
