"""Access tokens of somebody else's OAuth server: checked against its keys, its words turned into ours.

Called by `authority`. Only asymmetric signatures are taken, each key with the one algorithm it is for, so that
neither `none` nor a public key used as a shared secret gets anybody in.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.domain.peer import PeerRole
from vpp.peering.jwks import KeySet
from vpp.peering.own_tokens import Shown
from vpp.peering.peer_rules import checked_url, is_client_id
from vpp.peering.scopes import KNOWN_SCOPES, within_role
from vpp.ports import Clock

_CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
"""Where servers put the client where the configured claim is missing (RFC 9068, Keycloak, Okta, Entra)."""
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a genuine token of the other server says; `role` and `scopes` as far as it says them."""

    shown: Shown
    role: PeerRole | None

    def scopes_for(self, role: PeerRole) -> frozenset[str]:
        """What of its scopes a peer of this role may have; a mapped role without scopes has the role's."""
        return within_role(role, self.shown.scopes)


class ExternalTokens:
    """Reads tokens of the server that `VPP_OPENADR3_OAUTH_*` names.

    Raises (when made):
        NotReady: settings are missing.
        InvalidRequest: an address is neither https nor this machine's.
    """

    def __init__(self, settings: Settings, clock: Clock, keys: KeySet | None = None) -> None:
        issuer, audience = settings.openadr3_oauth_issuer, settings.openadr3_oauth_audience
        jwks_url, token_url = settings.openadr3_oauth_jwks_url, settings.openadr3_oauth_token_url
        if not issuer or not audience or not jwks_url or not token_url:
            raise NotReady(
                "an OAuth server needs VPP_OPENADR3_OAUTH_ISSUER, _JWKS_URL, _TOKEN_URL and _AUDIENCE; one is not set"
            )
        self._issuer, self._audience, self._clock, self._settings = issuer, audience, clock, settings
        self.token_url = checked_url(token_url)
        self.algorithms = frozenset(settings.openadr3_oauth_algorithms)
        self._keys = keys or KeySet(checked_url(jwks_url), self.algorithms)

    async def read(self, token: str, key_id: str | None, algorithm: str) -> Foreign | None:
        """Return what a token says, or None if it is not genuine, not for us, not yet good or over."""
        key = await self._keys.find(key_id)
        if key is None or algorithm not in self.algorithms or key.algorithm_name != algorithm:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        until = self._good_until(claims)
        client_id = self._client(claims)
        if until is None or client_id is None:
            return None
        words = _words(claims.get(self._settings.openadr3_oauth_scope_claim))
        role = self._role(words)
        if role == "contradiction":
            return None
        return Foreign(Shown(client_id, self._scopes(words, role), until), None if role is None else PeerRole(role))

    def _good_until(self, claims: dict[str, Any]) -> datetime | None:
        """When the token ends, leeway included; None if that has passed, or it is not good yet."""
        leeway = timedelta(seconds=self._settings.openadr3_oauth_leeway_s)
        now = self._clock.now()
        ends_at, begins_at = _instant(claims["exp"]), _instant(claims.get("nbf", 0))
        if ends_at is None or begins_at is None or now >= ends_at + leeway or now < begins_at - leeway:
            return None
        return ends_at + leeway

    def _client(self, claims: dict[str, Any]) -> str | None:
        for name in dict.fromkeys((self._settings.openadr3_oauth_client_claim, *_CLIENT_CLAIMS)):
            if isinstance(claims.get(name), str) and is_client_id(claims[name]):
                return str(claims[name])
        return None

    def _role(self, words: frozenset[str]) -> str | None:
        """The role its words are mapped to; a token that is mapped to both is nobody's."""
        roles = {self._settings.openadr3_oauth_roles[word] for word in words & set(self._settings.openadr3_oauth_roles)}
        return "contradiction" if len(roles) > 1 else next(iter(roles), None)

    def _scopes(self, words: frozenset[str], role: str | None) -> frozenset[str]:
        mapping = self._settings.openadr3_oauth_scopes
        if not mapping:
            ours = words & KNOWN_SCOPES
            return ours if ours or role is None else KNOWN_SCOPES
        return frozenset(scope for word in words & set(mapping) for scope in mapping[word].split()) & KNOWN_SCOPES


def _words(claim: object) -> frozenset[str]:
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(each for each in claim if isinstance(each, str)) if isinstance(claim, list) else frozenset()


def _instant(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)
