"""Builders for tests of our OpenADR 2.0b VTN: a server on a store, VENs that speak to it, events for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from market.openadr2.codec import Signer, decode, encode
from market.openadr2.rendering import can_say
from market.openadr2.vtn import PREFIX, Openadr2Vtn, SharedReplay, VtnOptions
from tests.builders_processes import eventually
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Unsaid
from vpp.domain.openadr2 import (
    CreatedEvents,
    CreatedRegistration,
    CreateRegistration,
    DistributedEvent,
    DistributeEvents,
    EventOpt,
    Openadr2Message,
    Poll,
    Response,
)
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.vtn import VtnDesk
from vpp.peering import NewPeer, add_peer, cancel, modify, publish
from vpp.ports import Clock
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

CONTEXT = "http://utility.example/flat"
VTN_ID = "Vtn1"


class NoTranslator:
    """What publishing asks for; what OpenADR 3 cannot say is none of these tests' business."""

    def to_openadr3(self, event: GridEvent, *, program_id: str) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
        return {}, ()

    def from_openadr3(
        self, body: Mapping[str, Any], *, modification_number: int
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        raise NotImplementedError

    def unsaid_in_openadr2(self, event: GridEvent) -> tuple[Unsaid, ...]:
        return ()


@dataclass(slots=True)
class Notes:
    """A message log that only keeps kinds and codes, whose they are, and summaries where there are any."""

    kinds: list[tuple[str, str, str]] = field(default_factory=list)
    summaries: list[tuple[str, str]] = field(default_factory=list)
    peers: list[tuple[str, str | None]] = field(default_factory=list)

    def note(
        self, *, direction: Any, kind: str, status: str, summary: str = "", peer: str | None = None, **_: Any
    ) -> None:
        self.kinds.append((direction.value, kind, status))
        self.peers.append((kind, peer))
        if summary:
            self.summaries.append((kind, summary))


@dataclass(slots=True)
class Vtn:
    """A running VTN and the way to it."""

    desk: VtnDesk
    server: Openadr2Vtn
    notes: Notes
    url: str

    async def heard(self, condition: Callable[[], bool]) -> None:
        """Wait until what was told by NOTIFY has arrived."""

        async def is_so() -> bool:
            return condition()

        assert await eventually(is_so, 5.0)

    async def knows(self, event: GridEvent) -> None:
        """Wait until the VTN holds this version of an event."""
        number = event.modification_number

        def is_known() -> bool:
            known = self.desk.room.view.events.get(event.event_id)
            return known is not None and known.modification_number >= number

        await self.heard(is_known)


@asynccontextmanager
async def running_vtn(
    store: Store,
    clock: Clock,
    *,
    tls: SSLContext | None = None,
    signer: Signer | None = None,
    replay: SharedReplay | None = None,
    must_show_certificate: bool = False,
    **options: Any,
) -> AsyncIterator[Vtn]:
    """Serve a VTN on loopback, without limits unless they are given; leaving the block is its end."""
    desk = VtnDesk(
        store,
        clock,
        tenant_id="t1",
        vtn_id=VTN_ID,
        must_show_certificate=must_show_certificate,
        can_say=can_say,
    )
    notes = Notes()
    limits = {"ven_per_s": 0.0, "stranger_per_s": 0.0, "address_per_s": 0.0}
    given: dict[str, Any] = limits | options
    server = Openadr2Vtn(desk, clock, VtnOptions(**given), messages=notes, signer=signer, replay=replay)
    await desk.open()
    hearing = asyncio.create_task(desk.run())
    await server.start(host="127.0.0.1", port=0, tls=tls)
    scheme = "http" if tls is None else "https"
    try:
        yield Vtn(desk, server, notes, f"{scheme}://127.0.0.1:{server.port}{PREFIX}")
    finally:
        await server.stop()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def add_ven(store: Store, clock: Clock, name: str, **fields: Any) -> Peer:
    """A VEN that may come to our VTN."""
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id="t1", name="Tenant").on_conflict_do_nothing())
        new = NewPeer(tenant_id="t1", protocol=Protocol.OPENADR2, role=PeerRole.VEN, name=name, **fields)
        peer, _ = await add_peer(connection, new, at=clock.now())
    return peer


def an_event(event_id: str, start_at: datetime, *values: float, **fields: Any) -> GridEvent:
    """LOAD_DISPATCH in kW, an interval of an hour for each value."""
    hour = timedelta(hours=1)
    series = Series(
        series_id="s1",
        type=SeriesType.DISPATCH_SETPOINT,
        name="LOAD_DISPATCH/setpoint",
        unit="KW",
        intervals=tuple(
            SeriesInterval(start_at=start_at + n * hour, duration=hour, values=(value,), uid=str(n))
            for n, value in enumerate(values or (100.0,))
        ),
    )
    told: dict[str, Any] = {
        "event_id": event_id,
        "modification_number": 0,
        "program": CONTEXT,
        "start_at": start_at,
        "duration": max(1, len(values)) * hour,
        "series": (series,),
        "created_at": start_at - timedelta(days=1),
    }
    return GridEvent(**(told | fields))


