"""Builders for our OpenADR 3 VEN: an independent VTN written from the definition, as awkward as one likes, and a VEN.

The VTN shares no code with ours. Its switches are deviations met at real servers.
"""

import asyncio
import base64
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from market.openadr3.client import Openadr3Client, Where
from market.openadr3.client_auth import Credential
from market.openadr3.client_http import Wire
from market.openadr3.client_mqtt import MqttEar
from market.openadr3.events import from_openadr3, to_openadr3
from tests.builders_gateway import FlatProgram, Fleet
from vpp.domain.grid_event import GridEvent, Unsaid
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportValue, VenWanted
from vpp.gateway import PassOn
from vpp.gateway.ven3 import About, Openadr3Ven, Ven3Terms
from vpp.ports import Clock, MessageLog
from vpp.store.engine import Store
from vpp.store.tables.openadr3_ven import openadr3_event_seen

CLIENT, SECRET = "ven_client", "999"
UNITS = {"USAGE": "KWH", "BASELINE": "KWH", "DEMAND": "KW"}
KINDS = ("programs", "events", "reports", "subscriptions", "vens", "resources")


@dataclass(slots=True)
class Deviations:
    """What this VTN does otherwise than the definition says."""

    form_only: bool = False
    basic_only: bool = False
    no_expires_in: bool = False
    expires_in: int = 3600
    no_auth_server: bool = False
    naive_stamps: bool = False
    refuses_nulls: bool = False
    ignores_skip: bool = False
    ignores_limit: bool = False
    page_cap: int = 50
    tells_twice: bool = False
    no_vens: bool = False
    hides_deleted: bool = False
    clock_ahead: timedelta = timedelta(0)


@dataclass(slots=True)
class FakeVtn:
    """A VTN of one version, with what it heard and ways to make it fail."""

    clock: Clock
    version: str = "3.1.0"
    odd: Deviations = field(default_factory=Deviations)
    url: str = ""
    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    requests: list[str] = field(default_factory=list)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    granted: int = 0
    failing: int = 0
    retry_after: str | None = None
    lose_reply_to: set[str] = field(default_factory=set)
    slow_s: float = 0.0
    garbage: bytes | None = None
    hidden: set[str] = field(default_factory=set)
    stale: dict[str, dict[str, Any]] = field(default_factory=dict)
    mqtt: dict[str, Any] | None = None
    made: int = 0

    def put(self, kind: str, body: Mapping[str, Any], object_id: str | None = None) -> str:
        """Create or replace an object as business logic would; returns its id."""
        self.made += object_id is None
        own_id = object_id or f"{kind[:-1]}-{self.made}"
        now = self.clock.now() + self.odd.clock_ahead
        stamp = now.strftime("%Y-%m-%d %H:%M:%S.%f") if self.odd.naive_stamps else now.isoformat()
        before = self.objects[kind].get(own_id, {})
        stamps = {"createdDateTime": before.get("createdDateTime", stamp), "modificationDateTime": stamp}
        self.objects[kind][own_id] = dict(body) | stamps | {"id": own_id, "objectType": kind[:-1].upper()}
        return own_id

    def event(self, *values: float, event_id: str | None = None, **more: Any) -> str:
        """A DISPATCH_SETPOINT event in kW, an hour for each value, an hour from now."""
        start_at = more.pop("start_at", None) or self.clock.now() + timedelta(hours=1)
        body = {
            "programID": more.pop("program_id", None) or next(iter(self.objects["programs"]), "none"),
            "intervalPeriod": {"start": start_at.isoformat(), "duration": "PT1H"},
            "payloadDescriptors": [{"payloadType": "DISPATCH_SETPOINT", "units": "KW"}],
            "intervals": [
                {"id": n, "payloads": [{"type": "DISPATCH_SETPOINT", "values": [value]}]}
                for n, value in enumerate(values)
            ],
        }
        return self.put("events", body | more, event_id)

    def delete(self, event_id: str) -> None:
        del self.objects["events"][event_id]

    def count(self, request: str) -> int:
        return sum(each == request for each in self.requests)

    @property
    def reports(self) -> list[dict[str, Any]]:
        return list(self.objects["reports"].values())


@asynccontextmanager
async def fake_vtn(
    clock: Clock, *, version: str = "3.1.0", odd: Deviations | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeVtn]:
    """Serve a VTN with one programme, `Flat`, on loopback."""
    vtn = FakeVtn(clock, version, odd or Deviations())
    vtn.put("programs", {"programName": "Flat"})
    app = web.Application(middlewares=[_awkward(vtn)])
    app.router.add_route("*", "/{path:.*}", partial(_serve, vtn))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    vtn.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield vtn
    finally:
        await runner.cleanup()


