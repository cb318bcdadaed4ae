"""Room bootstrap: uvicorn's protocol with bounds for connections and slow clients. Used by `serve`.

uvicorn bounds neither the head of a request nor the time it takes to come, and its `limit_concurrency` refuses those
that are connected along with those that are too many.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBounds:
    """What one server takes.

    Attributes:
        connections: open at the same time; more are closed.
        per_address: of these, from one address.
        within_s: for a request to come, from its first byte to its last, and for an answer to be taken [s].
        head_bytes: of a request line and its fields.
        by_address: who has how many connections.
    """

    connections: int
    per_address: int
    within_s: float = 30.0
    head_bytes: int = 65_536
    by_address: Counter[str] = field(default_factory=Counter)

    def enters(self, address: str) -> bool:
        """Whether there is room for one more from this address; it is counted if there is."""
        if self.by_address.total() >= self.connections or self.by_address[address] >= self.per_address:
            return False
        self.by_address[address] += 1
        return True

    def leaves(self, address: str) -> None:
        """One fewer."""
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


def bounded_http(bounds: HttpBounds) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for a server with these bounds."""
    return type("Bounded", (_BoundedHttp,), {"bounds": bounds})


class _BoundedHttp(HttpToolsProtocol):
    bounds: ClassVar[HttpBounds]
    _address: str | None = None
    _comes_by_s = _taken_by_s = float("inf")
    _head_bytes: int | None = None  # None while no head is on its way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = "" if self.client is None else self.client[0]
        if not self.bounds.enters(address):
            transport.abort()
            return
        self._address, self._comes_by_s = address, self._deadline_s()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address is not None:
            self.bounds.leaves(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > self.bounds.head_bytes:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._comes_by_s = 0, self._deadline_s()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._comes_by_s = float("inf")
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._taken_by_s = self._deadline_s()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._taken_by_s = float("inf")
        super().resume_writing()

    def _deadline_s(self) -> float:
        return self.loop.time() + self.bounds.within_s

    def _look(self) -> None:
        """Hang up on who takes too long; look again after a while."""
        if self._address is None:
            return
        if self.loop.time() > min(self._comes_by_s, self._taken_by_s):
            self.transport.abort()
        else:
            self.loop.call_later(self.bounds.within_s / 4, self._look)
