"""Each page in a real browser, on a desk and in a hand: no errors, nothing off the edge, and it does its work."""

import csv
import io
import re
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import select

from tests.browser.conftest import WIDTHS, serving, visiting
from tests.builders_portal import NOW, START, World, a_world, add_cycle, add_readings, portal
from tests.clock import FixedClock
from vpp.portal.live import LiveFeeds
from vpp.store.engine import Store
from vpp.store.tables.fleet import reserve_change, site

pytestmark = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=24)


async def test_sign_in(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.see("/sign-in")
        await expect(visitor.page.get_by_label("E-mail")).to_be_focused()
        await visitor.page.goto(f"{url}/operator/fleet")
        await expect(visitor.page).to_have_url(re.compile("/sign-in"))
        await visitor.page.get_by_label("E-mail").fill(world.operator)
        await visitor.page.get_by_label("Password").fill("not this one")
        await visitor.page.keyboard.press("Enter")
        await expect(visitor.page.get_by_role("alert")).to_have_text("E-mail or password is not right.")
        visitor.faults.clear()  # the browser writes a refused page down as an error, rightly
        await visitor.sign_in(world.operator)
        await visitor.page.get_by_role("button", name="Sign out").click()
        await expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()
        await visitor.check()


async def test_the_operators_events(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.operator)
        await visitor.check()
        await visitor.page.get_by_text("Wed 19 Aug 2026, 16:00 to 20:00 PDT").click()
        await expect(visitor.page).to_have_url(re.compile(str(world.running)))
        for event in (world.settled, world.coming, world.declined):
            await visitor.see(f"/operator/events/{event}")


async def test_the_live_event_follows_readings_and_cycles(
    store: Store, world: World, chromium: Browser, width: int
) -> None:
    app = portal(store, FixedClock(NOW))
    app.state.feeds = LiveFeeds(read_every_s=0.1)
    async with serving(app) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.operator)
        await visitor.see(f"/operator/events/{world.running}")
        page = visitor.page
        delivered = page.locator("[data-card]", has_text="Delivered now").locator(".big")
        await expect(delivered).to_have_text("76.2 kW")
        await expect(page.locator("[data-feed-word]")).to_have_text("Live")
        await expect(page.locator(".chart canvas")).to_be_visible()
        await expect(page.locator(".chart .u-legend")).to_contain_text("93.6 kW")
        async with store.begin() as connection:
            rows = [
                {"device_id": device, "measured_at": NOW - timedelta(seconds=2), "battery_kw": 4.5}
                for device in world.devices[:19]
            ]
            await add_readings(connection, rows)
            await add_cycle(connection, world.running, START + timedelta(minutes=85), forecast_kwh=301.0)
        await expect(delivered).to_have_text("85.5 kW")
        forecast = page.locator("[data-card]", has_text="Forecast to the end")
        await expect(forecast.locator(".big")).to_have_text("83.6\u202f%")
        await expect(forecast).to_have_class(re.compile("alarm"))
        await expect(page.locator("[data-state=failed] [data-count]")).to_have_text("1")
        await expect(page.locator("[data-problems] tbody tr")).to_have_count(4)
        await visitor.check()


async def test_a_stream_that_breaks_is_said_to_be_broken(
    store: Store, world: World, chromium: Browser, width: int
) -> None:
    async with AsyncExitStack() as server:
        url = await server.enter_async_context(serving(portal(store, FixedClock(NOW))))
        async with visiting(chromium, url, width) as visitor:
            await visitor.sign_in(world.operator)
            await visitor.see(f"/operator/events/{world.running}")
            await expect(visitor.page.locator("[data-feed-word]")).to_have_text("Live")
            await server.aclose()
            await expect(visitor.page.locator("[data-feed]")).to_have_attribute("data-status", "broken")
            await expect(visitor.page.locator("[data-feed-word]")).to_contain_text("Connection lost")


async def test_the_fleet_is_searched_while_typing(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.operator)
        await visitor.see("/operator/fleet")
        rows = visitor.page.locator("#sites tbody tr")
        await expect(rows).to_have_count(24)
        await visitor.page.get_by_label("Find a site").press_sequentially("north-02")
        await expect(rows).to_have_count(5)
        await expect(visitor.page).to_have_url(re.compile("search=north-02"))
        await expect(visitor.page.get_by_text("missing")).to_be_visible()
        await visitor.check()


async def test_the_utilitys_pages(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.utility)
        await visitor.check()
        for event in (world.running, world.declined, world.settled):
            await visitor.see(f"/utility/events/{event}")
        async with visitor.page.expect_download() as waiting:
            await visitor.page.get_by_role("link", name="Download report (CSV)").click()
        path = await (await waiting.value).path()
        assert len(_rows(path)) == 4


async def test_the_owners_slider_changes_the_floor(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.owner)
        await visitor.check()
        page = visitor.page
        await expect(page.locator("[data-earned]")).to_have_text("$18.88")
        save = page.get_by_role("button", name="Save reserve")
        await expect(save).to_be_disabled()
        slider = page.get_by_label("Always kept for you")
        await slider.focus()
        for _ in range(15):
            await page.keyboard.press("ArrowRight")
        await expect(page.locator("[data-percent]")).to_have_text("35\u202f%")
        await expect(page.locator("[data-kept]")).to_have_text("4.72 kWh")
        assert await _reserve(store, world) == 0.2
        await save.click()
        await expect(page.locator("[data-saved-note]")).to_have_text("Saved: 35\u202f%, Wed 17:20 PDT")
        assert await _reserve(store, world) == 0.35
        async with store.begin() as connection:
            by = (await connection.execute(select(reserve_change.c.changed_by))).scalars().all()
        assert by == [world.owner]
        await visitor.see("/owner")
        await expect(page.get_by_label("Always kept for you")).to_have_value("35")


async def test_the_owners_statement_downloads(store: Store, world: World, chromium: Browser, width: int) -> None:
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.owner)
        await visitor.page.get_by_role("link", name="Monthly statement").click()
        await expect(visitor.page.get_by_role("heading", name="Statement for August 2026")).to_be_visible()
        await visitor.page.get_by_text("Metered, interval by interval").click()
        await visitor.check()
        async with visitor.page.expect_download() as waiting:
            await visitor.page.get_by_role("link", name="Download CSV").click()
        download = await waiting.value
        assert download.suggested_filename == f"statement-{world.sites[0]}-2026-08.csv"
        total = _rows(await download.path())[-1]
        assert (total["row"], total["owner_cents"], total["ledger_cents"]) == ("total", "1888", "1888")


async def _reserve(store: Store, world: World) -> float:
    async with store.begin() as connection:
        query = select(site.c.reserve_soc).where(site.c.id == world.sites[0])
        return float((await connection.execute(query)).scalar_one())


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))
