"""The exact best schedule of one site at given prices.  Called by `responses.py`.

The cost of stored energy V_t(e) is convex and piecewise linear, so it is a sorted list of slopes with
lengths. One step back in time inserts the step's own pieces and cuts off at both ends what lies outside
floor and ceiling. Only the two outermost slopes of each step are kept: the price of stored energy moves
forward in time by clipping to them (as in Johnson's dynamic programme for the fused lasso, Journal of
Computational and Graphical Statistics 22(2), 2013), and the schedule follows from that price.

A demand peak p is searched for one level up. Here import above p costs the demand price in each step,
which is exact at the best p: the multipliers of one window's steps sum to no more than its price.

Kernels take plain arrays and loop over the steps inside: each array handed over costs a count of
references, which would be dearer than the arithmetic of a step.
"""

from vpp.allocation.compiled import kernel
from vpp.allocation.sequential.tables import (
    CAPACITY_KWH,
    CEILING_KWH,
    CHARGE_EFFICIENCY,
    CHARGE_KW,
    DISCHARGE_EFFICIENCY,
    DISCHARGE_KW,
    EXPORT_KW,
    FLOOR_KWH,
    IMPORT_KW,
    MAY_CHARGE,
    MAY_DISCHARGE,
    START_KWH,
    TERMINAL,
    WEAR,
)  # fmt: skip

NET, CHARGE, DISCHARGE, BOUGHT, SOLD = 0, 1, 2, 3, 4
ROWS = 5


@kernel
def load(site, net_kw, may, bought, sold, rows):
    """Write a site's steps as rows: net load, most charge, most discharge [kW], import and export price, (5,T)."""
    for t in range(net_kw.shape[0]):
        net = net_kw[t]
        rows[NET, t], rows[BOUGHT, t], rows[SOLD, t] = net, bought[t], sold[t]
        rows[CHARGE, t] = rows[DISCHARGE, t] = 0.0
        if may[t] & MAY_CHARGE:
            rows[CHARGE, t] = max(0.0, min(site[CHARGE_KW], site[IMPORT_KW] - net))
        if may[t] & MAY_DISCHARGE:
            rows[DISCHARGE, t] = max(0.0, min(site[DISCHARGE_KW], net + site[EXPORT_KW]))


@kernel
def rank(demand, peaks, ranked):
    """Write the windows from the highest peak to the lowest; free ones are left out. Returns their number."""
    windows = 0
    for w in range(peaks.shape[0]):
        if demand[w] > 0.0:
            k = windows
            while k > 0 and peaks[ranked[k - 1]] < peaks[w]:
                ranked[k] = ranked[k - 1]
                k -= 1
            ranked[k] = w
            windows += 1
    return windows


@kernel
def lay_out(
    site, rows, step_h, price, surcharge, window, demand, peaks, c_rate, factor, ranked, slope, length, count
):  # fmt: skip
    """Write each step's pieces: cost per stored kWh given up, stored kWh, number of charging and of all pieces.

    Charging pieces come first. `surcharge` (T,) is added to the import price; import above a peak costs that
    window's demand price. `slope`, `length` (T,M); `count` (T,2).
    """
    export, capacity, wear = site[EXPORT_KW], site[CAPACITY_KWH], site[WEAR]
    into, out = site[CHARGE_EFFICIENCY], site[DISCHARGE_EFFICIENCY]
    windows, wear_tiers = rank(demand, peaks, ranked), c_rate.shape[0]
    for t in range(price.shape[0]):
        hours, net, earned = step_h[t], rows[NET, t], price[t]
        bought, sold, extra = rows[BOUGHT, t] + surcharge[t], rows[SOLD, t], 0.0
        for j in range(windows):
            if window[ranked[j], t]:
                extra += demand[ranked[j]] / hours
        k, top, above = 0, rows[CHARGE, t], extra
        if top > 0.0:
            per_kwh, stored = 1.0 / into, hours * into
            for j in range(windows + 3):
                if j < windows:
                    if not window[ranked[j], t]:
                        continue
                    edge, cost = max(peaks[ranked[j]] - net, 0.0), bought + above
                    above -= demand[ranked[j]] / hours
                elif j == windows:
                    edge, cost = max(-net, 0.0), bought
                elif j == windows + 1:
                    edge, cost = max(-net - export, 0.0), sold
                else:
                    edge, cost = 0.0, 0.0
                if top > edge:
                    slope[t, k], length[t, k] = -(cost + earned) * per_kwh, (top - edge) * stored
                    k, top = k + 1, edge
        count[t, 0] = k
        most, done, above, worn, p, stored = rows[DISCHARGE, t], 0.0, extra, wear, 0, hours / out
        for j in range(windows + 2 if most > 0.0 else 0):
            if j < windows:
                if not window[ranked[j], t]:
                    continue
                upto, saved = min(net - peaks[ranked[j]], most), bought + above
                above -= demand[ranked[j]] / hours
            elif j == windows:
                upto, saved = min(net, most), bought
            else:
                upto, saved = most, sold
            while done < upto:
                while p < wear_tiers and c_rate[p] * capacity <= done:
                    worn = wear * factor[p]
                    p += 1
                end = min(upto, c_rate[p] * capacity) if p < wear_tiers else upto
                slope[t, k], length[t, k] = (worn - saved - earned) * out, (end - done) * stored
                k, done = k + 1, end
        count[t, 1] = k


