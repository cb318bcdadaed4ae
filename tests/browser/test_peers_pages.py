"""Peers and the message log in a real browser: added, opened, searched, revoked, on a desk and in a hand."""

import re
from datetime import timedelta

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import WIDTHS, serving, visiting
from tests.builders_peering import add_tenant, stored_peer
from tests.builders_portal import NOW, add_account, portal
from tests.clock import FixedClock
from vpp.domain.peer import Direction, PeerRole, Protocol
from vpp.peering import SqlMessageLog, note_standing
from vpp.store.engine import Store

OPERATOR = "operator@default.example"
EVENT = "<oadrEvent><eventID>EVT-1</eventID></oadrEvent>"


async def prepare(store: Store) -> None:
    await add_tenant(store)
    async with store.begin() as connection:
        await add_account(connection, tenant_id="default", email=OPERATOR, role="operator")
    ven, _ = await stored_peer(
        store, "alder-street-22", protocol=Protocol.OPENADR2, groups=("north", "batteries-of-the-old-town"),
        fingerprint="AA:BB:CC:DD:EE:FF:00:11:22:33", party_id="VEN-" + "9f1c77a2b0" * 6,
    )  # fmt: skip
    utility, _ = await stored_peer(
        store, "utility", protocol=Protocol.OPENADR2, role=PeerRole.VTN, url="https://vtn.example"
    )
    await note_standing(store, utility.id, "not reached: https://vtn.example/" + "long" * 40, at=NOW)
    log = SqlMessageLog(store, FixedClock(NOW - timedelta(minutes=5)))
    for kind, body in (("oadrPoll", "<a/>"), ("oadrDistributeEvent", EVENT), ("oadrCreatedEvent", "{" * 300)):
        log.note(
            protocol=Protocol.OPENADR2, direction=Direction.IN, kind=kind, status="200", peer=ven.id, body=body,
            summary="https://a.example/" + "long" * 40,
        )  # fmt: skip
    await log.flush()


@pytest.mark.parametrize("width", WIDTHS)
async def test_peers_are_added_watched_and_revoked(store: Store, chromium: Browser, width: int) -> None:
    await prepare(store)
    async with serving(portal(store, FixedClock(NOW))) as url, visiting(chromium, url, width) as visitor:
        page = visitor.page
        await visitor.sign_in(OPERATOR)
        await visitor.see("/operator/peers")
        await page.get_by_role("link", name="alder-street-22").click()
        await expect(page.get_by_role("heading", name="Ids and addresses")).to_be_visible()
        await visitor.check()

        await visitor.see("/operator/peers")
        await page.get_by_role("link", name="utility").click()
        await expect(page.get_by_text("not reached: https")).to_be_visible()
        await visitor.check()

        await visitor.see("/operator/messages")
        await page.locator("summary", has_text="oadrDistributeEvent").click()
        await expect(page.locator("details[open] pre")).to_have_text(
            "<oadrEvent>\n  <eventID>EVT-1</eventID>\n</oadrEvent>"
        )
        await visitor.check()
        await page.get_by_label("Text").fill("evt-1")
        await expect(page.locator(".messages li")).to_have_count(1)
        await expect(page).to_have_url(re.compile("search=evt-1"))
        await page.get_by_label("Direction").select_option("out")
        await expect(page.get_by_text("No message like this")).to_be_visible()
        await visitor.check()

        await visitor.see("/operator/peers/new")
        await page.get_by_text("More about a VTN above us").click()
        await visitor.check()
        await page.get_by_label("Our name for it").fill("new-site")
        await page.get_by_role("button", name="Add the peer").click()
        await expect(page.get_by_text("the secret is not shown again")).to_be_visible()
        await visitor.check()
        await page.get_by_role("link", name="Go on").click()
        await expect(page.get_by_text("the secret is not shown again")).not_to_be_visible()
        await page.get_by_text("Revoke it").click()
        await page.get_by_role("button", name="Yes, revoke new-site").click()
        await expect(page.locator("h1")).to_contain_text("revoked")
        await visitor.check()
