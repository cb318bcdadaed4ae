"""Commands about peers: who may connect over OpenADR, to whom we connect, and what was said."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp import bootstrap
from vpp.cli.app import JsonTo, app, console, emit, settings, within
from vpp.cli.peer_options import Told, told_of_a_peer
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import (
    NewPeer,
    add_peer,
    issue_certificate,
    last_heard,
    list_peers,
    noted_addresses,
    openadr2_url,
    peer_json,
    report_offers,
    revoke_peer,
    rotate_secret,
    standings,
    update_peer,
    write_certificates,
)
from vpp.store.tables.accounts import tenant

peers = typer.Typer(help="Who connects to us over OpenADR, and to whom we connect.", no_args_is_help=True)
app.add_typer(peers, name="peers")

Tenant = Annotated[str, typer.Option(help="The aggregator this belongs to.")]
Which = Annotated[str, typer.Argument(metavar="NAME", help="A peer's name or id.")]
AnyProtocol = Annotated[Protocol | None, typer.Option(help="Only this protocol, where a name is not enough.")]
AnyRole = Annotated[PeerRole | None, typer.Option(help="Only this role.")]
IssueCert = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Make a client certificate by an authority in this folder.")
]
KeyType = Annotated[str, typer.Option(help="ec or rsa, for a certificate that is made.")]


@peers.command()
@told_of_a_peer
def add(
    name: Annotated[str, typer.Argument(help="Our name for it.")],
    protocol: Annotated[Protocol, typer.Option(help="What it speaks.")],
    role: Annotated[PeerRole, typer.Option(help="What it is: a VEN below us, a VTN above us, business logic.")],
    told: Told,
    issue_cert: IssueCert = None,
    key_type: KeyType = "ec",
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Add a peer; prints JSON, with a client secret that is shown once."""
    configured = noted_addresses(settings())
    config = _without_none(told.configuration(role))
    new = NewPeer(
        tenant_id=tenant_id, protocol=protocol, role=role, name=name, config=config, **told.fields(role)
    )  # fmt: skip
    made = within(_add(configured, new, issue_cert, key_type))
    emit(made, json_to or Path("-"), lambda: None)


async def _add(configured: Settings, new: NewPeer, folder: Path | None, key_type: str) -> dict[str, Any]:
    now = SystemClock().now()
    files: dict[Path, bytes] = {}
    if folder is not None:
        if new.role is PeerRole.VTN or new.certificate_pem is not None:
            raise InvalidRequest("issue-cert", str(folder), "a VEN that brings no certificate of its own")
        hosts = ("localhost", "127.0.0.1", urlsplit(openadr2_url(configured)).hostname or "localhost")
        issued = issue_certificate(folder, new.name, hosts=tuple(dict.fromkeys(hosts)), kind=key_type, at=now)
        new, files = replace(new, certificate_pem=issued.certificate_pem), issued.files
    async with _begin(configured) as connection:
        await connection.execute(insert(tenant).values(id=new.tenant_id, name=new.tenant_id).on_conflict_do_nothing())
        peer, secret = await add_peer(connection, new, at=now)
        write_certificates(files)  # a file that cannot be written undoes the peer
    shown = peer_json(peer, configured)
    if secret is not None:
        shown["client_secret"] = secret
    if files:
        shown["files"] = {path.stem.replace("-", "_"): str(path.resolve()) for path in files}
    return shown


