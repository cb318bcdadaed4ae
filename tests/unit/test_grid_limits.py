"""Capacity limits as bounds of a plan: exact in every step, for every way of solving.

Method: plans of small random fleets are held against the limits written out by hand.
"""

import numpy as np
import pytest

from tests.builders import a_battery, a_site, a_state, some_targets
from vpp.allocation import GridLimits, ModeState, Policy, capability, horizon_steps, plan
from vpp.allocation.grid_limits import held
from vpp.domain.fleet import Floats
from vpp.domain.fleet_signal import Direction, FleetLimit
from vpp.domain.site import Site

TARGETS = some_targets(40.0, 40.0)
START_AT, END_AT = TARGETS[0].interval.start_at, TARGETS[-1].interval.end_at
HALF_AT = TARGETS[0].interval.end_at
SITES = tuple(a_site(n, battery=a_battery(max_discharge_kw=5.0 + n, capacity_kwh=30.0 + n)) for n in range(1, 7))
STEPS = horizon_steps(SITES, TARGETS, START_AT)
OUT, IN = Direction.EXPORT, Direction.IMPORT


def limit(kw: float, site: Site | None = None, **changes: object) -> FleetLimit:
    """An export limit over the whole event."""
    usual: dict[str, object] = {
        "source": "s", "event_id": "e", "direction": OUT, "limit_kw": kw, "start_at": START_AT, "end_at": END_AT,
        "site_id": None if site is None else site.id,
    }  # fmt: skip
    return FleetLimit(**(usual | changes))  # type: ignore[arg-type]


def load_kw(seed: int = 1) -> Floats:
    """Loads of 1 to 4 kW, and PV at some."""
    return np.random.default_rng(seed).uniform(-2.0, 4.0, (len(SITES), len(STEPS)))


def powers(limits: GridLimits, net_kw: Floats, policy: Policy | None = None) -> Floats:
    state = a_state(SITES, soc=0.9)
    return plan(SITES, state, net_kw, TARGETS, STEPS, policy=policy, limits=limits).power_kw


IN_EVENT = np.array([step.start_at < END_AT for step in STEPS])
NO_TIME = Policy(time_limit_s=1e-6)
"""No solver answers in time: the real-time split plans."""


@pytest.mark.parametrize("policy", [None, NO_TIME], ids=["solved", "split"])
@pytest.mark.parametrize("seed", range(4))
def test_no_plan_exceeds_a_limit_in_any_step(seed: int, policy: Policy | None) -> None:
    net_kw = load_kw(seed)
    limits = GridLimits((limit(0.5, SITES[0]), limit(8.0), limit(3.0, start_at=HALF_AT)), outside_kw=1.0)
    made = powers(limits, net_kw, policy)
    own = np.clip(0.5 + net_kw[0], 0.0, None)
    assert (made[0] <= own + 1e-6)[IN_EVENT].all()
    most = np.array([3.0 if step.start_at >= HALF_AT else 8.0 for step in STEPS]) - 1.0
    flow = (made - net_kw).sum(axis=0)
    idle = -net_kw.sum(axis=0)
    assert (flow <= np.maximum(most, idle) + 1e-6)[IN_EVENT].all()
    free = powers(GridLimits(), net_kw, policy)
    assert made[:, IN_EVENT].sum() < free[:, IN_EVENT].sum()
    used = np.minimum(flow - most, 0.0)[IN_EVENT]
    assert used.min() > -1.0  # what a limit leaves is given: far more is owed


def test_a_limit_that_nobody_reaches_changes_nothing() -> None:
    net_kw = load_kw()
    wide = GridLimits((limit(1000.0), limit(1000.0, SITES[0], direction=IN)))
    assert np.abs(powers(wide, net_kw) - powers(GridLimits(), net_kw)).max() < 1e-4


def test_sites_that_already_send_more_than_the_limit_leave_the_plan_only_its_own_load() -> None:
    net_kw = np.full((len(SITES), len(STEPS)), 2.0)
    made = powers(GridLimits((limit(10.0),), outside_kw=15.0), net_kw)
    assert made[:, IN_EVENT].sum(axis=0) == pytest.approx(2.0 * len(SITES) - 5.0, abs=1e-5)


def test_power_cut_back_keeps_its_direction_and_its_proportions() -> None:
    power = np.array([[4.0], [2.0], [-1.0]])
    net = np.zeros((3, 1))
    cut = held(GridLimits((limit(2.0),)), SITES[:3], STEPS[:1], net, power, np.zeros(1))
    assert cut[:, 0] == pytest.approx([2.0, 1.0, -1.0])
    taking = held(GridLimits((limit(0.5, direction=IN),)), SITES[:3], STEPS[:1], net, -power, np.zeros(1))
    assert taking.sum() == pytest.approx(-0.5)
    assert taking[2, 0] == 1.0


def test_a_site_whose_own_pv_breaks_its_limit_does_not_discharge_on_top() -> None:
    net_kw = np.full((len(SITES), len(STEPS)), 1.0)
    net_kw[0] = -6.0
    made = powers(GridLimits((limit(3.0, SITES[0]),)), net_kw)
    assert made[0, IN_EVENT].max() == 0.0


def test_expected_charge_counts_what_a_limit_kept_in_the_batteries() -> None:
    net_kw = np.full((len(SITES), len(STEPS)), 2.0)
    state = a_state(SITES, soc=0.9)
    made = plan(SITES, state, net_kw, TARGETS, STEPS, limits=GridLimits((limit(10.0),), outside_kw=15.0))
    hours = np.array([step.duration_h for step in STEPS])
    for i, site in enumerate(SITES):
        out = np.clip(made.power_kw[i], 0.0, None) @ (hours * IN_EVENT) / site.battery.discharge_efficiency
        last = int(IN_EVENT.sum())
        assert made.expected_soc[i, last] == pytest.approx(0.9 - out / site.battery.capacity_kwh, abs=1e-6)


def test_mode_only_sites_run_only_where_their_most_is_allowed() -> None:
    net_kw = np.full((len(SITES), len(STEPS)), 1.0)
    state = a_state(SITES, soc=0.9)
    modes = {site.id: ModeState.IDLE for site in SITES[:2]}

    def running(*limits: FleetLimit) -> list[bool]:
        made = plan(SITES, state, net_kw, TARGETS, STEPS, mode_sites=modes, limits=GridLimits(limits))
        return [bool(made.power_kw[i, 0] > 0) for i in range(2)]

    assert running() == [True, True]
    assert running(limit(5.9, SITES[0])) == [False, True]
    assert running(limit(6.0, SITES[0])) == [True, True]
    assert running(limit(12.9)) == [False, False]
    assert running(limit(13.0)) == [True, True]


def test_a_promise_is_no_more_than_a_limit_lets_be_held_and_only_while_it_stands() -> None:
    net_kw = np.full((len(SITES), len(STEPS)), 1.0)
    state = a_state(SITES, soc=0.9)
    limits = GridLimits((limit(4.0, start_at=HALF_AT),))
    told = capability(SITES, state, net_kw, some_targets(15.0, 15.0), STEPS, limits=limits)
    assert not told.covered
    assert told.deliverable_kw[0] >= 15.0
    assert told.deliverable_kw[1] == pytest.approx(10.0, abs=0.01)
