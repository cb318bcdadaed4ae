"""OR-Tools' linear solvers, fed with arrays: GLOP through the model builder's helper, PDLP through its own interface.

Run by `bench_peers.py`; needs ortools, numpy, scipy.
"""

import numpy as np
import scipy.sparse  # noqa: F401 - imported before the clock starts
from ortools.linear_solver.python import model_builder_helper
from ortools.pdlp import solve_log_pb2, solvers_pb2
from ortools.pdlp.python import pdlp
from script import Solve, Solved, main
from textbook import Instance, assemble, parts

PDLP_TOLERANCE = 1e-4
"""The relative gap our own answer is asked for."""
THREADS = 2


def build(problem: Instance, method: str, time_limit_s: float) -> Solve:
    return {"glop": _glop, "pdlp": _pdlp}[method](problem, time_limit_s)


def _glop(problem: Instance, time_limit_s: float) -> Solve:
    textbook = assemble(problem)
    model = model_builder_helper.ModelBuilderHelper()
    model.fill_model_from_sparse_data(
        textbook.lower, textbook.upper, textbook.cost, textbook.row_lower, textbook.row_upper, textbook.matrix()
    )
    solver = model_builder_helper.ModelSolverHelper("glop")
    solver.set_time_limit_in_seconds(time_limit_s)

    def solve() -> Solved:
        solver.solve(model)
        power = parts(problem, textbook, np.array(solver.variable_values())) if solver.has_solution() else None
        done = solver.status() == model_builder_helper.SolveStatus.OPTIMAL
        return Solved(done, str(solver.status()).rpartition(".")[2], power)

    return solve


def _pdlp(problem: Instance, time_limit_s: float) -> Solve:
    textbook = assemble(problem)
    model = pdlp.QuadraticProgram()
    model.objective_vector, model.objective_offset = textbook.cost, textbook.offset
    model.variable_lower_bounds, model.variable_upper_bounds = textbook.lower, textbook.upper
    model.constraint_lower_bounds, model.constraint_upper_bounds = textbook.row_lower, textbook.row_upper
    model.constraint_matrix = textbook.matrix().tocsc()
    asked = solvers_pb2.PrimalDualHybridGradientParams(num_threads=THREADS)
    asked.termination_criteria.time_sec_limit = time_limit_s
    asked.termination_criteria.simple_optimality_criteria.eps_optimal_relative = PDLP_TOLERANCE
    asked.termination_criteria.simple_optimality_criteria.eps_optimal_absolute = PDLP_TOLERANCE

    def solve() -> Solved:
        result = pdlp.primal_dual_hybrid_gradient(model, asked)
        reason = result.solve_log.termination_reason
        power = parts(problem, textbook, np.array(result.primal_solution))
        status = solve_log_pb2.TerminationReason.Name(reason).removeprefix("TERMINATION_REASON_").lower()
        return Solved(reason == solve_log_pb2.TERMINATION_REASON_OPTIMAL, status, power)

    return solve


if __name__ == "__main__":
    main(build)
