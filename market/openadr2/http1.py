"""Room openadr2: requests of HTTP/1.1 out of a connection's bytes, and answers to bytes. Called by `door`.

Strict, because a proxy before us must not read a request otherwise than we do: lines end in CR LF, a body has one
length, told one way. Nothing is kept beyond the bounds below, however the bytes arrive.
"""

import re
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

MAX_HEAD_BYTES = 24_576
"""Request line and fields together; a client certificate in PEM fits in."""
MAX_FIELDS = 100
MAX_CHUNKS = 4096
"""Of one body: each costs as much time as a message."""
_MAX_SIZE_LINE = 16

_FIELD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n"
_METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"
_TARGET = r"/[!-~]{0,2000}|https?://[!-~]{1,2000}"
_HEAD = re.compile(rf"({_METHODS}) ({_TARGET}) HTTP/1\.([01])\r\n((?:{_FIELD})*)\r\n")
_LENGTH = re.compile(r"[0-9]{1,12}")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}")
_END = b"\r\n\r\n"
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_MORE_MAY_COME, _THE_LAST = "\r\n", "Connection: close\r\n\r\n"


class Unreadable(Exception):
    """Bytes that are no request we take; the connection ends with the status they are answered with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        path: without its query.
        fields: the head's, by name in small letters; what came several times is joined by ", ".
        keeps_alive: whether the client wants to ask more on this connection.
    """

    method: str
    path: str
    fields: dict[str, str]
    keeps_alive: bool
    body: bytes = b""


@dataclass(slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        closes: hang up afterwards.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/xml"
    fields: dict[str, str] = field(default_factory=dict)
    closes: bool = False

    def to_bytes(self, *, keeps_alive: bool, at_s: float, head_only: bool = False) -> bytes:
        """Return it as it goes over the wire.

        Args:
            at_s: now, in seconds since 1970.
            head_only: the request was HEAD.
        """
        more = "".join(f"{name}: {value}\r\n" for name, value in self.fields.items()) if self.fields else ""
        head = (
            f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nDate: {_date(int(at_s))}\r\n{more}"
            f"{_MORE_MAY_COME if keeps_alive else _THE_LAST}"
        )
        return head.encode("latin-1") + (b"" if head_only else self.body)


@lru_cache(maxsize=2)
def _date(at_s: int) -> str:
    return formatdate(at_s, usegmt=True)


class RequestReader:
    """Takes a connection's bytes and gives its requests, one by one.

    Args:
        max_body_bytes: of one request.
    """

    __slots__ = ("_body", "_bytes", "_chunks", "_length", "_max_body_bytes", "_request")

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._bytes = bytearray()
        self._request: Request | None = None  # whose body has not all come yet
        self._length: int | None = None  # of that body, None where it comes in chunks
        self._body = bytearray()
        self._chunks = 0

    @property
    def held_bytes(self) -> int:
        """How much has come that was not given yet."""
        return len(self._bytes) + len(self._body)

    @property
    def has_begun(self) -> bool:
        """Whether part of a request has come."""
        return self._request is not None or bool(self._bytes)

    @property
    def awaits_body(self) -> bool:
        """Whether a request's head has come, and not all of its body."""
        return self._request is not None

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends its body only when asked to; True once a request."""
        return self._request is not None and self._request.fields.pop("expect", "").lower() == "100-continue"

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._bytes += data

    def next(self) -> Request | None:
        """Return the next request that has come whole, None where there is none yet.

        Raises:
            Unreadable: what comes is no request, or beyond our bounds.
        """
        if self._request is None:
            self._request = self._head()
        request = self._request
        if request is None:
            return None
        body = self._whole() if self._length is not None else self._chunked()
        if body is None:
            return None
        request.body, self._request = body, None
        return request

    def _head(self) -> Request | None:
        if self._bytes.startswith(b"\r\n"):  # some clients end a body with a line end that is not counted
            del self._bytes[:2]
        end = self._bytes.find(_END, 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._bytes) >= MAX_HEAD_BYTES:
                raise Unreadable(431, f"a head of more than {MAX_HEAD_BYTES} bytes")
            return None
        request, self._length = _read_head(self._bytes[: end + 4].decode("latin-1"))
        if self._length is not None and self._length > self._max_body_bytes:
            raise Unreadable(413, f"a body of {self._length} bytes")
        del self._bytes[: end + 4]
        return request

    def _whole(self) -> bytes | None:
        length = self._length or 0
        if len(self._bytes) < length:
            return None
        body = bytes(self._bytes[:length])
        del self._bytes[:length]
        return body

    def _chunked(self) -> bytes | None:
        while (end := self._bytes.find(b"\r\n", 0, _MAX_SIZE_LINE)) >= 0:
            if _CHUNK.fullmatch(self._bytes, 0, end) is None:
                raise Unreadable(400, "a chunk without a size, or with more than that")
            size = int(self._bytes[:end], 16)
            if size == 0:
                return self._end_of_chunks(end)
            if len(self._body) + size > self._max_body_bytes or self._chunks == MAX_CHUNKS:
                raise Unreadable(413, "a body of too many bytes or chunks")
            stop = end + 2 + size
            if len(self._bytes) < stop + 2:
                return None
            if self._bytes[stop : stop + 2] != b"\r\n":
                raise Unreadable(400, "a chunk that is not as long as it says")
            self._body += self._bytes[end + 2 : stop]
            del self._bytes[: stop + 2]
            self._chunks += 1
        if len(self._bytes) >= _MAX_SIZE_LINE:
            raise Unreadable(400, "a chunk without a size")
        return None

    def _end_of_chunks(self, begin: int) -> bytes | None:
        """Take the end of the last chunk, whose line ends at `begin`; nobody has a use for fields after it."""
        if len(self._bytes) < begin + len(_END):
            return None
        if not self._bytes.startswith(_END, begin):
            raise Unreadable(400, "fields after the last chunk, which are not taken")
        body = bytes(self._body)
        del self._bytes[: begin + len(_END)]
        self._body, self._chunks = bytearray(), 0
        return body


def _read_head(head: str) -> tuple[Request, int | None]:
    """Return a request without its body, and how long that is: None where it comes in chunks."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise Unreadable(400, "a head that is none of HTTP/1.1")
    method, target, minor, lines = match.groups()
    fields: dict[str, str] = {}
    found = lines.split("\r\n")
    if len(found) > MAX_FIELDS:
        raise Unreadable(431, f"more than {MAX_FIELDS} fields")
    for line in found[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    asked = fields.get("connection", "").lower()
    keeps_alive = minor == "1" and "close" not in [each.strip() for each in asked.split(",")]
    return Request(method, _path(target), fields, keeps_alive), _body_length(fields, minor)


def _path(target: str) -> str:
    try:
        path = target.partition("?")[0] if target[0] == "/" else urlsplit(target).path
    except ValueError as error:
        raise Unreadable(400, "a target that is no address") from error
    return unquote(path) if "%" in path else path


def _body_length(fields: dict[str, str], minor: str) -> int | None:
    length, coding = fields.get("content-length"), fields.get("transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if _LENGTH.fullmatch(length) is None:
            raise Unreadable(400, "a Content-Length that is no number")
        return int(length)
    if length is not None or minor == "0":
        raise Unreadable(400, "a body whose length is told in two ways")
    if coding.lower() != "chunked":
        raise Unreadable(501, "a Transfer-Encoding other than chunked")
    return None
