"""The operator's pages for events told downstream: list, compose, one event, modify, cancel, pass on.

Mounted by `app.create_app`. Every change is a POST of a form; a form sent twice changes nothing the second time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent, Series, SeriesType, Unsaid
from vpp.domain.peer import Protocol
from vpp.domain.time import floor_to
from vpp.peering import (
    cancel,
    count_downstream,
    forward_received,
    list_downstream,
    list_received,
    load_grid_event,
    modify,
    publish,
    unsaid_of,
)
from vpp.portal import queries_downstream
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Context, Ctx
from vpp.portal.grid_event_form import (
    MAX_FIELDS,
    MAX_SIGNALS,
    Refusals,
    Typed,
    edited,
    empty,
    event_of,
    restated,
    titled,
    typed_from,
    typed_of,
)
from vpp.portal.grid_event_view import read_view
from vpp.portal.grid_events import keep_unsayable, new_event_id, telling
from vpp.portal.paging import DEFAULT, FARTHEST
from vpp.portal.queries_events import fleet_zone
from vpp.portal.render import page
from vpp.portal.signals import HINTS, SIGNALS, title_of, value_words
from vpp.portal.step_chart import StepChart, step_chart, steps_of

router = APIRouter(prefix="/operator/grid-events", include_in_schema=False)
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[int, Query(ge=0, le=FARTHEST)]
PATH = "/operator/grid-events"
_NO_FORM = "this event says what the form has no field for, as targets of one signal or intervals that do not follow on"
_QUARTER = timedelta(minutes=15)
_UNITS = {
    "KW": "kW", "KWH": "kWh", "PERCENT": "share of one", "CELSIUS": "°C", "FAHRENHEIT": "°F", "KVA": "kVA",
    "KVAR": "kvar", "VOLTS": "V", "AMPS": "A", "THERMS": "therm", "GHG": "g/kWh", "KVAH": "kVAh", "KVARH": "kvarh",
}  # fmt: skip


@router.get("")
async def event_list(request: Request, context: Ctx, subject: Operator, offset: At = 0) -> Response:
    """Events told downstream that are open and over, and those received from above."""
    now = context.clock.now()
    tenant: dict[str, Any] = {"tenant_id": subject.tenant_id}
    async with context.store.begin() as connection:
        values = {
            "zone": await fleet_zone(connection, **tenant),
            "current": await list_downstream(connection, **tenant, current_at=now, limit=100),
            "open_count": await count_downstream(connection, **tenant, current_at=now),
            "past": await list_downstream(connection, **tenant, over_at=now, limit=DEFAULT, offset=offset),
            "total": await count_downstream(connection, **tenant, over_at=now),
            "received": await list_received(connection, **tenant, limit=DEFAULT),
        }
    values |= {"offset": offset, "step": DEFAULT, "now": now, **_words()}
    return page(request, "grid_events.html", values, subject=subject)


@router.get("/new")
async def new(request: Request, context: Ctx, subject: Operator) -> Response:
    """An empty form."""
    now = context.clock.now()
    async with context.store.begin() as connection:
        zone = await fleet_zone(connection, tenant_id=subject.tenant_id)
        programs = await queries_downstream.known_programs(connection, tenant_id=subject.tenant_id)
    form = empty(
        event_id=new_event_id(),
        start_at=floor_to(now, _QUARTER) + 4 * _QUARTER,
        zone=zone,
        program=programs[0] if len(programs) == 1 else "",
    )
    return await _form_page(request, context, subject, form, action=f"{PATH}/new")


@router.post("/new")
async def compose(request: Request, context: Ctx, subject: Operator) -> Response:
    """Tell the event that was typed; what cannot be gets the form again."""
    form, is_edited = await _typed(request)
    if is_edited:
        return await _form_page(request, context, subject, form, action=f"{PATH}/new")
    event, wrong = await _read(context, subject, form)
    if event is None:
        return await _form_page(request, context, subject, form, wrong, action=f"{PATH}/new")
    try:
        async with context.store.begin() as connection:
            await publish(connection, event, tenant_id=subject.tenant_id, **telling(context))
    except (Conflict, InvalidRequest) as error:
        wrong.by_field["form"] = str(error)
        return await _form_page(request, context, subject, form, wrong, action=f"{PATH}/new")
    return RedirectResponse(address(event.event_id), 303)


@router.post("/preview")
async def preview(request: Request, context: Ctx, subject: Operator) -> Response:
    """What the typed event says, and what either protocol cannot say of it: a part of the form's page."""
    form, _ = await _typed(request)
    event, wrong = await _read(context, subject, form)
    async with context.store.begin() as connection:
        zone = await fleet_zone(connection, tenant_id=subject.tenant_id)
    unsaid: Mapping[Protocol, Sequence[Unsaid]] = {}
    if event is not None:
        unsaid = unsaid_of(event, telling(context)["translator"])
    pictures = _pictures(event, context.clock.now()) if event is not None else []
    said = {titled(name, len(form.signals)): why for name, why in wrong.by_field.items()}
    values = {"event": event, "pictures": pictures, "wrong": said, "unsaid": unsaid, "zone": zone, **_words()}
    return page(request, "grid_event_preview.html", values, subject=subject)


