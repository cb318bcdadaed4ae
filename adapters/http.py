"""HTTP for every adapter that talks to a vendor's cloud: deadlines, and statuses as `DeviceError`s.

Nothing here logs headers or bodies: they carry tokens.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from vpp.domain.errors import (
    AuthFailed,
    DeviceError,
    ProtocolError,
    RateLimited,
    Rejected,
    TimedOut,
    Unreachable,
)

_EPOCH_FROM = 1_000_000_000.0
"""A RateLimit-Reset above this is an instant in Unix seconds, below it a number of seconds."""


def new_client(base_url: str, *, timeout_s: float, max_connections: int = 50) -> httpx.AsyncClient:
    """A client for one vendor: HTTP/2 where the address is https, no redirects, bounded connections."""
    return httpx.AsyncClient(
        base_url=base_url,
        http2=base_url.startswith("https://"),
        timeout=httpx.Timeout(timeout_s, pool=timeout_s),
        limits=httpx.Limits(max_connections=max_connections),
        follow_redirects=False,
    )


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    form: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Send one request and return whatever the vendor answers within `timeout_s`, whatever its status.

    Raises:
        Unreachable: nothing was sent.
        TimedOut: sent, but no whole answer: it may have acted.
    """
    what = f"{method} {path}"
    try:
        async with asyncio.timeout(timeout_s):
            return await client.request(method, path, headers=headers, json=json, data=form)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unreachable(f"{what}: no connection") from error
    except (TimeoutError, httpx.TransportError) as error:
        raise TimedOut(f"{what}: no answer within {timeout_s:g} s", sent=True) from error


def body_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ProtocolError: it is none.
    """
    try:
        body = response.json()
    except ValueError as error:
        raise ProtocolError(f"{response.request.url.path}: the answer is not JSON") from error
    if not isinstance(body, dict):
        raise ProtocolError(f"{response.request.url.path}: the answer is not a JSON object")
    return body


def error_of(response: httpx.Response, *, now: datetime, default_pause_s: float = 60.0) -> DeviceError | None:
    """The error that a status stands for, or None for 2xx.

    A write that ends in 5xx other than 503 may have acted, so it counts as sent and unanswered.
    """
    status, what = response.status_code, f"{response.request.method} {response.request.url.path}"
    message = f"{what}: status {status}"
    if response.is_success:
        return None
    if status == 401:
        return AuthFailed(f"{message}: the token was not accepted")
    if status == 403:
        return AuthFailed(f"{message}: the token lacks a scope, or this site is not ours")
    if status == 421:
        return Rejected(f"{message}: the site belongs to another region's address")
    if status == 429:
        return RateLimited(message, retry_at=retry_at(response, now=now, default_pause_s=default_pause_s))
    if status in (408, 503, 540):
        return Unreachable(f"{message}: the device or the service is offline")
    if status >= 500:
        return Unreachable(message) if response.request.method == "GET" else TimedOut(message, sent=True)
    return Rejected(message)


def retry_at(response: httpx.Response, *, now: datetime, default_pause_s: float) -> datetime:
    """When to ask again: Retry-After (seconds or date), else RateLimit-Reset, else a pause of ours."""
    headers = response.headers
    for name in ("Retry-After", "RateLimit-Reset", "X-RateLimit-Reset"):
        at = _instant(headers.get(name), now)
        if at is not None:
            return max(at, now)
    return now + timedelta(seconds=default_pause_s)


def _instant(text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _http_date(text)
    if not 0 <= seconds < 1e11:
        return None
    return datetime.fromtimestamp(seconds, UTC) if seconds > _EPOCH_FROM else now + timedelta(seconds=seconds)


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
