"""Room simulation: one virtual battery as SunSpec registers: what it shows and what it lets itself be told.

Called by `sunspec_server`, which owns the sockets. Registers are made from the world when they are read.
Signs are the standard's: 701.W is positive for generation, 704.WSet for discharge; a meter's (201, 203) W is
positive for import.
"""

from collections.abc import Sequence

from vpp.domain.units import w_from_kw
from vpp.simulation import sunspec_models as models
from vpp.simulation.faults import FaultKind
from vpp.simulation.setpoint import Setpoint
from vpp.simulation.sunspec_models import Layout
from vpp.simulation.world import View, World

BASE = 40_000
FIXED_W = 1 << 1
GRID_DISCONNECT = 1 << 4
GRID_FOLLOWING, GRID_FORMING = 1 << 0, 1 << 1
RUNNING, STANDBY = 3, 7
CENTS = -2
IDLE_KW = 0.005
INT16_MOST = 32_767
ACC32 = 1 << 32
WRITABLE = ("WSetEna", "WSetMod", "WSet", "WSetRvrt", "WSetPct", "WSetPctRvrt", "WSetEnaRvrt", "WSetRvrtTms")


class SunSpecDevice:
    """The register map of one site.

    The control follows the standard: the timer starts afresh each time WSetEna is written with 1, counts in
    the device's own time, and on its end WSetEna, WSet and WSetPct take their Rvrt values.
    """

    def __init__(self, world: World, row: int) -> None:
        self._world = world
        self._row = row
        virtual = world.fleet.sites[row]
        self._battery = virtual.site.battery
        self._volts = 240.0 if virtual.phases == 1 else 277.0
        self._phases = virtual.phases
        rated_kw = max(self._battery.max_charge_kw, self._battery.max_discharge_kw)
        self._scale = 0 if rated_kw <= 30.0 else 1
        limits_kw = (virtual.site.import_limit_kw, virtual.site.export_limit_kw, virtual.recipe.load_kw)
        self._meter_scale = 0 if max(limits_kw) + rated_kw <= 30.0 else 1
        energy_wh = w_from_kw(self._battery.capacity_kwh)
        self._energy_scale = 0 if energy_wh <= 60_000 else 1
        meter = models.METER_1 if self._phases == 1 else models.METER_3
        chain = (models.COMMON, models.MEASURE_AC, models.CAPACITY, models.CONTROL_AC, models.STORAGE, meter)
        self._places: dict[int, int] = {}
        image = [*models.MARKER]
        for layout in chain:
            self._places[layout.model] = len(image)
            image += layout.blank
        self._meter = meter
        self.image = image + list(models.END)
        self._show_nameplate()

    def refresh(self, registers: list[int], offset: int, count: int) -> None:
        """Bring the models that a read of `count` registers from `offset` touches up to date."""
        view = self._world.view(self._row)
        for layout, show in (
            (models.MEASURE_AC, self._measured),
            (models.STORAGE, self._stored),
            (self._meter, self._metered),
        ):
            if self._touches(layout, offset, count):
                layout.put(registers, self._places[layout.model], show(view))
        if self._touches(models.CONTROL_AC, offset, count):
            control = self._world.setpoint(self._row)
            models.CONTROL_AC.put(registers, self._places[704], self._controls(control))

    def may_write(self, offset: int, count: int) -> bool:
        """Whether all these registers belong to the active power control."""
        first, last = self._control_span()
        return first <= offset and offset + count <= last

    def write(self, offset: int, values: Sequence[int]) -> bool:
        """Take a write at the world's present; False where a value is not allowed and nothing was taken."""
        world, row = self._world, self._row
        first, last = self._control_span()
        raw = [*self.image]
        self.refresh(raw, first, last - first)
        raw[offset : offset + len(values)] = values
        numbers = {name: self._number(raw, name) for name in WRITABLE}
        if any(numbers[name] not in (0, 1) for name in ("WSetEna", "WSetMod", "WSetEnaRvrt")):
            return False
        if world.faults.active(world.site_ids[row], world.now, FaultKind.WRITE_IGNORED) is not None:
            return True
        before = world.setpoint(row)
        setpoint = Setpoint(
            enabled=numbers["WSetEna"] == 1,
            in_watts=numbers["WSetMod"] == 1,
            power_w=numbers["WSet"],
            revert_power_w=numbers["WSetRvrt"],
            share_e4=numbers["WSetPct"],
            revert_share_e4=numbers["WSetPctRvrt"],
            revert_enabled=numbers["WSetEnaRvrt"] == 1,
            revert_s=numbers["WSetRvrtTms"],
            ends_at=before.ends_at,
        )
        enable = self._place("WSetEna")
        enabling = setpoint.enabled and offset <= enable < offset + len(values)
        world.set_setpoint(row, setpoint, self._world.device_time, restart_timer=enabling)
        return True

    def _place(self, name: str) -> int:
        return self._places[704] + models.CONTROL_AC.points[name][0]

    def _control_span(self) -> tuple[int, int]:
        return self._place(WRITABLE[0]), self._place("WSetRvrtRem")

    def _number(self, raw: Sequence[int], name: str) -> int:
        kind = models.CONTROL_AC.points[name][1]
        place = self._place(name)
        return models.unpack(kind, raw[place:])

    def _touches(self, layout: Layout, offset: int, count: int) -> bool:
        place = self._places[layout.model]
        return offset < place + layout.size and place < offset + count

    def _show_nameplate(self) -> None:
        virtual = self._world.fleet.sites[self._row]
        serial = f"SIM-{self._world.fleet.seed}-{virtual.site.id}"
        common: dict[str, int | str] = {
            "Mn": "VPP Simulation",
            "Md": "Virtual Battery",
            "Opt": "",
            "Vr": "1.0",
            "SN": serial,
            "DA": 1,
        }
        models.COMMON.put(self.image, self._places[1], common)
        to_scale = 10**self._scale
        charge, discharge = (
            round(w_from_kw(power) / to_scale)
            for power in (self._battery.max_charge_kw, self._battery.max_discharge_kw)
        )
        rating = {"WMax": discharge, "VAMax": discharge, "WChaRteMax": charge, "WDisChaRteMax": discharge}
        capacity = rating | {f"{name}Rtg": value for name, value in rating.items()}
        capacity |= {"VNomRtg": round(self._volts), "CtrlModes": FIXED_W, "W_SF": self._scale, "VA_SF": self._scale}
        models.CAPACITY.put(self.image, self._places[702], capacity | {"V_SF": 0})
        self.refresh(self.image, 0, len(self.image))

    def _measured(self, view: View) -> dict[str, int]:
        power_w = w_from_kw(view.battery_kw)
        scaled = _int16(power_w, self._scale)
        return {
            "ACType": 0 if self._phases == 1 else 2,
            "St": 1,
            "InvSt": RUNNING if abs(view.battery_kw) > IDLE_KW else STANDBY,
            "ConnSt": 0 if view.islanded else 1,
            "Alrm": GRID_DISCONNECT if view.islanded else 0,
            "DERMode": GRID_FORMING if view.islanded else GRID_FOLLOWING,
            "W": scaled,
            "VA": abs(scaled),
            "Var": 0,
            "A": _int16(abs(power_w) / (self._volts * self._phases), -1),
            "LNV": round(self._volts * 10),
            "Hz": 6000,
            "TotWhInj": round(w_from_kw(view.discharged_kwh)),
            "TotWhAbs": round(w_from_kw(view.charged_kwh)),
            "A_SF": -1,
            "V_SF": -1,
            "Hz_SF": CENTS,
            "W_SF": self._scale,
            "VA_SF": self._scale,
            "Var_SF": self._scale,
            "TotWh_SF": 0,
        }

    def _stored(self, view: View) -> dict[str, int]:
        capacity = round(w_from_kw(self._battery.capacity_kwh) / 10**self._energy_scale)
        return {
            "WHRtg": capacity,
            "WHAvail": round(capacity * view.soc),
            "SoC": round(view.soc * 10_000),
            "SoH": 10_000,
            "Sta": 0,
            "WH_SF": self._energy_scale,
            "Pct_SF": CENTS,
        }

    def _metered(self, view: View) -> dict[str, int]:
        import_w = -w_from_kw(view.grid_kw)
        current = _int16(import_w / (self._volts * self._phases), -1)
        each = {f"Aph{phase}": current for phase in "ABC"[: self._phases]}
        volts = {name: round(self._volts * 10) for name in ("PhV", "PhVphA", "PhVphB", "PhVphC")[: self._phases + 1]}
        return {
            "A": _int16(import_w / self._volts, -1),
            **each,
            **volts,
            "A_SF": -1,
            "V_SF": -1,
            "Hz": 6000,
            "Hz_SF": CENTS,
            "W": _int16(import_w, self._meter_scale),
            "W_SF": self._meter_scale,
            "TotWhExp": round(w_from_kw(view.exported_kwh)) % ACC32,
            "TotWhImp": round(w_from_kw(view.imported_kwh)) % ACC32,
            "TotWh_SF": 0,
            "Evt": 0,
        }

    def _controls(self, setpoint: Setpoint) -> dict[str, int]:
        return {
            "WSetEna": int(setpoint.enabled),
            "WSetMod": int(setpoint.in_watts),
            "WSet": setpoint.power_w,
            "WSetRvrt": setpoint.revert_power_w,
            "WSetPct": setpoint.share_e4,
            "WSetPctRvrt": setpoint.revert_share_e4,
            "WSetEnaRvrt": int(setpoint.revert_enabled),
            "WSetRvrtTms": setpoint.revert_s,
            "WSetRvrtRem": setpoint.remaining_s(self._world.device_time),
            "WSet_SF": 0,
            "WSetPct_SF": CENTS,
        }


def _int16(value: float, exponent: int) -> int:
    """A value in units of ten to the exponent, kept inside an int16."""
    return max(-INT16_MOST, min(INT16_MOST, round(value / 10.0**exponent)))
