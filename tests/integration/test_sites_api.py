"""`/api/v1/sites` enrols by the same rules as a file, and shows nobody another one's sites."""

from typing import Any

import httpx
import pytest

from tests.builders import TENANT
from tests.builders_enrolment import TARIFF, site_entry
from tests.builders_telemetry import a_token, add_tenant, api_client, enrolled_sites
from tests.clock import FixedClock
from vpp.store.engine import Store


async def post(store: Store, clock: FixedClock, entries: Any) -> httpx.Response:
    headers = await a_token(store, "operate")
    async with api_client(store, clock) as client:
        return await client.post("/api/v1/sites", json=entries, headers=headers)


async def test_sites_are_enrolled_and_listed(store: Store, clock: FixedClock) -> None:
    await add_tenant(store)
    answer = await post(store, clock, [site_entry(2), site_entry(1)])
    assert (answer.status_code, answer.json()["created"]) == (201, ["site-002", "site-001"])
    async with api_client(store, clock) as client:
        listed = (await client.get("/api/v1/sites", headers=await a_token(store, "read"))).json()
    assert [site["site"] for site in listed] == ["site-001", "site-002"]
    assert listed[0]["peaks_so_far_kw"] == {"summer": 4.0}


@pytest.mark.parametrize(
    ("change", "field", "hint"),
    [
        ({"reserve_soc": 20}, "reserve_soc", "20 percent is written 0.2"),
        ({"reserve_soc": True}, "reserve_soc", "not true or false"),
        ({"color": "red"}, "color", "no such field"),
        ({"battery": {}}, "battery.max_charge_kw", "power in kW"),
        ({"tariff": TARIFF | {"energy": []}}, "tariff.energy", "at least one energy period"),
        ({"tariff": TARIFF | {"energy": [{"name": "a"}]}}, "tariff.energy.0.price_per_kwh", "whole currency units"),
        ({"peaks_so_far_kw": {}}, "peaks_so_far_kw", "summer=<kW>"),
    ],
)
async def test_a_bad_entry_refuses_all_and_is_named(
    store: Store, clock: FixedClock, change: dict[str, Any], field: str, hint: str
) -> None:
    await add_tenant(store)
    answer = await post(store, clock, [site_entry(1), site_entry(2, **change)])
    assert answer.status_code == 422
    problem = answer.json()["problems"][0]
    assert (problem["entry"], problem["field"]) == (1, field)
    assert hint in problem["allowed"]
    async with api_client(store, clock) as client:
        assert (await client.get("/api/v1/sites", headers=await a_token(store, "read"))).json() == []


@pytest.mark.parametrize("entries", [{}, [], [1], "x", [[]]])
async def test_what_is_no_list_of_sites_is_refused(store: Store, clock: FixedClock, entries: Any) -> None:
    await add_tenant(store)
    assert (await post(store, clock, entries)).status_code == 422


async def test_the_reserve_is_read_and_set_by_share(store: Store, clock: FixedClock) -> None:
    await enrolled_sites(store, 1)
    headers = await a_token(store, "operate")
    async with api_client(store, clock) as client:
        path = "/api/v1/sites/site-001/reserve"
        changed = await client.patch(path, json={"reserve_soc": 0.35}, headers=headers)
        assert (changed.status_code, changed.json()["reserve_soc"]) == (200, 0.35)
        read = (await client.get(path, headers=headers)).json()
        assert [change["reserve_soc"] for change in read["changes"]] == [0.35, 0.2]
        refused = await client.patch(path, json={"reserve_soc": 35}, headers=headers)
        assert refused.status_code == 422
        assert "35 percent is 0.35" in refused.json()["detail"]


async def test_another_tenants_sites_do_not_exist(store: Store, clock: FixedClock) -> None:
    """Holds conventions, rule 14."""
    await enrolled_sites(store, 1)
    await add_tenant(store, "other")
    headers = await a_token(store, "operate", "other")
    async with api_client(store, clock) as client:
        assert (await client.get("/api/v1/sites", headers=headers)).json() == []
        path = "/api/v1/sites/site-001/reserve"
        assert (await client.get(path, headers=headers)).status_code == 404
        assert (await client.patch(path, json={"reserve_soc": 0}, headers=headers)).status_code == 404
        mine = await client.get(path, headers=await a_token(store, "read", TENANT))
        assert mine.json()["reserve_soc"] == 0.2


async def test_reading_is_not_changing_and_no_token_is_neither(store: Store, clock: FixedClock) -> None:
    await enrolled_sites(store, 1)
    reads = await a_token(store, "read")
    async with api_client(store, clock) as client:
        assert (await client.get("/api/v1/sites")).status_code == 401
        assert (await client.post("/api/v1/sites", json=[site_entry(1)], headers=reads)).status_code == 403
        path = "/api/v1/sites/site-001/reserve"
        assert (await client.patch(path, json={"reserve_soc": 0}, headers=reads)).status_code == 403
