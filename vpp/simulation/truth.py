"""Room simulation: what really happened at every site, against which our own books are judged.

Filled by `world`; read by the demo's outcome and tests through `Truth`. Nothing here can be seen over
the devices' wires.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from vpp.domain.fleet import Bools, Floats
from vpp.domain.site import DemandCharge
from vpp.domain.time import floor_to
from vpp.simulation.fleet import VirtualFleet
from vpp.simulation.history import QUARTER, QUARTERS_AN_HOUR, demand_quarters
from vpp.simulation.physics import Flows

RESERVE_TOLERANCE = 0.001
DISCHARGING_KW = 0.01
LIMIT_SHARE, LIMIT_FLOOR_KW = 0.02, 0.2
PEAK_SHARE, PEAK_FLOOR_KW = 0.01, 0.25


@dataclass(frozen=True, slots=True)
class Truth:
    """A run's facts between `start_at` and `end_at`; arrays of shape (site,) or (quarter, site).

    Attributes:
        imported_kwh, exported_kwh, discharged_kwh, charged_kwh, pv_kwh, load_kwh: totals.
        quarter_import_kwh: imports by quarter of an hour, from the quarter that holds `start_at`.
        quarter_battery_kwh: energy of the battery's terminals, discharge positive.
        over_export_kwh, over_import_kwh: by quarter, what commands would have put beyond the connection's
            limit had the device not held it back.
        reserve_breaches: how often each site's battery was discharged below its owner's reserve while on the grid.
        reserve_breach_min: for how long [min].
        beyond_limit_min: minutes in which the meter really stood beyond a limit.
        end_soc: state of charge at `end_at`, 0-1.
    """

    start_at: datetime
    end_at: datetime
    imported_kwh: Floats
    exported_kwh: Floats
    discharged_kwh: Floats
    charged_kwh: Floats
    pv_kwh: Floats
    load_kwh: Floats
    quarter_import_kwh: Floats
    quarter_battery_kwh: Floats
    over_export_kwh: Floats
    over_import_kwh: Floats
    reserve_breaches: npt.NDArray[np.int64]
    reserve_breach_min: Floats
    beyond_limit_min: Floats
    end_soc: Floats


class Recorder:
    """Adds up one run, step by step."""

    def __init__(self, fleet: VirtualFleet, start_at: datetime) -> None:
        sites = len(fleet.sites)
        self._fleet = fleet
        self._start_at = start_at
        self._first_quarter = floor_to(start_at, QUARTER)
        self._totals = np.zeros((6, sites))
        self._quarters: list[Floats] = []
        self._in_breach = np.zeros(sites, dtype=bool)
        self._breaches = np.zeros(sites, dtype=np.int64)
        self._breach_min = np.zeros(sites)
        self._beyond_min = np.zeros(sites)

    def add(
        self,
        at: datetime,
        dt_s: float,
        flows: Flows,
        *,
        soc: Floats,
        reserve_soc: Floats,
        commanded: Bools,
        islanded: Bools,
    ) -> None:
        """Record a step that began at `at`. `soc` is at its end; `commanded` are the sites under a setpoint."""
        dt_h = dt_s / 3600.0
        imported, exported = np.maximum(-flows.grid_kw, 0.0), np.maximum(flows.grid_kw, 0.0)
        discharged, charged = np.maximum(flows.battery_kw, 0.0), np.maximum(-flows.battery_kw, 0.0)
        self._totals += np.stack([imported, exported, discharged, charged, flows.pv_kw, flows.load_kw]) * dt_h
        over = [np.where(commanded, column, 0.0) for column in (flows.over_export_kw, flows.over_import_kw)]
        place = (at - self._first_quarter) // QUARTER
        while len(self._quarters) <= place:
            self._quarters.append(np.zeros((4, len(soc))))
        self._quarters[place] += np.stack([imported, flows.battery_kw, *over]) * dt_h
        breach = (soc < reserve_soc - RESERVE_TOLERANCE) & (flows.battery_kw > DISCHARGING_KW) & ~islanded
        self._breaches += breach & ~self._in_breach
        self._in_breach = breach
        self._breach_min += breach * dt_s / 60.0
        params = self._fleet.params
        beyond = (exported > params.export_limit_kw + 1e-6) | (imported > params.import_limit_kw + 1e-6)
        self._beyond_min += beyond * dt_s / 60.0

    def truth(self, end_at: datetime, end_soc: Floats) -> Truth:
        """Everything until now."""
        quarters = np.array(self._quarters) if self._quarters else np.zeros((0, 4, len(end_soc)))
        imported, exported, discharged, charged, pv, load = self._totals.copy()
        quarter_import, quarter_battery, over_export, over_import = (quarters[:, column].copy() for column in range(4))
        return Truth(
            start_at=self._start_at,
            end_at=end_at,
            imported_kwh=imported,
            exported_kwh=exported,
            discharged_kwh=discharged,
            charged_kwh=charged,
            pv_kwh=pv,
            load_kwh=load,
            quarter_import_kwh=quarter_import,
            quarter_battery_kwh=quarter_battery,
            over_export_kwh=over_export,
            over_import_kwh=over_import,
            reserve_breaches=self._breaches.copy(),
            reserve_breach_min=self._breach_min.copy(),
            beyond_limit_min=self._beyond_min.copy(),
            end_soc=end_soc.copy(),
        )


def limit_breaches(fleet: VirtualFleet, truth: Truth) -> dict[str, int]:
    """How often our commands, left to themselves, would have broken a connection's limit.

    Counted by site and quarter of an hour, since limits and demand are judged by means over 15 minutes,
    where the excess is above 2 % of the limit and 0.2 kW. At sites that may not export at all a certified
    limiter in the device is part of the permission, so its work there is counted apart as `zero_export`.
    `actual` are the sites whose meter really stood beyond a limit.
    """
    export_kw, import_kw = fleet.params.export_limit_kw, fleet.params.import_limit_kw
    over_export = truth.over_export_kwh * QUARTERS_AN_HOUR > LIMIT_SHARE * export_kw + LIMIT_FLOOR_KW
    over_import = truth.over_import_kwh * QUARTERS_AN_HOUR > LIMIT_SHARE * import_kw + LIMIT_FLOOR_KW
    forbidden = export_kw == 0.0
    return {
        "export": int((over_export & ~forbidden).sum()),
        "import": int(over_import.sum()),
        "zero_export": int((over_export & forbidden).sum()),
        "actual": int((truth.beyond_limit_min > 0).sum()),
    }


def demand_peak_breaches(fleet: VirtualFleet, actual: Truth, counterfactual: Truth) -> list[dict[str, Any]]:
    """Sites whose demand charge we made worse: one entry per site and demand charge.

    A site is harmed if its highest 15-minute import in the charge's hours exceeds both the billing
    period's peak so far and what it would have drawn without us, by more than 1 % and 0.25 kW.
    """
    harmed = []
    for row, virtual in enumerate(fleet.sites):
        site = virtual.site
        for charge in site.tariff.demand:
            peak_kw, without_us_kw = (
                _peak_kw(truth, row, charge, site.time_zone) for truth in (actual, counterfactual)
            )
            allowed_kw = max(site.peak_so_far_kw.get(charge.name, 0.0), without_us_kw)
            if peak_kw > allowed_kw * (1 + PEAK_SHARE) + PEAK_FLOOR_KW:
                harmed.append(
                    {"site_id": site.id, "demand_charge": charge.name, "peak_kw": peak_kw, "allowed_kw": allowed_kw}
                )
    return harmed


def _first(truth: Truth) -> datetime:
    return floor_to(truth.start_at, QUARTER)


def _peak_kw(truth: Truth, row: int, charge: DemandCharge, time_zone: str) -> float:
    inside = demand_quarters(_first(truth), len(truth.quarter_import_kwh), charge, ZoneInfo(time_zone))
    return float((truth.quarter_import_kwh[inside, row] * QUARTERS_AN_HOUR).max(initial=0.0))


def summary(fleet: VirtualFleet, actual: Truth, counterfactual: Truth) -> dict[str, Any]:
    """What the outcome of a run needs to know, JSON-able; sites in the fleet's order."""
    limits = limit_breaches(fleet, actual)
    broken = np.flatnonzero(actual.reserve_breaches)
    return {
        "start_at": actual.start_at.isoformat(),
        "end_at": actual.end_at.isoformat(),
        "sites": len(fleet.sites),
        "reserve_breaches": int(actual.reserve_breaches.sum()),
        "reserve_breach_sites": [
            {"site_id": fleet.site_ids[row], "minutes": round(float(actual.reserve_breach_min[row]), 1)}
            for row in broken
        ],
        "limit_breaches": limits["export"] + limits["import"] + limits["actual"],
        "limit_detail": limits,
        "demand_peak_breaches": demand_peak_breaches(fleet, actual, counterfactual),
        "energies_kwh": {
            name: [round(float(value), 6) for value in getattr(actual, name)]
            for name in ("imported_kwh", "exported_kwh", "discharged_kwh", "charged_kwh", "pv_kwh", "load_kwh")
        },
        "site_ids": list(fleet.site_ids),
        "end_soc": [round(float(value), 6) for value in actual.end_soc],
    }


def battery_energy_kwh(truth: Truth, start_at: datetime, end_at: datetime) -> Floats:
    """Battery energy of each site between two quarters of an hour, discharge positive [kWh], shape (site,)."""
    first, last = ((floor_to(at, QUARTER) - _first(truth)) // timedelta(minutes=15) for at in (start_at, end_at))
    return np.asarray(truth.quarter_battery_kwh[max(0, first) : max(0, last)].sum(axis=0))
