"""Room simulation: what a step of time does to batteries, PV and meters; arrays over sites, no clock, no I/O.

Called by `world` (the devices of a running simulation) and `history` (the weeks before it).
Signs and units as everywhere: kW and kWh, positive toward the grid at AC terminals.
"""

from dataclasses import dataclass, fields

import numpy as np

from vpp.domain.fleet import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What was installed; every array has shape (site,).

    Attributes:
        max_charge_kw, max_discharge_kw: the battery's power, magnitudes [kW].
        capacity_kwh: usable energy [kWh].
        charge_efficiency, discharge_efficiency: one way, 0-1.
        import_limit_kw, export_limit_kw: at the grid connection, magnitudes [kW].
        ramp_kw_per_s: how fast the battery's power can change [kW/s].
        shave_kw: the native controller discharges to hold imports at this [kW]; infinite for backup only.
        fill_kw: outside the tariff's peak hours it charges while imports stay below this [kW]; 0: from PV only.
        is_tesla: steered by mode, not by setpoint.
    """

    max_charge_kw: Floats
    max_discharge_kw: Floats
    capacity_kwh: Floats
    charge_efficiency: Floats
    discharge_efficiency: Floats
    import_limit_kw: Floats
    export_limit_kw: Floats
    ramp_kw_per_s: Floats
    shave_kw: Floats
    fill_kw: Floats
    is_tesla: Bools

    def __post_init__(self) -> None:
        for column in fields(self):
            getattr(self, column.name).setflags(write=False)

    def __len__(self) -> int:
        return int(self.capacity_kwh.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """What happened in one step: mean powers, shape (site,).

    `battery_kw + pv_kw - load_kw == grid_kw`, and `energy_kwh` changed by exactly what the battery's
    terminals and its efficiencies say.

    Attributes:
        load_kw: load served; less than asked for only on an island whose battery is empty.
        pv_kw: PV after curtailment.
        energy_kwh: energy stored at the end of the step.
        over_export_kw, over_import_kw: how far the power asked of the battery would have carried the
            connection beyond its limit, had the device not held it back.
    """

    battery_kw: Floats
    pv_kw: Floats
    load_kw: Floats
    grid_kw: Floats
    energy_kwh: Floats
    over_export_kw: Floats
    over_import_kw: Floats


def native_kw(params: Params, net_load_kw: Floats, *, peak_hours: bool) -> Floats:
    """What a device left to itself wants of its battery [kW]: self-consumption or peak shaving.

    One law for both: discharge what the net load has above `shave_kw`, charge what it lacks to `fill_kw`.
    Both zero is self-consumption. In the tariff's peak hours nothing is bought to fill the battery.
    """
    fill_kw = np.minimum(params.fill_kw, 0.0) if peak_hours else params.fill_kw
    return np.asarray(np.maximum(net_load_kw - params.shave_kw, 0.0) - np.maximum(fill_kw - net_load_kw, 0.0))


def step(
    params: Params,
    *,
    energy_kwh: Floats,
    previous_kw: Floats,
    wanted_kw: Floats,
    floor_kwh: Floats,
    export_limit_kw: Floats,
    load_kw: Floats,
    pv_kw: Floats,
    islanded: Bools,
    dt_s: float,
) -> Flows:
    """Advance all sites by `dt_s`.

    The battery does what is wanted of it as far as ramp, power, energy and, as the device's last
    resort, the interconnection limits allow; PV is curtailed where export would still be too high.
    On an island the battery carries the load, down to empty: that is what the reserve is for.

    Args:
        params: what is installed.
        energy_kwh: energy stored at the beginning.
        previous_kw: the battery's power before this step, for the ramp.
        wanted_kw: the battery power asked for, discharge positive.
        floor_kwh: energy below which the device itself stops discharging.
        export_limit_kw: the connection's limit, or 0 where the owner forbids export.
        load_kw, pv_kw: the step's mean load and available PV, magnitudes.
        islanded: cut off from the grid.
        dt_s: length of the step [s].
    """
    dt_h = dt_s / 3600.0
    floor_kwh = np.where(islanded, 0.0, floor_kwh)
    most_kw = np.maximum(energy_kwh - floor_kwh, 0.0) * params.discharge_efficiency / dt_h
    room_kw = np.maximum(params.capacity_kwh - energy_kwh, 0.0) / (params.charge_efficiency * dt_h)
    high_kw = np.minimum(params.max_discharge_kw, most_kw)
    low_kw = -np.minimum(params.max_charge_kw, room_kw)
    net_kw = load_kw - pv_kw
    ramp_kw = params.ramp_kw_per_s * dt_s
    asked_kw = np.clip(np.clip(wanted_kw, previous_kw - ramp_kw, previous_kw + ramp_kw), low_kw, high_kw)
    exportable_kw = np.maximum(export_limit_kw + net_kw, 0.0)
    importable_kw = np.maximum(params.import_limit_kw - net_kw, 0.0)
    tied_kw = np.clip(asked_kw, -importable_kw, exportable_kw)
    battery_kw = np.where(islanded, np.clip(net_kw, low_kw, high_kw), tied_kw)
    export_kw = np.where(islanded, 0.0, export_limit_kw)
    used_pv_kw = np.clip(export_kw + load_kw - battery_kw, 0.0, pv_kw)
    served_kw = np.where(islanded, np.minimum(load_kw, used_pv_kw + battery_kw), load_kw)
    stored_kw = np.maximum(-battery_kw, 0.0) * params.charge_efficiency
    drawn_kw = np.maximum(battery_kw, 0.0) / params.discharge_efficiency
    return Flows(
        battery_kw=battery_kw,
        pv_kw=used_pv_kw,
        load_kw=served_kw,
        grid_kw=np.where(islanded, 0.0, battery_kw + used_pv_kw - served_kw),
        energy_kwh=np.clip(energy_kwh + (stored_kw - drawn_kw) * dt_h, 0.0, params.capacity_kwh),
        over_export_kw=np.where(islanded, 0.0, np.maximum(asked_kw - exportable_kw, 0.0)),
        over_import_kw=np.where(islanded, 0.0, np.maximum(-asked_kw - importable_kw, 0.0)),
    )
