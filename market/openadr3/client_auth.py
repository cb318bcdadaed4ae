"""Room openadr3: access tokens of one VTN: found out where, fetched, kept until shortly before they expire.

Called by `client`. OAuth 2.0 client credentials, as Basic first and in the form where that is refused
(the reference implementation takes the form only). A token without `expires_in` is used for `UNSAID_S`.
"""

import asyncio
import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from market.openadr3.client_http import Answer, Wire, accepted
from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.ports import Clock

EARLY_S = 30.0
"""A token is replaced this long before it expires, so that none expires under way."""
UNSAID_S = 300.0
MAX_TOKEN_S = 86_400.0
MAX_TOKEN_CHARS = 16_384


@dataclass(frozen=True, slots=True)
class Credential:
    """Who we are to the VTN's token endpoint."""

    client_id: str
    client_secret: str
    scope: str | None = None


class Tokens:
    """The access token of one client at one VTN, shared by all its requests.

    Args:
        base_url: where the API begins; `auth/server` and `auth/token` are looked for beneath it.
        token_url: the token endpoint, where it is configured.
    """

    def __init__(
        self, wire: Wire, clock: Clock, base_url: str, credential: Credential, *, token_url: str | None = None
    ) -> None:
        self._wire, self._clock, self._credential = wire, clock, credential
        self._base_url, self._token_url = base_url.rstrip("/") + "/", token_url
        self._use_form = False
        self._token: str | None = None
        self._stale_at: datetime | None = None
        self._fetching = asyncio.Lock()

    async def get(self, *, refused: str | None = None) -> str:
        """Return a token that is good for a while; never `refused`, which the VTN would not take.

        Raises:
            PeerUnreachable: the token endpoint gives no usable answer.
            PeerRefused: it does not accept us.
        """
        async with self._fetching:
            fresh = self._stale_at is not None and self._clock.now() < self._stale_at
            if self._token is None or not fresh or self._token == refused:
                self._keep(await self._fetch())
            assert self._token is not None  # noqa: S101  # _keep sets it or raises
            return self._token

    def _keep(self, content: Any) -> None:
        token = content.get("access_token") if isinstance(content, dict) else None
        if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_CHARS or not token.isascii():
            raise PeerUnreachable("the token endpoint answers without an access_token")
        said = content.get("expires_in")
        known = isinstance(said, int | float) and not isinstance(said, bool) and said > 0
        lives_s = min(float(said), MAX_TOKEN_S) if known else UNSAID_S
        # half a short life rather than none: a token of 20 s is fetched every 10 s, not with every request
        self._stale_at = self._clock.now() + timedelta(seconds=max(lives_s - EARLY_S, lives_s / 2))
        self._token = token

    async def _fetch(self) -> Any:
        url = self._token_url or await self._discover()
        first, second = (True, False) if self._use_form else (False, True)
        answer = await self._ask(url, as_form=first)
        if answer.status in (400, 401, 403, 415, 422):
            other = await self._ask(url, as_form=second)
            if 200 <= other.status < 300:
                self._use_form = second
                answer = other
        return accepted("token", answer)

    async def _ask(self, url: str, *, as_form: bool) -> Answer:
        mine = self._credential
        form = {"grant_type": "client_credentials"} | ({"scope": mine.scope} if mine.scope else {})
        if as_form:
            form |= {"client_id": mine.client_id, "client_secret": mine.client_secret}
            return await self._wire.send("POST", url, form=form, secret=True)
        # RFC 6749, 2.3.1: both are form-encoded before they are joined
        pair = f"{quote(mine.client_id, safe='')}:{quote(mine.client_secret, safe='')}"
        basic = base64.b64encode(pair.encode()).decode()
        return await self._wire.send("POST", url, headers={"Authorization": f"Basic {basic}"}, form=form, secret=True)

    async def _discover(self) -> str:
        """Ask `GET /auth/server` (3.1); where there is none the endpoint is beside it, as in 3.0.1."""
        url = urljoin(self._base_url, "auth/token")
        answer = await self._wire.send("GET", urljoin(self._base_url, "auth/server"))
        if answer.status >= 500 or answer.status == 429:
            accepted("GET auth/server", answer)
        if answer.status == 200 and isinstance(answer.content, dict):
            told = answer.content.get("tokenURL")
            if isinstance(told, str) and told:
                url = urljoin(self._base_url, told)
        if urlsplit(self._base_url).scheme == "https" and urlsplit(url).scheme != "https":
            raise PeerRefused(f"the VTN names {url} to send our secret to, which is not encrypted", code=400)
        self._token_url = url
        return url
