"""Room openadr3: one HTTP exchange with a VTN, bounded in time and size. Called by `client` and `client_auth`.

Redirects are not followed: a token sent to one place shall not be carried to another.
"""

import asyncio
import json
import math
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx

from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.peer import Direction, Protocol
from vpp.ports import MessageLog

MAX_BODY_BYTES = 8 * 1024 * 1024
"""No page of 50 events of a day in 5-minute intervals comes near it."""
MAX_DEPTH = 64
MAX_DIGITS = 308
"""Of an integer: as many as a double has."""
MAX_PROBLEM_CHARS = 300
BUSY = (429, 503)
MAX_RETRY_AFTER_S = 86_400.0
_UNKEPT = re.compile("[\x00\ud800-\udfff]")

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what its body says, None where it is empty or no JSON (an error page); `length` of it in bytes."""

    status: int
    content: Any
    retry_after_s: float | None = None
    length: int = 0

    @property
    def problem(self) -> str:
        """What the body gives as the reason, in one line."""
        content = self.content if isinstance(self.content, Mapping) else {}
        said = [str(content[key]) for key in ("title", "detail", "error", "error_description") if content.get(key)]
        return " ".join(": ".join(said).split())[:MAX_PROBLEM_CHARS]


class Wire:
    """HTTP to one VTN, with every message noted in the log.

    Args:
        peer_id: who the other end is, for the log.
        ca_path: who vouches for the VTN's certificate; None trusts the system's.
        cert_path, key_path: our own certificate, where the VTN asks for one.
        transport: in place of the network, for tests.
    """

    def __init__(
        self,
        peer_id: str,
        log: MessageLog,
        *,
        timeout_s: float = 15.0,
        ca_path: Path | None = None,
        cert_path: Path | None = None,
        key_path: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._peer_id, self._log, self._timeout_s = peer_id, log, timeout_s
        context = ssl.create_default_context(cafile=str(ca_path) if ca_path else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert_path is not None:
            context.load_cert_chain(str(cert_path), str(key_path) if key_path else None)
        self._http = httpx.AsyncClient(
            verify=context,
            timeout=timeout_s,
            follow_redirects=False,
            transport=transport,
            limits=httpx.Limits(max_connections=4),
            headers={"Accept": "application/json"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        secret: bool = False,
    ) -> Answer:
        """Make one exchange; `secret` keeps both bodies out of the log.

        Raises:
            PeerUnreachable: no answer in time, or one that is too long, or success that is no JSON.
        """
        kind = f"{method} {httpx.URL(url).path}"
        content = json.dumps(body, allow_nan=False).encode() if body is not None else b""
        self._note(Direction.OUT, kind, "", b"" if secret else content)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, received, sent_headers = await self._exchange(method, url, headers, query, content, form)
        except TimeoutError as error:
            self._fail(kind, f"no answer within {self._timeout_s:g} s", error)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            self._fail(kind, f"{type(error).__name__}: {error}".rstrip(": "), error)
        self._note(Direction.IN, kind, str(status), b"" if secret else received)
        return Answer(status, _parsed(kind, status, received), _retry_after_s(sent_headers), len(received))

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        query: Query,
        content: bytes,
        form: Mapping[str, str] | None,
    ) -> tuple[int, bytes, httpx.Headers]:
        own = dict(headers or {})
        if content:
            own["Content-Type"] = "application/json"
        data = dict(form) if form is not None else None
        request = self._http.build_request(
            method, url, params=list(query) or None, headers=own, content=content or None, data=data
        )
        response = await self._http.send(request, stream=True)
        try:
            received = bytearray()
            async for part in response.aiter_bytes():
                received += part
                if len(received) > MAX_BODY_BYTES:
                    raise httpx.DecodingError(f"an answer of more than {MAX_BODY_BYTES} bytes")
        finally:
            await response.aclose()
        return response.status_code, bytes(received), response.headers

    def _note(self, direction: Direction, kind: str, status: str, body: bytes, summary: str = "") -> None:
        self._log.note(
            protocol=Protocol.OPENADR3,
            direction=direction,
            kind=kind,
            status=status,
            peer=self._peer_id,
            summary=summary,
            body=body,
        )

    def _fail(self, kind: str, what: str, error: Exception) -> NoReturn:
        self._note(Direction.IN, kind, "none", b"", what)
        raise PeerUnreachable(f"{kind}: {what}") from error

    async def close(self) -> None:
        """Give back connections."""
        await self._http.aclose()


def accepted(kind: str, answer: Answer) -> Any:
    """Return the content of a success.

    Raises:
        PeerUnreachable: the VTN is busy or broken (429, 5xx).
        PeerRefused: it refuses (any other status).
    """
    if 200 <= answer.status < 300:
        return answer.content
    reason = f"{kind}: {answer.status} {answer.problem}".strip()
    if answer.status in BUSY or answer.status >= 500:
        raise PeerUnreachable(reason, retry_after_s=answer.retry_after_s)
    raise PeerRefused(reason, code=answer.status)


def _parsed(kind: str, status: int, received: bytes) -> Any:
    if not received:
        return None
    try:
        return _clean(json.loads(received, parse_constant=_no_number, parse_int=_whole), MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        if 200 <= status < 300:
            raise PeerUnreachable(f"{kind}: the answer is no JSON") from error
        return None


def _clean(value: Any, depth: int) -> Any:
    """The value with what nobody keeps replaced: NUL and halves of surrogates by U+FFFD, what is no number by null."""
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return _UNKEPT.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_clean(each, depth - 1) for each in value]
    if isinstance(value, dict):
        return {_clean(key, depth): _clean(each, depth - 1) for key, each in value.items()}
    return value


def _no_number(text: str) -> None:
    """NaN and Infinity are none of JSON's, but one of them in one object is no reason to hear of no other."""


def _whole(text: str) -> int | str:
    """An integer, or its digits where no number of ours holds it."""
    return int(text) if len(text) <= MAX_DIGITS else text


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds, or a date, which is read by the clock of who sent it, never by ours."""
    said = headers.get("Retry-After", "")
    try:
        wait_s = float(said) if said[:1].isdigit() else _instant_s(said) - _instant_s(headers.get("Date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(wait_s, MAX_RETRY_AFTER_S) if math.isfinite(wait_s) and wait_s >= 0 else None


def _instant_s(text: str) -> float:
    return parsedate_to_datetime(text).timestamp()
