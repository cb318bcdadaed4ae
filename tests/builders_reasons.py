"""What a control cycle keeps to say why, made by a real plan for any sites' ids. For tests of the portal."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from tests.builders import a_battery, a_demand_charge, a_site, a_state, a_tariff, some_targets
from tests.clock import NOON
from vpp.allocation import ModeState, horizon_steps, plan
from vpp.domain.fleet import Quality


def some_reasons(site_ids: Sequence[str], target_kw: float | None = None) -> dict[str, Any]:
    """Reasons of sites of many kinds: some know modes only, some were never heard, some are needed at home,
    some have little energy left, some may not export; tariffs and batteries differ."""
    count = len(site_ids)
    r = np.random.default_rng(4)
    sites = [
        a_site(
            n + 1,
            id=site_id,
            battery=a_battery(capacity_kwh=float(r.choice([10.0, 13.5, 27.0])), max_discharge_kw=5.0),
            export_limit_kw=float(r.choice([0.0, 3.0, 10.0])),
            reserve_soc=float(r.uniform(0.1, 0.4)),
            tariff=a_tariff(export_price_per_kwh=Decimal("0.05"), demand=(a_demand_charge(),) if n % 3 == 0 else ()),
            peak_so_far_kw={"any_time": float(r.uniform(2.0, 8.0))},
        )
        for n, site_id in enumerate(site_ids)
    ]
    owed_kw = 1.3 * count if target_kw is None else target_kw
    targets = some_targets(owed_kw, owed_kw, 0.8 * owed_kw)
    steps = horizon_steps(sites, targets, NOON + timedelta(hours=4))
    quality = np.where(np.arange(count) % 11 == 10, Quality.STALE, Quality.GOOD)
    state = a_state(sites, soc=r.uniform(0.35, 1.0, count), quality=quality)
    load = r.uniform(0.1, 1.2, (count, 1)) * np.ones((count, len(steps)))
    modes = {site.id: ModeState.IDLE for site in sites[::7]}
    found = plan(sites, state, load, targets, steps, mode_sites=modes).info["reasons"]
    assert found is not None
    return dict(found)
