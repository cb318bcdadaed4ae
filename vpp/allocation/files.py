"""Problems and results as files.  Called by `vpp allocate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.exact import Options, solve
from vpp.allocation.problem import Problem
from vpp.allocation.solver import SolverName
from vpp.domain.errors import InvalidRequest, NotFound

RESULT_ARRAYS = (
    "battery_kw", "soc", "shortfall_kw", "capacity_kw", "marginal_price_per_kwh", "site_cost",
    "over_export", "over_import",
)  # fmt: skip
RESULT_NUMBERS = ("objective", "bound", "gap", "status", "solver", "seconds")


def read_problem(path: Path) -> Problem:
    """Read a problem from `.npz`, or from `.json` with lists.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no problem.
    """
    if not path.exists():
        raise NotFound(f"{path}: no such file")
    try:
        if path.suffix == ".json":
            return Problem.build(json.loads(path.read_text()))
        with np.load(path, allow_pickle=False) as arrays:
            return Problem.build({name: arrays[name] for name in arrays.files})
    except (ValueError, OSError) as error:
        raise InvalidRequest(str(path), str(error), "an .npz or .json file of named arrays") from error


def write_problem(problem: Problem, path: Path) -> None:
    """Write a problem as `.npz`."""
    np.savez_compressed(path, allow_pickle=False, **problem.arrays())


def write_result(answer: Allocation, path: Path) -> None:
    """Write a result: `.json` with lists, anything else as `.npz`."""
    arrays = {name: np.asarray(getattr(answer, name)) for name in (*RESULT_ARRAYS, *RESULT_NUMBERS)}
    if path.suffix == ".json":
        finite = {name: _json(value) for name, value in arrays.items()}
        path.write_text(json.dumps(finite, indent=1))
    else:
        np.savez_compressed(path, allow_pickle=False, **arrays)


def allocate_file(problem_path: Path, out_path: Path, options: Options | None = None) -> dict[str, Any]:
    """Solve a problem file into a result file; returns a JSON-able summary."""
    problem = read_problem(problem_path)
    answer = solve(problem, options)
    write_result(answer, out_path)
    summary = {name: _json(np.asarray(getattr(answer, name))) for name in RESULT_NUMBERS}
    hours = problem.step_h
    return {
        "sites": problem.sites,
        "steps": problem.steps,
        **summary,
        "delivered_kwh": float(answer.battery_kw.sum(axis=0) @ (hours * problem.committed)),
        "shortfall_kwh": float(answer.shortfall_kw @ hours),
        "attempts": list(answer.attempts),
        "sites_over_limit_when_idle": int((answer.over_export | answer.over_import).any(axis=1).sum()),
    }


def options_from(time_limit_s: float | None = None, solver: str | None = None) -> Options:
    """Return options as a command line gives them.

    Raises:
        InvalidRequest: no such solver, or a limit that is not above zero.
    """
    if solver is not None and solver not in set(SolverName):
        raise InvalidRequest("solver", solver, " or ".join(SolverName))
    if time_limit_s is not None and not time_limit_s > 0:
        raise InvalidRequest("time_limit_s", time_limit_s, "more than 0 s")
    base = Options()
    return Options(
        time_limit_s=base.time_limit_s if time_limit_s is None else time_limit_s,
        solvers=base.solvers if solver is None else (SolverName(solver),),
    )


def _json(value: np.ndarray[Any, Any]) -> Any:
    """As JSON can say it: what is not finite becomes null."""
    if value.dtype.kind != "f":
        return value.tolist()
    made = value.astype(object)
    made[~np.isfinite(value)] = None
    return made.tolist()
