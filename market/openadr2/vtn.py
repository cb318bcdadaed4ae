"""Room openadr2: the HTTP side of our VTN (simple HTTP, profile 2.0b section 9). Made by bootstrap, in its own process.

A request is limited, bounded and read; the desk (`vpp.ports.Openadr2Desk`) says what is answered; that is
written, signed where the VEN signs. What is wrong is told as an OpenADR message wherever there is a request to
answer, with HTTP's own status beside it: 200 where the message could be read; 400 where it could not; 403 for a
certificate or signature that is not the VEN's; 413, 429 and 503 with what HTTP says there. Polls that are
answered with nothing are counted, not logged one by one.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter

from market.openadr2.buckets import Buckets
from market.openadr2.codec import (
    Decoded,
    Limits,
    MemoryReplayGuard,
    Refused,
    Signer,
    Verifier,
    kind_of,
)
from market.openadr2.reading import Reader
from market.openadr2.rendering import Renderer
from market.openadr2.tls import shown_fingerprint, told_fingerprint
from vpp.domain.errors import CallerForbidden, InvalidRequest, NotReady
from vpp.domain.openadr2 import (
    DEPLOYMENT_ERROR,
    NOT_REGISTERED,
    Acknowledge,
    CreateRegistration,
    Openadr2Caller,
    Openadr2Message,
    Openadr2Party,
    Poll,
    Response,
)
from vpp.domain.peer import Direction
from vpp.domain.peer import Protocol as PeerProtocol
from vpp.ports import Clock, MessageLog, Openadr2Desk

PREFIX = "/OpenADR2/Simple/2.0b"
SERVICES = ("EiRegisterParty", "EiEvent", "EiReport", "EiOpt", "OadrPoll")
RETRY_AFTER_S = 5

REFUSED = Counter("vpp_vtn2_refused_total", "Requests of VENs that HTTP refused, by its status", ["status"])

log = structlog.get_logger(__name__)


class SharedReplay(Protocol):
    """Remembers signed messages for all processes, beyond the life of this one."""

    async def first_time(self, nonce: str) -> bool:
        """Return whether this is new, and remember it for as long as it could be played again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnOptions:
    """How much the VTN takes, and whom it believes.

    Attributes:
        max_body_bytes: of one message.
        request_within_s: how long a request may take, from its head to its answer [s].
        at_once: requests worked on at the same time; more are asked to come again.
        long_at_once: of these, with a body that does not come in one piece.
        max_connections: open at the same time; more are closed.
        ven_per_s, address_per_s: requests a second of one VEN and from one address, ten times that at once;
            0 is no limit.
        stranger_per_s: the same for messages from one address that name no VEN that was ever registered.
        slow_s_per_s: seconds in each second one address may take up with messages that are slow to read.
        require_signature: refuse unsigned messages of anybody.
        sign_all: sign every answer.
        proxy_header: header in which a trusted proxy tells the client's certificate.
        proxies: addresses of these proxies; anybody else's header is not looked at.
    """

    prefix: str = PREFIX
    max_body_bytes: int = 1_000_000
    request_within_s: float = 30.0
    at_once: int = 2048
    long_at_once: int = 64
    max_connections: int = 10_000
    ven_per_s: float = 5.0
    address_per_s: float = 2000.0
    stranger_per_s: float = 50.0
    slow_s_per_s: float = 0.2
    require_signature: bool = False
    sign_all: bool = False
    proxy_header: str | None = None
    proxies: frozenset[str] = frozenset()


class _TooMuch(Exception):
    """More than we take at the same time."""


class _Guard:
    """The verifier's memory of this process, which also says what it was last asked about."""

    def __init__(self) -> None:
        self._memory = MemoryReplayGuard()
        self.last: str | None = None

    def first_time(self, nonce: str, at: Any) -> bool:
        self.last = nonce
        return self._memory.first_time(nonce, at)