@kernel
def price_energy(site, slope, length, count, slopes, lengths, least, most):
    """Go back through the steps; returns the price of stored energy at the start.

    Writes the slopes of V_t at floor and ceiling to `least` and `most` (T+1,). `slopes`, `lengths` are
    room for the sorted list, which grows to both sides from the middle.
    """
    steps = count.shape[0]
    head = slopes.shape[0] // 2
    tail = head + 1
    slopes[head], lengths[head] = -site[TERMINAL], site[CEILING_KWH] - site[FLOOR_KWH]
    least[steps], most[steps] = slopes[head], slopes[head]
    for t in range(steps - 1, -1, -1):
        charging = count[t, 0]
        rest = 0.0
        for j in range(charging):  # from the low end, where charging usually belongs
            value, size, k = slope[t, j], length[t, j], head
            rest += size
            while k < tail and slopes[k] < value:
                slopes[k - 1], lengths[k - 1] = slopes[k], lengths[k]
                k += 1
            slopes[k - 1], lengths[k - 1] = value, size
            head -= 1
        beyond = 0.0
        for j in range(charging, count[t, 1]):
            value, size, k = slope[t, j], length[t, j], tail - 1
            beyond += size
            while k >= head and slopes[k] > value:
                slopes[k + 1], lengths[k + 1] = slopes[k], lengths[k]
                k -= 1
            slopes[k + 1], lengths[k + 1] = value, size
            tail += 1
        while tail - head > 1 and lengths[head] <= rest:
            rest -= lengths[head]
            head += 1
        lengths[head] -= rest
        while tail - head > 1 and lengths[tail - 1] <= beyond:
            beyond -= lengths[tail - 1]
            tail -= 1
        lengths[tail - 1] -= beyond
        least[t], most[t] = slopes[head], slopes[tail - 1]
    left = site[START_KWH] - site[FLOOR_KWH]
    while head < tail - 1 and lengths[head] < left:
        left -= lengths[head]
        head += 1
    return slopes[head]


@kernel
def follow(site, now, step_h, slope, length, count, least, most, energy_price_per_kwh, span, power):
    """Walk forward: the price of stored energy, what it makes each step do, and how ties are split.

    A piece cheaper than the price of stored energy is used whole, a dearer one not at all; one that
    costs the same is used as far as floor and ceiling ask for. `span` (4,T+1) is room for the stored
    energy each step gives at least and at most, and for where the energy must lie.
    """
    steps = power.shape[0]
    floor, ceiling = site[FLOOR_KWH], site[CEILING_KWH]
    if ceiling - floor <= 1e-9:
        for t in range(steps):  # any price at which neither direction pays will do
            power[t], energy_price_per_kwh[t] = 0.0, now
            for k in range(count[t, 0]):
                energy_price_per_kwh[t] = slope[t, k] if k == 0 else max(energy_price_per_kwh[t], slope[t, k])
            for k in range(count[t, 1] if count[t, 0] == 0 else 0):
                energy_price_per_kwh[t] = slope[t, k] if k == 0 else min(energy_price_per_kwh[t], slope[t, k])
        return
    for t in range(steps):
        energy_price_per_kwh[t] = now
        surely = maybe = 0.0
        near = 1e-12 * (1.0 + abs(now))
        for k in range(count[t, 1]):
            value, size = slope[t, k], length[t, k]
            tied = abs(value - now) <= near
            if tied:
                maybe += size
            if k < count[t, 0]:
                if tied or value > now:
                    surely -= size
            elif not tied and value < now:
                surely += size
        span[0, t], span[1, t] = surely, surely + maybe
        span[2, t + 1], span[3, t + 1] = floor, ceiling
        if now < least[t + 1]:
            span[3, t + 1] = floor
            now = least[t + 1]
        elif now > most[t + 1]:
            span[2, t + 1] = ceiling
            now = most[t + 1]
    for t in range(steps - 1, 0, -1):
        span[2, t] = min(max(span[2, t], span[2, t + 1] + span[0, t]), span[3, t])
        span[3, t] = max(min(span[3, t], span[3, t + 1] + span[1, t]), span[2, t])
    energy = site[START_KWH]
    for t in range(steps):
        after = min(max(energy - span[0, t], span[2, t + 1]), span[3, t + 1])
        out = energy - min(max(after, energy - span[1, t]), energy - span[0, t])
        energy -= out
        if out > 0.0:
            power[t] = out * site[DISCHARGE_EFFICIENCY] / step_h[t]
        else:
            power[t] = out / (site[CHARGE_EFFICIENCY] * step_h[t])
