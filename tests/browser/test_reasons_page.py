"""Why each site gives what it gives, in a real browser: the curve is drawn, sites are found, cycles replace it."""

from datetime import timedelta

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import WIDTHS, serving, visiting
from tests.builders_portal import NOW, START, World, a_world, add_cycle, portal
from tests.builders_reasons import some_reasons
from tests.clock import FixedClock
from vpp.portal.live import LiveFeeds
from vpp.store.engine import Store

pytestmark = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=60)


async def test_the_reasons_are_drawn_found_and_follow_the_cycles(
    store: Store, world: World, chromium: Browser, width: int
) -> None:
    async with store.begin() as connection:
        solve = {"reasons": some_reasons(world.sites)}
        await add_cycle(connection, world.running, START + timedelta(minutes=85), solve=solve)
    app = portal(store, FixedClock(NOW))
    app.state.feeds = LiveFeeds(read_every_s=0.1)
    async with serving(app) as url, visiting(chromium, url, width) as visitor:
        await visitor.sign_in(world.operator)
        await visitor.see(f"/operator/events/{world.running}")
        page, section = visitor.page, visitor.page.locator("#reasons")
        await expect(section.locator(".supply canvas")).to_be_visible()
        await expect(section.locator(".supply .u-legend")).to_contain_text("$/kWh")
        await expect(section.locator("table.stacked tbody tr")).to_have_count(12)
        await page.get_by_label("Find a site's reason").fill("north-017")
        await expect(section.locator("table.stacked tbody tr")).to_have_count(1)
        await expect(section.locator(".supply canvas")).to_be_visible()
        async with store.begin() as connection:
            solve = {"reasons": some_reasons(world.sites, target_kw=40.0)}
            await add_cycle(connection, world.running, START + timedelta(minutes=90), solve=solve)
        await expect(section).to_contain_text("17:30 to 17:35 PDT")
        # what was looked for stays, and the curve is drawn anew
        await expect(section.locator("table.stacked tbody tr")).to_have_count(1)
        await expect(section.locator(".supply canvas")).to_be_visible()
        await visitor.check()
