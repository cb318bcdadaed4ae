"""Room simulation: web servers and free ports on loopback. Called by `devices`."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette

from vpp.domain.errors import NotReady
from vpp.simulation.fleet import HOST

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
BACKLOG = 1024


class _QuietServer(uvicorn.Server):
    """A web server that leaves the process's signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def web_server(app: Starlette, port: int) -> AsyncIterator[str]:
    """Serve an app on loopback while inside; gives its address, such as http://127.0.0.1:18080.

    Args:
        app: what to serve.
        port: 0 takes any free one.

    Raises:
        NotReady: the port is taken, or the server did not start within 20 s.
    """
    listener = _bound(port)
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    server = _QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await server.up.wait()
        yield url
    except TimeoutError as error:
        raise NotReady(f"no web server at {url} within {START_TIMEOUT_S:.0f} s") from error
    finally:
        server.should_exit = server.force_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await serving
        listener.close()


def _bound(port: int) -> socket.socket:
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves small packets waiting for 40 ms
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise NotReady(f"port {port} on {HOST} is taken: {error}") from error
    listener.listen(BACKLOG)
    return listener


def free_ports(count: int, *, first: int | None = None, last: int = 32_000) -> int:
    """The first of `count` consecutive ports that are free on loopback now, below those the system hands out.

    Ports are found now and taken later: without `first` each process looks from a place of its own, so
    that two of them that start at the same moment do not find the same ones.

    Raises:
        NotReady: no such stretch between `first` and `last`.
    """
    first = 20_000 + os.getpid() % 40 * 100 if first is None else first
    base = first
    while base + count <= last:
        taken = next((port for port in range(base, base + count) if not _is_free(port)), None)
        if taken is None:
            return base
        base = taken + 1
    raise NotReady(f"no {count} free ports in a row between {first} and {last}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
