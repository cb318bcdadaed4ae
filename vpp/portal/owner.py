"""The owner's pages: what was earned and why, the battery now, the reserve, what comes next, statements.

Mounted by `app.create_app`. An owner sees only their own sites; any other site does not exist for them.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotFound
from vpp.domain.fleet import Quality
from vpp.domain.site import Site
from vpp.domain.units import fraction_from_percent
from vpp.enrolment import ReserveChange, get_site, load_sites, reserve_changes, set_reserve
from vpp.peering import alerts_at
from vpp.portal import queries_events, queries_fleet, queries_owner
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Context, Ctx
from vpp.portal.heard_pages import ALERT_WORDS
from vpp.portal.operator import titles
from vpp.portal.queries_fleet import SiteRow
from vpp.portal.queries_owner import ComingEvent
from vpp.portal.render import page
from vpp.portal.sign_in import FORM_BYTES
from vpp.portal.site_quality import WORDS, site_qualities
from vpp.settlement import StatementLine, last_receipt, owner_earnings, statement, statement_csv

MONTH = r"^20\d\d-(0[1-9]|1[0-2])$"
MOST_SITES = 20

router = APIRouter(prefix="/owner", include_in_schema=False, max_body_size=FORM_BYTES)
Owner = Annotated[Subject, Depends(require_role("owner"))]
Month = Annotated[str, Path(pattern=MONTH)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One of the owner's sites as the page shows it."""

    site: Site
    row: SiteRow
    quality: Quality
    age_s: float | None
    earned_cents: int
    receipt: StatementLine | None
    months: list[date]
    coming: list[ComingEvent]
    last_change: ReserveChange | None


@router.get("")
async def home(request: Request, context: Ctx, subject: Owner) -> Response:
    """Everything about the owner's sites on one page."""
    now = context.clock.now()
    async with context.store.begin() as connection:
        sites = await load_sites(connection, tenant_id=subject.tenant_id, owner_id=_owner_id(subject))
        zone = sites[0].time_zone if sites else "UTC"
        month = local_month(now, zone)
        earned = await owner_earnings(connection, _owner_id(subject), month)
        views = await _site_views(connection, context, subject, sites[:MOST_SITES], earned.by_site, now)
        alerts = await alerts_at(connection, tenant_id=subject.tenant_id, at=now)
    values = {
        "alerts": alerts,
        "alert_words": ALERT_WORDS,
        "views": views,
        "hidden": max(0, len(sites) - MOST_SITES),
        "earned": earned,
        "currency": earned.currency,
        "month": month,
        "zone": zone,
        "now": now,
        "titles": titles(context),
        "quality_words": WORDS,
        "good": Quality.GOOD,
        "cycle_s": context.settings.cycle_s,
    }
    return page(request, "owner.html", values, subject=subject)


@router.patch("/sites/{site_id}/reserve")
async def change_reserve(
    request: Request,
    context: Ctx,
    subject: Owner,
    site_id: str,
    reserve_percent: Annotated[int, Form(ge=0, le=100)],
) -> Response:
    """Set the reserve and answer with what the database now says."""
    async with context.store.begin() as connection:
        await _own_site(connection, subject, site_id)
        await set_reserve(
            connection,
            site_id,
            fraction_from_percent(reserve_percent),
            by=subject.email or subject.account_id,
            now=context.clock.now(),
        )
        site = await get_site(connection, site_id, tenant_id=subject.tenant_id)
        changes = await reserve_changes(connection, site_id, limit=1)
    values = {"site": site, "change": changes[0], "saved": True, "cycle_s": context.settings.cycle_s}
    return page(request, "owner_reserve.html", values, subject=subject)


@router.get("/sites/{site_id}/statements/{month}.csv")
async def download(context: Ctx, subject: Owner, site_id: str, month: Month) -> Response:
    """A month's statement as CSV, enough to compute the money again."""
    async with context.store.begin() as connection:
        await _own_site(connection, subject, site_id)
        text = statement_csv(await statement(connection, site_id, month_of(month)))
    return csv_answer(text, f"statement-{site_id}-{month}.csv")


@router.get("/sites/{site_id}/statements/{month}")
async def monthly(request: Request, context: Ctx, subject: Owner, site_id: str, month: Month) -> Response:
    """A month's statement as a page."""
    async with context.store.begin() as connection:
        site = await _own_site(connection, subject, site_id)
        shown = await statement(connection, site_id, month_of(month))
        months = await queries_owner.months(connection, site_id)
    values = {"site": site, "statement": shown, "currency": shown.currency, "month": month, "months": months}
    return page(request, "owner_statement.html", values, subject=subject)


def month_of(text: str) -> date:
    """`2026-08` as the first of August 2026; the route's pattern has checked it."""
    return date.fromisoformat(f"{text}-01")


def local_month(at: datetime, zone: str) -> date:
    """The first day of the month on the local calendar."""
    return at.astimezone(ZoneInfo(zone)).date().replace(day=1)


def csv_answer(text: str, name: str) -> Response:
    """A CSV file to download; `name` has only letters, digits, dots and dashes."""
    safe = "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in name)
    headers = {"content-disposition": f'attachment; filename="{safe}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _owner_id(subject: Subject) -> str:
    if subject.owner_id is None:  # the table's constraint forbids it; a query must never widen for it
        raise NotFound("this account has no owner")
    return subject.owner_id


async def _own_site(connection: AsyncConnection, subject: Subject, site_id: str) -> Site:
    site = await get_site(connection, site_id, tenant_id=subject.tenant_id)
    if site.owner_id != _owner_id(subject):
        raise NotFound(f"no site {site_id!r}")
    return site


async def _site_views(
    connection: AsyncConnection,
    context: Context,
    subject: Subject,
    sites: tuple[Site, ...],
    earned: dict[str, int],
    now: datetime,
) -> list[SiteView]:
    rows, _ = await queries_fleet.list_sites(
        connection, tenant_id=subject.tenant_id, owner_id=_owner_id(subject), at=now, limit=MOST_SITES
    )
    by_id = {row.id: row for row in rows}
    active = await queries_events.any_active(connection, tenant_id=subject.tenant_id)
    qualities = await site_qualities(connection, sites, at=now, settings=context.settings, active=active)
    views = []
    for site in sites:
        row = by_id[site.id]
        changes = await reserve_changes(connection, site.id, limit=1)
        views.append(
            SiteView(
                site=site,
                row=row,
                quality=qualities[site.id],
                age_s=None if row.measured_at is None else (now - row.measured_at).total_seconds(),
                earned_cents=earned[site.id],
                receipt=await last_receipt(connection, site.id),
                months=await queries_owner.months(connection, site.id),
                coming=await queries_owner.coming_events(
                    connection, tenant_id=subject.tenant_id, site_id=site.id, at=now
                ),
                last_change=changes[0] if changes else None,
            )
        )
    return views
