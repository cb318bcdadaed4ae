"""Objects of our OpenADR 3 VTN: created, replaced, deleted, refused, and everybody told of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.builders_vtn3 import (
    OLD,
    Client,
    Vtn,
    at_of,
    event_body,
    report_body,
    running_vtn,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, Operation
from vpp.peering import create_object

SERVER_SET = {"id", "createdDateTime", "modificationDateTime", "objectType"}


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


@pytest.fixture
async def program(vtn: Vtn) -> str:
    return str((await vtn.bl.post("/programs", {"programName": "p"}))["id"])


async def _one_of_each(vtn: Vtn) -> dict[str, dict[str, Any]]:
    program = await vtn.bl.post("/programs", {"programName": "each"})
    event = await vtn.bl.post("/events", event_body(program["id"]))
    ven = await vtn.bl.post("/vens", ven_body())
    resource = {"objectType": "BL_RESOURCE_REQUEST", "clientID": "ven1-client", "resourceName": "r", "venID": ven["id"]}
    return {
        "programs": program,
        "events": event,
        "reports": await vtn.ven1.post("/reports", report_body(event["id"])),
        "subscriptions": await vtn.ven1.post("/subscriptions", subscription_body(programID=program["id"])),
        "vens": ven,
        "resources": await vtn.bl.post("/resources", resource),
    }


def _writer(vtn: Vtn, path: str) -> Any:
    return vtn.ven1 if path in ("reports", "subscriptions") else vtn.bl


@pytest.mark.conformance("3.1.0", "objects", "VTN: all operations of all six kinds")
async def test_every_kind_is_created_read_replaced_and_deleted(vtn: Vtn) -> None:
    made = await _one_of_each(vtn)
    for path, created in reversed(made.items()):
        writer, one = _writer(vtn, path), f"/{path}/{created['id']}"
        assert created["objectType"] == path[:-1].upper()
        assert created["createdDateTime"] == created["modificationDateTime"] == "2026-08-19T19:00:00.000000Z"
        assert await writer.get(one) == created
        assert created in await vtn.bl.get(f"/{path}")
        request = {key: value for key, value in created.items() if key not in SERVER_SET}
        if path in ("vens", "resources"):
            request["objectType"] = f"BL_{path[:-1].upper()}_REQUEST"
        replaced = await writer.put(one, request | {"private": {"kept": [1, None, "\u00e9"]}})
        assert replaced == created | {
            "private": {"kept": [1, None, "\u00e9"]}, "modificationDateTime": replaced["modificationDateTime"],
        }  # fmt: skip
        assert at_of(replaced["modificationDateTime"]) > at_of(created["modificationDateTime"])
        gone = await writer.send("DELETE", one)
        assert (gone.status_code, gone.json()) == (200, replaced)
        assert await writer.status("GET", one) == 404
        assert await writer.status("PUT", one, json=request) == 404
        assert await writer.status("DELETE", one) == 404


@pytest.mark.conformance("3.1.0", "objects", "VTN: id, times and objectType in bodies are ignored")
async def test_what_only_the_vtn_says_is_ignored_in_bodies(vtn: Vtn, program: str) -> None:
    lies = {"id": "mine", "createdDateTime": "yesterday", "modificationDateTime": None, "objectType": "VEN"}
    event = await vtn.bl.post("/events", event_body(program) | lies)
    assert event["id"] != "mine"
    assert event["objectType"] == "EVENT"
    vtn.clock.advance(timedelta(minutes=1))
    changed = await vtn.bl.put(f"/events/{event['id']}", event_body(program) | lies)
    assert (changed["id"], changed["createdDateTime"]) == (event["id"], event["createdDateTime"])
    assert at_of(changed["modificationDateTime"]) == vtn.clock.now()


@pytest.mark.conformance("3.1.0", "objects", "VTN: 409 for a name that is taken")
async def test_names_are_unique_where_the_definition_says_so(vtn: Vtn, program: str) -> None:
    assert await vtn.bl.status("POST", "/programs", json={"programName": "p"}) == 409
    other = await vtn.bl.post("/programs", {"programName": "q"})
    assert await vtn.bl.status("PUT", f"/programs/{other['id']}", json={"programName": "p"}) == 409
    assert (await vtn.bl.put(f"/programs/{other['id']}", {"programName": "q"}))["programName"] == "q"
    ven = await vtn.bl.post("/vens", ven_body(venName="v"))
    taken = await vtn.ven2.send("POST", "/vens", json={"objectType": "VEN_VEN_REQUEST", "venName": "v"})
    assert (taken.status_code, taken.json()["title"]) == (409, "Conflict")
    second = await vtn.bl.post("/vens", ven_body(venName="w"))
    assert await vtn.bl.status("PUT", f"/vens/{second['id']}", json=ven_body(venName="v")) == 409
    resource = {"objectType": "BL_RESOURCE_REQUEST", "clientID": "ven1-client", "resourceName": "r"}
    for owner in (ven, second):
        await vtn.bl.post("/resources", resource | {"venID": owner["id"]})
        assert await vtn.bl.status("POST", "/resources", json=resource | {"venID": owner["id"]}) == 409
    for _ in range(2):
        await vtn.bl.post("/events", event_body(program, eventName="same"))


async def test_of_many_that_want_one_name_at_once_one_gets_it(vtn: Vtn) -> None:
    answers = await asyncio.gather(*(vtn.bl.status("POST", "/programs", json={"programName": "n"}) for _ in range(8)))
    assert sorted(answers) == [201] + [409] * 7


async def test_what_refers_to_nothing_is_refused(vtn: Vtn, program: str) -> None:
    assert await vtn.bl.status("POST", "/events", json=event_body("nothing")) == 409
    event = await vtn.bl.post("/events", event_body(program))
    assert await vtn.bl.status("PUT", f"/events/{event['id']}", json=event_body("nothing")) == 409
    assert await vtn.bl.status("PUT", f"/events/{event['id']}", json=event_body(event["id"])) == 409, "it is no program"
    assert await vtn.ven1.status("POST", "/reports", json=report_body(program)) == 409
    assert await vtn.bl.status("POST", "/subscriptions", json=subscription_body(programID="nothing")) == 409
    resource = {"objectType": "BL_RESOURCE_REQUEST", "clientID": "c", "resourceName": "r", "venID": "nothing"}
    assert await vtn.bl.status("POST", "/resources", json=resource) == 404
    ven = await vtn.bl.post("/vens", ven_body())
    assert await vtn.bl.status("POST", "/resources", json=resource | {"venID": ven["id"]}) == 409, (
        "another client's ven"
    )


async def test_a_deletion_takes_with_it_what_cannot_be_without_and_tells_of_each(vtn: Vtn) -> None:
    made = await _one_of_each(vtn)
    vtn.changes.changes.clear()
    await vtn.bl.send("DELETE", f"/programs/{made['programs']['id']}")
    told = [(change.operation, change.object.kind) for change in vtn.changes.changes]
    kinds = (ObjectKind.REPORT, ObjectKind.EVENT, ObjectKind.SUBSCRIPTION, ObjectKind.PROGRAM)
    assert told == [(Operation.DELETE, kind) for kind in kinds]
    for path in ("events", "reports", "subscriptions", "programs"):
        assert await vtn.bl.get(f"/{path}") == []
    await vtn.bl.send("DELETE", f"/vens/{made['vens']['id']}")
    assert await vtn.bl.get("/resources") == []


async def test_a_report_made_while_its_program_is_deleted_goes_with_it(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    draft = ObjectDraft(kind=ObjectKind.PROGRAM, tenant_id=vtn.tenant, body={"programName": "q"})
    async with vtn.store.begin() as connection:  # whoever creates waits for this one
        await create_object(connection, draft, at=vtn.clock.now(), changes=vtn.changes)
        reporting = asyncio.create_task(vtn.ven1.status("POST", "/reports", json=report_body(event["id"])))
        await asyncio.wait({reporting}, timeout=0.1)
        deleting = asyncio.create_task(vtn.bl.status("DELETE", f"/programs/{program}"))
        await asyncio.wait({reporting, deleting}, timeout=0.1)
        assert not reporting.done()
    assert await deleting == 200
    assert await reporting in (201, 409)
    assert await vtn.bl.get("/reports") == []


async def test_two_that_wait_for_each_other_are_both_done(vtn: Vtn, program: str) -> None:
    wish = await vtn.ven1.post("/subscriptions", subscription_body(programID=program))
    locked = text("select id from openadr3_object where id = :id for update")
    async with vtn.store.begin() as connection:  # as who replaces a subscription holds it, then its program
        await connection.execute(locked, {"id": wish["id"]})
        deleting = asyncio.create_task(vtn.bl.status("DELETE", f"/programs/{program}"))
        await asyncio.wait({deleting}, timeout=0.1)
        await connection.execute(locked, {"id": program})
    assert await deleting == 200


async def test_a_report_follows_its_event_to_another_program(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    report = await vtn.ven1.post("/reports", report_body(event["id"]))
    other = (await vtn.bl.post("/programs", {"programName": "q"}))["id"]
    await vtn.bl.put(f"/events/{event['id']}", event_body(other))
    assert [each["id"] for each in await vtn.bl.get("/reports", programID=other)] == [report["id"]]
    assert await vtn.bl.get("/reports", programID=program) == []


async def test_changes_are_told_with_what_was_and_what_is(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    await vtn.bl.put(f"/events/{event['id']}", event_body(program, priority=1))
    created, updated = vtn.changes.changes[-2:]
    assert (created.operation, created.object.wire(), created.before) == (Operation.CREATE, event, None)
    assert (updated.operation, updated.before) == (Operation.UPDATE, created.object)
    assert updated.object.wire()["priority"] == 1
    assert created.object.wire(frozenset()) == event | {"targets": []}


async def test_what_nobody_can_be_told_of_is_not_done(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    vtn.changes.failing = True
    with capture_logs() as logs:
        assert await vtn.bl.status("POST", "/events", json=event_body(program)) == 500
        assert await vtn.bl.status("PUT", f"/events/{event['id']}", json=event_body(program, priority=9)) == 500
        assert await vtn.bl.status("DELETE", f"/programs/{program}") == 500
    assert [each["event"] for each in logs] == ["openadr3_request_failed"] * 3
    assert await vtn.bl.get("/events") == [event]


@pytest.mark.conformance("3.1.0", "objects", "VTN: explicit nulls, times with a zone")
async def test_nulls_are_taken_for_fields_left_out_and_times_without_a_zone_for_utc(vtn: Vtn, program: str) -> None:
    body = event_body(
        program,
        duration=None,
        targets=None,
        eventName=None,
        priority=None,
        reportDescriptors=None,
        payloadDescriptors=[{"payloadType": "PRICE", "units": None, "currency": None, "objectType": None}],
        intervalPeriod={"start": "2026-08-19T20:00:00", "duration": "PT1H", "randomizeStart": None},
    )
    body["intervals"][0]["intervalPeriod"] = None
    event = await vtn.bl.post("/events", body)
    assert event["intervalPeriod"] == {"start": "2026-08-19T20:00:00Z", "duration": "PT1H"}
    assert event["payloadDescriptors"] == [{"payloadType": "PRICE", "units": None, "currency": None}]
    assert "duration" not in event
    assert "intervalPeriod" not in event["intervals"][0]
    assert [event[name] for name in ("targets", "eventName", "priority", "reportDescriptors")] == [None] * 4
    bare = await vtn.bl.post("/events", {"programID": program, "intervalPeriod": None, "intervals": None})
    assert set(bare) == SERVER_SET | {"programID"}


async def test_a_time_is_served_as_every_reader_takes_it_and_one_that_says_now_in_either_versions_words(
    vtn: Vtn, program: str
) -> None:
    kept = {
        "2026-08-19T20:00:00.123456789+02:00": None,
        "0001-01-01": None,
        "2026-08-19 20:00Z": "2026-08-19T20:00:00Z",
        "2026-08-19T20:00:00+02": "2026-08-19T18:00:00Z",
        "2026-08-19t20:00:00,5z": "2026-08-19T20:00:00.500000Z",
        "2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z",
        "0000-00-00": "0001-01-01T00:00:00+00:00",
    }
    for start, wanted in kept.items():
        event = await vtn.bl.post("/events", event_body(program, intervalPeriod={"start": start, "duration": "PT1H"}))
        assert event["intervalPeriod"]["start"] == (wanted or start)
    older = vtn.client("bl", OLD)
    assert (await older.get(f"/events/{event['id']}"))["intervalPeriod"]["start"] == "0000-00-00"
    assert [each["id"] for each in await vtn.bl.get("/events", active="true")][-1] == event["id"]


@pytest.mark.conformance("3.1.0", "events", "VTN: custom payload types are kept")
async def test_unknown_payloads_and_numbers_are_kept_as_they_came(vtn: Vtn, program: str) -> None:
    values = [
        1,
        -0.15,
        1e-7,
        12345678901234567890123,
        True,
        "\U0001f50b",
        {"x": 1, "y": 0.1, "z": "?"},
    ]
    interval = {"id": -(2**31), "payloads": [{"type": "MY_OWN_THING", "values": values, "and": {"more": []}}]}
    event = await vtn.bl.post("/events", event_body(program, intervals=[interval]))
    assert event["intervals"] == [interval]
    assert await vtn.bl.get(f"/events/{event['id']}") == event


def _values(*values: Any) -> dict[str, Any]:
    return event_body("p", intervals=[{"id": 0, "payloads": [{"type": "A", "values": list(values)}]}])


def _wish(operation: str, url: str) -> dict[str, Any]:
    wish = {"objects": ["EVENT"], "operations": [operation], "callbackUrl": url}
    return subscription_body(objectOperations=[wish])


BAD = {
    "a name that is empty": ("/programs", {"programName": ""}),
    "a name that is too long": ("/programs", {"programName": "x" * 129}),
    "a name that is a number": ("/programs", {"programName": 5}),
    "no name": ("/programs", {}),
    "a description without its address": ("/programs", {"programName": "n", "programDescriptions": [{}]}),
    "targets that are a text": ("/programs", {"programName": "n", "targets": "g1"}),
    "a target that is empty": ("/programs", {"programName": "n", "targets": [""]}),
    "no program": ("/events", {}),
    "a program id with a space": ("/events", {"programID": "a b"}),
    "a priority below zero": ("/events", {"programID": "p", "priority": -1}),
    "a priority that is true": ("/events", {"programID": "p", "priority": True}),
    "a duration in words": ("/events", {"programID": "p", "duration": "an hour"}),
    "a start in words": ("/events", {"programID": "p", "intervalPeriod": {"start": "noon"}}),
    "an interval without payloads": ("/events", {"programID": "p", "intervals": [{"id": 0}]}),
    "an interval number beyond 32 bits": ("/events", {"programID": "p", "intervals": [{"id": 2**31, "payloads": []}]}),
    "a value that is null": ("/events", _values(None)),
    "a point without y": ("/events", _values({"x": 1})),
    "a descriptor of reports in an event": (
        "/events",
        event_body("p", payloadDescriptors=[{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "A"}]),
    ),
    "an operation nobody knows": (
        "/subscriptions",
        _wish("POST", "https://a.example.com"),
    ),
    "a callback that is no web address": (
        "/subscriptions",
        _wish("READ", "ftp://example.com"),
    ),
    "a callback that may not be called": (
        "/subscriptions",
        _wish("READ", "https://localhost"),
    ),
    "a ven without a name": ("/vens", {"objectType": "BL_VEN_REQUEST", "clientID": "c"}),
    "a resource without a ven": ("/resources", {"clientID": "c", "resourceName": "r"}),
}


@pytest.mark.conformance("3.1.0", "objects", "VTN: 400 with a problem that names the field")
async def test_bodies_that_break_the_schema_are_refused_in_words(vtn: Vtn) -> None:
    for name, (path, body) in BAD.items():
        answer = await vtn.bl.send("POST", path, json=body)
        assert (name, answer.status_code) == (name, 400), answer.text
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}
    assert vtn.changes.changes == []


@pytest.mark.conformance("3.1.0", "objects", "VTN: problem bodies everywhere")
async def test_what_is_no_operation_is_answered_with_a_problem_too(vtn: Vtn) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/programs/", 404), ("PATCH", "/programs", 405)):
        answer = await vtn.bl.send(method, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert await vtn.bl.status("GET", "/events/a%20b") == 400
    assert await vtn.bl.status("GET", f"/events/{'a' * 129}") == 400


async def test_every_request_is_in_the_message_log_by_peer_and_operation(vtn: Vtn, program: str) -> None:
    await vtn.ven1.send("GET", "/events?limit=77")
    await vtn.client(None).send("GET", "/events")
    posted, refused, unknown = vtn.log.notes[-3:]
    assert (posted["kind"], posted["status"], posted["peer"]) == ("POST /programs", "201", "peer-bl")
    assert json.loads(posted["body"]) == {"programName": "p"}
    assert (refused["status"], refused["peer"]) == ("400", "peer-ven1")
    assert "/events?limit=77: limit" in refused["summary"], "what was asked, and why it was refused"
    assert b"limit" in refused["body"]
    assert (unknown["status"], unknown["peer"]) == ("401", None)


async def test_an_object_put_on_the_shelf_by_us_is_served_like_any_other(vtn: Vtn, program: str) -> None:
    draft = ObjectDraft(kind=ObjectKind.EVENT, tenant_id=vtn.tenant, body=event_body(program, targets=["g1"]))
    stored = await vtn.shelf.create(draft)
    assert await vtn.bl.get(f"/events/{stored.id}") == stored.wire()
    assert vtn.changes.changes[-1].object == stored


async def test_an_event_may_have_a_name_longer_than_any_index_takes(vtn: Vtn) -> None:
    program = await vtn.bl.post("/programs", {"programName": "p"})
    name = token_hex(5000)
    made = await vtn.bl.post("/events", event_body(program["id"], eventName=name))
    assert (await vtn.bl.get(f"/events/{made['id']}"))["eventName"] == name


class SlowCallbacks:
    """A `CallbackCheck` that waits; `asked` are the addresses it waits for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.two_asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def check(self, url: str, *, bearer_token: str | None = None) -> None:
        self.asked.append(url)
        if len(self.asked) == 2:
            self.two_asked.set()
        await self.go_on.wait()


