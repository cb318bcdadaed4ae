"""The least HTTP/1.1 a load client needs: kept-alive connections that send finished bytes. Used by `load`."""

import asyncio
import re
from collections.abc import Callable

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
Answered = Callable[[int, bytes], None]


class Line(asyncio.Protocol):
    """One connection; one request on it at a time.

    `ask` calls back with status and body, with status 0 where the connection broke before the answer.
    """

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._read = b""
        self._wanted: int | None = None
        self._status = 0
        self._answered: Answered | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._read, self._wanted = b"", None
        self._tell(0, b"")

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request."""
        self._answered = answered
        if self._transport is None:
            asyncio.get_running_loop().call_soon(self._tell, 0, b"")
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read = self._read + data if self._read else data
        if self._wanted is None:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._read, 0, end + 2)
            self._status = int(self._read[9:12])
            self._wanted = end + 4 + (int(length[1]) if length else 0)
            self._head = end + 4
        if len(self._read) >= self._wanted:
            body, self._read, self._wanted = self._read[self._head : self._wanted], b"", None
            self._tell(self._status, body)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _tell(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, body)


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: vtn\r\nContent-Type: application/xml\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, headers: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: vtn\r\n{headers}\r\n".encode()