@router.get("/event/{event_id:path}/modify")
async def change(request: Request, context: Ctx, subject: Operator, event_id: str) -> Response:
    """The form with an event in it."""
    async with context.store.begin() as connection:
        event = await load_grid_event(connection, event_id, tenant_id=subject.tenant_id)
        zone = await fleet_zone(connection, tenant_id=subject.tenant_id)
    form = typed_of(event, zone)
    if form is None:
        raise Conflict(f"{_NO_FORM}: change it through the API")
    return await _form_page(request, context, subject, form, action=f"{address(event_id)}/modify")


@router.post("/event/{event_id:path}/modify")
async def modified(request: Request, context: Ctx, subject: Operator, event_id: str) -> Response:
    """State an event anew; one that has changed meanwhile is not overwritten."""
    form, is_edited = await _typed(request)
    action = f"{address(event_id)}/modify"
    if is_edited:
        return await _form_page(request, context, subject, form, action=action)
    event, wrong = await _read(context, subject, form)
    if event is not None:
        try:
            await _modify(context, subject, event_id, event, int(form["expected_number"] or 0))
        except (Conflict, InvalidRequest, ValueError) as error:
            wrong.by_field["form"] = str(error)
        else:
            return RedirectResponse(address(event_id), 303)
    return await _form_page(request, context, subject, form, wrong, action=action)


