"""What tests of notifications share: a subscriber's web server, certificates, a real MQTT broker, subscriptions."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Received:
    """One request as a subscriber's server saw it."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    server_name: str | None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """A subscriber's server: says back the challenge, keeps what it is told, and answers as it is asked to.

    `answers`: statuses of the next requests, then 200. `behaviour`: "", "silent", "dribble" or "endless".
    """

    port: int = 0
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    echo_form: str = "{}"
    behaviour: str = ""
    slow_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    server_names: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/callback"

    @property
    def told(self) -> list[Received]:
        """Notifications, without challenges."""
        return [each for each in self.requests if each.method == "POST"]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name = self.server_names[-1] if self.server_names else None
        self.requests.append(
            Received(request.method, request.host, request.path, dict(request.query),
                     {key.lower(): value for key, value in request.headers.items()}, await request.read(), name)
        )  # fmt: skip
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.slow_s)
            if self.behaviour:
                return await self._misbehave(request)
        finally:
            self.at_once -= 1
        status = self.answers.pop(0) if self.answers else 200
        headers = {"location": "/elsewhere"} if 300 <= status < 400 else {}
        text = self.echo_form.format(request.query["echo"]) if "echo" in request.query and "{}" in self.echo_form else ""
        if "echo" in request.query and not text:
            text = self.echo_form
        return web.Response(status=status, text=text if status not in (204, 304) else None, headers=headers)

    async def _misbehave(self, request: web.Request) -> web.StreamResponse:
        if self.behaviour == "silent":
            await asyncio.sleep(30)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * (65536 if self.behaviour == "endless" else 1))
            await asyncio.sleep(0 if self.behaviour == "endless" else 0.05)


@asynccontextmanager
async def receiver(*, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """Serve a subscriber on this machine."""
    made = Receiver(scheme="https" if tls else "http")
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: made.server_names.append(name)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of a certificate authority and of one server it vouches for."""

    ca: Path
    cert: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context


def certificates(folder: Path, *names: str) -> Certificates:
    """Make a certificate authority, and a server's certificate for these names and for 127.0.0.1."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    now = dt.datetime.now(dt.UTC)

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "localhost")])
    alternative = [x509.DNSName(name) for name in (*names, "localhost")]
    server = builder(subject, key.public_key(), ca=False).add_extension(
        x509.SubjectAlternativeName([*alternative, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    )
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    made.ca.write_bytes(
        builder(authority, ca_key.public_key(), ca=True)
        .sign(ca_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    made.cert.write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made
