"""The operator's pages about peers: list, add, one peer, revoke. Mounted by `app.create_app`."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.peer import Peer
from vpp.peering import (
    MessageFilter,
    add_peer,
    get_peer,
    list_peers,
    peer_json,
    received_reports,
    report_offers,
    revoke_peer,
    rotate_secret,
    search_messages,
)
from vpp.portal import queries_events
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Context, Ctx
from vpp.portal.paging import DEFAULT, FARTHEST
from vpp.portal.peer_forms import FIELDS, KINDS, PROTOCOL_WORDS, ROLE_WORDS, peer_of_form
from vpp.portal.problems import status_of
from vpp.portal.queries_peers import last_poll_at, peer_states
from vpp.portal.render import page

FORM_BYTES = 65_536
MESSAGES_SHOWN = 10
REPORTS_SHOWN = 20
router = APIRouter(prefix="/operator/peers", include_in_schema=False, max_body_size=FORM_BYTES)
Operator = Annotated[Subject, Depends(require_role("operator"))]
At = Annotated[int, Query(ge=0, le=FARTHEST)]


@router.get("")
async def peer_list(
    request: Request, context: Ctx, subject: Operator, offset: At = 0, revoked: bool = False
) -> Response:
    """Peers, a page at a time."""
    async with context.store.begin() as connection:
        every = await list_peers(connection, tenant_id=subject.tenant_id, revoked=revoked)
        shown = every[offset : offset + DEFAULT]
        states = await peer_states(connection, shown)
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
    values = {
        "peers": shown, "states": states, "total": len(every), "offset": offset, "step": DEFAULT, "revoked": revoked,
        "now": context.clock.now(), "zone": zone, "roles": ROLE_WORDS, "protocols": PROTOCOL_WORDS,
    }  # fmt: skip
    return page(request, "peers.html", values, subject=subject)


@router.get("/new")
async def form(request: Request, subject: Operator) -> Response:
    """The form a peer is added with."""
    return _form(request, subject, {})


@router.post("/new")
async def add(request: Request, context: Ctx, subject: Operator) -> Response:
    """Add a peer and show its secret, once; a mistake gets the form again with what was filled in."""
    filled = {name: str(value) for name, value in (await request.form()).items() if name in FIELDS}
    try:
        new = peer_of_form(filled, tenant_id=subject.tenant_id)
        async with context.store.begin() as connection:
            peer, secret = await add_peer(connection, new, at=context.clock.now())
    except (InvalidRequest, Conflict) as error:
        return _form(request, subject, filled, str(error), status_of(error)[0])
    return _secret(request, context, subject, peer, secret, "added")


@router.get("/{peer_id}")
async def show(request: Request, context: Ctx, subject: Operator, peer_id: str) -> Response:
    """One peer: ids, how it stands, its last messages."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        values = await _of_peer(connection, peer, context.clock.now(), subject.tenant_id)
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
    told = peer_json(peer, context.settings)
    values |= {"peer": peer, "told": told, "zone": zone, "roles": ROLE_WORDS, "protocols": PROTOCOL_WORDS}
    return page(request, "peer.html", values, subject=subject)


@router.post("/{peer_id}/revoke")
async def revoke(context: Ctx, subject: Operator, peer_id: str) -> Response:
    """End a peer."""
    async with context.store.begin() as connection:
        await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        await revoke_peer(connection, peer_id, at=context.clock.now())
    return RedirectResponse(f"/operator/peers/{peer_id}", 303)


@router.post("/{peer_id}/secret")
async def rotate(request: Request, context: Ctx, subject: Operator, peer_id: str) -> Response:
    """Give a peer a new secret and show it, once."""
    async with context.store.begin() as connection:
        peer, secret = await rotate_secret(connection, peer_id, tenant_id=subject.tenant_id)
    return _secret(request, context, subject, peer, secret, "given a new secret")


async def _of_peer(connection: AsyncConnection, peer: Peer, now: datetime, tenant_id: str) -> dict[str, Any]:
    states = await peer_states(connection, [peer])
    found = await search_messages(connection, MessageFilter(peer=peer), tenant_id=tenant_id, limit=MESSAGES_SHOWN)
    return {
        "offers": await report_offers(connection, peer.id),
        "reports": await received_reports(connection, peer.id, limit=REPORTS_SHOWN),
        "state": states[peer.id],
        "polled_at": await last_poll_at(connection, peer, tenant_id=tenant_id),
        "messages": found,
        "names": {},
        "now": now,
    }


def _form(request: Request, subject: Subject, filled: dict[str, str], wrong: str = "", status: int = 200) -> Response:
    values = {"filled": {name: filled.get(name, "") for name in FIELDS}, "wrong": wrong, "kinds": KINDS}
    return page(request, "peer_new.html", values, status, subject=subject)


def _secret(
    request: Request, context: Context, subject: Subject, peer: Peer, secret: str | None, done: str
) -> Response:
    values = {"peer": peer, "told": peer_json(peer, context.settings), "secret": secret, "done": done}
    return page(request, "peer_secret.html", values, subject=subject)
