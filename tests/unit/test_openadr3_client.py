"""Our OpenADR 3 client by itself: pages, tokens, bounds, versions, and what it makes of a VTN's deviations."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from market.openadr3 import client_write as write
from market.openadr3.client import Openadr3Client, Where
from market.openadr3.client_auth import Credential
from market.openadr3.client_http import MAX_BODY_BYTES, Wire
from market.openadr3.client_mqtt import broker_of, tls_of
from market.openadr3.client_read import event_of, instant_of, reports_of, targets_of
from market.openadr3.paging import LIMIT, MAX_OBJECTS, read_all
from tests.builders_notify import certificates
from tests.builders_ven3 import CLIENT, SECRET, Deviations, FakeVtn, NullLog, client_of, fake_vtn
from tests.clock import NOON, FixedClock
from tests.shared_data import shared_spec
from vpp.domain.errors import NotReady, PeerRefused, PeerUnreachable
from vpp.domain.time import Interval
from vpp.domain.ven3 import (
    Callback,
    MqttOffer,
    ReportedInterval,
    ReportedResource,
    ReportIntervals,
    ReportOut,
    ReportValue,
    VenWanted,
)


def objects(count: int) -> list[dict[str, Any]]:
    return [{"id": str(n)} for n in range(count)]


def pages_of(all_objects: list[dict[str, Any]], *, cap: int = LIMIT, skips: bool = True) -> Callable[..., Any]:
    async def fetch(skip: int, limit: int) -> Any:
        begin = skip if skips else 0
        return all_objects[begin : begin + min(limit, cap)]

    return fetch


@pytest.mark.conformance("3.x", "objects", "VEN: paging")
@pytest.mark.parametrize("count", [0, 1, 9, 10, 49, 50, 51, 100, 130])
@pytest.mark.parametrize("cap", [50, 25, 10])
async def test_every_page_is_read_whatever_the_vtn_gives_at_once(count: int, cap: int) -> None:
    listing = await read_all(pages_of(objects(count), cap=cap))
    assert (len(listing.objects), listing.complete) == (count, True)


async def test_a_vtn_that_ignores_skip_is_not_asked_for_ever() -> None:
    listing = await read_all(pages_of(objects(70), skips=False))
    assert (len(listing.objects), listing.complete) == (LIMIT, False)


async def test_a_vtn_that_ignores_limit_has_told_everything() -> None:
    async def fetch(skip: int, limit: int) -> Any:
        return objects(70)

    listing = await read_all(fetch)
    assert (len(listing.objects), listing.complete) == (70, True)


async def test_a_vtn_that_never_ends_is_left() -> None:
    async def fetch(skip: int, limit: int) -> Any:
        return [{"id": str(skip + n)} for n in range(limit)]

    listing = await read_all(fetch)
    assert (len(listing.objects), listing.complete) == (MAX_OBJECTS, False)


async def test_a_list_of_endless_bytes_is_left(clock: FixedClock) -> None:
    async with fake_vtn(clock) as vtn:
        for number in range(60):
            vtn.put("programs", {"programName": f"p{number}", "programLongName": "x" * 300})
        wire = Wire("peer-1", NullLog())
        where, credential = Where(vtn.url), Credential(CLIENT, SECRET)
        client = Openadr3Client("utility", wire, clock, where, credential, list_max_bytes=20_000)
        with pytest.raises(PeerUnreachable, match="more than 20000 bytes"):
            await client.programs()
        await client.close()


async def test_objects_without_an_id_are_left_out() -> None:
    async def fetch(skip: int, limit: int) -> Any:
        return [{"id": 7}, {"id": "a"}, {}, None, "b", {"id": ""}]

    assert [each["id"] for each in (await read_all(fetch)).objects] == ["a"]


@pytest.fixture
async def vtn(clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock) as served:
        yield served


@pytest.mark.conformance("3.x", "auth", "VEN: token cache")
async def test_a_token_is_used_until_shortly_before_it_expires(clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.odd.expires_in = 600
    async with client_of(clock, vtn.url) as client:
        for _ in range(3):
            await client.programs()
        assert vtn.granted == 1
        clock.advance(timedelta(seconds=569))
        await client.programs()
        assert vtn.granted == 1
        clock.advance(timedelta(seconds=2))
        await client.programs()
        assert vtn.granted == 2


async def test_a_token_without_expires_in_is_used_for_a_short_while(clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.odd.no_expires_in = True
    async with client_of(clock, vtn.url) as client:
        await client.programs()
        await client.programs()
        assert vtn.granted == 1
        clock.advance(timedelta(minutes=5))
        await client.programs()
        assert vtn.granted == 2


async def test_a_token_no_longer_taken_is_replaced_once(clock: FixedClock, vtn: FakeVtn) -> None:
    async with client_of(clock, vtn.url) as client:
        await client.programs()
        vtn.tokens.clear()
        assert [program.name for program in await client.programs()] == ["Flat"]
        assert vtn.granted == 2


async def test_ten_requests_at_once_fetch_one_token(clock: FixedClock, vtn: FakeVtn) -> None:
    async with client_of(clock, vtn.url) as client:
        await client.version()
        await asyncio.gather(*(client.programs() for _ in range(10)))
    assert vtn.granted == 1


@pytest.mark.parametrize("odd", [Deviations(form_only=True), Deviations(basic_only=True)], ids=["form", "basic"])
async def test_a_token_is_asked_for_as_the_vtn_will_have_it(clock: FixedClock, odd: Deviations) -> None:
    async with fake_vtn(clock, odd=odd) as vtn, client_of(clock, vtn.url) as client:
        await client.programs()
        vtn.tokens.clear()
        await client.programs()
    assert vtn.count("POST /auth/token") == (3 if odd.form_only else 2)  # the form is remembered


async def test_wrong_credentials_are_a_refusal_that_names_no_secret(clock: FixedClock, vtn: FakeVtn) -> None:
    async with client_of(clock, vtn.url, secret="wrong-secret") as client:
        with pytest.raises(PeerRefused, match="invalid_client") as refused:
            await client.programs()
    assert refused.value.code in (400, 401)
    assert "wrong-secret" not in str(refused.value)


async def test_no_secret_and_no_token_reach_the_message_log(clock: FixedClock, vtn: FakeVtn) -> None:
    log = NullLog()
    async with client_of(clock, vtn.url, log=log) as client:
        await client.programs()
    noted = json.dumps(log.noted, default=str)
    assert not any(token in noted for token in (SECRET, *vtn.tokens))
    assert ("GET /3.1.0/programs", "200") in {(each["kind"], each["status"]) for each in log.noted}


async def test_a_secret_is_not_sent_in_the_clear_because_the_vtn_says_so(clock: FixedClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"tokenURL": "http://elsewhere.example/token"})

    transport = httpx.MockTransport(answer)
    async with client_of(clock, "https://vtn.example/3.1.0", transport=transport) as client:
        with pytest.raises(PeerRefused, match="not encrypted"):
            await client.programs()


@pytest.mark.conformance("3.x", "auth", "VEN: finds out the version")
@pytest.mark.parametrize("version", ["3.1.0", "3.0.1"])
@pytest.mark.parametrize("suffix", ["", "/", "/{version}", "/{version}/"])
async def test_the_version_is_found_out(clock: FixedClock, version: str, suffix: str) -> None:
    end = suffix.format(version=version)
    async with fake_vtn(clock, version=version) as vtn, client_of(clock, vtn.url + end) as client:
        assert await client.version() == version
        assert [program.name for program in await client.programs()] == ["Flat"]


async def test_an_address_without_a_vtn_says_what_to_set(clock: FixedClock) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(404))
    async with client_of(clock, "https://vtn.example", transport=transport) as client:
        with pytest.raises(PeerUnreachable, match="give its address to the end"):
            await client.programs()


async def test_a_slow_vtn_is_given_up_by_the_deadline(clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.slow_s = 1.0
    async with client_of(clock, vtn.url, version="3.1.0", timeout_s=0.05) as client:
        with pytest.raises(PeerUnreachable, match=r"no answer within 0\.05 s"):
            await client.programs()


async def test_an_answer_without_end_is_cut_off(clock: FixedClock) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * (MAX_BODY_BYTES // 4)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=endless()))
    async with client_of(clock, "https://vtn.example/3.1.0", transport=transport) as client:
        with pytest.raises(PeerUnreachable, match="more than"):
            await client.programs()


async def test_a_vtn_must_show_a_certificate_we_trust_and_sees_ours(clock: FixedClock, tmp_path: Path) -> None:
    made = certificates(tmp_path, "vtn.example")
    tls = made.server()
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(made.ca)
    ours = {"ca_path": made.ca, "cert_path": made.cert, "key_path": made.key}
    async with fake_vtn(clock, tls=tls) as vtn:
        async with client_of(clock, vtn.url, **ours) as client:
            assert await client.version() == "3.1.0"
        for less in ({"ca_path": made.ca}, {}):
            async with client_of(clock, vtn.url, version="3.1.0", **less) as client:
                with pytest.raises(PeerUnreachable):
                    await client.programs()


async def test_what_no_database_keeps_is_replaced_and_what_is_nested_too_deep_refused(clock: FixedClock) -> None:
    bodies = [b'{"id": "e", "a\\u0000": ["\\ud800x", 1e999, 1.5]}', b'{"id": "e", "a": ' + b"[" * 64 + b"]" * 64 + b"}"]
    answers = iter([*bodies, bodies[-1]])  # what cannot be read is asked for once more

    def answer(request: httpx.Request) -> httpx.Response:
        if "auth" in request.url.path:
            return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer"})
        return httpx.Response(200, content=next(answers))

    async with client_of(clock, "https://vtn.example/3.1.0", transport=httpx.MockTransport(answer)) as client:
        event = await client.event("e")
        assert event is not None
        assert event.body == {"id": "e", "a\ufffd": ["\ufffdx", None, 1.5]}
        with pytest.raises(PeerUnreachable, match="no JSON"):
            await client.event("e")


async def test_a_redirect_is_not_followed(clock: FixedClock) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url.host))
        return httpx.Response(302, headers={"Location": "https://evil.example/"})

    transport = httpx.MockTransport(answer)
    async with client_of(clock, "https://vtn.example/3.1.0", transport=transport) as client:
        with pytest.raises(PeerRefused):
            await client.programs()
    assert set(asked) == {"vtn.example"}


async def test_a_get_whose_answer_is_lost_is_asked_again_and_a_post_is_not(clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.lose_reply_to = {"GET /programs", "POST /reports"}
    event_id = vtn.event(1.0)
    async with client_of(clock, vtn.url) as client:
        assert len(await client.programs()) == 1
        with pytest.raises(PeerUnreachable):
            await client.send_report(report(event_id))
        assert vtn.count("POST /reports") == 1
        assert await client.find_report(event_id, "r1") == next(iter(vtn.objects["reports"]))


async def test_a_name_another_client_holds_is_refused(clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.put("vens", {"venName": "vpp"}, "theirs")
    async with client_of(clock, vtn.url) as client:
        assert (await client.register(VenWanted(name="vpp"))) is not None  # ours, by all we can see
        transport = httpx.MockTransport(taken)
    async with client_of(clock, "https://vtn.example/3.1.0", transport=transport) as client:
        with pytest.raises(PeerRefused, match="taken by another client"):
            await client.register(VenWanted(name="vpp"))


def taken(request: httpx.Request) -> httpx.Response:
    if "auth" in request.url.path:
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer"})
    return httpx.Response(409) if request.method == "POST" else httpx.Response(200, json=[])


def report(event_id: str) -> ReportOut:
    interval = Interval(NOON, NOON + timedelta(hours=1))
    values = (ReportValue("USAGE", 12.5, "KWH", "DIRECT_READ"), ReportValue("OPERATING_STATE", "IDLE_OPTED_OUT"))
    return ReportOut(
        event_id=event_id,
        program_id="program-1",
        name="r1",
        client_name="vpp",
        resources=(ReportedResource("AGGREGATED_REPORT", (ReportedInterval(interval, values),)),),
    )


@pytest.mark.parametrize("version", ["3.1.0", "3.0.1"])
def test_what_we_send_is_as_the_definition_has_it(version: str) -> None:
    schemas = yaml.safe_load(shared_spec("openadr3", version, "openadr3.yaml").read_text(encoding="utf-8"))
    wanted = VenWanted(name="vpp", attributes={"LOCATION": (40.5, -73.9)}, resources=("fleet",))
    callback = Callback(url="https://vpp.example/x", bearer_token="t", client_name="vpp")
    new = version == write.V31
    bodies = {
        "reportRequest" if new else "report": write.report_body(report("event-1"), version),
        "VenVenRequest" if new else "ven": write.ven_body(wanted, version),
        "VenResourceRequest" if new else "resource": write.resource_body("fleet", "ven-1", version),
        "subscriptionRequest" if new else "subscription": write.subscription_body(callback, None if new else "p"),
    }
    for name, body in bodies.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": schemas["components"]}
        jsonschema.Draft4Validator(schema).validate(body)
        assert None not in body.values()


def test_instants_are_read_as_servers_write_them() -> None:
    said = ["2026-08-19T19:00:00Z", "2026-08-19 19:00:00.000", "2026-08-19T12:00:00-07:00", "2026-08-19T19:00:00"]
    assert {instant_of(text) for text in said} == {NOON}
    assert [instant_of(text) for text in ("17:15:16", "soon", None, 7)] == [None] * 4


def test_targets_of_both_versions_are_read() -> None:
    assert targets_of(["a", "b", "a"]) == ("a", "b")
    assert targets_of([{"type": "GROUP", "values": ["a", "b"]}, 7, None]) == ("a", "b")
    assert targets_of(None) == ()


def test_report_descriptors_have_the_definitions_defaults() -> None:
    (wanted,) = reports_of([{"payLoadType": "USAGE", "units": None, "repeat": -7}, {"units": "KW"}, "x"])
    assert (wanted.payload_type, wanted.units, wanted.start_interval, wanted.historical) == ("USAGE", None, -1, True)
    assert (wanted.repeat, wanted.frequency, wanted.intervals) == (-1, -1, ReportIntervals.INTERVALS)


def test_stamps_are_no_part_of_what_an_event_says() -> None:
    first = event_of({"id": "e", "programID": "p", "eventName": "x", "modificationDateTime": "2026-08-19T19:00:00Z"})
    touched = event_of({"id": "e", "programID": "p", "eventName": "x", "targets": None, "createdDateTime": "now"})
    changed = event_of({"id": "e", "programID": "p", "eventName": "y"})
    assert first.digest == touched.digest != changed.digest
    assert (first.modified_at, touched.modified_at) == (NOON, None)


def test_a_broker_is_reached_over_tls_unless_it_is_here() -> None:
    assert broker_of("mqtts://broker.example") == ("broker.example", 8883, True)
    assert broker_of("mqtt://127.0.0.1:1234") == ("127.0.0.1", 1234, False)
    for open_or_odd in ("mqtt://broker.example", "http://broker.example", "mqtts://"):
        with pytest.raises(NotReady):
            broker_of(open_or_odd)


def test_a_vtn_may_describe_the_tls_of_its_broker(tmp_path: Path) -> None:
    made = certificates(tmp_path, "broker.example")
    offer = MqttOffer(
        uris=("mqtts://broker.example",),
        method="CERTIFICATE",
        ca_pem=made.ca.read_text(),
        cert_pem=made.cert.read_text(),
        key_pem=made.key.read_text(),
    )
    context = tls_of(offer, None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) > len(tls_of(replace(offer, ca_pem=None), None).get_ca_certs())
    with pytest.raises(NotReady, match="cannot be used"):
        tls_of(replace(offer, key_pem="no key"), None)
