"""Plays the day: starts the world and the product as processes, steps the clock, and tells what happens."""

import asyncio
import json
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from vpp import bootstrap
from vpp.config import Settings
from vpp.demo.outcome import Outcome, measure_outcome
from vpp.demo.script import PROGRAM, TENANT, DemoScript
from vpp.demo.stage import Login, set_stage
from vpp.demo.watch import Moment, moment
from vpp.domain.errors import NotReady
from vpp.processes import Processes
from vpp.simulation.clock import ClockServer
from vpp.simulation.faults import demo_faults
from vpp.simulation.fleet import VirtualFleet
from vpp.simulation.tesla_account import FIRST_REFRESH_TOKEN
from vpp.simulation.utility_script import Block, Change, ScriptedEvent, UtilityScript
from vpp.simulation.web import free_ports
from vpp.store.embedded import running_servers, stop_servers
from vpp.store.engine import Store
from vpp.store.migrate import migrate

STEP = timedelta(minutes=5)
LOOPS = frozenset({"devices", "utility", "collector", "lifecycle", "gateway"})
START_WITHIN_S = 60.0
MARKET_CONTEXT = "http://utility.example.com/programs/elrp"
Say = Callable[[str], None]
EachStep = Callable[[Moment], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything listens on this machine."""

    portal: int
    utility: int
    tesla: int
    truth: int
    sunspec: int

    @classmethod
    def find(cls, sites: int, portal: int | None) -> "Addresses":
        """Free ports: four anywhere, and one for each virtual SunSpec device in a row."""
        utility, tesla, truth, spare = _free_ports(4)
        return cls(portal=portal or spare, utility=utility, tesla=tesla, truth=truth, sunspec=free_ports(sites))


class Demo:
    """A day that can be stepped through. Use as an async context manager.

    Args:
        script: what happens.
        var_dir: a folder of its own; whatever an earlier demo left there is removed.
        portal_port: where the pages are served; a free port if None.
        say: told what is being done, for people who wait.
    """

    def __init__(self, script: DemoScript, var_dir: Path, *, portal_port: int | None = None, say: Say) -> None:
        self.script, self.var_dir, self._say = script, var_dir.absolute(), say
        self.addresses = Addresses.find(script.sites, portal_port)
        self.logins: tuple[Login, ...] = ()
        self._began = time.monotonic()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _set_up(self) -> None:
        stop_servers(self.var_dir)
        shutil.rmtree(self.var_dir, ignore_errors=True)
        self._say("drawing a fleet from metered load and sun")
        fleet: VirtualFleet = await asyncio.to_thread(self.script.fleet, self.addresses.sunspec)
        self.fleet = fleet
        self._say("starting PostgreSQL and Valkey")
        settings = Settings(var_dir=self.var_dir, database_url=None, redis_url=None)
        urls = self._stack.enter_context(running_servers(settings))
        await asyncio.to_thread(migrate, urls.database_url)
        self.store = Store(urls.database_url, urls.redis_url)
        self._stack.push_async_callback(self.store.close)
        self.clock = ClockServer(self.script.start_at)
        await self.clock.start()
        self._stack.push_async_callback(self.clock.stop)
        self.processes = Processes(self.var_dir / "log", self._environment(urls.database_url, urls.redis_url))
        self._stack.push_async_callback(self.processes.stop)
        self._say("starting the devices, the utility and ourselves")
        await self._start_processes()
        # Nobody's turn comes before the stage is set: they get ready meanwhile.
        self._say(f"enrolling {self.script.sites} sites with sixty days of meter history")
        self.logins = await set_stage(self.store, self.script, fleet, self.var_dir)
        await self._unless_a_process_fails(self.clock.wait_for(set(LOOPS), START_WITHIN_S))
        await self._unless_a_process_fails(self._wait_for_portal())

    def _environment(self, database_url: str, redis_url: str) -> dict[str, str]:
        here = "http://127.0.0.1"
        secrets = self.var_dir / "secrets"
        secrets.mkdir(mode=0o700, exist_ok=True)
        for name, secret in (
            ("tesla_client_id", "demo"),
            ("tesla_client_secret", "demo"),
            ("tesla_refresh_token", FIRST_REFRESH_TOKEN),
        ):
            (secrets / name).write_text(secret, encoding="utf-8")
        return {
            "VPP_VAR_DIR": str(self.var_dir),
            "VPP_DATABASE_URL": database_url,
            "VPP_REDIS_URL": redis_url,
            "VPP_CLOCK_ADDRESS": self.clock.address,
            "VPP_TENANT": TENANT,
            "VPP_IDLE_READ_INTERVAL_S": "1800",
            "VPP_SEED": str(self.script.seed),
            "VPP_OPENADR2_VTN_URL": f"{here}:{self.addresses.utility}/OpenADR2/Simple/2.0b",
            "VPP_OPENADR2_POLL_S": "300",
            "VPP_OPENADR2_PROGRAMS": json.dumps({MARKET_CONTEXT: PROGRAM}),
            "VPP_ADAPTER_URLS": json.dumps(
                {
                    "tesla": f"{here}:{self.addresses.tesla}",
                    "tesla_token": f"{here}:{self.addresses.tesla}/oauth2/v3/token",
                }
            ),
            "VPP_SECRETS_DIR": str(secrets),
            "VPP_HEARTBEAT_S": "1",
            "VPP_TESLA_SETTINGS_PER_DAY": "0",
            "VPP_TESLA_READBACK_DELAY_S": "0",
        }

    async def _start_processes(self) -> None:
        window = self.script.event
        world = {
            "seed": self.script.seed,
            "sites": self.script.sites,
            "day": self.script.day.isoformat(),
            "start_hour": self.script.start_hour,
            "base_port": self.addresses.sunspec,
            "tesla_port": self.addresses.tesla,
            "truth_port": self.addresses.truth,
            "faults": [fault.as_json() for fault in demo_faults(self.fleet, window)],
        }
        world_path, script_path = self.var_dir / "world.json", self.var_dir / "utility.json"
        world_path.write_text(json.dumps(world), encoding="utf-8")
        script_path.write_text(self._utility_script().model_dump_json(), encoding="utf-8")
        self.lost = tuple(sorted({fault["site_id"] for fault in world["faults"]}))  # type: ignore[attr-defined]
        await self.processes.start("devices", ["simulate", "devices", str(world_path)])
        await self.processes.start(
            "utility", ["simulate", "utility", str(script_path), "--port", str(self.addresses.utility)]
        )
        await self.processes.start("work", ["work"])
        await self.processes.start("gateway", ["gateway"])
        await self.processes.start("serve", ["serve", "--port", str(self.addresses.portal)])

    async def _unless_a_process_fails(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for something only as long as everyone it depends on can be kept running."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=1.0))[0]:
                self.processes.check()
            task.result()
        finally:
            task.cancel()

    def _utility_script(self) -> UtilityScript:
        nominated_kw = self.script.nominated_kw(self.fleet)
        hour = 60.0
        event = ScriptedEvent(
            event_id="heat-wave-1",
            market_context=MARKET_CONTEXT,
            announce_at=self.script.notice_at,
            start_at=self.script.event.start_at,
            blocks=tuple(Block(minutes=hour, value=kw) for kw in self.script.targets_kw(nominated_kw)),
            changes=(
                Change(
                    at=self.script.modified_at,
                    blocks=tuple(Block(minutes=hour, value=kw) for kw in self.script.modified_targets_kw(nominated_kw)),
                ),
            ),
        )
        return UtilityScript(events=(event,))

    async def _wait_for_portal(self) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        async with httpx.AsyncClient(base_url=self.portal_url, timeout=5) as client:
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline:
                    raise NotReady(f"the portal did not get ready; see {self.var_dir / 'log' / 'serve.log'}")
                await asyncio.sleep(0.1)

    @property
    def portal_url(self) -> str:
        return f"http://127.0.0.1:{self.addresses.portal}"

    async def run(self, each_step: EachStep) -> None:
        """Play the day in steps of five minutes, telling `each_step` where it stands."""
        at: datetime = self.script.start_at
        while at < self.script.end_at:
            at += STEP
            await self._unless_a_process_fails(self.clock.run_until(at))
            async with self.store.begin() as connection:
                now = await moment(connection, at)
            await each_step(now)

    async def outcome(self) -> Outcome:
        """The score so far, from our own books and the world's truth."""
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.get(f"http://127.0.0.1:{self.addresses.truth}/truth")
            truth: dict[str, Any] = answer.raise_for_status().json()
        (self.var_dir / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")
        async with self.store.begin() as connection:
            return await measure_outcome(
                connection,
                self.script,
                bootstrap.programs()[PROGRAM],
                truth,
                lost=self.lost,
                wall_s=time.monotonic() - self._began,
                wall_s_by_loop={name: round(seconds, 2) for name, seconds in sorted(self.clock.busy_s.items())},
            )


async def play(demo: Demo, each_step: EachStep) -> Outcome:
    """Play a whole day and return its score."""
    await demo.run(each_step)
    return await demo.outcome()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
