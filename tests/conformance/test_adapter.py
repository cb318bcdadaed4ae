"""What every adapter promises, whatever the vendor. A new vendor is added in `harness.py` and must pass."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.blueprint import BlueprintAdapter
from tests.builders import a_site
from tests.clock import FixedClock
from tests.conformance.harness import VENDORS, Harness, a_command
from vpp.domain.device import ReceiptState
from vpp.domain.errors import Busy, OutOfRange, Rejected, Unreachable, Unsupported


@pytest.fixture(params=VENDORS)
async def device(request: pytest.FixtureRequest, clock: FixedClock) -> AsyncIterator[Harness]:
    async with VENDORS[request.param](clock) as harness:
        yield harness


async def test_discharging_and_exporting_are_positive(device: Harness) -> None:
    """Holds conventions, rule 1."""
    device.stands_at(battery_kw=3.2, grid_kw=1.5, soc=0.64)
    reading = await (await device.adapter()).read(device.site)
    assert (reading.battery_kw, reading.grid_kw, reading.soc) == pytest.approx((3.2, 1.5, 0.64))


async def test_charging_and_importing_are_negative(device: Harness) -> None:
    """Holds conventions, rule 1."""
    device.stands_at(battery_kw=-2.5, grid_kw=-4.0, soc=0.3)
    reading = await (await device.adapter()).read(device.site)
    assert (reading.battery_kw, reading.grid_kw, reading.soc) == pytest.approx((-2.5, -4.0, 0.3))


async def test_zero_is_zero_and_not_missing(device: Harness) -> None:
    """Holds conventions, rule 4."""
    device.stands_at(battery_kw=0, grid_kw=0, soc=0)
    reading = await (await device.adapter()).read(device.site)
    assert (reading.battery_kw, reading.grid_kw, reading.soc) == (0, 0, 0)


@pytest.mark.parametrize("quantity", ["battery", "grid", "soc"])
async def test_what_the_device_does_not_say_is_none_and_the_rest_is_kept(device: Harness, quantity: str) -> None:
    """Holds conventions, rule 4."""
    device.stands_at(battery_kw=1, grid_kw=2, soc=0.5)
    device.says_nothing_of(quantity)
    reading = await (await device.adapter()).read(device.site)
    values = {"battery": reading.battery_kw, "grid": reading.grid_kw, "soc": reading.soc}
    assert values.pop(quantity) is None
    assert None not in values.values()


async def test_a_reading_carries_the_device_s_own_time_where_it_has_one(device: Harness) -> None:
    reading = await (await device.adapter()).read(device.site)
    assert reading.measured_at == device.measured_at
    assert reading.received_at == device.clock.now()
    assert reading.device_id == device.site.device_id


async def test_a_command_is_carried_out_and_read_back(device: Harness) -> None:
    adapter, command = await device.adapter(), a_command(device)
    receipt = await adapter.apply(device.site, command)
    assert (receipt.state, receipt.command_id) == (ReceiptState.READBACK_OK, command.id)
    assert device.discharges()


async def test_the_same_command_again_changes_nothing(device: Harness) -> None:
    """Holds conventions, rule 12."""
    adapter, command = await device.adapter(), a_command(device)
    first = await adapter.apply(device.site, command)
    settings = device.settings()
    second = await adapter.apply(device.site, command)
    assert (second.command_id, second.state) == (first.command_id, first.state)
    assert device.settings() == settings


@pytest.mark.parametrize("minutes", [-1, 60, 61])
async def test_a_command_outside_its_time_is_refused_and_nothing_is_written(device: Harness, minutes: int) -> None:
    adapter, command = await device.adapter(), a_command(device, not_before=device.clock.now() + timedelta(minutes=1))
    device.clock.advance(timedelta(minutes=minutes + 1 if minutes < 0 else minutes))
    with pytest.raises(Rejected):
        await adapter.apply(device.site, command)
    assert device.writes() == 0


@pytest.mark.parametrize("power_kw", [5.1, 1000.0])
async def test_a_power_beyond_the_battery_is_refused_and_nothing_is_written(device: Harness, power_kw: float) -> None:
    adapter = await device.adapter()
    with pytest.raises(OutOfRange):
        await adapter.apply(device.site, a_command(device, power_kw=power_kw))
    assert device.writes() == 0


async def test_a_lease_longer_than_the_device_may_be_left_alone_is_refused(device: Harness) -> None:
    """Holds conventions, rule 13."""
    adapter = await device.adapter()
    longest = timedelta(seconds=(await adapter.describe(device.site)).max_lease_s)
    with pytest.raises(OutOfRange):
        await adapter.apply(
            device.site, a_command(device, expires_at=device.clock.now() + longest + timedelta(seconds=1))
        )
    assert device.writes() == 0


async def test_a_write_without_an_answer_is_unknown_until_it_is_sent_again(device: Harness) -> None:
    """Holds conventions, rule 6."""
    adapter, command = await device.adapter(), a_command(device)
    device.acts_but_does_not_answer(silent=True)
    receipt = await adapter.apply(device.site, command)
    assert (receipt.state, receipt.retryable) == (ReceiptState.UNKNOWN, True)
    assert device.writes() == 1, "a write that may have acted is not sent again unasked"
    device.acts_but_does_not_answer(silent=False)
    assert (await adapter.apply(device.site, command)).state is ReceiptState.READBACK_OK


async def test_a_device_that_accepts_without_effect_fails_the_command(device: Harness) -> None:
    adapter = await device.adapter()
    device.accepts_without_effect()
    receipt = await adapter.apply(device.site, a_command(device))
    assert (receipt.state, receipt.retryable) == (ReceiptState.FAILED, True)
    assert "NotApplied" in receipt.reason
    assert not device.discharges()


async def test_a_device_that_is_gone_is_unreachable(device: Harness) -> None:
    """Holds conventions, rule 6."""
    adapter = await device.adapter()
    await device.goes_away()
    with pytest.raises(Unreachable):
        await adapter.read(device.site)
    with pytest.raises(Unreachable):
        await adapter.apply(device.site, a_command(device))


async def test_after_a_restart_the_saved_state_is_enough_to_hand_the_site_back(device: Harness) -> None:
    """Holds conventions, rule 13."""
    found = device.settings()
    adapter = await device.adapter()
    saved = json.dumps(dict(await adapter.save_native(device.site)))
    await adapter.apply(device.site, a_command(device))
    await adapter.close()
    assert device.settings() != found

    receipt = await (await device.adapter()).release(device.site, json.loads(saved))

    assert (receipt.state, receipt.command_id) == (ReceiptState.READBACK_OK, None)
    assert device.settings() == found


async def test_releasing_again_writes_nothing(device: Harness) -> None:
    """Holds conventions, rule 12."""
    adapter = await device.adapter()
    native = await adapter.save_native(device.site)
    await adapter.apply(device.site, a_command(device))
    await adapter.release(device.site, native)
    writes = device.writes()
    assert (await adapter.release(device.site, native)).state is ReceiptState.READBACK_OK
    assert device.writes() == writes


async def test_a_release_that_does_not_take_is_not_called_done(device: Harness) -> None:
    adapter = await device.adapter()
    native = await adapter.save_native(device.site)
    await adapter.apply(device.site, a_command(device))
    device.accepts_without_effect()
    receipt = await adapter.release(device.site, native)
    assert (receipt.state, receipt.retryable) == (ReceiptState.FAILED, True)


async def test_another_vendor_s_saved_state_is_refused(device: Harness) -> None:
    adapter = await device.adapter()
    with pytest.raises(Rejected):
        await adapter.release(device.site, {"something": "else"})
    assert device.writes() == 0


async def test_a_site_held_by_another_controller_is_left_alone(device: Harness) -> None:
    device.is_held_by_another()
    adapter = await device.adapter()
    assert not (await adapter.read(device.site)).controllable
    with pytest.raises(Busy):
        await adapter.apply(device.site, a_command(device))
    assert device.writes() == 0


async def test_a_site_off_grid_is_left_alone(device: Harness) -> None:
    device.is_off_grid()
    adapter = await device.adapter()
    assert (await adapter.read(device.site)).islanded
    with pytest.raises(Rejected):
        await adapter.apply(device.site, a_command(device))
    assert device.writes() == 0


async def test_a_device_that_cannot_be_steered_says_so(device: Harness) -> None:
    device.cannot_be_steered()
    adapter = await device.adapter()
    with pytest.raises(Unsupported):
        await adapter.describe(device.site)


async def test_an_address_that_is_none_is_unsupported(device: Harness) -> None:
    adapter = await device.adapter()
    with pytest.raises(Unsupported):
        await adapter.read(a_site(address="nowhere"))


async def test_the_blueprint_refuses_what_it_cannot_do(clock: FixedClock) -> None:
    adapter, site = BlueprintAdapter(clock), a_site(adapter="blueprint")
    await adapter.open()
    for call in (adapter.describe(site), adapter.read(site), adapter.save_native(site), adapter.release(site, {})):
        with pytest.raises(Unsupported):
            await call
    await adapter.close()
