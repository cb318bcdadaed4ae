"""What both VTNs' ports bear, on real sockets: slow senders and readers, requests sent ahead, too many connections."""

import asyncio
import gc
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from market.openadr2.door import AHEAD_BYTES, Connection, Door, DoorLimits
from market.openadr2.http1 import Answer, Request, Unreadable
from tests.builders_processes import eventually
from tests.clock import FixedClock
from vpp.bootstrap.bounded_http import HttpBounds, bounded_http
from vpp.bootstrap.connections import OWN_FILES, room_for

WITHIN_S = 0.25
LIMITS = DoorLimits(
    connections=20, connections_per_address=20, unbound=frozenset(), request_within_s=WITHIN_S, idle_s=5.0,
    body_bytes=1_000_000, long_at_once=5,
)  # fmt: skip
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Handler:
    """Says what it was sent; `/later` after a while, `/large` much."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.works, self.go_on = asyncio.Event(), asyncio.Event()

    def __call__(self, request: Request, _: Connection) -> Any:
        self.asked.append(request.path)
        if request.path in ("/later", "/large"):
            self.works.set()
        if request.path == "/later":
            return self._later(request)
        return Answer(200, b"x" * 1_000_000 if request.path == "/large" else request.body or b"ok")

    async def _later(self, request: Request) -> Answer:
        await self.go_on.wait()
        return Answer(200, b"later")


def refusal(error: Unreadable) -> Answer:
    return Answer(error.status, error.reason.encode())


@asynccontextmanager
async def listening(**limits: Any) -> AsyncIterator[tuple[Door, Handler]]:
    handler = Handler()
    door = Door(handler, replace(LIMITS, **limits), FixedClock(), unreadable=refusal)
    await door.start(host="127.0.0.1", port=0, tls=None)
    try:
        yield door, handler
    finally:
        handler.go_on.set()
        await door.stop()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def end_of(client: Client) -> bytes:
    """All that is still said, until the connection is closed."""
    said = b""
    with suppress(ConnectionError):
        while more := await asyncio.wait_for(client[0].read(65_536), 5):
            said += more
    return said


async def ask(client: Client, request: bytes) -> bytes:
    """The answer to one request, its head and body."""
    client[1].write(request)
    head = await asyncio.wait_for(client[0].readuntil(b"\r\n\r\n"), 5)
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return head + await client[0].readexactly(length)


def post(path: str, body: bytes = b"", fields: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


@pytest.mark.parametrize("begun", [b"POST /", post("/", b"a" * 100)[:-99]], ids=["a head", "a body"])
async def test_a_request_that_never_comes_to_its_end_ends_the_connection_however_it_dribbles(begun: bytes) -> None:
    async with listening() as (door, handler), connected(door.port) as new, connected(door.port) as used:
        assert b"ok" in await ask(used, post("/first"))
        dribbling = [asyncio.create_task(dribble(each, begun)) for each in (new, used)]
        for client in (new, used):
            assert (b" 408 " in await end_of(client)) is begun.endswith(b"a")
        for task in dribbling:
            task.cancel()
        assert handler.asked == ["/first"]


async def dribble(client: Client, begun: bytes) -> None:
    """Send the beginning of a request, and then a byte at a time."""
    client[1].write(begun)
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(WITHIN_S / 5)
            client[1].write(b"a")
            await client[1].drain()


async def test_a_connection_on_which_nothing_comes_is_closed_soon_at_first_and_later_after_a_while() -> None:
    async with listening(idle_s=4 * WITHIN_S) as (door, _), connected(door.port) as new, connected(door.port) as used:
        assert b"ok" in await ask(used, post("/"))
        assert await end_of(new) == b""
        await asyncio.sleep(WITHIN_S / 2)
        assert b"ok" in await ask(used, post("/"))
        assert await end_of(used) == b""


async def test_a_client_that_does_not_read_its_answers_is_hung_up_on_and_asked_no_more() -> None:
    async with listening() as (door, handler):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", door.port))
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(deaf, post("/large") * 50)
            await handler.works.wait()
            assert await eventually(lambda: is_empty(door), 5.0)
        assert len(handler.asked) < 20


async def test_one_address_gets_no_more_connections_than_its_own_unless_it_is_a_proxy() -> None:
    async with listening(connections_per_address=2) as (door, _):
        async with connected(door.port) as first, connected(door.port) as second:
            assert b"ok" in await ask(first, post("/"))
            assert b"ok" in await ask(second, post("/"))
            assert await refused(door.port)
        assert await eventually(lambda: is_empty(door), 5.0)
        async with connected(door.port) as again:
            assert b"ok" in await ask(again, post("/"))
    async with (
        listening(connections_per_address=1, unbound=frozenset({"127.0.0.1"}), connections=2) as (door, _),
        connected(door.port) as first,
        connected(door.port) as second,
    ):
        assert b"ok" in await ask(first, post("/"))
        assert b"ok" in await ask(second, post("/"))
        assert await refused(door.port)


async def refused(port: int) -> bool:
    """Whether one more connection is closed, whatever is asked on it."""
    return await sent(port, post("/")) == b""


async def is_empty(door: Door) -> bool:
    return door.open_now == 0


async def test_requests_sent_ahead_are_answered_in_their_order_and_not_without_end() -> None:
    async with listening(request_within_s=5.0) as (door, handler), connected(door.port) as client:
        client[1].write(post("/1") * 100 + post("/later") + post("/2") + post("/3", b"x" * (AHEAD_BYTES + 1)) * 40)
        await handler.works.wait()
        assert await eventually(lambda: holds(door, AHEAD_BYTES), 5.0)
        await asyncio.sleep(0.05)  # for more, if it were taken
        assert handler.asked == ["/1"] * 100 + ["/later"]
        assert door.held_bytes < 10 * AHEAD_BYTES
        handler.go_on.set()
        client[1].write(post("/4", fields="Connection: close\r\n") + post("/5"))
        said = await end_of(client)
        assert said.count(b"HTTP/1.1 200") == 143
        assert said.index(b"later") < said.index(b"xxxx")
        assert (handler.asked[-1], said.count(b"Connection: close")) == ("/4", 1)


@pytest.mark.parametrize("first", ["/later", "/1"])
async def test_many_small_requests_sent_ahead_are_not_taken_in_before_their_turn(first: str) -> None:
    async with listening(request_within_s=5.0) as (door, handler), connected(door.port) as client:
        most = 0
        client[1].write(post(first) + b"GET /1 HTTP/1.1\r\n\r\n" * 50_000)
        for _ in range(20):
            await asyncio.sleep(0.005)
            most = max(most, door.held_bytes)
        assert 0 < most < 10 * AHEAD_BYTES
        assert sum(isinstance(each, Request) for each in gc.get_objects()) < 1000
        handler.go_on.set()


async def holds(door: Door, least_bytes: int) -> bool:
    return door.held_bytes > least_bytes


async def test_what_is_no_request_is_told_so_and_a_body_is_asked_for_where_the_client_waits() -> None:
    async with listening() as (door, handler), connected(door.port) as client, connected(door.port) as polite:
        client[1].write(b"nonsense\r\n\r\n")
        assert b"HTTP/1.1 400 Bad Request" in await end_of(client)
        polite[1].write(post("/", b"abc", "Expect: 100-continue\r\n")[:-3])
        assert await asyncio.wait_for(polite[0].readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await ask(polite, b"abc")).endswith(b"abc")
        assert handler.asked == ["/"]


async def test_a_door_that_closes_lets_answers_that_are_worked_on_come_to_their_end() -> None:
    async with listening(request_within_s=5.0) as (door, handler), connected(door.port) as a, connected(door.port) as b:
        assert b"ok" in await ask(b, post("/"))
        a[1].write(post("/later"))
        await handler.works.wait()
        stopping = asyncio.create_task(door.stop())
        assert await end_of(b) == b""
        handler.go_on.set()
        said = await end_of(a)
        assert said.endswith(b"later")
        assert b"Connection: close" in said
        await stopping


@asynccontextmanager
async def uvicorn_listening(**bounds: Any) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    given: dict[str, Any] = {"connections": 20, "per_address": 20, "within_s": WITHIN_S, "head_bytes": 20_000}
    http = bounded_http(HttpBounds(**(given | bounds)))
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, log_level="critical", loop="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server._serve([listener]))
        assert await eventually(lambda: is_up(server), 5.0)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def is_up(server: uvicorn.Server) -> bool:
    return server.started


async def sent(port: int, request: bytes) -> bytes:
    """What is said to a client until it is hung up on."""
    async with connected(port) as client:
        client[1].write(request)
        return await end_of(client)


async def test_the_portals_port_hangs_up_on_slow_clients() -> None:
    async with uvicorn_listening() as port:
        begun = (b"", b"POST /", post("/", b"abc")[:-1])
        assert await asyncio.gather(*(sent(port, each) for each in begun)) == [b""] * 3
        async with connected(port) as client:
            for _ in range(2):
                client[1].write(post("/", b"abc"))
                assert b"200 OK" in await asyncio.wait_for(client[0].readuntil(b"\r\n\r\nok"), 5)
                await asyncio.sleep(WITHIN_S * 1.2)


async def test_the_portals_port_reads_no_head_without_end() -> None:
    async with uvicorn_listening(within_s=30.0) as port:
        assert await sent(port, b"GET / HTTP/1.1\r\nA: " + b"a" * 30_000) == b""


@pytest.mark.parametrize("bound", ["connections", "per_address"])
async def test_the_portals_port_takes_no_more_connections_than_it_is_to(bound: str) -> None:
    async with uvicorn_listening(**{bound: 2}) as port:
        async with connected(port), connected(port):
            assert await refused(port)
        await asyncio.sleep(0.05)
        async with connected(port) as client:
            client[1].write(post("/"))
            assert b"200 OK" in await asyncio.wait_for(client[0].readline(), 5)


def test_open_files_are_raised_to_what_the_system_lets_us_and_said() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        with capture_logs() as logs:
            assert room_for(10, process="test") == 10
            assert room_for(10**9, process="test") == hard - OWN_FILES
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert [each["log_level"] for each in logs] == ["info", "info", "warning"]
        assert logs[-1]["open_files"] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
