"""Nothing grows by accretion: ceilings on files and functions (conventions, rule 11)."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LINES, TEST_FILE_LINES, FUNCTION_LINES = 400, 500, 60


def _sources() -> Iterator[Path]:
    for room in ("vpp", "adapters", "market", "tests", "scripts"):
        yield from sorted((ROOT / room).rglob("*.py"))


def test_no_file_is_longer_than_its_ceiling() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in _sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines()))
        > (TEST_FILE_LINES if "tests" in path.parts else FILE_LINES)
    ]
    assert not long, long


def test_no_function_is_longer_than_its_ceiling() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long, long
