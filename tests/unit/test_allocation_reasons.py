"""What a cycle keeps to say why: every site has a reason, in a form a table can hold, and none is solved for."""

import json
from datetime import timedelta

import numpy as np
import pytest

from tests.builders import a_battery, a_demand_charge, a_site, a_state, a_tariff, some_targets
from tests.clock import NOON
from vpp.allocation import Constraint, ModeState, Plan, Policy, Reasons, horizon_steps, plan, read_reasons
from vpp.domain.fleet import Quality

START = NOON + timedelta(hours=4)
EXACT = Policy(delivery_margin=0.0, capability_margin=0.0, drift_soc=0.0)


def a_plan(policy: Policy = EXACT, sites: int = 12, target_kw: float = 20.0) -> Plan:
    """Twelve sites: the first three know modes only, the fourth was never heard, the fifth has an empty battery,
    the sixth a load far over its peak."""
    enrolled = [a_site(n, battery=a_battery(capacity_kwh=10.0 + n), export_limit_kw=5.0) for n in range(1, sites + 1)]
    if sites > 5:
        enrolled[5] = a_site(6, tariff=a_tariff(demand=(a_demand_charge(),)), peak_so_far_kw={"peak": 1.0})
    targets = some_targets(target_kw, target_kw)
    steps = horizon_steps(enrolled, targets, START)
    soc, quality = np.full(sites, 0.9), np.zeros(sites)
    if sites > 5:
        soc[4], quality[3] = 0.2, Quality.MISSING
    load = np.full((sites, len(steps)), 1.0)
    load[5:6] = 9.0
    modes = {site.id: ModeState.IDLE for site in enrolled[:3]}
    state = a_state(enrolled, soc=soc, quality=quality)
    return plan(enrolled, state, load, targets, steps, mode_sites=modes, policy=policy)


def reasons_of(made: Plan) -> Reasons:
    found = read_reasons(json.loads(json.dumps(made.info["reasons"])))
    assert found is not None
    return found


def test_every_site_has_a_reason_and_its_power_is_the_plans() -> None:
    made = a_plan()
    found = reasons_of(made)
    assert set(found.sites) == set(made.site_ids)
    for i, site_id in enumerate(made.site_ids):
        assert found.sites[site_id].battery_kw == pytest.approx(made.power_kw[i, 0], abs=1e-5)
    assert found.price_per_kwh == pytest.approx(made.info["marginal_price_per_kwh"][0], abs=1e-5)
    assert sum(found.stopped.values()) == len(made.site_ids)
    assert found.delivered_kw == pytest.approx(made.power_kw[:, 0].sum(), abs=1e-4)


def test_a_site_that_was_not_called_on_says_why() -> None:
    found = reasons_of(a_plan()).sites
    assert found["s0001"].constraint is Constraint.MODE
    assert found["s0004"].constraint is Constraint.AVAILABILITY
    assert "no good reading" in found["s0004"].sentence
    assert found["s0005"].constraint is Constraint.RESERVE
    assert found["s0006"].constraint is Constraint.PEAK
    assert found["s0006"].sentence.startswith("Left to its own controller")


def test_the_next_kw_comes_from_the_cheapest_sites_with_room() -> None:
    found = reasons_of(a_plan())
    offers = found.next_kw(3)
    assert len(offers) == 3
    prices = [one.high_per_kwh for one in offers]
    assert prices == sorted(prices)
    assert prices[0] >= found.price_per_kwh - 1e-4
    assert all(one.room_kw > 0 for one in offers)


def test_the_curve_is_short_and_holds_the_price_at_what_is_delivered() -> None:
    found = reasons_of(a_plan(sites=300, target_kw=500.0))
    assert 2 <= len(found.curve_kw) <= 120
    assert list(found.curve_kw) == sorted(found.curve_kw)
    assert list(found.curve_price_per_kwh) == sorted(found.curve_price_per_kwh)
    at = next(k for k, kw in enumerate(found.curve_kw) if kw >= found.delivered_kw - 1e-3)
    assert found.curve_price_per_kwh[at] == pytest.approx(found.price_per_kwh, abs=1e-3)


def test_a_split_keeps_no_reasons() -> None:
    made = a_plan(Policy(time_limit_s=1e-9))
    assert made.info["reasons"] is None
    assert read_reasons(made.info["reasons"]) is None
    assert read_reasons({}) is None


def test_a_plan_of_mode_only_sites_has_reasons_too() -> None:
    made = a_plan(sites=3)
    assert set(made.info["reasons"]) == set(a_plan().info["reasons"])
    assert len(reasons_of(made).sites) == 3
