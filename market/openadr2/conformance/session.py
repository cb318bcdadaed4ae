"""One conversation with a VTN under test: every answer is kept, judged strictly, and read as well as can be.

Made by `opened`, used by the checks of this folder.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from market.openadr2.codec import Refused, Signer, decode, encode, kind_of, name_of
from market.openadr2.parse import MAX_BODY_BYTES
from vpp.domain import openadr2 as m
from vpp.domain.conformance import Failed, Skipped, VtnUnderTest
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.openadr2 import Openadr2Message, Response
from vpp.ports import Clock

STRANGER = "conformance-nobody"
_SERVICE: dict[type, str] = {
    m.QueryRegistration: "EiRegisterParty",
    m.CreateRegistration: "EiRegisterParty",
    m.CancelRegistration: "EiRegisterParty",
    m.RequestEvents: "EiEvent",
    m.CreatedEvents: "EiEvent",
    m.RegisterReports: "EiReport",
    m.UpdateReports: "EiReport",
    m.CreateOpt: "EiOpt",
    m.CancelOpt: "EiOpt",
    m.Poll: "OadrPoll",
}
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one message.

    Attributes:
        message: what it says, None where it could not be read.
        invalid: why the schema refuses it, None where it does not.
        deviations: what had to be tolerated to read it.
    """

    asked: str
    request_id: str
    status: int
    content_type: str
    body: bytes
    message: Openadr2Message | None
    invalid: str | None
    deviations: tuple[str, ...] = ()

    @property
    def response(self) -> Response | None:
        """Its eiResponse."""
        found = getattr(self.message, "response", None)
        return found if isinstance(found, Response) else None

    @property
    def brief(self) -> str:
        """The answer in a few words."""
        if self.message is None:
            why = f", not readable as OpenADR 2.0b: {self.invalid}" if self.body else ", without a body"
            return f"HTTP {self.status}{why}"
        code = "" if self.response is None else f" {self.response.code} {self.response.description}".rstrip()
        return f"HTTP {self.status} {kind_of(self.message)}{code}"

    @property
    def accepted(self) -> bool:
        """Whether the VTN did what was asked."""
        response = self.response
        return self.status == 200 and self.message is not None and (response is None or 200 <= response.code < 300)

    def is_a(self, kind: type[Kind]) -> Kind:
        """Return the message, which has to be of a kind and to have succeeded.

        Raises:
            Failed: it is something else.
        """
        if not isinstance(self.message, kind):
            raise Failed(f"{self.asked} was answered with {self.brief}, not with {name_of(kind)}")
        if not self.accepted:
            raise Failed(f"{self.asked} was refused: {self.brief}")
        return self.message


@dataclass(slots=True)
class Session2:
    """What the checks know: the VTN, what it has given us, and every answer so far."""

    vtn: VtnUnderTest
    http: httpx.AsyncClient
    signer: Signer | None
    clock: Clock
    answers: list[Answer] = field(default_factory=list)
    told: list[m.DistributeEvents] = field(default_factory=list)
    ven_id: str | None = None
    registration_id: str | None = None
    registered: str = "registration was not tried"
    opt_id: str | None = None
    tls_version: str | None = None

    async def post(self, service: str, body: bytes, *, asked: str, request_id: str = "", keep: bool = True) -> Answer:
        """Post bytes and return the answer; `keep` counts it among those that are judged as a whole.

        Raises:
            Failed: there is no answer, or one without end.
        """
        content = bytearray()
        url = f"{self.vtn.url}/{service}"
        headers = {"content-type": "application/xml"}
        try:
            async with (
                asyncio.timeout(self.vtn.timeout_s),
                self.http.stream("POST", url, content=body, headers=headers) as reply,
            ):
                self._note_tls(reply)
                async for chunk in reply.aiter_raw():
                    content += chunk
                    if len(content) > MAX_BODY_BYTES:
                        raise Failed(f"{asked} was answered with more than {MAX_BODY_BYTES} bytes")
        except (httpx.HTTPError, TimeoutError, ssl.SSLError) as error:
            hung_up = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
            hint = "; it may want a certificate: --cert and --key" if hung_up and self.vtn.cert is None else ""
            said = f"{type(error).__name__} {error}".rstrip()
            raise Failed(f"{asked} was not answered: {said}{hint}") from error
        answer = _read(asked, request_id, reply, bytes(content))
        if keep:
            self.answers.append(answer)
        return answer

    async def say(self, message: Openadr2Message, *, keep: bool = True) -> Answer:
        """Send a message to the service it belongs to."""
        response = getattr(message, "response", None)
        request_id = str(getattr(message, "request_id", None) or getattr(response, "request_id", ""))
        body = encode(message, signer=self.signer)
        answer = await self.post(
            _SERVICE[type(message)], body, asked=kind_of(message), request_id=request_id, keep=keep
        )
        if isinstance(answer.message, m.DistributeEvents):
            self.told.append(answer.message)
        return answer

    @property
    def me(self) -> str:
        """Our venID.

        Raises:
            Skipped: we are not registered.
        """
        if self.ven_id is None:
            raise Skipped(f"needs a registration: {self.registered}")
        return self.ven_id

    async def tidy(self) -> None:
        """Take back what is still there of ours."""
        with suppress(Failed, InvalidRequest):
            if self.opt_id is not None and self.ven_id is not None:
                await self.say(m.CancelOpt(request_id=new_id(), opt_id=self.opt_id, ven_id=self.ven_id))
        with suppress(Failed, InvalidRequest):
            if self.registration_id is not None:
                cancel = m.CancelRegistration(
                    request_id=new_id(), registration_id=self.registration_id, ven_id=self.ven_id
                )
                await self.say(cancel)

    def _note_tls(self, reply: httpx.Response) -> None:
        tls = reply.extensions["network_stream"].get_extra_info("ssl_object")
        self.tls_version = None if tls is None else tls.version()


@asynccontextmanager
async def opened(vtn: VtnUnderTest, clock: Clock) -> AsyncIterator[Session2]:
    """A conversation; at its end nothing of ours is left at the VTN.

    Raises:
        NotReady: a certificate or key cannot be used.
    """
    context, signer = vtn.tls_context(), None
    if vtn.sign:
        if vtn.cert is None or vtn.key is None:
            raise NotReady("--sign: give the certificate and key to sign with")
        signer = Signer(vtn.cert.read_bytes(), vtn.key.read_bytes(), clock=clock)
    headers = {"accept-encoding": "identity"}
    async with httpx.AsyncClient(verify=context, timeout=vtn.timeout_s, trust_env=False, headers=headers) as http:
        session = Session2(vtn, http, signer, clock)
        try:
            yield session
        finally:
            await session.tidy()


def new_id() -> str:
    """Return an id nobody has used."""
    return f"conformance-{uuid4().hex[:16]}"


def _read(asked: str, request_id: str, reply: httpx.Response, body: bytes) -> Answer:
    given: dict[str, Any] = {
        "asked": asked,
        "request_id": request_id,
        "status": reply.status_code,
        "content_type": reply.headers.get("content-type", ""),
        "body": body,
    }
    try:
        return Answer(**given, message=decode(body, lenient=False).message, invalid=None)
    except Refused as refused:
        strictly = refused.reason
    try:
        decoded = decode(body)
    except Refused:
        return Answer(**given, message=None, invalid=strictly)
    return Answer(**given, message=decoded.message, invalid=strictly, deviations=decoded.deviations)
