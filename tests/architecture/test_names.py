"""Units stand last in names, and nobody but the clock knows the present (conventions, rules 2 and 3)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

QUANTITY = re.compile(r"(^|_)(power|energy|price|capacity|setpoint|timeout|duration|delay|peak)$")
"""Names that end in a physical quantity say no unit."""
FOREIGN_UNIT = re.compile(r"_(w|wh|mw|mwh|percent|ms|minutes|hours)$")
"""Units that live only where the outside world speaks: wire modules, device servers, portal schemas and pages."""
EDGES = ("wire", "units", "portal", "simulation", "openadr2", "tesla", "sunspec", "demo", "schemas")
SAID_BESIDE = {
    ("vpp/domain/settlement.py", "price"): "per `unit`, the field beside it: kWh, kW-month, kW",
    ("vpp/settlement/statements.py", "price"): "per `unit`, the field beside it, as the utility's line has it",
    ("vpp/telemetry/consumer.py", "block_ms"): "handed to Valkey's XREADGROUP as it is",
    ("vpp/telemetry/consumer.py", "idle_ms"): "handed to Valkey's XAUTOCLAIM as it is",
}
"""Names that break the rule, by file, and why they may."""
LABELS = re.compile(r"_hours$")
"""A sequence of whole numbers named so lists hours of the day, by their beginning: labels, no durations."""
PRESENT = re.compile(r"datetime\.now\(|datetime\.utcnow\(|time\.time\(|date\.today\(")


def _sources() -> Iterator[Path]:
    for room in ("vpp", "adapters", "market"):
        yield from sorted((ROOT / room).rglob("*.py"))


def _numbers(path: Path) -> Iterator[tuple[int, str]]:
    """Annotated fields and arguments that hold plain numbers or arrays of them, but for the exceptions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, annotation, line = node.target.id, node.annotation, node.lineno
        elif isinstance(node, ast.arg) and node.annotation is not None:
            name, annotation, line = node.arg, node.annotation, node.lineno
        else:
            continue
        held = ast.unparse(annotation)
        is_label = LABELS.search(name) and held == "Sequence[int]"
        excepted = (path.relative_to(ROOT).as_posix(), name) in SAID_BESIDE
        if re.search(r"\b(float|int|Decimal|Floats)\b", held) and not is_label and not excepted:
            yield line, name


def test_a_quantity_names_its_unit() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in _sources()
        for line, name in _numbers(path)
        if QUANTITY.search(name)
    ]
    assert not bare, bare


def test_foreign_units_stay_at_the_edges() -> None:
    foreign = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in _sources()
        if not any(edge in part for part in path.parts for edge in EDGES)
        for line, name in _numbers(path)
        if FOREIGN_UNIT.search(name)
    ]
    assert not foreign, foreign


def test_every_exception_is_still_needed() -> None:
    gone = [(path, name) for path, name in SAID_BESIDE if not re.search(rf"\b{name}: ", (ROOT / path).read_text())]
    assert not gone, gone


def test_only_the_clock_knows_the_present() -> None:
    asking = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _sources()
        if path != ROOT / "vpp" / "clock.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PRESENT.search(line) and not line.lstrip().startswith("#")
    ]
    assert not asking, asking
