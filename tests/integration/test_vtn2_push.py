"""Push: VENs of our OpenADR 2.0b VTN that do not poll are told at their own address, over failures and restarts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from market.openadr2.codec import Signer, decode, encode
from market.openadr2.push import Openadr2Pusher, address_of
from market.openadr2.rendering import Renderer
from tests.builders_processes import eventually
from tests.builders_vtn2 import (
    Notes,
    Vtn,
    add_ven,
    an_event,
    listed,
    own_database,
    raw_ven,
    running_vtn,
    swept_store,
    tell,
    withdraw,
)
from tests.builders_vtn2_certs import party
from tests.clock import FixedClock
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Target, TargetKind
from vpp.domain.openadr2 import (
    Acknowledge,
    CanceledRegistration,
    CanceledReports,
    CancelRegistration,
    CancelReports,
    CreatedReports,
    CreateReports,
    Openadr2Message,
    PointOffer,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportOffer,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway.notify import AddressRules, CallbackGuard, pushable
from vpp.gateway.vtn import PushLoop
from vpp.gateway.vtn.pushing import AGAIN, AT_ONCE, DOUBTFUL_AT_ONCE
from vpp.peering import ask_report, cancel_report, end_registration, report_requests
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        yield store


@dataclass(slots=True)
class Listener:
    """A VEN's own server: what it heard, and how it answers."""

    url: str = ""
    heard: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    signer: Signer | None = None
    silent: bool = False

    async def hear(self, request: web.Request) -> web.Response:
        body = await request.read()
        message = decode(body).message
        self.bodies.append(body)
        self.heard.append((request.path.rpartition("/")[2], message))
        if self.silent:
            await asyncio.sleep(30)
        if self.status != 200:
            return web.Response(status=self.status)
        return web.Response(body=encode(_answer_to(message), signer=self.signer), content_type="application/xml")

    def events(self) -> list[list[tuple[str, int, str]]]:
        return [listed(message) for _, message in self.heard]

    async def has(self, condition: Callable[[], bool]) -> None:
        async def is_so() -> bool:
            return condition()

        assert await eventually(is_so, 20), self.heard


def _failures(said: Sequence[Mapping[str, Any]]) -> int:
    """Pushes that are known to have failed, so that the wait for the next has begun."""
    return [each["event"] for each in said].count("push failed")


def _answer_to(message: Openadr2Message) -> Openadr2Message:
    match message:
        case CreateReports():
            pending = tuple(each.report_request_id for each in message.demands)
            return CreatedReports(response=Response(request_id=message.request_id), pending=pending, ven_id="a")
        case CancelReports():
            return CanceledReports(response=Response(request_id=message.request_id), ven_id="a")
        case RegisterReports():
            status = ReportDemand(
                report_request_id="r1", specifier_id="vpp-received-status", points=(("ven", "x-notApplicable"),),
                granularity=timedelta(0), back=timedelta(0),
            )  # fmt: skip
            return RegisteredReports(response=Response(request_id=message.request_id), demands=(status,), ven_id="a")
        case UpdateReports():
            return UpdatedReports(response=Response(request_id=message.request_id), ven_id="a")
        case CancelRegistration():
            done = Response(request_id=message.request_id)
            return CanceledRegistration(response=done, registration_id=message.registration_id, ven_id="a")
    return Acknowledge(response=Response(request_id=getattr(message, "request_id", "")), ven_id="a")


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    app = web.Application()
    app.router.add_post("/ven/{service}", listener.hear)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listener.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ven"
    try:
        yield listener
    finally:
        await runner.cleanup()