async def test_a_client_with_slow_callbacks_keeps_no_other_waiting(module_database_url: str, clock: FixedClock) -> None:
    slow = SlowCallbacks()
    async with running_vtn(module_database_url, clock, callbacks=slow) as vtn:
        wishes = [(vtn.ven1, f"https://a.example/{n}") for n in range(5)] + [(vtn.ven2, "https://b.example")]
        operation = {"objects": ["EVENT"], "operations": ["CREATE"]}
        sending = [
            asyncio.create_task(
                client.status(
                    "POST",
                    "/subscriptions",
                    json={"clientName": "me", "objectOperations": [operation | {"callbackUrl": url}]},
                )
            )
            for client, url in wishes
        ]
        async with asyncio.timeout(5):
            await slow.two_asked.wait()
        assert sorted(url[:17] for url in slow.asked) == ["https://a.example", "https://b.example"]
        slow.go_on.set()
        assert await asyncio.gather(*sending) == [201] * 6
    assert len(slow.asked) == 6


async def test_a_ven_keeps_no_more_here_than_what_others_can_bear(vtn: Vtn) -> None:
    async def told(client: Client, path: str, body: dict[str, Any]) -> int:
        return await client.status("POST", path, json=body)

    ven = {"objectType": "VEN_VEN_REQUEST", "venName": "v"}
    assert await told(vtn.ven1, "/subscriptions", subscription_body(targets=["g"] * 201)) == 400
    assert await told(vtn.ven1, "/vens", ven | {"attributes": [{"type": "x" * 100, "values": ["y" * 64_000]}]}) == 400
    draft = ObjectDraft(
        kind=ObjectKind.SUBSCRIPTION, tenant_id=vtn.tenant, body=subscription_body(), client_id="ven1-client"
    )
    async with vtn.store.begin() as connection:
        for _ in range(50):
            await create_object(connection, draft, at=vtn.clock.now(), changes=vtn.changes)
    assert await told(vtn.ven1, "/subscriptions", subscription_body()) == 409
    assert await told(vtn.ven2, "/subscriptions", subscription_body()) == 201
    (first, *_) = await vtn.ven1.get("/subscriptions")
    assert await vtn.ven1.status("PUT", f"/subscriptions/{first['id']}", json=subscription_body()) == 200
    await vtn.ven1.send("DELETE", f"/subscriptions/{first['id']}")
    assert await told(vtn.ven1, "/subscriptions", subscription_body()) == 201
