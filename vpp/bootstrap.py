"""Wires everything by hand. The only module that knows the vendors in `adapters/` and the programmes in `market/`."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sunspec import SunSpecAdapter
from adapters.tesla import TeslaAdapter, Token
from adapters.tesla.auth import TOKEN_URL
from market.coned_csrp import ConEdCsrp
from market.elrp import Elrp
from market.openadr2 import Openadr2Client
from vpp.allocation import Policy
from vpp.clock import SystemClock
from vpp.commitments import Decide, Decision, in_force
from vpp.config import Settings
from vpp.dispatch import Tools, covers, delivered_kw
from vpp.domain.commitment import Commitment
from vpp.domain.errors import NotReady
from vpp.gateway import Openadr2Ven
from vpp.lifecycle import job_app, run_collector, run_reconciler, run_worker
from vpp.observability import Pulse, WatchedClock, health_server
from vpp.portal import create_app
from vpp.ports import Clock, DeviceAdapter, MarketProgram, VenClient
from vpp.simulation.clock import SteppedClock
from vpp.store.embedded import running_servers
from vpp.store.engine import Store
from vpp.store.shared import SharedCallBudget, SharedTokens
from vpp.telemetry import IngestConsumer

RANKS: Mapping[str, int | None] = {
    "devices": 0,
    "utility": 1,
    "collector": 2,
    "gateway": 3,
    "lifecycle": 4,
    "portal": None,
}
"""Who goes first when several loops of a simulation are due at the same instant."""

ADAPTERS = ("sunspec", "tesla")
MODE_ADAPTERS = frozenset({"tesla"})
"""Whose devices know modes only; a test holds this against the adapters' own word."""
TESLA_URL = "https://fleet-api.prd.na.vn.cloud.tesla.com"


def programs() -> dict[str, MarketProgram]:
    """Every programme this release knows, by name."""
    return {program.name: program for program in (Elrp(), ConEdCsrp())}


class Secrets:
    """Vendor secrets by name: a file of that name in `VPP_SECRETS_DIR`, as orchestrators mount them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> str | None:
        """The secret, or None where there is no such file."""
        if self._folder is None or not (self._folder / name).is_file():
            return None
        return (self._folder / name).read_text(encoding="utf-8").strip()


class TeslaTokens:
    """Tesla's tokens where all workers see them."""

    def __init__(self, shared: SharedTokens) -> None:
        self._shared = shared

    async def load(self, account: str) -> Token | None:
        """The newest token of an account."""
        found = await self._shared.load(account)
        return None if found is None else Token(*found)

    async def save(self, account: str, token: Token) -> None:
        """Keep a token; returns only when it is safe."""
        await self._shared.save(account, token.access, token.refresh)

    def exclusive(self, account: str) -> AbstractAsyncContextManager[None]:
        """Held while an account's token is refreshed."""
        return self._shared.exclusive(account)


def adapters(settings: Settings, store: Store, clock: Clock) -> dict[str, DeviceAdapter]:
    """Every vendor this release knows, by name."""
    return {
        "sunspec": SunSpecAdapter(clock),
        "tesla": TeslaAdapter(
            settings.adapter_urls.get("tesla", TESLA_URL),
            Secrets(settings.secrets_dir),
            clock,
            tokens=TeslaTokens(SharedTokens(store, clock, "tesla")),
            budget=SharedCallBudget(store.redis, "tesla"),
            settings_per_day=settings.tesla_settings_per_day or None,
            readback_delay_s=settings.tesla_readback_delay_s,
            token_url=settings.adapter_urls.get("tesla_token", TOKEN_URL),
        ),
    }


@asynccontextmanager
async def clock_for(settings: Settings, loop_name: str) -> AsyncIterator[Clock]:
    """The clock one loop lives by: the machine's, or its own part in a simulation."""
    if settings.clock_address is None:
        yield SystemClock()
        return
    clock = SteppedClock(settings.clock_address, loop_name, RANKS[loop_name])
    await clock.connect()
    try:
        yield clock
    finally:
        await clock.close()


@asynccontextmanager
async def open_store(settings: Settings, *, pool_size: int = 5) -> AsyncIterator[Store]:
    """Servers (started here where none are configured) and the connections to them."""
    with running_servers(settings) as urls:
        store = Store(urls.database_url, urls.redis_url, pool_size=pool_size)
        try:
            yield store
        finally:
            await store.close()


async def serve(settings: Settings, *, host: str, port: int) -> None:
    """Portal and API until told to stop."""
    async with open_store(settings, pool_size=10) as store, clock_for(settings, "portal") as clock:
        app: FastAPI = create_app(store, clock, settings, programs())
        app.state.adapter_names = frozenset(ADAPTERS)
        server = uvicorn.Server(
            uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)
        )
        await server.serve()


