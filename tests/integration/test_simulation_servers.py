"""The virtual devices as others see them: the SunSpec Alliance's own client, and plain HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sunspec2
from pymodbus.client import AsyncModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from tests.builders_simulation import DAY
from tests.clock import FixedClock
from vpp.simulation import sunspec_models
from vpp.simulation.devices import Devices, live, running_devices
from vpp.simulation.faults import Fault, FaultKind
from vpp.simulation.fleet import VirtualFleet, make_fleet
from vpp.simulation.tesla_server import TeslaOptions
from vpp.simulation.web import free_ports

DEFINITIONS = Path(sunspec2.__file__).parent / "models" / "json"
WSET = 40_000 + 2 + 68 + 155 + 52 + 22


@pytest.fixture(scope="module")
def fleet() -> VirtualFleet:
    return make_fleet(seed=3, sites=24, day=DAY, base_port=free_ports(24))


@pytest.fixture
def clock(fleet: VirtualFleet) -> FixedClock:
    return FixedClock(fleet.start_at)


@pytest.fixture
async def devices(fleet: VirtualFleet, clock: FixedClock) -> AsyncIterator[Devices]:
    async with running_devices(fleet, clock) as running:
        yield running


def row_of(fleet: VirtualFleet, adapter: str, phases: int = 1) -> int:
    return next(r for r, v in enumerate(fleet.sites) if v.site.adapter == adapter and v.phases == phases)


def port_of(fleet: VirtualFleet, row: int) -> int:
    return int(fleet.sites[row].site.address.partition("/")[0].rpartition(":")[2])


async def by_alliance(port: int, work: Callable[[SunSpecModbusClientDeviceTCP], Any]) -> Any:
    """Do something with the Alliance's synchronous client, off the loop that serves it."""

    def run() -> Any:
        client = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=5)
        try:
            client.scan()
            return work(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def points(definition: dict[str, Any]) -> list[tuple[str, int]]:
    """Every point of a model definition with its offset, groups in order."""
    found: list[tuple[str, int]] = []
    offset = 0

    def walk(group: dict[str, Any], prefix: str) -> None:
        nonlocal offset
        for point in group.get("points", ()):
            found.append((prefix + point["name"], offset))
            offset += point["size"]
        for inner in group.get("groups", ()):
            walk(inner, f"{inner['name']}.")

    walk(definition["group"], "")
    return found


@pytest.mark.parametrize(
    "layout",
    [
        getattr(sunspec_models, name)
        for name in ("COMMON", "MEASURE_AC", "CAPACITY", "CONTROL_AC", "STORAGE", "METER_1", "METER_3")
    ],
    ids=lambda layout: layout.model,
)
def test_layouts_are_the_alliances(layout: sunspec_models.Layout) -> None:
    definition = json.loads((DEFINITIONS / f"model_{layout.model}.json").read_text())
    theirs = dict(points(definition))
    renamed = {"PPVphAB": "PhVphAB", "PPVphBC": "PhVphBC", "PPVphCA": "PhVphCA"} if layout.model == 203 else {}
    assert {renamed.get(name, name): place for name, (place, _) in layout.points.items()}.items() <= theirs.items()
    assert layout.size == max(theirs.values()) + definition_size(definition)


def definition_size(definition: dict[str, Any]) -> int:
    last = definition["group"]
    while last.get("groups"):
        last = last["groups"][-1]
    return int(last["points"][-1]["size"])


@pytest.mark.parametrize("phases", [1, 3])
async def test_the_alliances_client_reads_what_the_world_holds(
    devices: Devices, fleet: VirtualFleet, clock: FixedClock, phases: int
) -> None:
    row = row_of(fleet, "sunspec", phases)
    clock.advance(timedelta(hours=18))

    def read(client: SunSpecModbusClientDeviceTCP) -> dict[str, Any]:
        meter = client.models[201 if phases == 1 else 203][0]
        return {
            "models": [key for key in client.models if isinstance(key, int)],
            "maker": client.common[0].Mn.value,
            "W": client.models[701][0].W.cvalue,
            "state": client.models[701][0].ConnSt.value,
            "injected": client.models[701][0].TotWhInj.cvalue,
            "soc": client.models[713][0].SoC.cvalue,
            "rated": client.models[702][0].WDisChaRteMaxRtg.cvalue,
            "meter": meter.W.cvalue,
            "imported": meter.TotWhImp.cvalue,
            "enabled": client.models[704][0].WSetEna.value,
        }

    seen = await by_alliance(port_of(fleet, row), read)
    truth = devices.world.true_state(row)
    assert seen["models"] == [1, 701, 702, 704, 713, 201 if phases == 1 else 203]
    assert seen["maker"] == "VPP Simulation"
    assert seen["W"] == pytest.approx(truth["battery_kw"] * 1000, abs=6)
    assert seen["meter"] == pytest.approx(-truth["grid_kw"] * 1000, abs=6)
    assert seen["soc"] == pytest.approx(truth["soc"] * 100, abs=0.01)
    assert seen["injected"] == pytest.approx(truth["discharged_kwh"] * 1000, abs=1)
    assert seen["imported"] == pytest.approx(truth["imported_kwh"] * 1000, abs=1)
    assert seen["rated"] == fleet.sites[row].site.battery.max_discharge_kw * 1000
    assert (seen["state"], seen["enabled"]) == (1, 0)


async def test_the_alliances_client_commands_the_battery_and_the_timer_lets_go(
    devices: Devices, fleet: VirtualFleet, clock: FixedClock
) -> None:
    row = row_of(fleet, "sunspec")

    def command(client: SunSpecModbusClientDeviceTCP) -> None:
        control = client.models[704][0]
        control.WSetMod.value, control.WSetEnaRvrt.value, control.WSetRvrtTms.value = 1, 0, 900
        control.WSet.cvalue = -1200
        control.write()
        control.WSetEna.value = 1
        control.write()

    def control(client: SunSpecModbusClientDeviceTCP) -> tuple[Any, ...]:
        model = client.models[704][0]
        return model.WSetEna.value, model.WSet.cvalue, model.WSetRvrtRem.value, client.models[701][0].W.cvalue

    await by_alliance(port_of(fleet, row), command)
    clock.advance(timedelta(minutes=5))
    assert await by_alliance(port_of(fleet, row), control) == (1, -1200, 600, pytest.approx(-1200, abs=2))
    clock.advance(timedelta(minutes=10))
    assert (await by_alliance(port_of(fleet, row), control))[:3] == (0, 0, 0)


async def test_single_and_multiple_writes_and_refusals(devices: Devices, fleet: VirtualFleet) -> None:
    row = row_of(fleet, "sunspec")
    async with AsyncModbusTcpClient("127.0.0.1", port=port_of(fleet, row)) as client:
        assert not (await client.write_registers(WSET, [0, 1, 0, 1500, 0, 0], device_id=1)).isError()
        echoed = await client.write_register(WSET, 1, device_id=1)
        assert echoed.registers == [1]
        assert devices.world.setpoint(row).wanted_kw(5.0) == 1.5
        assert devices.world.setpoint(row).enabled
        refused = await client.write_register(40_002, 7, device_id=1)
        assert refused.exception_code == 2
        nonsense = await client.write_register(WSET, 9, device_id=1)
        assert nonsense.exception_code == 3
        assert (await client.read_holding_registers(39_000, count=2, device_id=1)).isError()


async def test_faults_reach_the_wire(devices: Devices, fleet: VirtualFleet, clock: FixedClock) -> None:
    row = row_of(fleet, "sunspec", 3)
    span = {"start_at": clock.now() + timedelta(minutes=2), "end_at": clock.now() + timedelta(minutes=5)}
    ignoring = row_of(fleet, "sunspec")
    async with httpx.AsyncClient(base_url=devices.control_url) as control:
        for at, kind in ((row, FaultKind.OFFLINE), (ignoring, FaultKind.WRITE_IGNORED)):
            fault = Fault(site_id=fleet.site_ids[at], kind=kind, **span)
            assert (await control.post("/faults", json=fault.as_json())).status_code == 204
    async with contextlib.AsyncExitStack() as stack:
        living = asyncio.create_task(live(devices, clock))
        stack.callback(living.cancel)
        client = await stack.enter_async_context(AsyncModbusTcpClient("127.0.0.1", port=port_of(fleet, ignoring)))
        await settle(clock, minutes=3)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port_of(fleet, row))
        assert (await client.write_register(WSET, 1, device_id=1)).registers == [1]
        assert (await client.read_holding_registers(WSET, count=1, device_id=1)).registers == [0]
        await settle(clock, minutes=3)
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(fleet, row))
        writer.close()
        await writer.wait_closed()


