"""The command that plays a day: demo."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from vpp import bootstrap
from vpp.cli.app import JsonTo, app, emit, settings, told, within
from vpp.config import Settings
from vpp.demo import Demo, DemoScript, Outcome, play
from vpp.demo.watch import Moment
from vpp.domain.errors import VppError
from vpp.simulation.fleet import TIME_ZONE


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Stop at the end of the day; exit 0 only if every invariant held.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="The same seed plays the same day.")] = 1,
    sites: Annotated[int, typer.Option(min=10, max=5000, help="How many sites.")] = 300,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the pages; 0 takes a free one.")] = 0,
    json_to: JsonTo = None,
) -> None:
    """Play one day of a fleet: a utility's event, hundreds of batteries, the money."""
    script = DemoScript(seed=seed, sites=sites)
    within(_demo(settings(), script, once, port, json_to))


async def _demo(configured: Settings, script: DemoScript, once: bool, port: int, json_to: Path | None) -> None:
    stage = Demo(
        script, configured.var_dir / "demo", portal_port=port or None, say=lambda text: told.print(f"· {text}")
    )
    async with stage:
        outcome = await _watch(stage)
        _show(stage, outcome)
        if json_to is not None:
            emit({**asdict(outcome), "failures": list(outcome.failures)}, json_to, lambda: None)
        if outcome.failures and once:
            raise VppError("the demo did not hold: " + "; ".join(outcome.failures))
        if not once:
            told.print("the day is over; the pages stay up until Ctrl-C")
            await bootstrap.until_stopped(_stay(stage))


async def _stay(stage: Demo) -> None:
    while True:
        stage.processes.check()
        await asyncio.sleep(1)


async def _watch(stage: Demo) -> Outcome:
    zone = ZoneInfo(TIME_ZONE)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    told_until = 0
    total_s = (stage.script.end_at - stage.script.start_at).total_seconds()
    with Progress(*columns, console=told, transient=True) as progress:
        bar = progress.add_task("", total=total_s)

        async def each_step(now: Moment) -> None:
            nonlocal told_until
            for step in now.steps:
                if step.id > told_until:
                    told_until = step.id
                    told.print(f"{step.at.astimezone(zone):%H:%M}  {step.what}  {_in_words(step.detail)}")
            power = (
                ""
                if now.target_kw is None
                else f"  owed {now.target_kw:,.0f} kW, delivered {now.delivered_kw or 0:,.0f} kW"
            )
            done_s = (now.at - stage.script.start_at).total_seconds()
            progress.update(bar, completed=done_s, description=f"{now.at.astimezone(zone):%a %H:%M}{power}")

        return await play(stage, each_step)


def _in_words(detail: dict[str, object]) -> str:
    return "  ".join(f"{key} {_short(value)}" for key, value in detail.items() if value not in ("", None, []))


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return ", ".join(_short(each) for each in value) if isinstance(value, list) else str(value)


def _show(stage: Demo, outcome: Outcome) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(outcome):
        table.add_row(name, value)
    told.print(table)
    told.print(f"pages: {stage.portal_url}/")
    for login in stage.logins:
        told.print(f"  {login.role:<9} {login.email:<24} {login.password}", markup=False)


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    baseline = outcome.delivered_baseline_kwh
    return [
        ("sites", ", ".join(f"{count} {name}" for name, count in outcome.sites_by_adapter.items())),
        ("committed", f"{outcome.committed_kwh:,.0f} kWh"),
        ("delivered, by sub-meter", f"{outcome.delivered_submeter_kwh:,.0f} kWh"),
        (
            "delivered, by baseline",
            "not measurable" if baseline is None else f"{baseline:,.0f} kWh (CAISO 10-in-10; real load is noisy)",
        ),
        (
            "of what was owed",
            f"{100 * outcome.delivered_fraction:.1f} % by the programme's own measure ({outcome.measurement})",
        ),
        ("sites lost on the way", ", ".join(outcome.sites_lost)),
        ("owners' reserves breached", str(outcome.reserve_breaches)),
        ("interconnection limits breached", str(outcome.limit_breaches)),
        (
            "demand peaks protected",
            f"{outcome.demand_peaks_protected} of {outcome.demand_peaks_protected + outcome.demand_peak_breaches}",
        ),
        ("handed back and read back", f"{outcome.handbacks_verified} of {outcome.handbacks_total} sites"),
        (
            "paid to owners",
            f"${outcome.paid_cents / 100:,.2f} at {outcome.paid_sites} sites of ${outcome.gross_cents / 100:,.2f}",
        ),
        ("ledger sum", f"{outcome.ledger_sum_cents} cents"),
        ("time taken", f"{outcome.wall_s:.1f} s"),
    ]
