"""Tables of the docs that are taken from the code. `python -m tests.architecture.docs_tables` writes them anew."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from market.openadr2.deviations import DEVIATIONS
from vpp.cli import load_commands
from vpp.config import Settings
from vpp.gateway.meanings import ANY, RULES

DOCS = Path(__file__).parents[2] / "docs"


def settings_table() -> str:
    """One row a field of `Settings`."""
    rows = [
        f"| `VPP_{name.upper()}` | {_default(field.get_default(call_default_factory=True))} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | what it is |", "|---|---|---|", *rows])


def commands_text() -> str:
    """One section a command, with a row for each argument and option."""
    parts = []
    for name, command in commands().items():
        rows = [_parameter(each) for each in command.params]
        table = ["", "| given as | default | what it is |", "|---|---|---|", *rows] if rows else []
        parts.append("\n".join([f"### `{name}`", "", (command.help or "").strip(), *table]))
    return "\n\n".join(parts)


def commands() -> dict[str, Any]:
    """Every command that can be run, by the words that name it."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield words, command
            return
        for name, each in below.items():
            yield from walk(each, f"{words} {name}")

    return dict(sorted(walk(typer.main.get_command(load_commands()), "vpp")))


def deviations_table() -> str:
    """One row a deviation of 2.0b that is tolerated."""
    rows = [f"| `{each.name}` | {each.what} | {each.sent_by} | {each.becomes} |" for each in DEVIATIONS]
    return "\n".join(["| name | what is sent | by | is taken for |", "|---|---|---|---|", *rows])


def signals_table() -> str:
    """One row a type of signal."""
    rows = [
        f"| `{type_.value}` | {rule.meaning} | {_units(rule.units)} | {rule.note} |" for type_, rule in RULES.items()
    ]
    return "\n".join(["| type | means | in | what comes of it |", "|---|---|---|---|", *rows])


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("reference/configuration.md", settings_table),
    "deviations": ("guides/openadr.md", deviations_table),
    "signals": ("reference/openadr-signals.md", signals_table),
    "commands": ("reference/command-line.md", commands_text),
}


def written(name: str) -> str:
    """What the page says between the table's marks now."""
    found = between(name).search((DOCS / TABLES[name][0]).read_text(encoding="utf-8"))
    return found[2] if found else f"no marks <!-- {name} --> and <!-- end {name} -->"


def write() -> None:
    """Bring every table up to what the code says."""
    for name, (page, make) in TABLES.items():
        path, table = DOCS / page, make()
        text = path.read_text(encoding="utf-8")
        path.write_text(between(name).sub(lambda found, t=table: f"{found[1]}{t}{found[3]}", text), encoding="utf-8")


def between(name: str) -> re.Pattern[str]:
    """What finds a table on its page: its first mark, its text, its last mark."""
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(\n<!-- end {name} -->)", re.DOTALL)


def _units(units: tuple[str, ...]) -> str:
    return "any" if units == ANY else " or ".join(unit or "no unit" for unit in units)


def _default(value: object) -> str:
    if value is None:
        return "unset"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!s}`"


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"| `{parameter.name.upper()}` | needed | {parameter.help or ''} |"
    default = (
        "needed"
        if parameter.required
        else "off"
        if parameter.is_flag and not parameter.secondary_opts
        else _default(parameter.default)
    )
    return f"| `{', '.join([*parameter.opts, *parameter.secondary_opts])}` | {default} | {parameter.help or ''} |"


if __name__ == "__main__":
    write()
