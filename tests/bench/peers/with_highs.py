"""HiGHS through highspy's arrays, by method: simplex, pdlp, and ipx and hipo with or without crossover.

Run by `bench_peers.py`; needs highspy with its extras (HiPO's BLAS and ordering), numpy, scipy.
"""

import highspy
import numpy as np
import scipy.sparse  # noqa: F401 - imported before the clock starts
from script import Solve, Solved, main
from textbook import Instance, assemble, parts

CROSSOVER = "_crossover"
PDLP_TOLERANCE = 1e-4
"""The relative gap our own answer is asked for; at the default of 1e-7 it seldom finishes."""


def build(problem: Instance, method: str, time_limit_s: float) -> Solve:
    textbook = assemble(problem)
    matrix = textbook.matrix()
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(textbook.cost), textbook.rows
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = textbook.cost, textbook.lower, textbook.upper
    lp.row_lower_, lp.row_upper_ = textbook.row_lower, textbook.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    highs = highspy.Highs()
    options = {
        "output_flag": False, "time_limit": time_limit_s, "solver": method.removesuffix(CROSSOVER),
        "run_crossover": "on" if method.endswith(CROSSOVER) else "off",
    }  # fmt: skip
    if method == "pdlp":
        options["kkt_tolerance"] = PDLP_TOLERANCE
    for name, value in options.items():
        if highs.setOptionValue(name, value) == highspy.HighsStatus.kError:
            raise ValueError(f"HiGHS refuses {name} = {value}")
    highs.passModel(lp)

    def solve() -> Solved:
        highs.run()
        status = highs.getModelStatus()
        solution = highs.getSolution()
        power = parts(problem, textbook, np.array(solution.col_value)) if solution.value_valid else None
        return Solved(status == highspy.HighsModelStatus.kOptimal, highs.modelStatusToString(status), power)

    return solve


if __name__ == "__main__":
    main(build)
