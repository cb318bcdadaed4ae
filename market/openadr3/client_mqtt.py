"""Room openadr3: hears a VTN's MQTT broker for our VEN. Made by bootstrap, run beside the polling loop.

A message only says that something changed; what changed is read over HTTP. The broker is the one that
`GET /notifiers` names, over TLS unless it is on this machine. Silence proves nothing, so polling goes on
as if there were no broker; a broken connection is tried again, slower and slower.
"""

import asyncio
import random
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import structlog

from vpp.domain.errors import NotReady, PeerError
from vpp.domain.ven3 import MqttOffer
from vpp.ports import Ven3Client

log = structlog.get_logger(__name__)

RETRY_S = 5.0
MAX_RETRY_S = 300.0
SESSION_S = 3300.0
"""A connection is made anew this often: its token has a life, and topics may have changed."""
TIMEOUT_S = 15.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class MqttEar:
    """Listens to one VTN's broker.

    Args:
        client_id: who we are to the VTN; the user name where the VTN asks for `{clientID}`.
        ca_path: who vouches for the broker, where the VTN names nobody.
    """

    def __init__(self, client: Ven3Client, *, client_id: str, ca_path: Path | None = None) -> None:
        self._client, self._client_id, self._ca_path = client, client_id, ca_path
        self._rng = random.Random(client_id)

    async def run(
        self, ven_id: Callable[[], str | None], programs: Callable[[], Sequence[str]], ring: Callable[[], None]
    ) -> None:
        """Listen until cancelled and `ring` at every message and after every outage."""
        failures = 0
        while True:
            try:
                await self._session(ven_id(), programs, ring)
                failures = 0
            except (aiomqtt.MqttError, PeerError, NotReady, OSError, TimeoutError, ValueError) as error:
                failures += 1
                log.warning("broker not heard", source=self._client.name, error=str(error), failures=failures)
            wait_s = min(MAX_RETRY_S, RETRY_S * 2 ** min(failures, 10)) * self._rng.uniform(0.5, 1.0)
            await asyncio.sleep(wait_s if failures else 0.0)

    async def _session(
        self, ven_id: str | None, programs_now: Callable[[], Sequence[str]], ring: Callable[[], None]
    ) -> None:
        programs = programs_now()
        offer = await self._client.mqtt()
        if offer is None:
            raise NotReady("the VTN has no MQTT broker")
        topics = await self._client.topics(ven_id, programs)
        if not topics:
            raise NotReady("the VTN lets us hear no topic")
        async with await self._connect(offer) as broker:
            for topic in topics:
                await broker.subscribe(topic, qos=1)
            log.info("broker heard", source=self._client.name, topics=len(topics))
            ring()  # whatever was told before we listened
            try:
                async with asyncio.timeout(SESSION_S):
                    async for _ in broker.messages:
                        ring()
                        if list(programs) != list(programs_now()):
                            return  # a new programme has topics of its own
            except TimeoutError:
                return

    async def _connect(self, offer: MqttOffer) -> aiomqtt.Client:
        if not offer.uris:
            raise NotReady("the VTN names no address of its broker")
        host, port, is_tls = broker_of(offer.uris[0])
        user, password = None, None
        if offer.method == "OAUTH2_BEARER_TOKEN":
            user = (offer.username or "{clientID}").replace("{clientID}", self._client_id)
            password = await self._client.access_token()
        return aiomqtt.Client(
            host,
            port,
            username=user,
            password=password,
            timeout=TIMEOUT_S,
            tls_context=tls_of(offer, self._ca_path) if is_tls else None,
            max_queued_incoming_messages=1000,
        )


def broker_of(uri: str) -> tuple[str, int, bool]:
    """Return host, port and whether it is over TLS.

    Raises:
        NotReady: an address we do not understand, or an open one on another machine.
    """
    parts = urlsplit(uri if "://" in uri else f"mqtts://{uri}")
    is_tls = parts.scheme in ("mqtts", "ssl", "tls")
    if not parts.hostname or parts.scheme not in ("mqtt", "tcp", "mqtts", "ssl", "tls"):
        raise NotReady(f"the broker's address {uri!r} is none we understand; expected mqtts://host:port")
    if not is_tls and parts.hostname not in _LOOPBACK:
        raise NotReady(f"the broker's address {uri!r} is not encrypted; OpenADR 3 wants TLS")
    return parts.hostname, parts.port or (8883 if is_tls else 1883), is_tls


def tls_of(offer: MqttOffer, ca_path: Path | None) -> ssl.SSLContext:
    """Return the TLS the VTN describes; a private key lies in a file only while it is read.

    Raises:
        NotReady: what the VTN gives is no certificate, or no key of it.
    """
    context = ssl.create_default_context(cafile=str(ca_path) if ca_path else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if offer.ca_pem:
            context.load_verify_locations(cadata=offer.ca_pem)
        if offer.cert_pem and offer.key_pem:
            with tempfile.NamedTemporaryFile(mode="w", suffix=".pem") as both:
                both.write(f"{offer.cert_pem}\n{offer.key_pem}\n")
                both.flush()
                context.load_cert_chain(both.name)
    except (ssl.SSLError, ValueError) as error:
        raise NotReady(f"the certificates the VTN gives for its broker cannot be used: {error}") from error
    return context
