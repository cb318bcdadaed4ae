"""The thin file over OR-Tools for programmes with yes/no columns.  Loaded by `mip.py` for the first.

One thread and one seed throughout. Wall time is only the far end: where an answer has to be the same on
every machine, `work_limit` counts the solver's own work instead (CP-SAT only).
"""

import time
from datetime import timedelta

import numpy as np
from ortools.math_opt import (
    callback_pb2,
    model_parameters_pb2,
    model_pb2,
    parameters_pb2,
    result_pb2,
)
from ortools.math_opt.core.python import solver as core
from pybind11_abseil.status import StatusNotOk  # type: ignore[import-untyped]

from vpp.allocation.discrete.mip import MipAnswer, MipSolver
from vpp.allocation.sparse import LinearProgram
from vpp.domain.fleet import Bools, Floats

_TYPES = {
    MipSolver.HIGHS: parameters_pb2.SOLVER_TYPE_HIGHS,
    MipSolver.CP_SAT: parameters_pb2.SOLVER_TYPE_CP_SAT,
    MipSolver.GSCIP: parameters_pb2.SOLVER_TYPE_GSCIP,
}


def solve(
    lp: LinearProgram, integer: Bools, *, solver: MipSolver, time_limit_s: float, gap: float,
    absolute_gap: float, hint: Floats | None, work_limit: float | None,
) -> MipAnswer:  # fmt: skip
    """`mip.solve`."""
    started = time.perf_counter()
    guide = model_parameters_pb2.ModelSolveParametersProto()
    if hint is not None:
        guide.solution_hints.append(_sparse(hint))
    try:
        result = core.solve(
            _model(lp, integer), _TYPES[solver], parameters_pb2.SolverInitializerProto(),
            _parameters(solver, time_limit_s, (gap, absolute_gap), work_limit), guide, None,
            callback_pb2.CallbackRegistrationProto(), None, None,
        )  # fmt: skip
    except (StatusNotOk, RuntimeError, ValueError) as error:
        return MipAnswer(None, np.inf, -np.inf, f"error: {error}", solver, time.perf_counter() - started)
    return _answer(len(lp.cost), result, solver, time.perf_counter() - started)


def _sparse(values: Floats) -> model_parameters_pb2.SolutionHintProto:
    known = np.flatnonzero(~np.isnan(values))
    hint = model_parameters_pb2.SolutionHintProto()
    hint.variable_values.ids.extend(known.tolist())
    hint.variable_values.values.extend(values[known].tolist())
    return hint


def _model(lp: LinearProgram, integer: Bools) -> model_pb2.ModelProto:
    model = model_pb2.ModelProto()
    variables, objective = model.variables, model.objective.linear_coefficients
    variables.ids.extend(range(len(lp.cost)))
    variables.lower_bounds.extend(lp.lower.tolist())
    variables.upper_bounds.extend(lp.upper.tolist())
    variables.integers.extend(integer.tolist())
    costly = np.flatnonzero(lp.cost)
    objective.ids.extend(costly.tolist())
    objective.values.extend(lp.cost[costly].tolist())
    model.linear_constraints.ids.extend(range(len(lp.row_lower)))
    model.linear_constraints.lower_bounds.extend(lp.row_lower.tolist())
    model.linear_constraints.upper_bounds.extend(lp.row_upper.tolist())
    matrix = model.linear_constraint_matrix
    matrix.row_ids.extend(lp.rows.tolist())
    matrix.column_ids.extend(lp.columns.tolist())
    matrix.coefficients.extend(lp.values.tolist())
    return model


def _parameters(
    solver: MipSolver, time_limit_s: float, gaps: tuple[float, float], work_limit: float | None
) -> parameters_pb2.SolveParametersProto:
    made = parameters_pb2.SolveParametersProto(random_seed=1)
    made.time_limit.FromTimedelta(timedelta(seconds=max(time_limit_s, 1e-3)))
    made.relative_gap_tolerance, made.absolute_gap_tolerance = gaps
    if solver is not MipSolver.HIGHS:  # HiGHS refuses a number of threads and a thread pool of its own
        made.threads = 1
    if solver is MipSolver.CP_SAT and work_limit is not None:
        made.cp_sat.max_deterministic_time = work_limit
    return made


def _answer(columns: int, result: result_pb2.SolveResultProto, solver: MipSolver, seconds: float) -> MipAnswer:
    reason = result_pb2.TerminationReasonProto.Name(result.termination.reason)
    status = reason.removeprefix("TERMINATION_REASON_").lower()
    bound = float(result.termination.objective_bounds.dual_bound)
    best = next((s for s in result.solutions if s.HasField("primal_solution")), None)
    if best is None:
        return MipAnswer(None, np.inf, bound, status, solver, seconds)
    values = np.zeros(columns)
    values[list(best.primal_solution.variable_values.ids)] = list(best.primal_solution.variable_values.values)
    return MipAnswer(values, float(best.primal_solution.objective_value), bound, status, solver, seconds)
