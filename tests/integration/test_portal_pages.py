"""Pages are safe to load, say what is in the tables, and health tells the truth."""

import asyncio
import csv
import io
import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, insert, update

from tests.builders_portal import NOW, START, World, a_world, add_cycle, add_readings, browser, portal, signed_in
from tests.clock import FixedClock
from vpp.domain.errors import NotReady
from vpp.portal import live
from vpp.portal.app import require_bundle
from vpp.portal.live import LiveFeeds
from vpp.portal.security import SECURITY_HEADERS
from vpp.store.engine import Store
from vpp.store.tables import commitments, telemetry


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=12)


@pytest.fixture
def app(store: Store, clock: FixedClock) -> FastAPI:
    return portal(store, clock)


class Inline(HTMLParser):
    """Collects what a strict policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if (tag == "script" and "src" not in named) or tag == "style" or "style" in named:
            self.found.append(f"inline {tag}")
        self.found += [f"{name} on {tag}" for name in named if re.match(r"on|hx-on|hx-vals", name)]
        for name in ("src", "href", "action"):
            if (named.get(name) or "/").startswith(("http:", "https:", "//", "javascript:", "data:")):
                self.found.append(f"{tag} {named[name]}")


async def pages(app: FastAPI, world: World) -> dict[str, httpx.Response]:
    """Every page there is, as its reader gets it."""
    events = (world.running, world.settled, world.coming, world.declined)
    own = f"/owner/sites/{world.sites[0]}/statements"
    paths = {
        "": ["/sign-in", "/no-such-page"],
        world.operator: [
            *("/operator", "/operator?offset=50", "/operator/fleet"),
            *("/operator/fleet?search=zzz", "/operator/fleet?search=tesla"),
            *(f"/operator/events/{event}" for event in events),
        ],
        world.utility: ["/utility", *(f"/utility/events/{event}" for event in events)],
        world.owner: ["/owner", f"{own}/2026-08", f"{own}/2026-07"],
    }
    found = {}
    for who, listed in paths.items():
        async with browser(app) as client:
            if who:
                await signed_in(client, who)
            for path in listed:
                found[path] = await client.get(path)
    return found


async def test_no_page_needs_anything_the_policy_forbids(app: FastAPI, world: World) -> None:
    for path, answer in (await pages(app, world)).items():
        parser = Inline()
        parser.feed(answer.text)
        assert parser.found == [], path
        assert answer.status_code == (404 if "no-such" in path else 200), path
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, path
        assert answer.headers["cache-control"] == "no-store", path
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


async def test_an_unexpected_error_says_nothing_of_the_inside(app: FastAPI, world: World) -> None:
    @app.get("/api/v1/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    async with browser(app) as client:
        answer = await client.get("/api/v1/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert answer.headers["content-security-policy"] == SECURITY_HEADERS["content-security-policy"]


async def test_the_operator_sees_the_event_as_it_is(app: FastAPI, world: World) -> None:
    found = await pages(app, world)
    text = words(found[f"/operator/events/{world.running}"].text)
    for said in ("48.0 kW", "Delivered now 28.1 kW 9 of 10 sites heard; 1 not counted", "97.3 % 175 kWh of 180 kWh"):
        assert said in text
    for state in ("delivering 7", "standby 1", "stale 1", "missing 1", "islanded 1", "failed 1", "handed back 0"):
        assert state in text
    assert "north-009 9 Alder Street failed no answer within 5 s 30 s ago" in text
    assert "north-012 12 Alder Street missing has never been heard never" in text
    settled = words(found[f"/operator/events/{world.settled}"].text)
    assert "Delivered 142 kWh measured by sub-meter" in settled
    assert "CAISO 10-in-10 baseline 144 kWh 125 kWh 87.0 %" in settled
    assert "We opted out: the fleet covers 31 of 48 kW" in words(found[f"/operator/events/{world.declined}"].text)


async def test_the_utility_sees_answers_and_power_in_mw(app: FastAPI, world: World) -> None:
    found = await pages(app, world)
    text = words(found[f"/utility/events/{world.running}"].text)
    assert "Opted in Decided Wed 19 Aug 2026, 17:00 PDT, modification 1" in text
    assert "16:00 0.048 0.047 0.036" in text
    assert "98.3 % of what was owed, measured by sub-meter" in words(found[f"/utility/events/{world.settled}"].text)


async def test_the_report_can_be_read_by_a_machine(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.utility)
        answer = await client.get(f"/utility/events/{world.settled}/report.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="report-EVT-0812.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 4
    assert {row["status"] for row in rows} == {"measured"}
    assert sum(float(row["delivered_mw"]) for row in rows) == pytest.approx(0.1416)


async def test_the_owner_sees_the_money_and_how_it_came_about(app: FastAPI, world: World) -> None:
    found = await pages(app, world)
    text = words(found["/owner"].text)
    assert "Earned in August 2026 $18.88" in text
    for line in ("Metered 11.8 kWh", "Credited 11.8 kWh", "Price $2.00 per kWh", "Worth $23.60", "Your share 80 %"):
        assert line in text
    assert "baseline days 3, 4, 5, 6, 7, 10, 11 Aug" in text
    assert "Running now: Wed 19 Aug 2026, 16:00 to 20:00 PDT" in text
    statement = words(found[f"/owner/sites/{world.sites[0]}/statements/2026-08"].text)
    assert "141.600 kWh × $2.00 = $283.20" in statement
    assert "11.800 kWh of 141.600 kWh : $23.60" in statement.replace("kWh:", "kWh :")
    assert "80 % of $23.60 is $18.88" in statement
    assert "Nothing was settled" in words(found[f"/owner/sites/{world.sites[0]}/statements/2026-07"].text)


async def test_data_that_is_old_or_absent_says_so(store: Store, clock: FixedClock, app: FastAPI, world: World) -> None:
    clock.advance(timedelta(hours=2))
    async with browser(app) as client:
        await signed_in(client, world.operator)
        event = words((await client.get(f"/operator/events/{world.running}")).text)
        fleet = words((await client.get("/operator/fleet")).text)
    assert "Delivered now unknown 0 of 10 sites heard" in event
    assert "The next one is overdue." in event
    assert "stale 2 h ago" in fleet
    assert "missing never heard" in fleet
    async with store.begin() as connection:
        await connection.execute(delete(telemetry.reading))
    async with browser(app) as client:
        await signed_in(client, world.owner)
        owner = words((await client.get("/owner")).text)
    assert "Battery now unknown" in owner
    assert "We have never heard from it." in owner


async def test_a_search_takes_its_words_literally(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        for search, count in (("ALDER", 12), ("%", 0), ("_", 0), ("north-00", 9), ("tesla", 4)):
            answer = await client.get("/operator/fleet", params={"search": search}, headers={"hx-request": "true"})
            assert answer.text.count("<strong>north-") == count
            assert "<html" not in answer.text


async def test_names_from_outside_are_only_text(store: Store, app: FastAPI, world: World) -> None:
    evil = "<script>alert(1)</script>'\"><img onerror=alert(1)>"
    async with store.begin() as connection:
        await connection.execute(
            update(commitments.commitment).values(opt_reason=evil).where(commitments.commitment.c.id == world.running)
        )
        await connection.execute(
            insert(commitments.commitment_step).values(
                commitment_id=world.running, at=NOW, state="active", what=evil, detail={"reason": evil}
            )
        )
    async with browser(app) as client:
        await signed_in(client, world.operator)
        page = (await client.get(f"/operator/events/{world.running}")).text
        found = (await client.get("/operator/fleet", params={"search": evil})).text
    for text in (page, found):
        assert "<script>alert" not in text
        assert "<img" not in text


async def stream(
    app: FastAPI, world: World, count: int, *, last_id: str = "", then: object = None
) -> list[dict[str, str]]:
    """Read `count` messages of the running event's stream."""
    messages: list[dict[str, str]] = []
    feeds: LiveFeeds = app.state.feeds
    async with browser(app) as client:
        await signed_in(client, world.operator)
        cookie = client.cookies["vpp_session"]
    path = f"/operator/events/{world.running}/live"
    headers = [(b"cookie", f"vpp_session={cookie}".encode()), (b"last-event-id", last_id.encode())]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "headers": headers, "scheme": "http", "client": ("c", 1)}
    done = asyncio.Event()

    async def receive() -> dict[str, object]:
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        body = bytes(message.get("body", b"")).decode()  # type: ignore[call-overload]
        if "data: " in body:
            messages.append(dict(line.split(": ", 1) for line in body.strip().splitlines()))
            if len(messages) == 1 and then is not None:
                await then()  # type: ignore[operator]
        if len(messages) >= count:
            done.set()

    async with asyncio.timeout(20):
        await app(scope | {"server": ("portal.test", 80)}, receive, send)  # type: ignore[arg-type]
    assert feeds._feeds == {}
    return messages


