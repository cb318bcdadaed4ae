"""One request to the Fleet API: token, pause asked for by Tesla, status; called by the adapter only."""

import asyncio
from datetime import datetime
from typing import Any

import httpx

from adapters.http import body_of, error_of, exchange, new_client
from adapters.tesla import wire
from adapters.tesla.auth import Tokens
from vpp.domain.errors import RateLimited, Unreachable, Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock

_PAUSE_S = 300.0
"""Pause after a 429 that does not say how long."""


AT_ONCE = 8
"""Requests under way at once: kind to the vendor, and the connection pool's own bookkeeping grows with the
square of those that wait in it."""


class TeslaClient:
    """The Fleet API at one base address, for all accounts.

    Args:
        base_url: the region's address.
        timeout_s: deadline of one request [s].
    """

    def __init__(self, base_url: str, tokens: Tokens, clock: Clock, *, timeout_s: float) -> None:
        self._base_url = base_url
        self._tokens = tokens
        self._clock = clock
        self._timeout_s = timeout_s
        self._http: httpx.AsyncClient | None = None
        self._paused_until: dict[str, datetime] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> None:
        if self._http is None:
            self._http = new_client(self._base_url, timeout_s=self._timeout_s)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def get(self, site: Site, endpoint: str) -> wire.Json:
        """The `response` of one of a site's GET endpoints.

        Raises:
            DeviceError: see `adapters.http.error_of`.
        """
        return await self._request(site, "GET", endpoint, None)

    async def post(self, site: Site, endpoint: str, body: dict[str, Any]) -> None:
        """Change a setting. Returning means accepted, not applied.

        Raises:
            DeviceError: as `get`; `TimedOut` with `sent` where it may have acted.
        """
        await self._request(site, "POST", endpoint, body)

    async def _request(self, site: Site, method: str, endpoint: str, body: dict[str, Any] | None) -> wire.Json:
        if self._http is None:
            raise Unreachable("the Tesla adapter is not open")
        if not site.address.isdecimal():
            raise Unsupported(f"site {site.id}: {site.address!r} is not an energy site id")
        account = self._tokens.account_of(site.owner_id)
        paused_until = self._paused_until.get(account)
        if paused_until is not None and self._clock.now() < paused_until:
            raise RateLimited(f"Tesla asked for a pause until {paused_until.isoformat()}", retry_at=paused_until)
        token = await self._tokens.current(account, self._http)
        path = wire.path(site.address, endpoint)
        response = await self._send(self._http, method, path, token.access, body)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            token = await self._tokens.renewed(account, token, self._http)
            response = await self._send(self._http, method, path, token.access, body)
        error = error_of(response, now=self._clock.now(), default_pause_s=_PAUSE_S)
        if isinstance(error, RateLimited) and error.retry_at is not None:
            self._paused_until[account] = error.retry_at
        if error is not None:
            raise error
        return wire.response_of(body_of(response))

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, access: str, body: dict[str, Any] | None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {access}"}
        async with self._at_once:
            return await exchange(http, method, path, timeout_s=self._timeout_s, headers=headers, json=body)
