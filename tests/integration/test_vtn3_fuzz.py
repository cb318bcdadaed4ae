"""The JSON door of our OpenADR 3 VTN under bodies no client means: refused, and nothing has changed."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.builders_vtn3 import (
    BL_SCOPES,
    NEW,
    OLD,
    Vtn,
    event_body,
    listening,
    report_body,
    running_vtn,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from vpp.domain.peer import PeerRole
from vpp.store.tables.openadr3 import openadr3_object as objects

DOORS = ("/programs", "/events", "/reports", "/subscriptions", "/vens", "/resources")
BODIES: tuple[dict[str, Any], ...] = (
    {"programName": "p", "attributes": [{"type": "T", "values": [1]}], "programDescriptions": [{"URL": "https://a"}]},
    event_body(
        "PID", duration="PT1H", priority=0, targets=["g"], reportDescriptors=[{"payloadType": "U", "repeat": 1}]
    ),
    report_body("EID", payloadDescriptors=[{"payloadType": "U", "accuracy": 0.5, "confidence": 3}]),
    subscription_body(programID="PID", targets=["g"]),
    ven_body(attributes=[{"type": "T", "values": [{"x": 1, "y": 2}]}], targets=["g"]),
    {"objectType": "BL_RESOURCE_REQUEST", "clientID": "ven1-client", "resourceName": "r", "venID": "VID"},
)
"""A whole body for each door; PID, EID and VID stand for ids of objects that are there."""
STRANGE = st.sampled_from(
    [
        None, True, -1, 2**31, 10**300, 0.1, -0.0, 1e308, "", "x" * 129, "\0", "a\0b", "\u202e", "\U0001f50b", [], [[]],
        {}, {"x": {}}, [None], "9999-99-99T99:99:99Z", "0000-00-00", "0001-01-01", "P9999Y", "-P1D", "P", "https://[",
    ]
)  # fmt: skip
RAW = [
    b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b"{}}", b'{"a":}', b'{"programName":"a",}', b"{'programName':'a'}",
    b'{"programName":NaN}', b'{"programName":"n","x":NaN}', b'{"programName":"n","x":-Infinity}',
    b'{"programName":"n","x":1e999}', b'{"programName":"n","x":' + b"9" * 5000 + b"}",
    b'{"programName":"n","x":' + b"9" * 400 + b"}", b'{"programName":"\xff"}', b'{"programName":"\\ud800"}',
    b'{"programName":"n","x":"\\udfff"}', b'{"programName":"n","x":"\\u0000"}', b'{"programName":"n\0"}',
    b"\xef\xbb\xbf" + b'{"programName":"n"}', '{"programName":"n"}'.encode("utf-16"),
    '{"programName":"n"}'.encode("utf-32"), b'{"programName":"n","x":' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"programName":"n","x":' + b'{"a":' * 90_000 + b"1" + b"}" * 90_001,
    b"[" * 400_000, b'{"a":' * 180_000, b'{"programName":"' + b"x" * 999_000 + b'"}', b"\x1f\x8b\x08\x00" + b"\0" * 50,
]  # fmt: skip


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


async def _kept(vtn: Vtn) -> list[Any]:
    async with vtn.store.begin() as connection:
        rows = await connection.execute(
            select(objects).where(objects.c.tenant_id == vtn.tenant).order_by(objects.c.number)
        )
        return [tuple(row) for row in rows]


async def test_bodies_that_are_no_json_as_it_should_be_are_refused_and_change_nothing(vtn: Vtn) -> None:
    made = await vtn.bl.post("/programs", {"programName": "there"})
    before = await _kept(vtn)
    for raw in RAW:
        for method, path in (("POST", "/programs"), ("PUT", f"/programs/{made['id']}")):
            answer = await vtn.bl.send(method, path, content=raw, headers={"content-type": "application/json"})
            assert (raw[:60], answer.status_code) == (raw[:60], 400)
            assert answer.json()["title"] == "Bad Request"
    assert await _kept(vtn) == before


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _paths(each, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copied


PLACES = [(door, body, path) for door, body in zip(DOORS, BODIES, strict=True) for path in _paths(body)]


async def test_any_value_in_any_place_is_kept_or_refused(vtn: Vtn) -> None:
    """What is kept can be read again in both versions and by lists; nothing is ever our fault."""

    program = (await vtn.bl.post("/programs", {"programName": "there"}))["id"]
    event = (await vtn.bl.post("/events", event_body(program)))["id"]
    ven = (await vtn.bl.post("/vens", ven_body(venName="there")))["id"]
    vtn.authority.add("bl", PeerRole.BL, BL_SCOPES | {"write_reports"})
    before, kept = await _kept(vtn), 0

    async def one(place: int, value: Any, door: str, base: str, method: str) -> None:
        nonlocal kept
        own, body, path = PLACES[place]
        target = own if door == "own" else door
        client = vtn.client("ven1" if target == "/reports" else "bl", base)
        changed = json.dumps(_replaced(body, path, value))
        for name, there in (("PID", program), ("EID", event), ("VID", ven)):
            changed = changed.replace(name, there)
        answer = await client.send(method, target, content=changed)
        assert answer.status_code in (201, 400, 404, 409, 405), (answer.status_code, changed)
        if answer.status_code == 201:
            kept += 1
            one = f"{target}/{answer.json()['id']}"
            assert await vtn.bl.status("GET", one) == 200
            assert await vtn.client("bl", OLD).status("GET", one) == (404 if target == "/resources" else 200)
            assert await vtn.bl.status("DELETE", one) == 200

    loop = asyncio.get_running_loop()

    @seed(3)
    @settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        place=st.integers(0, len(PLACES) - 1),
        value=STRANGE,
        door=st.sampled_from(["own"] * 20 + list(DOORS)),
        base=st.sampled_from([NEW, NEW, OLD]),
        method=st.sampled_from(["POST"] * 9 + ["PUT"]),
    )
    def many(place: int, value: Any, door: str, base: str, method: str) -> None:
        asyncio.run_coroutine_threadsafe(one(place, value, door, base, method), loop).result(timeout=10)

    await asyncio.to_thread(many)
    assert kept > 20
    assert await _kept(vtn) == before, "what was made was deleted, and nothing else was made"


async def test_a_body_of_fifty_megabytes_is_refused_without_being_held(vtn: Vtn) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b'{"programName":"'
        for _ in range(50):
            yield b"x" * 1_000_000
        yield b'"}'

    async with (
        listening(vtn.app) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer bl"}) as http,
    ):
        tracemalloc.start()
        for path in (f"{NEW}/programs", f"{OLD}/events", f"{NEW}/auth/token"):
            answer = await http.post(path, content=stream())
            assert (answer.status_code, answer.json()["title"]) == (400, "Content Too Large")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 12_000_000, "the client's own pieces and what the socket holds, not the body"
    assert await _kept(vtn) == []


async def test_a_client_that_goes_away_in_the_middle_of_a_body_changes_nothing(vtn: Vtn) -> None:
    async with listening(vtn.app) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        head = f"POST {NEW}/programs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer bl\r\ncontent-length: 1000\r\n\r\n"
        writer.write(head.encode() + b'{"programName":"cut"')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer bl"}) as http:
            assert (await http.get(f"{NEW}/programs")).json() == []
