"""Room simulation: the running world: physics, what the devices were told, their timers and their faults.

Called by the device servers (which read views and write orders) and by `devices` (which lets time pass).
One process, one thread; nothing here waits.
"""

import heapq
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats
from vpp.domain.time import as_utc, floor_to
from vpp.simulation.control import LocalTime, floor_soc, wanted_kw
from vpp.simulation.faults import Fault, FaultKind, FaultPlan
from vpp.simulation.fleet import TIME_ZONE, VirtualFleet
from vpp.simulation.physics import step
from vpp.simulation.setpoint import Setpoint
from vpp.simulation.tesla_modes import TeslaSettings
from vpp.simulation.truth import Recorder, Truth

STILL = (FaultKind.FROZEN, FaultKind.STALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a site's device would say of itself at `at`; kW and kWh, positive toward the grid."""

    at: datetime
    soc: float
    battery_kw: float
    grid_kw: float
    pv_kw: float
    load_kw: float
    islanded: bool
    discharged_kwh: float
    charged_kwh: float
    exported_kwh: float
    imported_kwh: float


class World:
    """All devices of a fleet, advanced together.

    Time passes in steps of `step_s` on a fixed grid, and stops at each write and each timer on the way,
    so that the course depends on what was commanded when, and on nothing else.
    """

    def __init__(self, fleet: VirtualFleet, *, faults: Iterable[Fault] = (), step_s: float = 60.0) -> None:
        self.fleet = fleet
        self.now = self.device_time = fleet.start_at
        self.faults = FaultPlan(faults)
        self.reserve_soc = fleet.reserve_soc
        self._step = timedelta(seconds=step_s)
        self._zone = ZoneInfo(TIME_ZONE)
        self.site_ids = fleet.site_ids
        self._row = {site_id: row for row, site_id in enumerate(self.site_ids)}
        self._control = fleet.control()
        self._setpoints = [Setpoint() for _ in fleet.sites]
        self._tesla: list[TeslaSettings | None] = [virtual.tesla for virtual in fleet.sites]
        self._agenda: list[datetime] = list(self.faults.changes())
        self._awaiting: list[tuple[datetime, int, int, TeslaSettings]] = []
        self._count = 0
        self._still: dict[int, View] = {}
        self._local_day = LocalTime.at(self.now, self._zone).day
        params = fleet.params
        self._energy_kwh = fleet.start_soc * params.capacity_kwh
        self._none = np.zeros(len(params))
        self._powers = dict.fromkeys(("battery_kw", "grid_kw", "pv_kw", "load_kw"), self._none)
        self._registers_kwh = np.stack([params.capacity_kwh * factor for factor in (110.0, 125.0, 60.0, 400.0)])
        self._recorder = Recorder(fleet, self.now)
        self._settle_first_view()

    def row(self, site_id: str) -> int:
        """The place of a site in every array.

        Raises:
            InvalidRequest: there is no such site.
        """
        if site_id not in self._row:
            raise InvalidRequest("site_id", site_id, "a site of this fleet")
        return self._row[site_id]

    @property
    def soc(self) -> Floats:
        """The true state of charge, 0-1, shape (site,)."""
        return np.asarray(self._energy_kwh / self.fleet.params.capacity_kwh)

    def advance_to(self, at: datetime) -> None:
        """Let time pass to the last whole step at or before `at`; nothing if it has already."""
        self._pass_time(floor_to(at, self._step))

    def tell_time(self, at: datetime) -> None:
        """What the devices' clocks show, to the second; physics follows as `advance_to` has it."""
        self.device_time = max(self.device_time, as_utc(at).replace(microsecond=0))
        self.advance_to(at)

    def view(self, row: int) -> View:
        """What the device says of itself now, with the lies its faults make it tell."""
        site_id = self.site_ids[row]
        fault = self.faults.active(site_id, self.now, *STILL)
        if fault is not None and row in self._still:
            still = self._still[row]
            return still if fault.kind is FaultKind.STALE else replace(still, at=self.now)
        view = self._true_view(row)
        lie = self.faults.active(site_id, self.now, FaultKind.LYING_SOC)
        return view if lie is None else replace(view, soc=min(1.0, view.soc + lie.amount))

    def setpoint(self, row: int) -> Setpoint:
        """A copy of a SunSpec device's active power control."""
        return replace(self._setpoints[row])

    def set_setpoint(self, row: int, setpoint: Setpoint, at: datetime, *, restart_timer: bool) -> None:
        """Order a SunSpec device at `at`; `restart_timer` starts its reversion timer afresh."""
        self._pass_time(max(self.now, as_utc(at)))
        if restart_timer:
            setpoint.ends_at = as_utc(at) + timedelta(seconds=setpoint.revert_s) if setpoint.revert_s else None
        if not setpoint.enabled:
            setpoint.ends_at = None
        self._setpoints[row] = setpoint
        self._obey(row)
        if setpoint.ends_at is not None:
            heapq.heappush(self._agenda, setpoint.ends_at)

    def tesla(self, row: int) -> TeslaSettings:
        """What a Tesla site's account has set, in force or on its way.

        Raises:
            InvalidRequest: the site is not a Tesla site.
        """
        settings = self._tesla[row]
        if settings is None:
            raise InvalidRequest("site_id", self.site_ids[row], "a Tesla site")
        return settings

    def set_tesla(self, row: int, settings: TeslaSettings, at: datetime, *, effect_delay_s: float) -> None:
        """Change a Tesla site's settings at `at`; the device follows `effect_delay_s` later."""
        self._pass_time(max(self.now, as_utc(at)))
        self._tesla[row] = settings
        due_at = as_utc(at) + timedelta(seconds=effect_delay_s)
        self._count += 1
        heapq.heappush(self._awaiting, (due_at, self._count, row, settings))
        heapq.heappush(self._agenda, due_at)
        self._keep_appointments()

    def set_owner_reserve(self, row: int, reserve_soc: float) -> None:
        """The owner wants another reserve from now on: what breaches are judged by, and the device's native floor."""
        self.reserve_soc[row] = reserve_soc
        if self._tesla[row] is None:
            self._control.reserve_soc[row] = reserve_soc

    def add_fault(self, fault: Fault) -> None:
        """Let one more fault happen."""
        self.row(fault.site_id)
        self.faults.add(fault)
        for at in (fault.start_at, fault.end_at):
            heapq.heappush(self._agenda, at)
        self._keep_appointments()

    def true_state(self, row: int) -> dict[str, Any]:
        """A site's true state, JSON-able, whatever its device says."""
        return asdict(self._true_view(row)) | {
            "at": self.now.isoformat(),
            "setpoint_on": bool(self._control.setpoint_on[row]),
            "reserve_soc": float(self.reserve_soc[row]),
        }

    def truth(self) -> Truth:
        """What has really happened until now."""
        return self._recorder.truth(self.now, self.soc)

    def _pass_time(self, target: datetime) -> None:
        while self.now < target:
            until = min(floor_to(self.now, self._step) + self._step, target)
            while self._agenda and self._agenda[0] <= self.now:
                heapq.heappop(self._agenda)
            if self._agenda:
                until = min(until, self._agenda[0])
            self._advance(until)
            self._keep_appointments()

    def _advance(self, until: datetime) -> None:
        """One step of physics, during which nobody changes anything."""
        params, dt_s = self.fleet.params, (until - self.now).total_seconds()
        local = LocalTime.at(self.now, self._zone)
        if local.day != self._local_day:
            self._new_day(local)
        load_kw, pv_kw = self.fleet.weather.minute(self.now)
        islanded = self._islanded()
        soc = self.soc
        flows = step(
            params,
            energy_kwh=self._energy_kwh,
            previous_kw=self._powers["battery_kw"],
            wanted_kw=wanted_kw(params, self._control, net_load_kw=load_kw - pv_kw, soc=soc, local=local),
            floor_kwh=floor_soc(self._control) * params.capacity_kwh,
            export_limit_kw=np.where(self._control.no_export, 0.0, params.export_limit_kw),
            load_kw=load_kw,
            pv_kw=pv_kw,
            islanded=islanded,
            dt_s=dt_s,
        )
        self._energy_kwh = flows.energy_kwh
        self._powers = {name: getattr(flows, name) for name in self._powers}
        way = np.stack([flows.battery_kw, -flows.battery_kw, flows.grid_kw, -flows.grid_kw])
        self._registers_kwh += np.maximum(way, 0.0) * dt_s / 3600.0
        self._recorder.add(
            self.now,
            dt_s,
            flows,
            soc=self.soc,
            reserve_soc=self.reserve_soc,
            commanded=self._control.setpoint_on,
            islanded=islanded,
        )
        self.now = until

    def _keep_appointments(self) -> None:
        """Timers that have run out, settings that arrive, readings that freeze at this instant."""
        for row, setpoint in enumerate(self._setpoints):
            if setpoint.ends_at is not None and setpoint.ends_at <= self.now:
                self._setpoints[row] = setpoint.reverted()
                self._obey(row)
        while self._awaiting and self._awaiting[0][0] <= self.now:
            _, _, row, settings = heapq.heappop(self._awaiting)
            if self.faults.active(self.site_ids[row], self.now, FaultKind.NO_EFFECT) is None:
                self._control.set_tesla(row, settings, self._local_day)
        for fault in self.faults.faults:
            row = self._row[fault.site_id]
            if fault.kind in STILL and fault.start_at <= self.now < fault.end_at and row not in self._still:
                self._still[row] = self._true_view(row)
            elif fault.kind in STILL and self.now >= fault.end_at:
                self._still.pop(row, None)

    def _obey(self, row: int) -> None:
        """Carry a setpoint over to the physics, unless the device only pretends to listen."""
        if self.faults.active(self.site_ids[row], self.now, FaultKind.NO_EFFECT) is None:
            setpoint = self._setpoints[row]
            self._control.setpoint_on[row] = setpoint.enabled
            self._control.setpoint_kw[row] = setpoint.wanted_kw(float(self.fleet.params.max_discharge_kw[row]))

    def _new_day(self, local: LocalTime) -> None:
        """A tariff's season can begin at midnight."""
        self._local_day = local.day
        waiting = {row for _, _, row, _ in self._awaiting}
        for row, settings in enumerate(self._tesla):
            if settings is not None and row not in waiting:
                self._control.set_tesla(row, settings, local.day)

    def _islanded(self) -> Bools:
        islanded = np.zeros(len(self.fleet.params), dtype=bool)
        for fault in self.faults.faults:
            if fault.kind is FaultKind.ISLANDED and fault.start_at <= self.now < fault.end_at:
                islanded[self._row[fault.site_id]] = True
        return islanded

    def _true_view(self, row: int) -> View:
        powers = {name: float(column[row]) for name, column in self._powers.items()}
        discharged, charged, exported, imported = (float(column[row]) for column in self._registers_kwh)
        islanded = self.faults.active(self.site_ids[row], self.now, FaultKind.ISLANDED) is not None
        return View(
            at=self.now,
            soc=float(self._energy_kwh[row] / self.fleet.params.capacity_kwh[row]),
            islanded=islanded,
            discharged_kwh=discharged,
            charged_kwh=charged,
            exported_kwh=exported,
            imported_kwh=imported,
            **powers,
        )

    def _settle_first_view(self) -> None:
        """Before the first step devices show an idle battery at their site's first load."""
        load_kw, pv_kw = self.fleet.weather.minute(self.now)
        self._powers |= {"load_kw": load_kw, "pv_kw": pv_kw, "grid_kw": pv_kw - load_kw}


def counterfactual(fleet: VirtualFleet, end_at: datetime, *, faults: Iterable[Fault] = ()) -> Truth:
    """The same days without us: every device under its own native control, and only the islandings happen."""
    world = World(fleet, faults=FaultPlan(faults).only(FaultKind.ISLANDED).faults)
    world.advance_to(end_at)
    return world.truth()
