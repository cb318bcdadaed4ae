"""EiRegisterParty: who may be a VEN of ours, and the ids it keeps. Called by `desk`.

A VEN may register if it is a peer: known by the certificate it shows, else by the venID it gives, else by its
name. Where the peer's certificate is known, nothing less will do. The ids a peer gets stay its own, also when a
registration ends and comes back.
"""

from datetime import datetime
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import CallerForbidden
from vpp.domain.openadr2 import (
    INVALID_DATA,
    INVALID_ID,
    NOT_ALLOWED,
    NOT_REGISTERED,
    Acknowledge,
    CanceledRegistration,
    CancelRegistration,
    CreatedRegistration,
    CreateRegistration,
    Openadr2Caller,
    QueryRegistration,
)
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.outbox import close_answered, close_kinds
from vpp.gateway.refused import Refused, good
from vpp.gateway.vtn import sending
from vpp.gateway.vtn.room import Room
from vpp.peering import find_peer, get_peer
from vpp.store.tables.openadr2_vtn import vtn2_delivery, vtn2_registration
from vpp.store.tables.peering import peer as peers

MAX_ADDRESS = 2048


def query(room: Room, message: QueryRegistration, caller: Openadr2Caller) -> CreatedRegistration:
    """Say what this VTN speaks, and to a registered VEN, known by the certificate it shows, its own ids."""
    shown = {each for each in (caller.fingerprint, caller.signed_by) if each is not None}
    ven = room.view.by_fingerprint(shown.pop()) if len(shown) == 1 else None
    held = ven.registration if ven is not None and ven.is_registered else None
    return CreatedRegistration(
        response=good(message.request_id),
        vtn_id=room.vtn_id,
        ven_id=None if held is None else held.ven_id,
        registration_id=None if held is None else held.registration_id,
        poll=room.poll,
    )


async def create(room: Room, message: CreateRegistration, caller: Openadr2Caller) -> CreatedRegistration:
    """Register a VEN, or register it again with the ids it has.

    Raises:
        Refused: it is no peer of ours, names ids that are not its own, or asks for what we do not speak.
        CallerForbidden: it shows a certificate that is not the peer's.
    """
    _check(message)
    now = room.clock.now()
    async with room.store.begin() as connection:
        peer = await _peer_of(connection, room, message, caller)
        await _one_at_a_time(connection, peer.id)
        held = await _held(connection, peer.id)
        ven_id = held.ven_id if held is not None else peer.party_id or f"VEN-{token_hex(8)}"
        if message.registration_id and held is not None and message.registration_id != held.registration_id:
            raise Refused(INVALID_ID, "registrationID is not that of this VEN")
        registration_id = held.registration_id if held is not None else uuid4().hex
        await _free(connection, room, ven_id, peer.id)
        row: dict[str, Any] = {
            "ven_id": ven_id,
            "profile": message.profile,
            "transport": message.transport,
            "transport_address": None if message.http_pull else message.transport_address or peer.url,
            "report_only": message.report_only,
            "xml_signature": message.xml_signature,
            "http_pull": message.http_pull,
            "registered_at": now,
            "cancelled_at": None,
            "cancelled_by": None,
            "seen_at": now,
        }
        new = insert(vtn2_registration).values(
            peer_id=peer.id, tenant_id=room.tenant_id, registration_id=registration_id, **row
        )
        await connection.execute(new.on_conflict_do_update(index_elements=["peer_id"], set_=row))
        await _forget_told(connection, peer.id)
        await close_kinds(connection, peer.id, ("RequestReregistration", "CancelRegistration"), "registered", at=now)
        await sending.end(connection, peer.id, "registered", at=now)
        await sending.offer_unasked(connection, room, peer, ven_id, at=now)
    await room.keeper.load_ven(peer.id)
    return CreatedRegistration(
        response=good(message.request_id),
        vtn_id=room.vtn_id,
        ven_id=ven_id,
        registration_id=registration_id,
        poll=room.poll,
    )


