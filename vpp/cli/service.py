"""Commands that run the service: up, down, serve, vtn, work, gateway, migrate."""

import asyncio
import os
from typing import Annotated

import typer

from vpp import bootstrap
from vpp.cli.app import JsonTo, app, console, emit, settings, told, within
from vpp.config import Settings
from vpp.processes import Processes
from vpp.store.embedded import ensure_servers, running_servers, stop_servers

TEND_EVERY_S = 3.0

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the portal and the API.")]
Openadr2Port = Annotated[
    int | None, typer.Option("--openadr2-port", min=1, max=65535, help="Port of our OpenADR 2.0b VTN; none without it.")
]


@app.command()
def up(host: Host = "127.0.0.1", port: Port = 8000, openadr2_port: Openadr2Port = None) -> None:
    """Run everything on this machine: servers, portal, worker, gateway and (where a port is given) the VTN."""
    within(_up(settings(), host, port, openadr2_port))


async def _up(configured: Settings, host: str, port: int, openadr2_port: int | None) -> None:
    from vpp.store.migrate import migrate as migrate_database  # loads what a running process has no use for

    with running_servers(configured) as urls:
        await asyncio.to_thread(migrate_database, urls.database_url)
        environment = {"VPP_DATABASE_URL": urls.database_url, "VPP_REDIS_URL": urls.redis_url}
        children = Processes(configured.var_dir / "log", environment)
        await children.start("serve", ["serve", "--host", host, "--port", str(port)])
        await children.start("work", ["work"])
        await children.start("gateway", ["gateway"], _metrics_port(configured, 1))  # peers may come while it runs
        if openadr2_port is not None:
            await _start_vtn(children, configured, host, openadr2_port)
        told.print(f"starting; logs: {configured.var_dir / 'log'}", soft_wrap=True)
        try:
            await bootstrap.until_stopped(_keep(children), _tend(configured), _announce(host, port, openadr2_port))
        finally:
            told.print("stopping")
            await children.stop()


async def _announce(host: str, port: int, openadr2_port: int | None) -> None:
    """Say where we are as soon as we answer there; a process that ends before is for `_keep` to tell."""
    if openadr2_port is not None:
        await _listens(host, openadr2_port)
        console.print(f"OpenADR 2.0b VTN: port {openadr2_port}")
    await _listens(host, port)
    console.print(f"portal: http://{host}:{port}/   stop: Ctrl-C or vpp down")
    await asyncio.Event().wait()


async def _listens(host: str, port: int) -> None:
    while True:
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(host, port)
        except OSError:  # a timeout is one too
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


async def _start_vtn(children: Processes, configured: Settings, host: str, port: int) -> None:
    arguments = ["vtn", "--host", host, "--port", str(port), "--with-parent", str(os.getpid())]
    await children.start("vtn", arguments, _metrics_port(configured, 2))


def _metrics_port(configured: Settings, further: int) -> dict[str, str]:
    """The port for a process's own metrics, beside the worker's on this machine."""
    port = configured.metrics_port
    return {} if port is None else {"VPP_METRICS_PORT": str(port + further)}


async def _keep(children: Processes) -> None:
    while True:
        children.check()
        await asyncio.sleep(1.0)


async def _tend(configured: Settings) -> None:
    """Start an embedded server again that has died; configured ones are somebody else's."""
    while configured.database_url is None or configured.redis_url is None:
        await asyncio.sleep(TEND_EVERY_S)
        await asyncio.to_thread(ensure_servers, configured)
    await asyncio.Event().wait()


@app.command()
def down() -> None:
    """Stop what runs under the var directory, also after its owner was killed."""
    stopped = stop_servers(settings().var_dir)
    console.print(f"stopped: {', '.join(stopped) if stopped else 'nothing was running'}")


@app.command()
def serve(host: Host = "127.0.0.1", port: Port = 8000, openadr2_port: Openadr2Port = None) -> None:
    """Portal, API and OpenADR 3 VTN; with a port for it also the OpenADR 2.0b VTN, in a process of its own."""
    if openadr2_port is None:
        within(bootstrap.run_serve(settings(), host=host, port=port))
    else:
        within(_serve_both(settings(), host, port, openadr2_port))


async def _serve_both(configured: Settings, host: str, port: int, openadr2_port: int) -> None:
    with running_servers(configured) as urls:
        environment = {"VPP_DATABASE_URL": urls.database_url, "VPP_REDIS_URL": urls.redis_url}
        ours = configured.model_copy(update={"database_url": urls.database_url, "redis_url": urls.redis_url})
        children = Processes(configured.var_dir / "log", environment)
        await _start_vtn(children, configured, host, openadr2_port)
        try:
            await bootstrap.until_stopped(bootstrap.run_serve(ours, host=host, port=port), _keep(children))
        finally:
            await children.stop()


@app.command()
def vtn(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")],
    host: Host = "127.0.0.1",
    with_parent: Annotated[int | None, typer.Option(hidden=True, help="Stop when this process has gone.")] = None,
) -> None:
    """Our OpenADR 2.0b VTN, for sites and sub-aggregators below us."""
    within(bootstrap.run_vtn2(settings(), host=host, port=port, with_parent=with_parent))


@app.command()
def work() -> None:
    """Read devices and drive commitments through their life. Run as many as you like."""
    within(bootstrap.run_work(settings()))


@app.command()
def gateway() -> None:
    """Our OpenADR VENs, of 2.0b and 3: one at each utility's VTN that is a peer."""
    within(bootstrap.run_gateway(settings()))


@app.command()
def migrate(json_to: JsonTo = None) -> None:
    """Bring the database to this release's schema."""
    from vpp.store.migrate import migrate as migrate_database

    with running_servers(settings()) as urls:
        migrate_database(urls.database_url)
        emit({"migrated": True}, json_to, lambda: console.print("the database is at this release's schema"))
