"""Room telemetry: interval energy from one device's samples. Pure numpy; called by `rollup`.

Times are seconds since any common origin, ascending; edges are the borders of the intervals; results
have one value per interval, NaN where it cannot be known. Power is positive toward the grid.
"""

from dataclasses import dataclass

import numpy as np

from vpp.domain.fleet import Bools, Floats

MIN_COVERED = 0.5
"""An interval with less of its time covered by samples than this is missing, not estimated."""
FULLY_COVERED = 0.999
GAP_FACTOR = 2.0
REGISTER_JITTER_KWH = 0.01
"""A register that steps back by no more than this was rounded, not reset."""
_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class IntervalEnergy:
    """Energy per interval [kWh], and whether it was measured throughout or bridges something."""

    energy_kwh: Floats
    measured: Bools

    def or_else(self, other: "IntervalEnergy") -> "IntervalEnergy":
        """This where it is known, else the other."""
        known = ~np.isnan(self.energy_kwh)
        return IntervalEnergy(
            np.where(known, self.energy_kwh, other.energy_kwh), np.where(known, self.measured, other.measured)
        )


def without_gap(times_s: Floats, step_s: float) -> Bools:
    """Which segments between neighbouring samples are no gap, shape (sample - 1,).

    A gap is longer than twice the spacing around it. The spacing is the median of the nearest segments,
    so that a device read every half hour at night and every five minutes in an event has no gap; but
    never more than `step_s`, because samples farther apart say nothing about an interval of that length.
    """
    spacing_s = np.diff(times_s)
    padded = np.pad(spacing_s, _NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)
    usual_s = np.minimum(np.nanmedian(windows, axis=1), step_s)
    return np.asarray(spacing_s <= GAP_FACTOR * usual_s + 1e-6)


def energy_of_power(times_s: Floats, power_kw: Floats, edges_s: Floats, step_s: float) -> IntervalEnergy:
    """Energy as the time-weighted mean of power samples, linear between them; gaps are left out.

    An interval with a gap takes the mean of its covered part, if that is at least half of it.
    """
    known = ~np.isnan(power_kw)
    times_s, power_kw = times_s[known], power_kw[known]
    lengths_s = np.diff(edges_s)
    if len(times_s) < 2:
        return IntervalEnergy(np.full(len(lengths_s), np.nan), np.zeros(len(lengths_s), dtype=bool))
    covers = without_gap(times_s, step_s)
    grid_s = np.union1d(times_s, np.clip(edges_s, times_s[0], times_s[-1]))
    at_grid_kw = np.interp(grid_s, times_s, power_kw)
    segment = np.clip(np.searchsorted(times_s, grid_s[:-1], side="right") - 1, 0, len(covers) - 1)
    piece_s = np.where(covers[segment], np.diff(grid_s), 0.0)
    sums = np.zeros((2, len(grid_s)))
    sums[0, 1:] = np.cumsum(piece_s)
    sums[1, 1:] = np.cumsum(piece_s * (at_grid_kw[1:] + at_grid_kw[:-1]) / 2)
    place = np.searchsorted(grid_s, np.clip(edges_s, times_s[0], times_s[-1]))
    covered_s, energy_kws = np.diff(sums[:, place], axis=1)
    share = covered_s / lengths_s
    with np.errstate(divide="ignore", invalid="ignore"):
        energy_kwh = np.where(share >= MIN_COVERED, energy_kws / share / 3600.0, np.nan)
    return IntervalEnergy(energy_kwh, np.asarray(share >= FULLY_COVERED))


def energy_of_registers(
    times_s: Floats, discharged_kwh: Floats, charged_kwh: Floats, edges_s: Floats, step_s: float, max_kw: float
) -> IntervalEnergy:
    """Energy as the difference of cumulated registers, discharged less charged.

    Between samples the register is taken as linear; across a gap or a reset that is an estimate. A step
    that the battery's power `max_kw` cannot explain, as after a meter was exchanged, is not used, nor is
    an interval that reaches beyond the samples.
    """
    known = ~(np.isnan(discharged_kwh) | np.isnan(charged_kwh))
    times_s = times_s[known]
    intervals = len(edges_s) - 1
    if len(times_s) < 2:
        return IntervalEnergy(np.full(intervals, np.nan), np.zeros(intervals, dtype=bool))
    out_kwh, out_reset = _increments(discharged_kwh[known])
    in_kwh, in_reset = _increments(charged_kwh[known])
    possible_kwh = max_kw * np.diff(times_s) / 3600.0 + REGISTER_JITTER_KWH
    broken = (out_kwh > possible_kwh) | (in_kwh > possible_kwh)
    doubtful = out_reset | in_reset | ~without_gap(times_s, step_s)
    net_kwh = np.where(broken, 0.0, out_kwh - in_kwh)
    lengths_s = np.diff(times_s)
    sums = np.zeros((3, len(times_s)))
    for row, pieces in enumerate((net_kwh, lengths_s * broken, lengths_s * doubtful)):
        sums[row, 1:] = np.cumsum(pieces)
    at_edges = np.array([np.interp(edges_s, times_s, row) for row in sums])
    energy_kwh, broken_s, doubtful_s = np.diff(at_edges, axis=1)
    inside = (edges_s[:-1] >= times_s[0]) & (edges_s[1:] <= times_s[-1])
    return IntervalEnergy(
        np.where(inside & (broken_s < 1e-6), energy_kwh, np.nan), np.asarray(inside & (doubtful_s < 1e-6))
    )


def _increments(register_kwh: Floats) -> tuple[Floats, Bools]:
    """What a register counted between samples [kWh], and where it began again from zero."""
    steps_kwh = np.diff(register_kwh)
    reset = steps_kwh < -REGISTER_JITTER_KWH
    return np.where(reset, register_kwh[1:], np.maximum(steps_kwh, 0.0)), np.asarray(reset)


def energy_of_grid(
    battery: IntervalEnergy, times_s: Floats, battery_kw: Floats, grid_kw: Floats, edges_s: Floats, step_s: float
) -> IntervalEnergy:
    """Energy at the utility meter: the battery's metered energy less that of the site's net load.

    A battery jumps when it is commanded, between two samples; net load does not. So the jumps are taken
    from the sub-meter and only the smooth rest is interpolated. Falls back to the grid samples alone.
    """
    net_load = energy_of_power(times_s, battery_kw - grid_kw, edges_s, step_s)
    fused = IntervalEnergy(battery.energy_kwh - net_load.energy_kwh, battery.measured & net_load.measured)
    return fused.or_else(energy_of_power(times_s, grid_kw, edges_s, step_s))
