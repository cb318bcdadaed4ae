"""One pass of a shard over its sites: each answers the price its predecessors left.  Called by `shards.py`.

Block-coordinate Frank-Wolfe on the augmented Lagrangian: a site takes its best schedule at the present
price, moves towards it as far as lowers the whole cost, and the price moves before the next site.
"""

from typing import NamedTuple

import numpy as np

from vpp.allocation.compiled import kernel
from vpp.allocation.sequential.costs import settle
from vpp.allocation.sequential.responses import best_response, load_site
from vpp.allocation.sequential.tables import Ints
from vpp.domain.fleet import Floats


class Market(NamedTuple):
    """What couples the sites, T steps, K capacity windows, F feeders.

    Attributes:
        price_per_kwh: the multiplier lambda of delivered power [per kWh], (T,).
        stiffness: rho, how the price answers what is missing [per kWh per kW].
        target_kw: power owed, less what others deliver; in a capacity window the bid, (T,).
        lowest_price_per_kwh, highest_price_per_kwh: minus the price of excess and the price of shortfall, (T,); both 0
            where nothing is owed.
        tier_kw, tier_price_per_kwh: from how much shortfall on which price of it holds, ascending, (R,T).
        window: capacity window of each step, -1 none, (T,); offset_kw: what others deliver there, (T,).
        capacity_price_per_kw, capacity_limit_kw: (K,).
        feeder_price_per_kwh: multipliers, (F,T); feeder_low_kw, feeder_high_kw: bounds on battery power, (F,T).
        feeder_stiffness: rho of the feeders.
    """

    price_per_kwh: Floats
    stiffness: float
    target_kw: Floats
    lowest_price_per_kwh: Floats
    highest_price_per_kwh: Floats
    window: Ints
    offset_kw: Floats
    capacity_price_per_kw: Floats
    capacity_limit_kw: Floats
    tier_kw: Floats
    tier_price_per_kwh: Floats
    feeder_price_per_kwh: Floats
    feeder_low_kw: Floats
    feeder_high_kw: Floats
    feeder_stiffness: Floats


@kernel
def fleet_price(market, share, target_kw, delivered_kw, into):
    """The augmented Lagrangian's price of delivered power in each step, (T,), where `share` of all is asked.

    What is missing is taken from the cheapest tier first; between two tiers the price is free.
    """
    tier_kw, tier_price, last = market.tier_kw, market.tier_price_per_kwh, market.tier_kw.shape[0] - 1
    for t in range(into.shape[0]):
        p = market.price_per_kwh[t] + market.stiffness * (target_kw[t] - delivered_kw[t])
        into[t] = tier_price[last, t]
        least = market.lowest_price_per_kwh[t]
        for k in range(last + 1):
            within = p - market.stiffness * tier_kw[k, t] * share
            if within <= tier_price[k, t]:
                into[t] = max(within, least)
                break
            least = tier_price[k, t]


@kernel
def band_price(market, f, t, flow_kw):
    """A feeder's price: above zero where too little flows out, below where too much, else zero."""
    rho = market.feeder_stiffness[f]
    low = market.feeder_price_per_kwh[f, t] + rho * (market.feeder_low_kw[f, t] - flow_kw)
    if low > 0.0:
        return low
    return min(0.0, market.feeder_price_per_kwh[f, t] + rho * (market.feeder_high_kw[f, t] - flow_kw))


@kernel
def set_bids(market, step_h, delivered_kw, target_kw):
    """Put the capacity on offer where one kW more would earn as much as the prices ask, in place.

    Per window the bid q solves sum_t h_t clip(lambda + rho (q - delivered)) = capacity price, which makes
    the prices dual feasible.
    """
    for k in range(market.capacity_price_per_kw.shape[0]):
        low, high = 0.0, 0.0
        for t in range(step_h.shape[0]):
            if market.window[t] == k:
                room = (market.highest_price_per_kwh[t] - market.price_per_kwh[t]) / market.stiffness
                high = max(high, delivered_kw[t] + market.offset_kw[t] + room)
        high = min(high, market.capacity_limit_kw[k])
        for _ in range(50):
            q = 0.5 * (low + high)
            asked = 0.0
            for t in range(step_h.shape[0]):
                if market.window[t] == k:
                    missing = q - market.offset_kw[t] - delivered_kw[t]
                    p = market.price_per_kwh[t] + market.stiffness * missing
                    asked += step_h[t] * min(max(p, 0.0), market.highest_price_per_kwh[t])
            if asked > market.capacity_price_per_kw[k]:
                high = q
            else:
                low = q
            if high - low <= 1e-9 * (1.0 + high):
                break
        for t in range(step_h.shape[0]):
            if market.window[t] == k:
                target_kw[t] = 0.5 * (low + high) - market.offset_kw[t]


