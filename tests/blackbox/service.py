"""The whole service in processes of its own, as an operator runs it, and the operator's own hands on it."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_processes import free_port, vpp_process
from vpp.cli import run
from vpp.portal import create_token
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

STARTS_WITHIN_S = 90.0
T = TypeVar("T")
_COMMANDS = threading.Lock()


@dataclass(slots=True)
class Service:
    """A running service.

    Attributes:
        url: of portal, API and OpenADR 3 VTN.
        vtn2_url: of the OpenADR 2.0b VTN.
        pid: of `vpp serve`, parent of the 2.0b VTN's process.
    """

    url: str
    vtn2_url: str
    settings: dict[str, str]
    folder: Path
    pid: int = 0
    token: str = ""
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))

    def vpp(self, *words: str) -> None:
        """Run a `vpp` command in this process, for starting another one takes seconds.

        What it prints is not read: lives call this from threads of their own, and standard output is everybody's.
        """
        with _COMMANDS, pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(f"VPP_{name.upper()}", value)
            assert run(list(words)) == 0, f"vpp {' '.join(words)}"

    def add_peer(self, name: str, protocol: str, role: str, *more: str) -> dict[str, Any]:
        """`vpp peers add`: what the other side must know."""
        path = self.folder / f"{name}.json"
        self.vpp("peers", "add", name, "--protocol", protocol, "--role", role, "--json", str(path), *more)
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return told

    def api(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """One request of the operator's, by the API."""
        answer = self._http.request(
            method, self.url + path, json=body, headers={"authorization": f"Bearer {self.token}", **headers}
        )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def modify(self, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """State an event anew, by `PUT /api/v1/grid-events/{id}`."""
        made = {"modification_number", "status", "created_at", "modified_at", "origin", "openadr3_id", "unsaid"}
        body = {key: value for key, value in event.items() if key not in made} | changes
        path = f"/api/v1/grid-events/{event['event_id']}"
        stated: dict[str, Any] = self.api("PUT", path, body, **{"if-match": f'"{event["modification_number"]}"'})
        return stated

    def cancel(self, event: dict[str, Any]) -> dict[str, Any]:
        """Cancel an event, by the API."""
        stated: dict[str, Any] = self.api("POST", f"/api/v1/grid-events/{event['event_id']}/cancel", {})
        return stated

    def look(self, asking: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Ask the service's database."""

        async def ask() -> T:
            store = Store(self.settings["database_url"], self.settings["redis_url"], pool_size=1)
            try:
                async with store.begin() as connection:
                    return await asking(connection)
            finally:
                await store.close()

        return asyncio.run(ask())

    def until(self, asking: Callable[[AsyncConnection], Awaitable[T]], *, within_s: float = 45.0) -> T:
        """Ask the service's database until the answer is true, and return it."""
        return until(lambda: self.look(asking), within_s=within_s)


def until(asking: Callable[[], T], *, within_s: float = 45.0) -> T:
    """Ask until the answer is true, and return it."""
    deadline_s = time.monotonic() + within_s
    while not (found := asking()):
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s, last answer: {found!r}"
        time.sleep(0.2)
    return found


@contextmanager
def running_service(
    database_url: str, redis_url: str, folder: Path, *, further: tuple[str, ...] = (), **settings: object
) -> Iterator[Service]:
    """`vpp serve --openadr2-port` and `further` commands, until the block is left; no setting of the caller's own."""
    port, port2 = free_port(), free_port()
    given = {"database_url": database_url, "redis_url": redis_url, "var_dir": folder / "var"} | settings
    ours = {name: str(value) for name, value in given.items()}
    service = Service(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port2}/OpenADR2/Simple/2.0b", ours, folder)
    with ExitStack() as stack:
        for name in [name for name in os.environ if name.startswith("VPP_")]:
            stack.enter_context(pytest.MonkeyPatch.context()).delenv(name)
        serve = ("serve", "--port", str(port), "--openadr2-port", str(port2))
        log = folder / "serve.log"
        served = stack.enter_context(vpp_process(*serve, log=log, **given))
        service.pid = served.pid
        for command in further:
            stack.enter_context(vpp_process(command, log=folder / f"{command}.log", **given))
        stack.callback(service._http.close)
        service.token = service.look(_operator)
        for each in (f"{service.url}/healthz", f"http://127.0.0.1:{port2}/healthz"):
            until(lambda each=each: served.poll() is not None or _answers(each), within_s=STARTS_WITHIN_S)
        assert served.poll() is None, log.read_text()[-2000:]
        yield service


async def _operator(connection: AsyncConnection) -> str:
    await connection.execute(insert(tenant).values(id="default", name="default").on_conflict_do_nothing())
    return await create_token(connection, tenant_id="default", label="blackbox", scope="operate", now=datetime.now(UTC))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
