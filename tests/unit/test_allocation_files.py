"""Problems and results survive every kind of file, and what is no problem is refused by name."""

import json
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.builders_allocation import a_problem, random_problem
from tests.builders_instances import instance
from vpp.allocation import Allocation, Options, allocate_file, read_problem, solve, write_problem, write_result
from vpp.allocation.files import check_writable, read_result
from vpp.domain.errors import InvalidRequest, NotFound

SUFFIXES = ("npz", "json", "parquet")
KINDS = ("p2b", "p3", "mixed", "turn_up")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_survives_the_file(tmp_path: Path, kind: str, suffix: str) -> None:
    problem = instance(kind, 5, 3)
    path = tmp_path / f"problem.{suffix}"
    write_problem(problem, path)
    again = read_problem(path)
    for name, array in problem.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
        assert array.dtype == getattr(again, name).dtype, name


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_survives_the_file(tmp_path: Path, kind: str, suffix: str) -> None:
    answer = solve(instance(kind, 5, 3))
    path = tmp_path / f"result.{suffix}"
    write_result(answer, path)
    again = read_result(path)
    for field in fields(Allocation):
        np.testing.assert_array_equal(getattr(answer, field.name), getattr(again, field.name), err_msg=field.name)
        assert isinstance(getattr(again, field.name), type(getattr(answer, field.name))), field.name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_unproven_result_survives_the_file(tmp_path: Path, suffix: str) -> None:
    answer = solve(a_problem(), Options(solvers=()))
    write_result(answer, tmp_path / f"result.{suffix}")
    again = read_result(tmp_path / f"result.{suffix}")
    assert again.bound == -np.inf
    assert again.gap == np.inf
    assert again.attempts == ()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_no_sites_survive_the_file(tmp_path: Path, suffix: str) -> None:
    nothing = {name: np.zeros(0) for name in ("max_charge_kw", "max_discharge_kw", "capacity_kwh", "soc", "soc_floor")}
    write_problem(a_problem(net_load_kw=np.zeros((0, 4)), **nothing), tmp_path / f"problem.{suffix}")
    again = read_problem(tmp_path / f"problem.{suffix}")
    assert (again.sites, again.steps) == (0, 4)


