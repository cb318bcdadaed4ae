"""The page of signals in a real browser, wide and on a phone: nothing to scroll sideways, nothing the CSP refuses."""

from playwright.async_api import Browser, expect

from tests.browser.conftest import serving, visiting
from tests.builders_portal import NOW, a_world, portal
from tests.clock import FixedClock
from tests.integration.test_portal_signals import S, event, hear, series
from vpp.store.engine import Store


async def test_signals_and_alerts_fit_a_desk_and_a_phone(store: Store, chromium: Browser) -> None:
    world = await a_world(store, sites=3)
    long_name = "X_A_VERY_LONG_PRIVATE_NAME_OF_A_PAYLOAD_TYPE_OF_SOME_UTILITY"
    await hear(
        store,
        world,
        event("e" * 120, series(S.OTHER, "word" * 60, 7, name=long_name)),
        event("prices", series(S.PRICE, 0.31, unit="KWH", currency="USD", count=5)),
        event("limit", series(S.EXPORT_CAPACITY_LIMIT, 12.5, unit="KW")),
        event("fire", series(S.ALERT_FIRE, "Smoke near the valley")),
    )
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, 390) as visitor:
        await visitor.sign_in(world.operator)
        for path in (f"/operator/events/{world.running}", "/operator/signals"):
            await visitor.see(path)
            await expect(visitor.page.get_by_role("alert").first).to_contain_text("Fire: Smoke near the valley")
        await visitor.page.get_by_text("3 more").click()
        await visitor.check()
        await visitor.page.set_viewport_size({"width": 1280, "height": 900})
        await visitor.check()
