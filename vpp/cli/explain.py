"""The command that says why a site got what it got: explain."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from vpp.allocation import Explained, StepExplanation, constraint_words, explain_file, worth_words
from vpp.cli.app import JsonTo, app, console, emit


@app.command()
def explain(
    result: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What vpp allocate wrote.")],
    site: Annotated[str, typer.Option(help="The site's id where the problem file has ids, else its row.")],
    problem: Annotated[
        Path | None, typer.Option(help="The problem file, where it is not where it was when it was solved.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Only this step, and who would give its next kW.")] = None,
    json_to: JsonTo = None,
) -> None:
    """Say why a site got what it got: marginal cost and binding limit of each step."""
    found = explain_file(result, site, problem, step)
    emit(_plain(found), json_to, lambda: _show(found))


def _plain(found: Explained) -> dict[str, Any]:
    told = asdict(found.explanation)
    return {
        "site": found.site_id,
        "row": found.explanation.site,
        "steps": [{name: _finite(value) for name, value in one.items()} for one in told["steps"]],
        "limit_worth": {str(name): worth for name, worth in found.explanation.limit_worth.items()},
        "off_best": found.explanation.off_best,
        "next_kw": [
            {"site": name, "price_per_kwh": offer.price_per_kwh, "room_kw": offer.room_kw}
            for name, offer in zip(found.next_ids, found.next_kw, strict=True)
        ],
    }


def _finite(value: Any) -> Any:
    """As JSON can say it: what is not finite becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(found: Explained) -> None:
    steps = found.explanation.steps
    table = Table("step", "kW", "price", "last kWh cost", "next kWh costs", "stopped by", title=f"site {found.site_id}")
    for one in steps:
        stopped = constraint_words(one.constraint) + (f" and {constraint_words(one.also)}" if one.also else "")
        table.add_row(
            str(one.step), f"{one.battery_kw:.2f}", f"{one.price_per_kwh:.3f}", _number(one.low_per_kwh),
            _number(one.high_per_kwh), stopped,
        )  # fmt: skip
    console.print(table)
    for one in _telling(steps):
        console.print(f"step {one.step}: {one.sentence}", soft_wrap=True)
    for name, worth in found.explanation.limit_worth.items():
        console.print(f"over the whole time {worth_words(name, worth)}", soft_wrap=True)
    for who, offer in zip(found.next_ids, found.next_kw, strict=True):
        console.print(f"next kW: site {who} at {offer.price_per_kwh:.3f} per kWh, for {offer.room_kw:.2f} kW")


def _telling(steps: tuple[StepExplanation, ...]) -> list[StepExplanation]:
    """Of each constraint the step that is paid most."""
    best: dict[str, StepExplanation] = {}
    for one in steps:
        if one.constraint not in best or abs(one.price_per_kwh) > abs(best[one.constraint].price_per_kwh):
            best[one.constraint] = one
    return sorted(best.values(), key=lambda one: one.step)


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
