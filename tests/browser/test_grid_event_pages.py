"""Composing an event, in a real browser: the form asks for what the signal has, and says what is left unsaid."""

import re

from playwright.async_api import Browser, Locator, expect

from tests.browser.conftest import Visitor, serving, visiting
from tests.builders_downstream import a_series, an_event
from tests.builders_grid_events import EVENT, a_dispatch, a_sending_world, answered, reported, sending_portal, told
from tests.builders_portal import NOW
from tests.clock import FixedClock
from vpp.domain.grid_event import SeriesType
from vpp.store.engine import Store

TWO = "two-signals"


async def test_an_event_is_composed_previewed_sent_and_cancelled(store: Store, chromium: Browser) -> None:
    world = await a_sending_world(store)
    price = a_series(0.25, 0.4, kind=SeriesType.PRICE, series_id="1", unit="KWH", currency="USD")
    async with store.begin() as connection:
        await told(connection, world.tenant_id, an_event(TWO, series=(a_series(1, 2), price), comment="Two signals"))
        await told(connection, world.tenant_id, a_dispatch(30.0, 25.0, 30.0))
        await answered(connection, world.peers["barn"], EVENT)
        await answered(connection, world.peers["mill"], EVENT, opt_in=False, answer_reason="maintenance")
        await reported(connection, world.peers["barn"], {0: 31, 1: 30, 2: 29, 3: 30, 4: 26})
    app = sending_portal(store, FixedClock(NOW))
    async with serving(app) as url:
        async with visiting(chromium, url, 390) as visitor:
            await visitor.sign_in(world.operator)
            await _life_of_an_event(visitor)
            await _change_of_two_signals(visitor)
        async with visiting(chromium, url, 1280) as visitor:
            await visitor.sign_in(world.operator)
            for path in ("", "/new", f"/event/{EVENT}", f"/event/{EVENT}/modify"):
                await visitor.see(f"/operator/grid-events{path}")
            await _change_of_two_signals(visitor)


async def _life_of_an_event(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.see("/operator/grid-events")
    await page.get_by_role("link", name="Evening peak").click()
    await expect(page.locator("[data-delivery] svg .line-2")).to_be_visible()
    await visitor.check()
    await visitor.see("/operator/grid-events/new")
    await page.get_by_label("Programme or market context").fill("http://utility/peak")
    unit = page.get_by_label("Unit")
    await expect(unit).to_be_hidden()  # a simple level has none
    await page.get_by_label("Type of signal").select_option("EXPORT_CAPACITY_LIMIT")
    await expect(unit).to_have_value("KW")
    await expect(page.get_by_label("Currency")).to_be_hidden()
    await page.get_by_role("button", name="Add an interval").click()
    await expect(page.locator("[data-row]")).to_have_count(5)
    await page.locator("[data-row]").last.get_by_label("Minutes").fill("30")
    await page.locator("[data-row]").last.get_by_label("Value").fill("12.5")
    await page.locator("[data-row]").nth(1).get_by_role("button").click()
    await expect(page.locator("[data-row]")).to_have_count(4)
    await _paste(page.locator("[data-row]").last.get_by_label("Value"), "10\n11.5\n9")
    await expect(page.locator("[data-row]")).to_have_count(6)
    await expect(page.locator("[data-row]").last.get_by_label("Minutes")).to_have_value("30")
    await page.get_by_label("north").check()
    await page.get_by_label("Ramp-up").fill("15")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#preview")).to_contain_text("OpenADR 3 has no ramp-up")
    await expect(page.locator("#preview")).to_contain_text("Not told in 2.0b at all", ignore_case=True)
    await visitor.check()
    await expect(page.locator("#preview svg .line-1")).to_be_visible()
    await page.get_by_role("button", name="Send the event").click()
    await page.wait_for_url(re.compile("/event/"))
    await page.get_by_text("4 intervals").click()
    await expect(page.locator("main")).to_contain_text("11.5")
    await visitor.check()
    await page.get_by_text("Cancel this event").click()
    await page.get_by_label("It is cancelled for everybody").check()
    await page.get_by_role("button", name="Cancel the event").click()
    await expect(page.get_by_role("link", name="Call again")).to_be_visible()
    await visitor.check()


async def _change_of_two_signals(visitor: Visitor) -> None:
    """Open an event of two signals, add a third with a pasted column, and take it out at the next change."""
    page = visitor.page
    await visitor.see(f"/operator/grid-events/event/{TWO}/modify")
    signals = page.locator("[data-signal]")
    price = signals.nth(1)
    await expect(price.get_by_label("Type of signal")).to_have_value("PRICE")
    await expect(price.get_by_label("Currency")).to_have_value("USD")
    await expect(signals.nth(0).get_by_label("Unit")).to_be_hidden()  # each signal asks for its own
    await price.get_by_label("Value").nth(1).fill("0.5")
    await page.get_by_role("button", name="Add a signal").click()
    third = signals.nth(2)
    await expect(third.get_by_text("Signal 3")).to_be_visible()
    await third.get_by_label("Type of signal").select_option("EXPORT_CAPACITY_LIMIT")
    await expect(third.get_by_label("Unit")).to_have_value("KW")
    await expect(third.get_by_label("Currency")).to_be_hidden()
    await expect(price.get_by_label("Currency")).to_be_visible()
    await _paste(third.get_by_label("Value").first, "10\n11.5\n9")
    await expect(third.locator("[data-row]")).to_have_count(3)
    await expect(price.locator("[data-row]")).to_have_count(2)
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#preview")).to_contain_text("Price of energy, USD/kWh; Export capacity limit, kW")
    await expect(page.locator("#preview figure")).to_have_count(3)
    await visitor.check()
    await page.get_by_role("button", name="Send the change").click()
    await page.wait_for_url(re.compile(f"/event/{TWO}$"))
    await expect(page.locator(".signal")).to_have_count(3)
    await visitor.check()
    await page.get_by_role("link", name="Modify").click()
    await expect(third.get_by_label("Value").last).to_have_value("9")
    await third.get_by_role("button", name="Remove this signal").click()
    await expect(signals).to_have_count(2)
    await page.get_by_role("button", name="Send the change").click()
    await page.wait_for_url(re.compile(f"/event/{TWO}$"))
    await expect(page.locator(".signal")).to_have_count(2)
    await expect(page.locator("main")).to_contain_text("Price of energy, USD/kWh")


async def _paste(place: Locator, text: str) -> None:
    """Paste as from a spreadsheet, without the machine's clipboard."""
    await place.evaluate(
        "(place, text) => { const clipboardData = new DataTransfer(); clipboardData.setData('text', text);"
        " place.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true })); }",
        text,
    )
