"""Room openadr2: our side of the wire to one VTN (simple HTTP, pull). Keeps no state but its connection.

Made by `vpp/bootstrap`, used by `vpp/gateway` through `vpp.ports.VenClient`.
"""

import asyncio
import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from market.openadr2.codec import (
    Decoded,
    MemoryReplayGuard,
    Refused,
    Signer,
    Verifier,
    decode,
    encode,
    fingerprint_of,
    kind_of,
)
from market.openadr2.parse import Limits
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest, PeerRefused, PeerUnreachable, RegistrationLost
from vpp.domain.openadr2 import NOT_REGISTERED, Openadr2Message, Response
from vpp.domain.peer import Direction, Protocol
from vpp.domain.time import as_utc
from vpp.domain.ven import Heard
from vpp.ports import Clock, MessageLog

TIMEOUT_S = 15.0
ANSWERS = Limits(body_bytes=16_000_000, elements=1_000_000)
"""A distribution holds every event there is: forty price curves of a day alone make a megabyte."""
_LONG = 100_000
"""Bytes from which on an answer is read in a thread, so that the other VTNs' loops go on."""

_SERVICE: dict[type, str] = {
    m.QueryRegistration: "EiRegisterParty",
    m.CreateRegistration: "EiRegisterParty",
    m.CancelRegistration: "EiRegisterParty",
    m.CanceledRegistration: "EiRegisterParty",
    m.RequestEvents: "EiEvent",
    m.CreatedEvents: "EiEvent",
    m.RegisterReports: "EiReport",
    m.RegisteredReports: "EiReport",
    m.CreateReports: "EiReport",
    m.CreatedReports: "EiReport",
    m.UpdateReports: "EiReport",
    m.UpdatedReports: "EiReport",
    m.CancelReports: "EiReport",
    m.CanceledReports: "EiReport",
    m.CreateOpt: "EiOpt",
    m.CancelOpt: "EiOpt",
    m.Acknowledge: "EiRegisterParty",  # answers oadrRequestReregistration
    m.Poll: "OadrPoll",
}


