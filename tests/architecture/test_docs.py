"""What the docs say is so: links, code, commands, settings, tables, paths (conventions, rule 15).

Goal: a page that has drifted from the code fails here. Method: read the pages as text, and hold what
they name against the code itself.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

import vpp.gateway.metrics
import vpp.gateway.notify
import vpp.gateway.vtn.metrics
import vpp.lifecycle.metrics
import vpp.peering.metrics
import vpp.portal.metrics
import vpp.telemetry.metrics  # noqa: F401 - all register what the docs name
from tests.architecture import conformance_table
from tests.architecture.docs_tables import TABLES, commands, written
from vpp.config import Settings
from vpp.simulation.utility_script import UtilityScript
from vpp.store.engine import Store

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "helm").rglob("*.md"),
        *(ROOT / "adapters").rglob("*.md"),
    ]
)
README_LINES = 150
README_COMMANDS = (
    "```\npip install uv && uv run vpp demo\n```",
    "```\npip install uv && uv run --group dev pytest\n```",
)
TEST_VARIABLES = {"VPP_REQUIRE_ALL", "VPP_SHARED_DIR"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"^--[a-z]")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(language: str) -> list[Any]:
    return [
        pytest.param(
            found[2], id=f"{_name(page)}:{page.read_text(encoding='utf-8')[: found.start()].count(chr(10)) + 1}"
        )
        for page in PAGES
        for found in FENCE.finditer(page.read_text(encoding="utf-8"))
        if found[1] == language
    ]


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands_in(line: str) -> Iterator[list[str]]:
    """The words after `vpp` in each command of a line of shell."""
    for part in re.split(r"&&|\|\||;(?![^']*')", line):
        words = shlex.split(part, comments=True)
        if words[:2] == ["uv", "run"] or "--" in words:
            words = words[words.index("vpp") :] if "vpp" in words else []
        if words[:1] == ["vpp"]:
            yield words[1:]


def _problem(words: list[str]) -> str | None:
    """What is wrong with a command line of ours, or None."""
    words = words[2:] if words[:1] == ["--log-level"] else words
    if not words or words[0] in ("--help", "COMMAND"):
        return None
    known = commands()
    length = 2 if " ".join(["vpp", *words[:2]]) in known else 1
    command = known.get(" ".join(["vpp", *words[:length]]))
    if command is None:
        return f"vpp {words[0]}: no such command"
    options = {name: each for each in command.params for name in each.opts if name.startswith("--")}
    rest, given = words[length:], 0
    while rest:
        word = rest.pop(0)
        if not OPTION.match(word):
            given += 1
        elif word not in options:
            return f"vpp {' '.join(words[:length])}: no option {word}"
        elif not options[word].is_flag and rest:
            rest.pop(0)
    wanted = sum(each.param_type_name == "argument" for each in command.params)
    return None if given in (0, wanted) else f"vpp {' '.join(words)}: takes {wanted} arguments"


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= README_LINES
    assert all(command in readme for command in README_COMMANDS)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert [_name(page) for page in (ROOT / "docs").rglob("*.md") if page != index and page not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_are_named_exist(page: Path) -> None:
    pattern = re.compile(r"(vpp|adapters|market|tests|docs|helm|scripts|\.ci)/[\w./-]*")
    named = [code.rstrip("/") for code in CODE.findall(_prose(page)) if pattern.fullmatch(code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_and_metrics_that_are_named_exist(page: Path) -> None:
    whole = page.read_text(encoding="utf-8")
    settings = {f"VPP_{name.upper()}" for name in Settings.model_fields} | TEST_VARIABLES
    variables = set(re.findall(r"\bVPP_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_])", whole)) - settings
    assert {v for v in variables if f"{v}_..." not in whole and f"`{v}_`" not in whole} == set()
    counted = {sample.name for metric in REGISTRY.collect() for sample in metric.samples} | {
        name for metric in REGISTRY.collect() for name in (metric.name, f"{metric.name}_total")
    }
    metrics = set(re.findall(r"`(vpp_[a-z_]+)`", whole))
    assert {name for name in metrics if name not in counted} == set()


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_in_the_docs_runs(block: str) -> None:
    exec(compile(block, "<docs>", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("block", [*_blocks("sh"), *_blocks("bash"), *_blocks("")])
def test_commands_in_the_docs_exist_with_their_options(block: str) -> None:
    lines = block.replace("\\\n", " ").splitlines()
    problems = [_problem(words) for line in lines if "vpp " in line for words in _commands_in(line)]
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    spans = [code for code in CODE.findall(_prose(page)) if re.match(r"(uv run (--group dev )?)?vpp [a-z-]", code)]
    problems = [_problem(words) for span in spans for words in _commands_in(span)]
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize("block", _blocks("json"))
def test_json_in_the_docs_is_what_it_says(block: str) -> None:
    content = json.loads(block)
    if "events" in content:
        assert UtilityScript.model_validate(content).events


async def test_queries_in_the_docs_run(store: Store) -> None:
    blocks = [parameter.values[0] for parameter in _blocks("sql")]
    assert blocks
    for block in blocks:
        for query in re.sub(r"--.*", "", str(block)).split(";"):
            if query.strip():
                async with store.begin() as connection:
                    await connection.execute(text(f"explain {query.replace(':', '::')}"))


@pytest.mark.parametrize("table", TABLES)
def test_tables_say_what_the_code_says(table: str) -> None:
    assert written(table) == TABLES[table][1](), "run: python -m tests.architecture.docs_tables"


def test_the_conformance_table_says_what_the_tests_are_marked_with() -> None:
    stale = "run: python -m tests.architecture.conformance_table"
    assert conformance_table.written() == conformance_table.table(), stale


def test_every_rule_is_held_by_a_test_and_every_rule_that_is_cited_exists() -> None:
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    rules = [int(number) for number in re.findall(r"^(\d+)\. \*\*", page, re.MULTILINE)]
    assert rules == list(range(1, len(rules) + 1))
    cited: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for numbers in re.findall(r"conventions, rules? ([\d, and]+)", path.read_text(encoding="utf-8")):
            for number in re.findall(r"\d+", numbers):
                cited.setdefault(int(number), set()).add(path.name)
    assert set(cited) - set(rules) == set(), "cited, but there is no such rule"
    assert set(rules) - set(cited) == set(), "no test cites these"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vpp dmeo", "no such command"),
        ("uv run vpp demo --onec", "no option --onec"),
        ("vpp settle elrp june --month 2026-06", "takes 1 arguments"),
        ("vpp simulate weather", "no such command"),
    ],
)
def test_a_wrong_command_would_be_noticed(line: str, problem: str) -> None:
    (words,) = _commands_in(line)
    assert problem in str(_problem(words))