class Openadr2Vtn:
    """The server. `start` it on a running loop, `stop` it there.

    Args:
        signer: signs answers to VENs that registered with xmlSignature, and all with `sign_all`.
        messages: where messages are noted.
        replay: remembers signed messages beyond this process.
        elapsed_s: seconds since any fixed moment, for the limits.
    """

    def __init__(
        self,
        desk: Openadr2Desk,
        clock: Clock,
        options: VtnOptions,
        *,
        messages: MessageLog,
        signer: Signer | None = None,
        replay: SharedReplay | None = None,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk, self._options, self._messages, self._replay = desk, options, messages, replay
        self._renderer = Renderer(signer)
        self._guard = _Guard()
        verifier = Verifier(self._guard, clock, required=options.require_signature)
        limits = Limits(body_bytes=options.max_body_bytes)
        self._reader = Reader(verifier, limits, slow_s_per_s=options.slow_s_per_s, elapsed_s=elapsed_s)
        self._vens = Buckets(options.ven_per_s, 10 * options.ven_per_s)
        self._addresses = Buckets(options.address_per_s, 10 * options.address_per_s)
        self._strangers = Buckets(options.stranger_per_s, 10 * options.stranger_per_s)
        self._elapsed_s = elapsed_s
        self._paths = frozenset(f"{options.prefix}/{service}" for service in SERVICES)
        self._under_way = self._long_bodies = 0
        self._silent: set[RequestHandler] = set()
        self._server: asyncio.Server | None = None
        self._web = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=120.0,
            lingering_time=1.0,  # for a body that was refused unread
            logger=_Silent(),
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise NotReady("the VTN does not listen yet")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, *, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen.

        Raises:
            NotReady: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connection, host, port, ssl=tls, backlog=1024, ssl_handshake_timeout=10 if tls else None
            )
        except OSError as error:
            raise NotReady(f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    async def stop(self) -> None:
        """Take no more, and let what was begun come to its end."""
        if self._server is not None:
            self._server.close()
        self._web.pre_shutdown()
        await self._web.shutdown(self._options.request_within_s)
        if self._server is not None:
            await self._server.wait_closed()

    def _connection(self) -> asyncio.BaseProtocol:
        if len(self._web.connections) >= self._options.max_connections:
            return _Closing()
        protocol = self._web()
        # A connection that never sends a whole request is not kept: aiohttp's own limit begins after the first.
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(self._options.request_within_s, self._drop_silent, protocol)
        return protocol

    def _drop_silent(self, protocol: RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        if request.path not in self._paths:
            found = request.path == "/healthz"
            return web.Response(status=200 if found else 404, text="up\n" if found else "there is no such service\n")
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"}, text="OpenADR messages are posted\n")
        if self._under_way >= self._options.at_once:
            return _later(503, RETRY_AFTER_S)
        self._under_way += 1
        try:
            async with asyncio.timeout(self._options.request_within_s):
                return await self._answer(request)
        except (TimeoutError, _TooMuch):
            answer = _later(503, RETRY_AFTER_S)
            answer.force_close()
            return answer
        except (ConnectionError, HttpProcessingError, asyncio.IncompleteReadError):
            raise
        except Exception:
            log.exception("request failed", path=request.path)
            return self._say(Response(DEPLOYMENT_ERROR, "this VTN failed"), status=500)
        finally:
            self._under_way -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        address = request.remote or ""
        trusted = address in self._options.proxies
        if trusted and (forwarded := request.headers.get("X-Forwarded-For")):
            address = forwarded.rpartition(",")[2].strip()[:64]
        waits_s = self._addresses.take(address, self._elapsed_s())
        if waits_s:
            return _later(429, waits_s)
        body = await self._body(request)
        if body is None:
            return self._too_large()
        if waits_s := self._reader.waits_s(body, address):
            return _later(429, waits_s)
        try:
            caller_cert = self._certificate(request, trusted=trusted)
            self._guard.last = None
            decoded = self._reader.read(body, address)
        except Refused as refused:
            return self._refuse(refused, address, body)
        except InvalidRequest as error:
            return self._say(Response(NOT_REGISTERED, str(error)[:300]), status=403)
        nonce = self._guard.last
        caller = Openadr2Caller(caller_cert, decoded.signed_by, address)
        if nonce is not None and self._replay is not None and not await self._replay.first_time(nonce):
            refused = Refused(NOT_REGISTERED, "this message was seen before", _request_id(decoded.message))
            return self._refuse(refused, address, body)
        return await self._reply(decoded, caller, body)

    async def _reply(self, decoded: Decoded, caller: Openadr2Caller, body: bytes) -> web.StreamResponse:
        message = decoded.message
        ven_id = getattr(message, "ven_id", None)
        party = self._desk.party(ven_id)
        if party is None:  # made-up ids get no bucket of their own
            waits_s = self._strangers.take(caller.address, self._elapsed_s())
        else:
            waits_s = self._vens.take(party.peer_id, self._elapsed_s())
        if waits_s:
            return _later(429, waits_s)
        registers = isinstance(message, CreateRegistration)  # may change whether the VEN signs
        if party is not None and party.xml_signature and caller.signed_by is None and not registers:
            return self._refuse(Refused(NOT_REGISTERED, "it is not signed", _request_id(message)), caller.address, body)
        sign = self._signs(message, party, caller)
        if isinstance(message, Poll) and self._desk.idle(message.ven_id, caller):
            return _xml(self._renderer.idle(message.ven_id, sign=sign))
        try:
            answer, status = await self._desk.answer(message, caller), 200
        except CallerForbidden as error:
            answer = Acknowledge(response=Response(NOT_REGISTERED, str(error), _request_id(message)), ven_id=ven_id)
            status = 403
        except NotReady as error:
            log.warning("not ready", error=str(error))
            return _later(503, RETRY_AFTER_S)
        written = self._renderer.render(answer, sign=sign)
        self._note(decoded, answer, body, written, ven_id if party is None else party.peer_id)
        return _xml(written, status)

    def _signs(self, message: Openadr2Message, party: Openadr2Party | None, caller: Openadr2Caller) -> bool:
        if not self._renderer.can_sign:
            return False
        if self._options.sign_all or caller.signed_by is not None:
            return True
        if isinstance(message, CreateRegistration):
            return message.xml_signature
        return party is not None and party.xml_signature

    def _certificate(self, request: web.BaseRequest, *, trusted: bool) -> str | None:
        """Return the fingerprint the connection shows, or the trusted proxy tells."""
        name = self._options.proxy_header
        if trusted and name is not None:
            return told_fingerprint(request.headers.get(name, ""))
        return shown_fingerprint(request.transport)

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """Return the body, None where it is longer than we take; no more of it than that is read."""
        most = self._options.max_body_bytes
        if (request.content_length or 0) > most:
            return None
        body = await request.content.readany()
        if request.content.at_eof():
            return body if len(body) <= most else None
        if self._long_bodies >= self._options.long_at_once:
            raise _TooMuch
        self._long_bodies += 1
        try:
            return await self._long_body(request, body)
        finally:
            self._long_bodies -= 1

    async def _long_body(self, request: web.BaseRequest, begun: bytes) -> bytes | None:
        most, parts = self._options.max_body_bytes, bytearray(begun)
        while part := await request.content.readany():
            parts += part
            if len(parts) > most:
                return None
        return bytes(parts)

    def _too_large(self) -> web.StreamResponse:
        reason = f"a message may have {self._options.max_body_bytes} bytes at most"
        answer = self._say(Response(DEPLOYMENT_ERROR, reason), status=413)
        answer.force_close()
        return answer

    def _refuse(self, refused: Refused, address: str, body: bytes) -> web.StreamResponse:
        """Answer what could not be read, or is not from whom it should be."""
        status = 403 if refused.code == NOT_REGISTERED else 200 if refused.request_id else 400
        self._messages.note(
            protocol=PeerProtocol.OPENADR2,
            direction=Direction.IN,
            kind="unread",
            status=str(refused.code),
            summary=f"{address}: {refused.reason}",
            body=body,
        )
        return self._say(Response(refused.code, refused.reason, refused.request_id), status=status)

    def _say(self, response: Response, *, status: int) -> web.Response:
        sign = self._options.sign_all and self._renderer.can_sign
        return _xml(self._renderer.render(Acknowledge(response=response), sign=sign), status)

    def _note(self, decoded: Decoded, answer: Openadr2Message, body: bytes, written: bytes, peer: str | None) -> None:
        message, tolerated = decoded.message, ", ".join(decoded.deviations)
        code = str(getattr(getattr(answer, "response", None), "code", 200))
        if isinstance(message, Poll) and isinstance(answer, Acknowledge) and code == "200":
            return
        for direction, said, content in ((Direction.IN, message, body), (Direction.OUT, answer, written)):
            self._messages.note(
                protocol=PeerProtocol.OPENADR2,
                direction=direction,
                kind=kind_of(said),
                status=code,
                peer=peer,
                summary=f"tolerated: {tolerated}" if tolerated and said is message else "",
                body=content,
            )


class _Closing(asyncio.Protocol):
    """What a connection too many gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Silent:
    """aiohttp's log of broken requests: anybody can break one, so they are worth no line each."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _xml(body: bytes, status: int = 200) -> web.Response:
    if status != 200:
        REFUSED.labels(str(status)).inc()
    return web.Response(body=body, status=status, content_type="application/xml")


def _later(status: int, waits_s: float) -> web.Response:
    REFUSED.labels(str(status)).inc()
    return web.Response(status=status, headers={"Retry-After": str(max(1, round(waits_s + 0.5)))})


def _request_id(message: Openadr2Message) -> str:
    own = getattr(message, "request_id", None)
    return str(own or getattr(getattr(message, "response", None), "request_id", ""))
