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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
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
from market.openadr2.door import Connection, Door, DoorLimits
from market.openadr2.http1 import Answer, Request, Unreadable
from market.openadr2.reading import Reader
from market.openadr2.rendering import Renderer
from market.openadr2.tls import shown_fingerprint, told_fingerprint
from vpp.domain.errors import CallerForbidden, InvalidRequest, NotReady
from vpp.domain.openadr2 import (
    DEPLOYMENT_ERROR,
    NOT_REGISTERED,
    Acknowledge,
    CreatedRegistration,
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

Answering = Coroutine[Any, Any, Answer]


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
        max_per_address: of these, from one address that is none of the proxies'.
        idle_s: how long a connection is kept on which nothing is asked [s].
        ven_per_s, address_per_s: requests a second of one VEN and from one address, ten times that at once;
            0 is no limit.
        stranger_per_s: the same for messages from one address that name no VEN that was ever registered, or come
            without that VEN's certificate.
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
    max_per_address: int = 5_000
    idle_s: float = 120.0
    ven_per_s: float = 5.0
    address_per_s: float = 2000.0
    stranger_per_s: float = 50.0
    slow_s_per_s: float = 0.2
    require_signature: bool = False
    sign_all: bool = False
    proxy_header: str | None = None
    proxies: frozenset[str] = frozenset()


class _Guard:
    """The verifier's memory of this process, which also says what it was last asked about."""

    def __init__(self) -> None:
        self._memory = MemoryReplayGuard()
        self.last: str | None = None

    def first_time(self, nonce: str, at: Any) -> bool:
        self.last = nonce
        return self._memory.first_time(nonce, at)

    def forget_last(self) -> None:
        """Let the message it was last asked about come again."""
        if self.last is not None:
            self._memory.forget(self.last)


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
        self._under_way = 0
        self._door = Door(self._handle, _door_limits(options), clock, unreadable=self._unreadable)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._door.port

    async def start(self, *, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen.

        Raises:
            NotReady: the address cannot be listened on.
        """
        await self._door.start(host=host, port=port, tls=tls)

    async def stop(self) -> None:
        """Take no more, and let what was begun come to its end."""
        await self._door.stop()

    def _handle(self, request: Request, connection: Connection) -> Answer | Answering:
        if request.path not in self._paths:
            found = request.path == "/healthz"
            return _plain(200, "up\n") if found else _plain(404, "there is no such service\n")
        if request.method != "POST":
            return _plain(405, "OpenADR messages are posted\n", {"Allow": "POST"})
        if self._under_way >= self._options.at_once:
            return _later(503, RETRY_AFTER_S)
        try:
            answer = self._answer(request, connection)
        except Exception as error:  # noqa: BLE001 - told in the log, with its trace
            return self._failed(request, error)
        return answer if isinstance(answer, Answer) else self._in_time(request, answer)

    async def _in_time(self, request: Request, answering: Answering) -> Answer:
        self._under_way += 1
        try:
            async with asyncio.timeout(self._options.request_within_s):
                return await answering
        except TimeoutError:
            return replace(_later(503, RETRY_AFTER_S), closes=True)
        except Exception as error:  # noqa: BLE001 - the same
            return self._failed(request, error)
        finally:
            self._under_way -= 1

    def _failed(self, request: Request, error: Exception) -> Answer:
        log.error("request failed", path=request.path, exc_info=error)
        return self._say(Response(DEPLOYMENT_ERROR, "this VTN failed"), status=500)

    def _answer(self, request: Request, connection: Connection) -> Answer | Answering:
        address, body = connection.address, request.body
        trusted = address in self._options.proxies
        if trusted and (forwarded := request.fields.get("x-forwarded-for")):
            address = forwarded.rpartition(",")[2].strip()[:64]
        waits_s = self._addresses.take(address, self._elapsed_s()) or self._reader.waits_s(body, address)
        if waits_s:
            return _later(429, waits_s)
        try:
            caller_cert = self._certificate(request, connection, trusted=trusted)
            self._guard.last = None
            decoded = self._reader.read(body, address)
        except Refused as refused:
            return self._refuse(refused, address, body)
        except InvalidRequest as error:
            return self._say(Response(NOT_REGISTERED, str(error)[:300]), status=403)
        nonce = self._guard.last
        caller = Openadr2Caller(caller_cert, decoded.signed_by, address)
        if waits_s := self._waits_s(decoded.message, caller):
            self._guard.forget_last()  # who is asked to come again may send the same bytes
            return _later(429, waits_s)
        if nonce is not None and self._replay is not None:
            return self._reply_once(self._replay, nonce, decoded, caller, body)
        return self._reply(decoded, caller, body)

    def _waits_s(self, message: Openadr2Message, caller: Openadr2Caller) -> float:
        """How long a VEN, or whoever cannot be told to be one, has to wait [s].

        Made-up ids get no bucket of their own, and without its certificate nobody uses up a VEN's.
        """
        _, peer = self._whose(message, caller)
        buckets, name = (self._strangers, caller.address) if peer is None else (self._vens, peer)
        return buckets.take(name, self._elapsed_s())

    def _whose(self, message: Openadr2Message, caller: Openadr2Caller) -> tuple[Openadr2Party | None, str | None]:
        """Return the VEN a message names, and its peer's id if the caller may be that VEN."""
        party = self._desk.party(getattr(message, "ven_id", None))
        return party, party.peer_id if party is not None and _may_be(party, caller) else None

    async def _reply_once(
        self, replay: SharedReplay, nonce: str, decoded: Decoded, caller: Openadr2Caller, body: bytes
    ) -> Answer:
        if not await replay.first_time(nonce):
            refused = Refused(NOT_REGISTERED, "this message was seen before", _request_id(decoded.message))
            return self._refuse(refused, caller.address, body)
        answer = self._reply(decoded, caller, body)
        return answer if isinstance(answer, Answer) else await answer

    def _reply(self, decoded: Decoded, caller: Openadr2Caller, body: bytes) -> Answer | Answering:
        """Answer a poll that finds nothing from memory, all else later."""
        message = decoded.message
        party, peer = self._whose(message, caller)
        registers = isinstance(message, CreateRegistration)  # may change whether the VEN signs
        if party is not None and party.xml_signature and caller.signed_by is None and not registers:
            return self._refuse(Refused(NOT_REGISTERED, "it is not signed", _request_id(message)), caller.address, body)
        sign = self._signs(message, party, caller)
        if isinstance(message, Poll) and self._desk.idle(message.ven_id, caller):
            return _xml(self._renderer.idle(message.ven_id, sign=sign))
        return self._ask_desk(decoded, caller, body, peer, sign=sign)

    async def _ask_desk(
        self, decoded: Decoded, caller: Openadr2Caller, body: bytes, peer: str | None, *, sign: bool
    ) -> Answer:
        message = decoded.message
        try:
            answer, status = await self._desk.answer(message, caller), 200
        except CallerForbidden as error:
            refusal, ven_id = (
                Response(NOT_REGISTERED, str(error), _request_id(message)),
                getattr(message, "ven_id", None),
            )
            answer, status = Acknowledge(response=refusal, ven_id=ven_id), 403
        except NotReady as error:
            log.warning("not ready", error=str(error))
            return _later(503, RETRY_AFTER_S)
        written = self._renderer.render(answer, sign=sign)
        if isinstance(answer, CreatedRegistration) and (party := self._desk.party(answer.ven_id)) is not None:
            peer = party.peer_id  # a VEN that registers by its name, or anew, is known by now
        self._note(decoded, answer, body, written, peer)
        return _xml(written, status)

    def _signs(self, message: Openadr2Message, party: Openadr2Party | None, caller: Openadr2Caller) -> bool:
        if not self._renderer.can_sign:
            return False
        if self._options.sign_all or caller.signed_by is not None:
            return True
        if isinstance(message, CreateRegistration):
            return message.xml_signature
        return party is not None and party.xml_signature

    def _certificate(self, request: Request, connection: Connection, *, trusted: bool) -> str | None:
        """Return the fingerprint the connection shows, or the trusted proxy tells."""
        name = self._options.proxy_header
        if trusted and name is not None:
            return told_fingerprint(request.fields.get(name.lower(), ""))
        return shown_fingerprint(connection.transport)

    def _unreadable(self, error: Unreadable) -> Answer:
        """Answer a request that ended before there was a message."""
        if error.status == 413:
            reason = f"a message may have {self._options.max_body_bytes} bytes at most"
            return self._say(Response(DEPLOYMENT_ERROR, reason), status=413)
        if error.status == 503:
            return _later(503, RETRY_AFTER_S)
        return _plain(error.status, f"{error.reason}\n")

    def _refuse(self, refused: Refused, address: str, body: bytes) -> Answer:
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

    def _say(self, response: Response, *, status: int) -> Answer:
        sign = self._options.sign_all and self._renderer.can_sign
        return _xml(self._renderer.render(Acknowledge(response=response), sign=sign), status)

    def _note(self, decoded: Decoded, answer: Openadr2Message, body: bytes, written: bytes, peer: str | None) -> None:
        message, tolerated = decoded.message, ", ".join(decoded.deviations)
        response = getattr(answer, "response", None)
        code = "200" if response is None else str(response.code)
        reason = "" if response is None or code == "200" else response.description
        claims = "" if peer is not None else getattr(message, "ven_id", None) or ""
        parts = (reason, f"tolerated: {tolerated}" if tolerated else "", f"as venID {claims[:100]}" if claims else "")
        summary = "; ".join(part for part in parts if part)
        if isinstance(message, Poll) and isinstance(answer, Acknowledge) and code == "200":
            return
        for direction, said, content in ((Direction.IN, message, body), (Direction.OUT, answer, written)):
            self._messages.note(
                protocol=PeerProtocol.OPENADR2,
                direction=direction,
                kind=kind_of(said),
                status=code,
                peer=peer,
                summary=summary if said is message else "",
                body=content,
            )


def _may_be(party: Openadr2Party, caller: Openadr2Caller) -> bool:
    return party.fingerprint is None or party.fingerprint in (caller.fingerprint, caller.signed_by)


def _xml(body: bytes, status: int = 200) -> Answer:
    if status != 200:
        REFUSED.labels(str(status)).inc()
    return Answer(status, body)


def _plain(status: int, text: str, fields: dict[str, str] | None = None) -> Answer:
    return Answer(status, text.encode(), "text/plain; charset=utf-8", fields or {})


def _later(status: int, waits_s: float) -> Answer:
    REFUSED.labels(str(status)).inc()
    return Answer(status, fields={"Retry-After": str(max(1, round(waits_s + 0.5)))})


def _door_limits(options: VtnOptions) -> DoorLimits:
    return DoorLimits(
        connections=options.max_connections,
        connections_per_address=options.max_per_address,
        unbound=options.proxies,
        request_within_s=options.request_within_s,
        idle_s=options.idle_s,
        body_bytes=options.max_body_bytes,
        long_at_once=options.long_at_once,
    )


def _request_id(message: Openadr2Message) -> str:
    own = getattr(message, "request_id", None)
    return str(own or getattr(getattr(message, "response", None), "request_id", ""))
