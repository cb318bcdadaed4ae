"""The operator's pages and routes about peers and the message log.

Goal: peers are added, watched and ended here as on the command line, a secret is shown once, and nobody else gets
in. Method: the real application on a real PostgreSQL, asked as a browser and as a machine would.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from tests.builders_peering import certificate, stored_peer
from tests.builders_portal import NOW, add_account, browser, portal, signed_in
from tests.clock import FixedClock
from tests.integration.test_portal_pages import Inline
from vpp.config import Settings
from vpp.domain.openadr2 import PointOffer, ReportDemand, ReportOffer
from vpp.domain.peer import Direction, Peer, PeerRole, Protocol
from vpp.peering import OwnAuthority, SqlMessageLog, add_demand, certificate_fingerprint, list_peers, note_standing
from vpp.portal import create_token
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.gateway import openadr2_registration
from vpp.store.tables.notifications import notification_channel
from vpp.store.tables.openadr2_vtn import vtn2_registration, vtn2_report_offer

PEERS = "/operator/peers"
MESSAGES = "/operator/messages"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
async def app(store: Store, clock: FixedClock) -> FastAPI:
    async with store.begin() as connection:
        for name in ("default", "other"):
            await connection.execute(insert(tenant).values(id=name, name=name))
    return portal(store, clock)


@asynccontextmanager
async def operator(app: FastAPI, name: str = "default") -> AsyncIterator[httpx.AsyncClient]:
    store: Store = app.state.context.store
    email = f"operator@{name}.example"
    async with store.begin() as connection:
        await add_account(connection, tenant_id=name, email=email, role="operator")
    async with browser(app) as client:
        assert (await signed_in(client, email)).status_code == 303
        yield client


async def machine(app: FastAPI, store: Store, scope: str, tenant_id: str = "default") -> httpx.AsyncClient:
    async with store.begin() as connection:
        token = await create_token(connection, tenant_id=tenant_id, label=scope, scope=scope, now=NOW)
    client = browser(app)
    client.headers.update({"authorization": f"Bearer {token}", "accept": "application/json"})
    return client


async def send(client: httpx.AsyncClient, path: str, page: str, **fields: str) -> httpx.Response:
    """Send the form of a page, with the token it was given."""
    form = (await client.get(page)).text
    found = re.search(r'name="csrf_token" value="(\w+)"', form)
    assert found is not None
    return await client.post(path, data={"csrf_token": found[1], **fields})


async def only_peer(store: Store) -> Peer:
    async with store.begin() as connection:
        (peer,) = await list_peers(connection, tenant_id="default")
    return peer


def noted(log: SqlMessageLog, kind: str, **changes: Any) -> None:
    fields: dict[str, Any] = {"protocol": Protocol.OPENADR3, "direction": Direction.IN, "status": "200"}
    log.note(kind=kind, **(fields | changes))


async def test_a_client_that_is_added_gets_its_secret_on_one_page_only_until_it_is_revoked(
    store: Store, clock: FixedClock, app: FastAPI
) -> None:
    async with operator(app) as client:
        assert "No peer yet" in (await client.get(PEERS)).text
        made = await send(
            client, f"{PEERS}/new", f"{PEERS}/new", kind="openadr3-ven", name="site-1", targets="north\n\neast \n"
        )
        peer = await only_peer(store)
        secret = re.findall(r'Client secret</dt><dd class="ids">([\w-]{40,})<', made.text)[0]
        authority = OwnAuthority(store, clock, Settings())
        assert await authority.grant(peer.client_id or "", secret, None) is not None
        assert peer.granted_targets == ("north", "east")
        path = f"{PEERS}/{peer.id}"
        shown = (await client.get(path)).text
        assert secret not in shown
        assert peer.client_id in shown
        turned = await send(client, f"{path}/secret", path)
        fresh = re.findall(r'Client secret</dt><dd class="ids">([\w-]{40,})<', turned.text)[0]
        assert await authority.grant(peer.client_id or "", secret, None) is None
        assert await authority.grant(peer.client_id or "", fresh, None) is not None
        assert (await send(client, f"{path}/revoke", path)).status_code == 303
        assert "revoked" in (await client.get(path)).text
        assert await authority.grant(peer.client_id or "", fresh, None) is None
        assert "site-1" not in (await client.get(PEERS)).text
        assert "site-1" in (await client.get(f"{PEERS}?revoked=true")).text


async def test_a_mistake_brings_the_form_back_with_what_was_filled_in(store: Store, app: FastAPI) -> None:
    await stored_peer(store, "taken")
    cases: list[tuple[dict[str, str], int, str]] = [
        ({"kind": "openadr3-ven", "name": "<script>"}, 422, "&lt;script&gt;"),
        ({"kind": "openadr3-ven", "name": "taken"}, 409, "named taken already"),
        ({"kind": "openadr2-vtn", "name": "u", "url": "http://vtn.example"}, 422, "url"),
        ({"kind": "openadr2-vtn", "name": "u", "url": "https://v.example", "programs": "elrp"}, 422, "programs"),
        ({"kind": "openadr2-vtn", "name": "u", "url": "https://v.example", "poll_s": "soon"}, 422, "poll_s"),
        ({"kind": "openadr2-ven", "name": "v", "certificate": "x"}, 422, "certificate"),
        ({"kind": "openadr9-ven", "name": "v"}, 422, "kind"),
    ]
    async with operator(app) as client:
        for fields, status, said in cases:
            answer = await send(client, f"{PEERS}/new", f"{PEERS}/new", **fields)
            assert answer.status_code == status, fields
            assert said in answer.text
            assert "<script>" not in answer.text
        assert (
            'value="https://v.example"'
            in (
                await send(
                    client, f"{PEERS}/new", f"{PEERS}/new", kind="openadr2-vtn", name="u v", url="https://v.example"
                )
            ).text
        )
    assert (await only_peer(store)).name == "taken"


async def test_a_utility_is_added_with_everything_that_belongs_to_it(store: Store, app: FastAPI) -> None:
    async with operator(app) as client:
        await send(
            client, f"{PEERS}/new", f"{PEERS}/new", kind="openadr2-vtn", name="utility", url="https://vtn.example/x",
            programs="http://utility.example/peak?a=1 = elrp", poll_s="30", cert_name="u.pem", key_name="u-key.pem",
            sign="yes", forward="yes", ven_name="us", targets="north",
        )  # fmt: skip
        peer = await only_peer(store)
        shown = (await client.get(f"{PEERS}/{peer.id}")).text
    assert peer.config == {
        "programs": {"http://utility.example/peak?a=1": "elrp"}, "poll_s": 30.0, "cert_name": "u.pem",
        "key_name": "u-key.pem", "sign": True, "forward": True, "ven_name": "us", "targets": ["north"],
    }  # fmt: skip
    assert "https://vtn.example/x" in shown


async def test_a_2_0b_ven_is_told_how_to_register_and_shown_as_it_stands(
    store: Store, clock: FixedClock, app: FastAPI
) -> None:
    pem, _ = certificate("site")
    async with operator(app) as client:
        await send(
            client, f"{PEERS}/new", f"{PEERS}/new", kind="openadr2-ven", name="site", party_id="VEN7",
            certificate=pem.decode(), groups="north",
        )  # fmt: skip
        peer = await only_peer(store)
        assert peer.fingerprint == certificate_fingerprint(pem)
        page = (await client.get(f"{PEERS}/{peer.id}")).text
        assert "EiRegisterParty" in page
        assert "not registered" in page
        async with store.begin() as connection:
            await connection.execute(
                insert(vtn2_registration).values(
                    peer_id=peer.id, tenant_id="default", ven_id="VEN7", registration_id="r", profile="2.0b",
                    transport="simpleHttp", report_only=False, xml_signature=False, http_pull=True,
                    registered_at=NOW - timedelta(days=1), seen_at=NOW - timedelta(minutes=5),
                )
            )  # fmt: skip
        log = SqlMessageLog(store, FixedClock(NOW - timedelta(minutes=3)))
        noted(log, "oadrPoll", protocol=Protocol.OPENADR2, peer="VEN7")
        await log.flush()
        page = (await client.get(f"{PEERS}/{peer.id}")).text
        assert '<span class="pill state">registered</span>' in page
        assert page.count("3 min ago") == 2
        assert "oadrPoll" in page


async def test_broken_callbacks_of_a_client_are_said(store: Store, app: FastAPI) -> None:
    peer, _ = await stored_peer(store, "site")
    async with store.begin() as connection:
        await connection.execute(
            insert(notification_channel).values(
                id="c", tenant_id="default", subscription_id="s", client_id=peer.client_id,
                callback_url="https://a.example",
                api_version="3.1.0", wants=[], created_at=NOW, next_attempt_at=NOW, failures=9, broken_at=NOW,
                gone=False, ending=False,
            )
        )  # fmt: skip
    async with operator(app) as client:
        for path in (PEERS, f"{PEERS}/{peer.id}"):
            assert "1 of its callbacks is broken" in (await client.get(path)).text


async def test_the_log_is_searched_paged_and_opened_redacted(store: Store, clock: FixedClock, app: FastAPI) -> None:
    peer, _ = await stored_peer(store, "site")
    log = SqlMessageLog(store, FixedClock(NOW - timedelta(hours=2)))
    for number in range(60):
        noted(log, f"POST /reports {number:02}", peer=peer.id, body='{"client_secret": "hunter2", "a": [1]}')
    noted(log, "oadrPoll", protocol=Protocol.OPENADR2, status="452", peer="VENx", summary="<b>unknown</b>")
    await log.flush()
    async with operator(app) as client:
        whole = (await client.get(MESSAGES)).text
        assert "oadrPoll" in whole
        assert "<b>unknown</b>" not in whole
        older = re.findall(r'href="([^"]*before=[^"]*)"', whole)[0].replace("&amp;", "&")
        assert "POST /reports 59" in whole
        second = (await client.get(older)).text
        assert "POST /reports 00" in second
        assert "POST /reports 59" not in second
        narrow = await client.get(MESSAGES, params={"search": "unknown", "status": "4"}, headers={"hx-request": "true"})
        assert "<html" not in narrow.text
        assert ("oadrPoll" in narrow.text, "POST" in narrow.text) == (True, False)
        assert "VENx" in whole
        assert "VENx" not in (await client.get(MESSAGES, params={"peer": peer.id})).text
        assert "No message" in (await client.get(MESSAGES, params={"within": "1h"})).text
        opened = re.findall(r'hx-get="(/operator/messages/\d+)"', whole)[1]
        part = (await client.get(opened, headers={"hx-request": "true"})).text
        assert "&#34;a&#34;: [\n    1\n  ]" in part
        assert "hunter2" not in part
        assert "***" in (await client.get(opened)).text
        for wrong in ({"direction": "up"}, {"within": "9y"}, {"search": "\0"}, {"before": "-1"}):
            answer = await client.get(MESSAGES, params=wrong)
            assert (answer.status_code, "hunter2" in answer.text) == (422 if "search" not in wrong else 200, False)
        assert (await client.get(MESSAGES, params={"peer": "nobody\0"})).status_code == 404
        assert (await client.get(f"{MESSAGES}/999999")).status_code == 404
        assert (await client.get(f"{MESSAGES}/{2**70}")).status_code == 422


async def test_pages_have_nothing_inline(store: Store, app: FastAPI) -> None:
    peer, _ = await stored_peer(store, "site")
    log = SqlMessageLog(store, FixedClock(NOW))
    noted(log, "GET /events", peer=peer.id)
    await log.flush()
    async with operator(app) as client:
        for path in (PEERS, f"{PEERS}/new", f"{PEERS}/{peer.id}", MESSAGES):
            answer = await client.get(path)
            assert answer.status_code == 200
            inline = Inline()
            inline.feed(answer.text)
            assert inline.found == []


async def test_nobody_sees_or_changes_another_tenants_peers(store: Store, app: FastAPI) -> None:
    peer, _ = await stored_peer(store, "site")
    log = SqlMessageLog(store, FixedClock(NOW))
    noted(log, "GET /secret-plans", peer=peer.id)
    await log.flush()
    async with operator(app, "other") as client:
        assert "site" not in (await client.get(PEERS)).text.split("<main", 1)[1].replace("off-site", "")
        assert "secret-plans" not in (await client.get(MESSAGES)).text
        assert (await client.get(f"{PEERS}/{peer.id}")).status_code == 404
        assert (await client.get(f"{MESSAGES}/1")).status_code == 404
        for what in ("revoke", "secret"):
            assert (await send(client, f"{PEERS}/{peer.id}/{what}", PEERS)).status_code == 404
        assert (await client.post(f"{PEERS}/{peer.id}/revoke")).status_code == 403  # without the page's token
    async with browser(app) as nobody:
        assert (await nobody.get(PEERS)).status_code == 303
        assert (await nobody.get("/api/v1/peers")).status_code == 401
    async with await machine(app, store, "operate", "other") as client:
        assert (await client.get("/api/v1/peers")).json()["total"] == 0
        assert (await client.delete(f"/api/v1/peers/{peer.id}")).status_code == 404
        assert (await client.patch(f"/api/v1/peers/{peer.id}", json={"groups": []})).status_code == 404
    assert (await only_peer(store)).revoked_at is None


async def test_a_machine_adds_changes_reads_and_ends_peers(store: Store, clock: FixedClock, app: FastAPI) -> None:
    api = "/api/v1/peers"
    async with await machine(app, store, "operate") as client:
        new = {"protocol": "openadr3", "role": "bl", "name": "grid", "config": {"note": "x"}}
        made = await client.post(api, json=new)
        assert made.status_code == 201
        peer = made.json()
        assert peer["url"] == "http://127.0.0.1:8000/openadr3/3.1.0"
        authority = OwnAuthority(store, clock, Settings())
        assert await authority.grant(peer["client_id"], peer["client_secret"], None) is not None
        assert (await client.post(api, json=new)).status_code == 409
        assert (await client.post(api, json=new | {"name": "a b"})).json()["field"] == "name"
        assert (await client.post(api, json=new | {"secret_hash": "x"})).status_code == 422
        changed = await client.patch(f"{api}/{peer['id']}", json={"groups": ["north"], "config": None})
        assert (changed.json()["groups"], changed.json()["config"]) == (["north"], {})
        fresh = (await client.post(f"{api}/{peer['id']}/rotate-secret")).json()["client_secret"]
        assert fresh != peer["client_secret"]
    log = SqlMessageLog(store, clock)
    noted(log, "POST /events", peer=peer["client_id"], body="{}")
    noted(log, "oadrPoll", protocol=Protocol.OPENADR2, peer="VEN1")
    await log.flush()
    async with await machine(app, store, "read") as client:
        listed = (await client.get(api, params={"role": "bl"})).json()
        assert (listed["total"], listed["items"][0]["state"]["last_heard_at"]) == (
            1,
            NOW.isoformat().replace("+00:00", "Z"),
        )
        assert listed["items"][0]["client_secret"] is None
        shown = (await client.get(f"{api}/{peer['id']}")).json()
        assert "client_secret" not in str({key: value for key, value in shown.items() if value is not None})
        found = (await client.get(f"{api}/messages", params={"peer": peer["id"], "limit": 1})).json()
        assert [each["kind"] for each in found["items"]] == ["POST /events"]
        assert (await client.get(f"{api}/messages/{found['items'][0]['id']}")).json()["body"] == "{}"
        assert (await client.get(f"{api}/messages", params={"since": "2026-08-19T12:00:00"})).status_code == 422
        assert (await client.delete(f"{api}/{peer['id']}")).status_code == 403
        assert (await client.post(api, json=new)).status_code == 403
    async with await machine(app, store, "telemetry") as client:
        assert (await client.get(api)).status_code == 403
    async with await machine(app, store, "operate") as client:
        assert (await client.delete(f"{api}/{peer['id']}")).status_code == 204
        assert (await client.get(api)).json()["total"] == 0
        assert (await client.get(api, params={"revoked": "true"})).json()["total"] == 1


async def test_a_registered_vtn_above_us_is_shown_so_with_the_reports_it_offers(store: Store, app: FastAPI) -> None:
    peer, _ = await stored_peer(
        store, "utility", protocol=Protocol.OPENADR2, role=PeerRole.VTN, url="https://vtn.example"
    )
    async with store.begin() as connection:
        await connection.execute(
            insert(openadr2_registration).values(
                source="openadr2:utility", ven_id="v", registration_id="r", poll_interval_s=10, registered_at=NOW
            )
        )
        point = PointOffer(r_id="spec/p1", report_type="usage", reading_type="Direct Read", unit="kW")
        offer = ReportOffer(
            specifier_id="vpp-received-history", name="METADATA_HISTORY_USAGE", points=(point,), created_at=NOW
        )
        await connection.execute(
            insert(vtn2_report_offer).values(
                peer_id=peer.id, specifier_id=offer.specifier_id, offer=msgspec.to_builtins(offer), offered_at=NOW
            )
        )
        demand = ReportDemand(
            report_request_id="r1", specifier_id="vpp-received-history", points=(("spec/p1", "Direct Read"),),
            granularity=timedelta(0), back=timedelta(0),
        )  # fmt: skip
        await add_demand(connection, peer.id, demand, at=NOW)
    async with await machine(app, store, "read") as client:
        assert (await client.get(f"/api/v1/peers/{peer.id}")).json()["state"]["words"] == "registered"
        await note_standing(store, peer.id, None, at=NOW)
        told = (await client.get(f"/api/v1/peers/{peer.id}")).json()["state"]
        assert (told["words"], told["trouble"]) == ("registered", None)
        assert told["stands_since_at"] == NOW.isoformat().replace("+00:00", "Z")
    async with operator(app) as client:
        assert "connected since" in (await client.get(PEERS)).text
        await note_standing(store, peer.id, "not reached: <b>no route</b>", at=NOW)
        for path in (PEERS, f"{PEERS}/{peer.id}"):
            shown = (await client.get(path)).text
            assert "not reached: &lt;b&gt;no route&lt;/b&gt;" in shown
            assert "in trouble" in shown
            assert "connected since" not in shown
    async with await machine(app, store, "read") as client:
        told = (await client.get("/api/v1/peers")).json()["items"][0]["state"]
        assert (told["words"], told["trouble"]) == ("in trouble", "not reached: <b>no route</b>")
    assert "It offers" in shown
    assert "HISTORY_USAGE" in shown
    assert "spec/p1" in shown
    assert "nothing came" in shown
