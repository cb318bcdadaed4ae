"""Reports our OpenADR 2.0b VTN sends to VENs: what it holds of each one's own reports, and of nobody else's."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from tests.builders_processes import eventually
from tests.builders_vtn2 import RawVen, Vtn, add_ven, own_database, raw_ven, running_vtn, swept_store
from tests.clock import FixedClock
from vpp.domain.openadr2 import (
    INVALID_ID,
    REPORT_NOT_SUPPORTED,
    Acknowledge,
    CancelRegistration,
    CancelReports,
    CreatedReports,
    CreateReports,
    PointOffer,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    ResourceStatus,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.domain.peer import Peer
from vpp.gateway.vtn.polling import AGAIN_AFTER
from vpp.gateway.vtn.sending import MAX_STANDING, PAGE
from vpp.gateway.vtn.view import MAX_SENDS
from vpp.peering import ask_report, revoke_peer
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store
from vpp.store.tables.gateway import openadr2_report_request

NOON = datetime(2026, 7, 1, 19, 0, tzinfo=UTC)
MINUTE, HOUR, NOTHING = timedelta(minutes=1), timedelta(hours=1), timedelta(0)
USAGE, STATUS, HISTORY = "vpp-received-usage", "vpp-received-status", "vpp-received-history"
P1 = "spec/p1"


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        async with store.begin() as connection:
            await connection.execute(text("delete from openadr2_report_request"))
        yield store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


class Site:
    """A VEN that offers power in kW and a status, was asked for both, and says what the test has it say."""

    def __init__(self, vtn: Vtn, ven: RawVen, peer: Peer, store: Store) -> None:
        self.vtn, self.ven, self.peer, self.store = vtn, ven, peer, store
        self.asked: dict[str, str] = {}

    async def offers(self, at: datetime) -> None:
        """Offer, and be asked for all of it."""
        power = PointOffer(
            r_id="p1", report_type="usage", reading_type="Direct Read", unit="kW", scale="k", item="powerReal",
            min_sampling=MINUTE, max_sampling=MINUTE,
        )  # fmt: skip
        status = PointOffer(r_id="s1", report_type="x-resourceStatus", reading_type="x-notApplicable")
        offers = (
            ReportOffer(specifier_id="spec", name="METADATA_TELEMETRY_USAGE", points=(power,), created_at=at),
            ReportOffer(specifier_id="state", name="METADATA_TELEMETRY_STATUS", points=(status,), created_at=at),
        )
        await self.say(RegisterReports(request_id="o", offers=offers, ven_id=self.ven.ven_id))
        async with self.store.begin() as connection:
            for offer in offers:
                points = [(point.r_id, point.reading_type) for point in offer.points]
                self.asked[offer.specifier_id] = await ask_report(
                    connection, self.peer.id, specifier_id=offer.specifier_id, points=points,
                    granularity=MINUTE, back=MINUTE, at=at,
                )  # fmt: skip
            asking = text("update vtn2_outbox set closed_at = now(), outcome = 'test' where peer_id = :peer")
            await connection.execute(asking, {"peer": self.peer.id})
        await self.vtn.desk.room.keeper.load_ven(self.peer.id)

    async def reports(self, start_at: datetime, *values: float | ResourceStatus) -> None:
        """Send a value of each minute."""
        specifier_id, r_id = ("state", "s1") if isinstance(values[0], ResourceStatus) else ("spec", "p1")
        told = tuple(
            ReportedValue(
                r_id=r_id,
                start_at=start_at + n * MINUTE,
                duration=MINUTE,
                value=value,
                quality="Quality Good - Non Specific",
            )
            for n, value in enumerate(values)
        )
        report = ReportUpdate(
            report_request_id=self.asked[specifier_id], specifier_id=specifier_id, name="TELEMETRY_USAGE",
            created_at=start_at, values=told,
        )  # fmt: skip
        assert (
            await self.say(UpdateReports(request_id="u", updates=(report,), ven_id=self.ven.ven_id))
        ).response.code == 200

    async def say(self, message: Any) -> Any:
        return await self.ven.say("EiReport", message)

    async def asks(self, *demands: ReportDemand) -> CreatedReports:
        """Ask for reports."""
        answer = await self.say(CreateReports(request_id="c", demands=demands, ven_id=self.ven.ven_id))
        assert isinstance(answer, CreatedReports)
        return answer

    async def hears(self, *, confirm: bool = True) -> list[ReportedValue] | None:
        """Poll, confirm the values that come and return them; None where none come."""
        told = await self.ven.poll()
        if not isinstance(told, UpdateReports):
            return None
        if confirm:
            await self.confirms(told)
        return [value for update in told.updates for value in update.values]

    async def confirms(self, told: UpdateReports, *, code: int = 200, cancel: CancelReports | None = None) -> None:
        answer = UpdatedReports(response=Response(code, "", told.request_id), cancel=cancel, ven_id=self.ven.ven_id)
        assert isinstance(await self.say(answer), Acknowledge)

    async def is_told(self) -> None:
        """Wait until something waits for it."""
        await self.vtn.heard(lambda: bool(self.vtn.desk.room.view.vens[self.peer.id].queue))


def demand(id_: str, specifier_id: str, *points: str, **fields: Any) -> ReportDemand:
    given: dict[str, Any] = {"granularity": NOTHING, "back": NOTHING} | fields
    return ReportDemand(
        report_request_id=id_,
        specifier_id=specifier_id,
        points=tuple((each, "Direct Read") for each in points),
        **given,
    )


def history(id_: str, start_at: datetime, duration: timedelta, *points: str) -> ReportDemand:
    return demand(id_, HISTORY, *(points or (P1,)), start_at=start_at, duration=duration)


def of(values: list[ReportedValue] | None) -> list[tuple[str, datetime, Any]] | None:
    return None if values is None else [(value.r_id, value.start_at, value.value) for value in values]


async def standing(store: Store) -> int:
    table = openadr2_report_request.c
    async with store.begin() as connection:
        query = select(func.count()).where(table.done_at.is_(None))
        return int((await connection.execute(query)).scalar_one())


class Running:
    """A VTN on the store with VENs `a` and, where named, others."""

    def __init__(self, store: Store, clock: FixedClock) -> None:
        self.store, self.clock = store, clock

    async def site(self, vtn: Vtn, ven: RawVen, name: str, **fields: Any) -> Site:
        return Site(vtn, ven, await add_ven(self.store, self.clock, name, **fields), self.store)


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: METADATA on request, code 461 for the rest")
async def test_a_ven_that_asks_is_told_what_we_hold_of_its_own_reports_and_refused_what_is_not_offered(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        site = Site(vtn, ven, peer, store)
        await site.offers(NOON)
        answer = await site.asks(demand("m1", "METADATA", "0"))
        assert (answer.response.code, answer.response.request_id, answer.pending) == (200, "c", ())
        told = await ven.poll()
        assert isinstance(told, RegisterReports)
        assert told.report_request_id == "m1"
        assert {(o.name, o.specifier_id, p.r_id, p.unit, p.reading_type) for o in told.offers for p in o.points} == {
            ("METADATA_TELEMETRY_USAGE", USAGE, P1, "kW", "Direct Read"),
            ("METADATA_HISTORY_USAGE", HISTORY, P1, "kW", "Direct Read"),
            ("METADATA_TELEMETRY_STATUS", STATUS, "ven", None, "x-notApplicable"),
            ("METADATA_TELEMETRY_STATUS", STATUS, "state/s1", None, "x-notApplicable"),
        }
        again = RegisteredReports(
            response=Response(request_id=told.request_id), demands=(demand("r0", STATUS, "ven"),), ven_id="a"
        )
        created = await site.say(again)  # asked for with the answer to what is offered, as the profile has it
        assert isinstance(created, CreatedReports)
        assert created.pending == ("r0",)
        assert of(await site.hears()) == [("ven", NOON, ResourceStatus(online=True, overridden=False))]
        wrong = [
            demand("r1", "nobodys", P1), demand("r2", USAGE, "ven"), demand("r3", USAGE, "p1"),
            demand("r4", HISTORY, P1), history("r5", NOON, HOUR), history("r6", NOON - timedelta(days=500), HOUR),
            demand("r7", USAGE, P1, granularity=timedelta(seconds=1), back=HOUR),
            demand("r9", STATUS, "ven", back=timedelta(seconds=59)),
        ]  # fmt: skip
        answer = await site.asks(*wrong, demand("r8", USAGE, P1))
        assert (answer.response.code, answer.pending) == (REPORT_NOT_SUPPORTED, ("r8",))
        assert all(f"r{n}: " in answer.response.description for n in (*range(1, 8), 9))
        assert await site.hears() == [], "nothing was received of it yet, and a report that ends says so"
        assert await site.hears() is None
        many = [demand(f"n{n}", USAGE, P1, back=HOUR) for n in range(MAX_STANDING + 1)]
        answer = await site.asks(*many)
        assert (answer.response.code, len(answer.pending)) == (REPORT_NOT_SUPPORTED, MAX_STANDING)


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: HISTORY_USAGE page by page, over a restart")
async def test_a_history_comes_page_by_page_as_it_was_received_and_goes_on_after_a_restart(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    count, start_at = 2 * PAGE + 10, NOON - 12 * HOUR
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        site = Site(vtn, ven, peer, store)
        await site.offers(NOON)
        await site.reports(start_at, *(float(n) for n in range(count)))
        await site.reports(start_at + count * MINUTE + HOUR, 7.5)  # a gap before it, in which nothing is made up
        await site.reports(NOON, 99.0)
        asked = history("h1", start_at + MINUTE, 12 * HOUR - MINUTE)
        for _ in range(2):  # asked again, for the answer may have been lost, it is the same report
            assert (await site.asks(asked)).response.code == 200
        first = await site.hears(confirm=False)
        assert len(first or ()) == PAGE
    clock.advance(AGAIN_AFTER)
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a", register=False) as ven:
        ven.ven_id = "a"
        site = Site(vtn, ven, peer, store)
        pages = [await site.hears() for _ in range(4)]
        assert pages[0] == first, "what was not confirmed comes again"
        assert pages[3] is None
        values = [value for page in pages for value in page or ()]
        assert [(value.start_at, value.value) for value in values] == [
            *((start_at + n * MINUTE, float(n)) for n in range(1, count)), (start_at + count * MINUTE + HOUR, 7.5)
        ]  # fmt: skip
        assert {(value.r_id, value.duration, value.quality) for value in values} == {
            (P1, MINUTE, "Quality Good - Non Specific")
        }
        assert (await site.asks(asked)).pending == (), "it was answered and is not answered twice"
        assert await site.hears() is None


@pytest.mark.conformance(
    "2.0b",
    "EiReport",
    "VTN as the reporting end: periodic TELEMETRY_USAGE and TELEMETRY_STATUS, one-shot, oadrCancelReport",
)
async def test_periodic_reports_tell_what_was_received_since_until_they_are_cancelled(
    store: Store, clock: FixedClock
) -> None:
    peer = await add_ven(store, clock, "a")
    online = ResourceStatus(online=True, overridden=True, levels=(("capacity", 3.0),))
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        site = Site(vtn, ven, peer, store)
        await site.offers(NOON)
        await site.reports(NOON - 5 * MINUTE, 1.0, 2.0)
        await site.asks(demand("once", USAGE, P1))
        assert of(await site.hears()) == [(P1, NOON - 4 * MINUTE, 2.0)]
        five = 5 * MINUTE
        answer = await site.asks(
            demand("u", USAGE, P1, granularity=2 * MINUTE, back=five), demand("s", STATUS, "ven", "state/s1", back=five)
        )
        assert answer.pending == ("s", "u")
        await site.reports(NOON, 3.0, 4.0, 5.0)
        await site.reports(NOON, online)
        assert await site.hears() is None, "the time to report has not come"
        clock.advance(five)
        await site.is_told()
        assert of(await site.hears()) == [
            ("state/s1", NOON, online), ("ven", NOON + five, ResourceStatus(online=False, overridden=True))
        ], "it was silent for five minutes"  # fmt: skip
        latest_of_two_minutes = [(P1, NOON + MINUTE, 4.0), (P1, NOON + 2 * MINUTE, 5.0)]
        assert of(await site.hears()) == latest_of_two_minutes
        assert await site.hears() is None
        await site.reports(NOON + 4 * MINUTE, 6.0)
        stop = CancelReports(request_id="x", report_request_ids=("u",), to_follow=True, ven_id="a")
        ended = await site.say(stop)
        assert (ended.response.code, ended.pending) == (200, ("s",))
        assert of(await site.hears()) == [(P1, NOON + 4 * MINUTE, 6.0)], "what there was of it follows"
        assert (await site.say(stop)).response.code == INVALID_ID
        clock.advance(4 * MINUTE)
        assert await site.hears() is None
        clock.advance(MINUTE)
        await site.is_told()
        (last,) = (await ven.poll()).updates
        assert [each.value.online for each in last.values] == [True]
        clock.advance(AGAIN_AFTER)
        waiting = await ven.poll()
        await site.confirms(waiting, cancel=replace(stop, report_request_ids=("s",)))
        assert await standing(store) == 0


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: a VEN hears of itself only")
async def test_no_ven_is_told_anything_of_another(store: Store, clock: FixedClock) -> None:
    peers = {name: await add_ven(store, clock, name) for name in "ab"}
    async with (
        running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as first, raw_ven(vtn.url, "b") as second,
    ):  # fmt: skip
        a, b = Site(vtn, first, peers["a"], store), Site(vtn, second, peers["b"], store)
        reported = ((a, NOON - HOUR, 1.0), (b, NOON - HOUR - MINUTE, 2.0))
        for site, at, value in reported:  # by the same names
            await site.offers(NOON)
            await site.reports(at, value)
        for site, at, value in reported:
            await site.asks(demand("same", USAGE, P1), history("past", NOON - 2 * HOUR, 2 * HOUR))
            assert [of(await site.hears()) for _ in range(3)] == 2 * [[(P1, at, value)]] + [None]
        await a.asks(demand("mine", USAGE, P1, back=HOUR))
        stop = CancelReports(request_id="x", report_request_ids=("mine",), to_follow=False, ven_id="b")
        assert (await b.say(stop)).response.code == INVALID_ID
        assert await standing(store) == 1


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: reports end with the registration")
@pytest.mark.parametrize("by", ["registering anew", "signing off", "revocation", "silence", "refusal"])
async def test_reports_end_when_the_ven_goes_or_does_not_take_them(store: Store, clock: FixedClock, by: str) -> None:
    peer = await add_ven(store, clock, "a")
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        site = Site(vtn, ven, peer, store)
        await site.offers(NOON)
        await site.asks(demand("s", STATUS, "ven", back=MINUTE))
        clock.advance(MINUTE)
        await site.is_told()
        told = await ven.poll()
        match by:
            case "registering anew":
                await ven.register()
            case "signing off":
                leave = CancelRegistration(request_id="l", registration_id=ven.registration_id, ven_id="a")
                await ven.say("EiRegisterParty", leave)
            case "revocation":
                async with store.begin() as connection:
                    await revoke_peer(connection, peer.id, at=clock.now())
                vtn.desk.room.due.set()
            case "silence":
                for _ in range(MAX_SENDS):
                    clock.advance(AGAIN_AFTER)
                    await ven.poll()
            case "refusal":
                await site.confirms(told, code=INVALID_ID)

        async def is_over() -> bool:
            return await standing(store) == 0

        assert await eventually(is_over, 5.0)
        if by != "revocation":
            await ven.register()
            assert isinstance(await ven.poll(), Acknowledge)


@pytest.mark.conformance("2.0b", "EiReport", "VTN as the reporting end: oadrRegisterReport unasked, where configured")
async def test_reports_are_offered_unasked_only_to_vens_configured_so(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "a", config={"offer_reports": True})
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven:
        told = await ven.poll()
        assert isinstance(told, RegisterReports)
        assert [offer.specifier_id for offer in told.offers] == [STATUS]
        await ven.say("EiReport", RegisteredReports(response=Response(request_id=told.request_id), ven_id="a"))
        assert isinstance(await ven.poll(), Acknowledge)
