"""Problems and results as files: `.npz`, `.json` or `.parquet`.  Called by `vpp allocate` and `vpp explain`."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpp.allocation.answer import Allocation
from vpp.allocation.arrays import SPECS, once
from vpp.allocation.exact import solve
from vpp.allocation.fairness import fair
from vpp.allocation.options import Options, SolverName
from vpp.allocation.problem import Problem
from vpp.domain.errors import InvalidRequest, NotFound

Arrays = dict[str, npt.NDArray[Any]]

SUFFIXES = (".npz", ".json", ".parquet")
BY_SITE = ("battery_kw", "soc", "site_cost", "over_export", "over_import")
TABLES = (
    "battery_kw",
    "soc",
    "over_export",
    "over_import",
    "program_shortfall_kw",
    "feeder_price_per_kwh",
    "over_feeder",
)
SITE_IDS = "site_id"
"""The sites' own names, (N,): a problem file may carry them, for people; the problem does without."""
PROVENANCE = ("problem_path", "problem_sha256")
"""Which problem a result answers: a result alone cannot say why."""
RESULT_NUMBERS = ("objective", "bound", "gap", "status", "method", "solver", "seconds")
WORTH_PACKING_BYTES = 10_000_000
"""Beyond this a file is written as it is: packing would take longer than solving."""


def read_problem(path: Path) -> Problem:
    """Read a problem from `.npz`, from `.json` with lists, or from `.parquet` with one row a site.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no problem.
    """
    arrays = _read(path)
    arrays.pop(SITE_IDS, None)
    return Problem.build(arrays)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read these arrays of a problem or result, as far as they are there; of `.npz` nothing else is read.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it holds no named arrays.
    """
    return _read(path, names)


def write_problem(problem: Problem, path: Path) -> None:
    """Write a problem; what is the same for every site is written once.

    Raises:
        InvalidRequest: the name does not end in a suffix that is known.
    """
    arrays: Arrays = {}
    by_site: list[str] = []
    for name, array in problem.arrays().items():
        letters = SPECS[name].shape
        repeated = once(array) is not array
        if 0 in array.shape[1:] or (letters == "CN" and not array.size):
            continue  # nothing to say but that there is none
        # (1, W), because one row means the same for every site only over steps
        arrays[name] = array[:1] if repeated and letters == "NW" else once(array)
        if "N" in letters and not repeated:
            by_site.append(name)
    _write(path, arrays, by_site)


def read_result(path: Path) -> Allocation:
    """Read a result back.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no result.
    """
    made: dict[str, Any] = _read(path)
    for name in PROVENANCE:
        made.pop(name, None)
    missing = [field.name for field in fields(Allocation) if field.name not in made]
    if missing:
        raise InvalidRequest(str(path), f"without {missing[0]}", "a result written by vpp allocate")
    for name in RESULT_NUMBERS:
        made[name] = np.asarray(made[name]).item()
    made["bound"] = -np.inf if made["bound"] is None else made["bound"]
    made["gap"] = np.inf if made["gap"] is None else made["gap"]
    for name in ("attempts", "audit"):
        made[name] = json.loads(str(np.asarray(made[name]).item()))
    made["attempts"] = tuple(made["attempts"])
    for field in fields(Allocation):
        if isinstance(made[field.name], list | np.ndarray):
            array = np.asarray(made[field.name])
            made[field.name] = array.astype(bool if field.name.startswith("over_") else np.float64, copy=False)
    for name in TABLES:
        if made[name].shape == (0,):  # how JSON writes a table without rows
            made[name] = made[name].reshape(0, len(made["shortfall_kw"]) + (name == "soc"))
    return Allocation(**made)


def write_result(answer: Allocation, path: Path, problem_path: Path | None = None) -> None:
    """Write a result, and where the problem it answers is and what is in that file.

    Raises:
        InvalidRequest: the name does not end in a suffix that is known.
    """
    arrays: Arrays = {field.name: np.asarray(getattr(answer, field.name)) for field in fields(answer)}
    for name in ("attempts", "audit"):
        arrays[name] = np.asarray(json.dumps(getattr(answer, name)))
    if problem_path is not None:
        about = (str(problem_path.resolve()), sha256(problem_path))
        arrays.update({name: np.asarray(value) for name, value in zip(PROVENANCE, about, strict=True)})
    _write(path, arrays, BY_SITE)


def sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(path: Path) -> None:
    """Refuse a name that cannot be written to, before anything is solved.

    Raises:
        InvalidRequest: its suffix is not known, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidRequest("out", str(path), "a name that ends in " + " or ".join(SUFFIXES))
    if not path.parent.is_dir():
        raise InvalidRequest("out", str(path), "a name in a folder that is there")


