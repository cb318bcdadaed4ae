"""Our OpenADR 3 VTN on a real database, and clients of it, for tests."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from market.openadr3.vtn.app import VtnParts, create_vtn
from tests.clock import FixedClock
from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3 import Change
from vpp.domain.peer import Caller, PeerRole, TokenGrant
from vpp.peering import Changes, SqlObjectShelf
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

BL_SCOPES = frozenset({"read_all", "read_bl", "write_programs", "write_events", "write_subscriptions", "write_vens"})
VEN_SCOPES = frozenset({"read_targets", "read_ven_objects", "write_reports", "write_subscriptions", "write_vens"})
ORIGIN = "https://vtn.example"
NEW, OLD = "/openadr3/3.1.0", "/openadr3/3.0.1"
START = "2026-08-19T20:00:00Z"


class FixedAuthority:
    """An `Authority` whose tokens are the names of its clients: `bl`, `ven1`, `ven2`, or those a test adds."""

    token_url = f"{ORIGIN}{NEW}/auth/token"

    def __init__(self, tenant_id: str = "acme") -> None:
        self.tenant_id = tenant_id
        self.callers: dict[str, Caller] = {}
        self.add("bl", PeerRole.BL, BL_SCOPES)
        for name in ("ven1", "ven2"):
            self.add(name, PeerRole.VEN, VEN_SCOPES)

    def add(self, name: str, role: PeerRole, scopes: Iterable[str], tenant_id: str | None = None) -> None:
        self.callers[name] = Caller(
            client_id=f"{name}-client", tenant_id=tenant_id or self.tenant_id, role=role, scopes=frozenset(scopes),
            peer_id=f"peer-{name}",
        )  # fmt: skip

    async def grant(self, client_id: str, client_secret: str, scope: str | None) -> TokenGrant | None:
        name = client_id.removesuffix("-client")
        if name not in self.callers or client_secret != f"{name} secret+/:%":
            return None
        scopes = self.callers[name].scopes
        return TokenGrant(access_token=name, expires_in_s=3600, scope=" ".join(sorted(scopes)))

    async def caller(self, access_token: str) -> Caller | None:
        return self.callers.get(access_token)


class KeptLog:
    """A `MessageLog` in memory."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def note(self, **note: Any) -> None:
        self.notes.append(note)


class KeptChanges:
    """`Changes` in memory, which may be told to fail."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.failing = False

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        if self.failing:
            raise RuntimeError("nobody can be told")
        self.changes.append(change)


class KnownCallbacks:
    """A `CallbackCheck` that lets any address of example.com be called."""

    async def check(self, url: str, *, bearer_token: str | None = None) -> None:
        if "example.com" not in url:
            raise InvalidRequest("callbackUrl", url, "an address of example.com")


class Client:
    """A client of the VTN: what it sends carries its token, and `json` is what came back."""

    def __init__(self, http: httpx.AsyncClient, token: str | None, base: str = NEW) -> None:
        self._http = http
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self.base = base

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = self._headers | more.pop("headers", {})
        return await self._http.request(method, self.base + path, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.send("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        answer = await self.send("POST", path, json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def put(self, path: str, body: Any) -> dict[str, Any]:
        answer = await self.send("PUT", path, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def status(self, method: str, path: str, **more: Any) -> int:
        return (await self.send(method, path, **more)).status_code


class Vtn:
    """The VTN with everything around it that a test may look at, for one tenant."""

    def __init__(self, store: Store, clock: FixedClock, changes: Changes | None = None, **parts: Any) -> None:
        self.store, self.clock, self.tenant = store, clock, f"t-{uuid4().hex}"
        self.changes, self.log, self.authority = KeptChanges(), KeptLog(), FixedAuthority(self.tenant)
        self.shelf = SqlObjectShelf(store, clock, changes or self.changes)
        defaults: dict[str, Any] = {
            "shelf": self.shelf, "authority": self.authority, "clock": clock, "log": self.log,
            "callbacks": KnownCallbacks(),
        }  # fmt: skip
        made = create_vtn(VtnParts(**(defaults | parts)))
        self.versions = {f"/openadr3/{version}": app for version, app in made.items()}
        self.app = FastAPI()
        for path, app in self.versions.items():
            self.app.mount(path, app)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ORIGIN)

    def client(self, token: str | None, base: str = NEW) -> Client:
        return Client(self.http, token, base)

    @property
    def bl(self) -> Client:
        return self.client("bl")

    @property
    def ven1(self) -> Client:
        return self.client("ven1")

    @property
    def ven2(self) -> Client:
        return self.client("ven2")

    async def close(self) -> None:
        await self.http.aclose()


@asynccontextmanager
async def running_vtn(database_url: str, clock: FixedClock, **parts: Any) -> AsyncIterator[Vtn]:
    """A VTN in this process, with a new tenant to keep objects for."""
    store = Store(database_url, "redis://127.0.0.1:1")
    vtn = Vtn(store, clock, **parts)
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id=vtn.tenant, name="Acme"))
    try:
        yield vtn
    finally:
        await vtn.close()
        await store.close()


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """An application behind a real socket; yields its address."""
    # named TCP: of a socket that is not, asyncio leaves on the delay of small packets, 40 ms a request
    with socket.socket(proto=socket.IPPROTO_TCP) as taking:
        taking.bind(("127.0.0.1", 0))
        taking.listen()
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[taking]))
        try:
            yield f"http://127.0.0.1:{taking.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def event_body(program_id: str, **more: Any) -> dict[str, Any]:
    """One price for one hour from `START`."""
    body = {
        "programID": program_id,
        "intervalPeriod": {"start": START, "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [0.17]}]}],
    }
    return body | more


def ven_body(client: str = "ven1-client", **more: Any) -> dict[str, Any]:
    """A ven as business logic writes it."""
    return {"objectType": "BL_VEN_REQUEST", "clientID": client, "venName": f"{client}'s"} | more


def subscription_body(**more: Any) -> dict[str, Any]:
    """A wish to be told of new events."""
    operation = {"objects": ["EVENT"], "operations": ["CREATE"], "callbackUrl": "https://example.com/hook"}
    return {"clientName": "me", "objectOperations": [operation]} | more


def report_body(event_id: str, **more: Any) -> dict[str, Any]:
    """A reading of one resource."""
    interval = {"id": 0, "payloads": [{"type": "USAGE", "values": [1.5]}]}
    return {
        "eventID": event_id,
        "clientName": "me",
        "resources": [{"resourceName": "r1", "intervals": [interval]}],
    } | more


def at_of(text: str) -> datetime:
    """The instant a wire text states."""
    return datetime.fromisoformat(text)
