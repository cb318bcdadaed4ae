"""Room simulation: the weeks before the simulation starts, with every battery under its own control only.

Called by `fleet`. Gives the state of charge to start from, the billing period's peaks so far and the
interval energies that baselines and forecasts are made of.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.fleet import Floats
from vpp.domain.site import DemandCharge
from vpp.simulation.control import Control, LocalTime, floor_soc, wanted_kw
from vpp.simulation.physics import Params, step
from vpp.simulation.weather import Weather

QUARTER = timedelta(minutes=15)
QUARTERS_AN_HOUR = 4


@dataclass(frozen=True, slots=True)
class History:
    """Quarter-hourly energies, positive toward the grid [kWh], shape (quarter, site).

    `grid_kwh` is what the utility's meter saw, with the battery under its native control;
    `battery_kwh` is the battery's part of it, discharge positive.
    """

    start_at: datetime
    grid_kwh: Floats
    battery_kwh: Floats
    final_soc: Floats

    @property
    def end_at(self) -> datetime:
        return self.start_at + QUARTER * len(self.grid_kwh)

    def hourly(self, days: int) -> tuple[tuple[datetime, ...], Floats, Floats]:
        """The last `days` by whole hours: start of each hour, grid and battery energy, each of shape (hour, site)."""
        quarters = min(days * 24 * QUARTERS_AN_HOUR, self.grid_kwh.shape[0] // QUARTERS_AN_HOUR * QUARTERS_AN_HOUR)
        first_at = self.end_at - QUARTER * quarters
        hours = quarters // QUARTERS_AN_HOUR
        sums = [
            column[-quarters:].reshape(hours, QUARTERS_AN_HOUR, -1).sum(axis=1)
            for column in (self.grid_kwh, self.battery_kwh)
        ]
        return tuple(first_at + timedelta(hours=hour) for hour in range(hours)), sums[0], sums[1]

    def import_peak_kw(self, row: int, charge: DemandCharge, since: datetime, zone: ZoneInfo) -> float:
        """A site's highest quarter-hourly import in a demand charge's hours since an instant [kW]."""
        first = max(0, (since - self.start_at) // QUARTER)
        inside = demand_quarters(self.start_at + QUARTER * first, self.grid_kwh.shape[0] - first, charge, zone)
        imports_kw = -self.grid_kwh[first:, row][inside] * QUARTERS_AN_HOUR
        return float(max(0.0, imports_kw.max(initial=0.0)))


def demand_quarters(
    start_at: datetime, count: int, charge: DemandCharge, zone: ZoneInfo
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of `count` quarters of an hour from `start_at` lie in a demand charge's local hours."""
    return np.array(
        [
            charge.start_h <= local.hour < charge.end_h and local.isoweekday() in charge.weekdays
            for local in ((start_at + QUARTER * place).astimezone(zone) for place in range(count))
        ],
        dtype=bool,
    )


def replay(
    params: Params, control: Control, weather: Weather, *, first_soc: Floats, start_at: datetime, days: int
) -> History:
    """Let the fleet live `days` days by itself from `start_at`, in quarters of an hour."""
    count = days * 24 * QUARTERS_AN_HOUR
    load_kw, pv_kw = weather.means(start_at, count, QUARTER)
    zone = ZoneInfo(weather.time_zone)
    grid, battery = np.empty((2, count, len(params)))
    energy_kwh = first_soc * params.capacity_kwh
    floor_kwh = floor_soc(control) * params.capacity_kwh
    export_limit_kw = np.where(control.no_export, 0.0, params.export_limit_kw)
    previous_kw, mainland = np.zeros(len(params)), np.zeros(len(params), dtype=bool)
    for place in range(count):
        local = LocalTime.at(start_at + QUARTER * place, zone)
        net_kw = load_kw[place] - pv_kw[place]
        flows = step(
            params,
            energy_kwh=energy_kwh,
            previous_kw=previous_kw,
            wanted_kw=wanted_kw(params, control, net_load_kw=net_kw, soc=energy_kwh / params.capacity_kwh, local=local),
            floor_kwh=floor_kwh,
            export_limit_kw=export_limit_kw,
            load_kw=load_kw[place],
            pv_kw=pv_kw[place],
            islanded=mainland,
            dt_s=QUARTER.total_seconds(),
        )
        energy_kwh, previous_kw = flows.energy_kwh, flows.battery_kw
        grid[place], battery[place] = flows.grid_kw, flows.battery_kw
    return History(start_at, grid / QUARTERS_AN_HOUR, battery / QUARTERS_AN_HOUR, energy_kwh / params.capacity_kwh)
