"""Commands that compute: allocate, settle, statement, bench."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from vpp import bootstrap
from vpp.allocation import allocate_file, options_from
from vpp.cli.app import JsonTo, app, console, emit, settings, told, within
from vpp.cli.fleet import Tenant
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.settlement import settle_month, statement_csv
from vpp.settlement import statement as site_statement

Month = Annotated[str, typer.Option(help="The month, as 2026-08.")]
BENCHES = ("ingest", "allocation", "peers", "demo", "openadr2", "openadr3")


@app.command()
def allocate(
    problem: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Arrays of the problem (.npz, .json or .parquet); see docs/reference/allocation.md.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the result's arrays go (.npz, .json or .parquet).")],
    gap: Annotated[float, typer.Option(help="Proven relative gap at which an answer is good enough.")] = 1e-4,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="At its end comes the best answer there is, with its gap.")
    ] = 600.0,
    workers: Annotated[int | None, typer.Option(help="Threads; as many as processors if not given.")] = None,
    method: Annotated[str, typer.Option(help="auto, ortools or sequential.")] = "auto",
    audit: Annotated[
        str, typer.Option(help="none, sample or full: how much of the answer OR-Tools solves again.")
    ] = "sample",
    fairness: Annotated[
        float | None, typer.Option(help="Share of the best cost to spend on sharing the work, as 0.01.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random choices: the same seed gives the same answer.")] = 0,
    json_to: JsonTo = None,
) -> None:
    """Solve one allocation problem offline."""
    options = options_from(
        gap=gap, time_limit_s=time_limit, workers=workers, method=method, audit=audit, seed=seed,
        dask_url=settings().dask_url, fairness_epsilon=fairness,
    )  # fmt: skip
    summary = allocate_file(problem, out, options)
    emit(summary, json_to, lambda: console.print("\n".join(f"{key}: {value}" for key, value in summary.items())))


@app.command()
def settle(
    program: Annotated[str, typer.Argument(help="The programme's name.")],
    month: Month,
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Compute a month's pay and post what has changed since the last time."""
    known = bootstrap.programs()
    if program not in known:
        raise InvalidRequest("program", program, " or ".join(sorted(known)))
    outcome = within(_settle(settings(), known[program], first_day(month), tenant_id))
    emit(
        asdict(outcome),
        json_to,
        lambda: console.print(f"{program} {month}: {outcome.gross_cents / 100:,.2f} gross, version {outcome.version}"),
    )


async def _settle(configured: Settings, program: Any, month: date, tenant_id: str) -> Any:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        return await settle_month(
            connection, tenant_id=tenant_id, program=program, month=month, now=SystemClock().now()
        )


@app.command()
def statement(site: str, month: Month, json_to: JsonTo = None) -> None:
    """A site's monthly statement as CSV (or JSON)."""
    found = within(_statement(settings(), site, first_day(month)))
    emit(asdict(found), json_to, lambda: console.print(statement_csv(found), end="", markup=False, soft_wrap=True))


async def _statement(configured: Settings, site: str, month: date) -> Any:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        return await site_statement(connection, site, month)


def first_day(month: str) -> date:
    """The first day of a month written as 2026-08.

    Raises:
        InvalidRequest: it is not written so.
    """
    try:
        return datetime.strptime(f"{month}-01+0000", "%Y-%m-%d%z").date()
    except ValueError:
        raise InvalidRequest("month", month, "a month as 2026-08") from None


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=" or ".join(BENCHES))],
    quick: Annotated[bool, typer.Option("--quick", help="A small run of seconds (openadr2, openadr3).")] = False,
    vens: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="One size of fleet (openadr2); three if not given.")
    ] = None,
    json_to: JsonTo = None,
) -> None:
    """Measure this machine, as a ratio against a named peer. Runs from a checkout, with the dev group."""
    if name not in BENCHES:
        raise InvalidRequest("name", name, " or ".join(BENCHES))
    sys.path.insert(0, str(Path.cwd()))
    try:
        measure = importlib.import_module(f"tests.bench.bench_{name}").run
    except ModuleNotFoundError as error:
        raise NotReady(f"benchmarks live in tests/bench of a checkout, which is not here: {error}") from error
    measured = measure(**_given(name, measure, quick=quick or None, vens=vens))

    def show() -> None:
        for key, value in measured.items():
            console.print(f"{key}: {value}")

    emit(measured, json_to, show)


def _given(name: str, measure: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return the options a benchmark is given, and where it tells how far it is.

    Raises:
        InvalidRequest: one of them is not this benchmark's.
    """
    known = inspect.signature(measure).parameters
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in known:
            raise InvalidRequest(f"--{option}", given[option], f"no such option for {name}")
    return given | ({"progress": lambda line: told.print(line, highlight=False)} if "progress" in known else {})
