"""Room openadr2: the connections of our VTN, each with its bounds and deadlines. Used by `vtn`.

A server of our own because thousands of VENs keep a connection each and most of their polls are answered at once
from memory: a request that needs no waiting costs no task and no timer. Once in a while all connections are looked
at, and who takes too long is hung up on, however slowly it sends or reads.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from market.openadr2.http1 import Answer, Request, RequestReader, Unreadable
from vpp.domain.errors import NotReady
from vpp.ports import Clock

BACKLOG = 1024
HANDSHAKE_WITHIN_S = 10.0
LINGERS_S = 1.0
"""How long a client that is refused in the middle of its request may go on sending, so that it reads why."""
AHEAD_BYTES = 65_536
"""Of requests sent ahead of the answer to the one before; no more is read until that is given."""
TOGETHER = 32
"""Requests of one connection answered in a row before others have their turn."""

CONNECTIONS = Gauge("vpp_vtn2_connections", "Connections that are open at the 2.0b VTN")
TURNED_AWAY = Metric("vpp_vtn2_connections_refused_total", "Connections closed because there were too many", ["whose"])

Handler = Callable[[Request, "Connection"], "Answer | Coroutine[Any, Any, Answer]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """How much the door takes.

    Attributes:
        connections: open at the same time; more are closed.
        connections_per_address: of these, from one address.
        unbound: addresses of which that is not asked: those of proxies.
        request_within_s: from the first byte of a request to its last, and for taking the answer [s].
        idle_s: how long a connection is kept on which nothing is asked [s].
        body_bytes: of one request.
        long_at_once: requests at the same time whose body does not come in one piece with its head.
    """

    connections: int
    connections_per_address: int
    unbound: frozenset[str]
    request_within_s: float
    idle_s: float
    body_bytes: int
    long_at_once: int


class Door:
    """Listens, and has `handler` answer every request, at once or (where it returns a coroutine) later.

    Args:
        unreadable: makes the answer to a request that cannot be read, or would be beyond our bounds.
    """

    def __init__(
        self, handler: Handler, limits: DoorLimits, clock: Clock, *, unreadable: Callable[[Unreadable], Answer]
    ) -> None:
        self.handler, self.limits, self.clock, self.unreadable = handler, limits, clock, unreadable
        self.long_bodies = 0
        self.now_s = time.monotonic
        self.stopping = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._opening: WeakSet[Connection] = WeakSet()  # in the middle of a TLS handshake, or given up in it
        self._by_address: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise NotReady("the VTN does not listen yet")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open_now(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def held_bytes(self) -> int:
        """How much has come on all of them that was not answered yet."""
        return sum(each.held_bytes for each in self._open)

    async def start(self, *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen.

        Raises:
            NotReady: the address cannot be listened on.
        """
        within_s = HANDSHAKE_WITHIN_S if tls else None
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connection, host, port, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=within_s
            )
        except OSError as error:
            raise NotReady(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._watch = asyncio.create_task(self._hang_up_on_the_late(), name="vtn connections")

    async def stop(self) -> None:
        """Take no more, and let what was begun come to its end."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for each in list(self._open):
            each.end_if_idle()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=self.limits.request_within_s)
        for each in list(self._open):
            each.abort()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _connection(self) -> asyncio.BaseProtocol:
        connection = Connection(self)
        self._opening.add(connection)
        return connection

    def enters(self, connection: "Connection") -> bool:
        """Whether there is room for one more."""
        self._opening.discard(connection)
        limits, address = self.limits, connection.address
        full = len(self._open) + len(self._opening) >= limits.connections
        if full or (self._by_address[address] >= limits.connections_per_address and address not in limits.unbound):
            TURNED_AWAY.labels("all" if full else "address").inc()
            return False
        self._open.add(connection)
        self._by_address[address] += 1
        CONNECTIONS.inc()
        return True

    def left(self, connection: "Connection") -> None:
        """Forget a connection."""
        if connection in self._open:
            self._open.discard(connection)
            CONNECTIONS.dec()
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    async def _hang_up_on_the_late(self) -> None:
        every_s = min(1.0, self.limits.request_within_s / 4)
        while True:
            await asyncio.sleep(every_s)
            now_s = self.now_s()
            for each in [each for each in self._open if each.due_s < now_s]:
                each.late()


class Connection(asyncio.Protocol):
    """One connection; its requests are answered one after the other.

    Attributes:
        address: of the other end.
        transport: to ask what certificate was shown.
        due_s: when it is hung up on, by the door's clock.
    """

    __slots__ = (
        "__weakref__", "_answering", "_door", "_ending", "_is_long", "_paused", "_reader", "_stalled", "address",
        "due_s", "transport",
    )  # fmt: skip

    def __init__(self, door: Door) -> None:
        self._door, self._reader = door, RequestReader(door.limits.body_bytes)
        self._answering = self._ending = self._is_long = self._paused = self._stalled = False
        self.transport: asyncio.Transport
        self.address, self.due_s = "", 0.0

    @property
    def held_bytes(self) -> int:
        """How much has come that was not answered yet."""
        return self._reader.held_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, or be turned away."""
        self.transport = transport  # type: ignore[assignment]
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._within(self._door.limits.request_within_s)
        if not self._door.enters(self):
            self._ending = True
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave; an answer that is being worked on is for nobody."""
        self._ending = True
        self._long(False)
        self._door.left(self)

    def data_received(self, data: bytes) -> None:
        """Answer what can be answered."""
        if self._ending:
            return  # a client that is refused reads why only once it has stopped to send
        begins = not self._reader.has_begun
        self._reader.feed(data)
        if self._answering or self._stalled:
            if self._reader.held_bytes > AHEAD_BYTES:
                self._pause()
            return
        if begins:
            self._within(self._door.limits.request_within_s)
        self._go_on()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        self._stalled = True
        self._within(self._door.limits.request_within_s)

    def resume_writing(self) -> None:
        """It does again."""
        self._stalled = False
        self._take_turn()

    def late(self) -> None:
        """Hang up on a client that has taken too long; one in the middle of a request is told."""
        if self._ending or self._stalled or not self._reader.awaits_body:
            self.transport.abort()
        else:
            self._refuse(Unreadable(408, "the request did not come to its end"))

    def end_if_idle(self) -> None:
        """Hang up unless an answer is being worked on."""
        if not self._answering and not self._ending:
            self._end()

    def abort(self) -> None:
        """Hang up whatever there is."""
        self.transport.abort()

    def _go_on(self) -> None:
        """Answer the requests that have come, in their order, until one has to wait for its answer."""
        for _ in range(TOGETHER):
            try:
                request = self._reader.next()
            except Unreadable as error:
                self._refuse(error)
                return
            if request is None:
                self._wait_for_more()
                return
            self._long(False)
            answer = self._door.handler(request, self)
            if not isinstance(answer, Answer):
                self._answering, self.due_s = True, float("inf")
                task = asyncio.get_running_loop().create_task(self._answer_later(request, answer))
                self._door.tasks.add(task)
                task.add_done_callback(self._door.tasks.discard)
                return
            self._say(request, answer)
            if self._ending or self._stalled:
                return
        self._pause()
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _pause(self) -> None:
        """Read no more until the next turn."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _take_turn(self) -> None:
        """Go on with what came meanwhile, unless an answer is still worked on or not taken."""
        if self._ending or self._stalled or self._answering:
            return
        self._within(self._door.limits.request_within_s)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._go_on()

    def _wait_for_more(self) -> None:
        reader = self._reader
        if not reader.has_begun:
            self._within(self._door.limits.idle_s)
            return
        if not reader.awaits_body or self._is_long:
            return
        if self._door.long_bodies >= self._door.limits.long_at_once:
            self._refuse(Unreadable(503, "too many long messages at once"))
            return
        self._long(True)
        if reader.expects_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _answer_later(self, request: Request, answering: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await answering
        except BaseException:
            self.abort()
            raise
        self._answering = False
        if not self._ending:
            self._say(request, answer)
            self._take_turn()

    def _say(self, request: Request, answer: Answer) -> None:
        keeps_alive = request.keeps_alive and not answer.closes and not self._door.stopping
        head_only = request.method == "HEAD"
        self.transport.write(
            answer.to_bytes(keeps_alive=keeps_alive, at_s=self._door.clock.now().timestamp(), head_only=head_only)
        )
        if not keeps_alive:
            self._end()

    def _refuse(self, error: Unreadable) -> None:
        """Say what is wrong, and read no more of it than it takes for the client to notice."""
        answer = self._door.unreadable(error)
        self.transport.write(answer.to_bytes(keeps_alive=False, at_s=self._door.clock.now().timestamp()))
        self._ending = True
        self._long(False)
        self._reader = RequestReader(0)  # what came of it is of no use
        self._within(LINGERS_S)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _end(self) -> None:
        self._ending = True
        self._within(self._door.limits.request_within_s)  # to take what it was sent
        self.transport.close()

    def _within(self, seconds: float) -> None:
        self.due_s = self._door.now_s() + seconds

    def _long(self, is_long: bool) -> None:
        if is_long is not self._is_long:
            self._is_long = is_long
            self._door.long_bodies += 1 if is_long else -1
