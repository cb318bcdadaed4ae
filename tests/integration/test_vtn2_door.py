"""The door of our OpenADR 2.0b VTN: certificates, signatures, limits, and bodies that are no messages."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from market.openadr2.codec import decode, encode
from market.openadr2.tls import server_context, told_fingerprint
from market.openadr2.vtn import PREFIX
from tests.builders_vtn2 import add_ven, an_event, own_database, raw_ven, running_vtn, swept_store, tell
from tests.builders_vtn2_certs import authority, party, stranger
from tests.clock import FixedClock
from vpp.bootstrap.replays import ValkeyReplay
from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import NOT_REGISTERED, Acknowledge, CreateRegistration, Poll, QueryRegistration, RequestEvents
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        yield store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the authority's certificate in it."""
    path = tmp_path_factory.mktemp("certs")
    (path / "ca.crt").write_bytes(authority())
    return path


def serving(folder: Path, *, require_client: bool = True) -> ssl.SSLContext:
    cert, key = party("vtn", "rsa").write(folder, "vtn")
    return server_context(cert, key, folder / "ca.crt", require_client=require_client)


@pytest.mark.conformance("2.0b", "Security", "VTN: a TLS client certificate is bound to one venID, RSA and EC")
@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_a_certificate_speaks_for_its_own_ven_only(
    store: Store, clock: FixedClock, folder: Path, kind: str
) -> None:
    mine, other = party(f"a-{kind}", kind), party("b")
    await add_ven(store, clock, "a", fingerprint=mine.fingerprint)
    await add_ven(store, clock, "b", fingerprint=other.fingerprint)
    await add_ven(store, clock, "unbound")
    ca = folder / "ca.crt"
    async with running_vtn(store, clock, tls=serving(folder), must_show_certificate=True) as vtn:
        asking = QueryRegistration(request_id="q1")
        async with raw_ven(vtn.url, "a", verify=mine.client(folder, ca), register=False) as ven:
            assert (await ven.say("EiRegisterParty", asking)).registration_id is None
            await ven.register()
            told = await ven.say("EiRegisterParty", asking)
            assert (told.ven_id, told.registration_id) == (ven.ven_id, ven.registration_id)
            assert (await ven.poll()).response.code == 200
            assert ven.status == 200
        async with raw_ven(vtn.url, "b", verify=other.client(folder, ca)) as ven:
            assert (await ven.say("EiRegisterParty", asking)).ven_id == "b", "nobody is told another's ids"
            ven.ven_id = "a"
            assert (await ven.poll()).response.code == NOT_REGISTERED
            assert ven.status == 403
            answer = await ven.say("EiEvent", RequestEvents(request_id="r7", ven_id="a"))
            assert (answer.response.code, answer.response.request_id, ven.status) == (NOT_REGISTERED, "r7", 403)
            assert (await ven.register(ven_name="unbound")).ven_id == "b", "the certificate decides who it is"
            assert (await ven.register(ven_id="a", ven_name="a")).response.code != 200
        anybody = party("nobody").client(folder, ca)
        async with raw_ven(vtn.url, "unbound", verify=anybody, register=False) as ven:
            assert (await ven.register()).response.code == NOT_REGISTERED


@pytest.mark.conformance("2.0b", "Security", "VTN: client certificates are required where that is set")
async def test_without_a_certificate_of_the_authoritys_there_is_no_connection(
    store: Store, clock: FixedClock, folder: Path
) -> None:
    ca = folder / "ca.crt"
    async with running_vtn(store, clock, tls=serving(folder)) as vtn:
        for context in (ssl.create_default_context(cafile=str(ca)), stranger().client(folder, ca)):
            async with httpx.AsyncClient(verify=context, timeout=5) as http:
                with pytest.raises(httpx.TransportError):
                    await http.post(f"{vtn.url}/OadrPoll", content=encode(Poll(ven_id="a")))
        old = party("old").client(folder, ca)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with httpx.AsyncClient(verify=old, timeout=5) as http:
            assert (await http.post(f"{vtn.url}/OadrPoll", content=encode(Poll(ven_id="a")))).status_code == 200


