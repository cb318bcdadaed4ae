"""Peers, certificates and authorities for tests."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy.dialects.postgresql import insert

from tests.clock import NOON
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import NewPeer, add_peer
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant


class Ticks:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def new_peer(name: str = "site-1", **changes: Any) -> NewPeer:
    """A VEN that comes to our OpenADR 3 VTN, unless `changes` say otherwise."""
    fields: dict[str, Any] = {
        "tenant_id": "default",
        "protocol": Protocol.OPENADR3,
        "role": PeerRole.VEN,
        "name": name,
    }
    return NewPeer(**(fields | changes))


async def add_tenant(store: Store, tenant_id: str = "default") -> None:
    """Store a tenant, if it is not there."""
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id).on_conflict_do_nothing())


async def stored_peer(store: Store, name: str = "site-1", *, at: datetime = NOON, **changes: Any) -> tuple[Peer, str]:
    """Store a peer and return it with its client secret, "" where it has none."""
    new = new_peer(name, **changes)
    await add_tenant(store, new.tenant_id)
    async with store.begin() as connection:
        peer, secret = await add_peer(connection, new, at=at)
    return peer, secret or ""


def certificate(name: str, kind: str = "ec") -> tuple[bytes, bytes]:
    """A self-signed certificate for `name` and its key, both in PEM."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(NOON - timedelta(days=1)).not_valid_after(NOON + timedelta(days=3650))
    pem = made.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return as soon as something is so; fail where it is not within 10 s."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to be")
