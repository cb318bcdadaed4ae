"""The peers' textbook programme is our problem: the benchmark compares like with like.

Goal: a term missing, or of the wrong sign, in what the peers are given fails here. Method: solve the
textbook programme and our own on random small problems, and judge our answer by the textbook's yardstick.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.peers import textbook
from tests.builders_allocation import a_problem, random_arrays
from vpp.allocation import Problem, solve, write_problem
from vpp.allocation.linear import LinearProgram
from vpp.allocation.solver import SolverName
from vpp.allocation.solver import run as run_solver

SEEDS = range(12)


def _problem(seed: int) -> Problem:
    """Random trouble; every third one with a price on excess, every third one with capacity bids."""
    arrays = {**random_arrays(seed, sites=4, steps=8), "fixed_kw": np.linspace(0.0, 3.0, 8)}
    if seed % 3 == 1:
        arrays["excess_price_per_kwh"] = 0.8
    if seed % 3 == 2:
        arrays |= {
            "commitment_kw": 0.0, "committed": False, "capacity_window": np.array([0, 0, 0, -1, -1, 1, 1, -1]),
            "capacity_price_per_kw": np.array([1.2, 0.3]), "capacity_limit_kw": np.array([np.inf, 9.0]),
            "shortfall_price_per_kwh": 2.0,
        }  # fmt: skip
    return Problem.build(arrays)


def _solved(p: textbook.Instance) -> tuple[float, np.ndarray[Any, Any]]:
    """Cost and columns of the textbook programme: by scipy where it is installed, else by OR-Tools' HiGHS."""
    lp = textbook.assemble(p)
    rows, columns, values = lp.coordinates()
    try:
        optimize = importlib.import_module("scipy.optimize")
    except ModuleNotFoundError:
        order = np.lexsort((columns, rows))
        arrays = (lp.cost, lp.lower, lp.upper, lp.row_lower, lp.row_upper, rows[order], columns[order], values[order])
        found = run_solver(LinearProgram(*arrays), SolverName.HIGHS, 30.0)
        assert found.optimal, found.status
        return float(lp.cost @ found.values) + lp.offset, found.values
    constraint = optimize.LinearConstraint(lp.matrix(), lp.row_lower, lp.row_upper)
    done = optimize.milp(lp.cost, constraints=constraint, bounds=optimize.Bounds(lp.lower, lp.upper))
    return float(done.fun) + lp.offset, done.x


@pytest.mark.parametrize("seed", SEEDS)
def test_the_textbook_programme_costs_what_ours_costs(seed: int) -> None:
    problem = _problem(seed)
    cost, _ = _solved(textbook.instance(problem.arrays()))
    assert solve(problem).objective == pytest.approx(cost, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_yardstick_finds_the_programmes_own_cost_and_no_broken_limit(seed: int) -> None:
    p = textbook.instance(_problem(seed).arrays())
    cost, x = _solved(p)
    judged = textbook.judge(p, *textbook.parts(p, textbook.assemble(p), x))
    assert judged["objective"] == pytest.approx(cost, rel=1e-6, abs=1e-5)
    assert max(judged["over_kw"], judged["over_kwh"]) < 1e-6


def test_the_yardstick_sees_power_energy_and_export_beyond_their_limits() -> None:
    p = textbook.instance(a_problem(export_limit_kw=np.array([0.0, np.inf])).arrays())
    idle, one_kw = np.zeros(p.size), np.zeros(p.size)
    one_kw[0, 0] = 3.0  # a load of 2 kW, no export
    assert textbook.judge(p, idle, one_kw, np.empty(0))["over_kw"] == pytest.approx(1.0)
    one_kw[0, 0] = 0.0
    one_kw[1] = 2.0  # 8 kWh of the 6 above the floor
    judged = textbook.judge(p, idle, one_kw, np.empty(0))
    assert judged["over_kwh"] == pytest.approx(2.0)
    assert judged["over_kw"] == 0.0
    one_kw[1, 0] = 7.0
    assert textbook.judge(p, idle, one_kw, np.empty(0))["over_kw"] == pytest.approx(2.0)


@pytest.mark.parametrize("problem", [_problem(2), a_problem()], ids=["all arrays", "defaults, no windows"])
def test_a_problem_read_back_from_its_file_is_the_same_programme(problem: Problem, tmp_path: Path) -> None:
    write_problem(problem, tmp_path / "p.npz")
    ours, theirs = (
        textbook.assemble(p) for p in (textbook.instance(problem.arrays()), textbook.read(tmp_path / "p.npz"))
    )
    for name in ("cost", "lower", "upper", "row_lower", "row_upper"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    for mine, other in zip(ours.coordinates(), theirs.coordinates(), strict=True):
        assert np.array_equal(mine, other)


def test_the_first_few_sites_owe_their_share() -> None:
    p = textbook.few(textbook.instance(_problem(0).arrays() | {"fixed_kw": np.zeros(8)}), 2)
    whole = textbook.instance(_problem(0).arrays() | {"fixed_kw": np.zeros(8)})
    assert p.size == (2, whole.size[1])
    assert np.allclose(p.owed, whole.owed / 2)


def test_a_problem_beyond_the_textbook_is_refused_rather_than_compared() -> None:
    arrays = a_problem().arrays()
    with pytest.raises(ValueError, match="beyond the textbook"):
        textbook.instance({**arrays, "commitment_kw": np.full(4, -2.0)})
    with pytest.raises(ValueError, match="feeder_parent"):
        textbook.instance({**arrays, "feeder_parent": np.array([-1])})