class Openadr2Client:
    """Speaks OpenADR 2.0b to a VTN.

    Args:
        peer: our name for this VTN; events come from source `openadr2:<peer>`.
        vtn_url: as http://host:port/OpenADR2/Simple/2.0b
        cert_path, key_path, passphrase: our certificate (PEM), for TLS and for signatures.
        ca_path: who vouches for the VTN's TLS certificate; the system's authorities if None.
        vtn_fingerprint: the OpenADR fingerprint the VTN's signatures must have; unsigned is accepted if None.
        tls_fingerprint: the OpenADR fingerprint the VTN's TLS certificate must have, beside being vouched for.
        sign: whether outgoing messages are signed; needs a certificate and key, which are parsed once, here.
        clock: the time signatures tell and are judged by; needed with `sign` and `vtn_fingerprint`.
        log: where every message is noted.
        peer_id: what the log calls the VTN; `peer` if None.
        timeout_s: deadline of one exchange.

    Raises:
        InvalidRequest: certificate and key cannot be read or do not belong together, or no clock was given.
    """

    def __init__(
        self,
        peer: str,
        vtn_url: str,
        *,
        cert_path: Path | None = None,
        key_path: Path | None = None,
        passphrase: str | None = None,
        ca_path: Path | None = None,
        vtn_fingerprint: str | None = None,
        tls_fingerprint: str | None = None,
        sign: bool = False,
        clock: Clock | None = None,
        log: MessageLog | None = None,
        peer_id: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name = f"openadr2:{peer}"
        self._url = vtn_url.rstrip("/")
        self._timeout_s = timeout_s
        self._log, self._peer_id = log, peer_id or peer
        self._pinned = tls_fingerprint.upper() if tls_fingerprint else None
        self._signer = _signer(cert_path, key_path, passphrase, clock) if sign else None
        self._verifier = _verifier(vtn_fingerprint, clock)
        self._http = httpx.AsyncClient(
            verify=_tls(cert_path, key_path, passphrase, ca_path),
            timeout=timeout_s,
            trust_env=False,
            headers={"content-type": "application/xml", "accept-encoding": "identity"},
        )

    @property
    def signs(self) -> bool:
        """Whether what we send is signed."""
        return self._signer is not None

    async def ask(self, message: Openadr2Message) -> Heard:
        """Send a message and return the VTN's answer."""
        kind = kind_of(message)
        body = encode(message, signer=self._signer)
        self._note(Direction.OUT, kind, "", body)
        try:
            status, told_at, answer = await self._post(_SERVICE[type(message)], body)
            is_long = len(answer) > _LONG
            heard = (
                await asyncio.to_thread(self._read, kind, status, answer)
                if is_long
                else self._read(kind, status, answer)
            )
        except PeerUnreachable as error:
            self._note(Direction.IN, kind, "failed", b"", str(error))
            raise
        if heard is None:
            self._note(Direction.IN, "", str(status), answer)
            return Heard(None, told_at)
        response = _response_of(heard.message)
        noted = "; ".join(("tolerated", *heard.deviations)) if heard.deviations else ""
        self._note(Direction.IN, kind_of(heard.message), str(response.code), answer, noted)
        self._check(kind, heard.message, response)
        return Heard(heard.message, told_at)

    async def close(self) -> None:
        """Give back connections."""
        await self._http.aclose()

    def _read(self, kind: str, status: int, answer: bytes) -> Decoded | None:
        if status != httpx.codes.OK:
            raise PeerUnreachable(f"{self.name} answered {kind} with HTTP {status}: {answer[:200]!r}")
        if not answer:  # some VTNs answer an acknowledgement with nothing
            return None
        try:
            return decode(answer, verify=self._verifier, limits=ANSWERS)
        except Refused as error:
            raise PeerUnreachable(f"{self.name} answered {kind} with what we refuse: {error}") from error

    def _check(self, kind: str, message: Openadr2Message, response: Response) -> None:
        if isinstance(message, m.RequestReregistration) and kind != "oadrPoll":
            raise RegistrationLost(f"{self.name} asks us to register again")
        if response.code == NOT_REGISTERED:
            raise RegistrationLost(f"{self.name} does not know us: {response.description}")
        if not 200 <= response.code < 300:
            raise PeerRefused(
                f"{self.name} answered {kind} with {response.code}: {response.description}", code=response.code
            )

    async def _post(self, service: str, body: bytes) -> tuple[int, datetime | None, bytes]:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", f"{self._url}/{service}", content=body) as response,
            ):
                self._check_pin(response)
                async for chunk in response.aiter_raw():  # what is packed could unpack to anything
                    content += chunk
                    if len(content) > ANSWERS.body_bytes:
                        raise PeerUnreachable(f"{self.name} answered with more than {ANSWERS.body_bytes} bytes")
                return response.status_code, _date_of(response), bytes(content)
        except (httpx.HTTPError, TimeoutError, ssl.SSLError) as error:
            raise PeerUnreachable(f"{self.name} not reached: {type(error).__name__} {error}") from error

    def _check_pin(self, response: httpx.Response) -> None:
        if self._pinned is None:
            return
        tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        found = fingerprint_of(shown) if shown else "no certificate"
        if found != self._pinned:
            raise PeerUnreachable(f"{self.name} shows {found}, not the certificate {self._pinned} it is known by")

    def _note(self, direction: Direction, kind: str, status: str, body: bytes, summary: str = "") -> None:
        if self._log is not None:
            self._log.note(
                protocol=Protocol.OPENADR2,
                direction=direction,
                kind=kind,
                status=status,
                peer=self._peer_id,
                summary=summary,
                body=body,
            )


def _response_of(message: Openadr2Message) -> Response:
    response = getattr(message, "response", None)
    return response if isinstance(response, Response) else Response()


def _date_of(response: httpx.Response) -> datetime | None:
    """Return the VTN's clock at its answer, to the second."""
    try:
        return as_utc(parsedate_to_datetime(response.headers["date"]))
    except (KeyError, ValueError, TypeError, OverflowError, InvalidRequest):
        return None


def _signer(cert_path: Path | None, key_path: Path | None, passphrase: str | None, clock: Clock | None) -> Signer:
    if cert_path is None or key_path is None:
        raise InvalidRequest("sign", True, "a certificate and key to sign with")
    if clock is None:
        raise InvalidRequest("clock", None, "a clock, where messages are signed")
    return Signer(cert_path.read_bytes(), key_path.read_bytes(), passphrase, clock=clock)


def _verifier(fingerprint: str | None, clock: Clock | None) -> Verifier | None:
    if not fingerprint:
        return None
    if clock is None:
        raise InvalidRequest("clock", None, "a clock, where signatures are checked")
    return Verifier(MemoryReplayGuard(), clock, fingerprints=[fingerprint])


def _tls(cert_path: Path | None, key_path: Path | None, passphrase: str | None, ca_path: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_path) if ca_path else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_path is not None:
        context.load_cert_chain(str(cert_path), str(key_path) if key_path else None, passphrase)
    return context
