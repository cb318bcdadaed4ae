"""Whether the loops of a process still turn, and the small server that says so.

A loop shows that it lives by its clock: it asks for the present when it works and says until when it
sleeps. The server has a thread of its own, so that it answers also when the event loop does not.
Called by `vpp/bootstrap` for the processes that serve no HTTP of their own.
"""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.exposition import ThreadingWSGIServer

from vpp.domain.errors import NotReady

if TYPE_CHECKING:  # the ports load all of the domain, and every command loads this
    from vpp.ports import Clock

STALL_AFTER_S = 600.0
"""A loop that neither works nor sleeps as announced for so long hangs."""
REQUEST_TIMEOUT_S = 10


class Pulse:
    """When each loop is expected to show itself again, in real time.

    Args:
        elapsed_s: seconds since any fixed moment.
    """

    def __init__(self, *, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._elapsed_s = elapsed_s
        self._due_s: dict[str, float] = {}

    def beat(self, loop: str, *, rests_s: float = 0.0) -> None:
        """The loop lives, and may be silent for `rests_s` and the time a turn may take."""
        self._due_s[loop] = self._elapsed_s() + max(0.0, rests_s) + STALL_AFTER_S

    def hanging(self) -> tuple[str, ...]:
        """The loops that should have shown themselves."""
        now_s = self._elapsed_s()
        return tuple(sorted(loop for loop, due_s in self._due_s.copy().items() if due_s < now_s))


class WatchedClock:
    """A `Clock` that beats a loop's pulse whenever the loop looks at it."""

    def __init__(self, clock: "Clock", pulse: Pulse, loop: str) -> None:
        self._clock, self._pulse, self._loop = clock, pulse, loop
        pulse.beat(loop)

    def now(self) -> datetime:
        self._pulse.beat(self._loop)
        return self._clock.now()

    async def sleep_until(self, at: datetime) -> None:
        known = self._clock.wall_time(at) is not None
        rests_s = (at - self._clock.now()).total_seconds() if known else math.inf
        self._pulse.beat(self._loop, rests_s=rests_s)
        await self._clock.sleep_until(at)
        self._pulse.beat(self._loop)

    def wall_time(self, at: datetime) -> datetime | None:
        return self._clock.wall_time(at)


@contextmanager
def health_server(pulse: Pulse, *, host: str, port: int) -> Iterator[None]:
    """Serve `/healthz` and `/metrics` for the block.

    Raises:
        NotReady: the address cannot be listened on.
    """
    try:
        server = make_server(host, port, _answers(pulse), _server_for(host), handler_class=_Handler)
    except OSError as error:
        raise NotReady(f"VPP_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror or error}") from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class says so
        """Say nothing: probes come every few seconds."""


def _server_for(host: str) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Server


def _answers(pulse: Pulse) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        kind = "text/plain; charset=utf-8"
        match environ["PATH_INFO"]:
            case "/healthz":
                hanging = pulse.hanging()
                status = "503 Service Unavailable" if hanging else "200 OK"
                body = f"hanging: {', '.join(hanging)}\n".encode() if hanging else b"up\n"
            case "/metrics":
                status, kind, body = "200 OK", CONTENT_TYPE_LATEST, generate_latest()
            case _:
                status, body = "404 Not Found", b"there are /healthz and /metrics\n"
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    return answer
