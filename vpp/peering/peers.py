"""Who our peers are: added, found, changed, revoked. Called by cli, portal, the gateway and both VTNs.

Every change says `NOTIFY vpp_peer, '<peer id>'` in its own transaction, so that processes that hold peers in
memory look again. A revoked peer stays in the table, for the log and for what it left behind; its name and ids
may be used again, but not its client id, under which its objects at our VTN are kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from secrets import token_hex
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering.credentials import new_client_secret, secret_hash
from vpp.peering.peer_rules import NewPeer, checked
from vpp.store.tables.notifications import mqtt_login
from vpp.store.tables.peering import peer as peers
from vpp.store.tables.signals import heard_event

PEER_CHANNEL = "vpp_peer"
"""The PostgreSQL channel on which the id of every changed peer is told."""
_CHANGEABLE = frozenset({"party_id", "client_id", "url", "fingerprint", "groups", "granted_targets", "config"})


async def list_peers(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    protocol: Protocol | None = None,
    role: PeerRole | None = None,
    revoked: bool = False,
) -> list[Peer]:
    """Return peers by protocol, role and name; with `revoked`, those that were revoked as well."""
    query = select(peers).where(peers.c.tenant_id == tenant_id)
    if protocol is not None:
        query = query.where(peers.c.protocol == protocol.value)
    if role is not None:
        query = query.where(peers.c.role == role.value)
    if not revoked:
        query = query.where(peers.c.revoked_at.is_(None))
    order = (peers.c.protocol, peers.c.role, peers.c.name, peers.c.created_at)
    return [as_peer(row) for row in await connection.execute(query.order_by(*order))]


async def find_peer(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    protocol: Protocol,
    role: PeerRole,
    name: str | None = None,
    party_id: str | None = None,
    client_id: str | None = None,
    fingerprint: str | None = None,
) -> Peer | None:
    """Return the one peer, not revoked, of which everything given is true, or None.

    Raises:
        InvalidRequest: nothing to find it by was given.
    """
    by = {"name": name, "party_id": party_id, "client_id": client_id, "fingerprint": fingerprint}
    given = {column: value for column, value in by.items() if value is not None}
    if not given:
        raise InvalidRequest("find_peer", None, f"one of {', '.join(by)}")
    query = select(peers).where(
        peers.c.tenant_id == tenant_id,
        peers.c.protocol == protocol.value,
        peers.c.role == role.value,
        peers.c.revoked_at.is_(None),
        *(peers.c[column] == value for column, value in given.items()),
    )
    return await _one(connection, query)


async def get_peer(connection: AsyncConnection, peer_id: str, *, tenant_id: str) -> Peer:
    """Return a peer by its id, revoked or not.

    Raises:
        NotFound: this tenant has no such peer.
    """
    by_id = select(peers).where(peers.c.id == peer_id, peers.c.tenant_id == tenant_id)
    found = await _one(connection, by_id) if peer_id.isprintable() else None
    if found is None:
        raise NotFound(f"no peer {peer_id}")
    return found


async def add_peer(connection: AsyncConnection, new: NewPeer, *, at: datetime) -> tuple[Peer, str | None]:
    """Store a peer and return it, with the client secret where it will come to our token endpoint.

    The secret cannot be shown again: only its hash is kept.

    Raises:
        InvalidRequest: a field cannot be.
        Conflict: name, party id, fingerprint or client id is another peer's.
    """
    new = checked(new)
    secret = new_client_secret() if _comes_to_us(new.protocol, new.role) else None
    if secret is not None and new.client_id is None:
        new = replace(new, client_id=f"{new.role.value}-{token_hex(8)}")
    await _refuse_same_certificate(connection, new, peer_id=None)
    await _refuse_same_source(connection, new)
    row = _columns(new) | {
        "id": uuid4().hex,
        "secret_hash": None if secret is None else secret_hash(secret),
        "created_at": at,
    }
    stored = (await connection.execute(insert(peers).values(row).on_conflict_do_nothing().returning(peers))).first()
    if stored is None:
        raise await _conflict(connection, new)
    await _tell(connection, str(stored.id))
    return as_peer(stored), secret


async def update_peer(connection: AsyncConnection, peer_id: str, changes: Mapping[str, Any], *, tenant_id: str) -> Peer:
    """Change what may change of a peer that is not revoked, and return it.

    Args:
        changes: any of party_id, client_id (a VTN's only), url, fingerprint, certificate_pem, groups,
            granted_targets, config (the whole of it).

    Raises:
        InvalidRequest: a field cannot be, or cannot change.
        NotFound: there is no such peer, or it was revoked.
        Conflict: party id or fingerprint is another peer's.
    """
    known = await _in_force(connection, peer_id, tenant_id)
    allowed = _CHANGEABLE | {"certificate_pem"}
    for name in changes:
        if name not in allowed:
            raise InvalidRequest(name, changes[name], f"one of {', '.join(sorted(allowed))}")
    if "client_id" in changes and known.role is not PeerRole.VTN:
        raise InvalidRequest(
            "client_id", changes["client_id"], "none: what it has at our VTN is kept under the one it has"
        )
    base = {name: getattr(known, name) for name in _CHANGEABLE}
    if "certificate_pem" in changes and "fingerprint" not in changes:
        base["fingerprint"] = None  # another certificate has another one
    fixed = {"tenant_id": tenant_id, "protocol": known.protocol, "role": known.role, "name": known.name}
    new = checked(NewPeer(**(base | dict(changes) | fixed)))
    await _refuse_same_certificate(connection, new, peer_id=peer_id)
    taken = select(peers.c.name).where(
        *_same_kind(new), peers.c.party_id == new.party_id, peers.c.id != peer_id, peers.c.revoked_at.is_(None)
    )
    if (other := (await connection.execute(taken)).scalar()) is not None:
        raise Conflict(f"party_id {new.party_id} is that of {other}")
    query = update(peers).where(peers.c.id == peer_id).values(_columns(new)).returning(peers)
    row = (await connection.execute(query)).one()
    await _tell(connection, peer_id)
    return as_peer(row)


async def revoke_peer(connection: AsyncConnection, peer_id: str, *, at: datetime) -> None:
    """End a peer: its tokens, its certificate, what we tell it. Nothing happens if it has ended already.

    Raises:
        NotFound: there is no such peer.
    """
    query = update(peers).where(peers.c.id == peer_id)
    query = query.values(revoked_at=func.coalesce(peers.c.revoked_at, at))
    if (await connection.execute(query)).rowcount == 0:
        raise NotFound(f"no peer {peer_id}")
    await _tell(connection, peer_id)


async def rotate_secret(connection: AsyncConnection, peer_id: str, *, tenant_id: str) -> tuple[Peer, str]:
    """Give a peer a new client secret; the old one and every token got with it end, also as a password at our broker.

    Raises:
        NotFound: there is no such peer, or it was revoked.
        InvalidRequest: it does not come to our token endpoint.
    """
    known = await _in_force(connection, peer_id, tenant_id)
    if not _comes_to_us(known.protocol, known.role):
        raise InvalidRequest("peer", known.name, "an OpenADR 3 VEN or business logic: only these have a secret of ours")
    secret = new_client_secret()
    await connection.execute(update(peers).where(peers.c.id == peer_id).values(secret_hash=secret_hash(secret)))
    # Whoever is told of the change throws out at the broker who is not among these any more.
    await connection.execute(delete(mqtt_login).where(mqtt_login.c.client_id == known.client_id))
    await _tell(connection, peer_id)
    return known, secret


def as_peer(row: Row[Any]) -> Peer:
    """Return a row of the table as what the rest of the service knows it by."""
    return Peer(
        id=row.id,
        tenant_id=row.tenant_id,
        protocol=Protocol(row.protocol),
        role=PeerRole(row.role),
        name=row.name,
        party_id=row.party_id,
        client_id=row.client_id,
        url=row.url,
        fingerprint=row.fingerprint,
        groups=tuple(row.groups),
        granted_targets=tuple(row.granted_targets),
        config=dict(row.config),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _comes_to_us(protocol: Protocol, role: PeerRole) -> bool:
    """Whether a peer gets a token from us."""
    return protocol is Protocol.OPENADR3 and role is not PeerRole.VTN


def _columns(new: NewPeer) -> dict[str, Any]:
    return {
        "tenant_id": new.tenant_id,
        "protocol": new.protocol.value,
        "role": new.role.value,
        "name": new.name,
        "party_id": new.party_id,
        "client_id": new.client_id,
        "url": new.url,
        "fingerprint": new.fingerprint,
        "groups": list(new.groups),
        "granted_targets": list(new.granted_targets),
        "config": dict(new.config),
    }


def _same_kind(new: NewPeer) -> tuple[Any, ...]:
    return (
        peers.c.tenant_id == new.tenant_id,
        peers.c.protocol == new.protocol.value,
        peers.c.role == new.role.value,
    )


async def _one(connection: AsyncConnection, query: Select[Any]) -> Peer | None:
    row = (await connection.execute(query.limit(1))).first()
    return None if row is None else as_peer(row)


async def _in_force(connection: AsyncConnection, peer_id: str, tenant_id: str) -> Peer:
    by_id = select(peers).where(peers.c.id == peer_id, peers.c.tenant_id == tenant_id).with_for_update()
    known = await _one(connection, by_id) if peer_id.isprintable() else None
    if known is None:
        raise NotFound(f"no peer {peer_id}")
    if known.revoked_at is not None:
        raise NotFound(f"peer {known.name} was revoked")
    return known


async def _refuse_same_certificate(connection: AsyncConnection, new: NewPeer, *, peer_id: str | None) -> None:
    """One certificate speaks for one VEN (2.0b profile, 10.4); two would be told apart by their word alone."""
    if new.fingerprint is None or new.role is not PeerRole.VEN:
        return
    query = select(peers.c.name).where(
        *_same_kind(new), peers.c.fingerprint == new.fingerprint, peers.c.revoked_at.is_(None)
    )
    if peer_id is not None:
        query = query.where(peers.c.id != peer_id)
    if (other := (await connection.execute(query)).scalar()) is not None:
        raise Conflict(f"the certificate {new.fingerprint} is that of {other}")


async def is_of_another_tenant(connection: AsyncConnection, *, protocol: Protocol, name: str, tenant_id: str) -> bool:
    """Whether a VTN above another tenant has this name, or had it and was heard.

    All that is kept of one is kept under protocol and name (`openadr2:utility`), whosever peer it is.
    """
    theirs = exists().where(
        peers.c.protocol == protocol.value,
        peers.c.role == PeerRole.VTN.value,
        peers.c.name == name,
        peers.c.tenant_id != tenant_id,
    )
    heard = exists().where(heard_event.c.source == f"{protocol.value}:{name}", heard_event.c.tenant_id != tenant_id)
    return bool((await connection.execute(select(theirs | heard))).scalar())


async def _refuse_same_source(connection: AsyncConnection, new: NewPeer) -> None:
    if new.role is not PeerRole.VTN:
        return
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"{new.protocol.value}:{new.name}"))))
    if await is_of_another_tenant(connection, protocol=new.protocol, name=new.name, tenant_id=new.tenant_id):
        raise Conflict(f"the name {new.name} is taken by another tenant: what we keep of a VTN is kept under its name")


async def _conflict(connection: AsyncConnection, new: NewPeer) -> Conflict:
    """What stands in the way of a row that was not inserted."""
    kind = f"{new.protocol.value} {new.role.value}"
    in_force = (*_same_kind(new), peers.c.revoked_at.is_(None))
    if await _one(connection, select(peers).where(*in_force, peers.c.name == new.name)):
        return Conflict(f"there is a {kind} named {new.name} already")
    if await _one(connection, select(peers).where(*in_force, peers.c.party_id == new.party_id)):
        return Conflict(f"there is a {kind} with party_id {new.party_id} already")
    return Conflict(f"client_id {new.client_id} is, or was, another peer's; one is made up where none is given")


async def _tell(connection: AsyncConnection, peer_id: str) -> None:
    await connection.execute(select(func.pg_notify(PEER_CHANNEL, peer_id)))
