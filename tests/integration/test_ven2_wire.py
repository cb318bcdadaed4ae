"""The VEN's wire: mutual TLS, a pinned certificate, signatures both ways with a stock VTN, and a hostile one."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from aiohttp import web
from openleadr import OpenADRServer
from openleadr.messaging import create_message, validate_xml_schema, validate_xml_signature
from prometheus_client import REGISTRY
from sqlalchemy import select

from market.openadr2 import Openadr2Client
from market.openadr2.codec import Signer, encode
from market.openadr2.ven import _date_of
from tests.builders_gateway import add_tenant, dispatch_event, running_ven, stock_vtn
from tests.builders_pki import Certified, TestAuthority
from tests.builders_ven2 import OK, ScriptedVtn, grid_event
from tests.clock import NOON, FixedClock
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest, PeerRefused, PeerUnreachable
from vpp.domain.grid_event import EventStatus
from vpp.domain.openadr2 import DistributedEvent
from vpp.domain.peer import Direction, Protocol
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

HOUR = timedelta(hours=1)
POLL = m.Poll(ven_id="ven-7")
OADR = b"http://openadr.org/oadr-2.0b/2012/07"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="module", params=["rsa", "ec"])
def pair(request: pytest.FixtureRequest, authority: TestAuthority) -> tuple[Certified, Certified]:
    """The VTN's certificate and ours."""
    kind: Literal["rsa", "ec"] = request.param
    return authority.certify("vtn", kind), authority.certify("ven", kind)


@pytest.fixture
def present() -> FixedClock:
    return FixedClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


