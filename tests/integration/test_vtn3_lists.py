"""Lists of our OpenADR 3 VTN: order and pages, filters, and what `active` leaves out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.builders_vtn3 import (
    OLD,
    START,
    Vtn,
    at_of,
    event_body,
    report_body,
    running_vtn,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from vpp.domain.openadr3 import ObjectDraft, ObjectKind
from vpp.peering import NobodyTold, create_object

HOUR = timedelta(hours=1)


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


@pytest.fixture
async def program(vtn: Vtn) -> str:
    return str((await vtn.bl.post("/programs", {"programName": "p"}))["id"])


def _names(found: list[dict[str, Any]]) -> list[str]:
    return [each["eventName"] for each in found]


async def _events(vtn: Vtn, program: str, names: range, **more: Any) -> None:
    for number in names:
        await vtn.bl.post("/events", event_body(program, eventName=f"e{number:02}", **more))


@pytest.mark.conformance("3.x", "objects", "VTN: a stable order")
async def test_pages_follow_the_order_of_creation_whatever_was_changed_since(vtn: Vtn, program: str) -> None:
    await _events(vtn, program, range(7))
    third = (await vtn.bl.get("/events"))[2]
    vtn.clock.advance(HOUR)
    await vtn.bl.put(f"/events/{third['id']}", event_body(program, eventName="e02", priority=1))
    pages = [_names(await vtn.bl.get("/events", skip=skip, limit=3)) for skip in (0, 3, 6, 9)]
    assert pages == [["e00", "e01", "e02"], ["e03", "e04", "e05"], ["e06"], []]


@pytest.mark.conformance("3.x", "objects", "VTN: skip and limit")
async def test_a_page_holds_fifty_where_nothing_is_said_and_none_where_that_is_asked(vtn: Vtn, program: str) -> None:
    await asyncio.gather(*(vtn.bl.post("/events", event_body(program)) for _ in range(52)))
    assert len(await vtn.bl.get("/events")) == 50
    assert len(await vtn.bl.get("/events", skip=50)) == 2
    assert await vtn.bl.get("/events", limit=0) == []


async def test_a_reader_of_pages_misses_and_repeats_nothing_while_others_insert(vtn: Vtn, program: str) -> None:
    await _events(vtn, program, range(20))
    known = [each["id"] for each in await vtn.bl.get("/events")]
    stop = asyncio.Event()

    async def insert() -> None:
        while not stop.is_set():
            await vtn.bl.post("/events", event_body(program))

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(insert())
        read: list[str] = []
        while len(read) < 60:
            page = await vtn.bl.get("/events", skip=len(read), limit=7)
            read += [each["id"] for each in page]
        stop.set()
    assert len(set(read)) == len(read)
    assert read[:20] == known
    again: list[str] = []
    for skip in range(0, len(read), 50):
        again += [each["id"] for each in await vtn.bl.get("/events", skip=skip)]
    assert again[: len(read)] == read


async def test_what_was_begun_later_is_not_seen_before_what_was_begun_earlier(vtn: Vtn, program: str) -> None:
    """Else it would push the earlier one onto a page that has been read."""
    draft = ObjectDraft(kind=ObjectKind.EVENT, tenant_id=vtn.tenant, body=event_body(program))
    async with vtn.store.begin() as connection:
        first = await create_object(connection, draft, at=vtn.clock.now(), changes=NobodyTold())
        later = asyncio.create_task(vtn.shelf.create(draft))
        done, _ = await asyncio.wait({later}, timeout=0.2)
        assert not done
        assert await vtn.bl.get("/events") == []
    second = await later
    assert [each["id"] for each in await vtn.bl.get("/events")] == [first.id, second.id]
    assert first.number < second.number


NO_QUERIES = (
    "skip=-1", "skip=x", "skip=", "skip=1.0", "skip=99999999999", "skip=1&skip=2", "limit=51", "limit=-1",
    "limit=%00", "programID=", "programID=a%20b", "programID=a/b", f"programID={'a' * 129}", "active=yes",
    "targets=", f"targets={'x' * 129}", "targets=%00", "targets=g%0a", "skip=%D9%A1",
)  # fmt: skip


@pytest.mark.conformance("3.x", "objects", "VTN: bounds of skip and limit")
async def test_a_query_that_cannot_be_is_refused(vtn: Vtn) -> None:
    for query in NO_QUERIES:
        answer = await vtn.bl.send("GET", f"/events?{query}")
        assert (query, answer.status_code, answer.json()["status"]) == (query, 400, 400)
        assert query.partition("=")[0] in answer.json()["detail"]


async def test_each_kind_is_found_by_what_its_operation_names(vtn: Vtn, program: str) -> None:
    other = (await vtn.bl.post("/programs", {"programName": "q"}))["id"]
    first, second = [await vtn.bl.post("/events", event_body(each)) for each in (program, other)]
    reports = [
        await vtn.ven1.post("/reports", report_body(each["id"], clientName=each["id"])) for each in (first, second)
    ]
    ven = await vtn.bl.post("/vens", ven_body(venName="v1", targets=["g1"]))
    await vtn.bl.post("/vens", ven_body("ven2-client", venName="v2"))
    resource = {"objectType": "BL_RESOURCE_REQUEST", "clientID": "ven1-client", "venID": ven["id"]}
    made = await vtn.bl.post("/resources", resource | {"resourceName": "r1"})
    await vtn.bl.post("/resources", resource | {"resourceName": "r2", "targets": ["g2"]})
    wish = subscription_body()["objectOperations"][0]
    both = [wish, wish | {"objects": ["REPORT"]}]
    await vtn.ven1.post("/subscriptions", subscription_body(clientName="a", programID=other, objectOperations=both))
    await vtn.ven1.post("/subscriptions", subscription_body(clientName="b"))

    async def found(path: str, **params: Any) -> list[str]:
        return [each["id"] for each in await vtn.bl.get(path, **params)]

    assert await found("/events", programID=other) == [second["id"]]
    assert await found("/events", programID="nothing") == []
    assert await found("/reports", programID=program) == [reports[0]["id"]]
    assert await found("/reports", eventID=second["id"]) == [reports[1]["id"]]
    assert await found("/reports", clientName=first["id"], programID=other) == [], "filters add up"
    assert await found("/vens", venName="v1") == [ven["id"]]
    assert await found("/vens", targets=["g1", "g7"]) == [ven["id"]]
    assert await found("/resources", venID=ven["id"], resourceName="r1") == [made["id"]]
    assert len(await found("/resources", targets=["g2"])) == 1
    assert len(await found("/subscriptions", clientName="a")) == 1
    assert len(await found("/subscriptions", programID=other)) == 1
    assert len(await found("/subscriptions", objects=["REPORT", "VEN"])) == 1
    assert len(await found("/subscriptions", objects=["EVENT"])) == 2
    assert await vtn.bl.status("GET", "/subscriptions?objects=THING") == 400
    assert await found("/programs", programName="q", unheardOf="x") == [other]


@pytest.mark.conformance("3.x", "objects", "VTN: filter by targets")
async def test_targets_select_what_has_any_of_them_and_leave_out_what_has_none(vtn: Vtn, program: str) -> None:
    for name, targets in (("none", None), ("a", ["a"]), ("ab", ["a", "b"]), ("c", ["c"])):
        await vtn.bl.post("/events", event_body(program, eventName=name, targets=targets))
    assert _names(await vtn.bl.get("/events", targets=["a"])) == ["a", "ab"]
    assert _names(await vtn.bl.get("/events", targets=["b", "c"])) == ["ab", "c"]
    assert _names(await vtn.client("bl", OLD).get("/events", targetType="X", targetValues=["b"])) == ["ab"]
    assert len(await vtn.bl.get("/events")) == 4


@pytest.mark.conformance("3.1.0", "events", "VTN: `active`")
async def test_active_leaves_out_what_is_over_and_nothing_else(vtn: Vtn, program: str) -> None:
    period = {"start": START, "duration": "PT1H"}
    endless = {"start": START, "duration": "P9999Y"}
    now = {"start": "0001-01-01", "duration": "P9999Y"}
    # 1 November 2026, 01:30 in California: the first of the two, which its offset says
    clocks_back = {"start": "2026-11-01T01:30:00-07:00", "duration": "PT1H"}
    cases: dict[str, dict[str, Any]] = {
        "plain": {"intervalPeriod": period},
        "shifted": {"intervalPeriod": period | {"randomizeStart": "PT30M"}},
        "endless": {"intervalPeriod": endless},
        "now": {"intervalPeriod": now},
        "cancelled": {"intervalPeriod": {"start": "0001-01-01", "duration": "PT0S"}},
        "looping": {"intervalPeriod": period, "duration": "P1D"},
        "clocks": {"intervalPeriod": clocks_back},
        "bare": {"intervalPeriod": None, "intervals": None},
    }
    for name, more in cases.items():
        await vtn.bl.post("/events", event_body(program, eventName=name, **more))
    everything = list(cases)

    async def active() -> list[str]:
        return _names(await vtn.bl.get("/events", active="true"))

    unless_cancelled = [each for each in everything if each != "cancelled"]
    assert await active() == unless_cancelled
    vtn.clock.move_to(at_of(START) + HOUR)
    assert await active() == [each for each in unless_cancelled if each != "plain"], "over at its end, not after it"
    vtn.clock.move_to(at_of(START) + 2 * HOUR)
    assert await active() == ["endless", "now", "looping", "clocks", "bare"]
    vtn.clock.move_to(at_of("2026-11-01T09:29:59Z"))
    assert await active() == ["endless", "now", "clocks", "bare"]
    vtn.clock.move_to(at_of("2026-11-01T09:30:00Z"))
    assert await active() == ["endless", "now", "bare"]
    for said in ({}, {"active": "false"}):
        assert _names(await vtn.bl.get("/events", **said)) == everything


async def test_an_event_that_is_prolonged_is_active_again(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    vtn.clock.move_to(at_of(START) + 2 * HOUR)
    assert await vtn.bl.get("/events", active="true") == []
    longer = event_body(program, intervalPeriod={"start": START, "duration": "PT5H"})
    await vtn.bl.put(f"/events/{event['id']}", longer)
    assert len(await vtn.bl.get("/events", active="True")) == 1


async def test_a_ven_pages_through_what_it_may_see_in_one_order(vtn: Vtn, program: str) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["mine"]))
    for number in range(9):
        targets = ([], ["mine"], ["other"])[number % 3]
        await vtn.bl.post("/events", event_body(program, eventName=f"e{number}", targets=targets))
    old = vtn.client("ven1", OLD)
    assert _names(await old.get("/events")) == ["e0", "e1", "e3", "e4", "e6", "e7"]
    pages = [_names(await old.get("/events", skip=skip, limit=2)) for skip in (0, 2, 4, 6)]
    assert pages == [["e0", "e1"], ["e3", "e4"], ["e6", "e7"], []]
    assert _names(await vtn.ven1.get("/events", targets=["mine"], skip=1)) == ["e4", "e7"]
    assert _names(await vtn.ven1.get("/events", skip=1)) == ["e3", "e6"]
