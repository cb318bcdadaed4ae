"""The thin file over OR-Tools for linear programmes.  Loaded by `solver.py` when the first is solved.

MathOpt's model protocol buffer is filled from arrays and handed to its core, because adding terms one
by one through the Python API costs 50-100 times as much and 9.15 has no array API (or-tools #5179).
Its error translation is broken in 9.15 ('StatusNotOk' has no 'canonical_code'), so it is caught here.
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
    solution_pb2,
)
from ortools.math_opt.core.python import solver as core
from pybind11_abseil.status import StatusNotOk  # type: ignore[import-untyped]

from vpp.allocation.solver import Solution, SolverName
from vpp.allocation.sparse import LinearProgram

_TYPES = {
    SolverName.GLOP: parameters_pb2.SOLVER_TYPE_GLOP,
    SolverName.HIGHS: parameters_pb2.SOLVER_TYPE_HIGHS,
}
_NOTHING = np.empty(0)


def solve(lp: LinearProgram, solver: SolverName, time_limit_s: float) -> Solution:
    """`solver.run`."""
    started = time.perf_counter()
    try:
        result = core.solve(
            _model(lp),
            _TYPES[solver],
            parameters_pb2.SolverInitializerProto(),
            _parameters(solver, time_limit_s),
            model_parameters_pb2.ModelSolveParametersProto(),
            None,
            callback_pb2.CallbackRegistrationProto(),
            None,
            None,
        )
    except (StatusNotOk, RuntimeError, ValueError) as error:
        return Solution(False, f"error: {error}", solver, time.perf_counter() - started, _NOTHING, _NOTHING, -np.inf)
    return _solution(lp, result, solver, time.perf_counter() - started)


def _model(lp: LinearProgram) -> model_pb2.ModelProto:
    model = model_pb2.ModelProto()
    columns, rows = len(lp.cost), len(lp.row_lower)
    model.variables.ids.extend(range(columns))
    model.variables.lower_bounds.extend(lp.lower.tolist())
    model.variables.upper_bounds.extend(lp.upper.tolist())
    model.variables.integers.extend([False] * columns)
    costly = np.flatnonzero(lp.cost)
    model.objective.linear_coefficients.ids.extend(costly.tolist())
    model.objective.linear_coefficients.values.extend(lp.cost[costly].tolist())
    model.linear_constraints.ids.extend(range(rows))
    model.linear_constraints.lower_bounds.extend(lp.row_lower.tolist())
    model.linear_constraints.upper_bounds.extend(lp.row_upper.tolist())
    model.linear_constraint_matrix.row_ids.extend(lp.rows.tolist())
    model.linear_constraint_matrix.column_ids.extend(lp.columns.tolist())
    model.linear_constraint_matrix.coefficients.extend(lp.values.tolist())
    return model


def _parameters(solver: SolverName, time_limit_s: float) -> parameters_pb2.SolveParametersProto:
    # one thread, one seed: the same problem gives the same vertex
    made = parameters_pb2.SolveParametersProto(random_seed=1)
    made.time_limit.FromTimedelta(timedelta(seconds=time_limit_s))
    if solver is SolverName.GLOP:  # HiGHS refuses a number of threads and a thread pool of its own
        made.threads = 1
    return made


def _solution(lp: LinearProgram, result: result_pb2.SolveResultProto, solver: SolverName, seconds: float) -> Solution:
    reason = result_pb2.TerminationReasonProto.Name(result.termination.reason)
    status = reason.removeprefix("TERMINATION_REASON_").lower()
    bound = result.termination.objective_bounds.dual_bound
    optimal = result.termination.reason == result_pb2.TERMINATION_REASON_OPTIMAL
    prices = np.zeros(len(lp.row_lower))
    if not result.solutions:
        return Solution(False, status, solver, seconds, _NOTHING, prices, bound)
    answer = result.solutions[0]
    primal, dual = answer.primal_solution, answer.dual_solution.dual_values
    if not optimal and primal.feasibility_status != solution_pb2.SOLUTION_STATUS_FEASIBLE:
        return Solution(False, status, solver, seconds, _NOTHING, prices, bound)
    values = np.zeros(len(lp.cost))
    values[list(primal.variable_values.ids)] = list(primal.variable_values.values)
    prices[list(dual.ids)] = list(dual.values)
    return Solution(optimal, status, solver, seconds, values, prices, bound)
