"""A problem is refused with array, index and reason, or it is right; files carry it unchanged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders_allocation import a_problem, random_problem
from vpp.allocation import Options, Problem, allocate_file, options_from, read_problem, write_problem
from vpp.domain.errors import InvalidRequest, NotFound

NAN_LOAD = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, np.nan, 1.0]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"soc": np.array([0.5, 85.0])}, r"soc\[1\].*85\.0.*not percent"),
        ({"soc": np.array([0.5])}, r"soc: \(1,\).*shape \(2,\)"),
        ({"net_load_kw": NAN_LOAD}, r"net_load_kw\[1, 2\].*nan"),
        ({"net_load_kw": np.zeros(4)}, r"net_load_kw.*\(sites, steps\)"),
        ({"charge_efficiency": np.array([0.95, 95.0])}, r"charge_efficiency\[1\].*95"),
        ({"discharge_efficiency": np.array([0.0, 0.9])}, r"discharge_efficiency\[0\]"),
        ({"capacity_kwh": np.array([10.0, 0.0])}, r"capacity_kwh\[1\]"),
        ({"max_discharge_kw": np.array([-5.0, 5.0])}, r"max_discharge_kw\[0\].*-5"),
        ({"export_limit_kw": np.array([np.nan, 1.0])}, r"export_limit_kw\[0\]"),
        ({"step_h": 0.0}, r"step_h\[0\]"),
        ({"step_h": np.full(3, 1.0)}, r"step_h: \(3,\)"),
        ({"soc_floor": np.array([0.5, 0.9]), "soc_ceiling": np.array([0.6, 0.8])}, r"soc_floor\[1\].*soc_ceiling"),
        ({"export_price_per_kwh": 0.5}, r"export_price_per_kwh\[0, 0\].*import_price"),
        ({"commitment_kw": np.array([1.0, np.inf, 1.0, 1.0])}, r"commitment_kw\[1\].*inf"),
        ({"available": np.full((2, 4), 2)}, r"available.*True or False"),
        ({"capacity_window": np.zeros(4, dtype=int)}, r"capacity_window\[0\]"),
        (
            {"capacity_window": np.zeros(4, dtype=int), "capacity_price_per_kw": np.ones(1)},
            r"committed\[0\].*capacity_window",
        ),
        ({"capacity_window": np.full(4, 0.5), "capacity_price_per_kw": np.ones(1)}, r"capacity_window.*whole"),
        ({"demand_window": np.ones(4, dtype=bool)}, r"demand_window.*\(windows, steps\)"),
        ({"peak_so_far_kw": np.ones((2, 3))}, r"peak_so_far_kw"),
        ({"soc": np.array(["a", "b"])}, r"soc.*numbers"),
        ({"power": 3}, r"power.*unknown array"),
        ({"soc": None}, r"soc.*no default"),
    ],
)
def test_what_is_wrong_is_refused_by_name_index_and_reason(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        a_problem(**change)


def test_arrays_are_copied_and_cannot_be_written() -> None:
    soc = np.array([0.5, 0.6])
    problem = a_problem(soc=soc)
    soc[0] = 0.1
    assert problem.soc[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        problem.net_load_kw[0, 0] = 3.0


def test_a_commitment_alone_is_owed_in_every_step_and_nothing_is_owed_without_one() -> None:
    assert a_problem().committed.all()
    assert not a_problem(commitment_kw=None).committed.any()


def test_a_problem_survives_the_file(tmp_path: Path) -> None:
    problem = random_problem(5)
    write_problem(problem, tmp_path / "problem.npz")
    again = read_problem(tmp_path / "problem.npz")
    for name, array in problem.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name))


def test_a_problem_file_becomes_a_result_file_and_a_summary(tmp_path: Path) -> None:
    write_problem(a_problem(), tmp_path / "problem.npz")
    summary = allocate_file(tmp_path / "problem.npz", tmp_path / "result.npz", Options())
    json.dumps(summary)
    assert summary["status"] == "optimal"
    assert summary["delivered_kwh"] >= 8.0 - 1e-9
    with np.load(tmp_path / "result.npz") as result:
        assert result["battery_kw"].shape == (2, 4)
        assert float(result["objective"]) == pytest.approx(summary["objective"])


def test_json_goes_in_and_out(tmp_path: Path) -> None:
    lists = {name: array.tolist() for name, array in a_problem(export_limit_kw=np.full(2, 9.0)).arrays().items()}
    del lists["import_limit_kw"], lists["demand_window"], lists["demand_price_per_kw"], lists["peak_so_far_kw"]
    (tmp_path / "problem.json").write_text(json.dumps(lists))
    allocate_file(tmp_path / "problem.json", tmp_path / "result.json", Options(solvers=()))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["bound"] is None
    assert np.array(result["battery_kw"]).shape == (2, 4)


def test_a_file_that_is_no_problem_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(InvalidRequest, match=r"bad\.npz"):
        read_problem(tmp_path / "bad.npz")
    with pytest.raises(NotFound):
        read_problem(tmp_path / "missing.npz")
    with pytest.raises(InvalidRequest, match="solver"):
        options_from(solver="abacus")


def test_an_empty_answer_to_build_names_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match="no default"):
        Problem.build()