async def work(settings: Settings) -> None:
    """Read devices, store what is posted and drive commitments until told to stop."""
    with _pulse(settings) as pulse:
        async with open_store(settings) as store:
            loops = [_collect(settings, store, pulse), _drive(settings, store, pulse)]
            if settings.clock_address is None:  # in a simulation the collector drains, in its turn
                loops.append(IngestConsumer(store).run(turned=lambda: pulse.beat("ingest")))
            await until_stopped(*loops)


async def _collect(settings: Settings, store: Store, pulse: Pulse) -> None:
    async with clock_for(settings, "collector") as clock, _tools(settings, store, clock) as tools:
        await run_collector(
            replace(tools, clock=WatchedClock(clock, pulse, "collector")),
            read_interval=timedelta(seconds=settings.read_interval_s),
            idle_read_interval=timedelta(seconds=settings.idle_read_interval_s),
            # One worker reads in a simulation, and the whole fleet at once.
            shards=settings.collector_shards if settings.clock_address is None else 1,
        )


async def _drive(settings: Settings, store: Store, pulse: Pulse) -> None:
    stalled_after_s = 3 * settings.heartbeat_s
    async with clock_for(settings, "lifecycle") as clock, _tools(settings, store, clock) as tools:
        app = job_app(tools, programs())
        watched = replace(tools, clock=WatchedClock(clock, pulse, "reconciler"))
        async with app.open_async(), asyncio.TaskGroup() as group:
            group.create_task(run_worker(app, heartbeat_s=settings.heartbeat_s, stalled_after_s=stalled_after_s))
            group.create_task(run_reconciler(watched, app, stalled_after_s=stalled_after_s))


@contextmanager
def _pulse(settings: Settings) -> Iterator[Pulse]:
    """Watch this process's loops, and serve what is seen where a port is set."""
    pulse = Pulse()
    if settings.metrics_port is None:
        yield pulse
        return
    with health_server(pulse, host=settings.metrics_host, port=settings.metrics_port):
        yield pulse


async def gateway(settings: Settings) -> None:
    """Our VEN at the utility's VTN until told to stop.

    Raises:
        NotReady: no VTN is configured.
    """
    if settings.openadr2_vtn_url is None:
        raise NotReady("VPP_OPENADR2_VTN_URL names the utility's VTN; it is not set")
    client = Openadr2Client(
        settings.openadr2_peer,
        settings.openadr2_vtn_url,
        ven_name=settings.openadr2_ven_name,
        program_of=settings.openadr2_programs,
        cert_path=settings.openadr2_cert,
        key_path=settings.openadr2_key,
        ca_path=settings.openadr2_ca,
        vtn_fingerprint=settings.openadr2_vtn_fingerprint,
        sign=settings.openadr2_sign,
    )
    try:
        with _pulse(settings) as pulse:
            async with open_store(settings) as store, clock_for(settings, "gateway") as clock:
                watched = WatchedClock(clock, pulse, "gateway")
                await until_stopped(openadr2_ven(settings, store, watched, client).run())
    finally:
        await client.close()


def policy(settings: Settings) -> Policy:
    """What allocation assumes, and where large fleets are solved."""
    return Policy(dask_url=settings.dask_url)


def decision(settings: Settings, clock: Clock) -> Decide:
    """How an event is decided on: by readings up to one and a half idle rounds old."""

    async def decide(connection: AsyncConnection, commitment: Commitment) -> Decision:
        return await covers(
            connection,
            commitment,
            clock=clock,
            mode_adapters=MODE_ADAPTERS,
            max_age_s=1.5 * settings.idle_read_interval_s,
            policy=policy(settings),
        )

    return decide


def openadr2_ven(settings: Settings, store: Store, clock: Clock, client: VenClient) -> Openadr2Ven:
    """Our side at one utility, told how to decide and what to report."""

    async def delivered(connection: AsyncConnection, at: datetime) -> float | None:
        found = await in_force(connection, at, tenant_id=settings.tenant)
        powers = [await delivered_kw(connection, commitment, at) for commitment in found]
        known = [power for power in powers if power is not None]
        return sum(known) if known else None

    return Openadr2Ven(
        store,
        clock,
        client,
        tenant_id=settings.tenant,
        programs=programs(),
        decide=decision(settings, clock),
        delivered_kw=delivered,
        poll_s=settings.openadr2_poll_s,
        seed=secrets.randbits(32) if settings.seed is None else settings.seed,
    )


@asynccontextmanager
async def _tools(settings: Settings, store: Store, clock: Clock) -> AsyncIterator[Tools]:
    vendors = adapters(settings, store, clock)
    for vendor in vendors.values():
        await vendor.open()
    try:
        yield Tools(
            store=store, clock=clock, adapters=vendors, cycle=timedelta(seconds=settings.cycle_s),
            policy=policy(settings),
        )  # fmt: skip
    finally:
        for vendor in vendors.values():
            await vendor.close()


async def until_stopped(*loops: Coroutine[Any, Any, None]) -> None:
    """Run loops side by side until one fails or SIGTERM or SIGINT asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(each) for each in loops]
    stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def new_secret() -> str:
    """A secret fit for a token or a first password."""
    return secrets.token_urlsafe(16)