async def tell(store: Store, clock: Clock, event: GridEvent) -> GridEvent:
    """Publish an event."""
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id="t1", name="Tenant").on_conflict_do_nothing())
        told = await publish(connection, event, tenant_id="t1", at=clock.now(), translator=NoTranslator())
    return told.event


async def change(store: Store, clock: Clock, event: GridEvent, **fields: Any) -> GridEvent:
    """Modify an event."""
    async with store.begin() as connection:
        told = await modify(
            connection, event.event_id, lambda stands: replace(stands, **fields),
            tenant_id="t1", at=clock.now(), translator=NoTranslator(),
        )  # fmt: skip
    return told.event


async def withdraw(store: Store, clock: Clock, event: GridEvent) -> GridEvent:
    """Cancel an event."""
    async with store.begin() as connection:
        told = await cancel(connection, event.event_id, tenant_id="t1", at=clock.now(), translator=NoTranslator())
    return told.event


@dataclass(slots=True)
class RawVen:
    """A VEN that says exactly what the test has it say."""

    url: str
    http: httpx.AsyncClient
    name: str = ""
    ven_id: str = ""
    registration_id: str = ""
    signer: Signer | None = None
    status: int = 0

    async def post(self, service: str, body: bytes, **headers: str) -> httpx.Response:
        """Post bytes."""
        return await self.http.post(f"{self.url}/{service}", content=body, headers=headers)

    async def say(self, service: str, message: Openadr2Message) -> Any:
        """Post a message and return the answer."""
        response = await self.post(service, encode(message, signer=self.signer))
        self.status = response.status_code
        return decode(response.content).message

    async def register(self, **fields: Any) -> CreatedRegistration:
        """Register and remember the ids."""
        given: dict[str, Any] = {"request_id": "reg-1", "ven_name": self.name} | fields
        answer: CreatedRegistration = await self.say("EiRegisterParty", CreateRegistration(**given))
        self.ven_id, self.registration_id = answer.ven_id or "", answer.registration_id or ""
        return answer

    async def poll(self) -> Any:
        """Poll once."""
        return await self.say("OadrPoll", Poll(ven_id=self.ven_id))

    async def told(self) -> list[tuple[str, int, str]]:
        """Poll once and return (event, modification, status) of what is told; empty where it is nothing."""
        return listed(await self.poll())

    async def answer(
        self, event_id: str, modification_number: int = 0, *, opt_in: bool = True, **fields: Any
    ) -> Response:
        """Send oadrCreatedEvent for one event."""
        opt = EventOpt(
            event_id=event_id, modification_number=modification_number, request_id="q", opt_in=opt_in, **fields
        )
        created = CreatedEvents(response=Response(request_id="q"), ven_id=self.ven_id, opts=(opt,))
        response: Response = (await self.say("EiEvent", created)).response
        return response


def listed(message: Any) -> list[tuple[str, int, str]]:
    """What a distribution says of each event; of another message, nothing."""
    if not isinstance(message, DistributeEvents):
        return []
    return [_brief(each) for each in message.events]


def _brief(each: DistributedEvent) -> tuple[str, int, str]:
    return (each.event.event_id, each.event.modification_number, each.status.value)


@asynccontextmanager
async def raw_ven(url: str, name: str, *, register: bool = True, **options: Any) -> AsyncIterator[RawVen]:
    """A VEN with a connection of its own, registered unless told otherwise."""
    signer = options.pop("signer", None)
    async with httpx.AsyncClient(timeout=10, trust_env=False, **options) as http:
        ven = RawVen(url, http, name, signer=signer)
        if register:
            assert (await ven.register()).response.code == 200
        yield ven


_numbers = count(1)
_OURS = (
    "vtn2_opt", "vtn2_report_value", "vtn2_report_cursor", "vtn2_report_request", "vtn2_report_offer", "vtn2_outbox",
    "vtn2_delivery", "vtn2_registration", "grid_event_version", "grid_event", "message", "peer",
)  # fmt: skip


def own_database(servers: ServerUrls, template: str) -> Iterator[str]:
    """The address of a migrated database that the tests of one module share."""
    name = f"vpp_vtn2_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(f"create database {name} template {template}".encode())
    yield urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def swept_store(database_url: str, redis_url: str) -> AsyncIterator[Store]:
    """A store on a database in which nothing of VENs and events is left of the test before."""
    store = Store(database_url, redis_url)
    async with store.begin() as connection:
        for table in _OURS:
            await connection.execute(text(f"delete from {table}"))
    try:
        yield store
    finally:
        await store.close()
