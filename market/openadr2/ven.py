"""Room openadr2: our side of the wire to one VTN (simple HTTP, pull). Keeps no state.

Made by `vpp/bootstrap`, used by `vpp/gateway` through `vpp.ports.VenClient`.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from market.openadr2 import messages
from market.openadr2.messages import Signing
from market.openadr2.patches import MAX_BODY_BYTES, Element
from market.openadr2.wire import NAMESPACES, text_of
from vpp.domain.errors import InvalidRequest, PeerRefused, PeerUnreachable, RegistrationLost
from vpp.domain.ven import (
    Distribution,
    EventAnswer,
    Registration,
    ReportedPower,
    ReportRequest,
    ReportsAsked,
    ReportsCancelled,
    VenMessage,
)

NOT_REGISTERED = 463
TIMEOUT_S = 15.0


class Openadr2Client:
    """Speaks OpenADR 2.0b to a VTN.

    Args:
        peer: our name for this VTN; events come from source `openadr2:<peer>`.
        vtn_url: as http://host:port/OpenADR2/Simple/2.0b
        ven_name: our name as a VEN.
        program_of: programme's name by market context.
        cert_path, key_path, passphrase: our certificate (PEM), for TLS and for signatures.
        ca_path: who vouches for the VTN's TLS certificate; the system's authorities if None.
        vtn_fingerprint: the OpenADR fingerprint the VTN's signatures must have; unsigned is accepted if None.
        sign: whether outgoing messages are signed; needs a certificate and key.
        timeout_s: deadline of one exchange.
    """

    report_specifier_id = messages.SPECIFIER_ID
    report_point_id = messages.POINT_ID

    def __init__(
        self,
        peer: str,
        vtn_url: str,
        *,
        ven_name: str,
        program_of: Mapping[str, str],
        cert_path: Path | None = None,
        key_path: Path | None = None,
        passphrase: str | None = None,
        ca_path: Path | None = None,
        vtn_fingerprint: str | None = None,
        sign: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name = f"openadr2:{peer}"
        self._url = vtn_url.rstrip("/")
        self._ven_name = ven_name
        self._program_of = dict(program_of)
        self._timeout_s = timeout_s
        with_key = sign and cert_path is not None and key_path is not None
        self._signing = Signing(
            cert=cert_path.read_bytes() if with_key and cert_path else None,
            key=key_path.read_bytes() if with_key and key_path else None,
            passphrase=passphrase,
            vtn_fingerprint=vtn_fingerprint,
        )
        self._http = httpx.AsyncClient(
            verify=_tls(cert_path, key_path, passphrase, ca_path),
            timeout=timeout_s,
            trust_env=False,
            headers={"content-type": "application/xml"},
        )

    async def register(self, previous: Registration | None) -> Registration:
        """Register, or register again with what we were known by."""
        _, message = await self._ask(
            "EiRegisterParty",
            "oadrCreatePartyRegistration",
            request_id=messages.new_id(),
            registration_id=previous.registration_id if previous else None,
            ven_id=previous.ven_id if previous else None,
            ven_name=self._ven_name,
            profile_name="2.0b",
            transport_name="simpleHttp",
            transport_address="",
            report_only=False,
            xml_signature=self._signing.key is not None,
            http_pull_model=True,
        )
        try:
            granted = messages.read_registration(message)
        except InvalidRequest as error:
            raise PeerUnreachable(f"{self.name}: {error}") from error
        if granted is None:
            raise PeerRefused(f"{self.name} does not register us", code=NOT_REGISTERED)
        return granted

    async def offer_reports(self, ven_id: str, *, at: datetime) -> ReportsAsked:
        """Say which telemetry we can report; the answer may ask for it at once."""
        _, message = await self._ask(
            "EiReport",
            "oadrRegisterReport",
            request_id=messages.new_id(),
            ven_id=ven_id,
            reports=[messages.report_offer(list(self._program_of), at)],
        )
        return messages.read_report_requests(message, text_of(message, "ei:eiResponse/pyld:requestID"))

    async def request_events(self, ven_id: str) -> Distribution | None:
        """Ask for every event; None where the VTN answers without a list."""
        answer = await self._ask("EiEvent", "oadrRequestEvent", request_id=messages.new_id(), ven_id=ven_id)
        message = self._read(answer, ven_id)
        return message if isinstance(message, Distribution) else None

    async def poll(self, ven_id: str) -> VenMessage | None:
        """Ask for the next message; None where there is none."""
        return self._read(await self._ask("OadrPoll", "oadrPoll", ven_id=ven_id), ven_id)

    async def answer_event(self, ven_id: str, answer: EventAnswer) -> None:
        """Send optIn or optOut."""
        await self._ask("EiEvent", "oadrCreatedEvent", ven_id=ven_id, **messages.event_answer(answer))

    async def accept_reports(self, ven_id: str, asked: ReportsAsked, pending: Sequence[str]) -> None:
        """Confirm the reports that will be sent; refused ones get code 461 (report not supported)."""
        refused = "; ".join(asked.refused)
        response = messages.ok(asked.request_id, 461, refused) if refused else messages.ok(asked.request_id)
        await self._confirm_reports("oadrCreatedReport", ven_id, response, pending)

    async def send_report(
        self, ven_id: str, request: ReportRequest, powers: Sequence[ReportedPower], *, at: datetime
    ) -> ReportsCancelled | None:
        """Send values; the answer may cancel reports."""
        _, message = await self._ask(
            "EiReport",
            "oadrUpdateReport",
            request_id=messages.new_id(),
            ven_id=ven_id,
            reports=[messages.report_values(request, powers, at)],
        )
        cancel = message.find("oadr:oadrCancelReport", NAMESPACES)
        return None if cancel is None else messages.read_report_cancel(cancel)

    async def confirm_reports_cancelled(self, ven_id: str, cancelled: ReportsCancelled, pending: Sequence[str]) -> None:
        """Confirm that reports were cancelled, and name those still running."""
        await self._confirm_reports("oadrCanceledReport", ven_id, messages.ok(cancelled.request_id), pending)

    async def decline_offer(self, ven_id: str, request_id: str) -> None:
        """Answer reports offered by the VTN: we ask for none."""
        response = messages.ok(request_id)
        await self._ask("EiReport", "oadrRegisteredReport", response=response, report_requests=[], ven_id=ven_id)

    async def confirm_registration_cancelled(self, registration: Registration, request_id: str) -> None:
        """Confirm that the registration has ended."""
        await self._ask(
            "EiRegisterParty",
            "oadrCanceledPartyRegistration",
            response=messages.ok(request_id),
            registration_id=registration.registration_id,
            ven_id=registration.ven_id,
        )

    async def close(self) -> None:
        """Give back connections."""
        await self._http.aclose()

    async def _confirm_reports(self, kind: str, ven_id: str, response: dict[str, Any], pending: Sequence[str]) -> None:
        listed = [{"report_request_id": report_request_id} for report_request_id in pending]
        await self._ask("EiReport", kind, response=response, ven_id=ven_id, pending_reports=listed)

    def _read(self, answer: tuple[str, Element], ven_id: str) -> VenMessage | None:
        kind, message = answer
        return messages.read_message(kind, message, source=self.name, program_of=self._program_of, ven_id=ven_id)

    async def _ask(self, service: str, kind: str, **payload: Any) -> tuple[str, Element]:
        status, body = await self._post(service, messages.encode(kind, self._signing, **payload))
        if status != httpx.codes.OK:
            raise PeerUnreachable(f"{self.name} answered {kind} with HTTP {status}: {body[:200]!r}")
        if not body:  # some VTNs answer an acknowledgement with nothing
            return "oadrResponse", messages.empty()
        try:
            answer_kind, message = messages.decode(body, self._signing)
        except InvalidRequest as error:
            raise PeerUnreachable(f"{self.name} answered {kind} with {error}") from error
        if answer_kind == "oadrRequestReregistration":
            raise RegistrationLost(f"{self.name} asks us to register again")
        code, description = messages.response_of(message)
        if code == NOT_REGISTERED:
            raise RegistrationLost(f"{self.name} does not know us: {description}")
        if not 200 <= code < 300:
            raise PeerRefused(f"{self.name} answered {kind} with {code}: {description}", code=code)
        return answer_kind, message

    async def _post(self, service: str, body: bytes) -> tuple[int, bytes]:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", f"{self._url}/{service}", content=body) as response,
            ):
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BODY_BYTES:
                        raise PeerUnreachable(f"{self.name} answered with more than {MAX_BODY_BYTES} bytes")
                return response.status_code, bytes(content)
        except (httpx.HTTPError, TimeoutError) as error:
            raise PeerUnreachable(f"{self.name} not reached: {type(error).__name__} {error}") from error


def _tls(cert_path: Path | None, key_path: Path | None, passphrase: str | None, ca_path: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_path) if ca_path else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_path is not None:
        context.load_cert_chain(str(cert_path), str(key_path) if key_path else None, passphrase)
    return context
