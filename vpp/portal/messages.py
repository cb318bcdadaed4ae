"""The operator's pages of the message log: searched, a body at a time. Mounted by `app.create_app`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Direction, Peer
from vpp.peering import LoggedMessage, MessageFilter, get_message, get_peer, list_peers, search_messages
from vpp.portal import queries_events
from vpp.portal.auth import Subject, require_role
from vpp.portal.context import Ctx
from vpp.portal.paging import DEFAULT
from vpp.portal.pretty import pretty
from vpp.portal.render import page

router = APIRouter(prefix="/operator/messages", include_in_schema=False)
Operator = Annotated[Subject, Depends(require_role("operator"))]
MessageId = Annotated[int, Path(ge=0, le=2**62)]
Text = Annotated[str, Query(max_length=200)]
WINDOWS = {
    "1h": ("the last hour", timedelta(hours=1)),
    "24h": ("the last 24 hours", timedelta(hours=24)),
    "7d": ("the last 7 days", timedelta(days=7)),
    "all": ("all that is kept", None),
}
DIRECTIONS = {"": "both ways", "in": "to us", "out": "from us"}


@router.get("")
async def message_list(
    request: Request,
    context: Ctx,
    subject: Operator,
    search: Text = "",
    kind: Text = "",
    status: Text = "",
    direction: Text = "",
    peer: Text = "",
    within: Text = "24h",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """Messages, newest first; asked by htmx, only the table."""
    if direction not in DIRECTIONS or within not in WINDOWS:
        raise InvalidRequest(
            "direction", f"{direction} within {within}", f"of {list(DIRECTIONS)} within {list(WINDOWS)}"
        )
    asked = {"search": search.strip(), "kind": kind.strip(), "status": status.strip(), "direction": direction}
    asked |= {"peer": peer, "within": within}
    span = WINDOWS[within][1]
    async with context.store.begin() as connection:
        of = await get_peer(connection, peer, tenant_id=subject.tenant_id) if peer else None
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
        wanted = MessageFilter(
            grep=asked["search"], kind=asked["kind"], status=asked["status"], peer=of, before_id=before,
            direction=Direction(direction) if direction else None,
            since=None if span is None else context.clock.now() - span,
        )  # fmt: skip
        found, trouble = await _search(connection, wanted, subject.tenant_id)
        names = await names_of(connection, found, subject.tenant_id)
    more = found[DEFAULT - 1].id if len(found) > DEFAULT else None
    values = {
        "messages": found[:DEFAULT], "more": more, "asked": asked, "zone": zone, "peer": of, "trouble": trouble,
        "names": names, "windows": WINDOWS, "directions": DIRECTIONS, "newest": before is None,
        "query": urlencode({name: value for name, value in asked.items() if value}),
    }  # fmt: skip
    partial = request.headers.get("hx-request") == "true" and "hx-boosted" not in request.headers
    return page(request, "message_table.html" if partial else "messages.html", values, subject=subject)


@router.get("/{message_id}")
async def message(request: Request, context: Ctx, subject: Operator, message_id: MessageId) -> Response:
    """One message with its body; asked by htmx, only the body."""
    async with context.store.begin() as connection:
        found = await get_message(connection, message_id, tenant_id=subject.tenant_id)
        zone = await queries_events.fleet_zone(connection, tenant_id=subject.tenant_id)
        names = await names_of(connection, [found], subject.tenant_id)
    values = {"message": found, "body": pretty(found.body), "zone": zone, "names": names}
    partial = request.headers.get("hx-request") == "true"
    return page(request, "message_body.html" if partial else "message.html", values, subject=subject)


async def names_of(
    connection: AsyncConnection, found: Sequence[LoggedMessage], tenant_id: str
) -> dict[str, tuple[str, str]]:
    """The name and id of each peer that messages are under, by what they call it."""
    called = {message.peer for message in found if message.peer}
    peers = await list_peers(connection, tenant_id=tenant_id, revoked=True) if called else []
    return {
        alias: (peer.name, peer.id) for peer in sorted(peers, key=_age) for alias in _aliases(peer) if alias in called
    }


async def _search(
    connection: AsyncConnection, wanted: MessageFilter, tenant_id: str
) -> tuple[list[LoggedMessage], str]:
    """What was found, one more than a page holds, or why it could not be looked for."""
    try:
        return await search_messages(connection, wanted, tenant_id=tenant_id, limit=DEFAULT + 1), ""
    except InvalidRequest as error:
        return [], f"Choose {error.allowed}."


def _aliases(peer: Peer) -> tuple[str, ...]:
    return tuple(name for name in (peer.name, peer.party_id, peer.client_id, peer.id) if name)


def _age(peer: Peer) -> tuple[bool, str]:
    """Those in force last, so that a name used again is theirs."""
    return (peer.revoked_at is None, "" if peer.created_at is None else peer.created_at.isoformat())