def _awkward(vtn: FakeVtn) -> Any:
    @web.middleware
    async def awkward(request: web.Request, handler: Any) -> web.StreamResponse:
        name = f"{request.method} {request.path.removeprefix('/' + vtn.version)}"
        vtn.requests.append(name)
        if vtn.slow_s:
            await asyncio.sleep(vtn.slow_s)
        if vtn.failing and "/auth/" not in name:
            vtn.failing -= 1
            headers = {"Retry-After": vtn.retry_after} if vtn.retry_after else {}
            return _problem(503 if vtn.retry_after else 500, "try later", headers)
        response: web.StreamResponse = await handler(request)
        if name in vtn.lose_reply_to and request.transport is not None:
            vtn.lose_reply_to.discard(name)
            request.transport.abort()
        if vtn.garbage is not None and "/auth/" not in name:
            return web.Response(body=vtn.garbage, content_type="application/json")
        return response

    return awkward


def _problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"title": title, "status": status}, status=status, headers=headers)


async def _serve(vtn: FakeVtn, request: web.Request) -> web.StreamResponse:
    version, _, path = request.path.lstrip("/").partition("/")
    if version != vtn.version:
        return _problem(404, "Unrecognized URL")
    if path == "auth/server" and vtn.version == "3.1.0" and not vtn.odd.no_auth_server:
        return web.json_response({"tokenURL": f"{vtn.url}/{vtn.version}/auth/token"})
    if path == "auth/token" and request.method == "POST":
        return await _token(vtn, request)
    if request.headers.get("Authorization", "").removeprefix("Bearer ") not in vtn.tokens:
        return _problem(401, "no such token")
    if path == "notifiers" and vtn.version == "3.1.0":
        return web.json_response({"WEBHOOK": True} | ({"MQTT": vtn.mqtt} if vtn.mqtt else {}))
    if path.startswith("notifiers/mqtt/topics/") and vtn.mqtt:
        topic = path.removeprefix("notifiers/mqtt/topics/")
        return web.json_response({"topics": {"ALL": f"{topic}/+", "UPDATE": f"{topic}/update", "DELETE": f"{topic}/d"}})
    return await _objects(vtn, request, path.split("/"))


async def _token(vtn: FakeVtn, request: web.Request) -> web.Response:
    form = await request.post()
    basic = request.headers.get("Authorization", "").removeprefix("Basic ")
    shown = (form.get("client_id"), form.get("client_secret"))
    if basic and not vtn.odd.form_only:
        shown = tuple(base64.b64decode(basic).decode().split(":"))  # type: ignore[assignment]
    elif vtn.odd.basic_only:
        shown = (None, None)
    if form.get("grant_type") != "client_credentials" or shown != (CLIENT, SECRET):
        return web.json_response({"error": "invalid_client"}, status=401 if basic else 400)
    vtn.granted += 1
    token = base64.b64encode(f"{CLIENT}:{SECRET}:{vtn.granted}".encode()).decode()
    vtn.tokens.add(token)
    said = {"access_token": token, "token_type": "Bearer"}
    return web.json_response(said if vtn.odd.no_expires_in else said | {"expires_in": vtn.odd.expires_in})


async def _objects(vtn: FakeVtn, request: web.Request, parts: list[str]) -> web.StreamResponse:
    body: dict[str, Any] = {}
    if request.method in ("POST", "PUT"):
        body = await request.json()
        if vtn.odd.refuses_nulls and _has_null(body):
            return _problem(400, "null is not of type string")
    if vtn.version == "3.0.1" and parts[0] == "vens" and len(parts) > 2:
        body |= {"venID": parts[1]}
        parts = parts[2:]
    elif parts[0] not in KINDS or (parts[0] == "resources" and vtn.version == "3.0.1"):
        return _problem(404, "Unrecognized URL")
    kind, object_id = parts[0], parts[1] if len(parts) > 1 else None
    return _on_object(vtn, request, kind, object_id, body)


def _on_object(
    vtn: FakeVtn, request: web.Request, kind: str, object_id: str | None, body: dict[str, Any]
) -> web.StreamResponse:
    store = vtn.objects[kind]
    if request.method in ("POST", "PUT"):
        vtn.bodies.append((f"{request.method} {kind}", body))
    if request.method == "POST":
        return _create(vtn, kind, body)
    if object_id is None:
        return _list(vtn, request, kind)
    if object_id not in store:
        return _problem(403 if vtn.odd.hides_deleted else 404, "Not Found")
    if request.method == "DELETE":
        return web.json_response(store.pop(object_id))
    if request.method == "PUT":
        vtn.put(kind, body, object_id)
    return web.json_response(store[object_id])


def _create(vtn: FakeVtn, kind: str, body: dict[str, Any]) -> web.Response:
    if kind == "vens" and vtn.odd.no_vens:
        return _problem(403, "not yours to write")
    name = {"vens": "venName", "resources": "resourceName"}.get(kind)
    if name and any(each.get(name) == body.get(name) for each in vtn.objects[kind].values()):
        return _problem(409, f"{name} is taken")
    if kind == "reports" and body.get("eventID") not in vtn.objects["events"]:
        return _problem(404, "no such event")
    return web.json_response(vtn.objects[kind][vtn.put(kind, body)], status=201)


