"""Builders for gateway tests: a stock openleadr VTN that can be told to fail, and a VEN on a store."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from aiohttp import web
from openleadr import OpenADRServer, objects
from openleadr.messaging import create_message
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from market.openadr2 import Openadr2Client
from vpp.clock import SystemClock
from vpp.commitments import Decision
from vpp.domain.commitment import Commitment
from vpp.domain.settlement import MonthlyPay, ProgramTerms
from vpp.domain.time import Interval
from vpp.gateway import Openadr2Ven, PassOn, Telemetry, VtnTerms
from vpp.ports import Clock, VenClient
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.fleet import program_terms

CONTEXT = "http://utility.example/flat"
PREFIX = "/OpenADR2/Simple/2.0b"
VEN_ID = "venA"


class FlatProgram:
    """A programme that takes any window and owes 100 kW a level."""

    name = "flat"
    title = "Flat"
    measurement = "submeter"

    def refuse_reason(self, window: Interval, time_zone: str, terms: ProgramTerms) -> str | None:
        return None

    def kw_of_level(self, level: float, terms: ProgramTerms) -> float:
        return 100.0 * level

    def monthly_pay(self, month: date, events: Any, terms: ProgramTerms) -> MonthlyPay:
        raise NotImplementedError


@dataclass(slots=True)
class StockVtn:
    """openleadr's own server, with what it heard and a way to make it fail."""

    server: OpenADRServer
    url: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)
    values: list[tuple[datetime, float]] = field(default_factory=list)
    registrations: int = 0
    known: bool = True
    lose_reply_to: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def opts(self) -> list[tuple[str, int, str]]:
        """(event, modification, opt) as heard."""
        return [(str(r["event_id"]), r["modification_number"], r["opt_type"]) for r in self.heard]

    def announce(self, event: objects.Event) -> None:
        period = event.active_period
        self.server.add_raw_event(VEN_ID, event, callback=_hear)
        event.active_period = period  # the server replaces it by one without the tolerance

    def change(self, event: objects.Event, *values: float) -> None:
        """Modify an event, as users of openleadr have to: by hand."""
        for interval, value in zip(event.event_signals[0].intervals, values, strict=True):
            interval.signal_payload = value
        event.event_descriptor.modification_number += 1
        self.tell_again()

    def cancel(self, event: objects.Event) -> None:
        self.server.cancel_event(VEN_ID, event.event_descriptor.event_id)

    def drop(self, event: objects.Event) -> None:
        self.server.events[VEN_ID].remove(event)

    def tell_again(self) -> None:
        self.server.events_updated[VEN_ID] = True


def _hear(ven_id: str, event_id: str, opt_type: str) -> None:
    """The server insists on a callback."""