@router.post("/event/{event_id:path}/cancel")
async def withdraw(
    context: Ctx,
    subject: Operator,
    event_id: str,
    sure: Annotated[str, Form(max_length=3)] = "",
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Cancel an event, if the operator is sure."""
    if sure != "yes":
        raise InvalidRequest("sure", sure, "a tick: an event is cancelled for everybody it was sent to")
    async with context.store.begin() as connection:
        await cancel(connection, event_id, tenant_id=subject.tenant_id, reason=reason.strip(), **telling(context))
    return RedirectResponse(address(event_id), 303)


@router.post("/forward")
async def forward(
    context: Ctx,
    subject: Operator,
    source: Annotated[str, Form(max_length=100)],
    event_id: Annotated[str, Form(max_length=256)],
) -> Response:
    """Pass a received event on to everybody below us."""
    async with context.store.begin() as connection:
        done = await forward_received(connection, source, event_id, tenant_id=subject.tenant_id, **telling(context))
    if done.event is None:
        raise Conflict(done.refusal or "it could not be passed on")
    return RedirectResponse(address(done.event.event_id), 303)


@router.get("/event/{event_id:path}")
async def one(request: Request, context: Ctx, subject: Operator, event_id: str) -> Response:
    """One event: who has it, what they answered, what they delivered."""
    now = context.clock.now()
    async with context.store.begin() as connection:
        zone = await fleet_zone(connection, tenant_id=subject.tenant_id)
        view = await read_view(connection, event_id, tenant_id=subject.tenant_id, at=now)
    event = view.found.event
    values = {
        "view": view,
        "event": event,
        "pictures": _pictures(event, now),
        "editable": typed_of(event, zone) is not None,
        "no_form": _NO_FORM,
        "status": event.status_at(now),
        "unsaid": unsaid_of(event, telling(context)["translator"]),
        "chart": view.chart(now),
        "open": event.status_at(now) not in (EventStatus.COMPLETED, EventStatus.CANCELLED),
        "address": address(event_id),
        "zone": zone,
        "now": now,
        **_words(),
    }
    return page(request, "grid_event.html", values, subject=subject)


def address(event_id: str) -> str:
    """Where the page of an event is."""
    return f"{PATH}/event/{quote(event_id, safe='')}"


def signal_words(series: Series) -> str:
    """`Dispatch: consumption to hold, kW`."""
    unit = unit_words(series)
    return f"{title_of(series.type, series.name)}{f', {unit}' if unit else ''}"


def unit_words(series: Series) -> str:
    """`USD/kWh`, `kW`, or nothing."""
    unit = _UNITS.get(series.unit or "", series.unit or "")
    return "/".join(part for part in (series.currency or "", unit) if part)


def _pictures(event: GridEvent, now: datetime) -> list[tuple[Series, StepChart | None]]:
    """Each signal with its picture; None for one whose values are no single numbers."""
    return [(series, step_chart({"": steps_of(series, end_at=event.end_at)}, now=now)) for series in event.series]


def _words() -> dict[str, Any]:
    return {
        "signal_words": signal_words, "unit_words": unit_words, "value_words": value_words, "address_of": address,
        "path_of": PATH,
    }  # fmt: skip


async def _typed(request: Request) -> tuple[Typed, bool]:
    """What was typed, and whether a button of the form itself was pressed: then with what it adds or removes."""
    form = await request.form(max_fields=MAX_FIELDS)
    typed_form = typed_from(form)
    changed = edited(typed_form, form)
    return changed or typed_form, changed is not None


async def _read(context: Context, subject: Subject, form: Typed) -> tuple[GridEvent | None, Refusals]:
    async with context.store.begin() as connection:
        zone = await fleet_zone(connection, tenant_id=subject.tenant_id)
    return event_of(form, zone, at=context.clock.now())


async def _modify(context: Context, subject: Subject, event_id: str, event: GridEvent, number: int) -> None:
    async with context.store.begin() as connection:
        await modify(
            connection,
            event_id,
            lambda old: restated(old, keep_unsayable(old, event)),
            tenant_id=subject.tenant_id,
            expected_number=number,
            revive=True,
            **telling(context),
        )


async def _form_page(
    request: Request,
    context: Context,
    subject: Subject,
    form: Typed,
    wrong: Refusals | None = None,
    *,
    action: str,
) -> Response:
    async with context.store.begin() as connection:
        values = await _choices(connection, subject, form)
    values |= {
        "form": form,
        "wrong": (wrong or Refusals()).by_field,
        "twice": bool(wrong and wrong.twice) or form["start_fold"] in ("0", "1"),
        "action": action,
        "most_signals": MAX_SIGNALS,
        "titled": titled,
        "changing": action != f"{PATH}/new",
        **_words(),
    }
    return page(request, "grid_event_form.html", values, 422 if wrong and wrong.by_field else 200, subject=subject)


async def _choices(connection: AsyncConnection, subject: Subject, form: Typed) -> dict[str, Any]:
    vens, groups = await queries_downstream.addressees(connection, tenant_id=subject.tenant_id)
    known = {f"ven:{ven}" for ven, _ in vens} | {f"group:{group}" for group in groups}
    signals: dict[str, list[tuple[str, str]]] = {}
    for type_, signal in SIGNALS.items():
        signals.setdefault(signal.group, []).append((type_.value, signal.title))
    details = {
        type_.value: {
            "units": [[unit, _UNITS[unit]] for unit in signal.units],
            "currency": signal.currency,
            "hint": HINTS[signal.kind],
            "named": type_ is SeriesType.OTHER,
        }
        for type_, signal in SIGNALS.items()
    }
    return {
        "zone": await fleet_zone(connection, tenant_id=subject.tenant_id),
        "programs": await queries_downstream.known_programs(connection, tenant_id=subject.tenant_id),
        "vens": vens,
        "groups": groups,
        "unknown_targets": sorted(form.targets - known),
        "signals": signals,
        "details": details,
        "units": _UNITS,
    }