async def test_the_stream_sends_a_new_picture_when_a_reading_or_cycle_arrives(
    store: Store, app: FastAPI, world: World
) -> None:
    app.state.feeds = LiveFeeds(read_every_s=0.05)

    async def more() -> None:
        async with store.begin() as connection:
            at = NOW - timedelta(seconds=5)
            await add_readings(connection, [{"device_id": world.devices[0], "measured_at": at, "battery_kw": 5.0}])
            await add_cycle(connection, world.running, START + timedelta(minutes=85), forecast_kwh=171.0)

    first, second = await stream(app, world, 2, then=more)
    before, after = json.loads(first["data"]), json.loads(second["data"])
    assert before["cards"][1]["value"] == "28.1 kW"
    assert after["cards"][1]["value"] == "29.1 kW"
    assert after["cards"][2]["value"].startswith("95.0")
    assert first["id"] != second["id"]


async def test_a_browser_that_comes_back_is_sent_only_what_it_has_not_seen(app: FastAPI, world: World) -> None:
    app.state.feeds = LiveFeeds(heartbeat_s=0.3)
    first = (await stream(app, world, 1))[0]
    again = (await stream(app, world, 1, last_id=first["id"]))[0]
    assert again["event"] == "unchanged"
    assert "17:20:30 PDT" in again["data"]


