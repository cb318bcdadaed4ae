"""Access tokens of our own: signed statements of who a client is, checked without SQL. Called by `authority`."""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from vpp.domain.peer import Peer
from vpp.peering.peer_cache import Known
from vpp.peering.token_keys import TokenKeys

ALGORITHM = "HS256"
_ISSUER = "vpp"
_CHECKS = {"require": ["exp", "sub", "scope", "stamp"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
"""Instants are compared with our own clock, which a simulation may step."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a genuine token says: a client, what it may do, until when."""

    client_id: str
    scopes: frozenset[str]
    expires_at: datetime
    stamp: str | None = None
    """Of the secret the token was got with; None for another server's token."""


def stamp_of(known: Known) -> str:
    """A mark of the secret in force: a token got with an earlier one bears another."""
    return (known.secret_hash or "")[:16]


def same_stamp(one: str, other: str) -> bool:
    """Whether two stamps are one, compared in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


class OwnTokens:
    """Issues and reads our tokens."""

    def __init__(self, keys: TokenKeys) -> None:
        self._keys = keys

    async def issue(
        self, peer: Peer, known: Known, scopes: frozenset[str], *, now: datetime, lifetime: timedelta
    ) -> str:
        """Return a token for a peer that has shown its secret."""
        key = await self._keys.signing()
        claims = {
            "iss": _ISSUER,
            "sub": peer.client_id,
            "scope": " ".join(sorted(scopes)),
            "stamp": stamp_of(known),
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        return jwt.encode(claims, key.secret, algorithm=ALGORITHM, headers={"kid": key.id})

    async def read(self, token: str, key_id: str) -> Shown | None:
        """Return what a token says, or None if we did not sign it; whether it is over is the caller's to say."""
        key = await self._keys.find(key_id)
        if key is None:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key.secret, algorithms=[ALGORITHM], issuer=_ISSUER, options=_CHECKS  # type: ignore[arg-type]
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        return Shown(
            client_id=claims["sub"],
            scopes=frozenset(claims["scope"].split()),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            stamp=claims["stamp"],
        )