async def settle(clock: FixedClock, *, minutes: int) -> None:
    """Let the devices' loop live through some minutes."""
    for _ in range(minutes):
        clock.advance(timedelta(minutes=1))
        await asyncio.sleep(0.02)


class Caller:
    """A client of the virtual Tesla cloud."""

    def __init__(self, http: httpx.AsyncClient, site: str) -> None:
        self.http, self.site = http, site

    async def sign_in(self, refresh_token: str) -> httpx.Response:
        fields = {"grant_type": "refresh_token", "client_id": "test", "refresh_token": refresh_token}
        answer = await self.http.post("/oauth2/v3/token", data=fields)
        if answer.is_success:
            self.http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer

    async def get(self, name: str) -> httpx.Response:
        return await self.http.get(f"/api/1/energy_sites/{self.site}/{name}")

    async def post(self, name: str, fields: Any) -> httpx.Response:
        return await self.http.post(f"/api/1/energy_sites/{self.site}/{name}", json=fields)


@contextlib.asynccontextmanager
async def caller(devices: Devices, fleet: VirtualFleet) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(base_url=devices.tesla_url) as http:
        yield Caller(http, fleet.sites[row_of(fleet, "tesla")].site.address)


async def test_the_cloud_answers_in_teslas_terms(devices: Devices, fleet: VirtualFleet, clock: FixedClock) -> None:
    row = row_of(fleet, "tesla")
    async with caller(devices, fleet) as tesla:
        assert (await tesla.get("live_status")).status_code == 401
        assert (await tesla.sign_in("simulated-refresh-token")).json()["token_type"] == "Bearer"
        assert (await tesla.http.get("/api/1/products")).json()["count"] == int(fleet.params.is_tesla.sum())
        clock.advance(timedelta(hours=7))
        live_status = (await tesla.get("live_status")).json()["response"]
        truth = devices.world.true_state(row)
        assert live_status["battery_power"] == pytest.approx(truth["battery_kw"] * 1000, abs=0.01)
        assert live_status["grid_power"] == pytest.approx(-truth["grid_kw"] * 1000, abs=0.01)
        assert live_status["percentage_charged"] == pytest.approx(truth["soc"] * 100)
        assert live_status["timestamp"] == clock.now().isoformat()
        balance = live_status["battery_power"] + live_status["solar_power"] + live_status["grid_power"]
        assert balance == pytest.approx(live_status["load_power"], abs=0.01)
        clock.advance(timedelta(hours=2))
        assert (await tesla.get("live_status")).status_code == 401