async def test_a_trusted_proxy_tells_the_certificate_and_nobody_else_does(store: Store, clock: FixedClock) -> None:
    mine = party("a-ec")
    await add_ven(store, clock, "a", fingerprint=mine.fingerprint)
    header = {"X-Client-Cert": quote(mine.cert.decode())}
    name = {"proxy_header": "X-Client-Cert"}
    async with (
        running_vtn(store, clock, proxies=frozenset({"127.0.0.1"}), **name) as vtn,
        raw_ven(vtn.url, "a", headers=header) as ven,
    ):
        assert (await ven.poll()).response.code == 200
        del ven.http.headers["X-Client-Cert"]
        assert (await ven.poll()).response.code == NOT_REGISTERED
        ven.http.headers["X-Client-Cert"] = party("b").fingerprint
        await ven.poll()
        assert ven.status == 403
        ven.http.headers["X-Client-Cert"] = "no certificate"
        await ven.poll()
        assert ven.status == 403
    async with running_vtn(store, clock, **name) as vtn, raw_ven(vtn.url, "a", register=False, headers=header) as ven:
        assert (await ven.register()).response.code == NOT_REGISTERED


def test_what_a_proxy_tells_is_read_in_every_way_proxies_tell_it() -> None:
    mine = party("a-ec")
    digest = "0" * 44 + mine.fingerprint.replace(":", "")
    for header in (mine.fingerprint, mine.fingerprint.lower(), digest, quote(mine.cert.decode())):
        assert told_fingerprint(header) == mine.fingerprint
    assert told_fingerprint(" ") is None
    with pytest.raises(InvalidRequest):
        told_fingerprint("sha256")


@pytest.mark.conformance("2.0b", "Security", "VTN: XML signatures, with replay protection")
@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_a_ven_that_signs_is_answered_signed_and_its_messages_count_once(
    store: Store, clock: FixedClock, kind: str
) -> None:
    mine, vtns = party(f"a-{kind}", kind), party("vtn", "rsa")
    await add_ven(store, clock, "a", fingerprint=mine.fingerprint)
    replay, signer = ValkeyReplay(store), mine.signer(clock)
    async with (
        running_vtn(store, clock, signer=vtns.signer(clock), replay=replay) as vtn,
        raw_ven(vtn.url, "a", signer=signer, register=False) as ven,
    ):
        assert (await ven.register(xml_signature=True)).response.code == 200
        body = encode(Poll(ven_id="a"), signer=signer)
        answers = [await ven.post("OadrPoll", body) for _ in range(2)]
        assert [each.status_code for each in answers] == [200, 403]
        assert b"<ds:SignatureValue>" in answers[0].content
        ven.signer = party("b").signer(clock)
        await ven.poll()
        assert ven.status == 403
        ven.signer = None
        assert (await ven.poll()).response.code == NOT_REGISTERED
        broken = encode(Poll(ven_id="a"), signer=signer).replace(b"<ei:venID>a<", b"<ei:venID>b<")
        assert (await ven.post("OadrPoll", broken)).status_code == 403
    async with (
        running_vtn(store, clock, signer=vtns.signer(clock), replay=replay) as vtn,
        raw_ven(vtn.url, "a", register=False) as ven,
    ):
        assert (await ven.post("OadrPoll", body)).status_code == 403, "a restart forgets no message"
        clock.advance(timedelta(minutes=20))
        assert (await ven.post("OadrPoll", encode(Poll(ven_id="a"), signer=signer))).status_code == 200