async def test_live_connections_are_bounded(app: FastAPI, world: World) -> None:
    feeds: LiveFeeds = app.state.feeds
    feeds._by_account["somebody"] = live.MOST_PER_ACCOUNT
    with pytest.raises(NotReady):
        feeds.admit("somebody")
    feeds.admit("somebody else")
    feeds._by_account["everybody"] = live.MOST_CONNECTIONS
    with pytest.raises(NotReady):
        feeds.admit("somebody else")


async def test_ready_names_what_is_missing(
    store: Store, empty_database_url: str, database_url: str, clock: FixedClock
) -> None:
    nowhere = "redis://127.0.0.1:1"
    cases = {
        "migrations": Store(empty_database_url, store.redis_url),
        "valkey": Store(database_url, nowhere),
        "postgresql": Store("postgresql://nobody@127.0.0.1:1/none", store.redis_url),
    }
    for name, broken in cases.items():
        async with browser(portal(broken, clock)) as client:
            answer = await client.get("/readyz")
            alive = await client.get("/healthz")
        await broken.close()
        assert (answer.status_code, alive.status_code) == (503, 200)
        assert name in answer.json()["missing"]
        assert "127.0.0.1" not in answer.text
    async with browser(portal(store, clock)) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["missing"]) == (200, [])


async def test_metrics_count_by_template_and_not_by_id(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        await client.get(f"/operator/events/{world.running}")
        text = (await client.get("/metrics")).text
    assert 'route="/operator/events/{event_id}"' in text
    assert str(world.running) not in text


async def test_the_api_describes_itself(app: FastAPI) -> None:
    async with browser(app) as client:
        described = (await client.get("/api/v1/openapi.json")).json()
    assert {"/api/v1/events", "/api/v1/sites", "/api/v1/telemetry", "/api/v1/ledger/trial-balance"} <= set(
        described["paths"]
    )
    assert not [path for path in described["paths"] if not path.startswith("/api/v1/")]


def test_an_application_without_its_scripts_says_how_to_build_them(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="uv sync"):
        require_bundle(tmp_path)


def words(html: str) -> str:
    """The text a reader sees, with single plain spaces."""
    body = html.split("<main", 1)[1]
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("\u202f", " ").replace("&#39;", "'").split())
