"""`vpp allocate` as it is typed: options, files, one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.builders_allocation import a_problem
from tests.builders_instances import instance
from vpp.allocation import write_problem
from vpp.cli.app import run


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    """A small problem's file."""
    write_problem(instance("p2b", 30, 0), tmp_path / "problem.npz")
    return tmp_path / "problem.npz"


@pytest.mark.parametrize("suffix", ["npz", "json", "parquet"])
def test_a_problem_is_solved_into_a_file_of_any_kind(
    problem: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = problem.with_name(f"result.{suffix}")
    assert run(["allocate", str(problem), "--out", str(out), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "optimal"
    assert said["sites"] == 30
    assert said["gap"] <= 1e-4
    assert out.stat().st_size > 0


def test_every_option_is_taken(problem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = problem.with_name("result.npz")
    options = ["--gap", "0.01", "--time-limit", "30", "--workers", "1", "--method", "sequential", "--audit", "sample"]
    said = []
    for _ in range(2):
        assert run(["allocate", str(problem), "--out", str(out), *options, "--seed", "7", "--json", "-"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["method"] == "sequential"
    assert said[0]["gap"] <= 0.01
    assert said[0]["objective"] == said[1]["objective"]


def test_fairness_reports_its_price_and_keeps_within_it(problem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = problem.with_name("result.npz")
    assert run(["allocate", str(problem), "--out", str(out), "--json", "-"]) == 0
    cheapest = json.loads(capsys.readouterr().out)["objective"]
    assert run(["allocate", str(problem), "--out", str(out), "--fairness", "0.01", "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["gini_after"] < said["gini_before"]
    assert said["objective"] - cheapest == pytest.approx(said["price_of_fairness"], abs=1e-6 * abs(cheapest))
    assert said["price_of_fairness"] <= 0.01 * abs(cheapest) * (1 + 1e-6)


def test_a_summary_for_people_is_one_line_a_figure(problem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["allocate", str(problem), "--out", str(problem.with_name("result.npz"))]) == 0
    assert "status: optimal" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gap", "0"], "gap: 0.0 is not allowed; expected a share above 0"),
        (["--time-limit", "0"], "time_limit_s: 0.0 is not allowed; expected more than 0 s"),
        (["--workers", "0"], "workers: 0 is not allowed; expected 1 or more"),
        (["--method", "magic"], "method: 'magic' is not allowed; expected auto or ortools or sequential"),
        (["--audit", "all"], "audit: 'all' is not allowed; expected none or sample or full"),
        (["--seed", "-1"], "seed: -1 is not allowed; expected 0 or more"),
        (["--out", "result.csv"], "out: 'result.csv' is not allowed; expected a name that ends in .npz or .json"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it_and_nothing_is_solved(
    problem: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = problem.with_name("result.npz")
    assert run(["allocate", str(problem), "--out", str(out), *options]) == 1
    assert says in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


def test_a_wrong_array_is_one_line_that_names_array_index_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "problem.npz").open("wb") as out:
        np.savez(out, **{**a_problem().arrays(), "soc": np.array([0.5, 85.0])})
    assert run(["allocate", str(tmp_path / "problem.npz"), "--out", str(tmp_path / "result.npz")]) == 1
    assert "soc[1]: 85.0 is not allowed; expected a share from 0 to 1, not percent" in capsys.readouterr().err


def test_a_problem_that_is_not_there_is_a_wrong_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["allocate", str(tmp_path / "missing.npz"), "--out", str(tmp_path / "result.npz")]
    assert run(asked) == 2
    assert "missing.npz" in capsys.readouterr().err.replace("\n", "")
