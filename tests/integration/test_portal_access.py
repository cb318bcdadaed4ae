"""Every route lets in only whom it is for, and another tenant's, programme's or owner's things do not exist."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import update

from tests.builders_portal import MONTH, NOW, World, a_world, browser, portal, signed_in
from tests.clock import FixedClock
from vpp.bootstrap.translator import Translator
from vpp.peering import NobodyTold
from vpp.portal import create_token
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

EVERYBODY = {"operator", "utility", "owner", "operate", "telemetry", "read", ""}
STAFF = {"operator", "operate", "read"}
ACCESS: dict[str, set[str]] = {
    "GET /": EVERYBODY,
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": EVERYBODY,
    "GET /sign-in": EVERYBODY,
    "POST /sign-in": EVERYBODY,
    "POST /sign-out": EVERYBODY,
    "GET /operator": {"operator"},
    "GET /operator/fleet": {"operator"},
    "GET /operator/signals": {"operator"},
    "GET /operator/events/{event_id}": {"operator"},
    "GET /operator/events/{event_id}/live": {"operator"},
    "GET /operator/events/{event_id}/reasons": {"operator"},
    "GET /operator/peers": {"operator"},
    "GET /operator/peers/new": {"operator"},
    "POST /operator/peers/new": {"operator"},
    "GET /operator/peers/{peer_id}": {"operator"},
    "POST /operator/peers/{peer_id}/revoke": {"operator"},
    "POST /operator/peers/{peer_id}/secret": {"operator"},
    "GET /operator/messages": {"operator"},
    "GET /operator/messages/{message_id}": {"operator"},
    "GET /operator/grid-events": {"operator"},
    "GET /operator/grid-events/new": {"operator"},
    "POST /operator/grid-events/new": {"operator"},
    "POST /operator/grid-events/preview": {"operator"},
    "POST /operator/grid-events/forward": {"operator"},
    "GET /operator/grid-events/event/{event_id:path}": {"operator"},
    "GET /operator/grid-events/event/{event_id:path}/modify": {"operator"},
    "POST /operator/grid-events/event/{event_id:path}/modify": {"operator"},
    "POST /operator/grid-events/event/{event_id:path}/cancel": {"operator"},
    "GET /utility": {"utility"},
    "GET /utility/events/{event_id}": {"utility"},
    "GET /utility/events/{event_id}/report.csv": {"utility"},
    "GET /owner": {"owner"},
    "PATCH /owner/sites/{site_id}/reserve": {"owner"},
    "GET /owner/sites/{site_id}/statements/{month}": {"owner"},
    "GET /owner/sites/{site_id}/statements/{month}.csv": {"owner"},
    "GET /api/v1/events": STAFF | {"utility"},
    "GET /api/v1/events/{event_id}": STAFF | {"utility"},
    "GET /api/v1/events/{event_id}/explanation": STAFF,
    "GET /api/v1/events/{event_id}/sites/{site_id}/explanation": STAFF,
    "GET /api/v1/ledger/trial-balance": STAFF,
    "GET /api/v1/statements/{site_id}/{month}": STAFF | {"owner"},
    "GET /api/v1/statements/{site_id}/{month}.csv": STAFF | {"owner"},
    "GET /api/v1/sites": STAFF | {"owner"},
    "POST /api/v1/sites": {"operator", "operate"},
    "GET /api/v1/sites/{site_id}/reserve": STAFF | {"owner"},
    "PATCH /api/v1/sites/{site_id}/reserve": {"operator", "owner", "operate"},
    "GET /api/v1/peers": STAFF,
    "POST /api/v1/peers": {"operator", "operate"},
    "GET /api/v1/peers/messages": STAFF,
    "GET /api/v1/peers/messages/{message_id}": STAFF,
    "GET /api/v1/peers/{peer_id}": STAFF,
    "PATCH /api/v1/peers/{peer_id}": {"operator", "operate"},
    "POST /api/v1/peers/{peer_id}/rotate-secret": {"operator", "operate"},
    "DELETE /api/v1/peers/{peer_id}": {"operator", "operate"},
    "GET /api/v1/peers/{peer_id}/reports": STAFF,
    "POST /api/v1/peers/{peer_id}/reports": {"operator", "operate"},
    "DELETE /api/v1/peers/{peer_id}/reports/{report_request_id}": {"operator", "operate"},
    "POST /api/v1/peers/{peer_id}/reregister": {"operator", "operate"},
    "POST /api/v1/peers/{peer_id}/end-registration": {"operator", "operate"},
    "GET /api/v1/grid-events": STAFF,
    "POST /api/v1/grid-events": {"operator", "operate"},
    "GET /api/v1/grid-events/{event_id:path}": STAFF,
    "PUT /api/v1/grid-events/{event_id:path}": {"operator", "operate"},
    "POST /api/v1/grid-events/{event_id:path}/cancel": {"operator", "operate"},
    "POST /api/v1/telemetry": {"telemetry"},
}
"""Who may use each route: roles of people, scopes of tokens, or "" for nobody in particular."""
WITH_ID = sorted(route for route in ACCESS if "{" in route)
GRID_EVENT = {
    "program": "p",
    "start_at": "2026-08-20T16:00:00Z",
    "series": [{"type": "SIMPLE", "intervals": [{"duration_s": 3600, "values": [1]}]}],
}
FORMS = {f"POST /operator/grid-events/event/{{event_id:path}}/{what}" for what in ("cancel", "modify")}
"""A form that is not filled in is refused before anybody looks for what it is about; their own tests fill them in."""
STREAMS = ("GET /operator/events/{event_id}/live",)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=6)


@pytest.fixture
def app(store: Store) -> FastAPI:
    return portal(store, FixedClock(NOW), translator=Translator(), changes=NobodyTold())


class Visitors:
    """One client for each role and scope, signed in once."""

    def __init__(self, store: Store, app: FastAPI, world: World) -> None:
        self.store, self.app, self.world = store, app, world
        self.known: dict[str, httpx.AsyncClient] = {}

    async def client(self, who: str) -> httpx.AsyncClient:
        """A new client with credentials made once: signing in takes its time on purpose."""
        if who not in self.known:
            self.known[who] = await self._credentials(who)
        client = browser(self.app)
        client.headers.update(self.known[who].headers)
        client.cookies.update(self.known[who].cookies)
        return client

    async def _credentials(self, who: str) -> httpx.AsyncClient:
        client = browser(self.app)
        client.headers["accept"] = "application/json"
        if who in ("operator", "utility", "owner"):
            answer = await signed_in(client, getattr(self.world, who))
            assert answer.status_code == 303
            page = await client.get(f"/{who}", headers={"accept": "text/html"})
            client.headers["x-csrf-token"] = page.text.split('"x-csrf-token": "')[1].split('"')[0]
        elif who:
            async with self.store.begin() as connection:
                token = await create_token(connection, tenant_id=self.world.tenant_id, label="test", scope=who, now=NOW)
            client.headers["authorization"] = f"Bearer {token}"
        return client


@pytest.fixture
async def visitors(store: Store, app: FastAPI, world: World) -> Visitors:
    return Visitors(store, app, world)


def _routes(app: FastAPI) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        if route.path not in ("/static", "/api/v1/openapi.json"):
            yield from (f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"})


def _filled(route: str, event_id: object, site_id: object) -> tuple[str, str]:
    method, path = route.split(" ")
    filled = (
        path.replace("{event_id}", str(event_id))
        .replace("{event_id:path}", "nobody's")
        .replace("{site_id}", str(site_id))
        .replace("{month}", MONTH)
    )
    return method, filled.replace("{peer_id}", "nobody").replace("{message_id}", "7")


async def _ask(client: httpx.AsyncClient, route: str, event_id: object, site_id: object) -> int:
    method, path = _filled(route, event_id, site_id)
    if method == "PATCH" and path.startswith("/owner"):
        return (await client.request(method, path, data={"reserve_percent": "30"})).status_code
    changed = {"groups": []} if "/peers/" in path else {"reserve_soc": 0.3}
    body = {"PATCH": changed, "PUT": GRID_EVENT}.get(method)
    if path.endswith("/reports"):
        body = {"specifier_id": "METADATA"}
    return (await client.request(method, path, json=body, headers={"if-match": '"0"'})).status_code


def test_every_route_says_who_may_use_it(app: FastAPI) -> None:
    assert set(_routes(app)) == set(ACCESS)


@pytest.mark.parametrize("who", sorted(EVERYBODY))
async def test_a_route_lets_in_only_whom_it_is_for(visitors: Visitors, world: World, who: str) -> None:
    wrong = {}
    for route, allowed in ACCESS.items():
        if (who in allowed and route in STREAMS) or route in ("POST /sign-in", "POST /sign-out"):
            continue
        async with await visitors.client(who) as client:
            status = await _ask(client, route, world.running, world.sites[0])
        refused = status in (401, 403)
        if status >= 500 or refused == (who in allowed) or (not who and refused and status != 401):
            wrong[route] = status
    assert wrong == {}


@pytest.mark.parametrize("who", ["operator", "utility", "owner", "operate"])
async def test_what_belongs_to_another_tenant_does_not_exist(store: Store, visitors: Visitors, who: str) -> None:
    other = await a_world(store, "south", sites=6)
    found = {}
    for route in WITH_ID:
        if who not in ACCESS[route] or route in FORMS:
            continue
        async with await visitors.client(who) as client:
            status = await _ask(client, route, other.running, other.sites[0])
        if status != 404:
            found[route] = status
    assert found == {}


async def test_an_owner_has_only_the_own_sites(visitors: Visitors, world: World) -> None:
    found = {}
    for route in WITH_ID:
        if "owner" in ACCESS[route] and "{site_id}" in route:
            async with await visitors.client("owner") as client:
                status = await _ask(client, route, world.running, world.sites[1])
            if status != 404:
                found[route] = status
    assert found == {}
    async with await visitors.client("owner") as client:
        page = await client.get("/owner", headers={"accept": "text/html"})
        listed = (await client.get("/api/v1/sites")).json()
    assert "1 Alder Street" in page.text
    assert "2 Alder Street" not in page.text
    assert [site["site"] for site in listed] == [world.sites[0]]


async def test_a_utility_has_only_the_own_programme(store: Store, visitors: Visitors) -> None:
    await a_world(store, "coned", sites=6, program="coned_csrp")
    async with store.begin() as connection:
        await connection.execute(
            update(commitment).where(commitment.c.id == visitors.world.coming).values(program="coned_csrp")
        )
    async with await visitors.client("utility") as client:
        events = (await client.get("/api/v1/events")).json()
        foreign = await client.get(f"/utility/events/{visitors.world.coming}")
    assert {event["program"] for event in events["items"]} == {"elrp"}
    assert events["total"] == 3
    assert foreign.status_code == 404


async def test_an_id_nobody_has_is_not_found_and_a_strange_one_not_acceptable(visitors: Visitors) -> None:
    async with await visitors.client("operator") as client:
        assert (await client.get(f"/api/v1/events/{uuid4()}")).status_code == 404
        assert (await client.get("/api/v1/events/1")).status_code == 422
        assert (await client.get("/api/v1/statements/north-001/2026-13")).status_code == 422


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "offset=-1", "offset=100001", "state=asleep"])
async def test_a_list_has_bounds(visitors: Visitors, query: str) -> None:
    async with await visitors.client("read") as client:
        assert (await client.get(f"/api/v1/events?{query}")).status_code == 422


async def test_a_list_is_cut_into_parts(visitors: Visitors) -> None:
    async with await visitors.client("read") as client:
        first = (await client.get("/api/v1/events?limit=3")).json()
        rest = (await client.get("/api/v1/events?limit=3&offset=3")).json()
    names = [event["external_id"] for event in first["items"] + rest["items"]]
    assert names == ["EVT-0821", "EVT-0819", "EVT-0816", "EVT-0812"]
    assert first["total"] == rest["total"] == 4