@kernel
def site_price(i, tables, market, fleet, feeder_kw, into):
    """The fleet's price and those of the feeders the site hangs on, (T,)."""
    into[:] = fleet
    f = tables.feeder[i]
    while f >= 0:
        for t in range(into.shape[0]):
            into[t] += band_price(market, f, t, feeder_kw[f, t])
        f = tables.feeder_parent[f]


@kernel
def add_power(i, tables, before, after, copies, delivered_kw, feeder_kw):
    """Count a site's change of power in the sums, `copies` times."""
    for t in range(after.shape[0]):
        delivered_kw[t] += copies * (after[t] - before[t])
    f = tables.feeder[i]
    while f >= 0:
        for t in range(after.shape[0]):
            feeder_kw[f, t] += copies * (after[t] - before[t])
        f = tables.feeder_parent[f]


@kernel
def sweep(
    order, tables, power, cost, peaks, market, copies, first, share, growth, bid_every, most_passes, delivered_kw,
    feeder_kw, work,
):  # fmt: skip
    """Let the sites of `order` answer in turn; returns the sum of their Frank-Wolfe gaps and of the prices.

    `delivered_kw` (T,) and `feeder_kw` (F,T) are the fleet's sums as this shard believes them: its own
    changes count `copies` times, as if every other shard did the same. All are changed in place. In the
    `first` pass sites take their whole best schedule; `share` of what is owed is asked of the first site
    and `growth` more of each one after it, so that early sites are not asked to carry all.
    """
    steps = tables.step_h.shape[0]
    fleet, price, trial, before = np.empty(steps), np.empty(steps), np.empty(steps), np.empty(steps)
    bid_kw, target_kw, paid = market.target_kw.copy(), np.empty(steps), np.zeros(steps)
    gap = 0.0
    for j in range(order.shape[0]):
        i = order[j]
        if market.capacity_price_per_kw.shape[0] > 0 and not first and j % bid_every == 0:
            set_bids(market, tables.step_h, delivered_kw, bid_kw)
        for t in range(steps):
            target_kw[t] = bid_kw[t] * (share + growth * j)
        fleet_price(market, share + growth * j, target_kw, delivered_kw, fleet)
        paid += fleet
        site_price(i, tables, market, fleet, feeder_kw, price)
        load_site(i, tables, work)
        trial_cost = best_response(i, tables, price, peaks[i], most_passes, 1e-6, False, work, trial)[0]
        gain, bend = cost[i] - trial_cost, 0.0
        for t in range(steps):
            move = trial[t] - power[i, t]
            gain += tables.step_h[t] * price[t] * move
            if market.highest_price_per_kwh[t] > market.lowest_price_per_kwh[t]:
                bend += market.stiffness * tables.step_h[t] * move * move
        f = tables.feeder[i]
        while f >= 0:
            for t in range(steps):
                if band_price(market, f, t, feeder_kw[f, t]) != 0.0:
                    bend += market.feeder_stiffness[f] * tables.step_h[t] * (trial[t] - power[i, t]) ** 2
            f = tables.feeder_parent[f]
        if gain <= 0.0 and not first:
            continue
        gap += gain
        bend *= copies
        part = 1.0 if first or gain >= bend else gain / bend
        for t in range(steps):
            before[t] = power[i, t]
            power[i, t] += part * (trial[t] - power[i, t])
        cost[i] = trial_cost
        if part < 1.0:
            cost[i] = settle(
                tables.site[i], work.rows, tables.step_h, tables.window, tables.demand_price_per_kw[i],
                tables.peak_so_far[i], tables.wear_c_rate, tables.wear_factor, power[i], work.highest,
            )  # fmt: skip
        add_power(i, tables, before, power[i], copies, delivered_kw, feeder_kw)
    return gap, paid


@kernel
def prove(sites, tables, peaks, price, feeder_price_per_kwh, most_passes, tolerance, work, bound):
    """Write the least each site can cost at fixed prices, delivery's earnings taken off, proven, (n,)."""
    steps = tables.step_h.shape[0]
    total, trial = np.empty(steps), np.empty(steps)
    for j in range(sites.shape[0]):
        i = sites[j]
        total[:] = price
        f = tables.feeder[i]
        while f >= 0:
            total += feeder_price_per_kwh[f]
            f = tables.feeder_parent[f]
        load_site(i, tables, work)
        bound[j] = best_response(i, tables, total, peaks[i], most_passes, tolerance, True, work, trial)[1]