def server_tls(shown: Certified, trusted: Path) -> ssl.SSLContext:
    """TLS of a VTN that lets in only whom the authority vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(trusted))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(shown.cert, shown.key)
    return context


def ours(mine: Certified, authority: TestAuthority) -> dict[str, Any]:
    return {"cert_path": mine.cert, "key_path": mine.key, "ca_path": authority.path, "timeout_s": 5.0}


@pytest.mark.conformance(
    "2.0b", "Security", "VEN: mutual TLS, the VTN's certificate pinned", peer="openleadr server 0.5.36"
)
async def test_events_flow_over_mutual_tls_with_the_certificate_pinned(
    fleet_store: Store, present: FixedClock, authority: TestAuthority, pair: tuple[Certified, Certified]
) -> None:
    theirs, mine = pair
    wire = ours(mine, authority) | {"tls_fingerprint": theirs.fingerprint}
    async with (
        ScriptedVtn().serving(tls=server_tls(theirs, authority.path)) as vtn,
        running_ven(fleet_store, present, vtn.url, **wire) as ven,
    ):
        vtn.tell(grid_event("E1", present.now() + HOUR, 400.0))
        await ven.step()
    assert vtn.opts[0] == ("E1", 0, "in", 200)


async def test_a_vtn_is_not_spoken_to_that_is_not_vouched_for_or_not_the_one_pinned(
    authority: TestAuthority, strangers: TestAuthority, pair: tuple[Certified, Certified]
) -> None:
    theirs, mine = pair
    async with ScriptedVtn().serving(tls=server_tls(theirs, authority.path)) as vtn:
        for wire, why in (
            (ours(mine, strangers), "CERTIFICATE_VERIFY_FAILED"),
            (ours(mine, authority) | {"tls_fingerprint": mine.fingerprint}, f"shows {theirs.fingerprint}"),
        ):
            client = Openadr2Client("utility", vtn.url, **wire)
            with pytest.raises(PeerUnreachable, match=why):
                await client.ask(POLL)
            await client.close()
        stranger = strangers.certify("stranger", "ec")
        client = Openadr2Client("utility", vtn.url, **ours(stranger, authority))
        vtn.heard.clear()
        with pytest.raises(PeerUnreachable):  # it does not let in whom its authority does not vouch for
            await client.ask(POLL)
        await client.close()
        assert vtn.heard == []


async def test_a_pinned_vtn_that_speaks_no_tls_is_refused() -> None:
    async with ScriptedVtn().serving() as vtn:
        client = Openadr2Client("utility", vtn.url, tls_fingerprint="00:11:22:33:44:55:66:77:88:99")
        with pytest.raises(PeerUnreachable, match="no certificate"):
            await client.ask(POLL)
        await client.close()


def sign_and_check(server: OpenADRServer, *, shown: Certified, expected: str, checked: list[str]) -> None:
    """Let a stock VTN sign what it says, and check and note what it hears, as it would behind TLS."""
    cert, key = shown.cert.read_bytes(), shown.key.read_bytes()
    for service in server.services.values():
        service._create_message = partial(create_message, cert=cert, key=key)

    @web.middleware
    async def check(request: web.Request, handler: Any) -> web.StreamResponse:
        tree = validate_xml_schema(await request.read())
        validate_xml_signature(tree, expected)
        checked.append(tree.find(".//{*}oadrSignedObject/*").tag.rpartition("}")[2])
        response: web.StreamResponse = await handler(request)
        return response

    server.app.middlewares.append(check)


@pytest.mark.conformance("2.0b", "Security", "VEN: XML signatures both ways", peer="openleadr server 0.5.36")
async def test_signed_messages_pass_both_ways_with_a_stock_vtn(
    fleet_store: Store, present: FixedClock, pair: tuple[Certified, Certified]
) -> None:
    theirs, mine = pair
    checked: list[str] = []
    prepare = partial(sign_and_check, shown=theirs, expected=mine.fingerprint, checked=checked)
    wire = {"cert_path": mine.cert, "key_path": mine.key, "sign": True}
    async with (
        stock_vtn(prepare=prepare) as vtn,
        running_ven(fleet_store, present, vtn.url, vtn_fingerprint=theirs.fingerprint, **wire) as ven,
    ):
        vtn.announce(dispatch_event("E1", present.now() + HOUR, 400.0))
        await ven.step()
        assert set(vtn.opts) == {("E1", 0, "optIn")}
    assert {"oadrCreatePartyRegistration", "oadrPoll", "oadrCreatedEvent"} <= set(checked)


@pytest.mark.conformance("2.0b", "Security", "VEN: what is not signed as it must be changes nothing")
async def test_what_is_not_signed_as_it_must_be_changes_nothing(
    fleet_store: Store, present: FixedClock, authority: TestAuthority
) -> None:
    theirs, stranger = authority.certify("signing", "ec"), authority.certify("stranger", "ec")
    signer = Signer(theirs.cert.read_bytes(), theirs.key.read_bytes(), clock=present)
    async with (
        ScriptedVtn(signer=signer).serving() as vtn,
        running_ven(fleet_store, present, vtn.url, vtn_fingerprint=theirs.fingerprint) as ven,
    ):
        await ven.step()
        vtn.events = [grid_event("E1", present.now() + HOUR, 400.0)]
        told = vtn.distribution()
        for raw in (
            encode(told),
            encode(told, signer=Signer(stranger.cert.read_bytes(), stranger.key.read_bytes(), clock=present)),
            encode(told, signer=signer).replace(b"400.0", b"900.0"),
        ):
            vtn.raw, vtn.events = raw, []
            await ven.step()
            assert reachable() == 0
        assert vtn.opts == []
        vtn.raw = encode(m.Acknowledge(response=OK), signer=signer)
        await ven.step()
        assert reachable() == 1
        await ven.step()  # the same again is a replay
        assert reachable() == 0
        async with fleet_store.begin() as connection:
            assert (await connection.execute(select(commitment))).all() == []
        vtn.raw, vtn.events = None, [grid_event("E1", present.now() + HOUR, 400.0)]
        await ven.step()
        assert vtn.opts == [("E1", 0, "in", 200)]


def test_signing_without_a_key_or_checking_without_a_clock_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="certificate and key"):
        Openadr2Client("utility", "http://127.0.0.1:9", sign=True)
    with pytest.raises(InvalidRequest, match="clock"):
        Openadr2Client("utility", "http://127.0.0.1:9", vtn_fingerprint="AA:BB")


def reachable() -> float | None:
    """Whether the last round went well."""
    return REGISTRY.get_sample_value("vpp_gateway_reachable", {"source": "openadr2:utility"})


HOSTILE = {
    "entity": b'<!DOCTYPE a [<!ENTITY b "c">]><oadrPayload xmlns="' + OADR + b'">&b;</oadrPayload>',
    "billion laughs": b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><l>&b;</l>',
    "utf-16": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"),
    "deep": b"<a>" * 50_000 + b"</a>" * 50_000,
    "large": b"<a>" + b"x" * 2_000_000 + b"</a>",
    "html": b"<html><body>503 Service Unavailable</body></html>",
    "nothing of ours": b'<?xml version="1.0"?><oadrPayload xmlns="' + OADR + b'"/>',
    "cut": b'<?xml version="1.0"?><oadrPayload xmlns="' + OADR + b'"><oadrSignedObject>',
    "binary": bytes(range(256)) * 40,
}


async def test_a_hostile_vtn_is_refused_and_its_next_honest_word_is_heard(
    fleet_store: Store, present: FixedClock
) -> None:
    async with ScriptedVtn().serving() as vtn, running_ven(fleet_store, present, vtn.url) as ven:
        await ven.step()
        for name, raw in HOSTILE.items():
            vtn.raw = raw
            await ven.step()
            assert reachable() == 0, name
        vtn.raw = None
        vtn.tell(grid_event("E1", present.now() + HOUR, 400.0))
        await ven.step()
        assert ("E1", 0, "in", 200) in vtn.opts


async def test_a_utility_may_tell_more_than_a_megabyte_of_events() -> None:
    curve = grid_event("price", NOON, *[float(n) for n in range(96)])
    told = tuple(DistributedEvent(event=replace(curve, event_id=f"p{n}"), status=EventStatus.FAR) for n in range(45))
    async with ScriptedVtn().serving() as vtn:
        vtn.queue.append(m.DistributeEvents(request_id="1", vtn_id="Utility2", events=told))
        client = Openadr2Client("utility", vtn.url, timeout_s=5.0)
        heard = (await client.ask(POLL)).message
        await client.close()
    assert isinstance(heard, m.DistributeEvents)
    assert len(heard.events) == 45


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 99 Foo 2026", "", "0"])
def test_a_time_that_cannot_be_is_no_time(date: str) -> None:
    assert _date_of(httpx.Response(200, headers={"date": date})) is None


class HeardLog:
    """A message log that keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[tuple[Direction, str, str]] = []
        self.bodies: list[bytes | str] = []

    def note(
        self,
        *,
        protocol: Protocol,
        direction: Direction,
        kind: str,
        status: str,
        peer: str | None = None,
        summary: str = "",
        body: bytes | str = b"",
    ) -> None:
        assert (protocol, peer) == (Protocol.OPENADR2, "peer-1")
        self.noted.append((direction, kind, status))
        self.bodies.append(body)


async def test_every_message_is_noted_with_its_code_also_one_that_fails() -> None:
    noted = HeardLog()
    async with ScriptedVtn().serving() as vtn:
        client = Openadr2Client("utility", vtn.url, log=noted, peer_id="peer-1", timeout_s=5.0)
        await client.ask(POLL)
        vtn.refuse[m.Poll] = 452
        with pytest.raises(PeerRefused):
            await client.ask(POLL)
        vtn.without = {"OadrPoll"}
        with pytest.raises(PeerUnreachable):
            await client.ask(POLL)
        await client.close()
    out, back = (Direction.OUT, "oadrPoll", ""), Direction.IN
    assert noted.noted == [
        out, (back, "oadrResponse", "200"), out, (back, "oadrResponse", "452"), out, (back, "oadrPoll", "failed"),
    ]  # fmt: skip
    assert b"oadrPoll" in noted.bodies[0]
