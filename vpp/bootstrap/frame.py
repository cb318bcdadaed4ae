"""Room bootstrap: the frame every process stands in: clock, servers, secrets, health, its end.

Apart from what the processes do, so that one that needs no vendor and no solver does not wait for them to load.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.observability import Pulse, health_server
from vpp.ports import Clock
from vpp.store.embedded import running_servers
from vpp.store.engine import Store

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


class Secrets:
    """Vendor secrets by name: a file of that name in `VPP_SECRETS_DIR`, as orchestrators mount them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> str | None:
        """The secret, or None where there is no such file."""
        if self._folder is None or not (self._folder / name).is_file():
            return None
        return (self._folder / name).read_text(encoding="utf-8").strip()


@asynccontextmanager
async def clock_for(settings: Settings, loop_name: str) -> AsyncIterator[Clock]:
    """The clock one loop lives by: the machine's, or its own part in a simulation."""
    if settings.clock_address is None:
        yield SystemClock()
        return
    from vpp.simulation.clock import SteppedClock  # a process that serves people loads no simulation

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
