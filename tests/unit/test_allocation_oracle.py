"""Every method against one textbook programme, solved by GLOP and by HiGHS in another process.

Each kind of problem that occurs, many sizes and seeds: the objective must be the textbook's, nothing proven may lie
above it, and no hard limit may be broken.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.builders_allocation import breaches
from tests.builders_instances import KINDS, instance
from tests.oracle_allocation import OracleProcess
from vpp.allocation import Allocation, Options, Problem, solve
from vpp.allocation.feeders import below
from vpp.allocation.programs import delivered_kw, patterns
from vpp.domain.errors import InvalidRequest

LONG = ("p3", "dst_short", "dst_long", "c_rate")
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 24)
SMALLER = (1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 8)
LARGE = (("p1", 100), ("p2b", 50), ("p3", 30), ("evening", 100), ("feeders", 100), ("programs", 100), ("mixed", 100))
CASES = [
    *((kind, sites, seed) for kind in KINDS for seed, sites in enumerate(SMALLER if kind in LONG else SIZES)),
    *((kind, sites, 100) for kind, sites in LARGE),
]
EXACT = 1e-6
GAP = 1e-4
VIOLATION = 1e-6
PATIENT_S = 60.0
ENOUGH_SITES = 30
"""From here on coordination by prices must reach the gap it is asked for."""
COORDINATED = [case for case in CASES if case[0] not in ("programs", "mixed")]


@pytest.fixture(scope="module")
def oracle() -> Iterator[OracleProcess]:
    """What each case costs at least, as a process of its own works it out meanwhile."""
    with OracleProcess(CASES) as process:
        yield process


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 200
    assert max(sites for _, sites, _ in CASES) == 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_one_programme_costs_what_the_textbook_says(oracle: OracleProcess, case: tuple[str, int, int]) -> None:
    problem = instance(*case)
    answer = solve(problem, Options(method="ortools", time_limit_s=PATIENT_S))
    best = oracle.objective(case)
    size = max(1.0, abs(best))
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(best, rel=EXACT, abs=EXACT)
    assert answer.bound <= best + 1e-9 * size
    assert 0 <= answer.gap <= EXACT
    assert worst_breach(problem, answer) <= VIOLATION


@pytest.mark.parametrize("case", COORDINATED, ids=lambda case: "-".join(map(str, case)))
def test_coordination_by_prices_is_within_the_gap_it_states(oracle: OracleProcess, case: tuple[str, int, int]) -> None:
    problem, answer = coordinated(case)
    best = oracle.objective(case)
    size = max(1.0, abs(best))
    assert best - EXACT * size <= answer.objective <= best + answer.gap * max(1.0, abs(answer.objective)) + EXACT * size
    assert answer.bound <= best + EXACT * size
    assert worst_breach(problem, answer) <= VIOLATION
    assert answer.status == ("optimal" if answer.gap <= GAP else "feasible")
    if case[1] >= ENOUGH_SITES:
        assert answer.status == "optimal"


def coordinated(case: tuple[str, int, int]) -> tuple[Problem, Allocation]:
    """A case solved by coordination alone. Its kernels are imported here, because that takes most of a second."""
    from vpp.allocation.sequential import solve_sequential, takes

    problem = instance(*case)
    assert takes(problem) is None
    return problem, solve_sequential(problem, Options(gap=GAP, time_limit_s=PATIENT_S))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("programs", "mixed")])
@pytest.mark.parametrize("sites", [2, 40])
def test_every_method_gives_the_same_cost_within_the_gap(kind: str, sites: int) -> None:
    problem = instance(kind, sites, 77)
    answers = [solve(problem, Options(method=m, gap=GAP, time_limit_s=PATIENT_S)) for m in ("ortools", "sequential")]
    assert [answer.status for answer in answers] == ["optimal", "optimal"]
    assert answers[1].objective == pytest.approx(answers[0].objective, rel=GAP, abs=GAP)


@pytest.mark.parametrize("kind", ["programs", "mixed"])
def test_what_coordination_does_not_take_is_refused_by_name_and_chosen_otherwise(kind: str) -> None:
    problem = instance(kind, 500, 0)
    with pytest.raises(InvalidRequest, match=r"method.*programmes count different sites"):
        solve(problem, Options(method="sequential"))
    small = instance(kind, 20, 0)
    assert solve(small).method == "linear_programme"


def worst_breach(p: Problem, answer: Allocation) -> float:
    """By how much the worst hard limit is broken [kW, or SOC]: of a site, a feeder, or a programme's sites."""
    site = max(breaches(p, answer.battery_kw, answer.soc).values())
    idle, flow = -below(p, p.net_load_kw), below(p, answer.battery_kw - p.net_load_kw)
    over = flow - np.maximum(p.feeder_export_limit_kw, idle)
    under = np.minimum(-p.feeder_import_limit_kw, idle) - flow
    grouped = patterns(p)
    owed = (grouped.serves[:, :, None] & (p.program_commitment_kw > 0)).any(axis=1)
    absorbed = np.where(owed, -delivered_kw(grouped, answer.battery_kw), 0.0)
    return max(site, over.max(initial=0.0), under.max(initial=0.0), absorbed.max(initial=0.0))
