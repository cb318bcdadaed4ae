"""Reports of our OpenADR 3 VEN: what an event asks for is sent once, whatever is lost, and nothing is made up."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from structlog.testing import capture_logs

from tests.builders_enrolment import site_form
from tests.builders_gateway import Fleet, add_tenant
from tests.builders_ven3 import FakeVtn, SetFigures, fake_vtn, running_ven3
from tests.clock import FixedClock
from vpp.domain.time import Interval
from vpp.enrolment import enrol
from vpp.gateway.hearing import HearingTerms
from vpp.gateway.ven3 import About, FleetFigures
from vpp.gateway.ven3.plan import GRACE
from vpp.gateway.ven3.reporter import MAX_RESOURCES
from vpp.store.engine import Store
from vpp.store.tables.openadr3_ven import openadr3_report

HOUR = timedelta(hours=1)
EACH = {"startInterval": 1, "numIntervals": 1, "repeat": -1}


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture(params=["3.1.0", "3.0.1"])
async def vtn(request: pytest.FixtureRequest, clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock, version=request.param) as served:
        yield served


@pytest.fixture
async def vtn31(clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock) as served:
        yield served


@pytest.fixture
def figures() -> SetFigures:
    return SetFigures({"USAGE": 12.5, "OPERATING_STATE": "RUNNING_CURTAILED"})


def wanted(*types: str, **timing: Any) -> list[dict[str, Any]]:
    return [{"payloadType": each, **timing} for each in types]


def told(report: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """(start, values) of each interval of a report."""
    (resource,) = report["resources"]
    assert resource["resourceName"] == "AGGREGATED_REPORT"
    return [
        (part["intervalPeriod"]["start"], [value for payload in part["payloads"] for value in payload["values"]])
        for part in resource["intervals"]
    ]


@pytest.mark.conformance("3.x", "reports", "VEN: a report for each interval")
async def test_each_interval_is_reported_when_it_has_passed(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn, figures: SetFigures
) -> None:
    event_id = vtn.event(1.0, 2.0, reportDescriptors=wanted("USAGE", "OPERATING_STATE", **EACH))
    async with running_ven3(fleet_store, clock, vtn.url, figures=figures) as ven:
        await ven.step()
        assert vtn.reports == []
        clock.advance(2 * HOUR + GRACE)
        await ven.step()
        (first,) = vtn.reports
        assert (first["eventID"], first["clientName"]) == (event_id, "vpp")
        assert told(first) == [("2026-08-19T20:00:00Z", [12.5, "RUNNING_CURTAILED"])]
        clock.advance(HOUR)
        await ven.step()
        await ven.step()
    assert [told(each)[0][0] for each in vtn.reports] == ["2026-08-19T20:00:00Z", "2026-08-19T21:00:00Z"]
    assert all(("programID" in each) == (vtn.version == "3.0.1") for each in vtn.reports)


async def test_the_loop_comes_back_when_a_report_falls_due(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    vtn31.event(1.0, reportDescriptors=wanted("USAGE"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures, poll_s=86_400.0) as ven:
        assert await ven.step() == clock.now() + 2 * HOUR + GRACE


@pytest.mark.conformance("3.x", "reports", "VEN: reports are durable, and sent once")
async def test_reports_due_while_we_were_down_are_made_up_for_and_none_is_sent_twice(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    vtn31.event(1.0, 2.0, 3.0, reportDescriptors=wanted("USAGE", **EACH))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
    clock.advance(5 * HOUR)
    for lost in ("POST /reports", "POST /reports", "nothing"):
        vtn31.lose_reply_to = {lost}
        async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
            for _ in range(3):
                await ven.step()
    starts = [told(each)[0][0] for each in vtn31.reports]
    assert starts == ["2026-08-19T20:00:00Z", "2026-08-19T21:00:00Z", "2026-08-19T22:00:00Z"]


async def test_killed_before_a_report_is_written_down_it_is_made_the_next_time(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    vtn31.event(1.0, reportDescriptors=wanted("USAGE"))
    async with fleet_store.begin() as connection:
        await connection.execute(text("alter table openadr3_report add constraint dead check (false)"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
        clock.advance(3 * HOUR)
        await ven.step()
    async with fleet_store.begin() as connection:
        await connection.execute(text("alter table openadr3_report drop constraint dead"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
    assert len(vtn31.reports) == 1


async def test_what_we_do_not_have_is_left_out_and_said_so(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    vtn31.event(1.0, reportDescriptors=wanted("BASELINE", "SETPOINT"), eventName="nothing of ours")
    vtn31.event(1.0, reportDescriptors=wanted("BASELINE", "USAGE"))
    vtn31.event(1.0, reportDescriptors=wanted("USAGE", units="THERMS"))
    vtn31.event(1.0, reportDescriptors=wanted("USAGE", historical=False, startInterval=0))
    vtn31.event(1.0, reportDescriptors=wanted("USAGE", readingType="PEAK"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        with capture_logs() as logs:
            await ven.step()
            clock.advance(3 * HOUR)
            await ven.step()
    assert [told(each) for each in vtn31.reports] == [[("2026-08-19T20:00:00Z", [12.5])]]
    reasons = [str(each["reasons"]) for each in logs if each["event"] == "nothing to report"]
    assert len(reasons) == 4
    assert all(
        any(why in each for each in reasons)
        for why in ("BASELINE is not among", "in KWH, not in THERMS", "forecasts are not offered", "not PEAK")
    )


async def test_many_resources_are_told_in_several_reports(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    async with fleet_store.begin() as connection:
        form = site_form(1, programs=[{"program": "flat", "owner_share": "0.8"}])
        (site,) = await enrol(connection, "t1", [form], now=clock.now())
    names = {f"meter-{n}" for n in range(MAX_RESOURCES + 1)}
    ven_id = vtn31.put("vens", {"venName": "vpp"})
    for name in names:
        vtn31.put("resources", {"resourceName": name, "venID": ven_id})
    vtn31.event(1.0, reportDescriptors=wanted("USAGE"))
    figures.sites = {"USAGE": {site: 1.5}}
    hearing = HearingTerms(site_of=dict.fromkeys(names, site))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures, hearing=hearing) as ven:
        await ven.step()
        clock.advance(3 * HOUR)
        await ven.step()
    assert [len(report["resources"]) for report in vtn31.reports] == [MAX_RESOURCES, 1]
    assert {each["resourceName"] for report in vtn31.reports for each in report["resources"]} == names


async def test_a_value_nobody_knows_is_not_sent(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    figures.values_of["USAGE"] = None
    vtn31.event(1.0, reportDescriptors=wanted("USAGE"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
        clock.advance(3 * HOUR)
        await ven.step()
    assert vtn31.reports == []


async def test_an_event_without_intervals_asks_for_the_present(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    period = {"start": "0001-01-01", "duration": "PT0S"}
    descriptors = wanted("STORAGE_CHARGE_LEVEL", frequency=0, reportIntervals="OPEN_INTERVALS")
    vtn31.event(intervalPeriod=period, intervals=None, payloadDescriptors=None, reportDescriptors=descriptors)
    clock.advance(10 * HOUR)  # told long ago, heard of only now
    figures = SetFigures({"STORAGE_CHARGE_LEVEL": 61.0})
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
        await ven.step()
    assert [told(each) for each in vtn31.reports] == [[("2026-08-20T04:59:00Z", [61.0])]]


async def test_a_deleted_event_is_reported_no_more(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    event_id = vtn31.event(1.0, 2.0, reportDescriptors=wanted("USAGE", **EACH))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
        clock.advance(1.5 * HOUR)
        vtn31.delete(event_id)
        await ven.step()
        clock.advance(5 * HOUR)
        await ven.step()
    assert vtn31.count("POST /reports") == 0


async def test_a_report_the_vtn_refuses_is_not_sent_again(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn, figures: SetFigures
) -> None:
    event_id = vtn31.event(1.0, reportDescriptors=wanted("USAGE"))
    async with running_ven3(fleet_store, clock, vtn31.url, figures=figures) as ven:
        await ven.step()
        clock.advance(2 * HOUR)
        await ven.step()
        vtn31.delete(event_id)  # it was over, so nobody asks for it again; but the VTN has no event to report on
        clock.advance(HOUR)
        await ven.step()
        await ven.step()
    assert vtn31.count("POST /reports") == 1
    async with fleet_store.begin() as connection:
        refused = (await connection.execute(select(openadr3_report.c.refused))).scalar_one()
    assert "404" in refused


@pytest.mark.conformance("3.x", "reports", "VEN: OPERATING_STATE")
async def test_the_operating_state_tells_that_we_declined(
    fleet_store: Store, clock: FixedClock, vtn31: FakeVtn
) -> None:
    declined = vtn31.event(5000.0)
    accepted = vtn31.event(10.0)
    async with running_ven3(fleet_store, clock, vtn31.url, fleet=Fleet(capable_kw=1000.0)) as ven:
        await ven.step()
    figures = FleetFigures("t1", {}, max_age_s=900.0)
    during = Interval(clock.now() + HOUR, clock.now() + 2 * HOUR)
    said = {}
    async with fleet_store.begin() as connection:
        for event_id in (declined, accepted, "of no programme"):
            about = About("openadr3:utility", event_id, "flat")
            said[event_id] = (await figures.together(connection, "OPERATING_STATE", about, [during]))[during].value
        usage = await figures.together(connection, "USAGE", about, [during])
    assert list(said.values()) == ["IDLE_OPTED_OUT", "ERROR", "IDLE_OPTED_OUT"]
    assert usage == {}  # no site, no reading, no value
