"""Events we tell downstream, for machines: compose, modify, cancel, list. Mounted by `app.create_app`."""

import re
from dataclasses import replace
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import Response as AnyResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotReady
from vpp.domain.grid_event import GridEvent
from vpp.peering import (
    Published,
    cancel,
    count_downstream,
    list_downstream,
    load_downstream,
    modify,
    publish,
    unsaid_of,
)
from vpp.portal.auth import Subject, require
from vpp.portal.context import Context, Ctx
from vpp.portal.grid_event_models import GridEventIn, GridEventOut, out_of
from vpp.portal.paging import DEFAULT, Limit, Offset, Page
from vpp.portal.problems import problem

router = APIRouter(prefix="/api/v1/grid-events", tags=["grid events"])

Operate = Annotated[Subject, Depends(require(roles=("operator",), scope="operate"))]
Read = Annotated[Subject, Depends(require(roles=("operator",), scope="read"))]
IfMatch = Annotated[str | None, Header(max_length=100, description='the ETag last seen, as "3"')]


class CancelIn(BaseModel):
    """Why an event is withdrawn, and which version of it was seen (any, where null)."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=1000)] = ""
    modification_number: int | None = None


def telling(context: Context) -> dict[str, Any]:
    """What every change needs besides the event itself.

    Raises:
        NotReady: this process was not given a translator.
    """
    if context.translator is None:
        raise NotReady("this installation tells no events downstream: its translator is not wired")
    return {"translator": context.translator, "changes": context.changes, "at": context.clock.now()}


def new_event_id() -> str:
    """An id for an event whose author gave none."""
    return f"event-{uuid4().hex}"


@router.post("", status_code=201, responses={200: {"description": "Told before: as it stands"}})
async def compose(context: Ctx, subject: Operate, response: Response, body: GridEventIn) -> GridEventOut:
    """Tell an event to those it addresses. Repeated with the same id and content it changes nothing."""
    words = telling(context)
    if body.cancelled:
        raise InvalidRequest("cancelled", True, "false: a new event is not cancelled")
    event = body.to_event(event_id=body.event_id or new_event_id(), at=words["at"])
    async with context.store.begin() as connection:
        done = await publish(connection, event, tenant_id=subject.tenant_id, **words)
        return await _answer(connection, context, subject, response, done, 201 if done.changed else 200)


@router.get("")
async def list_events(
    context: Ctx,
    subject: Read,
    limit: Limit = DEFAULT,
    offset: Offset = 0,
    current: Annotated[bool, Query(description="only events that are not over")] = False,
) -> Page[GridEventOut]:
    """Events told downstream, by start."""
    words = telling(context)
    when = words["at"] if current else None
    async with context.store.begin() as connection:
        found = await list_downstream(
            connection, tenant_id=subject.tenant_id, current_at=when, limit=limit, offset=offset
        )
        total = await count_downstream(connection, tenant_id=subject.tenant_id, current_at=when)
    items = [out_of(each, unsaid_of(each.event, words["translator"]), words["at"]) for each in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.post("/{event_id:path}/cancel")
async def withdraw(
    context: Ctx, subject: Operate, response: Response, event_id: str, body: CancelIn | None = None
) -> GridEventOut:
    """Cancel an event, before it or during it; cancelled twice is cancelled once."""
    said = body or CancelIn()
    async with context.store.begin() as connection:
        done = await cancel(
            connection,
            event_id,
            tenant_id=subject.tenant_id,
            expected_number=said.modification_number,
            reason=said.reason,
            **telling(context),
        )
        return await _answer(connection, context, subject, response, done, 200)


@router.get("/{event_id:path}")
async def one(context: Ctx, subject: Read, response: Response, event_id: str) -> GridEventOut:
    """One event as it stands; its ETag is its modification number."""
    words = telling(context)
    async with context.store.begin() as connection:
        found = await load_downstream(connection, event_id, tenant_id=subject.tenant_id)
    response.headers["etag"] = f'"{found.event.modification_number}"'
    return out_of(found, unsaid_of(found.event, words["translator"]), words["at"])


@router.put(
    "/{event_id:path}",
    response_model=GridEventOut,
    responses={412: {"description": "Changed since"}, 428: {"description": "If-Match is missing"}},
)
async def replace_event(
    request: Request,
    context: Ctx,
    subject: Operate,
    response: Response,
    event_id: str,
    body: GridEventIn,
    if_match: IfMatch = None,
) -> GridEventOut | AnyResponse:
    """State an event anew, before it or during it. `If-Match` carries its modification number.

    A cancelled event lives again where the body says `"cancelled": false`.
    """
    words = telling(context)
    if body.event_id not in (None, event_id):
        raise InvalidRequest("event_id", body.event_id, f"{event_id!r}, or none")
    if body.cancelled:
        raise InvalidRequest("cancelled", True, "a POST to its cancel")
    if if_match is None:
        return problem(request, 428, "Precondition required", 'say which version you saw: If-Match: "3"')
    revive = "cancelled" in body.model_fields_set
    new = body.to_event(event_id=event_id, at=words["at"])
    async with context.store.begin() as connection:
        stands = (await load_downstream(connection, event_id, tenant_id=subject.tenant_id, for_update=True)).event
        if not _matches(if_match, stands.modification_number):
            detail = f"the event is at modification {stands.modification_number}: read it again first"
            return problem(request, 412, "Changed since", detail)
        done = await modify(
            connection,
            event_id,
            lambda old: keep_unsayable(old, new),
            tenant_id=subject.tenant_id,
            revive=revive,
            **words,
        )
        return await _answer(connection, context, subject, response, done, 200)


def keep_unsayable(old: GridEvent, new: GridEvent) -> GridEvent:
    """The new statement, with what neither API nor form can say as it was: another protocol's own words."""
    if new.event_id != old.event_id:
        raise Conflict(f"event {old.event_id!r} keeps its id")
    return replace(new, extras=old.extras)


def _matches(if_match: str, number: int) -> bool:
    tags = re.findall(r'(?:W/)?"?([^",\s]+)"?', if_match)
    return "*" in tags or str(number) in tags


async def _answer(
    connection: AsyncConnection, context: Context, subject: Subject, response: Response, done: Published, status: int
) -> GridEventOut:
    found = await load_downstream(connection, done.event.event_id, tenant_id=subject.tenant_id)
    response.status_code = status
    response.headers["etag"] = f'"{done.event.modification_number}"'
    return out_of(found, done.unsaid, context.clock.now())
