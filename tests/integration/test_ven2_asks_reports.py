"""Our VEN asks the VTN above it for reports: our own VTN, which holds what we reported to it, and scripted ones."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.builders_gateway import CONTEXT, running_ven
from tests.builders_ven2 import ScriptedVtn
from tests.builders_vtn2 import add_ven, own_database, running_vtn, swept_store
from tests.clock import FixedClock
from vpp.domain import openadr2 as m
from vpp.domain.openadr2 import INVALID_ID
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.asking import MAX_SENDS
from vpp.peering import (
    NewPeer,
    add_peer,
    next_report_values,
    received_reports,
    report_offers,
    report_requests,
    update_peer,
)
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 7, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        async with store.begin() as connection:
            for table in ("openadr2_report", "openadr2_report_request", "openadr2_registration"):
                await connection.execute(text(f"delete from {table}"))
            await connection.execute(text("insert into tenant (id, name) values ('t1', 'T') on conflict do nothing"))
        yield store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MIDNIGHT + 2 * HOUR)


async def a_vtn(store: Store, clock: FixedClock, url: str, reports: Any) -> Peer:
    new = NewPeer(
        tenant_id="t1", protocol=Protocol.OPENADR2, role=PeerRole.VTN, name="utility", url=url,
        config={"programs": {CONTEXT: "flat"}, "reports": reports},
    )  # fmt: skip
    async with store.begin() as connection:
        peer, _ = await add_peer(connection, new, at=clock.now())
    return peer


async def states(store: Store, peer: Peer) -> dict[str, str]:
    async with store.begin() as connection:
        return {each.demand.specifier_id: each.state for each in await report_requests(connection, peer.id)}


@pytest.mark.conformance(
    "2.0b", "EiReport", "VEN as the asking end: METADATA, HISTORY_USAGE and TELEMETRY_STATUS of our VTN"
)
async def test_our_ven_gets_from_our_vtn_what_it_reported_and_asks_for_no_more_than_is_configured(
    store: Store, clock: FixedClock
) -> None:
    below = await add_ven(
        store, clock, "fleet", config={"reports": {"TELEMETRY_STATUS": {"granularity_s": 60, "back_s": 60}}}
    )
    async with running_vtn(store, clock) as vtn:
        above = await a_vtn(store, clock, vtn.url, {"TELEMETRY_STATUS": {"back_s": 300}, "HISTORY_USAGE": {}})
        async with running_ven(store, clock, vtn.url, terms={"peer": above}) as ven:
            for _ in range(3):
                await ven.step()
                clock.advance(MINUTE)
            assert await states(store, above) == {
                "METADATA": "done", "vpp-received-status": "running", "vpp-received-history": "done"
            }  # fmt: skip
            async with store.begin() as connection:
                assert [offer.name for offer in await report_offers(connection, above.id)] == [
                    "METADATA_HISTORY_USAGE", "METADATA_TELEMETRY_STATUS", "METADATA_TELEMETRY_USAGE"
                ]  # fmt: skip
                asked = {each.demand.specifier_id: each.demand for each in await report_requests(connection, above.id)}
            history = asked["vpp-received-history"]
            assert (history.start_at, history.duration) == (MIDNIGHT - DAY, DAY)
            for _ in range(4):
                clock.advance(MINUTE)
                await ven.step()
            async with store.begin() as connection:
                got = await received_reports(connection, above.id)
                below_us = await next_report_values(connection, "test", tenant_id="t1")
            (status,) = [each for each in got if each.demand.specifier_id == "vpp-received-status"]
            assert status.values >= 3
            assert {each.peer_id for each in below_us} == {below.id}, "what the VTN told is no VEN's report"
    async with store.begin() as connection:
        above = await update_peer(connection, above.id, {"config": {"reports": ["HISTORY_USAGE"]}}, tenant_id="t1")
    async with running_vtn(store, clock) as vtn, running_ven(store, clock, vtn.url, terms={"peer": above}) as ven:
        await ven.step()
        assert (await states(store, above))["vpp-received-status"] == "cancelled"
        async with store.begin() as connection:
            running = await connection.execute(
                text("select count(*) from openadr2_report_request where source like 'ven:%' and done_at is null")
            )
            assert running.scalar() == 0, "the VTN was told"
        clock.advance(DAY)
        await ven.step()
        async with store.begin() as connection:
            windows = {each.demand.start_at for each in await report_requests(connection, above.id)}
        assert {MIDNIGHT - DAY, MIDNIGHT} <= windows, "each day is asked for once"


def an_offer(at: datetime) -> m.RegisterReports:
    point = m.PointOffer(r_id="p", report_type="usage", reading_type="Direct Read", unit="kW", scale="k")
    offer = m.ReportOffer(specifier_id="theirs", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=at)
    return m.RegisterReports(request_id="o1", offers=(offer,), ven_id="ven-7")


def some_values(request_id: str, at: datetime, *values: float) -> m.UpdateReports:
    told = tuple(
        m.ReportedValue(r_id="p", start_at=at + n * MINUTE, duration=MINUTE, value=value)
        for n, value in enumerate(values)
    )
    update = m.ReportUpdate(
        report_request_id=request_id, specifier_id="theirs", name="TELEMETRY_USAGE", created_at=at, values=told
    )
    return m.UpdateReports(request_id="u1", updates=(update,), ven_id="ven-7")


@pytest.mark.conformance(
    "2.0b", "EiReport", "VEN as the asking end: values are taken once, and unknown ones refused with 452"
)
async def test_values_are_kept_once_and_those_nobody_asked_for_are_refused(store: Store, clock: FixedClock) -> None:
    now = clock.now()
    async with ScriptedVtn(now=clock.now).serving() as vtn:
        above = await a_vtn(store, clock, vtn.url, {"TELEMETRY_USAGE": {"granularity_s": 60, "back_s": 60}})
        async with running_ven(store, clock, vtn.url, terms={"peer": above}) as ven:
            await ven.step()
            assert [d.specifier_id for each in vtn.all(m.CreateReports) for d in each.demands] == ["METADATA"]
            vtn.queue.append(an_offer(now))
            await ven.step()
            (demand,) = vtn.all(m.CreateReports)[-1].demands
            assert (demand.specifier_id, demand.points, demand.back) == ("theirs", (("p", "Direct Read"),), MINUTE)
            id_ = demand.report_request_id
            for message in (
                some_values(id_, now, 1.0, 2.0),
                some_values(id_, now, 1.0, 2.5),
                some_values("x", now, 9.0),
            ):
                vtn.queue.append(message)
            await ven.step()
        assert [each.response.code for each in vtn.all(m.UpdatedReports)] == [200, 200, INVALID_ID]
        async with store.begin() as connection:
            rows = await connection.execute(text("select value from vtn2_report_value order by start_at"))
        assert rows.scalars().all() == [1.0, 2.5]
        ended = {"config": {"programs": {CONTEXT: "flat"}}}
        async with store.begin() as connection:
            above = await update_peer(connection, above.id, ended, tenant_id="t1")
        async with running_ven(store, clock, vtn.url, terms={"peer": above}) as ven:
            vtn.lost.add(m.CancelReports)
            await ven.step()
            vtn.lost.clear()
            vtn.queue.append(some_values(id_, now, 3.0))
            clock.advance(MINUTE)
            await ven.step()
        stop = vtn.all(m.UpdatedReports)[-1].cancel
        assert stop is not None, "it is told to stop once more"
        assert stop.report_request_ids == (id_,)
        assert [each.report_request_ids for each in vtn.all(m.CancelReports)] == [(id_,), (id_,)]


async def test_a_vtn_that_does_not_answer_what_we_ask_holds_nothing_up_and_is_given_up(
    store: Store, clock: FixedClock
) -> None:
    async with ScriptedVtn(now=clock.now, lost={m.CreateReports}).serving() as vtn:
        above = await a_vtn(store, clock, vtn.url, ["TELEMETRY_STATUS"])
        async with running_ven(store, clock, vtn.url, terms={"peer": above}) as ven:
            for _ in range(MAX_SENDS + 1):
                due_at = await ven.step()
                assert due_at - clock.now() > timedelta(seconds=20), "the round did not fail"
                clock.advance(5 * MINUTE)
        assert len(vtn.all(m.CreateReports)) == MAX_SENDS
        assert await states(store, above) == {"METADATA": "refused"}
