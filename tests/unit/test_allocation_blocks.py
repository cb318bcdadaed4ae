"""Mode-only sites as blocks: one start, one release, never more than can be absorbed."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vpp.allocation import ModeState, Problem
from vpp.allocation.blocks import Blocks, choose, deliverable_kwh

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=60, deadline=None)
IDLE, RUNNING, RELEASED = ModeState.IDLE, ModeState.RUNNING, ModeState.RELEASED


def homes(count: int = 4, steps: int = 8, **changes: Any) -> Problem:
    """Homes of 5 kW and 10 kWh, full, with a reserve of 20 %: 8 kWh each; half-hour steps, all of them the event."""
    usual: dict[str, Any] = {
        "step_h": 0.5, "net_load_kw": np.full((count, steps), 1.0), "max_charge_kw": np.full(count, 5.0),
        "max_discharge_kw": np.full(count, 5.0), "capacity_kwh": np.full(count, 10.0), "soc": np.ones(count),
        "soc_floor": np.full(count, 0.2), "committed": np.ones(steps, dtype=bool),
    }  # fmt: skip
    return Problem.build({**usual, **changes})


def alone(problem: Problem, target_kw: Any, states: list[ModeState] | None = None, **more: Any) -> Blocks:
    """The blocks of a fleet without any site that takes kW."""
    nobody = np.zeros(problem.steps)
    target = np.broadcast_to(np.asarray(target_kw, float), problem.steps)
    return choose(problem, states or [IDLE] * problem.sites, target, nobody, 0.0, **more)


def switches(power_kw: np.ndarray) -> np.ndarray:
    """How often each site goes on or off, (M,)."""
    on = np.pad(power_kw > 0, ((0, 0), (1, 1)))
    return (on[:, 1:] != on[:, :-1]).sum(axis=1)


@FEW
@given(SEEDS)
def test_blocks_never_exceed_the_target_and_each_runs_at_most_once(seed: int) -> None:
    r = np.random.default_rng(seed)
    problem = homes(12, 10, soc=r.uniform(0.1, 1.0, 12), step_h=r.choice([0.25, 0.5], 10))
    target = r.uniform(0, 60, 10)
    chosen = alone(problem, target, tolerance=0.02)
    assert (chosen.power_kw.sum(axis=0) <= target * 1.02 + 1e-6).all()
    assert (switches(chosen.power_kw) <= 2).all()
    used = chosen.power_kw @ problem.step_h
    assert (used <= deliverable_kwh(problem) + 1e-9).all()


def test_a_block_that_cannot_be_absorbed_is_not_started() -> None:
    assert alone(homes(4), 4.0).start == (-1, -1, -1, -1)


def test_blocks_follow_one_another_to_hold_a_target_all_along() -> None:
    chosen = alone(homes(3, 8), 5.0)
    # each holds 5 kW for 3.2 steps; the next starts in the step after, where it can be absorbed whole
    np.testing.assert_allclose(chosen.power_kw.sum(axis=0), [5, 5, 5, 1, 5, 5, 5, 1])
    assert sorted(chosen.start) == [-1, 0, 4]


def test_blocks_carry_only_their_share_where_others_take_kw() -> None:
    problem = homes(10, 4)
    chosen = choose(problem, [IDLE] * 10, np.full(4, 40.0), np.full(4, 100.0), others_kwh=240.0)
    # a quarter of all energy is theirs: 10 of 40 kW
    np.testing.assert_allclose(chosen.power_kw[:, 0].sum(), 10.0)


def test_blocks_carry_what_the_others_cannot() -> None:
    chosen = choose(homes(10, 4), [IDLE] * 10, np.full(4, 40.0), np.full(4, 5.0), others_kwh=240.0)
    np.testing.assert_allclose(chosen.power_kw[:, 0].sum(), 35.0)


def test_a_running_site_stays_in_and_a_released_one_is_not_started_again() -> None:
    chosen = alone(homes(4), 10.0, [RELEASED, RUNNING, IDLE, RELEASED])
    assert chosen.power_kw[0].sum() == 0
    assert chosen.power_kw[3].sum() == 0
    assert chosen.start[1] == 0
    assert chosen.power_kw[1, 0] == 5.0
    assert chosen.start[2] == 0


def test_running_sites_are_released_where_the_target_falls_emptiest_first() -> None:
    problem = homes(3, 4, soc=np.array([1.0, 0.6, 0.9]))
    chosen = alone(problem, [15.0, 10.0, 10.0, 10.0], [RUNNING] * 3)
    np.testing.assert_allclose(chosen.power_kw[:, 0], 5.0)
    np.testing.assert_allclose(chosen.power_kw[:, 1], [5.0, 0.0, 5.0])


def test_a_running_site_is_expected_to_go_on_at_the_power_it_shows() -> None:
    chosen = alone(homes(2), 10.0, [RUNNING, IDLE], measured_kw=np.array([3.0, 0.0]))
    assert chosen.power_kw[0, 0] == 3.0


def test_a_site_at_its_reserve_or_without_headroom_is_not_started() -> None:
    chosen = alone(homes(3, soc=np.array([0.2, 0.1, 1.0])), 15.0)
    assert chosen.start[:2] == (-1, -1)
    no_export = homes(1, net_load_kw=np.zeros((1, 8)), export_limit_kw=np.zeros(1))
    assert alone(no_export, 15.0).start == (-1,)


def test_the_same_input_gives_the_same_blocks() -> None:
    problem = homes(20, soc=np.random.default_rng(1).uniform(0.3, 1, 20))
    np.testing.assert_array_equal(alone(problem, 35.0).power_kw, alone(problem, 35.0).power_kw)
