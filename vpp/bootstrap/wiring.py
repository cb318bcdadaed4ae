"""Room bootstrap: the parts every process is made of: clock, servers, vendors, programmes, policy."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sunspec import SunSpecAdapter
from adapters.tesla import TeslaAdapter, Token
from adapters.tesla.auth import TOKEN_URL
from market.coned_csrp import ConEdCsrp
from market.elrp import Elrp
from vpp.allocation import Policy
from vpp.clock import SystemClock
from vpp.commitments import Decide, Decision
from vpp.config import Settings
from vpp.dispatch import Tools, covers
from vpp.domain.commitment import Commitment
from vpp.observability import Pulse, health_server
from vpp.ports import Clock, DeviceAdapter, MarketProgram
from vpp.simulation.clock import SteppedClock
from vpp.store.embedded import running_servers
from vpp.store.engine import Store
from vpp.store.shared import SharedCallBudget, SharedTokens

RANKS: Mapping[str, int | None] = {
    "devices": 0,
    "utility": 1,
    "collector": 2,
    "gateway": 3,
    "lifecycle": 4,
    "portal": None,
    "vtn": None,
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


@asynccontextmanager
async def tools_for(settings: Settings, store: Store, clock: Clock) -> AsyncIterator[Tools]:
    """What a control cycle works with, the vendors open for the block."""
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


@contextmanager
def watched_loops(settings: Settings) -> Iterator[Pulse]:
    """Watch this process's loops, and serve what is seen where a port is set."""
    pulse = Pulse()
    if settings.metrics_port is None:
        yield pulse
        return
    with health_server(pulse, host=settings.metrics_host, port=settings.metrics_port):
        yield pulse


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
