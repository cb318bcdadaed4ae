"""The command line's frame: options all commands share, output as text or JSON, errors as one line."""

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_group

from vpp.config import Settings
from vpp.domain.errors import VppError
from vpp.observability import configure_logs

app = typer.Typer()
"""Takes the commands of the modules that have been loaded."""
try:
    import uvloop
except ImportError:  # it has no Windows build
    uvloop = None  # type: ignore[assignment]

console = Console(highlight=False)
told = Console(stderr=True, highlight=False)

JsonTo = Annotated[
    Path | None,
    typer.Option("--json", metavar="PATH", help="Write the result as JSON to a file, or to - for standard output."),
]
Result = TypeVar("Result")
_debug = False


class Command(NamedTuple):
    """Where a command is, and what `vpp --help` says of it."""

    module: str
    help: str


COMMANDS = {
    "explain": Command("explain", "Say why a site got what it got: marginal cost and binding limit of each step."),
    "enrol": Command("fleet", "Enrol the sites of a file: all of them, or none and a list of every bad cell."),
    "sites": Command("fleet", "List the enrolled sites."),
    "terms": Command("fleet", "Set a contract's terms in a programme."),
    "account": Command("fleet", "Let a person in; prints the first password once."),
    "token": Command("fleet", "Let a machine in; prints its bearer token once."),
    "allocate": Command("figures", "Solve one allocation problem offline."),
    "settle": Command("figures", "Compute a month's pay and post what has changed since the last time."),
    "statement": Command("figures", "A site's monthly statement as CSV (or JSON)."),
    "bench": Command(
        "figures",
        "Measure this machine, as a ratio against a named peer. Runs from a checkout, with the dev group.",
    ),
    "demo": Command("play", "Play one day of a fleet: a utility's event, hundreds of batteries, the money."),
    "up": Command(
        "service",
        "Run everything on this machine: servers, portal, worker, gateway and (where a port is given) the VTN.",
    ),
    "down": Command("service", "Stop what runs under the var directory, also after its owner was killed."),
    "serve": Command(
        "service",
        "Portal, API and OpenADR 3 VTN; with a port for it also the OpenADR 2.0b VTN, in a process of its own.",
    ),
    "vtn": Command("service", "Our OpenADR 2.0b VTN, for sites and sub-aggregators below us."),
    "work": Command("service", "Read devices and drive commitments through their life. Run as many as you like."),
    "gateway": Command("service", "Our OpenADR VENs, of 2.0b and 3: one at each utility's VTN that is a peer."),
    "migrate": Command("service", "Bring the database to this release's schema."),
    "conformance": Command("conformance", "Check a server against its protocol."),
    "peers": Command("peers_log", "Who connects to us over OpenADR, and to whom we connect."),
    "simulate": Command("simulate", "Parts of a simulated world, each a process of its own."),
}
"""Every command, in the order of `vpp --help`; a test holds it against the commands themselves. `peers_log` adds to
the group of `peers`, and loads it."""


def load_commands() -> typer.Typer:
    """Load every command and return them, as the docs list them."""
    for command in COMMANDS.values():
        import_module(f"vpp.cli.{command.module}")
    return app


class _Listed(TyperGroup):
    """Commands by name and help alone. The one that is run is loaded then, so that none waits for another's rooms."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            import_module(f"vpp.cli.{COMMANDS[name].module}")
            command = get_group(app).commands[name]
        return name, command, rest


listed = typer.Typer(
    cls=_Listed,
    name="vpp",
    help="Turn thousands of behind-the-meter batteries into one dependable power plant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    listed.command(_name, help=_command.help)(lambda: None)


@listed.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    global _debug
    _debug = debug
    configure_logs(level=log_level)


def settings() -> Settings:
    """The settings of this process.

    Raises:
        VppError: an environment variable has a value that cannot be; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "VPP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise VppError(f"{name}: {first['input']!r} is not allowed; {first['msg']}") from None


def within(task: Coroutine[Any, Any, Result]) -> Result:
    """Run one task to its end, on the faster event loop where there is one."""
    with asyncio.Runner(loop_factory=None if uvloop is None else uvloop.new_event_loop) as runner:
        return runner.run(task)


def emit(result: Any, json_to: Path | None, show: Callable[[], None]) -> None:
    """Give a result to a machine or show it to a person."""
    if json_to is None:
        show()
        return
    text = json.dumps(result, indent=2, default=_plain) + "\n"
    if str(json_to) == "-":
        sys.stdout.write(text)
    else:
        json_to.write_text(text, encoding="utf-8")


def _plain(value: object) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        code = listed(args=list(arguments), standalone_mode=False)
    except typer.Exit as leave:
        return leave.exit_code
    except typer.Abort:
        told.print("stopped")
        return 130
    except KeyboardInterrupt:
        told.print("stopped")
        return 130
    except VppError as error:
        return _fail(str(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence: said in one line, never swallowed
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            told_already = not error.format_message()  # the help, where no command was named
            return 2 if told_already else _fail(error.format_message(), code=2)
        first = _first(error)
        if type(getattr(first, "orig", None)).__name__ in ("UndefinedTable", "UndefinedColumn"):
            return _fail("the database is not at this release's schema: run vpp migrate")
        return _fail(str(first) if isinstance(first, VppError) else f"{type(first).__name__}: {first}")
    return code if isinstance(code, int) else 0


def _first(error: BaseException) -> BaseException:
    """The first cause inside groups of errors that happened side by side."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(message: str, *, code: int = 1) -> int:
    if _debug:
        traceback.print_exc()
    told.print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    return code