@pytest.mark.conformance("2.0b", "Security", "VTN: signatures may be required of everybody")
async def test_where_signatures_are_required_nothing_goes_unsigned(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    options = {"require_signature": True, "sign_all": True}
    strict = running_vtn(store, clock, signer=party("vtn", "rsa").signer(clock), **options)
    async with strict as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        refused = await ven.post("OadrPoll", encode(Poll(ven_id="a")))
    assert refused.status_code == 403
    assert b"<ds:SignatureValue>" in refused.content
    assert decode(refused.content).message.response.code == NOT_REGISTERED


@pytest.mark.conformance("2.0b", "Messages", "VTN: what cannot be read is refused with a response code")
async def test_what_is_no_message_gets_an_answer_and_changes_nothing(store: Store, clock: FixedClock) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>'
    half = encode(RequestEvents(request_id="r1", ven_id="a")).replace(b"<ei:venID>a</ei:venID>", b"")
    async with running_vtn(store, clock, max_body_bytes=20_000) as vtn, httpx.AsyncClient() as http:
        for body in (b"", b"\xff\xfe", b"<a/>", bomb, b"<a>" * 200, b'{"json": 1}'):
            answer = await http.post(f"{vtn.url}/OadrPoll", content=body, headers={"Content-Encoding": "gzip"})
            assert (answer.status_code, type(decode(answer.content).message)) == (400, Acknowledge)
        answer = await http.post(f"{vtn.url}/EiEvent", content=half, headers={"Content-Type": "text/plain"})
        assert answer.status_code == 200
        assert decode(answer.content).message.response.request_id == "r1"
        assert (await http.post(f"{vtn.url}/OadrPoll", content=b"<" * 20_001)).status_code == 413

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"<" * 1000

        assert (await http.post(f"{vtn.url}/OadrPoll", content=endless())).status_code == 413
        base = vtn.url.removesuffix(PREFIX)
        assert (await http.get(f"{vtn.url}/OadrPoll")).status_code == 405
        assert (await http.post(f"{base}/OadrPoll")).status_code == 404
        assert (await http.get(f"{base}/healthz")).text == "up\n"
        assert (await http.post(f"{vtn.url}/OadrPoll", content=encode(Poll(ven_id="who")))).status_code == 200


@pytest.mark.conformance("2.0b", "Simple HTTP", "VTN: a limit for each VEN")
async def test_too_many_requests_of_one_ven_wait_and_others_do_not(store: Store, clock: FixedClock) -> None:
    for name in ("a", "b"):
        await add_ven(store, clock, name)
    limited = running_vtn(store, clock, ven_per_s=0.2)
    async with limited as vtn, raw_ven(vtn.url, "a") as a, raw_ven(vtn.url, "b") as b:
        body = encode(Poll(ven_id="a"))
        codes = [(await a.post("OadrPoll", body)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert int((await a.post("OadrPoll", body)).headers["Retry-After"]) >= 1
        assert (await b.poll()).response.code == 200


async def test_no_stranger_fills_the_memory_of_signed_messages(store: Store, clock: FixedClock) -> None:
    remembered: list[str] = []

    class Replay:
        async def first_time(self, nonce: str) -> bool:
            remembered.append(nonce)
            return True

    async with running_vtn(store, clock, replay=Replay(), stranger_per_s=0.2) as vtn, httpx.AsyncClient() as http:
        for _ in range(4):
            body = encode(Poll(ven_id="x"), signer=party("nobody").signer(clock))
            await http.post(f"{vtn.url}/OadrPoll", content=body)
        again = await http.post(f"{vtn.url}/OadrPoll", content=body)
    assert len(remembered) == 2
    assert again.status_code == 429, "who is asked to come again may send the same bytes, which were not taken"


async def test_who_cannot_show_the_certificate_of_a_ven_does_not_use_up_its_limit(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a", fingerprint=party("a").fingerprint)
    proxied = {"proxies": frozenset({"127.0.0.1"}), "proxy_header": "X-Cert", "ven_per_s": 0.2}
    async with running_vtn(store, clock, **proxied) as vtn, httpx.AsyncClient() as http:
        registering = encode(CreateRegistration(request_id="1", ven_name="a"))
        mine, theirs = ({"X-Cert": party(name).fingerprint} for name in ("a", "b"))
        await http.post(f"{vtn.url}/EiRegisterParty", content=registering, headers=mine)
        body = encode(Poll(ven_id="a"))
        for headers in (theirs, {}, theirs, {}):
            await http.post(f"{vtn.url}/OadrPoll", content=body, headers=headers)
        assert ("oadrPoll", None) in vtn.notes.peers, "nor does it stand in that VEN's log, which has no end"
        assert any("as venID a" in summary for _, summary in vtn.notes.summaries)
        assert (await http.post(f"{vtn.url}/OadrPoll", content=body, headers=mine)).status_code == 200


@pytest.mark.parametrize("limit", ["address_per_s", "stranger_per_s"])
async def test_too_many_requests_from_one_address_wait(store: Store, clock: FixedClock, limit: str) -> None:
    async with running_vtn(store, clock, **{limit: 0.2}) as vtn, httpx.AsyncClient() as http:
        bodies = [encode(Poll(ven_id=f"x{n}")) for n in range(3)]
        codes = [(await http.post(f"{vtn.url}/OadrPoll", content=body)).status_code for body in bodies]
    assert codes == [200, 200, 429]


async def test_more_at_once_than_we_take_is_asked_to_come_again(store: Store, clock: FixedClock) -> None:
    begun = f"POST {PREFIX}/OadrPoll HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n<a".encode()
    async with running_vtn(store, clock, long_at_once=1) as vtn:
        port = urlsplit(vtn.url).port
        first, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        first[1].write(begun)
        await asyncio.sleep(0.05)
        second[1].write(begun)
        assert b" 503 " in await asyncio.wait_for(second[0].readline(), 5)
        first[1].write(b"/>")
        assert b" 400 " in await asyncio.wait_for(first[0].readline(), 5)
        for _, writer in (first, second):
            writer.close()


async def test_somebody_elses_certificate_speaks_for_nobody_without_one(
    store: Store, clock: FixedClock, folder: Path
) -> None:
    theirs = party("b")
    await add_ven(store, clock, "b", fingerprint=theirs.fingerprint)
    await add_ven(store, clock, "plain")
    ca = folder / "ca.crt"
    async with running_vtn(store, clock, tls=serving(folder, require_client=False)) as vtn:
        trusting = ssl.create_default_context(cafile=str(ca))
        async with raw_ven(vtn.url, "plain", verify=trusting) as ven:
            assert (await ven.poll()).response.code == 200
        async with raw_ven(vtn.url, "plain", register=False, verify=theirs.client(folder, ca)) as ven:
            ven.ven_id = "plain"
            await ven.poll()
            assert ven.status == 403


async def test_a_connection_that_says_nothing_is_closed_and_one_too_many_as_well(
    store: Store, clock: FixedClock
) -> None:
    async with running_vtn(store, clock, request_within_s=0.3, max_connections=2) as vtn:
        port = urlsplit(vtn.url).port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        head = f"POST {PREFIX}/OadrPoll HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<a"
        held[0][1].write(head.encode())
        assert b" 408 " in await asyncio.wait_for(held[0][0].readline(), 5)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(held[1][0].read(), 5) == b""
        for _, writer in held:
            writer.close()


@pytest.mark.conformance("2.0b", "EiEvent", "VTN: a lost reply loses no event")
async def test_a_reply_that_is_lost_loses_nothing(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a")
    await tell(store, clock, an_event("e1", clock.now() + timedelta(hours=1)))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        port, body = urlsplit(vtn.url).port, encode(Poll(ven_id="a"))
        head = f"POST {PREFIX}/OadrPoll HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()

        async def ask_and_leave() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            await writer.drain()
            writer.transport.abort()

        for _ in range(3):
            await ask_and_leave()
        assert await ven.told() == [("e1", 0, "far")]
        await ven.answer("e1")
        clock.advance(timedelta(hours=1))
        for _ in range(2):
            await ask_and_leave()
        assert await ven.told() == [("e1", 0, "active")]


async def test_what_was_tolerated_or_wrong_and_whose_it_is_stands_in_the_log(store: Store, clock: FixedClock) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        body = encode(RequestEvents(request_id="r1", ven_id="a")).replace(b" ei:schemaVersion=", b" schemaVersion=")
        assert (await ven.post("EiEvent", body)).status_code == 200
        assert vtn.notes.summaries == [("oadrRequestEvent", "tolerated: attribute-without-namespace")]
        assert {peer for kind, peer in vtn.notes.peers} == {peer.id}, "from its first registration on, by name alone"
        await ven.post("EiRegisterParty", encode(CreateRegistration(request_id="r3", ven_name="stranger")))
    assert vtn.notes.summaries[-1] == ("oadrCreatePartyRegistration", "this VEN is not known here")
    assert vtn.notes.peers[-1] == ("oadrCreatedPartyRegistration", None)


async def test_who_sends_what_takes_long_to_read_is_put_off_and_no_other_is(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "ven-1")
    nonsense = b"<oadr:x/>" * 90_000
    head = b'<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"><oadr:oadrSignedObject><oadr:oadrPoll>'
    body = head + nonsense + b"</oadr:oadrPoll></oadr:oadrSignedObject></oadr:oadrPayload>"
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with running_vtn(store, clock, slow_s_per_s=0.01) as vtn, raw_ven(vtn.url, "ven-1") as ven:
        statuses = [(await ven.post("OadrPoll", body)).status_code for _ in range(3)]
        assert statuses[0] == 400
        assert statuses[-1] == 429
        assert (await ven.poll()).response.code == 200
        async with httpx.AsyncClient(transport=elsewhere) as other:
            assert (await other.post(f"{vtn.url}/OadrPoll", content=body)).status_code == 400