@asynccontextmanager
async def pushing(vtn: Vtn, clock: FixedClock, **options: Any) -> AsyncIterator[None]:
    pusher = Openadr2Pusher(
        clock, Renderer(options.pop("signer", None)), messages=Notes(), timeout_s=options.pop("timeout_s", 5)
    )
    task = asyncio.create_task(PushLoop(vtn.desk, pusher, **options).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pusher.close()


@pytest.mark.conformance("2.0b", "Push", "VTN: events are pushed to VENs that do not poll")
async def test_a_ven_that_does_not_poll_is_pushed_every_change_and_reminded_until_it_answers(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    async with listening() as heard, running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        await ven.register(http_pull=False, transport_address=heard.url)
        async with pushing(vtn, clock):
            event = await tell(store, clock, an_event("e1", clock.now() + HOUR))
            await heard.has(lambda: heard.events() == [[("e1", 0, "far")]])
            assert heard.heard[0][0] == "EiEvent"

            def is_reminded() -> bool:  # its wait begins when its answer was read, which may be after we look
                clock.advance(AGAIN[0] / 10)
                return len(heard.heard) == 2

            await heard.has(is_reminded)
            assert (await ven.answer("e1")).code == 200
            clock.advance(HOUR)
            await heard.has(lambda: heard.events()[-1] == [("e1", 0, "active")])
            assert (await ven.answer("e1")).code == 200
            await withdraw(store, clock, event)
            await heard.has(lambda: heard.events()[-1] == [("e1", 1, "cancelled")])
            assert (await ven.answer("e1", 1)).code == 200
            told = len(heard.heard)
            clock.advance(HOUR)
            await asyncio.sleep(0.05)
            assert len(heard.heard) == told


async def test_a_push_that_fails_is_repeated_after_a_restart_and_when_its_wait_is_over(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a")
    async with listening() as heard:
        heard.status = 500
        async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
            await ven.register(http_pull=False, transport_address=heard.url)
            await vtn.knows(await tell(store, clock, an_event("e1", clock.now() + HOUR)))
            with capture_logs() as said:
                async with pushing(vtn, clock):
                    await heard.has(lambda: _failures(said) == 1)
                    clock.advance(AGAIN[0])
                    await heard.has(lambda: _failures(said) == 2)
                    clock.advance(AGAIN[0])  # the second wait is twice as long
                    await asyncio.sleep(0.05)
                    assert len(heard.heard) == 2
        heard.status = 200
        async with running_vtn(store, clock) as vtn, pushing(vtn, clock):
            await heard.has(lambda: len(heard.heard) == 3)
        assert heard.events()[-1] == [("e1", 0, "far")]


@pytest.mark.conformance("2.0b", "Push", "VTN: report requests and cancellations are pushed")
async def test_reports_and_the_end_of_a_registration_are_pushed_and_their_answers_taken(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    point = PointOffer(r_id="p", report_type="usage", reading_type="Direct Read", unit="kW", item="powerReal")
    offer = ReportOffer(specifier_id="s", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=clock.now())
    minute = timedelta(minutes=1)
    async with listening() as heard, running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        await ven.register(http_pull=False, transport_address=f"{heard.url}/EiEvent")
        await ven.say("EiReport", RegisterReports(request_id="o", offers=(offer,), ven_id="a"))
        async with pushing(vtn, clock):
            async with store.begin() as connection:
                asked = await ask_report(
                    connection, peer.id, specifier_id="s", points=[("p", "Direct Read")], granularity=minute,
                    back=minute, at=clock.now(),
                )  # fmt: skip

            async def state() -> str:
                async with store.begin() as connection:
                    return (await report_requests(connection, peer.id))[0].state

            async def runs() -> bool:
                return await state() == "running"

            assert await eventually(runs, 5)
            async with store.begin() as connection:
                await cancel_report(connection, asked, tenant_id="t1", at=clock.now())
                await end_registration(connection, peer.id, at=clock.now())
            await heard.has(lambda: any(isinstance(each, CancelRegistration) for _, each in heard.heard))
    assert [service for service, _ in heard.heard][:1] == ["EiReport"]


async def test_a_push_is_signed_for_a_ven_that_signs_and_kept_from_private_networks_where_told_to(
    store: Store, clock: FixedClock
) -> None:
    mine = party("a-ec")
    await add_ven(store, clock, "a", fingerprint=mine.fingerprint)
    signer = party("vtn", "rsa").signer(clock)
    async with listening() as heard, running_vtn(store, clock, signer=signer) as vtn:
        async with raw_ven(vtn.url, "a", register=False, signer=mine.signer(clock)) as ven:
            await ven.register(http_pull=False, transport_address=heard.url, xml_signature=True)
        await vtn.knows(await tell(store, clock, an_event("e1", clock.now() + HOUR)))
        guard = CallbackGuard(AddressRules())
        with pytest.raises(InvalidRequest):
            await guard.destination(heard.url)
        async with pushing(vtn, clock, allowed=guard.destination):
            await asyncio.sleep(0.1)
            assert heard.heard == []
        async with pushing(vtn, clock, signer=signer):
            await heard.has(lambda: len(heard.heard) == 1)
    assert b"<ds:SignatureValue>" in heard.bodies[0]


@pytest.mark.parametrize("signed_by", [None, "b-ec", "a-ec"])
async def test_what_a_ven_that_signs_answers_to_a_push_counts_only_with_its_own_signature(
    store: Store, clock: FixedClock, signed_by: str | None
) -> None:
    mine = party("a-ec")
    peer = await add_ven(store, clock, "a", fingerprint=mine.fingerprint)
    async with listening() as heard, running_vtn(store, clock) as vtn:
        heard.signer = party(signed_by).signer(clock) if signed_by else None
        async with raw_ven(vtn.url, "a", register=False, signer=mine.signer(clock)) as ven:
            await ven.register(http_pull=False, transport_address=heard.url, xml_signature=True)
        async with store.begin() as connection:
            await end_registration(connection, peer.id, at=clock.now())
        async with pushing(vtn, clock):
            await heard.has(lambda: len(heard.heard) == 1)

            async def ended() -> bool:
                return not vtn.desk.room.view.vens[peer.id].is_registered

            assert await eventually(ended, 5 if signed_by == "a-ec" else 0.3) is (signed_by == "a-ec")


async def test_vens_that_cannot_be_reached_hold_up_none_that_can(store: Store, clock: FixedClock) -> None:
    async with listening() as deaf, listening() as heard, running_vtn(store, clock) as vtn:
        deaf.silent = True
        for number in range(AT_ONCE):
            await add_ven(store, clock, f"deaf-{number}", groups=("deaf",))
            async with raw_ven(vtn.url, f"deaf-{number}", register=False) as ven:
                await ven.register(http_pull=False, transport_address=deaf.url)
        await add_ven(store, clock, "a")
        async with raw_ven(vtn.url, "a", register=False) as ven:
            await ven.register(http_pull=False, transport_address=heard.url)
        to_deaf = (Target(TargetKind.GROUP, "deaf"),)
        await vtn.knows(await tell(store, clock, an_event("e1", clock.now() + HOUR, targets=to_deaf)))
        with capture_logs() as said:
            async with pushing(vtn, clock, timeout_s=0.8):
                await deaf.has(lambda: _failures(said) == AT_ONCE)
                before = len(deaf.heard)
                clock.advance(AGAIN[0])
                await deaf.has(lambda: len(deaf.heard) > before)
                await vtn.knows(await tell(store, clock, an_event("e2", clock.now() + HOUR)))
                await heard.has(lambda: len(heard.heard) == 1)
                assert len(deaf.heard) <= AT_ONCE + 2 * DOUBTFUL_AT_ONCE  # a few at a time, while the others are told


@pytest.mark.parametrize(
    ("host", "is_a_vens"),
    [
        ("169.254.169.254", False), ("[fe80::1]", False), ("0.0.0.0", False), ("224.0.0.1", False), ("[::]", False),
        ("[::ffff:169.254.169.254]", False), ("ven.example", False), ("10.1.2.3", True), ("127.0.0.1", True),
        ("[fd00::1]", True), ("ven.test", True),
    ],
)  # fmt: skip
async def test_a_ven_is_pushed_to_where_it_may_live_and_not_where_no_ven_is(host: str, is_a_vens: bool) -> None:
    async def resolve(name: str, port: int) -> list[str]:
        return {"ven.example": ["192.168.1.1", "169.254.169.254"], "ven.test": ["192.168.1.1"]}[name]

    try:
        await pushable(f"http://{host}:8080/ven", resolve=resolve)
    except InvalidRequest:
        assert not is_a_vens
    else:
        assert is_a_vens


def test_a_message_goes_to_its_service_under_the_address_given() -> None:
    for given in ("http://ven/x", "http://ven/x/", "http://ven/x/EiReport"):
        assert address_of(given, "oadrDistributeEvent") == "http://ven/x/EiEvent"


@pytest.mark.conformance("2.0b", "Push", "VTN as the reporting end: reports are offered, confirmed and sent")
async def test_reports_to_a_ven_that_does_not_poll_are_offered_confirmed_and_sent_to_its_address(
    store: Store, clock: FixedClock
) -> None:
    await add_ven(store, clock, "a", config={"offer_reports": True})
    async with listening() as heard, running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        await ven.register(http_pull=False, transport_address=heard.url)
        async with pushing(vtn, clock):
            await heard.has(lambda: len(heard.heard) == 3)
    (_, offered), (_, confirmed), (service, told) = heard.heard
    assert isinstance(offered, RegisterReports)
    assert isinstance(confirmed, CreatedReports)
    assert (confirmed.pending, service) == (("r1",), "EiReport")
    assert [value.value.online for update in told.updates for value in update.values] == [True]
