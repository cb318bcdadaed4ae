"""A site's best answer to prices, its demand peaks searched for.  Called by `epochs.py`."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpp.allocation.sequential.compiled import kernel
from vpp.allocation.sequential.costs import peak_prices, settle, undercut
from vpp.allocation.sequential.cuts import lowest
from vpp.allocation.sequential.oracle import ROWS, follow, lay_out, load, price_energy
from vpp.allocation.sequential.tables import Tables
from vpp.domain.fleet import Floats

MOST_CUTS = 40
FLAT = 1e-9


class Work(NamedTuple):
    """One thread's scratch memory; `work_for` gives the shapes."""

    rows: Floats
    slopes: Floats
    lengths: Floats
    slope: Floats
    length: Floats
    count: npt.NDArray[np.int64]
    tier_kw: Floats
    tier_price: Floats
    least: Floats
    most: Floats
    energy_price: Floats
    span: Floats
    none: Floats
    surcharge: Floats
    peak_price: Floats
    peak_sum: Floats
    trial: Floats
    highest: Floats
    peaks: Floats
    cut_value: Floats
    cut_slope: Floats


def work_for(tables: Tables) -> Work:
    """Scratch memory for problems of this shape: T steps, W windows, M pieces a step."""
    steps, windows = len(tables.step_h), len(tables.window)
    pieces = 6 + 2 * windows + len(tables.wear_c_rate)
    room = 2 * (steps * pieces + 2)
    return Work(
        rows=np.zeros((ROWS, steps)), slopes=np.zeros(room), lengths=np.zeros(room),
        slope=np.zeros((steps, pieces)), length=np.zeros((steps, pieces)), count=np.zeros((steps, 2), dtype=np.int64),
        tier_kw=np.zeros(windows + 1), tier_price=np.zeros(windows + 1), least=np.zeros(steps + 1),
        most=np.zeros(steps + 1), energy_price=np.zeros(steps), span=np.zeros((4, steps + 1)), none=np.zeros(steps),
        surcharge=np.zeros(steps), peak_price=np.zeros((windows, steps)), peak_sum=np.zeros(windows),
        trial=np.zeros(steps), highest=np.zeros(windows), peaks=np.zeros(windows),
        cut_value=np.zeros(MOST_CUTS + 2), cut_slope=np.zeros((MOST_CUTS + 2, windows)),
    )  # fmt: skip


@kernel
def load_site(i, tables, work):
    """Bring the steps of site i into the scratch rows; to be done before anything else with that site."""
    may, bought, sold = tables.may, tables.import_price, tables.export_price
    load(
        tables.site[i], tables.net_kw[i], may[i if may.shape[0] > 1 else 0], bought[i if bought.shape[0] > 1 else 0],
        sold[i if sold.shape[0] > 1 else 0], work.rows,
    )  # fmt: skip


@kernel
def best_response(i, tables, price, peaks, most_passes, tolerance, prove, work, power):
    """Write the cheapest schedule found for the loaded site i at delivered prices (T,).

    Returns its cost without what delivery earns, and a bound on the cost with it: proven if `prove`, else
    what the search believes. `peaks` (W,) is where the search begins and is left at the best. Cutting
    planes: each pass gives a plane below the least cost, convex in the peaks; the next pass goes
    where all planes are lowest.
    """
    site, rows, step_h, window = tables.site[i], work.rows, tables.step_h, tables.window
    demand, so_far, c_rate, factor = tables.demand_price[i], tables.peak_so_far[i], tables.wear_c_rate, tables.wear_factor
    slope, length, count, trial, none = work.slope, work.length, work.count, work.trial, work.none
    tier_kw, tier_price, energy_price = work.tier_kw, work.tier_price, work.energy_price
    windows, steps = peaks.shape[0], price.shape[0]
    best, best_cost, bound, cuts = np.inf, np.inf, -np.inf, 0
    for _ in range(most_passes):
        lay_out(
            site, rows, step_h, price, none, window, demand, peaks, c_rate, factor, tier_kw, tier_price, slope, length,
            count,
        )  # fmt: skip
        start = price_energy(site, slope, length, count, work.slopes, work.lengths, work.least, work.most)
        follow(site, start, step_h, slope, length, count, work.least, work.most, energy_price, work.span, trial)
        cost = settle(site, rows, step_h, window, demand, so_far, c_rate, factor, trial, work.highest)
        value = cost
        for t in range(steps):
            value -= step_h[t] * price[t] * trial[t]
        if value < best:
            best, best_cost = value, cost
            power[:] = trial
            work.peaks[:] = peaks
        if windows == 0:
            if prove:
                value = undercut(site, rows, step_h, none, energy_price, slope, length, count)
            return cost, value
        over = peak_prices(
            site, rows, step_h, price, window, demand, peaks, c_rate, factor, trial, energy_price, work.peak_price,
            work.peak_sum,
        )  # fmt: skip
        elastic, done = value + over, True
        for w in range(windows):
            elastic += demand[w] * (peaks[w] - max(so_far[w], work.highest[w]))
            fall = demand[w] - work.peak_sum[w]
            if fall < -FLAT * (1.0 + demand[w]) or (peaks[w] > so_far[w] + FLAT and fall > FLAT * (1.0 + demand[w])):
                done = False
        if done and not prove:
            bound = elastic
            break
        for w in range(windows):
            work.cut_slope[cuts, w] = demand[w] - work.peak_sum[w]
            elastic -= work.cut_slope[cuts, w] * (peaks[w] - so_far[w])
        work.cut_value[cuts] = elastic
        if prove:
            for t in range(steps):
                work.surcharge[t] = 0.0
                for w in range(windows):
                    work.surcharge[t] += work.peak_price[w, t] / step_h[t]
            lay_out(
                site, rows, step_h, price, work.surcharge, window, demand, none[:0], c_rate, factor, tier_kw,
                tier_price, slope, length, count,
            )  # fmt: skip
            proven = undercut(site, rows, step_h, work.surcharge, energy_price, slope, length, count)
            for w in range(windows):
                proven -= work.peak_sum[w] * so_far[w]
            work.cut_value[cuts] = proven
        cuts += 1
        if cuts == 1:
            # a plane that rises in every peak, so that a lowest point exists: peaks worth nothing
            lay_out(
                site, rows, step_h, price, none, window, demand, none[:0], c_rate, factor, tier_kw, tier_price, slope,
                length, count,
            )  # fmt: skip
            work.cut_value[1] = undercut(site, rows, step_h, none, energy_price, slope, length, count)
            for w in range(windows):
                work.cut_slope[1, w] = demand[w]
            cuts = 2
        bound = lowest(work.cut_value, work.cut_slope, cuts, peaks)
        for w in range(windows):
            peaks[w] += so_far[w]
        if done or best - bound <= tolerance * (1.0 + abs(best)) or cuts > MOST_CUTS:
            break
    peaks[:] = work.peaks
    return best_cost, min(bound, best)
