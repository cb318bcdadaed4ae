"""Reading the message log. Called by portal and cli.

A message belongs to a tenant if its peer does. What nobody's peer said (a VEN we do not know, a wrong token) is shown
to every tenant's operators, for it is nobody's yet.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.peer import Direction, Peer, Protocol
from vpp.peering.log_rows import LONGEST
from vpp.store.tables.peering import message as messages
from vpp.store.tables.peering import peer as peers

PAGE_MAX = 200
SEARCH_TIMEOUT_S = 5.0
_CANCELED = "57014"
_SLACK_IDS = 50_000
"""Messages of several processes are stored a little out of order: how far ids and times may disagree."""
_NEWEST = text("""
    select asked.id, max(newest.last_at) as last_at
    from unnest(cast(:names as text[]), cast(:protocols as text[]), cast(:ids as text[])) as asked(name, protocol, id)
    cross join lateral (
        select last_at from message
        where peer = asked.name and protocol = asked.protocol and direction = 'in' order by id desc limit 1
    ) as newest
    group by asked.id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedMessage:
    """One message of the log; for idle polls, `repeats` of them from `at` to `last_at`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What to look for; None and "" leave it open.

    Attributes:
        grep: text in kind, summary, body or peer, whatever its case.
        kind, status: how they begin.
        since, until: the window of time, which bounds the search.
        before_id, after_id: for paging back, and for following what is new.
    """

    grep: str = ""
    kind: str = ""
    status: str = ""
    direction: Direction | None = None
    protocol: Protocol | None = None
    peer: Peer | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_id: int | None = None
    after_id: int | None = None


async def search_messages(
    connection: AsyncConnection,
    wanted: MessageFilter,
    *,
    tenant_id: str,
    limit: int = 50,
    timeout_s: float = SEARCH_TIMEOUT_S,
) -> list[LoggedMessage]:
    """Return `limit` messages at most, newest first; oldest first after an `after_id`.

    Raises:
        InvalidRequest: what to look for is not printable, or looking takes longer than `timeout_s`.
    """
    for text_asked in (wanted.grep, wanted.kind, wanted.status):
        if not text_asked.isprintable():
            raise InvalidRequest("search", text_asked, "printable characters")
    backward = wanted.after_id is None
    order = messages.c.id.desc() if backward else messages.c.id
    query = select(messages).where(*_conditions(wanted), await _of_tenant(connection, tenant_id))
    if wanted.since is not None:
        first = select(messages.c.id).where(messages.c.last_at >= wanted.since, messages.c.at >= wanted.since - LONGEST)
        oldest = (await connection.execute(first.order_by(messages.c.at).limit(1))).scalar()
        if oldest is None:
            return []
        query = query.where(messages.c.id >= oldest - _SLACK_IDS)
    query = query.order_by(order).limit(min(limit, PAGE_MAX))
    try:
        async with connection.begin_nested():
            await connection.execute(text(f"set local statement_timeout = {max(1, int(timeout_s * 1000))}"))
            found = [_message(row) for row in await connection.execute(query)]
            await connection.execute(text("set local statement_timeout to default"))
            return found
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _CANCELED:
            raise
        raise InvalidRequest(
            "search", wanted.grep or wanted.kind, "a shorter window of time: this takes too long"
        ) from error


async def get_message(connection: AsyncConnection, message_id: int, *, tenant_id: str) -> LoggedMessage:
    """Return one message with its body.

    Raises:
        NotFound: there is none, or it is of another tenant's peer.
    """
    query = select(messages).where(messages.c.id == message_id, await _of_tenant(connection, tenant_id))
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"no message {message_id}")
    return _message(row)


async def last_heard(connection: AsyncConnection, listed: list[Peer]) -> dict[str, datetime]:
    """When a message of each peer came in last, by peer id; peers without one are left out."""
    asked = [(name, peer.protocol.value, peer.id) for peer in listed for name in _names(peer)]
    if not asked:
        return {}
    names, protocols, ids = (list(column) for column in zip(*asked, strict=True))
    rows = await connection.execute(_NEWEST, {"names": names, "protocols": protocols, "ids": ids})
    return {row.id: row.last_at.astimezone(UTC) for row in rows}


def _conditions(wanted: MessageFilter) -> list[ColumnElement[bool]]:
    columns = messages.c
    said: list[ColumnElement[bool] | None] = [
        or_(*(column.icontains(wanted.grep, autoescape=True) for column in
              (columns.kind, columns.summary, columns.body, columns.peer))) if wanted.grep else None,
        columns.kind.istartswith(wanted.kind, autoescape=True) if wanted.kind else None,
        columns.status.startswith(wanted.status, autoescape=True) if wanted.status else None,
        columns.direction == wanted.direction.value if wanted.direction else None,
        columns.protocol == wanted.protocol.value if wanted.protocol else None,
        _of_peer(wanted.peer) if wanted.peer else None,
        columns.last_at >= wanted.since if wanted.since else None,
        columns.at < wanted.until if wanted.until else None,
        columns.id < wanted.before_id if wanted.before_id is not None else None,
        columns.id > wanted.after_id if wanted.after_id is not None else None,
    ]  # fmt: skip
    return [each for each in said if each is not None]


def _of_peer(peer: Peer) -> ColumnElement[bool]:
    """A peer's messages stand under its id, or what it called itself."""
    return and_(messages.c.peer.in_(_names(peer)), messages.c.protocol == peer.protocol.value)


def _names(peer: Peer) -> list[str]:
    return sorted({name for name in (peer.id, peer.party_id, peer.client_id, peer.name) if name})


async def _of_tenant(connection: AsyncConnection, tenant_id: str) -> ColumnElement[bool]:
    others = peers.c.tenant_id != tenant_id
    if not (await connection.execute(select(exists().where(others)))).scalar():
        return messages.c.id == messages.c.id
    named = or_(
        peers.c.id == messages.c.peer,
        and_(
            peers.c.protocol == messages.c.protocol,
            or_(*(messages.c.peer == column for column in (peers.c.party_id, peers.c.client_id, peers.c.name))),
        ),
    )
    ours = exists().where(named, peers.c.tenant_id == tenant_id)
    theirs = exists().where(named, others)
    return or_(messages.c.peer.is_(None), ours, ~theirs)


def _message(row: Row[Any]) -> LoggedMessage:
    return LoggedMessage(
        id=row.id,
        at=row.at,
        last_at=row.last_at,
        repeats=row.repeats,
        protocol=Protocol(row.protocol),
        direction=Direction(row.direction),
        peer=row.peer,
        kind=row.kind,
        status=row.status,
        summary=row.summary,
        body=row.body,
    )