async def cancel(room: Room, message: CancelRegistration, caller: Openadr2Caller) -> CanceledRegistration:
    """End a registration because the VEN says so. Ended twice is ended once.

    Raises:
        Refused: there is no such registration.
        CallerForbidden: it shows a certificate that is not that of the VEN.
    """
    now = room.clock.now()
    async with room.store.begin() as connection:
        row = await _by_registration_id(connection, room, message.registration_id)
        if row is None or (message.ven_id is not None and message.ven_id != row.ven_id):
            raise Refused(INVALID_ID, "registrationID is not that of a VEN of ours")
        peer = await get_peer(connection, row.peer_id, tenant_id=room.tenant_id)
        check_certificate(room, peer, caller)
        check_signed(caller, signs=row.xml_signature or peer.config.get("sign") is True)
        if row.cancelled_at is None:
            await end(connection, row.peer_id, "ven", at=now)
    await room.keeper.load_ven(row.peer_id)
    return CanceledRegistration(
        response=good(message.request_id), registration_id=row.registration_id, ven_id=row.ven_id
    )


async def confirmed(room: Room, message: CanceledRegistration, caller: Openadr2Caller) -> Acknowledge:
    """Take a VEN's word that it knows its registration to have ended.

    Raises:
        Refused: there is no such registration.
        CallerForbidden: it shows a certificate that is not that of the VEN.
    """
    now = room.clock.now()
    async with room.store.begin() as connection:
        row = await _by_registration_id(connection, room, message.registration_id)
        if row is None:
            raise Refused(INVALID_ID, "registrationID is not that of a VEN of ours")
        peer = await get_peer(connection, row.peer_id, tenant_id=room.tenant_id)
        check_certificate(room, peer, caller)
        check_signed(caller, signs=row.xml_signature or peer.config.get("sign") is True)
        request_id = message.response.request_id
        sent = await close_answered(connection, peer.id, "CancelRegistration", request_id, "answered", at=now)
        if sent is not None:
            await end(connection, peer.id, "vtn", at=now)
    await room.keeper.load_ven(row.peer_id)
    return Acknowledge(response=good(message.response.request_id), ven_id=row.ven_id)


async def end(connection: AsyncConnection, peer_id: str, by: str, *, at: datetime) -> None:
    """Note that a registration has ended, and drop what waits for this VEN."""
    await connection.execute(
        update(vtn2_registration)
        .where(vtn2_registration.c.peer_id == peer_id, vtn2_registration.c.cancelled_at.is_(None))
        .values(cancelled_at=at, cancelled_by=by)
    )
    await _forget_told(connection, peer_id)
    await close_kinds(connection, peer_id, None, "registration ended", at=at)
    await sending.end(connection, peer_id, "registration ended", at=at)


def check_certificate(room: Room, peer: Peer, caller: Openadr2Caller) -> None:
    """Hold what the caller shows against what the peer's certificate is known to be.

    Raises:
        CallerForbidden: another certificate was shown, in TLS or in the signature.
        Refused: none was shown where one is needed, or none is known where every VEN must have one.
    """
    shown = {each for each in (caller.fingerprint, caller.signed_by) if each is not None}
    for each in shown:
        owner = room.view.by_fingerprint(each)
        if owner is not None and owner.peer.id != peer.id:
            raise CallerForbidden(f"the certificate shown is that of another VEN than {peer.name}")
    if peer.fingerprint is None:
        if room.must_show_certificate:
            raise Refused(NOT_REGISTERED, "no certificate is known of this VEN")
        return
    if not shown:
        raise Refused(NOT_REGISTERED, "this VEN must show its certificate")
    if shown != {peer.fingerprint}:
        raise CallerForbidden(f"the certificate shown is not that of VEN {peer.name}")


def check_signed(caller: Openadr2Caller, *, signs: bool) -> None:
    """Hold a VEN that signs to it, also where its message does not name it.

    Raises:
        Refused: it is not signed.
    """
    if signs and caller.signed_by is None and not caller.called:
        raise Refused(NOT_REGISTERED, "it is not signed")


def _check(message: CreateRegistration) -> None:
    if message.profile != "2.0b":
        raise Refused(NOT_ALLOWED, f"profile {message.profile[:20]} is not spoken here, but 2.0b")
    if message.transport != "simpleHttp":
        raise Refused(NOT_ALLOWED, f"transport {message.transport[:20]} is not spoken here, but simpleHttp")
    # A VEN that polls needs no address, and some write the word None there.
    if not message.http_pull and message.transport_address and not _is_address(message.transport_address):
        raise Refused(INVALID_DATA, "oadrTransportAddress is not an address of http or https")


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and len(address) <= MAX_ADDRESS
    except ValueError:
        return False


