"""What a schedule costs a site, and what none can undercut.  Called by `responses.py` and `epochs.py`."""

from vpp.allocation.compiled import kernel
from vpp.allocation.sequential.oracle import BOUGHT, CHARGE, DISCHARGE, NET, SOLD
from vpp.allocation.sequential.tables import (
    CAPACITY_KWH,
    CEILING_KWH,
    CHARGE_EFFICIENCY,
    DISCHARGE_EFFICIENCY,
    EXPORT_KW,
    FLOOR_KWH,
    START_KWH,
    TERMINAL,
    WEAR,
)  # fmt: skip


@kernel
def wear_cost(wear, capacity_kwh, c_rate, factor, discharge_kw):
    """Wear of an hour's discharge at this power, dearer above each C-rate."""
    cost, before = wear * discharge_kw, 1.0
    for p in range(c_rate.shape[0]):
        above = discharge_kw - c_rate[p] * capacity_kwh
        if above <= 0.0:
            break
        cost += wear * (factor[p] - before) * above
        before = factor[p]
    return cost


@kernel
def marginal_wear(wear, capacity_kwh, c_rate, factor, discharge_kw):
    """Wear of the last kW of a discharge, per kWh."""
    last = wear
    for p in range(c_rate.shape[0]):
        if discharge_kw <= c_rate[p] * capacity_kwh * (1.0 + 1e-12):
            break
        last = wear * factor[p]
    return last


@kernel
def settle(site, rows, step_h, window, demand, so_far, c_rate, factor, power, highest):
    """Make a schedule keep every limit, in place, and return its cost without what delivery earns.

    A mean of schedules, netted, leaves the battery fuller than the mean of its energies, never emptier:
    taking back charging that no longer fits never lowers delivery or raises a peak. Writes the highest
    import of each window to `highest` (W,).
    """
    energy, floor, ceiling = site[START_KWH], site[FLOOR_KWH], site[CEILING_KWH]
    into, out, wear, export = site[CHARGE_EFFICIENCY], site[DISCHARGE_EFFICIENCY], site[WEAR], site[EXPORT_KW]
    windows, cost = highest.shape[0], 0.0
    for w in range(windows):
        highest[w] = 0.0
    for t in range(power.shape[0]):
        hours = step_h[t]
        x = min(max(power[t], -rows[CHARGE, t]), rows[DISCHARGE, t])
        if x < 0.0:
            if energy - x * into * hours > ceiling:
                x = -max(0.0, (ceiling - energy) / (into * hours))
            energy -= x * into * hours
        elif x > 0.0:
            if energy - x * hours / out < floor:
                x = max(0.0, (energy - floor) * out / hours)
            energy -= x * hours / out
            if c_rate.shape[0] == 0:
                cost += hours * wear * x
            else:
                cost += hours * wear_cost(wear, site[CAPACITY_KWH], c_rate, factor, x)
        power[t] = x
        flow = rows[NET, t] - x
        if flow > 0.0:
            cost += hours * rows[BOUGHT, t] * flow
            for w in range(windows):
                if flow > highest[w] and window[w, t]:
                    highest[w] = flow
        else:
            cost -= hours * rows[SOLD, t] * min(-flow, export)
    for w in range(windows):
        cost += demand[w] * max(0.0, highest[w] - so_far[w])
    return cost - site[TERMINAL] * energy


@kernel
def peak_prices(
    site, rows, step_h, price, window, demand, peaks, c_rate, factor, power, energy_price_per_kwh,
    peak_price_per_kw, peak_sum,
):  # fmt: skip
    """Write what a kW of each window's peak is worth in each step [per kW], (W,T), and its sum (W,).

    Follows from the price of stored energy: what it leaves over the import price is the peak's. Returns
    what import above the peaks costs, each step paying the demand price.
    """
    windows, over = peaks.shape[0], 0.0
    into, out = site[CHARGE_EFFICIENCY], site[DISCHARGE_EFFICIENCY]
    for w in range(windows):
        peak_sum[w] = 0.0
    for t in range(power.shape[0]):
        flow = rows[NET, t] - power[t]
        worth, known = 0.0, False
        for w in range(windows):
            peak_price_per_kw[w, t] = 0.0
            if window[w, t] and flow > peaks[w] + 1e-9 * (1.0 + flow):
                peak_price_per_kw[w, t] = demand[w]
                peak_sum[w] += demand[w]
                over += demand[w] * (flow - peaks[w])
                worth -= demand[w]
        for w in range(windows):
            if window[w, t] and abs(flow - peaks[w]) <= 1e-9 * (1.0 + flow):
                if not known:
                    known = True
                    if power[t] > 0.0:
                        worn = marginal_wear(site[WEAR], site[CAPACITY_KWH], c_rate, factor, power[t])
                        worth += step_h[t] * (worn - price[t] - rows[BOUGHT, t] - energy_price_per_kwh[t] / out)
                    else:
                        worth += step_h[t] * (-energy_price_per_kwh[t] * into - rows[BOUGHT, t] - price[t])
                if worth > 0.0:
                    peak_price_per_kw[w, t] = min(worth, demand[w])
                    peak_sum[w] += peak_price_per_kw[w, t]
                    worth -= peak_price_per_kw[w, t]
    return over


@kernel
def undercut(site, rows, step_h, surcharge, energy_price_per_kwh, slope, length, count):
    """A proven part of the site's least cost: the dual function at the price of stored energy (T,).

    `slope`, `length`, `count` must be laid out with the same surcharge and without peaks. Whatever the
    prices are, no schedule costs less, delivery's earnings taken off and import's surcharge added.
    """
    floor, ceiling, export = site[FLOOR_KWH], site[CEILING_KWH], site[EXPORT_KW]
    before = energy_price_per_kwh[0]
    value = before * site[START_KWH]
    for t in range(count.shape[0]):
        now, net = energy_price_per_kwh[t], rows[NET, t]
        if now != before:
            value += (now - before) * (floor if now > before else ceiling)
        if net > 0.0:
            value += step_h[t] * (rows[BOUGHT, t] + surcharge[t]) * net
        else:
            value -= step_h[t] * rows[SOLD, t] * min(-net, export)
        for k in range(count[t, 0]):
            value += min(0.0, (now - slope[t, k]) * length[t, k])
        for k in range(count[t, 0], count[t, 1]):
            value += min(0.0, (slope[t, k] - now) * length[t, k])
        before = now
    last = -site[TERMINAL] - before
    return value + last * (floor if last > 0.0 else ceiling)
