"""The operator's page of signals: what utilities have told, what it means, what came of it, and what holds now.

Mounted by `app.create_app`.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from vpp.domain.fleet_signal import Effect, charge_within
from vpp.domain.site import Site
from vpp.enrolment import load_sites
from vpp.peering import WantedCharge, alerts_at, charges_between, limits_between, prices_between
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Ctx
from vpp.portal.paging import FARTHEST
from vpp.portal.queries_events import fleet_zone
from vpp.portal.queries_signals import list_heard
from vpp.portal.render import page

router = APIRouter(prefix="/operator/signals", include_in_schema=False)
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[int, Query(ge=0, le=FARTHEST)]
STEP = 20
AHEAD = timedelta(hours=24)
MOST_HOLDING = 50
EFFECT_WORDS = {
    Effect.COMMITTED.value: "committed",
    Effect.LIMIT.value: "limit",
    Effect.SHOWN.value: "shown only",
    Effect.REFUSED.value: "refused",
    Effect.ENDED.value: "cancelled",
}
ALERT_WORDS = {
    "ALERT_GRID_EMERGENCY": "Grid emergency",
    "ALERT_BLACK_START": "Black start",
    "ALERT_POSSIBLE_OUTAGE": "Possible outage",
    "ALERT_FLEX_ALERT": "Flex alert",
    "ALERT_FIRE": "Fire",
    "ALERT_FREEZING": "Freezing",
    "ALERT_WIND": "Wind",
    "ALERT_TSUNAMI": "Tsunami",
    "ALERT_AIR_QUALITY": "Air quality",
    "ALERT_OTHER": "Alert",
}


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge wanted, and at one site the share that is within the owner's reserve and full."""

    wanted: WantedCharge
    site: str | None
    within: float | None


@router.get("")
async def signals(request: Request, context: Ctx, subject: Operator, offset: At = 0) -> Response:
    """Everything heard, with what holds now and in the next day."""
    now = context.clock.now()
    ahead: dict[str, Any] = {"tenant_id": subject.tenant_id, "start_at": now, "end_at": now + AHEAD}
    async with context.store.begin() as connection:
        heard, total = await list_heard(connection, tenant_id=subject.tenant_id, limit=STEP, offset=offset)
        limits = (await limits_between(connection, **ahead))[:MOST_HOLDING]
        charges = await charges_between(connection, **ahead, limit=MOST_HOLDING)
        named = sorted({each for each in (*(x.site_id for x in limits), *(x.site_id for x in charges)) if each})
        sites = await load_sites(connection, tenant_id=subject.tenant_id, site_ids=named) if named else ()
        values: dict[str, Any] = {
            "zone": await fleet_zone(connection, tenant_id=subject.tenant_id),
            "alerts": await alerts_at(connection, tenant_id=subject.tenant_id, at=now),
            "prices": await prices_between(connection, **ahead, limit=MOST_HOLDING),
        }
    by_id = {site.id: site for site in sites}
    values |= {
        "heard": heard,
        "total": total,
        "offset": offset,
        "step": STEP,
        "now": now,
        "limits": limits,
        "charges": [_charge(each, by_id) for each in charges],
        "site_names": {site.id: site.name for site in sites},
        "effect_words": EFFECT_WORDS,
        "alert_words": ALERT_WORDS,
    }
    return page(request, "signals.html", values, subject=subject)


def _charge(wanted: WantedCharge, sites: dict[str, Site]) -> Charge:
    site = sites.get(wanted.site_id or "")
    if site is None:
        return Charge(wanted, wanted.site_id, None)
    within = charge_within(
        wanted.share, wanted.energy_kwh, capacity_kwh=site.battery.capacity_kwh, reserve_soc=site.reserve_soc
    )
    return Charge(wanted, site.name, within)
