"""Calls subscribers back: the challenge before a subscription is kept, and single requests to a checked address.

`CallbackChallenge` is what the routes of our OpenADR 3 VTN ask (`vpp.ports.CallbackCheck`); `CallbackClient`
is used by it and by `webhooks.py`.
"""

import asyncio
import json
import secrets
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx

from vpp.domain.errors import InvalidRequest, PeerUnreachable
from vpp.gateway.notify.guard import FIELD, CallbackGuard, Destination

DEADLINE_S = 10.0
"""For one call as a whole: name, connection, TLS, request and answer (the definition says 10 to 30 s)."""
LONGEST_ANSWER = 4096
CHALLENGES_AT_ONCE = 16
ADDRESSES_TRIED = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status and the first bytes of the body."""

    status: int
    body: bytes


class CallbackClient:
    """Sends one request to one checked address. No redirects, proxies, cookies or kept connections.

    A connection is never kept: the pool would know it by its address, and another host's request must not
    travel on a connection whose certificate was checked for this one.
    """

    def __init__(
        self, guard: CallbackGuard, *, deadline_s: float = DEADLINE_S, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard, self._deadline_s = guard, deadline_s
        self._client = httpx.AsyncClient(
            verify=tls or ssl.create_default_context(),
            follow_redirects=False,
            trust_env=False,
            timeout=deadline_s,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, query: str = ""
    ) -> Answer:
        """Send one request; `query` is added to the URL's own.

        Raises:
            InvalidRequest: the guard refuses the address.
            PeerUnreachable: no answer within the deadline.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._to_one_of(await self._guard.destination(url), method, headers, body, query)
        except TimeoutError as error:
            raise PeerUnreachable(f"no answer within {self._deadline_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise PeerUnreachable(f"{type(error).__name__}: {error}"[:200]) from error

    async def _to_one_of(
        self, to: Destination, method: str, headers: Mapping[str, str], body: bytes | None, query: str
    ) -> Answer:
        tried = to.addresses[:ADDRESSES_TRIED]
        for address in tried[:-1]:
            with suppress(httpx.ConnectError):
                return await self._once(to, address, method, headers, body, query)
        return await self._once(to, tried[-1], method, headers, body, query)

    async def _once(
        self, to: Destination, address: str, method: str, headers: Mapping[str, str], body: bytes | None, query: str
    ) -> Answer:
        own = to.url.query.decode()
        url = to.url.copy_with(host=address, query="&".join(part for part in (own, query) if part).encode() or None)
        request = self._client.build_request(
            method,
            url,
            content=body,
            headers={
                name.encode(): value.encode() for name, value in (*headers.items(), ("host", to.url.netloc.decode()))
            },
        )
        # The certificate must be the named host's, though the connection goes to a number.
        request.extensions["sni_hostname"] = to.url.raw_host.decode()
        response = await self._client.send(request, stream=True)
        try:
            read = b""
            async for part in response.aiter_raw():
                read += part
                if len(read) >= LONGEST_ANSWER:
                    break
            return Answer(response.status_code, read[:LONGEST_ANSWER])
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Give back connections."""
        await self._client.aclose()


class CallbackChallenge:
    """`vpp.ports.CallbackCheck`: the address is allowed, and whoever is there says back what we say."""

    def __init__(self, client: CallbackClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(CHALLENGES_AT_ONCE)

    async def check(self, url: str, *, bearer_token: str | None = None) -> None:
        """Send `GET url?echo=<random>` and return if it is answered 200 with that text.

        The text may stand alone, quoted, or as a value of a JSON object.

        Raises:
            InvalidRequest: names `callbackUrl` and what would be right.
        """
        said = secrets.token_urlsafe(24)
        headers = {"accept": "text/plain, application/json", "accept-encoding": "identity"}
        if bearer_token:
            headers["authorization"] = f"Bearer {bearer_token}"
        try:
            async with self._turns:
                answer = await self._client.send("GET", url, headers=headers, query=f"echo={said}")
        except PeerUnreachable as error:
            raise InvalidRequest(FIELD, url, f"an address that answers ?echo=; {error}") from error
        if answer.status != httpx.codes.OK:
            raise InvalidRequest(FIELD, url, f"an address that answers ?echo= with status 200, not {answer.status}")
        if not _says(answer.body, said):
            raise InvalidRequest(FIELD, url, "an address that answers ?echo=… with that very text")


def _says(body: bytes, said: str) -> bool:
    text = body.decode("utf-8", errors="replace").strip()
    if text == said:
        return True
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return said in parsed.values() if isinstance(parsed, dict) else bool(parsed == said)
