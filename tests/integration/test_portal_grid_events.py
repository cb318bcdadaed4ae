"""The operator composes, modifies and cancels events to those below us, by API and on pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from tests.builders_downstream import HOUR, add_tenant, an_event
from tests.builders_grid_events import (
    EVENT,
    SendingWorld,
    a_dispatch,
    a_sending_world,
    answered,
    reported,
    sending_portal,
    told,
)
from tests.builders_portal import NOW, START, browser, portal, signed_in
from tests.clock import FixedClock
from tests.integration.test_portal_pages import Inline
from vpp.bootstrap.translator import Translator
from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3 import ObjectDraft, ObjectKind
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import NewPeer, NobodyTold, add_peer, create_object, load_downstream, load_grid_event, on_received
from vpp.portal import create_token
from vpp.portal.local_time import TwiceOnTheClock, instant_of, typed
from vpp.portal.queries_downstream import report_powers
from vpp.portal.signals import SIGNALS, read_values, value_words
from vpp.store.engine import Store
from vpp.store.tables.openadr2_vtn import vtn2_opt

API = "/api/v1/grid-events"
PAGES = "/operator/grid-events"
BODY: dict[str, Any] = {
    "event_id": "mine", "program": "peak", "start_at": "2026-08-20T16:00:00-07:00", "comment": "hot",
    "series": [{"type": "DISPATCH_SETPOINT_RELATIVE", "unit": "KW", "intervals": [
        {"duration_s": 3600, "values": [-5]}, {"duration_s": 1800, "values": [-2.5]}]}],
    "targets": [{"kind": "group", "value": "north"}], "ramp_up_s": 600,
}  # fmt: skip


Scene = tuple[FastAPI, SendingWorld, dict[str, Peer]]


@pytest.fixture
async def scene(store: Store) -> Scene:
    world = await a_sending_world(store)
    return sending_portal(store, FixedClock(NOW)), world, world.peers


async def a_machine(store: Store, app: FastAPI, tenant_id: str, scope: str = "operate") -> httpx.AsyncClient:
    async with store.begin() as connection:
        token = await create_token(connection, tenant_id=tenant_id, label=scope, scope=scope, now=NOW)
    client = browser(app)
    client.headers.update({"authorization": f"Bearer {token}", "accept": "application/json"})
    return client


async def test_an_event_lives_its_life_by_api(store: Store, scene: Scene) -> None:
    app, world, _ = scene
    async with await a_machine(store, app, world.tenant_id) as client:
        made = await client.post(API, json=BODY)
        assert (made.status_code, made.headers["etag"]) == (201, '"0"')
        one = made.json()
        assert (one["status"], one["duration_s"], one["modification_number"]) == ("far", 5400.0, 0)
        assert [each["field"] for each in one["unsaid"]["openadr3"]] == ["ramp_up"]
        assert one["unsaid"]["openadr2"] == []
        assert one["openadr3_id"]
        again = await client.post(API, json=BODY)
        assert (again.status_code, again.json()) == (200, one)
        assert (await client.post(API, json=BODY | {"comment": "cold"})).status_code == 409
        changed = BODY | {"comment": "hotter"}
        assert (await client.put(f"{API}/mine", json=changed)).status_code == 428
        late = await client.put(f"{API}/mine", json=changed, headers={"if-match": '"7"'})
        assert (late.status_code, late.headers["content-type"]) == (412, "application/problem+json")
        put = await client.put(f"{API}/mine", json=changed, headers={"if-match": '"0"'})
        assert (put.status_code, put.headers["etag"], put.json()["comment"]) == (200, '"1"', "hotter")
        gone = await client.post(f"{API}/mine/cancel", json={"reason": "cool after all"})
        assert (gone.json()["status"], gone.json()["modification_reason"]) == ("cancelled", "cool after all")
        assert (await client.post(f"{API}/mine/cancel")).headers["etag"] == '"2"'
        refused = await client.put(f"{API}/mine", json=changed, headers={"if-match": '"2"'})
        assert refused.status_code == 409, "a cancelled event lives again only where that is said"
        back = await client.put(f"{API}/mine", json=changed | {"cancelled": False}, headers={"if-match": '"2"'})
        assert (back.json()["status"], back.headers["etag"]) == ("far", '"3"')
        read = await client.get(f"{API}/mine")
        assert read.json() == back.json()
        listed = (await client.get(API, params={"current": "true"})).json()
        assert (listed["total"], listed["items"][0]["event_id"]) == (1, "mine")
        await client.post(API, json=BODY | {"event_id": "http://utility/7"})
        address = f"{API}/http%3A%2F%2Futility%2F7"
        assert (await client.get(address)).json()["event_id"] == "http://utility/7"
        assert (await client.post(f"{address}/cancel")).json()["cancelled"] is True


LEVEL = {"type": "SIMPLE", "intervals": [{"duration_s": 1, "values": [1]}]}
NO_EVENTS: list[dict[str, Any]] = [
    {"series": []},
    {"start_at": "2026-08-20T16:00:00"},
    {"program": ""},
    {"priority": -1},
    {"event_id": "a\nb"},
    {"cancelled": True},
    {"extra": 1},
    {"series": [LEVEL | {"type": "OTHER"}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": None, "values": [1]}, {"duration_s": 1, "values": [1]}]}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": -1, "values": [1]}]}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": 1, "values": [10**400]}]}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": 1, "values": [4]}]}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": 1, "values": [1.5]}]}]},
    {"series": [LEVEL | {"intervals": [{"duration_s": 1, "values": [1, 2]}]}]},
    {"duration_s": 3600},
    {"targets": [{"kind": "ven", "value": "v" * 128}]},
]


async def test_what_is_no_event_is_a_problem(store: Store, scene: Scene) -> None:
    app, world, _ = scene
    async with await a_machine(store, app, world.tenant_id) as client:
        for broken in NO_EVENTS:
            answer = await client.post(API, json=BODY | broken)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), broken
        assert (await client.get(API)).json()["total"] == 0


async def test_only_the_operator_sends_events_and_tenants_do_not_meet(store: Store, scene: Scene) -> None:
    app, world, _ = scene
    async with await a_machine(store, app, world.tenant_id) as client:
        await client.post(API, json=BODY)
    async with await a_machine(store, app, world.tenant_id, "read") as reader:
        assert (await reader.get(f"{API}/mine")).status_code == 200
        assert (await reader.post(API, json=BODY)).status_code == 403
    await add_tenant(store, "south")
    async with await a_machine(store, app, "south") as stranger:
        assert (await stranger.get(f"{API}/mine")).status_code == 404
        assert (await stranger.post(f"{API}/mine/cancel")).status_code == 404
        assert (await stranger.get(API)).json()["total"] == 0
    async with browser(app) as client:
        assert (await client.get(PAGES)).status_code == 303
    async with await a_machine(store, portal(store, FixedClock(NOW)), world.tenant_id) as client:
        assert (await client.post(API, json=BODY)).status_code == 503, "without a translator nothing is told"


def a_form(page: str, **changes: Any) -> dict[str, Any]:
    """The form as a browser would send it, with changes."""
    hidden = {name: page.split(f'name="{name}" value="', 1)[1].split('"', 1)[0] for name in (
        "csrf_token", "event_id", "expected_number")}  # fmt: skip
    usual = {
        "program": "peak", "type": "DISPATCH_SETPOINT", "unit": "KW", "start": "2026-08-20T16:00",
        "minutes": ["60", "30", ""], "value": ["12", "8.5", ""], "target": ["group:north", "ven:ven-dairy"],
        "comment": "hot", "ramp_up_min": "10", "answer_wanted": "yes",
    }  # fmt: skip
    return hidden | usual | changes


async def test_an_event_lives_its_life_on_pages(store: Store, scene: Scene) -> None:
    app, world, _ = scene
    async with browser(app) as client:
        await signed_in(client, world.operator)
        blank = await client.get(f"{PAGES}/new")
        assert all(words in blank.text for words in ("barn", "dairy", "north", "America/Los_Angeles"))
        form = a_form(blank.text)
        shown = await client.post(f"{PAGES}/preview", data=form)
        assert "OpenADR 3 has no ramp-up" in shown.text
        assert "Says all of it." in shown.text
        sent = await client.post(f"{PAGES}/new", data=form)
        assert sent.status_code == 303
        assert (await client.post(f"{PAGES}/new", data=form)).headers["location"] == sent.headers["location"]
        opt = {"peer_id": world.peers["barn"].id, "opt_id": "o1", "opt_in": False, "reason": "mustRun", "targets": []}
        window = {"start_at": "2026-08-21T00:00:00Z", "end_at": "2026-08-21T01:00:00Z"}
        opt |= {"windows": [window], "device_class": [], "created_at": NOW, "received_at": NOW}
        async with store.begin() as connection:
            await connection.execute(insert(vtn2_opt).values(**opt))
        one = await client.get(sent.headers["location"])
        assert "barn declared to be away (mustRun)" in one.text
        assert all(words in one.text for words in ("Dispatch: consumption to hold, kW", "group north", "VEN ven-dairy"))
        async with store.begin() as connection:
            event = await load_grid_event(connection, form["event_id"], tenant_id=world.tenant_id)
        assert event.start_at == datetime(2026, 8, 20, 23, tzinfo=UTC)
        assert (event.duration, event.ramp_up) == (1.5 * HOUR, timedelta(minutes=10))
        edit = await client.get(f"{sent.headers['location']}/modify")
        change = a_form(edit.text, comment="hotter", reason="heat")
        changed = await client.post(f"{sent.headers['location']}/modify", data=change)
        assert changed.status_code == 303
        stale = await client.post(f"{sent.headers['location']}/modify", data=change | {"comment": "hottest"})
        assert stale.status_code == 422
        assert "read it again first" in stale.text
        csrf = {"csrf_token": form["csrf_token"]}
        assert (await client.post(f"{sent.headers['location']}/cancel", data=csrf)).status_code == 422
        gone = await client.post(f"{sent.headers['location']}/cancel", data=csrf | {"sure": "yes", "reason": "rain"})
        after = await client.get(gone.headers["location"])
        assert all(
            words in after.text
            for words in ("cancelled", "rain", "Version 2", "Call again", "<strong>comment</strong>")
        )
        again = a_form((await client.get(f"{gone.headers['location']}/modify")).text, comment="hot once more")
        assert (await client.post(f"{gone.headers['location']}/modify", data=again)).status_code == 303
        async with store.begin() as connection:
            assert not (await load_grid_event(connection, form["event_id"], tenant_id=world.tenant_id)).cancelled


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"start": "2026-03-08T02:30"}, "put forward"),
    ({"start": "2026-11-01T01:30"}, "Say which is meant"),
    ({"start": "soon"}, "A date and time"),
    ({"program": ""}, "market context"),
    ({"type": "NONSENSE"}, "A signal of the list"),
    ({"type": "OTHER", "name": ""}, "private type"),
    ({"value": ["", "", ""]}, "in interval 1"),
    ({"value": ["many", "1", ""]}, "A number in interval 1"),
    ({"minutes": ["", "", ""], "value": ["", "", ""]}, "At least one interval"),
    ({"minutes": ["0", "60", ""]}, "has no end"),
    ({"priority": "first"}, "whole number"),
    ({"ramp_up_min": "-1"}, "Minutes, 0 or more"),
    ({"target": ["planet:mars"]}, "Addressees of the list"),
    ({"resources": "r" * 200}, "128 characters"),
]


async def test_a_mistake_is_said_where_it_was_made_and_nothing_typed_is_lost(scene: Scene) -> None:
    app, world, _ = scene
    async with browser(app) as client:
        await signed_in(client, world.operator)
        blank = (await client.get(f"{PAGES}/new")).text
        for changes, words in MISTAKES:
            form = a_form(blank, comment="kept as typed", **changes)
            answer = await client.post(f"{PAGES}/new", data=form)
            assert answer.status_code == 422, words
            assert words in answer.text
            assert "kept as typed" in answer.text
        more = await client.post(f"{PAGES}/new", data=a_form(blank, more="yes"))
        assert (more.status_code, more.text.count('name="minutes"')) == (200, 7), "rows are added without scripts too"
        twice = a_form(blank, start="2026-11-01T01:30", start_fold="1")
        assert (await client.post(f"{PAGES}/new", data=twice)).status_code == 303


def test_the_clock_decides_which_instant_is_meant() -> None:
    zone = "America/Los_Angeles"
    assert instant_of("2026-08-20T16:00", zone, "start") == datetime(2026, 8, 20, 23, tzinfo=UTC)
    with pytest.raises(InvalidRequest, match="put forward"):
        instant_of("2026-03-08T02:30", zone, "start")
    with pytest.raises(TwiceOnTheClock):
        instant_of("2026-11-01T01:30", zone, "start")
    for fold, hour in (("0", 8), ("1", 9)):
        at = instant_of("2026-11-01T01:30", zone, "start", fold=fold)
        assert at == datetime(2026, 11, 1, hour, 30, tzinfo=UTC)
        assert typed(at, zone) == ("2026-11-01T01:30", fold)
    with pytest.raises(InvalidRequest, match="without a zone"):
        instant_of("2026-08-20T16:00Z", zone, "start")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", "-2.5"),
        ("text", "shed; standby"),
        ("list", "0.5; 1"),
        ("points", "0.95, 0.3; 1.05, -0.3"),
        ("any", "x"),
    ],
)
def test_values_are_read_as_they_are_written(kind: str, text: str) -> None:
    assert value_words(read_values(kind, text, "value")) == text
    assert {"number", "text", "list", "points", "any"} >= {signal.kind for signal in SIGNALS.values()}


async def test_the_page_holds_what_was_delivered_against_what_was_expected(store: Store, scene: Scene) -> None:
    app, world, peers = scene
    async with store.begin() as connection:
        await told(connection, world.tenant_id, a_dispatch(-5.0, -5.0, relative=True))
        await answered(connection, peers["barn"], EVENT)
        await answered(connection, peers["mill"], EVENT, opt_in=False, answer_reason="cows", answered_modification=0)
        await reported(connection, peers["barn"], {-4: 20, -3: 20, -2: 20, -1: 20, 0: 16, 1: 16, 2: 16, 3: 16})
    async with browser(app) as client:
        await signed_in(client, world.operator)
        page = await client.get(f"{PAGES}/event/{EVENT}")
    text = " ".join(page.text.split())
    assert all(words in text for words in ("opted in", "opted out", "cows", "against each VEN's mean over the hour"))
    barn = text.split("data-deliveries", 1)[1].split('data-label="VEN">barn', 1)[1].split("</tr>", 1)[0]
    assert "\u22125.00 kWh" in barn
    assert "\u22124.00 kWh" in barn
    assert "80.0" in barn
    assert "data-delivery" in text
    assert 'data-label="VEN">mill' not in text.split("data-deliveries", 1)[1]


async def test_reports_of_openadr3_count_as_delivered(store: Store, scene: Scene) -> None:
    app, world, peers = scene
    async with store.begin() as connection:
        await told(connection, world.tenant_id, a_dispatch(10.0, 10.0, targets=()))
        object_id = (await load_downstream(connection, EVENT, tenant_id=world.tenant_id)).openadr3_id
        body = {
            "eventID": object_id, "clientName": "dairy", "resources": [{
                "resourceName": "AGGREGATED_REPORT", "intervalPeriod": {"start": START.isoformat(), "duration": "PT1H"},
                "intervals": [{"id": 0, "payloads": [{"type": "USAGE", "values": [9.0]}]}]}],
        }  # fmt: skip
        draft = ObjectDraft(
            kind=ObjectKind.REPORT, tenant_id=world.tenant_id, body=body, client_id=peers["dairy"].client_id
        )
        await create_object(connection, draft, at=NOW, changes=NobodyTold())
    async with browser(app) as client:
        await signed_in(client, world.operator)
        text = " ".join((await client.get(f"{PAGES}/event/{EVENT}")).text.split())
    assert "1 report" in text
    dairy = text.split("data-deliveries", 1)[1].split('data-label="VEN">dairy', 1)[1].split("</tr>", 1)[0]
    assert "9.00 kWh" in dairy
    assert "90.0" in dairy


def test_powers_of_a_report_are_read_with_their_units_and_times() -> None:
    body = {"payloadDescriptors": [{"payloadType": "DEMAND", "units": "KW"}, {"payloadType": "USAGE", "units": "KVAH"}],
            "resources": [{"intervalPeriod": {"start": "2026-08-19T23:00:00Z", "duration": "PT15M"}, "intervals": [
                {"id": 0, "payloads": [{"type": "DEMAND", "values": [4]}, {"type": "USAGE", "values": [1]}]},
                {"id": 1, "payloads": [{"type": "DEMAND", "values": [5]}]},
                {"id": 2, "payloads": [{"type": "DEMAND", "values": ["MISSING"]}]}]}]}  # fmt: skip
    quarter = timedelta(minutes=15)
    found = report_powers(body, "v")
    assert [(each.start_at, each.end_at - each.start_at, each.power_kw) for each in found] == [
        (START, quarter, 4.0), (START + quarter, quarter, 5.0)
    ]  # fmt: skip


async def test_a_received_event_is_passed_on_with_a_click(store: Store, scene: Scene) -> None:
    app, world, _ = scene
    new = NewPeer(
        tenant_id=world.tenant_id, protocol=Protocol.OPENADR2, role=PeerRole.VTN, name="grid", url="https://vtn.example"
    )
    event = an_event("up", start_at=NOW + HOUR)
    async with store.begin() as connection:
        vtn, _ = await add_peer(connection, new, at=NOW)
        await on_received(connection, vtn, event, at=NOW, translator=Translator())
    async with browser(app) as client:
        await signed_in(client, world.operator)
        page = await client.get(PAGES)
        assert "Pass on to everybody" in page.text
        csrf = page.text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
        form = {"csrf_token": csrf, "source": vtn.id, "event_id": "up"}
        done = await client.post(f"{PAGES}/forward", data=form)
        assert done.headers["location"] == f"{PAGES}/event/up%40grid"
        assert "passed on from above" in (await client.get(done.headers["location"])).text
        assert "up@grid" in (await client.get(PAGES)).text


async def test_every_page_of_it_is_safe_to_load(store: Store, scene: Scene) -> None:
    app, world, peers = scene
    async with store.begin() as connection:
        await told(connection, world.tenant_id, a_dispatch(10.0, 10.0, comment="<script>alert(1)</script>"))
        await told(connection, world.tenant_id, an_event("several", series=a_dispatch(1.0).series * 2, duration=None))
        await answered(connection, peers["barn"], EVENT)
    async with browser(app) as client:
        await signed_in(client, world.operator)
        for path in ("", "?offset=50", "/new", f"/event/{EVENT}", f"/event/{EVENT}/modify", "/event/several"):
            page = await client.get(f"{PAGES}{path}")
            assert page.status_code == 200, path
            inline = Inline()
            inline.feed(page.text)
            assert inline.found == [], path
            assert "<script>alert" not in page.text
        assert (await client.get(f"{PAGES}/event/several/modify")).status_code == 409
        assert (await client.get(f"{PAGES}/event/none")).status_code == 404
