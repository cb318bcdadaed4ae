"""The command that shows what was said to and by peers: `vpp peers log`."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp import bootstrap
from vpp.cli.app import JsonTo, console, emit, settings, within
from vpp.cli.peers import Tenant, one, peers
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Direction
from vpp.peering import LoggedMessage, MessageFilter, list_peers, search_messages

FOLLOW_EVERY_S = 1.0
_SPAN = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@peers.command()
def log(
    peer: Annotated[str | None, typer.Option(help="A peer's name or id.")] = None,
    grep: Annotated[str, typer.Option(help="A text in kind, summary, body or peer.")] = "",
    kind: Annotated[str, typer.Option(help="How the message's name begins, as oadrPoll.")] = "",
    status: Annotated[str, typer.Option(help="How the status begins, as 4.")] = "",
    direction: Annotated[Direction | None, typer.Option(help="in or out, seen from us.")] = None,
    since: Annotated[str, typer.Option(help="A span as 30m, 24h, 7d, or an instant with a zone.")] = "24h",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most, the newest.")] = 50,
    bodies: Annotated[bool, typer.Option("--bodies", help="Show bodies as well.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is new until Ctrl-C.")] = False,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Show messages of peers, oldest first; secrets were taken out before they were kept."""
    begin_at = since_instant(since, SystemClock().now())
    wanted = MessageFilter(grep=grep, kind=kind, status=status, direction=direction, since=begin_at)
    if follow and json_to is not None:
        raise InvalidRequest("--json", str(json_to), "no --follow: a list that never ends is no JSON")

    def shown(found: list[LoggedMessage], names: dict[str, str]) -> None:
        said = [asdict(each) | {"peer_name": names.get(each.peer or "")} for each in found]
        emit(said, json_to, lambda: _print(found, names, bodies=bodies))

    within(_log(settings(), wanted, peer, tenant_id, limit, follow, shown))


async def _log(
    configured: Settings,
    wanted: MessageFilter,
    peer: str | None,
    tenant_id: str,
    limit: int,
    follow: bool,
    shown: Callable[[list[LoggedMessage], dict[str, str]], None],
) -> None:
    async with bootstrap.open_store(configured) as store:
        async with store.begin() as connection:
            if peer is not None:
                wanted = replace(wanted, peer=await one(connection, peer, tenant_id=tenant_id))
            found = await search_messages(connection, wanted, tenant_id=tenant_id, limit=limit)
            names = await _names(connection, tenant_id)
        shown(found[::-1], names)
        while follow:
            if found:
                wanted = replace(wanted, after_id=max(each.id for each in found))
            elif wanted.after_id is None:
                wanted = replace(wanted, after_id=0)
            await asyncio.sleep(FOLLOW_EVERY_S)
            async with store.begin() as connection:
                found = await search_messages(connection, wanted, tenant_id=tenant_id, limit=200)
                names = await _names(connection, tenant_id) if found else names
            shown(found, names)


async def _names(connection: AsyncConnection, tenant_id: str) -> dict[str, str]:
    """Our names for peers, by each id the log may know them by; one that is in force before one that was revoked."""
    every = await list_peers(connection, tenant_id=tenant_id, revoked=True)
    every.sort(key=lambda peer: peer.revoked_at is None)
    return {key: peer.name for peer in every for key in (peer.party_id, peer.client_id, peer.id) if key}


def since_instant(text: str, now: datetime) -> datetime:
    """The instant a span or date names.

    Raises:
        InvalidRequest: it is neither.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidRequest("--since", text, "a span as 30m, 24h or 7d, or an instant as 2026-08-19T16:00:00-07:00")
    return at


def _print(found: list[LoggedMessage], names: dict[str, str], *, bodies: bool) -> None:
    for each in found:
        arrow = "→" if each.direction is Direction.OUT else "←"
        times = f" ×{each.repeats} until {each.last_at:%H:%M:%S}" if each.repeats > 1 else ""
        peer = names.get(each.peer or "", each.peer or "?")
        line = f"{each.at:%Y-%m-%d %H:%M:%S} {arrow} {peer} {each.kind} {each.status}{times} {each.summary}"
        console.print(_printable(line.rstrip()), markup=False, soft_wrap=True)
        if bodies and each.body:
            console.print(_printable(each.body), markup=False, soft_wrap=True)


def _printable(text: str) -> str:
    """What a peer wrote, without anything a terminal would act on."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)