async def test_settings_are_read_back_and_judged(devices: Devices, fleet: VirtualFleet) -> None:
    async with caller(devices, fleet) as tesla:
        await tesla.sign_in("simulated-refresh-token")
        updated = {"response": {"code": 201, "message": "Updated"}}
        assert (await tesla.post("backup", {"backup_reserve_percent": 33})).json() == updated
        assert (await tesla.post("operation", {"default_real_mode": "autonomous"})).json() == updated
        rule = {"customer_preferred_export_rule": "battery_ok"}
        assert (await tesla.post("grid_import_export", rule)).json() == updated
        info = (await tesla.get("site_info")).json()["response"]
        assert (info["backup_reserve_percent"], info["default_real_mode"]) == (33, "autonomous")
        assert info["components"]["customer_preferred_export_rule"] == "battery_ok"
        tariff = {"tou_settings": {"tariff_content_v2": info["tariff_content_v2"]}}
        assert (await tesla.post("time_of_use_settings", tariff)).json() == updated
        assert (await tesla.post("storm_mode", {"enabled": True})).json() == updated
        assert (await tesla.post("operation", {"default_real_mode": "party"})).status_code == 400
        assert (await tesla.post("backup", {"backup_reserve_percent": 120})).status_code == 400
        assert (await tesla.post("time_of_use_settings", {})).status_code == 400
        tesla.site = "17"
        assert (await tesla.get("site_info")).status_code == 404


async def test_a_refresh_token_works_once_unless_its_answer_was_lost(devices: Devices, fleet: VirtualFleet) -> None:
    async with caller(devices, fleet) as tesla:
        await tesla.sign_in("simulated-refresh-token")
        second = (await tesla.sign_in("simulated-refresh-token")).json()["refresh_token"]
        third = (await tesla.sign_in(second)).json()["refresh_token"]
        assert third != second
        assert (await tesla.sign_in("simulated-refresh-token")).status_code == 401


async def test_budgets_and_absence_are_told_by_status(fleet: VirtualFleet, clock: FixedClock) -> None:
    row = row_of(fleet, "tesla")
    gone = Fault(
        site_id=fleet.site_ids[row],
        kind=FaultKind.OFFLINE,
        start_at=clock.now() + timedelta(hours=1),
        end_at=clock.now() + timedelta(hours=2),
    )
    strict = TeslaOptions(settings_per_site_day=1)
    async with running_devices(fleet, clock, faults=[gone], tesla=strict) as devices, caller(devices, fleet) as tesla:
        await tesla.sign_in("simulated-refresh-token")
        assert (await tesla.post("backup", {"backup_reserve_percent": 33})).is_success
        limited = await tesla.post("backup", {"backup_reserve_percent": 34})
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "86400")
        clock.advance(timedelta(minutes=90))
        assert (await tesla.get("live_status")).status_code == 408


async def test_the_truth_can_be_asked_for(devices: Devices, fleet: VirtualFleet, clock: FixedClock) -> None:
    clock.advance(timedelta(hours=1))
    async with httpx.AsyncClient(base_url=devices.control_url) as control:
        truth = (await control.get("/truth")).json()
        assert truth["end_at"] == clock.now().isoformat()
        assert (truth["reserve_breaches"], truth["limit_breaches"], truth["demand_peak_breaches"]) == (0, 0, [])
        assert len(truth["energies_kwh"]["imported_kwh"]) == len(fleet.sites)
        site = f"/sites/{fleet.site_ids[0]}"
        assert (await control.post(f"{site}/reserve", json={"reserve_soc": 0.5})).status_code == 204
        assert (await control.get(site)).json()["reserve_soc"] == 0.5
        assert (await control.get("/sites/nobody")).status_code == 400