async def _peer_of(
    connection: AsyncConnection, room: Room, message: CreateRegistration, caller: Openadr2Caller
) -> Peer:
    """Return the peer that registers; see the module's head for how it is known."""
    peer = None
    for by in _ways(message, caller):
        peer = await find_peer(
            connection, tenant_id=room.tenant_id, protocol=Protocol.OPENADR2, role=PeerRole.VEN, **by
        )
        if peer is not None:
            break
    if peer is None:
        peer = await _by_given_id(connection, room, message.ven_id)
    if peer is None:
        raise Refused(NOT_REGISTERED, "this VEN is not known here")
    check_certificate(room, peer, caller)
    if peer.config.get("sign") is True and caller.signed_by is None:
        raise Refused(NOT_REGISTERED, "this VEN must sign its messages")
    if not message.http_pull and not (message.transport_address or peer.url):
        raise Refused(INVALID_DATA, "a VEN that is pushed to needs an oadrTransportAddress")
    held = await _held(connection, peer.id)
    ids = {peer.party_id, None if held is None else held.ven_id}
    if message.ven_id and message.ven_id not in ids:
        raise Refused(INVALID_ID, "venID is not that of this VEN")
    return peer


def _ways(message: CreateRegistration, caller: Openadr2Caller) -> list[dict[str, str]]:
    """How to look for the peer, the surest way first."""
    ways: list[dict[str, str]] = []
    ways += [{"fingerprint": each} for each in (caller.fingerprint, caller.signed_by) if each]
    if message.ven_id:
        ways.append({"party_id": message.ven_id})
    if message.ven_name:
        ways += [{"name": message.ven_name}, {"party_id": message.ven_name}]
    return ways


async def _by_given_id(connection: AsyncConnection, room: Room, ven_id: str | None) -> Peer | None:
    """Return the peer that got this id from us, unless it was revoked."""
    if not ven_id:
        return None
    found = select(vtn2_registration.c.peer_id).where(
        vtn2_registration.c.tenant_id == room.tenant_id, vtn2_registration.c.ven_id == ven_id
    )
    peer_id = (await connection.execute(found)).scalar()
    peer = None if peer_id is None else await get_peer(connection, peer_id, tenant_id=room.tenant_id)
    return None if peer is None or peer.revoked_at is not None else peer


async def _by_registration_id(connection: AsyncConnection, room: Room, registration_id: str) -> Row[Any] | None:
    query = select(vtn2_registration).where(
        vtn2_registration.c.registration_id == registration_id, vtn2_registration.c.tenant_id == room.tenant_id
    )
    return (await connection.execute(query.with_for_update())).first()


async def _one_at_a_time(connection: AsyncConnection, peer_id: str) -> None:
    """A VEN that repeats itself before the first answer came gets the same ids twice, not ids of which one is void."""
    await connection.execute(select(peers.c.id).where(peers.c.id == peer_id).with_for_update(key_share=True))


async def _held(connection: AsyncConnection, peer_id: str) -> Row[Any] | None:
    return (
        await connection.execute(
            select(vtn2_registration).where(vtn2_registration.c.peer_id == peer_id).with_for_update()
        )
    ).first()


async def _free(connection: AsyncConnection, room: Room, ven_id: str, peer_id: str) -> None:
    """Take an id from a peer that had it and was revoked: an id in force is one peer's alone."""
    await connection.execute(
        delete(vtn2_registration).where(
            vtn2_registration.c.tenant_id == room.tenant_id,
            vtn2_registration.c.ven_id == ven_id,
            vtn2_registration.c.peer_id != peer_id,
        )
    )


async def _forget_told(connection: AsyncConnection, peer_id: str) -> None:
    """A VEN that registers may have lost what it was told; what it answered stays on record."""
    await connection.execute(
        update(vtn2_delivery)
        .where(vtn2_delivery.c.peer_id == peer_id)
        .values(told_modification=None, told_status=None, told_count=0, settled_modification=None, settled_status=None)
    )