@asynccontextmanager
async def stock_vtn(
    *,
    port: int = 0,
    reports_every: timedelta | None = None,
    prepare: Callable[[OpenADRServer], None] | None = None,
) -> AsyncIterator[StockVtn]:
    """Serve a stock VTN on loopback; `prepare` may change it before it listens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", web.NotAppKeyWarning)  # the library's way to use aiohttp
        server = OpenADRServer(vtn_id="Utility1", show_fingerprint=False, requested_poll_freq=timedelta(seconds=1))
    vtn = StockVtn(server)
    for service in server.services.values():
        service._create_message = partial(create_message, cert=None, key=None)
        service.ven_lookup = lambda ven_id: {"registration_id": "regA"} if vtn.known else None
    server.add_handler("on_create_party_registration", partial(_register, vtn))
    server.add_handler("on_register_report", _report_handler(vtn, reports_every))
    handlers = server.services["event_service"].handlers
    handlers["oadrCreatedEvent"] = partial(_created, vtn, handlers["oadrCreatedEvent"])
    server.app.middlewares.append(_losing(vtn))
    if prepare is not None:
        prepare(server)
    runner = web.AppRunner(server.app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    vtn.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}"
    try:
        yield vtn
    finally:
        await runner.cleanup()


def _register(vtn: StockVtn, payload: dict[str, Any]) -> tuple[str, str]:
    vtn.registrations += 1
    vtn.known = True
    vtn.registered.set()
    return VEN_ID, "regA"


async def _created(vtn: StockVtn, original: Any, payload: dict[str, Any]) -> Any:
    vtn.heard += payload["event_responses"]
    vtn.answered.set()
    return await original(payload)


def _report_handler(vtn: StockVtn, every: timedelta | None) -> Any:
    def on_register_report(
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> tuple[Callable[[Any], None], timedelta, timedelta] | None:
        if every is None or measurement not in ("powerReal", "RealPower"):
            return None
        return vtn.values.extend, every, every

    return on_register_report


def _losing(vtn: StockVtn) -> Any:
    @web.middleware
    async def lose(request: web.Request, handler: Any) -> web.StreamResponse:
        service = request.path.rpartition("/")[2]
        vtn.requests.append(service)
        response: web.StreamResponse = await handler(request)
        if service in vtn.lose_reply_to and request.transport is not None:
            request.transport.abort()
        return response

    return lose


def dispatch_event(
    event_id: str, start_at: datetime, *values: float, hours: float = 1.0, startafter: timedelta | None = None
) -> objects.Event:
    """A LOAD_DISPATCH event in kW with one interval for each value."""
    length = timedelta(hours=hours)
    measurement = objects.Measurement(
        name="powerReal",
        description="RealPower",
        unit="W",
        scale="k",
        power_attributes=objects.PowerAttributes(hertz=60, voltage=240, ac=True),
    )
    signal = objects.EventSignal(
        intervals=[
            objects.Interval(dtstart=start_at + n * length, duration=length, signal_payload=value)
            for n, value in enumerate(values)
        ],
        signal_name="LOAD_DISPATCH",
        signal_type="setpoint",
        signal_id="s1",
        measurement=measurement,
    )
    period = objects.ActivePeriod(
        dtstart=start_at,
        duration=len(values) * length,
        tolerance={"startafter": startafter} if startafter else None,
    )
    descriptor = objects.EventDescriptor(
        event_id=event_id, modification_number=0, market_context=CONTEXT, event_status="far"
    )
    return objects.Event(
        event_descriptor=descriptor,
        event_signals=[signal],
        targets=[objects.Target(ven_id=VEN_ID)],
        active_period=period,
    )


async def add_tenant(store: Store) -> None:
    """A tenant with a contract in the flat programme."""
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id="t1", name="Tenant"))
        await connection.execute(
            insert(program_terms).values(
                tenant_id="t1", program="flat", nominated_kw=Decimal(500), currency="USD", options={}
            )
        )


@dataclass(slots=True)
class Fleet:
    """What the fleet would say: it covers up to `capable_kw` and delivers `delivered_kw`."""

    capable_kw: float = 1000.0
    delivered_kw: float | None = 480.0
    asked: int = 0

    async def decide(self, connection: AsyncConnection, commitment: Commitment) -> Decision:
        self.asked += 1
        wanted_kw = max(target.target_kw for target in commitment.targets)
        short = wanted_kw > self.capable_kw
        return Decision(not short, f"{self.capable_kw:g} of {wanted_kw:g} kW are there" if short else "")

    async def delivered(self, connection: AsyncConnection, at: datetime) -> float | None:
        return self.delivered_kw


class MortalStore(Store):
    """A store on the database of another that fails after so many transactions, as if its process were killed."""

    def __init__(self, store: Store, left: int = 1000) -> None:
        self._store, self.left = store, left

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        if self.left <= 0:
            raise OSError("this process was killed")
        self.left -= 1
        async with self._store.begin() as connection:
            yield connection


@asynccontextmanager
async def running_ven(
    store: Store,
    clock: Clock,
    url: str,
    *,
    fleet: Fleet | None = None,
    poll_s: float = 60.0,
    peer: str = "utility",
    terms: dict[str, Any] | None = None,
    **wire: Any,
) -> AsyncIterator[Openadr2Ven]:
    """A VEN as a process would make it; leaving the block is its end. `wire` is what its client is told."""
    client = Openadr2Client(peer, url, **({"timeout_s": 5.0, "clock": SystemClock()} | wire))
    try:
        yield ven_of(store, clock, client, fleet=fleet, poll_s=poll_s, **(terms or {}))
    finally:
        await client.close()


def ven_of(
    store: Store,
    clock: Clock,
    client: VenClient,
    *,
    fleet: Fleet | None = None,
    poll_s: float = 60.0,
    pass_on: PassOn | None = None,
    **terms: Any,
) -> Openadr2Ven:
    """A VEN on a wire."""
    fleet = fleet or Fleet()
    agreed: dict[str, Any] = {"ven_name": "fleet", "program_of": {CONTEXT: "flat"}, "poll_s": poll_s} | terms
    return Openadr2Ven(
        store,
        clock,
        client,
        terms=VtnTerms(**agreed),
        tenant_id="t1",
        programs={"flat": FlatProgram()},
        decide=fleet.decide,
        telemetry=Telemetry(fleet.delivered),
        seed=7,
        pass_on=pass_on,
    )
