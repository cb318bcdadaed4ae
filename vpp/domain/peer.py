"""Who is at the other end of a protocol: a peer, and a caller who has shown that it is one."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Protocol(StrEnum):
    OPENADR2 = "openadr2"
    OPENADR3 = "openadr3"


class PeerRole(StrEnum):
    """What the peer is, seen from it: a VEN below us, a VTN above us, business logic that runs our VTN."""

    VEN = "ven"
    VTN = "vtn"
    BL = "bl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer as it is configured. Secrets are kept as hashes, or as names of files, never here.

    Attributes:
        name: our name for it, unique for tenant, protocol and role; part of an event's source.
        party_id: its venID or vtnID in 2.0b; its venName in 3.
        client_id: who it is to our token endpoint, or who we are to its own.
        url: where it is reached; None where it comes to us.
        fingerprint: of its certificate, as OpenADR writes it (last ten bytes of SHA-256, `AA:BB:…`).
        groups: names of groups it belongs to, for targets.
        granted_targets: what it may see in OpenADR 3.
        config: what is particular to protocol and role, JSON-able.
    """

    id: str
    tenant_id: str
    protocol: Protocol
    role: PeerRole
    name: str
    party_id: str | None = None
    client_id: str | None = None
    url: str | None = None
    fingerprint: str | None = None
    groups: tuple[str, ...] = ()
    granted_targets: tuple[str, ...] = ()
    config: dict[str, object] = field(default_factory=dict)
    created_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls our OpenADR 3 VTN, by its access token."""

    client_id: str
    tenant_id: str
    role: PeerRole
    scopes: frozenset[str]
    peer_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """An access token just issued, for `expires_in_s` seconds."""

    access_token: str
    expires_in_s: int
    scope: str


class Direction(StrEnum):
    """Which way a message went, seen from us."""

    IN = "in"
    OUT = "out"
