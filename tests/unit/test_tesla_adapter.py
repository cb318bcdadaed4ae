"""Tesla: our requests against those of tesla-fleet-api, tokens, budgets, and the owner's reserve."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from tesla_fleet_api import TeslaFleetApi

from adapters.tesla import InMemoryTokenStore, TeslaAdapter, Token
from tests.builders import a_site
from tests.builders_tesla import OWNER_TARIFF, SITE, Answer, Secrets, TeslaPeer, serving
from tests.clock import FixedClock
from vpp.domain.device import Command, ReceiptState
from vpp.domain.errors import AuthFailed, Busy, RateLimited, Rejected, Unreachable, Unsupported
from vpp.domain.site import Site


@pytest.fixture
async def peer() -> AsyncIterator[TeslaPeer]:
    async with serving(TeslaPeer()) as peer:
        yield peer


@pytest.fixture
async def adapter(peer: TeslaPeer, clock: FixedClock) -> AsyncIterator[TeslaAdapter]:
    adapter = _adapter(peer, clock)
    await adapter.open()
    yield adapter
    await adapter.close()


def _adapter(peer: TeslaPeer, clock: FixedClock, **options: Any) -> TeslaAdapter:
    usual: dict[str, Any] = {"token_url": peer.token_url, "timeout_s": 0.5, "readback_delay_s": 0}
    return TeslaAdapter(peer.base_url, options.pop("credentials", peer.secrets()), clock, **(usual | options))


def _site(**changes: Any) -> Site:
    return a_site(**({"adapter": "tesla", "address": SITE} | changes))


def _command(clock: FixedClock, **changes: Any) -> Command:
    now = clock.now()
    usual = {
        "id": uuid4(), "site_id": "s0001", "power_kw": 5.0, "reserve_soc": 0.2,
        "not_before": now, "expires_at": now + timedelta(hours=4),
    }  # fmt: skip
    return Command(**(usual | changes))


async def test_our_requests_are_those_of_tesla_fleet_api(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.components["customer_preferred_export_rule"] = "pv_only"
    peer.settings["backup_reserve_percent"] = 10
    many = _adapter(peer, clock, settings_per_day=100)
    await many.open()
    await many.apply(_site(), _command(clock))
    await many.close()
    ours = {(it.method, it.path): it.body for it in peer.requests}
    tariff = ours["POST", f"/api/1/energy_sites/{SITE}/time_of_use_settings"]["tou_settings"]["tariff_content_v2"]
    peer.requests.clear()

    async with aiohttp.ClientSession() as session:
        api = TeslaFleetApi(session, peer.valid_access, server=peer.base_url)
        theirs = api.energySites.create(int(SITE))
        await theirs.live_status()
        await theirs.site_info()
        await theirs.backup(20)
        await theirs.grid_import_export(True, "battery_ok")
        await theirs.time_of_use_settings(tariff)
        await theirs.operation("autonomous")

    assert {(it.method, it.path): it.body for it in peer.requests} == ours
    assert {it.token for it in peer.requests} == {peer.valid_access}


async def test_one_refresh_serves_all_requests_that_found_the_token_stale(peer: TeslaPeer, clock: FixedClock) -> None:
    store = InMemoryTokenStore()
    await store.save("", Token("stale", peer.valid_refresh))
    adapter = _adapter(peer, clock, tokens=store)
    await adapter.open()
    await asyncio.gather(*(adapter.read(_site(id=f"s{number}")) for number in range(10)))
    await adapter.close()
    assert [form["refresh_token"] for form in peer.refreshes] == ["refresh-0"]
    assert await store.load("") == Token("access-1", "refresh-1")


async def test_a_rotated_token_is_stored_before_it_is_used(peer: TeslaPeer, clock: FixedClock) -> None:
    class Recorder(InMemoryTokenStore):
        used_before_saved = False

        async def save(self, account: str, token: Token) -> None:
            self.used_before_saved |= any(it.token == token.access for it in peer.requests)
            await super().save(account, token)

    store = Recorder()
    await store.save("", Token("stale", peer.valid_refresh))
    adapter = _adapter(peer, clock, tokens=store)
    await adapter.open()
    await adapter.read(_site())
    await adapter.close()
    assert peer.requests[-1].token == "access-1"
    assert not store.used_before_saved


async def test_a_refresh_token_that_is_spent_is_an_auth_failure(peer: TeslaPeer, clock: FixedClock) -> None:
    adapter = _adapter(peer, clock, credentials=Secrets(tesla_client_id="client", tesla_refresh_token="spent"))
    await adapter.open()
    with pytest.raises(AuthFailed, match="refresh token was not accepted"):
        await adapter.read(_site())
    await adapter.close()


async def test_an_owner_s_own_token_is_used_for_the_owner_s_site(peer: TeslaPeer, clock: FixedClock) -> None:
    secrets = Secrets(tesla_access_token="shared", tesla_access_token_o0001=peer.valid_access)
    adapter = _adapter(peer, clock, credentials=secrets)
    await adapter.open()
    await adapter.read(_site())
    with pytest.raises(AuthFailed):
        await adapter.read(_site(id="s0002", owner_id="o0002"))
    await adapter.close()


async def test_no_token_is_ever_written_to_the_log_or_shown(
    peer: TeslaPeer, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = InMemoryTokenStore()
    await store.save("", Token("stale-secret", peer.valid_refresh))
    adapter = _adapter(peer, clock, tokens=store)
    await adapter.open()
    await adapter.read(_site())
    await adapter.close()
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp"))
    assert not any(secret in ours for secret in ("stale-secret", "access-1", "refresh-0", "refresh-1"))
    assert "stale" not in repr(Token("stale", "stale"))


async def test_a_pause_tesla_asks_for_is_kept_by_every_call(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.answers["live_status"] = [Answer(429, {"Retry-After": "120"})]
    with pytest.raises(RateLimited) as limited:
        await adapter.read(_site())
    assert limited.value.retry_at == clock.now() + timedelta(seconds=120)
    asked = len(peer.requests)
    with pytest.raises(RateLimited):
        await adapter.save_native(_site())
    assert len(peer.requests) == asked
    clock.advance(timedelta(seconds=121))
    assert (await adapter.read(_site())).soc == 0.8


async def test_a_site_is_asked_once_in_five_minutes_and_the_reading_keeps_its_time(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    first = await adapter.read(_site())
    clock.advance(timedelta(seconds=299))
    assert await adapter.read(_site()) is first
    clock.advance(timedelta(seconds=1))
    assert (await adapter.read(_site())).received_at == clock.now()
    assert len(peer.requests) == 2


async def test_only_what_differs_is_written(peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock) -> None:
    peer.settings["default_real_mode"] = "autonomous"
    await adapter.apply(_site(), _command(clock))
    assert [endpoint for endpoint, _ in peer.writes] == ["time_of_use_settings"]


async def test_a_later_command_within_the_same_window_writes_nothing(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    end = clock.now() + timedelta(hours=4)
    await adapter.apply(_site(), _command(clock))
    written = len(peer.writes)
    clock.advance(timedelta(minutes=15))
    receipt = await adapter.apply(_site(), _command(clock, expires_at=end))
    assert (receipt.state, len(peer.writes)) == (ReceiptState.READBACK_OK, written)


async def test_the_reserve_is_raised_to_the_owner_s_before_anything_else_and_put_back_last(
    peer: TeslaPeer, clock: FixedClock
) -> None:
    peer.settings["backup_reserve_percent"] = 10
    adapter = _adapter(peer, clock, settings_per_day=100)
    await adapter.open()
    native = await adapter.save_native(_site())
    await adapter.apply(_site(reserve_soc=0.25), _command(clock, reserve_soc=0.301))
    assert peer.writes[0] == ("backup", {"backup_reserve_percent": 31})
    await adapter.release(_site(), native)
    await adapter.close()
    assert peer.writes[-1] == ("backup", {"backup_reserve_percent": 10})


async def test_a_reserve_above_the_owner_s_is_never_lowered(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.settings["backup_reserve_percent"] = 60
    await adapter.apply(_site(), _command(clock))
    assert "backup" not in [endpoint for endpoint, _ in peer.writes]
    assert peer.settings["backup_reserve_percent"] == 60


async def test_where_export_is_not_allowed_the_export_rule_stays(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.components["customer_preferred_export_rule"] = "never"
    await adapter.apply(_site(export_limit_kw=0.0), _command(clock))
    assert peer.components["customer_preferred_export_rule"] == "never"


async def test_settings_that_could_not_be_changed_back_today_are_not_changed(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.components["customer_preferred_export_rule"] = "pv_only"
    with pytest.raises(RateLimited) as limited:
        await adapter.apply(_site(), _command(clock))
    assert peer.writes == []
    assert limited.value.retry_at is not None
    assert limited.value.retry_at.date() == clock.now().date() + timedelta(days=1)


async def test_release_is_never_held_back_by_the_day_s_count(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    native = await adapter.save_native(_site())
    for _ in range(4):
        await adapter.release(_site(), {**native, "default_real_mode": "backup"})
        assert (await adapter.release(_site(), native)).state is ReceiptState.READBACK_OK
    with pytest.raises(RateLimited):
        await adapter.apply(_site(), _command(clock))


async def test_what_was_accepted_but_not_applied_is_sent_once_more(peer: TeslaPeer, clock: FixedClock) -> None:
    adapter = _adapter(peer, clock, settings_per_day=100)
    await adapter.open()
    peer.ignored_writes = 1
    receipt = await adapter.apply(_site(), _command(clock))
    await adapter.close()
    assert receipt.state is ReceiptState.READBACK_OK
    assert [endpoint for endpoint, _ in peer.writes] == ["time_of_use_settings", "operation", "time_of_use_settings"]


async def test_our_own_event_settings_are_never_taken_for_the_owner_s(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    await adapter.apply(_site(), _command(clock))
    with pytest.raises(Busy, match="earlier event"):
        await adapter.save_native(_site())


async def test_a_site_without_a_tariff_to_come_back_to_is_unsupported(peer: TeslaPeer, adapter: TeslaAdapter) -> None:
    del peer.settings["tariff_content_v2"]
    with pytest.raises(Unsupported, match="no tariff"):
        await adapter.save_native(_site())


async def test_tesla_s_own_grid_services_keep_us_away(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.live["grid_services_active"] = True
    with pytest.raises(Busy):
        await adapter.apply(_site(), _command(clock))


async def test_idle_puts_the_owner_s_settings_back(peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock) -> None:
    await adapter.save_native(_site())
    await adapter.apply(_site(), _command(clock))
    receipt = await adapter.apply(_site(), _command(clock, power_kw=0.0))
    assert receipt.state is ReceiptState.READBACK_OK
    assert peer.settings["default_real_mode"] == "self_consumption"
    assert peer.settings["tariff_content_v2"]["code"] == OWNER_TARIFF["code"]


async def test_idle_without_saved_settings_is_refused_rather_than_guessed(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    assert (await adapter.apply(_site(), _command(clock, power_kw=0.0))).state is ReceiptState.READBACK_OK
    await adapter.apply(_site(), _command(clock))
    with pytest.raises(Unsupported, match="released"):
        await adapter.apply(_site(), _command(clock, power_kw=0.0))


async def test_charging_at_a_power_is_unsupported(adapter: TeslaAdapter, clock: FixedClock) -> None:
    with pytest.raises(Unsupported):
        await adapter.apply(_site(), _command(clock, power_kw=-1.0))


async def test_a_refusal_after_the_first_setting_is_a_failed_receipt(
    peer: TeslaPeer, adapter: TeslaAdapter, clock: FixedClock
) -> None:
    peer.answers["operation"] = [Answer(400)]
    receipt = await adapter.apply(_site(), _command(clock))
    assert (receipt.state, receipt.retryable) == (ReceiptState.FAILED, False)
    assert "Rejected" in receipt.reason


async def test_an_unknown_site_is_refused(adapter: TeslaAdapter) -> None:
    with pytest.raises(Rejected):
        await adapter.read(_site(address="999"))


async def test_a_closed_adapter_says_so(peer: TeslaPeer, clock: FixedClock) -> None:
    with pytest.raises(Unreachable, match="not open"):
        await _adapter(peer, clock).read(_site())
