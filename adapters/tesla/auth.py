"""Access tokens of the Fleet API; called by `adapters.tesla.client` only.

Tesla rotates the refresh token: each may be used once, and the newest must not be lost. So one
refresh runs at a time for an account, its result is stored before it is used, and whoever waited
takes the stored one instead of refreshing again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from adapters.http import body_of, error_of, exchange
from vpp.domain.errors import AuthFailed, ProtocolError, Rejected
from vpp.ports import Clock, Credentials

TOKEN_URL = "https://fleet-auth.prd.vn.cloud.tesla.com/oauth2/v3/token"  # noqa: S105 - an address
SHARED_ACCOUNT = ""
"""The account of owners who brought no token of their own."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the refresh token that will replace it. Never shown."""

    access: str = field(repr=False)
    refresh: str | None = field(default=None, repr=False)


class TokenStore(Protocol):
    """Where tokens live; a shared one must be durable and lock across workers."""

    async def load(self, account: str) -> Token | None:
        """The newest token of an account."""
        ...

    async def save(self, account: str, token: Token) -> None:
        """Keep a token; returns only when it is safe."""
        ...

    def exclusive(self, account: str) -> AbstractAsyncContextManager[None]:
        """Held while an account's token is refreshed."""
        ...


class InMemoryTokenStore:
    """For one process. A restart falls back to the configured refresh token, which Tesla may refuse."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def load(self, account: str) -> Token | None:
        return self._tokens.get(account)

    async def save(self, account: str, token: Token) -> None:
        self._tokens[account] = token

    @asynccontextmanager
    async def exclusive(self, account: str) -> AsyncIterator[None]:
        async with self._locks[account]:
            yield


class Tokens:
    """Gives out access tokens and renews them.

    Args:
        credentials: `tesla_client_id`, `tesla_client_secret`, and `tesla_refresh_token` or
            `tesla_access_token`, the last two also as `..._<owner id>` for an owner's own.
    """

    def __init__(
        self, credentials: Credentials, store: TokenStore, clock: Clock, *, token_url: str, timeout_s: float
    ) -> None:
        self._credentials = credentials
        self._store = store
        self._clock = clock
        self._token_url = token_url
        self._timeout_s = timeout_s

    def account_of(self, owner_id: str) -> str:
        """The owner's account if it has credentials, else the shared one."""
        own = any(self._credentials.get(f"{name}_{owner_id}") for name in ("tesla_refresh_token", "tesla_access_token"))
        return owner_id if own else SHARED_ACCOUNT

    async def current(self, account: str, client: httpx.AsyncClient) -> Token:
        """The token to use now.

        Raises:
            AuthFailed: none is configured, or it cannot be renewed.
        """
        token = await self._store.load(account) or self._configured(account)
        return token if token.access else await self.renewed(account, token, client)

    async def renewed(self, account: str, refused: Token, client: httpx.AsyncClient) -> Token:
        """The token that replaces `refused`: another's fresh one if there is one, else our own refresh.

        Raises:
            AuthFailed: the refresh was refused; the owner must give consent again.
        """
        async with self._store.exclusive(account):
            newest = await self._store.load(account) or self._configured(account)
            if newest.access and newest.access != refused.access:
                return newest
            token = await self._refresh(newest, client)
            await self._store.save(account, token)
            return token

    def _configured(self, account: str) -> Token:
        suffix = f"_{account}" if account else ""
        access = self._credentials.get(f"tesla_access_token{suffix}")
        refresh = self._credentials.get(f"tesla_refresh_token{suffix}")
        if not (access or refresh):
            raise AuthFailed("no tesla_refresh_token is configured")
        return Token(access or "", refresh)

    async def _refresh(self, token: Token, client: httpx.AsyncClient) -> Token:
        client_id = self._credentials.get("tesla_client_id")
        if not (token.refresh and client_id):
            raise AuthFailed("the access token is not accepted, and tesla_client_id or tesla_refresh_token is missing")
        form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token.refresh}
        secret = self._credentials.get("tesla_client_secret")
        if secret:
            form["client_secret"] = secret
        response = await exchange(client, "POST", self._token_url, timeout_s=self._timeout_s, form=form)
        error = error_of(response, now=self._clock.now())
        if isinstance(error, Rejected):
            raise AuthFailed(f"the refresh token was not accepted (status {response.status_code})")
        if error is not None:
            raise error
        body = body_of(response)
        access, refresh = body.get("access_token"), body.get("refresh_token")
        if not isinstance(access, str) or not access:
            raise ProtocolError("the token endpoint gave no access token")
        return Token(access, refresh if isinstance(refresh, str) and refresh else token.refresh)