def test_the_same_value_for_every_site_is_stored_once_and_read_as_a_view(tmp_path: Path) -> None:
    problem = instance("p2b", 4000, 0)
    write_problem(problem, tmp_path / "problem.npz")
    with np.load(tmp_path / "problem.npz") as stored:
        assert stored["import_price_per_kwh"].shape == (48,)
        assert stored["available"].shape == (48,)
        assert stored["feeder"].shape == ()
    again = read_problem(tmp_path / "problem.npz")
    assert again.import_price_per_kwh.strides[0] == 0
    assert again.feeder.strides == (0,)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_what_was_read_is_not_copied(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"problem.{suffix}"
    write_problem(instance("p3", 20_000, 0), path)
    tracemalloc.start()
    read = read_problem(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * read.net_load_kw.nbytes


def test_large_files_are_not_packed(tmp_path: Path) -> None:
    small, large = instance("p3", 10, 0), instance("p3", 20_000, 0)
    for problem, name in ((small, "small"), (large, "large")):
        write_problem(problem, tmp_path / f"{name}.npz")
    assert (tmp_path / "large.npz").stat().st_size > large.net_load_kw.nbytes
    assert (tmp_path / "small.npz").stat().st_size < 2 * small.net_load_kw.nbytes + 20_000


def test_a_step_length_may_be_one_number(tmp_path: Path) -> None:
    arrays = {**a_problem().arrays(), "step_h": np.float64(0.5)}
    with (tmp_path / "problem.npz").open("wb") as out:
        np.savez(out, **arrays)
    np.testing.assert_array_equal(read_problem(tmp_path / "problem.npz").step_h, 0.5)


def test_a_problem_file_becomes_a_result_file_and_a_summary(tmp_path: Path) -> None:
    write_problem(a_problem(), tmp_path / "problem.npz")
    summary = allocate_file(tmp_path / "problem.npz", tmp_path / "result.npz", Options())
    json.dumps(summary)
    assert summary["status"] == "optimal"
    assert summary["method"] == "linear_programme"
    assert summary["delivered_kwh"] >= 8.0 - 1e-9
    with np.load(tmp_path / "result.npz") as result:
        assert result["battery_kw"].shape == (2, 4)
        assert float(result["objective"]) == pytest.approx(summary["objective"])
        assert str(result["status"]) == "optimal"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_json_goes_in_and_out(tmp_path: Path) -> None:
    lists = {name: array.tolist() for name, array in a_problem(export_limit_kw=np.full(2, 9.0)).arrays().items()}
    for name in ("import_limit_kw", "demand_window", "demand_price_per_kw", "peak_so_far_kw"):
        del lists[name]
    lists["export_limit_kw"] = [None, 9.0]
    for name in ("feeder_export_limit_kw", "feeder_import_limit_kw"):
        assert lists[name] == []
    (tmp_path / "problem.json").write_text(json.dumps(lists))
    assert read_problem(tmp_path / "problem.json").export_limit_kw.tolist() == [np.inf, 9.0]
    allocate_file(tmp_path / "problem.json", tmp_path / "result.json", Options(solvers=()))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["bound"] is None
    assert np.array(result["battery_kw"]).shape == (2, 4)


def test_a_missing_number_is_no_limit_only_where_there_may_be_none(tmp_path: Path) -> None:
    plain = {"step_h": 1.0, "net_load_kw": [[1.0]], "max_charge_kw": [1.0], "max_discharge_kw": [1.0], "soc": [None]}
    (tmp_path / "problem.json").write_text(json.dumps({**plain, "capacity_kwh": [1.0]}))
    with pytest.raises(InvalidRequest, match=r"soc: .*an array of numbers"):
        read_problem(tmp_path / "problem.json")


def test_parquet_that_others_wrote_is_read(tmp_path: Path) -> None:
    """Lists of any list type, and what is not by site as JSON beside the schema."""
    columns = {"net_load_kw": [[1.0, 2.0], [3.0, 4.0]], "max_charge_kw": [5.0, 5.0], "max_discharge_kw": [5.0, 5.0]}
    table = pa.table({**columns, "capacity_kwh": [10.0, 10.0], "soc": [0.5, 0.6]})
    about = {b"vpp.allocation": json.dumps({"step_h": 1, "commitment_kw": [1, 2]}).encode()}
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "problem.parquet")
    problem = read_problem(tmp_path / "problem.parquet")
    np.testing.assert_array_equal(problem.net_load_kw, [[1.0, 2.0], [3.0, 4.0]])
    assert problem.committed.all()


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ({"soc": [0.5, None]}, "soc.*null"),
        ({"net_load_kw": [[1.0, 2.0], [3.0]]}, "net_load_kw.*different lengths"),
        ({"net_load_kw": [[1.0, 2.0], None]}, "net_load_kw.*null"),
        ({"soc": [0.5, 85.0]}, r"soc\[1\].*85"),
        ({"owner": ["a", "b"]}, "owner.*unknown array"),
    ],
)
def test_parquet_with_holes_is_refused(tmp_path: Path, column: dict[str, object], says: str) -> None:
    good = {"net_load_kw": [[1.0, 2.0], [3.0, 4.0]], "soc": [0.5, 0.6], "capacity_kwh": [10.0, 10.0]}
    table = pa.table({**good, "max_charge_kw": [5.0, 5.0], "max_discharge_kw": [5.0, 5.0], **column})
    about = {b"vpp.allocation": b'{"step_h": 1}'}
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "problem.parquet")
    with pytest.raises(InvalidRequest, match=says):
        read_problem(tmp_path / "problem.parquet")


@pytest.mark.parametrize("name", ["bad.npz", "bad.parquet", "bad.json"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off", b"[1, 2]", b"PAR1 cut off PAR1"])
def test_a_file_that_is_no_problem_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"bad\."):
        read_problem(tmp_path / name)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_problem(random_problem(1), tmp_path / "problem.npz")
    whole = (tmp_path / "problem.npz").read_bytes()
    (tmp_path / "problem.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequest, match=r"problem\.npz"):
        read_problem(tmp_path / "problem.npz")


def test_one_array_without_a_name_is_no_problem_and_a_problem_is_no_result(tmp_path: Path) -> None:
    with (tmp_path / "bare.npz").open("wb") as out:
        np.save(out, np.zeros(3))
    with pytest.raises(InvalidRequest, match="without a name"):
        read_problem(tmp_path / "bare.npz")
    write_problem(a_problem(), tmp_path / "problem.npz")
    with pytest.raises(InvalidRequest, match="battery_kw"):
        read_result(tmp_path / "problem.npz")
    with pytest.raises(NotFound):
        read_problem(tmp_path / "missing.npz")


def test_where_a_result_cannot_go_is_said_before_anything_is_solved(tmp_path: Path) -> None:
    for name in ("result.csv", "result", "nowhere/result.npz"):
        with pytest.raises(InvalidRequest, match="out"):
            check_writable(tmp_path / name)
    with pytest.raises(InvalidRequest, match="out"):
        allocate_file(tmp_path / "missing.npz", tmp_path / "result.txt")
