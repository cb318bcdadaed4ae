"""Room openadr2: messages our VTN sends to VENs that do not poll (push, profile 2.0b section 9.2.2). Made by bootstrap.

A VEN serves the same four services under the address it registered with; each message goes to its own.
"""

import asyncio
import ssl

import httpx

from market.openadr2.codec import MemoryReplayGuard, Refused, Verifier, decode, kind_of
from market.openadr2.rendering import Renderer
from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import Acknowledge, Openadr2Message
from vpp.domain.peer import Direction
from vpp.domain.peer import Protocol as PeerProtocol
from vpp.ports import Clock, MessageLog

MAX_ANSWER_BYTES = 1_000_000
_SERVICE_OF = {
    "oadrDistributeEvent": "EiEvent",
    "oadrCreateReport": "EiReport",
    "oadrCreatedReport": "EiReport",
    "oadrCancelReport": "EiReport",
    "oadrRegisterReport": "EiReport",
    "oadrUpdateReport": "EiReport",
    "oadrCancelPartyRegistration": "EiRegisterParty",
    "oadrRequestReregistration": "EiRegisterParty",
}
SERVICES = frozenset(_SERVICE_OF.values())


class Openadr2Pusher:
    """Posts messages to VENs; connections are kept and shared.

    Args:
        tls: our certificate and whom we trust, for VENs reached by https; None trusts the system's.
        timeout_s: for connecting, and for each part of an exchange, which may last twice that in all.
    """

    def __init__(
        self,
        clock: Clock,
        renderer: Renderer,
        *,
        messages: MessageLog,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 15.0,
    ) -> None:
        self._renderer, self._messages, self._within_s = renderer, messages, 2 * timeout_s
        self._verifier = Verifier(MemoryReplayGuard(), clock, required=False)
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            verify=True if tls is None else tls,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
            headers={"Content-Type": "application/xml"},
        )

    async def push(
        self, url: str, message: Openadr2Message, *, sign: bool, fingerprint: str | None = None
    ) -> Openadr2Message:
        """Post one message to a VEN and return its answer.

        Args:
            url: the address the VEN registered with; a service at its end is taken for the address of that one.
            sign: for a VEN that signs; what it answers must be signed too, unless it says no more than oadrResponse.
            fingerprint: of the certificate it signs with, where that is known.

        Raises:
            PeerUnreachable: no usable answer came, or none of that VEN's.
            PeerRefused: the VEN answered with an error of HTTP.
        """
        kind = kind_of(message)
        body = self._renderer.render(message, sign=sign and self._renderer.can_sign)
        self._note(Direction.OUT, kind, "", url, body)
        status, content = await self._post(address_of(url, kind), body)
        if status != 200:
            raise PeerRefused(f"{url} answered {kind} with HTTP {status}", code=status)
        try:
            decoded = decode(content, verify=self._verifier)
        except Refused as refused:
            raise PeerUnreachable(f"{url} answered {kind} with what cannot be read: {refused}") from refused
        answer = decoded.message
        if decoded.signed_by is None and sign and not isinstance(answer, Acknowledge):
            raise PeerUnreachable(f"{url} answered {kind} unsigned, though the VEN signs")
        if decoded.signed_by is not None and fingerprint not in (None, decoded.signed_by):
            raise PeerUnreachable(f"{url} answered {kind} signed by {decoded.signed_by}, not by the VEN")
        code = getattr(getattr(answer, "response", None), "code", 200)
        self._note(Direction.IN, kind_of(answer), str(code), url, content)
        return answer

    async def close(self) -> None:
        """Give back connections."""
        await self._client.aclose()

    async def _post(self, url: str, body: bytes) -> tuple[int, bytes]:
        content = bytearray()
        try:
            async with asyncio.timeout(self._within_s), self._client.stream("POST", url, content=body) as response:
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER_BYTES:
                        raise PeerUnreachable(f"{url} answered with more than {MAX_ANSWER_BYTES} bytes")
                return response.status_code, bytes(content)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, TimeoutError) as error:
            raise PeerUnreachable(f"{url}: {error or type(error).__name__}") from error

    def _note(self, direction: Direction, kind: str, status: str, url: str, body: bytes) -> None:
        self._messages.note(
            protocol=PeerProtocol.OPENADR2,
            direction=direction,
            kind=kind,
            status=status,
            summary=f"push {url}"[:300],
            body=body,
        )


def address_of(url: str, kind: str) -> str:
    """Return where a message goes: the service it belongs to, under the address the VEN gave."""
    base, _, last = url.rstrip("/").rpartition("/")
    return f"{base if last in SERVICES else url.rstrip('/')}/{_SERVICE_OF[kind]}"
