"""Room telemetry: whether a site's last readings may be used, and if not, why. Pure numpy.

Called by `snapshot`. In order of precedence:

MISSING       no reading ever, or battery power, grid power or SOC was not said.
STALE         the last reading is too old.
FROZEN        answers keep coming, but the device's clock stands still; or the values do: the last three
              readings are bit-identical, registers included, although power flows (see `_stands_still`).
OUT_OF_RANGE  SOC outside 0-1, battery beyond 1.2 times its rating, grid beyond twice its limit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpp.domain.fleet import Bools, Floats, Quality

NEWEST = 3
"""Readings compared; a fourth, older one is kept beside them as the anchor."""
READINGS = NEWEST + 1
BATTERY_FACTOR = 1.2
GRID_FACTOR = 2.0
BATTERY_ALLOWANCE_KW = 0.1
GRID_ALLOWANCE_KW = 1.0
"""Allowances keep meter noise at a site with a rating or limit of zero from looking like nonsense."""
SOC_ALLOWANCE = 1e-6
REGISTER_RESOLUTION_KWH = 0.1
SOC_RESOLUTION = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each site's readings are held against, shape (site,)."""

    max_charge_kw: Floats
    max_discharge_kw: Floats
    import_limit_kw: Floats
    export_limit_kw: Floats
    capacity_kwh: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReadings:
    """The three newest readings of each site, newest first, and an anchor; NaN where there is none.

    Attributes:
        age_s: since it was measured [s], shape (site, 4).
        repeated_age_s: since the newest reading's `measured_at` last came again [s], shape (site,).
        values: battery_kw, grid_kw, soc, discharged and charged register, shape (value, site, 4).
        seen: a reading exists, however old, shape (site,).
    """

    age_s: Floats
    repeated_age_s: Floats
    values: Floats
    seen: Bools


def classify(last: LastReadings, limits: Limits, *, max_age_s: float) -> npt.NDArray[np.int8]:
    """Return `Quality` per site, shape (site,), int8."""
    battery_kw, grid_kw, soc = last.values[:3, :, 0]
    age_s = last.age_s[:, 0]
    unsaid = np.isnan(battery_kw) | np.isnan(grid_kw) | np.isnan(soc)
    old = np.isnan(age_s) | (age_s > max_age_s)
    answers = last.repeated_age_s <= max_age_s
    return np.asarray(
        np.select(
            [
                ~last.seen,
                old & answers,
                old,
                unsaid,
                _out_of_range(battery_kw, grid_kw, soc, limits),
                _stands_still(last, limits, max_age_s),
            ],
            [Quality.MISSING, Quality.FROZEN, Quality.STALE, Quality.MISSING, Quality.OUT_OF_RANGE, Quality.FROZEN],
            Quality.GOOD,
        ),
        dtype=np.int8,
    )


def _out_of_range(battery_kw: Floats, grid_kw: Floats, soc: Floats, limits: Limits) -> Bools:
    return np.asarray(
        (soc < -SOC_ALLOWANCE)
        | (soc > 1 + SOC_ALLOWANCE)
        | (battery_kw > BATTERY_FACTOR * limits.max_discharge_kw + BATTERY_ALLOWANCE_KW)
        | (battery_kw < -BATTERY_FACTOR * limits.max_charge_kw - BATTERY_ALLOWANCE_KW)
        | (grid_kw > GRID_FACTOR * limits.export_limit_kw + GRID_ALLOWANCE_KW)
        | (grid_kw < -GRID_FACTOR * limits.import_limit_kw - GRID_ALLOWANCE_KW)
    )


def _stands_still(last: LastReadings, limits: Limits, max_age_s: float) -> Bools:
    """Whether the values stand still although they cannot.

    Identical readings seconds apart prove nothing, nor does a load profile in steps. A battery that gives
    power must move its registers or SOC once the energy exceeds their resolution; a grid meter that shows
    the same power to the last bit for longer than `max_age_s` is not measuring.
    """
    same = np.ones(last.age_s.shape, dtype=bool)
    for column in last.values:
        first = column[:, :1]
        same &= (column == first) | (np.isnan(column) & np.isnan(first))
    same &= ~np.isnan(last.age_s)
    still = same[:, :NEWEST].all(axis=1)
    span_s = np.where(same[:, NEWEST], last.age_s[:, NEWEST], last.age_s[:, NEWEST - 1]) - last.age_s[:, 0]
    battery_kw, grid_kw, _, discharged, _ = last.values[:, :, 0]
    has_register = ~np.isnan(discharged)
    visible_kwh = np.where(has_register, REGISTER_RESOLUTION_KWH, SOC_RESOLUTION * limits.capacity_kwh)
    battery_lies = np.abs(battery_kw) * span_s / 3600.0 >= visible_kwh
    grid_lies = (grid_kw != 0) & (span_s >= max_age_s)
    return np.asarray(still & ((battery_kw != 0) & battery_lies | grid_lies))