def _list(vtn: FakeVtn, request: web.Request, kind: str) -> web.Response:
    query = request.query
    wanted = query.getall("targets", [])
    found = [vtn.stale.get(key, each) for key, each in vtn.objects[kind].items() if key not in vtn.hidden]
    if kind == "events" and vtn.version == "3.1.0":
        found = [e for e in found if not e.get("targets") or set(wanted) & set(e["targets"])]
    for key in ("venName", "resourceName", "eventID", "venID"):
        if key in query:
            found = [each for each in found if each.get(key) == query[key]]
    if vtn.odd.tells_twice:
        found += found
    skip = 0 if vtn.odd.ignores_skip else int(query.get("skip", 0))
    limit = len(found) if vtn.odd.ignores_limit else min(int(query.get("limit", 50)), vtn.odd.page_cap)
    return web.json_response(found[skip : skip + limit])


def _has_null(body: Any) -> bool:
    if isinstance(body, dict):
        return any(value is None or _has_null(value) for value in body.values())
    return isinstance(body, list) and any(_has_null(each) for each in body)


class NullLog:
    """A message log that keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[dict[str, Any]] = []

    def note(self, **said: Any) -> None:
        self.noted.append(said)


class Translator:
    """`EventTranslator`, of which the VEN needs the reading half."""

    def from_openadr3(
        self, body: Mapping[str, Any], *, modification_number: int
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        return from_openadr3(body, modification_number=modification_number)

    def to_openadr3(self, event: GridEvent, *, program_id: str) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
        return to_openadr3(event, program_id=program_id)

    def unsaid_in_openadr2(self, event: GridEvent) -> tuple[Unsaid, ...]:
        return ()


@dataclass(slots=True)
class SetFigures:
    """Figures as the test sets them, of all together and of `sites`; a type not set is offered by nobody."""

    values_of: dict[str, float | str | None] = field(default_factory=dict)
    sites: dict[str, dict[str, float]] = field(default_factory=dict)
    asked: list[About] = field(default_factory=list)

    @property
    def offered(self) -> frozenset[str]:
        return frozenset(self.values_of)

    @property
    def each(self) -> frozenset[str]:
        return frozenset(self.sites)

    async def together(
        self, connection: AsyncConnection, payload_type: str, about: About, intervals: Sequence[Interval]
    ) -> dict[Interval, ReportValue]:
        self.asked.append(about)
        value = self.values_of.get(payload_type)
        if value is None:
            return {}
        return {interval: ReportValue(payload_type, value, UNITS.get(payload_type)) for interval in intervals}

    async def of_each(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> dict[str, ReportValue]:
        return {
            site_id: ReportValue(payload_type, value, UNITS.get(payload_type))
            for site_id, value in self.sites[payload_type].items()
            if site_id in {site.id for site in about.sites}
        }


@asynccontextmanager
async def client_of(
    clock: Clock,
    url: str,
    *,
    version: str | None = None,
    secret: str = SECRET,
    timeout_s: float = 5.0,
    log: MessageLog | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    client_id: str = CLIENT,
    **files: Path,
) -> AsyncIterator[Openadr3Client]:
    """Our client at a VTN; `files` are those of TLS."""
    wire = Wire("peer-1", log or NullLog(), timeout_s=timeout_s, transport=transport, **files)
    client = Openadr3Client("openadr3:utility", wire, clock, Where(url, version), Credential(client_id, secret))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def running_ven3(
    store: Store,
    clock: Clock,
    url: str,
    *,
    fleet: Fleet | None = None,
    figures: SetFigures | None = None,
    wake: asyncio.Event | None = None,
    hears: bool = False,
    wanted: VenWanted | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    secret: str = SECRET,
    client_id: str = CLIENT,
    pass_on: PassOn | None = None,
    **terms: Any,
) -> AsyncIterator[Openadr3Ven]:
    """A VEN as a process would make it; leaving the block is its end."""
    async with client_of(clock, url, transport=transport, secret=secret, client_id=client_id) as client:
        yield Openadr3Ven(
            store,
            clock,
            client,
            Ven3Terms(
                tenant_id="t1",
                wanted=wanted or VenWanted(name="vpp", resources=("fleet",)),
                program_of=terms.pop("program_of", {"Flat": "flat"}),
                seed=7,
                **terms,
            ),
            programs={"flat": FlatProgram()},
            decide=(fleet or Fleet()).decide,
            translator=Translator(),
            figures=figures or SetFigures(),
            wake=wake,
            ear=MqttEar(client, client_id=client_id) if hears else None,
            pass_on=pass_on,
        )


async def only_event(store: Store) -> dict[str, Any]:
    """The one row of events seen, as a mapping."""
    async with store.begin() as connection:
        return dict((await connection.execute(select(openadr3_event_seen))).mappings().one())


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[int]:
    """A real MQTT broker on loopback, by its port; the test skips where there is none to start."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    process = await asyncio.create_subprocess_exec(
        found, "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(5):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.01)
        yield port
    finally:
        process.terminate()
        await process.wait()
