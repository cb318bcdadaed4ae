"""What tests of notifications share: a subscriber's web server, certificates, a real MQTT broker, subscriptions."""

import asyncio
import base64
import datetime as dt
import getpass
import hashlib
import ipaddress
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert as upsert

from tests.builders_processes import free_port
from tests.clock import FixedClock
from vpp.domain.openadr3 import VERSION, ObjectDraft, ObjectKind, StoredObject
from vpp.domain.peer import PeerRole, Protocol
from vpp.gateway.notify import (
    AddressRules,
    BrokerAddress,
    CallbackClient,
    CallbackGuard,
    Outbox,
    Policy,
    Wake,
    WebhookWorker,
)
from vpp.peering import NewPeer, NotificationQueue, SqlObjectShelf, Topics, add_peer
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant


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
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until_told(self, count: int, *, within_s: float = 20.0) -> None:
        """Return once so many notifications have come."""
        async with asyncio.timeout(within_s), self.news:
            await self.news.wait_for(lambda: len(self.told) >= count)

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
        async with self.news:
            self.news.notify_all()
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
        text = (
            self.echo_form.format(request.query["echo"]) if "echo" in request.query and "{}" in self.echo_form else ""
        )
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
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@asynccontextmanager
async def emptied_store(database_url: str, redis_url: str) -> AsyncIterator[Store]:
    """A store on a database of several tests, without what the one before left of peers, objects and messages."""
    made = Store(database_url, redis_url)
    async with made.begin() as connection:
        await connection.execute(
            text("truncate notification_change, notification_channel, mqtt_login, openadr3_object, peer cascade")
        )
    try:
        yield made
    finally:
        await made.close()


TENANT = "default"
ALL = ("CREATE", "UPDATE", "DELETE")


class Objects:
    """The objects of our VTN, and clients that own or subscribe to them."""

    def __init__(self, store: Store, clock: FixedClock, topics: Topics | None = None) -> None:
        self.store, self.clock = store, clock
        self.shelf = SqlObjectShelf(store, clock, NotificationQueue(topics))

    async def client(self, name: str, role: PeerRole = PeerRole.VEN, *, granted: Sequence[str] = ()) -> str:
        """Add a peer; returns its client id."""
        async with self.store.begin() as connection:
            await connection.execute(upsert(tenant).values(id=TENANT, name="T").on_conflict_do_nothing())
            new = NewPeer(
                tenant_id=TENANT, protocol=Protocol.OPENADR3, role=role, name=name, client_id=name,
                granted_targets=tuple(granted),
            )  # fmt: skip
            await add_peer(connection, new, at=self.clock.now())
        return name

    async def make(
        self, kind: ObjectKind, body: dict[str, Any], *, client_id: str | None = None, version: str = VERSION
    ) -> StoredObject:
        return await self.shelf.create(self.draft(kind, body, client_id=client_id, version=version))

    @staticmethod
    def draft(
        kind: ObjectKind, body: dict[str, Any], *, client_id: str | None = None, version: str = VERSION
    ) -> ObjectDraft:
        return ObjectDraft(kind=kind, tenant_id=TENANT, body=body, client_id=client_id, api_version=version)

    async def change(self, found: StoredObject, **changes: Any) -> StoredObject:
        """Put an object with other fields in the place of one."""
        body = found.wire() | changes
        return await self.shelf.replace(found.id, self.draft(found.kind, body, client_id=found.client_id))

    async def remove(self, found: StoredObject) -> None:
        await self.shelf.delete(found.kind, found.id, tenant_id=TENANT)

    async def program(self, name: str = "p", targets: Sequence[str] = ()) -> StoredObject:
        return await self.make(ObjectKind.PROGRAM, {"programName": name, "targets": list(targets)})

    async def event(self, program: StoredObject, name: str = "e", targets: Sequence[str] = ()) -> StoredObject:
        body = {"programID": program.id, "eventName": name, "targets": list(targets)}
        return await self.make(ObjectKind.EVENT, body)

    async def ven(self, client_id: str, targets: Sequence[str] = ()) -> StoredObject:
        body = {"venName": f"ven of {client_id}", "targets": list(targets)}
        return await self.make(ObjectKind.VEN, body, client_id=client_id)

    async def subscribe(
        self, client_id: str, url: str, objects: Sequence[str] = ("EVENT",), operations: Sequence[str] = ALL,
        *, token: str | None = None, version: str = VERSION, **more: Any,
    ) -> StoredObject:  # fmt: skip
        wanted = {"objects": list(objects), "operations": list(operations), "callbackUrl": url, "bearerToken": token}
        body = {"clientName": client_id, "objectOperations": [wanted]} | more
        return await self.make(ObjectKind.SUBSCRIPTION, body, client_id=client_id, version=version)


