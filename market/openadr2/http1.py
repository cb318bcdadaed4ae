"""Room openadr2: requests of HTTP/1.1 out of a connection's bytes, and answers to bytes. Called by `door`.

llhttp (by httptools) reads them, and strictly, because a proxy before us must not read a request otherwise than we
do. Ours are the bounds: nothing is kept beyond them, however the bytes arrive.
"""

from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote

import httptools

MAX_HEAD_BYTES = 32_768
"""Request line and fields together, with what came in one piece before them; a client certificate in PEM fits in."""
MAX_FIELDS = 100
MAX_CHUNKS = 4096
"""Of one body: each costs as much time as a message."""
_PIECE_BYTES = 8192
"""Looked at together, once what was found before has been given; the bound of a head is looked at after each."""
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

    __slots__ = (
        "_ahead", "_body", "_chunks", "_fields", "_found", "_head_bytes", "_in_head", "_max_body_bytes",
        "_number_of_fields", "_parser", "_refusal", "_request", "_target",
    )  # fmt: skip

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._ahead = bytearray()  # not looked at yet: a few bytes each make requests that take much more
        self._found: deque[Request] = deque()
        self._refusal: Unreadable | None = None
        self._in_head = False
        self._head_bytes = self._number_of_fields = self._chunks = 0
        self._target = b""
        self._fields: dict[str, str] = {}
        self._request: Request | None = None  # whose body has not all come yet
        self._body = bytearray()

    @property
    def held_bytes(self) -> int:
        """How much has come that was not given yet."""
        return len(self._ahead) + self._head_bytes + len(self._body) + sum(len(each.body) for each in self._found)

    @property
    def has_begun(self) -> bool:
        """Whether part of a request has come, or one that was not given yet."""
        return self._in_head or self._request is not None or bool(self._found or self._ahead)

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
        self._ahead += data

    def next(self) -> Request | None:
        """Return the next request that has come whole, None where there is none yet.

        Raises:
            Unreadable: what comes is no request, or beyond our bounds.
        """
        while self._ahead and not self._found and self._refusal is None:
            piece = bytes(self._ahead[:_PIECE_BYTES])
            del self._ahead[:_PIECE_BYTES]
            self._feed(piece)
        if self._found:
            return self._found.popleft()
        if self._refusal is not None:
            raise self._refusal
        return None

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as stopped:  # after a head; we go on without what it offers
            again = self._head_without_offer() + piece[stopped.args[0] :]
            self._parser = httptools.HttpRequestParser(self)
            self._feed(again)
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or Unreadable(400, f"no request of HTTP/1.1: {error}")
        if self._in_head:
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES and self._refusal is None:
                self._refusal = Unreadable(431, f"a head of more than {MAX_HEAD_BYTES} bytes")

    def _head_without_offer(self) -> bytes:
        method, target = self._parser.get_method().decode(), self._target.decode("latin-1")
        fields = "".join(f"{name}: {told}\r\n" for name, told in self._fields.items() if name != "upgrade")
        return f"{method} {target} HTTP/{self._parser.get_http_version()}\r\n{fields}\r\n".encode("latin-1")

    def _refuse(self, status: int, reason: str) -> Unreadable:
        """Remember why: the parser replaces what its callbacks raise by an error of its own."""
        self._refusal = Unreadable(status, reason)
        return self._refusal

    def on_message_begin(self) -> None:
        """Called by the parser, as all below."""
        self._in_head, self._head_bytes, self._number_of_fields, self._chunks = True, 0, 0, 0
        self._target, self._fields, self._body = b"", {}, bytearray()

    def on_url(self, part: bytes) -> None:
        """Take a part of the request's target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head. One that follows the body is refused: it would pass for what a proxy told."""
        if not self._in_head:
            raise self._refuse(400, "fields after the last chunk, which are not taken")
        self._number_of_fields += 1
        if self._number_of_fields > MAX_FIELDS:
            raise self._refuse(431, f"more than {MAX_FIELDS} fields")
        key, told = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        before = self._fields.get(key)
        self._fields[key] = told if before is None else f"{before}, {told}"

    def on_headers_complete(self) -> None:
        """Know how the body comes."""
        parser, fields, self._in_head = self._parser, self._fields, False
        coding = fields.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise self._refuse(501, "a Transfer-Encoding other than chunked")
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise self._refuse(505, f"HTTP/{version}")
        if coding is not None and version == "1.0":
            raise self._refuse(400, "chunks, which came with HTTP/1.1")
        method = parser.get_method().decode()
        if method == "CONNECT":
            raise self._refuse(405, "no proxy")
        length = int(fields.get("content-length", "0"))
        if length > self._max_body_bytes:
            raise self._refuse(413, f"a body of {length} bytes")
        self._request = Request(method, self._path(), fields, parser.should_keep_alive())

    def on_chunk_header(self) -> None:
        """One more chunk comes."""
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise self._refuse(413, "a body of too many chunks")

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._body += part
        if len(self._body) > self._max_body_bytes:
            raise self._refuse(413, f"a body of more than {self._max_body_bytes} bytes")

    def _path(self) -> str:
        target = self._target
        if not target.startswith(b"/"):
            try:
                target = httptools.parse_url(target).path or b"/"
            except httptools.HttpParserInvalidURLError as error:
                raise self._refuse(400, "a target that is no address") from error
        path = target.partition(b"?")[0].decode("latin-1")
        return unquote(path) if "%" in path else path

    def on_message_complete(self) -> None:
        """Have a request whole."""
        request = self._request
        if request is not None and not self._parser.should_upgrade():
            request.body, self._request, self._body = bytes(self._body), None, bytearray()
            self._found.append(request)
