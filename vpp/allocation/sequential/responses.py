"""A site's best answer to prices, its demand peaks searched for.  Called by `epochs.py`."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpp.allocation.compiled import kernel
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
    counts: npt.NDArray[np.int64]
    ranked: npt.NDArray[np.int64]
    least: Floats
    most: Floats
    energy_price_per_kwh: Floats
    span: Floats
    none: Floats
    surcharge: Floats
    peak_price_per_kw: Floats
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
        slope=np.zeros((steps, pieces)), length=np.zeros((steps, pieces)), counts=np.zeros((steps, 2), dtype=np.int64),
        ranked=np.zeros(windows + 1, dtype=np.int64), least=np.zeros(steps + 1),
        most=np.zeros(steps + 1), energy_price_per_kwh=np.zeros(steps), span=np.zeros((4, steps + 1)),
        none=np.zeros(steps), surcharge=np.zeros(steps), peak_price_per_kw=np.zeros((windows, steps)),
        peak_sum=np.zeros(windows), trial=np.zeros(steps), highest=np.zeros(windows), peaks=np.zeros(windows),
        cut_value=np.zeros(MOST_CUTS + 2), cut_slope=np.zeros((MOST_CUTS + 2, windows)),
    )  # fmt: skip


@kernel
def load_site(i, tables, work):
    """Bring the steps of site i into the scratch rows; to be done before anything else with that site."""
    may, bought, sold = tables.may, tables.import_price_per_kwh, tables.export_price_per_kwh
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
    demand, so_far, windows = tables.demand_price_per_kw[i], tables.peak_so_far[i], peaks.shape[0]
    best, best_cost, bound, cuts = np.inf, np.inf, -np.inf, 0
    for _ in range(most_passes):
        cost, value, elastic = one_pass(i, tables, price, peaks, work)
        if value < best:
            best, best_cost = value, cost
            power[:] = work.trial
            work.peaks[:] = peaks
        if windows == 0:
            return cost, undercut_with(i, tables, price, 0, work) if prove else value
        done = True
        for w in range(windows):
            rise = demand[w] - work.peak_sum[w]
            near = FLAT * (1.0 + demand[w])
            if rise < -near or (rise > near and peaks[w] > so_far[w] + FLAT):
                done = False
            work.cut_slope[cuts, w] = rise
        if done and not prove:
            bound = elastic
            break
        if prove:
            work.cut_value[cuts] = undercut_with(i, tables, price, windows, work)
        else:
            for w in range(windows):
                elastic -= work.cut_slope[cuts, w] * (peaks[w] - so_far[w])
            work.cut_value[cuts] = elastic
        if cuts == 0:
            # a plane that rises in every peak, so that a lowest point exists: peaks worth nothing
            work.cut_value[1] = undercut_with(i, tables, price, 0, work)
            for w in range(windows):
                work.cut_slope[1, w] = demand[w]
        cuts = max(2, cuts + 1)
        bound = lowest(work.cut_value, work.cut_slope, cuts, peaks)
        for w in range(windows):
            peaks[w] += so_far[w]
        if done or best - bound <= tolerance * (1.0 + abs(best)) or cuts > MOST_CUTS:
            break
    peaks[:] = work.peaks
    return best_cost, min(bound, best)


@kernel
def one_pass(i, tables, price, peaks, work):
    """Schedule the site for given peaks into `work.trial`, with the prices that go with it.

    Returns its cost, the same less what delivery earns, and that with import above the peaks paid by
    the step and the peaks paid for.
    """
    site, rows, step_h, window = tables.site[i], work.rows, tables.step_h, tables.window
    demand, so_far, c_rate, factor = (
        tables.demand_price_per_kw[i],
        tables.peak_so_far[i],
        tables.wear_c_rate,
        tables.wear_factor,
    )
    slope, length, count, trial = work.slope, work.length, work.counts, work.trial
    lay_out(
        site, rows, step_h, price, work.none, window, demand, peaks, c_rate, factor, work.ranked, slope, length, count,
    )  # fmt: skip
    start = price_energy(site, slope, length, count, work.slopes, work.lengths, work.least, work.most)
    follow(
        site, start, step_h, slope, length, count, work.least, work.most, work.energy_price_per_kwh, work.span, trial
    )
    cost = settle(site, rows, step_h, window, demand, so_far, c_rate, factor, trial, work.highest)
    value = cost
    for t in range(price.shape[0]):
        value -= step_h[t] * price[t] * trial[t]
    if peaks.shape[0] == 0:
        return cost, value, value
    elastic = value + peak_prices(
        site, rows, step_h, price, window, demand, peaks, c_rate, factor, trial, work.energy_price_per_kwh,
        work.peak_price_per_kw, work.peak_sum,
    )  # fmt: skip
    for w in range(peaks.shape[0]):
        elastic += demand[w] * (peaks[w] - max(so_far[w], work.highest[w]))
    return cost, value, elastic


@kernel
def undercut_with(i, tables, price, windows, work):
    """What no schedule can undercut, at the prices of the pass before; peaks not above those so far.

    The first `windows` windows have the peak prices of that pass, with 0 of them peaks are worth nothing.
    """
    site, step_h, surcharge = tables.site[i], tables.step_h, work.surcharge
    for t in range(price.shape[0]):
        surcharge[t] = 0.0
        for w in range(windows):
            surcharge[t] += work.peak_price_per_kw[w, t] / step_h[t]
    lay_out(
        site, work.rows, step_h, price, surcharge, tables.window, tables.demand_price_per_kw[i], work.none[:0],
        tables.wear_c_rate, tables.wear_factor, work.ranked, work.slope, work.length, work.counts,
    )  # fmt: skip
    value = undercut(
        site, work.rows, step_h, surcharge, work.energy_price_per_kwh, work.slope, work.length, work.counts
    )
    for w in range(windows):
        value -= work.peak_sum[w] * tables.peak_so_far[i, w]
    return value