def worker(store: Store, clock: FixedClock, *, deadline_s: float = 5.0, **policy: Any) -> WebhookWorker:
    """One worker that may call this machine, with waits that are not cut at random."""
    rules = Policy(chance=Unchanging(), **policy)
    client = CallbackClient(CallbackGuard(AddressRules(http_on_loopback=True)), deadline_s=deadline_s)
    return WebhookWorker(Outbox(store, clock, rules), client, wake=Wake())


class Unchanging(random.Random):
    """Chance that always takes the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


MOSQUITTO = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
PLUGIN = next(iter(sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))), None)
ADMIN, ADMIN_WORD = "vtn", "a word for tests"


class MqttBroker:
    """A real mosquitto with the dynamic security plugin, keeping its state in a folder; plain and TLS ports."""

    def __init__(self, folder: Path) -> None:
        if MOSQUITTO is None or PLUGIN is None:
            pytest.skip("mosquitto is not on this machine: apt-get install --no-install-recommends mosquitto")
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self.certificates = certificates(folder, "broker.example.com")
        self._process: subprocess.Popen[bytes] | None = None
        salt = os.urandom(12)
        word = hashlib.pbkdf2_hmac("sha512", ADMIN_WORD.encode(), salt, 101)
        kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
        rules = [{"acltype": kind, "topic": "$CONTROL/dynamic-security/#", "allow": True} for kind in kinds]
        admin = {
            "username": ADMIN, "password": base64.b64encode(word).decode(), "salt": base64.b64encode(salt).decode(),
            "iterations": 101, "roles": [{"rolename": "admin"}],
        }  # fmt: skip
        default = {"publishClientSend": False, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
        roles = [{"rolename": "admin", "acls": rules}]
        state = {"clients": [admin], "roles": roles, "defaultACLAccess": default}  # as `mosquitto_ctrl` makes it
        (folder / "users.json").write_text(json.dumps(state))
        (folder / "broker.conf").write_text(
            f"user {getpass.getuser()}\nper_listener_settings false\nallow_anonymous false\n"
            f"plugin {PLUGIN}\nplugin_opt_config_file {folder / 'users.json'}\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 1000\nmax_packet_size 200000\n"
            f"listener {self.port} 127.0.0.1\n"
            f"listener {self.tls_port} 127.0.0.1\ncafile {self.certificates.ca}\n"
            f"certfile {self.certificates.cert}\nkeyfile {self.certificates.key}\n"
        )

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, None, ADMIN, ADMIN_WORD)

    def start(self) -> None:
        assert MOSQUITTO is not None
        with (self.folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self.folder / "broker.conf")], stdout=output, stderr=output
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port), timeout=1):
                return
            time.sleep(0.02)
        raise TimeoutError((self.folder / "broker.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@dataclass(slots=True)
class Listener:
    """An MQTT client, and what it was sent."""

    client: aiomqtt.Client
    got: list[aiomqtt.Message] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int, *, within_s: float = 20.0) -> list[aiomqtt.Message]:
        """Return what came once there is so much of it."""
        async with asyncio.timeout(within_s), self.news:
            await self.news.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def allowed(self, topic: str) -> bool:
        """Whether the broker lets it subscribe."""
        answer = await self.client.subscribe(topic, qos=1)
        return all(code.value < 0x80 if hasattr(code, "value") else code < 0x80 for code in answer)  # type: ignore[union-attr]

    async def read(self) -> None:
        with suppress(aiomqtt.MqttError):
            async for message in self.client.messages:
                self.got.append(message)
                async with self.news:
                    self.news.notify_all()
        self.closed.set()


@asynccontextmanager
async def listener(
    port: int, username: str | None, password: str | None, *, version: str = "3.1.1", session: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Listener]:  # fmt: skip
    """Connect a subscriber; with `session` the broker keeps what is sent while it is away (3.1.1)."""
    newer = version == "5"
    client = aiomqtt.Client(
        "127.0.0.1", port, username=username, password=password, identifier=session, timeout=5, tls_context=tls,
        clean_session=None if newer else session is None,
        protocol=aiomqtt.ProtocolVersion.V5 if newer else aiomqtt.ProtocolVersion.V311,
    )  # fmt: skip
    async with client:
        made = Listener(client)
        reading = asyncio.create_task(made.read())
        try:
            yield made
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
