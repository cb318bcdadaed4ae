"""Room simulation: what each device has been told, as arrays, and what it therefore wants of its battery.

Called by `world` (written by the device servers) and `history` (owners' settings only).
"""

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.fleet import Bools, Floats
from vpp.simulation.physics import Params, native_kw
from vpp.simulation.recipes import PEAK_HOURS
from vpp.simulation.tesla_modes import EXPORT, HOLD, MINUTES_A_WEEK, MODES, TO_LOAD, Table, TeslaSettings, trade_table

SOC_TOLERANCE = 1e-6
GRID_CHARGE_SHARE = 0.5
"""A Powerwall refills its reserve from the grid at about half its power."""


@dataclass(slots=True)
class Control:
    """Orders and settings; every array has site as its first axis.

    Attributes:
        setpoint_on, setpoint_kw: a SunSpec device holds this power, discharge positive [kW].
        mode: a Tesla site's mode as a place in `MODES`.
        reserve_soc: what the device itself keeps back when it is not under a setpoint, 0-1.
        battery_ok: the battery may feed the grid.
        no_export: nothing may feed the grid.
        grid_charge: the battery may charge from the grid.
        tables: what trading wants in each minute of a local week, shape (site, 10080).
    """

    setpoint_on: Bools
    setpoint_kw: Floats
    mode: Table
    reserve_soc: Floats
    battery_ok: Bools
    no_export: Bools
    grid_charge: Bools
    tables: Table

    @classmethod
    def untouched(cls, reserve_soc: Floats) -> "Control":
        """Nobody has said anything yet."""
        sites = reserve_soc.shape[0]
        no = np.zeros(sites, dtype=bool)
        return cls(
            setpoint_on=no.copy(),
            setpoint_kw=np.zeros(sites),
            mode=np.zeros(sites, dtype=np.int8),
            reserve_soc=reserve_soc.copy(),
            battery_ok=no.copy(),
            no_export=no.copy(),
            grid_charge=no.copy(),
            tables=np.full((sites, MINUTES_A_WEEK), HOLD, dtype=np.int8),
        )

    def set_tesla(self, row: int, settings: TeslaSettings, day: date) -> None:
        """Put a Tesla site's settings into force, with its tariff's season of `day`."""
        self.mode[row] = MODES.index(settings.default_real_mode)
        self.reserve_soc[row] = settings.backup_reserve_percent / 100.0
        self.battery_ok[row] = settings.customer_preferred_export_rule == "battery_ok"
        self.no_export[row] = settings.customer_preferred_export_rule == "never"
        self.grid_charge[row] = not settings.disallow_charge_from_grid_with_solar_installed
        self.tables[row] = trade_table(settings.tariff_content_v2, day)


@dataclass(frozen=True, slots=True)
class LocalTime:
    """An instant on a site's clock: what tariffs look at."""

    day: date
    minute_of_week: int
    peak_hours: bool

    @classmethod
    def at(cls, at: datetime, zone: ZoneInfo) -> "LocalTime":
        local = at.astimezone(zone)
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        return cls(local.date(), minute, PEAK_HOURS[0] <= local.hour < PEAK_HOURS[1])


def wanted_kw(params: Params, control: Control, *, net_load_kw: Floats, soc: Floats, local: LocalTime) -> Floats:
    """The battery power every device goes for, discharge positive [kW], shape (site,)."""
    native = native_kw(params, net_load_kw, peak_hours=local.peak_hours)
    wanted = np.where(params.is_tesla, _tesla_kw(params, control, net_load_kw, soc, local), native)
    return np.where(control.setpoint_on, control.setpoint_kw, wanted)


def floor_soc(control: Control) -> Floats:
    """Where each device stops discharging by itself, 0-1.

    A SunSpec device under a setpoint obeys down to empty: the owner's reserve is then ours to keep.
    """
    return np.where(control.setpoint_on, 0.0, control.reserve_soc)


def _tesla_kw(params: Params, control: Control, net_load_kw: Floats, soc: Floats, local: LocalTime) -> Floats:
    trading = control.mode == MODES.index("autonomous")
    code = np.where(trading, control.tables[:, local.minute_of_week], TO_LOAD)
    surplus_only = np.minimum(net_load_kw, 0.0)
    wanted = np.where(code == HOLD, surplus_only, net_load_kw)
    wanted = np.where((code == EXPORT) & control.battery_ok, params.max_discharge_kw, wanted)
    refill = np.where(control.grid_charge, -GRID_CHARGE_SHARE * params.max_charge_kw, 0.0)
    refilling = (control.mode == MODES.index("backup")) | (soc < control.reserve_soc - SOC_TOLERANCE)
    return np.where(refilling, np.minimum(refill, surplus_only), wanted)
