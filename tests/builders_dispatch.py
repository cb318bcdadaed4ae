"""Batteries that live in memory behind the adapter port, and a small world of them to run events in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, select

from tests.builders import TENANT, a_commitment
from tests.builders_enrolment import site_form
from tests.builders_settlement import terms
from tests.builders_telemetry import add_tenant
from tests.clock import FixedClock
from vpp.commitments import load
from vpp.commitments.records import create
from vpp.dispatch import Tools, run_cycle
from vpp.dispatch.cycle import CycleOutcome
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.device import Capabilities, Command, ControlKind, Fallback, Reading, Receipt, ReceiptState
from vpp.domain.errors import DeviceError, Unreachable
from vpp.domain.site import Site
from vpp.domain.time import Interval, floor_to, hours
from vpp.enrolment import enrol, load_sites, set_program_terms
from vpp.store.engine import Store
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import cycle as cycles
from vpp.store.tables.dispatch import handback as handbacks
from vpp.telemetry import IngestConsumer, publish

CYCLE = timedelta(minutes=5)
LOAD_KW = 1.0
PLAIN_TARIFF = {"name": "flat", "energy": [{"name": "all", "price_per_kwh": "0.30"}], "export_price_per_kwh": "0.08"}


class Crash(Exception):
    """Stands for kill -9: nobody in the product catches it."""


class HandClock(FixedClock):
    """Nobody's timer knows when it will show what: only a step that is due now can be put on the queue."""

    def wall_time(self, at: datetime) -> datetime | None:
        return None


@dataclass(slots=True)
class FakeBattery:
    """One battery: what it was set to, and what it does. `obeys` False: says yes and does nothing."""

    soc: float = 0.8
    discharged_kwh: float = 0.0
    settings: dict[str, Any] = field(default_factory=lambda: {"mode": "self_consumption", "reserve": 0.2})
    command: Command | None = None
    obeys: bool = True
    islanded: bool = False

    def power_kw(self, site: Site, at: datetime, control: ControlKind) -> float:
        """Power now [kW]: as told until the order expires; a mode device takes its own maximum."""
        order = self.command
        if order is None or not self.obeys or at >= order.expires_at or self.soc <= order.reserve_soc:
            return 0.0
        if control is ControlKind.MODE:
            return site.battery.max_discharge_kw if order.power_kw > 0 else 0.0
        return order.power_kw


@dataclass(frozen=True, slots=True)
class Call:
    """One call at the port, in order of arrival."""

    what: str
    site_id: str
    command: Command | None = None
    native: Mapping[str, Any] | None = None


Before = Callable[[Call], Awaitable[None]]


class FakeBatteries:
    """`ports.DeviceAdapter` in memory. `failures[(what, site_id)]` is raised until it is removed.

    `before` and `after` are awaited around every call but reads; what they raise goes out as if the process died.
    """

    def __init__(self, clock: FixedClock, control: ControlKind, name: str) -> None:
        self.name, self.control, self._clock = name, control, clock
        self.calls: list[Call] = []
        self.batteries: dict[str, FakeBattery] = {}
        self.failures: dict[tuple[str, str], DeviceError] = {}
        self.loses_settings: set[str] = set()
        self.before: Before | None = None
        self.after: Before | None = None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def of(self, site_id: str) -> FakeBattery:
        return self.batteries.setdefault(site_id, FakeBattery())

    def applied(self, site_id: str | None = None) -> list[Command]:
        """Commands that arrived, in order."""
        return [c.command for c in self.calls if c.command is not None and site_id in (None, c.site_id)]

    async def describe(self, site: Site) -> Capabilities:
        return Capabilities(control=self.control, readback=True, fallback=Fallback.DEVICE_TIMER, max_lease_s=3600)

    async def read(self, site: Site) -> Reading:
        await self._called(Call("read", site.id))
        battery, now = self.of(site.id), self._clock.now()
        power_kw = battery.power_kw(site, now, self.control)
        load_kw = LOAD_KW + 0.001 * (now.minute % 7) + 0.0001 * site.device_id
        return Reading(
            device_id=site.device_id,
            measured_at=now,
            received_at=now,
            battery_kw=power_kw,
            grid_kw=power_kw - load_kw,
            soc=battery.soc,
            discharged_kwh_register=battery.discharged_kwh,
            charged_kwh_register=0.0,
            islanded=battery.islanded,
        )

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        await self._called(Call("save_native", site.id))
        return dict(self.of(site.id).settings)

    async def apply(self, site: Site, command: Command) -> Receipt:
        call = Call("apply", site.id, command=command)
        await self._called(call)
        battery = self.of(site.id)
        battery.command = command
        battery.settings = {"mode": "event", "reserve": command.reserve_soc}
        if self.after is not None:
            await self.after(call)
        return Receipt(command_id=command.id, state=ReceiptState.READBACK_OK, at=self._clock.now())

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        call = Call("release", site.id, native=native)
        await self._called(call)
        battery = self.of(site.id)
        battery.command = None
        battery.settings = {} if site.id in self.loses_settings else dict(native)
        if self.after is not None:
            await self.after(call)
        if battery.settings != native:
            reason = "read back otherwise"
            return Receipt(command_id=None, state=ReceiptState.FAILED, at=self._clock.now(), reason=reason)
        return Receipt(command_id=None, state=ReceiptState.READBACK_OK, at=self._clock.now())

    async def _called(self, call: Call) -> None:
        if call.what != "read":
            self.calls.append(call)
            if self.before is not None:
                await self.before(call)
        failure = self.failures.get((call.what, call.site_id))
        if failure is not None:
            raise failure

    def drain(self, site: Site, until: datetime, duration: timedelta) -> None:
        """Let a battery do for `duration` what it does now."""
        battery = self.of(site.id)
        taken_kwh = battery.power_kw(site, until - duration, self.control) * hours(duration)
        battery.discharged_kwh += taken_kwh
        battery.soc -= taken_kwh / site.battery.discharge_efficiency / site.battery.capacity_kwh


