"""`/api/v1/peers`: peers and their messages, for machines. Mounted by `app.create_app`."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from vpp.domain.peer import Direction, Peer, PeerRole, Protocol
from vpp.peering import (
    LoggedMessage,
    MessageFilter,
    NewPeer,
    add_peer,
    get_message,
    get_peer,
    list_peers,
    peer_json,
    revoke_peer,
    rotate_secret,
    search_messages,
    update_peer,
)
from vpp.portal.auth import Subject, require
from vpp.portal.context import Context, Ctx
from vpp.portal.paging import DEFAULT, Limit, Offset, Page
from vpp.portal.queries_peers import PeerState, peer_states

router = APIRouter(prefix="/api/v1/peers", tags=["peers"])
Reader = Annotated[Subject, Depends(require(roles=("operator",), scope="read"))]
Changer = Annotated[Subject, Depends(require(roles=("operator",), scope="operate"))]
Word = Annotated[str, Query(max_length=200)]
Names = Annotated[list[str], Field(max_length=200)]


class PeerChange(BaseModel):
    """What may change of a peer; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    party_id: str | None = None
    client_id: str | None = None
    url: str | None = None
    fingerprint: str | None = None
    certificate_pem: str | None = Field(None, max_length=20_000)
    groups: Names | None = None
    granted_targets: Names | None = None
    config: dict[str, Any] | None = None


class PeerIn(PeerChange):
    """A peer to be added."""

    protocol: Protocol
    role: PeerRole
    name: str


class StateOut(BaseModel):
    """How a peer stands."""

    model_config = ConfigDict(from_attributes=True)

    words: str
    registered_at: datetime | None
    ended_at: datetime | None
    last_heard_at: datetime | None
    reports: int
    subscriptions: int
    broken: int
    waiting: int
    trouble: str | None
    stands_since_at: datetime | None


class PeerOut(BaseModel):
    """A peer with its ids and addresses, by the words of its protocol; `client_secret` only when it is new."""

    model_config = ConfigDict(extra="allow")

    id: str
    protocol: Protocol
    role: PeerRole
    name: str
    url: str | None
    state: StateOut | None = None
    client_secret: str | None = None


class MessageOut(BaseModel):
    """A message; idle polls that followed one another are one, `repeats` of them until `last_at`."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    last_at: datetime
    repeats: int
    protocol: Protocol
    direction: Direction
    peer: str | None
    kind: str
    status: str
    summary: str
    body: str


class MessagePage(BaseModel):
    """Messages, newest first; ask with `before_id` for those before the last."""

    items: list[MessageOut]
    before_id: int | None


@router.get("")
async def peer_list(
    context: Ctx,
    subject: Reader,
    limit: Limit = DEFAULT,
    offset: Offset = 0,
    protocol: Protocol | None = None,
    role: PeerRole | None = None,
    revoked: bool = False,
) -> Page[PeerOut]:
    """Peers by protocol, role and name."""
    async with context.store.begin() as connection:
        every = await list_peers(connection, tenant_id=subject.tenant_id, protocol=protocol, role=role, revoked=revoked)
        shown = every[offset : offset + limit]
        states = await peer_states(connection, shown)
    items = [_out(context, peer, states[peer.id]) for peer in shown]
    return Page(items=items, total=len(every), limit=limit, offset=offset)


@router.post("", status_code=201)
async def add(context: Ctx, subject: Changer, given: PeerIn) -> PeerOut:
    """Add a peer; the answer has its client secret, which is not shown again."""
    fields = _fields(given)
    new = NewPeer(tenant_id=subject.tenant_id, **fields)
    async with context.store.begin() as connection:
        peer, secret = await add_peer(connection, new, at=context.clock.now())
    return _out(context, peer, secret=secret)


@router.get("/messages")
async def message_list(
    context: Ctx,
    subject: Reader,
    grep: Word = "",
    kind: Word = "",
    status: Word = "",
    direction: Direction | None = None,
    peer: Word = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before_id: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    limit: Limit = DEFAULT,
) -> MessagePage:
    """The message log of all peers, or of one by its id; secrets were taken out before it was kept."""
    async with context.store.begin() as connection:
        of = await get_peer(connection, peer, tenant_id=subject.tenant_id) if peer else None
        wanted = MessageFilter(
            grep=grep, kind=kind, status=status, direction=direction, peer=of, since=since, until=until,
            before_id=before_id,
        )  # fmt: skip
        found = await search_messages(connection, wanted, tenant_id=subject.tenant_id, limit=limit)
    last = found[-1].id if len(found) == limit else None
    return MessagePage(items=[_message(each) for each in found], before_id=last)


@router.get("/messages/{message_id}")
async def message(context: Ctx, subject: Reader, message_id: Annotated[int, Path(ge=0, le=2**62)]) -> MessageOut:
    """One message."""
    async with context.store.begin() as connection:
        return _message(await get_message(connection, message_id, tenant_id=subject.tenant_id))


@router.get("/{peer_id}")
async def show(context: Ctx, subject: Reader, peer_id: str) -> PeerOut:
    """One peer and how it stands."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        states = await peer_states(connection, [peer])
    return _out(context, peer, states[peer.id])


@router.patch("/{peer_id}")
async def change(context: Ctx, subject: Changer, peer_id: str, given: PeerChange) -> PeerOut:
    """Change what is given."""
    async with context.store.begin() as connection:
        peer = await update_peer(connection, peer_id, _fields(given), tenant_id=subject.tenant_id)
    return _out(context, peer)


@router.post("/{peer_id}/rotate-secret")
async def rotate(context: Ctx, subject: Changer, peer_id: str) -> PeerOut:
    """Give a peer a new client secret; the old one and its tokens end."""
    async with context.store.begin() as connection:
        peer, secret = await rotate_secret(connection, peer_id, tenant_id=subject.tenant_id)
    return _out(context, peer, secret=secret)


@router.delete("/{peer_id}", status_code=204)
async def revoke(context: Ctx, subject: Changer, peer_id: str) -> Response:
    """End a peer: its tokens and certificate are worth nothing within seconds."""
    async with context.store.begin() as connection:
        await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        await revoke_peer(connection, peer_id, at=context.clock.now())
    return Response(status_code=204)


def _fields(given: PeerChange) -> dict[str, Any]:
    fields = given.model_dump(exclude_unset=True)
    for name in ("groups", "granted_targets"):
        if name in fields:
            fields[name] = tuple(fields[name] or ())
    if "config" in fields:
        fields["config"] = fields["config"] or {}
    if fields.get("certificate_pem") is not None:
        fields["certificate_pem"] = fields["certificate_pem"].encode()
    return fields


def _out(context: Context, peer: Peer, state: PeerState | None = None, *, secret: str | None = None) -> PeerOut:
    shown = peer_json(peer, context.settings)
    return PeerOut(**shown, state=None if state is None else StateOut.model_validate(state), client_secret=secret)


def _message(found: LoggedMessage) -> MessageOut:
    return MessageOut.model_validate(found)
