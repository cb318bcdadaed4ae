"""SunSpec on the wire: what pysunspec2's own client reads after us, and how we behave when things go wrong."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymodbus.constants import ExcCodes

from adapters.modbus import ModbusSession
from adapters.sunspec import SunSpecAdapter
from tests.builders import a_battery, a_site
from tests.builders_sunspec import (
    CAPACITY,
    COMMON,
    CONTROLS,
    MEASURE,
    METER,
    REMOTE,
    STORAGE,
    SunSpecPeer,
    read_by_alliance,
    serving,
)
from tests.clock import FixedClock
from vpp.domain.device import Command, Fallback, ReceiptState
from vpp.domain.errors import DeviceError, OutOfRange, ProtocolError, Rejected, TimedOut, Unreachable, Unsupported
from vpp.domain.site import Site


@pytest.fixture
async def peer() -> AsyncIterator[SunSpecPeer]:
    async with serving(SunSpecPeer()) as peer:
        yield peer


@pytest.fixture
async def adapter(clock: FixedClock) -> AsyncIterator[SunSpecAdapter]:
    adapter = SunSpecAdapter(clock, connect_timeout_s=2.0, read_timeout_s=0.3)
    yield adapter
    await adapter.close()


def _site(peer: SunSpecPeer, **changes: Any) -> Site:
    return a_site(address=peer.address, **changes)


def _command(clock: FixedClock, **changes: Any) -> Command:
    now = clock.now()
    usual = {
        "id": uuid4(), "site_id": "s0001", "power_kw": 3.21, "reserve_soc": 0.2,
        "not_before": now, "expires_at": now + timedelta(minutes=15),
    }  # fmt: skip
    return Command(**(usual | changes))


@pytest.mark.parametrize("power_kw", [3.21, -4.5, 0.0])
async def test_pysunspec2_reads_the_command_we_wrote(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock, power_kw: float
) -> None:
    receipt = await adapter.apply(_site(peer), _command(clock, power_kw=power_kw))
    seen = (await asyncio.to_thread(read_by_alliance, peer.port))[704]
    assert receipt.state is ReceiptState.READBACK_OK
    assert {name: value for name, value in seen.items() if name.startswith("WSet") and "Pct" not in name} == {
        "WSetEna": 1, "WSetMod": 1, "WSet": power_kw * 1000, "WSetRvrt": 0, "WSetEnaRvrt": 0,
        "WSetRvrtTms": 900, "WSetRvrtRem": 900, "WSet_SF": 0,
    }  # fmt: skip


async def test_the_device_is_enabled_only_after_its_timer_is_set(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    await adapter.apply(_site(peer), _command(clock))
    controls = peer.start_of[704]
    assert [address - controls for address, _ in peer.writes] == [23, 30, 22]


async def test_the_timer_is_what_is_left_of_the_lease(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    command = _command(clock)
    await adapter.apply(_site(peer), command)
    clock.advance(timedelta(minutes=10, milliseconds=1))
    await adapter.apply(_site(peer), command)
    assert peer.raw(704, "WSetRvrtTms") == 299


async def test_a_timer_that_does_not_run_fails_the_command(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.timer_runs = False
    receipt = await adapter.apply(_site(peer), _command(clock))
    assert receipt.state is ReceiptState.FAILED
    assert "timer does not run" in receipt.reason


async def test_a_command_is_rounded_to_the_device_s_scale_and_the_receipt_says_so(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.set(704, WSet_SF=2)
    receipt = await adapter.apply(_site(peer), _command(clock, power_kw=3.26))
    assert (peer.raw(704, "WSet"), receipt.seen["power_kw"]) == (33, 3.3)


async def test_a_large_battery_is_not_cut_at_16_bits(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.set(701, W=25_000, W_SF=1)
    site = _site(peer, battery=a_battery(max_discharge_kw=250.0))
    await adapter.apply(site, _command(clock, power_kw=250.0))
    assert peer.raw(704, "WSet") == 250_000
    assert (await adapter.read(site)).battery_kw == 250.0


async def test_polling_a_site_takes_two_requests(peer: SunSpecPeer, adapter: SunSpecAdapter) -> None:
    await adapter.read(_site(peer))
    peer.reads.clear()
    await adapter.read(_site(peer))
    assert len(peer.reads) == 2
    assert all(count <= 125 for _, count in peer.reads)


@pytest.mark.parametrize("base", [0, 40000, 50000])
async def test_the_models_are_found_at_each_of_the_three_places(clock: FixedClock, base: int) -> None:
    adapter = SunSpecAdapter(clock)
    async with serving(SunSpecPeer(base=base, unit=7)) as peer:
        assert (await adapter.read(_site(peer))).soc == 0.8
        await adapter.close()


async def test_a_device_that_is_not_sunspec_is_a_protocol_error(clock: FixedClock) -> None:
    adapter = SunSpecAdapter(clock)
    async with serving(SunSpecPeer(base=1000)) as peer:
        with pytest.raises(ProtocolError, match="not a SunSpec device"):
            await adapter.read(_site(peer))
        await adapter.close()


async def test_models_that_moved_are_found_again(peer: SunSpecPeer, adapter: SunSpecAdapter) -> None:
    site = _site(peer)
    assert (await adapter.read(site)).soc == 0.8
    peer.replace((COMMON, CAPACITY, MEASURE | {"W": 1234}, STORAGE, CONTROLS, REMOTE, METER))
    assert (await adapter.read(site)).battery_kw == 1.234


async def test_a_block_the_device_refuses_is_missing_and_the_rest_is_read(
    peer: SunSpecPeer, adapter: SunSpecAdapter
) -> None:
    site = _site(peer)
    await adapter.read(site)
    peer.refusals[peer.start_of[701]] = ExcCodes.DEVICE_FAILURE
    reading = await adapter.read(site)
    assert (reading.battery_kw, reading.soc, reading.grid_kw) == (None, 0.8, -1.0)


async def test_soc_and_lock_come_from_802_where_713_and_715_are_absent(clock: FixedClock) -> None:
    battery = {"ID": 802, "SoC": 55, "SoC_SF": 0, "LocRemCtl": 1}
    adapter = SunSpecAdapter(clock)
    async with serving(SunSpecPeer((COMMON, MEASURE, CONTROLS, battery))) as peer:
        reading = await adapter.read(_site(peer))
        await adapter.close()
    assert (reading.soc, reading.controllable, reading.grid_kw) == (0.55, False, None)


async def test_an_inverter_in_fault_is_not_controllable(peer: SunSpecPeer, adapter: SunSpecAdapter) -> None:
    peer.set(701, InvSt=6)
    assert not (await adapter.read(_site(peer))).controllable


async def test_a_setpoint_that_stood_before_is_put_back_and_enabled_last(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.set(704, WSetEna=1, WSetMod=0, WSetPct=-250, WSet=77, WSetRvrtTms=60, WSetEnaRvrt=1)
    found = {name: peer.raw(704, name) for name in ("WSetEna", "WSetMod", "WSetPct", "WSet", "WSetRvrtTms")}
    native = await adapter.save_native(_site(peer))
    await adapter.apply(_site(peer), _command(clock))
    peer.writes.clear()

    receipt = await adapter.release(_site(peer), native)

    enable = peer.start_of[704] + 22
    assert receipt.state is ReceiptState.READBACK_OK
    assert {name: peer.raw(704, name) for name in found} == found
    assert (peer.writes[0], peer.writes[-1]) == ((enable, [0]), (enable, [1]))


async def test_without_a_timer_a_device_says_it_has_no_fallback(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.set(704, WSetRvrtTms=None, WSetRvrtRem=None, WSetEnaRvrt=None)
    capabilities = await adapter.describe(_site(peer))
    assert (capabilities.fallback, capabilities.max_lease_s) == (Fallback.NONE, 900)
    assert (await adapter.apply(_site(peer), _command(clock))).state is ReceiptState.READBACK_OK


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ((COMMON, MEASURE), "no model 704"),
        ((COMMON, MEASURE, CONTROLS | {"WSet_SF": None}), "no scale factor"),
        ((COMMON, MEASURE, CAPACITY | {"CtrlModes": 0b01}, CONTROLS), "CtrlModes"),
    ],
)
async def test_a_device_without_a_setpoint_in_watts_is_unsupported(
    clock: FixedClock, models: tuple[dict[str, Any], ...], reason: str
) -> None:
    adapter = SunSpecAdapter(clock)
    async with serving(SunSpecPeer(models)) as peer:
        with pytest.raises(Unsupported, match=reason):
            await adapter.describe(_site(peer))
        await adapter.close()


async def test_controls_that_cannot_be_read_now_are_not_called_unsupported(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    await adapter.describe(_site(peer))
    peer.refusals[peer.start_of[704]] = ExcCodes.DEVICE_FAILURE
    peer.refusals[peer.start_of[702]] = ExcCodes.DEVICE_FAILURE
    with pytest.raises((Rejected, ProtocolError)):
        await adapter.apply(_site(peer), _command(clock))
    assert peer.writes == []


async def test_a_setting_the_device_refuses_is_raised_while_nothing_is_written(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.refusals[peer.start_of[704] + 23] = ExcCodes.ILLEGAL_VALUE
    with pytest.raises(OutOfRange):
        await adapter.apply(_site(peer), _command(clock))


async def test_a_setting_refused_half_way_is_a_failed_receipt(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    peer.refusals[peer.start_of[704] + 22] = ExcCodes.DEVICE_FAILURE
    receipt = await adapter.apply(_site(peer), _command(clock))
    assert (receipt.state, len(peer.writes)) == (ReceiptState.FAILED, 2)


async def test_a_site_answers_again_after_its_connection_was_lost(clock: FixedClock, adapter: SunSpecAdapter) -> None:
    peer = SunSpecPeer()
    await peer.start()
    site = _site(peer)
    await adapter.read(site)
    await peer.stop()
    with pytest.raises(DeviceError):
        await adapter.read(site)
    with pytest.raises(Unreachable):
        await adapter.read(site)
    await peer.start(peer.port)
    with pytest.raises(Unreachable, match="not tried again before"):
        await adapter.read(site)
    clock.advance(timedelta(seconds=2))
    assert (await adapter.read(site)).soc == 0.8
    await peer.stop()


async def test_a_silent_device_times_out_and_is_asked_again_on_a_new_connection(
    peer: SunSpecPeer, adapter: SunSpecAdapter
) -> None:
    site = _site(peer)
    await adapter.read(site)
    peer.silent = True
    with pytest.raises(TimedOut):
        await adapter.read(site)
    peer.silent = False
    peer.reads.clear()
    assert (await adapter.read(site)).soc == 0.8
    assert (40000, 2) in peer.reads, "models are looked for again on each connection"


async def test_nothing_is_written_on_a_connection_other_than_the_one_the_models_were_found_on(
    peer: SunSpecPeer, clock: FixedClock
) -> None:
    session = ModbusSession("127.0.0.1", peer.port, clock)
    found_on = await session.connect()
    await session.close()
    with pytest.raises(Unreachable, match="reconnected"):
        await session.write(1, peer.start_of[704] + 22, [1], generation=found_on)
    await session.close()
    assert peer.writes == []


async def test_many_reads_at_once_share_one_connection_in_turn(peer: SunSpecPeer, adapter: SunSpecAdapter) -> None:
    peer.set(701, W=3000)
    readings = await asyncio.gather(*(adapter.read(_site(peer)) for _ in range(20)))
    assert {reading.battery_kw for reading in readings} == {3.0}


async def test_two_commands_at_once_do_not_mix_their_settings(
    peer: SunSpecPeer, adapter: SunSpecAdapter, clock: FixedClock
) -> None:
    commands = [_command(clock, power_kw=power_kw) for power_kw in (1.0, 2.0, 3.0)]
    receipts = await asyncio.gather(*(adapter.apply(_site(peer), command) for command in commands))
    assert [receipt.seen["power_kw"] for receipt in receipts] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("address", ["", "host", "host:502", "host:x/1", "host:502/300", ":502/1"])
async def test_an_address_of_another_form_is_unsupported(adapter: SunSpecAdapter, address: str) -> None:
    with pytest.raises(Unsupported):
        await adapter.read(a_site(address=address))
