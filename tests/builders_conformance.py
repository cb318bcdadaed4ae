"""A proxy that lies: it stands before a VTN and changes what is asked or answered, for tests of the harness."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiohttp import web

_ENDS_HERE = {"content-length", "transfer-encoding", "connection", "host", "date", "server"}


@dataclass(slots=True)
class Exchange:
    """One request, and the answer once there is one; a lie changes either."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    asked: bytes
    status: int = 200
    said: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_answered: bool = False


Lie = Callable[[Exchange], None]


def honest(exchange: Exchange) -> None:
    """Change nothing."""


@dataclass(slots=True)
class Liar:
    """The proxy; `lie` is called before the VTN is asked and after it has answered."""

    url: str = ""
    lie: Lie = honest


@asynccontextmanager
async def lying_before(origin: str) -> AsyncIterator[Liar]:
    """Stand before a VTN whose services begin at `origin`."""
    liar = Liar()
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:

        async def answer(request: web.BaseRequest) -> web.Response:
            kept = {name.lower(): value for name, value in request.headers.items() if name.lower() not in _ENDS_HERE}
            exchange = Exchange(request.method, request.path, list(request.query.items()), kept, await request.read())
            liar.lie(exchange)
            if not exchange.is_answered:
                found = await http.request(
                    exchange.method, origin + exchange.path, params=exchange.query, headers=exchange.headers,
                    content=exchange.asked,
                )  # fmt: skip
                exchange.status, exchange.body, exchange.is_answered = found.status_code, found.content, True
                exchange.said = {k: v for k, v in found.headers.items() if k not in _ENDS_HERE}
                liar.lie(exchange)
            return web.Response(status=exchange.status, body=exchange.body, headers=exchange.said)

        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        liar.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield liar
        finally:
            await runner.cleanup()


def answers(change: Callable[[Exchange], None], *, path: str = "", method: str = "") -> Lie:
    """Change answers only, of requests whose path holds a text."""

    def lie(exchange: Exchange) -> None:
        if exchange.is_answered and path in exchange.path and method in exchange.method:
            change(exchange)

    return lie


def questions(change: Callable[[Exchange], None], *, path: str = "", method: str = "") -> Lie:
    """Change requests only, before the VTN is asked."""

    def lie(exchange: Exchange) -> None:
        if not exchange.is_answered and path in exchange.path and method in exchange.method:
            change(exchange)

    return lie


def says(status: int, body: bytes, content_type: str = "application/json") -> Callable[[Exchange], None]:
    """Answer with this."""

    def change(exchange: Exchange) -> None:
        exchange.status, exchange.body, exchange.is_answered = status, body, True
        exchange.said = {"content-type": content_type}

    return change


def swaps(old: bytes, new: bytes) -> Callable[[Exchange], None]:
    """Say another text in the answer's body."""

    def change(exchange: Exchange) -> None:
        exchange.body = exchange.body.replace(old, new)

    return change