@peers.command("list")
def list_all(
    protocol: AnyProtocol = None,
    role: AnyRole = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Those that were revoked as well.")] = False,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """List peers, with when each was last heard and, of a VTN, since when it is connected or why it is not."""
    configured = noted_addresses(settings())
    found = within(_list(configured, tenant_id, protocol, role, revoked))

    def show() -> None:
        table = Table("protocol", "role")
        for heading in ("name", "its id", "address", "last heard", "state"):
            table.add_column(heading, overflow="fold")
        for row in found:
            party = row.get("ven_id") or row.get("client_id") or row.get("vtn_id") or ""
            heard = "" if row["last_heard_at"] is None else f"{row['last_heard_at']:%Y-%m-%d %H:%M:%S}"
            address = row["url"] if row["role"] == "vtn" else row.get("push_url")
            table.add_row(
                row["protocol"], row["role"], row["name"], party, address or "comes to us", heard, _state(row)
            )
        console.print(table if found else "no peers yet: vpp peers add NAME --protocol openadr3 --role ven")

    emit(found, json_to, show)


async def _list(
    configured: Settings, tenant_id: str, protocol: Protocol | None, role: PeerRole | None, revoked: bool
) -> list[dict[str, Any]]:
    async with _begin(configured) as connection:
        found = await list_peers(connection, tenant_id=tenant_id, protocol=protocol, role=role, revoked=revoked)
        stand = await _standing(connection, found)
    return [peer_json(peer, configured) | stand[peer.id] for peer in found]


async def _standing(connection: AsyncConnection, found: list[Peer]) -> dict[str, dict[str, Any]]:
    """When each peer was last heard, and how the gateway's rounds with it end, by its id."""
    heard, known = await last_heard(connection, found), await standings(connection, found)
    return {
        peer.id: {
            "last_heard_at": heard.get(peer.id),
            "stands_since_at": known[peer.id].since_at if peer.id in known else None,
            "trouble": known[peer.id].trouble if peer.id in known else None,
        }
        for peer in found
    }


def _state(row: dict[str, Any]) -> Text:
    if row["revoked_at"]:
        return Text("revoked")
    if row["stands_since_at"] is None:
        return Text("in force")
    since = f"{row['stands_since_at']:%Y-%m-%d %H:%M:%S}"
    return Text(f"connected since {since}" if row["trouble"] is None else f"since {since}: {row['trouble']}")


@peers.command()
def show(
    name: Which,
    protocol: AnyProtocol = None,
    role: AnyRole = None,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Print one peer as JSON: its ids, addresses, configuration and, of 2.0b, the reports it has offered us."""
    configured = noted_addresses(settings())

    async def read() -> dict[str, Any]:
        async with _begin(configured) as connection:
            peer = await one(connection, name, tenant_id=tenant_id, protocol=protocol, role=role)
            stand = await _standing(connection, [peer])
            offers = await report_offers(connection, peer.id)
        offered = {offer.specifier_id: offer.name.removeprefix("METADATA_") for offer in offers}
        return peer_json(peer, configured) | stand[peer.id] | {"reports_offered": offered}

    emit(within(read()), json_to or Path("-"), lambda: None)


@peers.command()
@told_of_a_peer
def change(
    name: Which,
    told: Told,
    protocol: AnyProtocol = None,
    role: AnyRole = None,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Change what is given of a peer, the rest stays: a list as a whole, "" takes away, --config KEY=null a key."""
    configured = noted_addresses(settings())

    async def turn() -> dict[str, Any]:
        async with _begin(configured) as connection:
            known = await one(connection, name, tenant_id=tenant_id, protocol=protocol, role=role, in_force=True)
            fields, config = told.fields(known.role), told.configuration(known.role)
            if not fields and not config:
                raise InvalidRequest("peers change", name, "an option that says what is to change, as --url")
            if config:
                fields["config"] = _without_none({**known.config, **config})
            return peer_json(await update_peer(connection, known.id, fields, tenant_id=tenant_id), configured)

    emit(within(turn()), json_to or Path("-"), lambda: None)


@peers.command()
def revoke(
    name: Which,
    protocol: AnyProtocol = None,
    role: AnyRole = None,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """End a peer: its tokens and certificate are worth nothing within seconds."""
    configured = noted_addresses(settings())

    async def end() -> Peer:
        async with _begin(configured) as connection:
            peer = await one(connection, name, tenant_id=tenant_id, protocol=protocol, role=role, in_force=True)
            await revoke_peer(connection, peer.id, at=SystemClock().now())
            return peer

    ended = within(end())
    emit(
        {"id": ended.id, "name": ended.name, "revoked": True},
        json_to,
        lambda: console.print(f"{ended.name}: revoked", markup=False),
    )


@peers.command("rotate-secret")
def rotate(
    name: Which,
    protocol: AnyProtocol = None,
    role: AnyRole = None,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Give a peer a new client secret, shown once; the old one and its tokens end."""
    configured = noted_addresses(settings())

    async def turn() -> dict[str, Any]:
        async with _begin(configured) as connection:
            peer = await one(connection, name, tenant_id=tenant_id, protocol=protocol, role=role, in_force=True)
            peer, secret = await rotate_secret(connection, peer.id, tenant_id=tenant_id)
        return peer_json(peer, configured) | {"client_secret": secret}

    emit(within(turn()), json_to or Path("-"), lambda: None)


async def one(
    connection: AsyncConnection,
    name: str,
    *,
    tenant_id: str,
    protocol: Protocol | None = None,
    role: PeerRole | None = None,
    in_force: bool = False,
) -> Peer:
    """Return the peer of a name or id; one that is in force before one that was revoked.

    Raises:
        NotFound: there is none.
        Conflict: there are several; protocol and role would tell them apart.
    """
    every = await list_peers(connection, tenant_id=tenant_id, protocol=protocol, role=role, revoked=not in_force)
    named = [peer for peer in every if name in (peer.id, peer.name)]
    found = [peer for peer in named if peer.revoked_at is None] or named[-1:]
    if not found:
        raise NotFound(f"no peer {name}: vpp peers list")
    if len(found) > 1:
        kinds = ", ".join(f"{peer.protocol.value} {peer.role.value} ({peer.id})" for peer in found)
        raise Conflict(f"{name} is the name of {kinds}: give --protocol and --role, or the id")
    return found[0]


@asynccontextmanager
async def _begin(configured: Settings) -> AsyncIterator[AsyncConnection]:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        yield connection


def _without_none(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}
