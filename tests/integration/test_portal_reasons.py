"""Why each site gives what it gives: on the operator's page and for machines, and only for those who may know."""

import re
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI

from tests.builders_portal import NOW, START, World, a_world, add_cycle, browser, portal, signed_in
from tests.builders_reasons import some_reasons
from tests.clock import FixedClock
from tests.integration.test_portal_pages import Inline, words
from vpp.allocation import read_reasons
from vpp.portal import create_token
from vpp.store.engine import Store

CYCLE = START + timedelta(minutes=85)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=24)


@pytest.fixture
def app(store: Store) -> FastAPI:
    return portal(store, FixedClock(NOW))


async def keep(store: Store, world: World) -> dict[str, object]:
    """A cycle with the reasons of a real plan."""
    found = some_reasons(world.sites)
    async with store.begin() as connection:
        await add_cycle(connection, world.running, CYCLE, solve={"status": "optimal", "reasons": found})
    return found


async def machine(store: Store, app: FastAPI, tenant_id: str) -> httpx.AsyncClient:
    """A client with a token that may read."""
    async with store.begin() as connection:
        token = await create_token(connection, tenant_id=tenant_id, label="reader", scope="read", now=NOW)
    client = browser(app)
    client.headers["authorization"] = f"Bearer {token}"
    return client


async def test_the_page_says_price_limits_and_one_sentence_for_each_site(
    store: Store, app: FastAPI, world: World
) -> None:
    found = read_reasons(await keep(store, world))
    assert found is not None
    async with browser(app) as client:
        await signed_in(client, world.operator)
        answer = await client.get(f"/operator/events/{world.running}")
    text = words(answer.text)
    assert "Control cycle of Wed 19 Aug 2026, 17:25 to 17:30 PDT: the fleet pays" in text
    assert f"{found.price_per_kwh:.2f} per kWh" in text
    ids = re.findall(r"<td data-label=\"Site\"><strong>(north-\d+)</strong></td>", answer.text)
    shown = [found.sites[site_id] for site_id in ids]
    assert len(shown) == 12
    for one in shown:
        assert one.sentence.replace("'", "&#39;") in answer.text
    assert {one.constraint for one in shown} == set(found.stopped)
    assert "12 of 24 sites, some of each kind." in text
    for one in found.next_kw(5):
        assert one.site_id in text.split("Who would give the next kW")[1].split("Find a site")[0]
    parser = Inline()
    parser.feed(answer.text)
    assert parser.found == []


async def test_where_sites_would_give_more_than_is_owed_the_page_does_not_speak_of_pay(
    store: Store, app: FastAPI, world: World
) -> None:
    found = some_reasons(world.sites)
    found["price_per_kwh"] = -0.02
    async with store.begin() as connection:
        await add_cycle(connection, world.running, CYCLE, solve={"reasons": found})
    async with browser(app) as client:
        await signed_in(client, world.operator)
        text = words((await client.get(f"/operator/events/{world.running}")).text)
    assert "A price of \u2212$0.020 per kWh holds back those that gain least" in text
    assert "the fleet pays" not in text
    assert "the fleet has enough and would pay 0.020 $/kWh for less" in text


async def test_a_site_is_found_by_its_id(store: Store, app: FastAPI, world: World) -> None:
    found = read_reasons(await keep(store, world))
    assert found is not None
    async with browser(app) as client:
        await signed_in(client, world.operator)
        part = await client.get(f"/operator/events/{world.running}/reasons", params={"search": "NORTH-013"})
        none = await client.get(f"/operator/events/{world.running}/reasons", params={"search": "<b>%"})
    assert "<html" not in part.text
    assert found.sites["north-013"].sentence.replace("'", "&#39;") in part.text
    assert part.text.count("<strong>north-") == 1
    assert "No site matches “&lt;b&gt;%”" in none.text


async def test_before_the_first_cycle_and_after_a_split_the_page_says_so(
    store: Store, app: FastAPI, world: World
) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        running = words((await client.get(f"/operator/events/{world.running}")).text)
        coming = words((await client.get(f"/operator/events/{world.coming}")).text)
    assert "was planned by the real-time split, without prices" in running
    assert "No control cycle has run yet." in coming


async def test_a_machine_reads_a_sites_reason_and_the_fleets_supply(store: Store, app: FastAPI, world: World) -> None:
    found = read_reasons(await keep(store, world))
    assert found is not None
    path = f"/api/v1/events/{world.running}"
    async with await machine(store, app, world.tenant_id) as client:
        site = (await client.get(f"{path}/sites/{world.sites[4]}/explanation")).json()
        fleet = (await client.get(f"{path}/explanation")).json()
        inside = await client.get(f"{path}/explanation", params={"at": (CYCLE + timedelta(minutes=2)).isoformat()})
        before = await client.get(f"{path}/explanation", params={"at": (START - timedelta(hours=1)).isoformat()})
        split = await client.get(f"{path}/explanation", params={"at": (START + timedelta(minutes=2)).isoformat()})
        nobody = await client.get(f"{path}/sites/north-999/explanation")
    one = found.sites[world.sites[4]]
    assert site["sentence"] == one.sentence
    assert (site["constraint"], site["high_per_kwh"]) == (one.constraint, one.high_per_kwh)
    assert site["price_per_kwh"] == found.price_per_kwh
    assert [offer["site_id"] for offer in site["next_kw"]] == [offer.site_id for offer in found.next_kw(5)]
    assert fleet["curve_kw"] == list(found.curve_kw)
    assert sum(fleet["stopped"].values()) == 24
    assert inside.json() == fleet
    assert [answer.status_code for answer in (before, split, nobody)] == [404, 404, 404]
    assert "no control cycle at" in before.json()["detail"]
    assert "without prices" in split.json()["detail"]


async def test_neither_the_utility_nor_another_tenant_sees_what_a_sites_energy_is_worth(
    store: Store, app: FastAPI, world: World
) -> None:
    """Holds conventions, rule 14."""
    await keep(store, world)
    other = await a_world(store, "south", sites=12)
    paths = (f"/api/v1/events/{world.running}/explanation", f"/operator/events/{world.running}/reasons")
    for who in (world.utility, world.owner, other.operator):
        async with browser(app) as client:
            await signed_in(client, who)
            for path in paths:
                answer = await client.get(path)
                assert answer.status_code in (403, 404), (who, path)
                assert "per_kwh" not in answer.text
    async with await machine(store, app, "south") as client:
        assert (await client.get(paths[0])).status_code == 404
