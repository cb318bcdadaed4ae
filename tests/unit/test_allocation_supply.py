"""The supply curve and the next kW: read off an answer, never cheaper than they are, and right where it counts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_allocation import a_problem, random_arrays, random_problem
from vpp.allocation import (
    Constraint,
    Options,
    Problem,
    SupplyCurve,
    allocate_file,
    explain,
    explain_file,
    next_kw,
    solve,
    supply_curve,
    write_problem,
)
from vpp.allocation.binding import standing
from vpp.allocation.marginal import marginal
from vpp.allocation.paid import site_price_per_kwh
from vpp.allocation.supply import CHUNK, thinned
from vpp.cli.app import run as command_line
from vpp.domain.errors import InvalidRequest, NotFound, NotReady

FEW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10_000)


@FEW
@given(SEEDS)
def test_prices_read_off_an_answer_are_never_too_low_and_hold_its_own_price(seed: int) -> None:
    problem = random_problem(seed, sites=4, steps=8)
    answer = solve(problem)
    exact = explain(problem, answer, site=0).steps
    for t in range(8):
        found = marginal(problem, answer.battery_kw, answer.soc, answer.marginal_price_per_kwh, t)
        assert (found.low <= answer.marginal_price_per_kwh[t] + 1e-6).all()
        assert (found.high >= answer.marginal_price_per_kwh[t] - 1e-6).all()
        assert found.high[0] >= exact[t].high_per_kwh - 1e-5
        assert found.low[0] <= exact[t].low_per_kwh + 1e-5


def test_prices_read_off_an_answer_are_the_exact_ones_nearly_always() -> None:
    alike, names, all_ = 0, 0, 0
    for seed in range(25):
        problem = random_problem(seed, sites=4, steps=8)
        answer = solve(problem)
        price = site_price_per_kwh(problem, answer)
        for one in explain(problem, answer, site=0).steps:
            seen = standing(problem, answer.battery_kw, answer.soc, price, one.step, one.fleet_price_per_kwh)
            high = float(seen.high_per_kwh[0])
            alike += high == pytest.approx(one.high_per_kwh, abs=1e-5)
            names += seen.constraint[0] == one.constraint
            all_ += 1
    assert alike >= 0.98 * all_
    assert names >= 0.95 * all_


@FEW
@given(SEEDS)
def test_at_its_price_the_curve_holds_what_is_delivered(seed: int) -> None:
    problem = random_problem(seed, sites=12, steps=8)
    answer = solve(problem)
    for t in np.flatnonzero(problem.committed):
        curve = supply_curve(problem, answer, int(t))
        assert (np.diff(curve.price_per_kwh) >= 0).all()
        paid, begin = curve.paid_per_kwh, curve.fixed_kw - curve.charging_kw
        below = float(curve.power_kw[curve.price_per_kwh < paid - 1e-6].max(initial=begin))
        until = float(curve.power_kw[curve.price_per_kwh <= paid + 1e-6].max(initial=begin))
        assert below <= curve.delivered_kw + 1e-6
        assert until >= curve.delivered_kw - 1e-6
        assert curve.delivered_kw == pytest.approx(answer.battery_kw[:, t].sum())


@FEW
@given(SEEDS)
def test_who_is_next_really_gives_it_at_that_price(seed: int) -> None:
    """One kW more is asked of the fleet: it costs what the cheapest site said, or less."""
    arrays = random_arrays(seed, sites=5, steps=6, scale=0.3)
    problem = Problem.build(arrays)
    answer = solve(problem)
    t = int(np.flatnonzero(problem.committed)[0])
    offers = next_kw(problem, answer, t)
    assert [one.price_per_kwh for one in offers] == sorted(one.price_per_kwh for one in offers)
    if not offers or answer.shortfall_kw[t] > 0 or answer.battery_kw[:, t].sum() > problem.commitment_kw[t] + 1e-6:
        return
    more_kw = min(0.01, offers[0].room_kw)
    owed = problem.commitment_kw + np.where(np.arange(6) == t, more_kw, 0.0)
    dearer = solve(Problem.build({**arrays, "commitment_kw": owed})).objective - answer.objective
    says = min(offers[0].price_per_kwh, float(problem.shortfall_price_per_kwh[t]))
    assert dearer / (more_kw * problem.step_h[t]) <= says + 1e-4


def test_a_plain_fleet_has_a_plain_curve() -> None:
    # 5 kW each; the second site's battery wears twice as fast; both would buy the energy back at 0.3
    problem = a_problem(
        commitment_kw=np.array([3.0, 0.0, 0.0, 0.0]), net_load_kw=np.zeros((2, 4)), export_price_per_kwh=0.0,
        wear_price_per_kwh=np.array([0.1, 0.2]), terminal_value_per_kwh=0.3, capacity_kwh=1000.0, may_charge=False,
    )  # fmt: skip
    answer = solve(problem)
    curve = supply_curve(problem, answer, 0)
    assert curve.price_per_kwh.tolist() == pytest.approx([0.4, 0.4, 0.5])
    assert curve.power_kw.tolist() == pytest.approx([3.0, 5.0, 10.0])
    assert curve.site.tolist() == [0, 0, 1]
    assert [(one.site, round(one.price_per_kwh, 6), round(one.room_kw, 6)) for one in next_kw(problem, answer, 0)] == [
        (0, 0.4, 2.0), (1, 0.5, 5.0),
    ]  # fmt: skip


def test_a_site_behind_a_full_feeder_costs_what_the_feeder_takes_too() -> None:
    problem = a_problem(
        commitment_kw=np.full(4, 4.0), capacity_kwh=1000.0, export_limit_kw=50.0, net_load_kw=np.zeros((2, 4)),
        feeder=np.array([0, -1]), feeder_export_limit_kw=np.full((1, 4), 1.0), feeder_parent=np.array([-1]),
        feeder_import_limit_kw=np.full((1, 4), 50.0), may_charge=False,
        wear_price_per_kwh=np.array([0.05, 0.2]), terminal_value_per_kwh=0.3,
    )  # fmt: skip
    answer = solve(problem)
    price = site_price_per_kwh(problem, answer)
    assert (price[0] < price[1] - 0.1).all()
    offers = {one.site: one.price_per_kwh for one in next_kw(problem, answer, 0)}
    assert offers[0] >= answer.marginal_price_per_kwh[0] - 1e-6
    seen = standing(problem, answer.battery_kw, answer.soc, price, 0, float(answer.marginal_price_per_kwh[0]))
    assert seen.constraint.tolist() == [Constraint.FEEDER, Constraint.NOT_NEEDED]


def test_a_fleet_that_is_gone_through_in_parts_has_one_curve() -> None:
    sites = CHUNK + 50
    problem = random_problem(8, sites=sites, steps=3, scale=0.3)
    answer = solve(problem)
    t = int(np.flatnonzero(problem.committed)[0])
    curve, offers = supply_curve(problem, answer, t), next_kw(problem, answer, t, count=sites)
    until = curve.power_kw[curve.price_per_kwh <= curve.paid_per_kwh + 1e-6]
    assert until[-1] >= curve.delivered_kw - 1e-4
    few = problem.only(np.arange(CHUNK, sites))
    rows = slice(CHUNK, sites)
    alone = marginal(few, answer.battery_kw[rows], answer.soc[rows], answer.marginal_price_per_kwh, t)
    by_site = {one.site: one.price_per_kwh for one in offers}
    for i in np.flatnonzero(alone.room_kw > 1e-6):
        assert by_site[CHUNK + int(i)] == alone.high[i]
    assert set(curve.site.tolist()) & set(range(CHUNK, sites))


def test_a_curve_that_is_made_short_keeps_its_ends_and_what_is_around_the_price() -> None:
    price = np.linspace(0.0, 3.0, 9001) ** 2
    paid = float(price[4321])
    long = SupplyCurve(price, np.cumsum(np.full(9001, 0.5)), np.arange(9001), 2160.0, paid, 0.0, 0.0)
    short_price, short_kw = thinned(long, 120)
    assert len(short_price) <= 120
    assert set(price[4300:4340].tolist()) <= set(short_price.tolist())
    assert (short_price[-1], short_kw[-1]) == (price[-1], long.power_kw[-1])
    np.testing.assert_array_equal(short_kw, long.power_kw[np.searchsorted(price, short_price)])
    whole_price, _ = thinned(long, 10_000)
    np.testing.assert_array_equal(whole_price, price)


def test_an_answer_without_prices_has_no_curve() -> None:
    problem = random_problem(8, sites=3, steps=8)
    split = solve(problem, Options(solvers=()))
    with pytest.raises(NotReady, match="real-time split"):
        supply_curve(problem, split, 0)
    with pytest.raises(InvalidRequest, match="a step from 0 to 7"):
        next_kw(problem, solve(problem), 8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Problem]:
    problem, result = tmp_path / "problem.npz", tmp_path / "result.npz"
    made = random_problem(12, sites=9, steps=8)
    write_problem(made, problem)
    allocate_file(problem, result)
    return problem, result, made


@pytest.mark.parametrize("suffix", [".npz", ".json", ".parquet"])
def test_a_site_of_a_file_is_explained_as_in_memory(tmp_path: Path, suffix: str) -> None:
    problem, result = tmp_path / f"problem{suffix}", tmp_path / f"result{suffix}"
    made = replace(random_problem(12, sites=9, steps=8), wear_price_per_kwh=np.broadcast_to(np.array(0.05), (9,)))
    write_problem(made, problem)
    allocate_file(problem, result)
    answer = solve(made)
    for site in (0, 8):
        found = explain_file(result, str(site))
        assert found.explanation.steps == explain(made, answer, site).steps
        assert found.next_kw == ()
    asked = explain_file(result, "3", step=1)
    assert asked.next_kw == next_kw(made, answer, 1)
    assert len(asked.explanation.steps) == 1


def test_sites_are_asked_for_by_id_where_the_problem_has_ids(files: tuple[Path, Path, Problem]) -> None:
    problem, result, made = files
    ids = np.array([f"site-{i}" for i in range(9)])
    np.savez(problem, site_id=ids, **made.arrays())
    allocate_file(problem, result)
    found = explain_file(result, "site-4", step=0)
    assert (found.site_id, found.explanation.site) == ("site-4", 4)
    assert set(found.next_ids) <= set(ids.tolist())
    with pytest.raises(NotFound, match="no site 4"):
        explain_file(result, "4")


def test_a_problem_that_is_gone_or_another_is_refused(files: tuple[Path, Path, Problem]) -> None:
    problem, result, _ = files
    moved = problem.rename(problem.with_name("elsewhere.npz"))
    with pytest.raises(NotFound, match="is gone; give its new place with --problem"):
        explain_file(result, "0")
    assert explain_file(result, "0", moved).explanation.steps
    write_problem(random_problem(13, sites=9, steps=8), problem)
    with pytest.raises(NotReady, match="has changed since"):
        explain_file(result, "0")
    with pytest.raises(NotFound, match="a row from 0 to 8"):
        explain_file(result, "9", moved)


def test_the_command_says_it_to_people_and_machines(
    files: tuple[Path, Path, Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    result = str(files[1])
    assert command_line(["explain", result, "--site", "2"]) == 0
    shown = capsys.readouterr().out
    assert "site 2" in shown
    assert "step 0" in shown or "step 1" in shown
    assert command_line(["explain", result, "--site", "2", "--step", "1", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["row"] == 2
    assert [one["step"] for one in told["steps"]] == [1]
    assert set(told["next_kw"][0]) == {"site", "price_per_kwh", "room_kw"}
    assert command_line(["explain", result, "--site", "2", "--step", "8"]) == 1
    assert "a step from 0 to 7" in capsys.readouterr().err
