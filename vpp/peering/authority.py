"""Who may call our OpenADR 3 VTN (`vpp.ports.Authority`). Made by bootstrap, asked by the OpenADR 3 routes.

Goal: a call costs microseconds, and a peer that is revoked, or whose secret is changed, is out within 5 s in every
process. Method: our tokens are signed, so that reading one needs no SQL; what was read is kept under a hash of the
token, and each call looks at the peer as `peer_cache` holds it.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import jwt
from sqlalchemy.dialects.postgresql import insert

from vpp.config import Settings
from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.peer import Caller, Peer, PeerRole, Protocol, TokenGrant
from vpp.peering.addresses import openadr3_url
from vpp.peering.bounded import Bounded
from vpp.peering.credentials import SECRET_MAX_CHARS, secret_matches
from vpp.peering.external_tokens import ExternalTokens, Foreign
from vpp.peering.metrics import CALLERS, TOKENS
from vpp.peering.own_tokens import ALGORITHM, OwnTokens, Shown, same_stamp, stamp_of
from vpp.peering.peer_cache import Known, PeerCache
from vpp.peering.peer_rules import NewPeer, is_client_id
from vpp.peering.peers import add_peer
from vpp.peering.scopes import narrowed
from vpp.peering.token_keys import TokenKeys
from vpp.ports import Clock, Credentials
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

_TOKENS_IN_MEMORY = 20_000
_TOKEN_MAX_CHARS = 8192


class OwnAuthority:
    """Our own tokens, and those of one external OAuth server where settings name it.

    Args:
        secrets: where the file with our signing keys would be; without one, keys are in SQL.

    Raises (when made):
        NotReady: settings of an external server are incomplete.
        InvalidRequest: an address of it is neither https nor this machine's.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        *,
        secrets: Credentials | None = None,
        external: ExternalTokens | None = None,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._clock, self._settings = store, clock, settings
        self._own = OwnTokens(TokenKeys(store, clock, secrets, ticks=ticks))
        if external is None and settings.openadr3_oauth_issuer is not None:
            external = ExternalTokens(settings, clock)
        self._external = external
        self._peers = PeerCache(store, ticks=ticks)
        self._seen: Bounded[bytes, Shown | Foreign] = Bounded(_TOKENS_IN_MEMORY)
        self.token_url = openadr3_url(settings) + "/auth/token" if external is None else external.token_url

    async def run(self) -> None:
        """Hear of peers that change, so that revoking is felt at once instead of within 5 s; until cancelled."""
        await self._peers.run()

    async def grant(self, client_id: str, client_secret: str, scope: str | None) -> TokenGrant | None:
        """Return a token for a client that shows its secret, or None: unknown and wrong take as long."""
        if not is_client_id(client_id) or len(client_secret) > SECRET_MAX_CHARS:
            TOKENS.labels("refused").inc()
            return None
        known = await self._peers.read(client_id)
        right = secret_matches(client_secret, known.secret_hash)
        if known.peer is None or not right:
            TOKENS.labels("refused").inc()
            return None
        scopes = narrowed(known.peer.role, scope)
        lifetime = timedelta(seconds=int(self._settings.openadr3_token_s))
        token = await self._own.issue(known.peer, known, scopes, now=self._clock.now(), lifetime=lifetime)
        TOKENS.labels("granted").inc()
        return TokenGrant(
            access_token=token, expires_in_s=int(lifetime.total_seconds()), scope=" ".join(sorted(scopes))
        )

    async def caller(self, access_token: str) -> Caller | None:
        """Return who holds a token, or None where it is unknown, expired or revoked."""
        if not 0 < len(access_token) <= _TOKEN_MAX_CHARS or not access_token.isascii():
            return None
        digest = hashlib.sha256(access_token.encode()).digest()
        said = self._seen.get(digest)
        if said is None:
            said = await self._read(access_token)
            CALLERS.labels("refused" if said is None else "read").inc()
            if said is None:
                return None
            self._seen.put(digest, said)
        shown = said.shown if isinstance(said, Foreign) else said
        if self._clock.now() >= shown.expires_at:
            self._seen.pop(digest)
            return None
        known = await self._peers.get(shown.client_id)
        if isinstance(said, Foreign):
            return await self._foreign(said, known)
        if known.peer is None or not same_stamp(stamp_of(known), shown.stamp or ""):
            return None
        return _caller(known.peer, shown.scopes)

    async def _read(self, token: str) -> Shown | Foreign | None:
        """The head of a token only says which of two ways it must prove itself, never how far it is trusted."""
        try:
            head: dict[str, Any] = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):  # the last: thousands of brackets
            return None
        algorithm, key_id = head.get("alg"), head.get("kid")
        if algorithm == ALGORITHM and isinstance(key_id, str):
            return await self._own.read(token, key_id)
        if self._external is not None and algorithm in self._external.algorithms:
            return await self._external.read(token, key_id if isinstance(key_id, str) else None, algorithm)
        return None

    async def _foreign(self, said: Foreign, known: Known) -> Caller | None:
        peer = known.peer
        if peer is None and self._settings.openadr3_oauth_auto_peers and said.role is not None:
            peer = await self._add(said.shown.client_id, said.role)
        if peer is None or (said.role is not None and said.role is not peer.role):
            return None
        return _caller(peer, said.scopes_for(peer.role))

    async def _add(self, client_id: str, role: PeerRole) -> Peer | None:
        """A peer for a client that the external server vouches for; its secret with us is known to nobody."""
        new = NewPeer(
            tenant_id=self._settings.tenant,
            protocol=Protocol.OPENADR3,
            role=role,
            name=f"oauth-{hashlib.sha256(client_id.encode()).hexdigest()[:16]}",
            client_id=client_id,
        )
        try:
            async with asyncio.timeout(10), self._store.begin() as connection:
                named = insert(tenant).values(id=new.tenant_id, name=new.tenant_id)
                await connection.execute(named.on_conflict_do_nothing())
                await add_peer(connection, new, at=self._clock.now())
        except (Conflict, InvalidRequest):
            pass  # another process was first, or it was revoked: the next reading says which
        return (await self._peers.read(client_id)).peer


def _caller(peer: Peer, scopes: frozenset[str]) -> Caller:
    assert peer.client_id is not None  # noqa: S101 - it was found by it
    return Caller(client_id=peer.client_id, tenant_id=peer.tenant_id, role=peer.role, scopes=scopes, peer_id=peer.id)
