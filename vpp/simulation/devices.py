"""Room simulation: all device servers of a fleet and the passing of time, in one process.

Called by the command line as a process of its own. The devices are the world: they are never killed in a
run, and they know nothing of the service.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import floor_to
from vpp.ports import Clock
from vpp.simulation.faults import Fault, FaultKind, fault_from_json
from vpp.simulation.fleet import VirtualFleet
from vpp.simulation.sunspec_server import SunSpecServer, sunspec_servers
from vpp.simulation.tesla_server import TeslaCloud, TeslaOptions
from vpp.simulation.truth import summary
from vpp.simulation.web import web_server
from vpp.simulation.world import World, counterfactual

STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """A fleet that can be reached: SunSpec sites at their own addresses, Tesla sites below `tesla_url`."""

    world: World
    modbus: Sequence[SunSpecServer]
    cloud: TeslaCloud
    tesla_url: str
    control_url: str


@contextlib.asynccontextmanager
async def running_devices(
    fleet: VirtualFleet,
    clock: Clock,
    *,
    faults: Iterable[Fault] = (),
    tesla_port: int = 0,
    control_port: int = 0,
    tesla: TeslaOptions | None = None,
) -> AsyncIterator[Devices]:
    """All servers of a fleet, listening while inside. Time passes when they are asked, and in `live`.

    Raises:
        NotReady: a port is taken.
    """
    world = World(fleet, faults=faults)
    cloud = TeslaCloud(world, clock, tesla)
    modbus = sunspec_servers(world, clock)
    async with contextlib.AsyncExitStack() as stack:
        for server in modbus:
            stack.push_async_callback(server.stop)
            await server.keep_to_faults()
        tesla_url = await stack.enter_async_context(web_server(cloud.app, tesla_port))
        control_url = await stack.enter_async_context(web_server(control_app(world, clock), control_port))
        yield Devices(world=world, modbus=modbus, cloud=cloud, tesla_url=tesla_url, control_url=control_url)


async def live(devices: Devices, clock: Clock) -> None:
    """Let time pass, minute by minute, until cancelled. Ports close and open as the faults have it."""
    servers = {server.site_id: server for server in devices.modbus}
    while True:
        now = clock.now()
        devices.world.tell_time(now)
        for fault in devices.world.faults.faults:
            if fault.kind is FaultKind.OFFLINE and fault.site_id in servers:
                await servers[fault.site_id].keep_to_faults()
        await clock.sleep_until(floor_to(now, STEP) + STEP)


async def serve_devices(
    fleet: VirtualFleet,
    clock: Clock,
    *,
    faults: Iterable[Fault] = (),
    tesla_port: int = 0,
    control_port: int = 0,
    tesla: TeslaOptions | None = None,
    ready: asyncio.Future[Devices] | None = None,
) -> None:
    """Serve a fleet until cancelled.

    Args:
        fleet: whose devices.
        clock: virtual or real; this loop takes part in a stepped clock and steps once a minute.
        faults: what goes wrong, by virtual time.
        tesla_port: the virtual Tesla cloud's port; 0 takes any free one.
        control_port: the port of `control_app`; 0 takes any free one.
        tesla: how strict and slow the virtual cloud is.
        ready: told the addresses once everything listens.

    Raises:
        NotReady: a port is taken.
    """
    async with running_devices(
        fleet, clock, faults=faults, tesla_port=tesla_port, control_port=control_port, tesla=tesla
    ) as devices:
        if ready is not None:
            ready.set_result(devices)
        await live(devices, clock)


def control_app(world: World, clock: Clock) -> Starlette:
    """The world's own door, for whoever runs the simulation; loopback only, no sign-in.

    * `GET /healthz`: 200 once all devices listen.
    * `GET /truth`: `truth.summary` until now, against the same days without us.
    * `GET /sites/{site_id}`: one site's true state.
    * `POST /sites/{site_id}/reserve` `{"reserve_soc": 0.3}`: the owner changes their mind.
    * `POST /faults`: one more fault, as `Fault.as_json` writes it.
    """

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok", "sites": len(world.fleet.sites), "now": world.now.isoformat()})

    async def truth(_: Request) -> Response:
        world.tell_time(clock.now())
        without_us = counterfactual(world.fleet, world.now, faults=world.faults.faults)
        return JSONResponse(summary(world.fleet, world.truth(), without_us))

    async def site(request: Request) -> Response:
        world.tell_time(clock.now())
        return JSONResponse(world.true_state(world.row(request.path_params["site_id"])))

    async def reserve(request: Request) -> Response:
        row, wanted = world.row(request.path_params["site_id"]), (await request.json()).get("reserve_soc")
        if not isinstance(wanted, int | float) or isinstance(wanted, bool) or not 0 <= wanted <= 1:
            raise InvalidRequest("reserve_soc", wanted, "a share from 0 to 1")
        world.tell_time(clock.now())
        world.set_owner_reserve(row, float(wanted))
        return Response(status_code=204)

    async def faults(request: Request) -> Response:
        world.tell_time(clock.now())
        world.add_fault(fault_from_json(await request.json()))
        return Response(status_code=204)

    def refused(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/truth", truth),
            Route("/sites/{site_id}", site),
            Route("/sites/{site_id}/reserve", reserve, methods=["POST"]),
            Route("/faults", faults, methods=["POST"]),
        ],
        exception_handlers={InvalidRequest: refused},
    )


def devices_as_json(devices: Devices) -> dict[str, Any]:
    """Where the fleet can be reached, for the process that started this one."""
    return {
        "tesla_url": devices.tesla_url,
        "control_url": devices.control_url,
        "sites": {virtual.site.id: virtual.site.address for virtual in devices.world.fleet.sites},
    }
