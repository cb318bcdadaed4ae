"""The operator's page of signals: what utilities have told, what it means, what came of it, and what holds now.

Mounted by `app.create_app`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from vpp.domain.fleet_signal import Effect, charge_within
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.peering import ProgramPrice, WantedCharge, alerts_at, charges_between, limits_between, prices_between
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Ctx
from vpp.portal.paging import FARTHEST
from vpp.portal.queries_events import fleet_zone
from vpp.portal.queries_signals import list_heard
from vpp.portal.render import page
from vpp.portal.step_chart import Step, StepChart, step_chart

router = APIRouter(prefix="/operator/signals", include_in_schema=False)
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[int, Query(ge=0, le=FARTHEST)]
STEP = 20
AHEAD = timedelta(hours=24)
MOST_HOLDING = 50
MOST_PRICES = 500
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


@dataclass(frozen=True, slots=True)
class PriceLine:
    """Prices of one kind in one programme over the next day, with their picture."""

    program: str
    kind: str
    unit: str
    steps: list[Step]
    picture: StepChart | None


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
        prices = await prices_between(connection, **ahead, limit=MOST_PRICES)
        values: dict[str, Any] = {
            "zone": await fleet_zone(connection, tenant_id=subject.tenant_id),
            "alerts": await alerts_at(connection, tenant_id=subject.tenant_id, at=now),
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
        "price_lines": _price_lines(prices, now),
        "site_names": {site.id: site.name for site in sites},
        "effect_words": EFFECT_WORDS,
        "alert_words": ALERT_WORDS,
    }
    return page(request, "signals.html", values, subject=subject)


def _price_lines(prices: Sequence[ProgramPrice], now: datetime) -> list[PriceLine]:
    """Prices by start as a picture for each programme, kind and unit; two for the same time are a picture each."""
    lines: dict[tuple[str, str, str], list[list[Step]]] = {}
    for price in prices:
        per = {"KWH": "kWh", "THERMS": "therm"}.get(price.unit or "", price.unit or "")
        unit = "/".join(part for part in (price.currency or "", per) if part)
        start_at, end_at = max(price.start_at, now), min(price.end_at or now + AHEAD, now + AHEAD)
        if start_at < end_at:
            step = Step(Interval(start_at, end_at), float(price.amount))
            same = lines.setdefault((price.program, price.kind, unit), [])
            free = next((steps for steps in same if steps[-1].interval.end_at <= start_at), None)
            if free is None:
                same.append([step])
            else:
                free.append(step)
    return [
        PriceLine(program, kind, unit, steps, step_chart({"": steps}, now=now))
        for (program, kind, unit), same in lines.items()
        for steps in same
    ]


def _charge(wanted: WantedCharge, sites: dict[str, Site]) -> Charge:
    site = sites.get(wanted.site_id or "")
    if site is None:
        return Charge(wanted, wanted.site_id, None)
    within = charge_within(
        wanted.share, wanted.energy_kwh, capacity_kwh=site.battery.capacity_kwh, reserve_soc=site.reserve_soc
    )
    return Charge(wanted, site.name, within)
