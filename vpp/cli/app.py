"""The command line's frame: options all commands share, output as text or JSON, errors as one line."""

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console

from vpp.config import Settings
from vpp.domain.errors import VppError
from vpp.observability import configure_logs

app = typer.Typer(
    name="vpp",
    help="Turn thousands of behind-the-meter batteries into one dependable power plant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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

PARTS = ("conformance", "explain", "figures", "fleet", "peers", "peers_log", "play", "service")
"""The modules that hold our commands."""
SERVICE = frozenset({"gateway", "serve", "vtn", "work"})
"""Commands of `service` that a process is started by, and started again by when it was killed."""


def load_commands(arguments: Sequence[str] = ()) -> typer.Typer:
    """Load every command, or where the arguments name a process of the service, those of the service alone."""
    words = iter(arguments)
    named = next((word for word in words if word != "--debug" and not _takes_value(word, words)), None)
    for name in ("service",) if named in SERVICE else PARTS:
        import_module(f"vpp.cli.{name}")
    return app


def _takes_value(word: str, words: Iterator[str]) -> bool:
    return word == "--log-level" and next(words, None) is not None


@app.callback()
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
        code = load_commands(arguments)(args=list(arguments), standalone_mode=False)
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
            return _fail(error.format_message(), code=2)
        first = _first(error)
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
