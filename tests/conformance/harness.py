"""What the conformance suite needs of each vendor: a peer to talk to and the vendor's words for common states."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from adapters.sunspec import SunSpecAdapter
from adapters.tesla import TeslaAdapter
from tests import builders_sunspec, builders_tesla
from tests.builders import a_site
from tests.clock import FixedClock
from vpp.domain.device import Command
from vpp.domain.site import Site
from vpp.ports import DeviceAdapter

COMMAND_ID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


class Harness(Protocol):
    """One vendor's device, as the suite sees it. Powers in the house's sign: discharge and export positive."""

    clock: FixedClock
    site: Site

    @property
    def measured_at(self) -> datetime:
        """What a reading must say of when it was measured."""
        ...

    async def adapter(self) -> DeviceAdapter:
        """A new adapter, open, as after a restart of ours."""
        ...

    def stands_at(self, *, battery_kw: float, grid_kw: float, soc: float) -> None: ...
    def says_nothing_of(self, quantity: str) -> None: ...
    def is_held_by_another(self) -> None: ...
    def is_off_grid(self) -> None: ...
    def cannot_be_steered(self) -> None: ...
    def acts_but_does_not_answer(self, *, silent: bool) -> None: ...
    def accepts_without_effect(self) -> None: ...
    def discharges(self) -> bool: ...
    def settings(self) -> Any: ...
    def writes(self) -> int: ...
    async def goes_away(self) -> None: ...


class SunSpecHarness:
    def __init__(self, peer: builders_sunspec.SunSpecPeer, clock: FixedClock) -> None:
        self._peer, self.clock = peer, clock
        self.site = a_site(adapter="sunspec", address=peer.address)
        self._adapters: list[SunSpecAdapter] = []

    @property
    def measured_at(self) -> datetime:
        return self.clock.now()

    async def adapter(self) -> DeviceAdapter:
        adapter = SunSpecAdapter(self.clock, connect_timeout_s=2.0, read_timeout_s=0.3)
        await adapter.open()
        self._adapters.append(adapter)
        return adapter

    async def close(self) -> None:
        for adapter in self._adapters:
            await adapter.close()

    def stands_at(self, *, battery_kw: float, grid_kw: float, soc: float) -> None:
        self._peer.set(701, W=round(battery_kw * 1000))
        self._peer.set(203, W=round(-grid_kw * 1000))
        self._peer.set(713, SoC=round(soc * 1000))

    def says_nothing_of(self, quantity: str) -> None:
        model, point = {"battery": (701, "W"), "grid": (203, "W"), "soc": (713, "SoC")}[quantity]
        self._peer.set(model, **{point: None})

    def is_held_by_another(self) -> None:
        self._peer.set(715, LocRemCtl=1)

    def is_off_grid(self) -> None:
        self._peer.set(701, ConnSt=0)

    def cannot_be_steered(self) -> None:
        self._peer.set(704, WSetEna=None, WSet=None)

    def acts_but_does_not_answer(self, *, silent: bool) -> None:
        self._peer.silent_after_write = silent

    def accepts_without_effect(self) -> None:
        self._peer.ignores_writes = True

    def discharges(self) -> bool:
        return self._peer.raw(704, "WSetEna") == 1 and self._peer.raw(704, "WSet") > 0

    def settings(self) -> Any:
        names = ("WSetEna", "WSetMod", "WSet", "WSetRvrt", "WSetPct", "WSetPctRvrt", "WSetEnaRvrt", "WSetRvrtTms")
        return {name: self._peer.raw(704, name) for name in names}

    def writes(self) -> int:
        return len(self._peer.writes)

    async def goes_away(self) -> None:
        await self._peer.stop()


class TeslaHarness:
    def __init__(self, peer: builders_tesla.TeslaPeer, leave: Callable[[], Any], clock: FixedClock) -> None:
        self.peer, self.clock, self._leave = peer, clock, leave
        self.site = a_site(adapter="tesla", address=builders_tesla.SITE)
        self._adapters: list[TeslaAdapter] = []

    @property
    def measured_at(self) -> datetime:
        return datetime(2026, 8, 19, 18, 59, 50, tzinfo=UTC)

    async def adapter(self) -> DeviceAdapter:
        adapter = TeslaAdapter(
            self.peer.base_url,
            self.peer.secrets(),
            self.clock,
            token_url=self.peer.token_url,
            timeout_s=0.5,
            readback_delay_s=0,
        )
        await adapter.open()
        self._adapters.append(adapter)
        return adapter

    async def close(self) -> None:
        for adapter in self._adapters:
            await adapter.close()

    def stands_at(self, *, battery_kw: float, grid_kw: float, soc: float) -> None:
        self.peer.live |= {
            "battery_power": battery_kw * 1000,
            "grid_power": -grid_kw * 1000,
            "percentage_charged": soc * 100,
        }

    def says_nothing_of(self, quantity: str) -> None:
        del self.peer.live[{"battery": "battery_power", "grid": "grid_power", "soc": "percentage_charged"}[quantity]]

    def is_held_by_another(self) -> None:
        self.peer.live["storm_mode_active"] = True

    def is_off_grid(self) -> None:
        self.peer.live["island_status"] = "off_grid_unintentional"

    def cannot_be_steered(self) -> None:
        self.peer.components["battery"] = False

    def acts_but_does_not_answer(self, *, silent: bool) -> None:
        self.peer.silent_after_write = silent

    def accepts_without_effect(self) -> None:
        self.peer.ignored_writes = 100

    def discharges(self) -> bool:
        tariff = self.peer.settings["tariff_content_v2"]
        return bool(self.peer.settings["default_real_mode"] == "autonomous" and tariff["code"] == "VPP-EVENT")

    def settings(self) -> Any:
        return builders_tesla.without_zeros({**self.peer.settings, **self.peer.components})

    def writes(self) -> int:
        return len(self.peer.writes)

    async def goes_away(self) -> None:
        await self._leave()


@asynccontextmanager
async def sunspec(clock: FixedClock) -> AsyncIterator[Harness]:
    async with builders_sunspec.serving(builders_sunspec.SunSpecPeer()) as peer:
        harness = SunSpecHarness(peer, clock)
        try:
            yield harness
        finally:
            await harness.close()


@asynccontextmanager
async def tesla(clock: FixedClock) -> AsyncIterator[Harness]:
    peer = builders_tesla.TeslaPeer()
    served = builders_tesla.serving(peer)
    await served.__aenter__()
    gone = False

    async def leave() -> None:
        nonlocal gone
        gone = True
        await served.__aexit__(None, None, None)

    harness = TeslaHarness(peer, leave, clock)
    try:
        yield harness
    finally:
        await harness.close()
        if not gone:
            await leave()


VENDORS: dict[str, Callable[[FixedClock], AbstractAsyncContextManager[Harness]]] = {
    "sunspec": sunspec,
    "tesla": tesla,
}
"""Add a vendor here and the whole suite runs against it."""


def a_command(harness: Harness, **changes: Any) -> Command:
    """Discharge 4 kW for an hour from now."""
    now = harness.clock.now()
    usual: dict[str, Any] = {
        "id": COMMAND_ID,
        "site_id": harness.site.id,
        "power_kw": 4.0,
        "reserve_soc": 0.2,
        "not_before": now,
        "expires_at": now + timedelta(hours=1),
    }
    return Command(**(usual | changes))