def allocate_file(problem_path: Path, out_path: Path, options: Options | None = None) -> dict[str, Any]:
    """Solve a problem file into a result file; returns a JSON-able summary."""
    check_writable(out_path)
    problem = read_problem(problem_path)
    shared: dict[str, Any] = {}
    if options is not None and options.fairness_epsilon is not None:
        found = fair(problem, options)
        answer = found.allocation
        shared = {
            "price_of_fairness": found.price_of_fairness, "gini_before": found.before.gini,
            "gini_after": found.after.gini, "shared_by": found.method,
        }  # fmt: skip
    else:
        answer = solve(problem, options)
    write_result(answer, out_path, problem_path)
    hours = problem.step_h
    return {
        "sites": problem.sites,
        "steps": problem.steps,
        **{name: _plain(np.asarray(getattr(answer, name))) for name in RESULT_NUMBERS},
        "delivered_kwh": float(answer.battery_kw.sum(axis=0) @ (hours * problem.committed)),
        "shortfall_kwh": float(answer.shortfall_kw @ hours),
        "program_shortfall_kwh": float((answer.program_shortfall_kw @ hours).sum()),
        "capacity_kw": answer.capacity_kw.tolist(),
        "attempts": list(answer.attempts),
        "audit": answer.audit,
        "sites_over_limit_when_idle": int((answer.over_export | answer.over_import).any(axis=1).sum()),
        "feeders_over_limit_when_idle": int(answer.over_feeder.any(axis=1).sum()),
        **shared,
    }


def options_from(
    *, gap: float | None = None, time_limit_s: float | None = None, workers: int | None = None,
    method: str | None = None, audit: str | None = None, seed: int | None = None, solver: str | None = None,
    dask_url: str | None = None, fairness_epsilon: float | None = None,
) -> Options:  # fmt: skip
    """Return options as a command line gives them; None takes the default.

    Raises:
        InvalidRequest: an option makes no sense; the message names it.
    """
    if solver is not None and solver not in set(SolverName):
        raise InvalidRequest("solver", solver, " or ".join(SolverName))
    given = {
        "gap": gap, "time_limit_s": time_limit_s, "workers": workers, "method": method, "audit": audit, "seed": seed,
        "dask_url": dask_url, "fairness_epsilon": fairness_epsilon,
        "solvers": None if solver is None else (SolverName(solver),),
    }  # fmt: skip
    return Options(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _read(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Named arrays of a file, all or some; numbers and texts as scalars."""
    if not path.exists():
        raise NotFound(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            return _some(_read_parquet(path), names)
        if path.suffix == ".json":
            return _some(_from_json(path, json.loads(path.read_text(encoding="utf-8"))), names)
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise InvalidRequest(str(path), "one array without a name", "an .npz file of named arrays")
            return {name: _owned(loaded[name]) for name in loaded.files if names is None or name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidRequest(str(path), str(error), "an .npz, .json or .parquet file of named arrays") from error


def _some(arrays: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    return arrays if names is None else {name: arrays[name] for name in names if name in arrays}


def _read_parquet(path: Path) -> dict[str, Any]:
    from vpp.allocation.parquet import read_table  # a fifth of a second that only these files should take

    by_site, about = read_table(path)
    if "program_site" in by_site:  # a row for each site there, for each programme here
        by_site["program_site"] = np.ascontiguousarray(by_site["program_site"].T)
    return {**_from_json(path, about), **{name: _owned(array) for name, array in by_site.items()}}


def _write(path: Path, arrays: Arrays, by_site: list[str] | tuple[str, ...]) -> None:
    """Write the whole file or nothing: under another name first."""
    check_writable(path)
    part = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".parquet":
            from vpp.allocation.parquet import write_table  # as above

            rows = {name: arrays[name].T if name == "program_site" else arrays[name] for name in by_site}
            write_table(part, rows, {name: _plain(a) for name, a in arrays.items() if name not in rows})
        elif path.suffix == ".json":
            part.write_text(json.dumps({name: _plain(a) for name, a in arrays.items()}, indent=1), encoding="utf-8")
        else:
            large = sum(array.nbytes for array in arrays.values()) > WORTH_PACKING_BYTES
            with part.open("wb") as out:
                (np.savez if large else np.savez_compressed)(out, allow_pickle=False, **arrays)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _from_json(path: Path, read: Any) -> dict[str, Any]:
    if not isinstance(read, dict):
        raise InvalidRequest(str(path), type(read).__name__, "named arrays: {name: values}")
    unbounded = {name for name, spec in SPECS.items() if spec.unbounded}
    return {name: _unlimited(value) if name in unbounded else value for name, value in read.items()}


def _unlimited(value: Any) -> Any:
    """JSON has no infinity: null is no limit."""
    if isinstance(value, list):
        return [_unlimited(each) for each in value]
    return np.inf if value is None else value


def _owned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, made read-only: nobody else has it, so nobody needs a copy."""
    inside: Any = array
    while isinstance(inside, np.ndarray):
        inside.setflags(write=False)
        inside = inside.base
    return array


def _plain(value: npt.NDArray[Any]) -> Any:
    """As JSON can say it: what is not finite becomes null."""
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return value.tolist()
    made = value.astype(object)
    made[~np.isfinite(value)] = None
    return made.tolist()