@dataclass(slots=True)
class World:
    """Enrolled sites with fake batteries, one commitment, and the tools a cycle works with."""

    store: Store
    clock: FixedClock
    kw: FakeBatteries
    modes: FakeBatteries
    sites: tuple[Site, ...]
    tools: Tools
    commitment: Commitment
    silent: set[str] = field(default_factory=set)
    frozen: dict[str, Reading] = field(default_factory=dict)

    def batteries(self, site: Site) -> FakeBatteries:
        return self.modes if self.tools.is_mode_site(site) else self.kw

    def battery(self, site_id: str) -> FakeBattery:
        return self.batteries(self.site(site_id)).of(site_id)

    def site(self, site_id: str) -> Site:
        return next(site for site in self.sites if site.id == site_id)

    async def report(self) -> None:
        """Every site but the silent ones says what it does; frozen ones repeat themselves."""
        readings = [
            self.frozen.get(site.id) or await self.batteries(site).read(site)
            for site in self.sites
            if site.id not in self.silent
        ]
        now = self.clock.now()
        await publish(self.store, [replace(reading, received_at=now) for reading in readings])
        await IngestConsumer(self.store).drain()

    def interval(self) -> Interval:
        now = self.clock.now()
        return Interval(now, min(floor_to(now, CYCLE) + CYCLE, self.commitment.window.end_at))

    async def cycle(self) -> CycleOutcome:
        """Report, and run the cycle that begins now."""
        await self.report()
        return await run_cycle(self.tools, self.commitment, self.interval())

    def pass_time(self, duration: timedelta = CYCLE) -> None:
        now = self.clock.advance(duration)
        for site in self.sites:
            self.batteries(site).drain(site, now, duration)

    async def play(self, count: int) -> list[CycleOutcome]:
        """So many cycles, each with the time that passes after it."""
        outcomes = []
        for _ in range(count):
            outcomes.append(await self.cycle())
            self.pass_time()
        return outcomes

    def forget_calls(self) -> None:
        self.kw.calls.clear()
        self.modes.calls.clear()

    def delivered_kw(self) -> float:
        now = self.clock.now()
        return sum(b.of(site.id).power_kw(site, now, b.control) for site in self.sites for b in (self.batteries(site),))

    async def rows(self, table: Table, *order: str) -> Sequence[Any]:
        """Every row of this commitment in a table of dispatch."""
        query = select(table).where(table.c.commitment_id == self.commitment.id)
        async with self.store.begin() as connection:
            return (await connection.execute(query.order_by(*(table.c[name] for name in order)))).all()

    async def commands(self, *site_ids: str) -> list[Any]:
        rows = await self.rows(commands, "cycle_start_at", "site_id")
        return [row for row in rows if not site_ids or row.site_id in site_ids]

    async def cycles(self) -> Sequence[Any]:
        return await self.rows(cycles, "start_at")

    async def handbacks(self) -> dict[str, Any]:
        return {row.site_id: row for row in await self.rows(handbacks, "site_id")}

    async def reload(self) -> Commitment:
        async with self.store.begin() as connection:
            self.commitment = await load(connection, self.commitment.id)
        return self.commitment


async def a_world(
    store: Store, *kw: float, setpoint: int = 6, mode: int = 0, at: datetime | None = None, **changes: Any
) -> World:
    """Sites `site-001` on, the first told kW, the last modes, in an event of hours of `kw` that begins now."""
    commitment = a_commitment(*kw, **({"state": CommitmentState.ACTIVE} | changes))
    commitment = replace(commitment, next_due_at=commitment.window.start_at)
    clock = HandClock(at or commitment.window.start_at)
    forms = [
        site_form(n, adapter="sunspec" if n <= setpoint else "tesla", tariff=PLAIN_TARIFF, peaks_so_far_kw={})
        for n in range(1, setpoint + mode + 1)
    ]
    await add_tenant(store)
    async with store.begin() as connection:
        await enrol(connection, TENANT, forms, now=clock.now())
        await set_program_terms(connection, terms(time_zone="America/Los_Angeles"), tenant_id=TENANT)
        await create(connection, commitment, at=clock.now())
        sites = await load_sites(connection, tenant_id=TENANT)
    setpoints = FakeBatteries(clock, ControlKind.SETPOINT_KW, "sunspec")
    modes = FakeBatteries(clock, ControlKind.MODE, "tesla")
    tools = Tools(store=store, clock=clock, adapters={"sunspec": setpoints, "tesla": modes}, cycle=CYCLE, concurrency=4)
    return World(store=store, clock=clock, kw=setpoints, modes=modes, sites=sites, tools=tools, commitment=commitment)


def unreachable(site_id: str = "") -> DeviceError:
    return Unreachable(f"{site_id or 'nobody'} does not answer")
