"""The table of what of OpenADR is shown by which test: `python -m tests.architecture.conformance_table` writes it anew.

It is read from the marks `@pytest.mark.conformance(profile, service, requirement, peer=None)` in the tests' text, and
from functions of their modules that return such a mark; nothing is imported or run.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.architecture.docs_tables import DOCS, between

TESTS = Path(__file__).parents[1]
PAGE = DOCS / "reference" / "openadr-conformance.md"
MARK = "pytest.mark.conformance"
NAMES = ("profile", "service", "requirement", "peer")
OWN = "our own"
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
    """What stands on the page: a count of points by profile and peer, then a section for each profile and service."""
    every = rows()
    lines = [
        f"{len(every)} points, shown by {len({(row.path, row.test) for row in every})} tests.",
        "",
        *_counted(every),
    ]
    for (profile, service), points in groupby(every, key=lambda row: (row.profile, row.service)):
        lines += ["", f"### {profile}: {service}", "", "| requirement | peer | shown by |", "|---|---|---|"]
        lines += [f"| {row.requirement} | {row.peer or OWN} | {_linked(row)} |" for row in points]
    return "\n".join(lines)


def _counted(every: Sequence[Row]) -> Iterator[str]:
    profiles = [each for each in PROFILES if any(row.profile == each for row in every)]
    counts = Counter((row.peer or OWN, row.profile) for row in every)
    yield f"| peer | {' | '.join(profiles)} |"
    yield f"|---|{'---:|' * len(profiles)}"
    for peer in sorted({peer for peer, _ in counts}, key=lambda each: (each == OWN, each)):
        yield f"| {peer} | {' | '.join(str(counts[peer, each] or '') for each in profiles)} |"


def _linked(row: Row) -> str:
    """The test in words, leading to its file."""
    return f"[{row.test.removeprefix('test_').replace('_', ' ')}](../../{row.path})"


def written() -> str:
    """What the page says now."""
    found = between("conformance").search(PAGE.read_text(encoding="utf-8"))
    return found[2] if found else "no marks <!-- conformance --> and <!-- end conformance -->"


def write() -> None:
    """Bring the page up to the marks."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between("conformance").sub(lambda found: f"{found[1]}{table()}{found[3]}", text), encoding="utf-8")


def _marks(path: Path, tree: ast.Module) -> Iterator[Row]:
    names, helpers = _constants(tree), _helpers(tree)
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or not node.name.startswith("test_"):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                called = ast.unparse(decorator.func)
                if called == MARK:
                    yield _row(path, node.name, decorator, names)
                elif called in helpers:
                    helper, mark = helpers[called]
                    parameters = [each.arg for each in helper.args.args]
                    yield _row(path, node.name, mark, names | _texts(decorator, parameters, names))


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts a module names, alone (`A = "a"`) or side by side (`A, B = "a", "b"`)."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            one_by_one = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if one_by_one else [(target, value)]
            for name, text in pairs:
                if isinstance(name, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[name.id] = text.value
    return found


def _helpers(tree: ast.Module) -> dict[str, tuple[ast.FunctionDef, ast.Call]]:
    """Functions that only return a mark, with it."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and isinstance(last := node.body[-1], ast.Return):
            mark = last.value
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == MARK:
                found[node.name] = (node, mark)
    return found


def _texts(call: ast.Call, parameters: Sequence[str], names: dict[str, str]) -> dict[str, str]:
    """What a call hands to its parameters, as far as it is text."""
    given = dict(zip(parameters, call.args, strict=False)) | {
        each.arg: each.value for each in call.keywords if each.arg
    }
    texts = {name: _text(node, names) for name, node in given.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _text(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, names)
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part, names) for part in node.values]
        return None if None in parts else "".join(part for part in parts if part)
    return None


def _row(path: Path, test: str, mark: ast.Call, names: dict[str, str]) -> Row:
    where = f"{path.relative_to(TESTS.parent)}::{test}"
    told = _texts(mark, NAMES, names)
    given = len(mark.args) + sum(not (isinstance(each.value, ast.Constant) and each.value.value is None)
                                 for each in mark.keywords)  # fmt: skip
    if told.keys() | {"peer"} != set(NAMES) or len(told) != given or any("|" in text for text in told.values()):
        raise ValueError(f"{where}: conformance(profile, service, requirement, peer=None), all of them plain texts")
    if told["profile"] not in PROFILES:
        raise ValueError(f"{where}: profile {told['profile']!r} is none of {', '.join(PROFILES)}")
    path_text = path.relative_to(TESTS.parent).as_posix()
    return Row(told["profile"], told["service"], told["requirement"], told.get("peer", ""), path_text, test)


if __name__ == "__main__":
    write()
