"""Commands that play parts of a simulated world, each a process of its own: devices, utility. Started by the demo."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from vpp import bootstrap
from vpp.cli.app import app, settings, within
from vpp.config import Settings

simulate = typer.Typer(help="Parts of a simulated world, each a process of its own.", no_args_is_help=True)
app.add_typer(simulate, name="simulate")


@simulate.command()
def devices(
    world: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON: seed, sites, day, ports, faults.")],
) -> None:
    """Virtual sites behind their vendors' own wires: SunSpec over Modbus TCP, Tesla's HTTP API."""
    within(_devices(settings(), json.loads(world.read_text(encoding="utf-8"))))


async def _devices(configured: Settings, world: dict[str, object]) -> None:
    from vpp.demo import DemoScript  # one part of the world does not wait for the other's libraries
    from vpp.simulation.devices import serve_devices
    from vpp.simulation.faults import fault_from_json

    script = DemoScript(
        seed=int(str(world["seed"])),
        sites=int(str(world["sites"])),
        day=date.fromisoformat(str(world["day"])),
        start_hour=int(str(world["start_hour"])),
    )
    fleet = script.fleet(int(str(world["base_port"])))
    faults = tuple(fault_from_json(fault) for fault in world["faults"])  # type: ignore[attr-defined]
    async with bootstrap.clock_for(configured, "devices") as clock:
        await bootstrap.until_stopped(
            serve_devices(
                fleet,
                clock,
                tesla_port=int(str(world["tesla_port"])),
                control_port=int(str(world["truth_port"])),
                faults=faults,
            )
        )


@simulate.command()
def utility(
    script: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON of the utility's script.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8081,
) -> None:
    """A utility's OpenADR 2.0b VTN that plays a script."""
    within(_utility(settings(), script.read_text(encoding="utf-8"), port))


async def _utility(configured: Settings, script_json: str, port: int) -> None:
    from vpp.simulation.utility import serve_utility  # as above
    from vpp.simulation.utility_script import UtilityScript

    script = UtilityScript.model_validate_json(script_json)
    async with bootstrap.clock_for(configured, "utility") as clock:
        await bootstrap.until_stopped(serve_utility(clock, script, port=port))
