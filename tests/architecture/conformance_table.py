"""The table of what of OpenADR is shown by which test: `python -m tests.architecture.conformance_table` writes it anew.

It is read from the marks `@pytest.mark.conformance(profile, service, requirement, peer=None)` in the tests' text;
nothing is imported or run.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.docs_tables import DOCS, between

TESTS = Path(__file__).parents[1]
PAGE = DOCS / "reference" / "openadr-conformance.md"
NAMES = ("profile", "service", "requirement", "peer")
PROFILES = ("2.0b", "3.0.1", "3.1.0", "3.x", "all")


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One requirement and the test that shows it."""

    profile: str
    service: str
    requirement: str
    peer: str
    path: str
    test: str


def rows() -> list[Row]:
    """Every mark of every test, in the order of the table.

    Raises:
        ValueError: a mark holds something else than texts, or a profile nobody knows; names file and line.
    """
    found = [
        row
        for path in sorted(TESTS.rglob("test_*.py"))
        if "mark.conformance" in (text := path.read_text(encoding="utf-8"))
        for row in _marks(path, ast.parse(text))
    ]
    return sorted(found, key=lambda row: (PROFILES.index(row.profile), row))


def table() -> str:
    """The table as it stands on the page."""
    every = rows()
    lines = [f"{len(every)} points, shown by {len({(row.path, row.test) for row in every})} tests.", ""]
    lines += ["| profile | service | requirement | shown by | peer |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.profile} | {row.service} | {row.requirement} | `{row.path}`::{row.test} | {row.peer or 'our own'} |"
        for row in every
    ]
    return "\n".join(lines)


def written() -> str:
    """What the page says now."""
    found = between("conformance").search(PAGE.read_text(encoding="utf-8"))
    return found[2] if found else "no marks <!-- conformance --> and <!-- end conformance -->"


def write() -> None:
    """Bring the page up to the marks."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between("conformance").sub(lambda found: f"{found[1]}{table()}{found[3]}", text), encoding="utf-8")


def _marks(path: Path, tree: ast.Module) -> Iterator[Row]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.conformance":
                    yield _row(path, node.name, decorator)


def _row(path: Path, test: str, mark: ast.Call) -> Row:
    given = dict(zip(NAMES, mark.args, strict=False)) | {each.arg: each.value for each in mark.keywords if each.arg}
    where = f"{path.relative_to(TESTS.parent)}:{mark.lineno}"
    texts = {name: node.value for name, node in given.items() if isinstance(node, ast.Constant)}
    told = {name: value for name, value in texts.items() if isinstance(value, str) and "|" not in value}
    if told.keys() | {"peer"} != set(NAMES) or told.keys() != given.keys() - _nones(given):
        raise ValueError(f"{where}: conformance(profile, service, requirement, peer=None), all of them plain texts")
    if told["profile"] not in PROFILES:
        raise ValueError(f"{where}: profile {told['profile']!r} is none of {', '.join(PROFILES)}")
    path_text = path.relative_to(TESTS.parent).as_posix()
    return Row(told["profile"], told["service"], told["requirement"], told.get("peer", ""), path_text, test)


def _nones(given: dict[str, ast.expr]) -> set[str]:
    return {name for name, node in given.items() if isinstance(node, ast.Constant) and node.value is None}


if __name__ == "__main__":
    write()
