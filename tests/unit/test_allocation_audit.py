"""The second look: it agrees with a right claim, names a wrong one, and trusts no solver that proves nothing."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders_allocation import random_problem
from vpp.allocation import Problem
from vpp.allocation.audit import audit_sites, sample
from vpp.allocation.linear import build
from vpp.allocation.options import SolverName
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import LinearProgram
from vpp.domain.fleet import Floats

PRICE = np.random.default_rng(3).uniform(0.0, 0.7, 12)


def least(problem: Problem, price: Floats) -> Floats:
    """What each site costs at least, one by one, by HiGHS."""
    costs = []
    for i in range(problem.sites):
        lp, _ = build(problem.only(np.array([i])), price)
        solution = run(lp, SolverName.HIGHS, 10.0)
        assert solution.optimal
        costs.append(lp.cost @ solution.values + lp.offset)
    return np.array(costs)


@pytest.mark.parametrize("seed", range(6))
def test_a_right_claim_passes(seed: int) -> None:
    problem = random_problem(seed, sites=40, steps=12)
    report = audit_sites(problem, PRICE, least(problem, PRICE), np.arange(40))
    assert report.passed, report.failures
    assert report.worst_relative_difference < 1e-9
    assert (report.sites, report.solver) == (40, "glop+highs")
    assert report.as_dict()["failures"] == []


@pytest.mark.parametrize(("by", "word"), [(1e-3, "above"), (-1e-3, "below")])
def test_a_claim_that_is_off_is_named_with_its_side(by: float, word: str) -> None:
    problem = random_problem(2, sites=40, steps=12)
    claim = least(problem, PRICE)
    claim[17] += by * max(1.0, abs(claim[17]))
    report = audit_sites(problem, PRICE, claim, np.arange(40))
    assert not report.passed
    assert len(report.failures) == 1
    assert report.failures[0].startswith(f"site 17: the bound {claim[17]:.9g} is {word}")
    assert audit_sites(problem, PRICE, claim, np.arange(17)).passed


def test_prices_may_differ_between_sites_and_feeders_do_not_hold_a_site_alone() -> None:
    problem = random_problem(4, sites=8, steps=12)
    tight = replace(
        problem, feeder=np.zeros(8, dtype=np.int64), feeder_parent=np.array([-1]),
        feeder_export_limit_kw=np.zeros((1, 12)), feeder_import_limit_kw=np.zeros((1, 12)),
    )  # fmt: skip
    price = PRICE + np.linspace(0.0, 0.3, 8)[:, None]
    claim = np.array([least(problem.only(np.array([i])), price[i])[0] for i in range(8)])
    asked: list[SolverName] = []

    def counted(lp: LinearProgram, solver: SolverName, time_limit_s: float) -> Solution:
        asked.append(solver)
        return run(lp, solver, time_limit_s)

    assert audit_sites(tight, price, claim, np.arange(8), solver=counted).passed
    # all in one programme, and no site that had to be looked at again alone but for the second opinions
    assert asked == [SolverName.GLOP, *[SolverName.HIGHS] * 3]


def test_a_claim_that_is_no_number_fails() -> None:
    problem = random_problem(1, sites=3, steps=12)
    claim = least(problem, PRICE)
    claim[1] = np.nan
    assert not audit_sites(problem, PRICE, claim, np.arange(3)).passed


def test_where_glop_proves_nothing_highs_is_asked_and_where_neither_does_the_audit_fails() -> None:
    problem = random_problem(5, sites=20, steps=12)
    claim = least(problem, PRICE)
    silent = {SolverName.GLOP}

    def run_or_not(lp: LinearProgram, solver: SolverName, time_limit_s: float) -> Solution:
        found = run(lp, solver, time_limit_s)
        return replace(found, optimal=False, status="imprecise") if solver in silent else found

    report = audit_sites(problem, PRICE, claim, np.arange(20), solver=run_or_not)
    assert report.passed
    assert report.solver == "glop+highs"
    silent.add(SolverName.HIGHS)
    report = audit_sites(problem, PRICE, claim, np.arange(20), solver=run_or_not)
    assert not report.passed
    assert "no solver proved" in report.failures[0]


def test_a_sample_is_without_repetition_in_order_and_the_same_for_a_seed() -> None:
    chosen = sample(1000, 50, seed=7)
    assert len(set(chosen.tolist())) == 50
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, sample(1000, 50, seed=7))
    np.testing.assert_array_equal(sample(4, 50, seed=7), np.arange(4))
