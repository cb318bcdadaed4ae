"""Our OpenADR 3 VEN at our own VTN, in both versions: the whole life of an event, its report and its privacy."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_enrolment import site_form
from tests.builders_gateway import Fleet, add_tenant
from tests.builders_ven3 import SetFigures, running_ven3
from tests.builders_vtn3 import NEW, OLD, ORIGIN, Client, Vtn, listening, running_vtn
from tests.clock import FixedClock
from vpp.commitments import advance, load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.grid_event import GridEvent
from vpp.domain.ven3 import VenWanted
from vpp.enrolment import enrol
from vpp.gateway.hearing import HearingTerms
from vpp.gateway.ven3 import Openadr3Ven
from vpp.gateway.ven3.plan import GRACE
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment
from vpp.store.tables.openadr3_ven import openadr3_event_seen

HOUR = timedelta(hours=1)
BOTH = pytest.mark.parametrize("base", [NEW, OLD], ids=["3.1.0", "3.0.1"])


@pytest.fixture
async def vtn(store: Store, database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    await add_tenant(store)
    async with running_vtn(database_url, clock) as served:
        yield served


@pytest.fixture
async def url(vtn: Vtn) -> AsyncIterator[str]:
    """Our VTN on a real socket."""
    async with listening(vtn.app) as address:
        vtn.authority.token_url = f"{address}{NEW}/auth/token"
        yield address


def ven_at(vtn: Vtn, base: str, **more: Any) -> Any:
    return running_ven3(
        vtn.store,
        vtn.clock,
        more.pop("url", ORIGIN) + base,
        transport=more.pop("transport", None) or httpx.ASGITransport(vtn.app),
        client_id="ven1-client",
        secret="ven1 secret+/:%",
        **more,
    )


async def step(ven: Openadr3Ven, clock: FixedClock) -> None:
    """A round that went well: a failed one comes back at an odd moment."""
    due_at = await ven.step()
    assert (due_at.second, due_at.microsecond) in ((0, 0), (GRACE.seconds, 0))


async def only(store: Store) -> Commitment:
    async with store.begin() as connection:
        (found,) = (await connection.execute(select(commitment.c.id))).scalars().all()
        return await load(connection, found)


def event(clock: FixedClock, program_id: str, *values: float, **more: Any) -> dict[str, Any]:
    return {
        "programID": program_id,
        "intervalPeriod": {"start": (clock.now() + HOUR).isoformat(), "duration": "PT1H"},
        "payloadDescriptors": [
            {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "DISPATCH_SETPOINT", "units": "KW"}
        ],
        "intervals": [
            {"id": n, "payloads": [{"type": "DISPATCH_SETPOINT", "values": [value]}]} for n, value in enumerate(values)
        ],
    } | more


@pytest.mark.conformance("3.1.0", "events", "VEN against our VTN: the whole life of an event")
@BOTH
async def test_an_event_lives_its_whole_life_at_our_own_vtn(vtn: Vtn, clock: FixedClock, base: str) -> None:
    bl: Client = vtn.client("bl", base)
    program = await bl.post("/programs", {"programName": "Flat"})
    descriptors = [{"payloadType": "USAGE"}, {"payloadType": "OPERATING_STATE"}]
    body = event(clock, program["id"], 300.0, 200.0, reportDescriptors=descriptors)
    made = await bl.post("/events", body)
    figures = SetFigures({"USAGE": 12.5, "OPERATING_STATE": "IDLE_NORMAL"})
    async with ven_at(vtn, base, figures=figures) as ven:
        await step(ven, clock)
        taken = await only(vtn.store)
        assert (taken.state, [t.target_kw for t in taken.targets]) == (CommitmentState.ACCEPTED, [300.0, 200.0])

        clock.advance(timedelta(minutes=1))
        await bl.put(f"/events/{made['id']}", body | {"intervals": event(clock, program["id"], 100.0)["intervals"]})
        await step(ven, clock)
        changed = await only(vtn.store)
        assert (changed.modification_number, [t.target_kw for t in changed.targets]) == (1, [100.0])

        clock.advance(2 * HOUR + GRACE)
        await step(ven, clock)
        await step(ven, clock)
        (report,) = await bl.get("/reports")
        assert (report["eventID"], report["clientName"]) == (made["id"], "vpp")
        (resource,) = report["resources"]
        assert [p["values"] for p in resource["intervals"][0]["payloads"]] == [[12.5], ["IDLE_NORMAL"]]

        other = await bl.post("/events", event(clock, program["id"], 50.0))
        await step(ven, clock)
        assert (await bl.send("DELETE", f"/events/{other['id']}")).status_code == 200
        await step(ven, clock)
    async with vtn.store.begin() as connection:
        query = select(commitment.c.state).where(commitment.c.external_id == other["id"])
        assert (await connection.execute(query)).scalar_one() == "cancelled"


@BOTH
async def test_our_ven_object_and_resources_are_ours_at_our_own_vtn(vtn: Vtn, clock: FixedClock, base: str) -> None:
    for _ in range(2):
        async with ven_at(vtn, base) as ven:
            await step(ven, clock)
    (mine,) = await vtn.ven1.get("/vens")
    (resource,) = await vtn.ven1.get("/resources")
    assert (mine["venName"], mine["clientID"], ven.ven_id) == ("vpp", "ven1-client", mine["id"])
    assert (resource["resourceName"], resource["venID"]) == ("fleet", mine["id"])
    assert await vtn.ven2.get("/vens") == []


@pytest.mark.conformance("3.x", "reports", "VEN: values of each resource, or of all together")
@BOTH
async def test_each_resource_that_stands_for_a_site_has_values_of_its_own(
    vtn: Vtn, url: str, clock: FixedClock, base: str
) -> None:
    programs = [{"program": "flat", "owner_share": "0.8"}]
    async with vtn.store.begin() as connection:
        one, two, three = await enrol(
            connection, "t1", [site_form(n, programs=programs) for n in (1, 2, 3)], now=clock.now()
        )
    bl: Client = vtn.client("bl", base)
    program = await bl.post("/programs", {"programName": "Flat"})
    only_two = [two] if base == NEW else [{"type": "RESOURCE_NAME", "values": [two]}]
    descriptors = [
        {"payloadType": "USAGE", "aggregate": True},
        {"payloadType": "DEMAND"},
        {"payloadType": "BASELINE", "units": "KW"},
        {"payloadType": "STORAGE_CHARGE_LEVEL", "targets": only_two},
        {"payloadType": "OPERATING_STATE", "targets": only_two, "aggregate": True},
    ]
    body = event(clock, program["id"], 100.0, reportDescriptors=descriptors)
    await bl.post("/events", body | {"intervalPeriod": body["intervalPeriod"] | {"duration": "PT30M"}})
    figures = SetFigures(
        {"USAGE": 12.5, "DEMAND": 9.0, "BASELINE": 8.0, "STORAGE_CHARGE_LEVEL": 0.5, "OPERATING_STATE": "NORMAL"},
        sites={"DEMAND": {one: 1.0, three: 3.0}, "STORAGE_CHARGE_LEVEL": {one: 0.25, two: 0.75}},
    )
    wanted = VenWanted(name="vpp", resources=("meter-7", two, three, "nobody"))
    hearing = HearingTerms(site_of={"meter-7": one})
    wire = httpx.AsyncHTTPTransport()
    async with ven_at(vtn, base, url=url, transport=wire, figures=figures, wanted=wanted, hearing=hearing) as ven:
        await step(ven, clock)
        clock.advance(2 * HOUR)
        await step(ven, clock)
    (report,) = await bl.get("/reports")
    assert {each["resourceName"]: values_in(each) for each in report["resources"]} == {
        "AGGREGATED_REPORT": {"USAGE": 12.5, "BASELINE": 16.0, "OPERATING_STATE": "NORMAL"},
        "meter-7": {"DEMAND": 1.0},  # of site two nobody knows the demand: it is left out
        two: {"STORAGE_CHARGE_LEVEL": 0.75},
        three: {"DEMAND": 3.0},
    }
    summed = [([site.id for site in about.sites], about.is_part) for about in figures.asked]
    assert summed == [([one, two, three], False), ([one, two, three], False), ([two], True)]


def values_in(resource: dict[str, Any]) -> dict[str, Any]:
    """By type, of the one interval there is."""
    (interval,) = resource["intervals"]
    return {each["type"]: each["values"][0] for each in interval["payloads"]}


async def test_an_event_for_our_target_reaches_us_once_it_is_granted(vtn: Vtn, clock: FixedClock) -> None:
    program = await vtn.bl.post("/programs", {"programName": "Flat"})
    await vtn.bl.post("/events", event(clock, program["id"], 300.0, targets=["north"]))
    async with ven_at(vtn, NEW) as ven:
        await step(ven, clock)
        async with vtn.store.begin() as connection:
            assert (await connection.execute(select(commitment.c.id))).first() is None
        (mine,) = await vtn.bl.get("/vens")
        granted = {"objectType": "BL_VEN_REQUEST", "clientID": "ven1-client", "venName": "vpp", "targets": ["north"]}
        await vtn.bl.put(f"/vens/{mine['id']}", granted)
        clock.advance(timedelta(minutes=16))
        await step(ven, clock)
    assert (await only(vtn.store)).state is CommitmentState.ACCEPTED


async def test_our_own_vtn_keeps_our_subscription(vtn: Vtn, clock: FixedClock) -> None:
    url = "https://vpp.example.com/openadr3/callback/utility"
    for _ in range(2):
        async with ven_at(vtn, NEW, callback_url=url) as ven:
            await step(ven, clock)
    (subscription,) = await vtn.ven1.get("/subscriptions")
    (operation,) = subscription["objectOperations"]
    assert (operation["callbackUrl"], sorted(operation["objects"])) == (url, ["EVENT", "PROGRAM"])


class Counted(httpx.AsyncHTTPTransport):
    """Real connections that keep which single events were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, _, event_id = request.url.path.rpartition("/events/")
        self.asked += [event_id] if path else []
        return await super().handle_async_request(request)


class Below:
    """Keeps what is passed on."""

    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {}

    async def __call__(self, connection: AsyncConnection, event_id: str, event: GridEvent | None) -> None:
        values = None if event is None else [part.values[0] for series in event.series for part in series.intervals]
        self.told.setdefault(event_id, []).append(values)

    async def told_below(self, connection: AsyncConnection, *, after: datetime) -> Sequence[str]:
        return []


async def standing(store: Store, event_id: str) -> tuple[str, str, bool, list[float], bool]:
    """Outcome of an event; state, opt, targets of its commitment, and whether a cancellation was asked."""
    async with store.begin() as connection:
        query = select(openadr3_event_seen.c.outcome).where(openadr3_event_seen.c.event_id == event_id)
        outcome = (await connection.execute(query)).scalar_one()
        query = select(commitment.c.id).where(commitment.c.external_id == event_id)
        held = await load(connection, (await connection.execute(query)).scalar_one())
    return outcome, held.state.value, held.opt_in is True, [t.target_kw for t in held.targets], held.cancel_requested


@pytest.mark.conformance("3.x", "events", "VEN: the last version of an event that is over is heard")
@BOTH
async def test_what_was_told_while_we_were_down_is_heard_though_the_event_is_over(
    vtn: Vtn, url: str, clock: FixedClock, base: str
) -> None:
    bl: Client = vtn.client("bl", base)
    program = await bl.post("/programs", {"programName": "Flat"})
    kw = {"same": 300.0, "changed": 300.0, "cut short": 300.0, "deleted": 300.0, "declined": 5000.0, "running": 300.0}
    bodies = {name: event(clock, program["id"], value, value) for name, value in kw.items()}
    ids = {name: str((await bl.post("/events", body))["id"]) for name, body in bodies.items()}
    below, wire, fleet = Below(), Counted(), Fleet(capable_kw=1000.0)
    async with ven_at(vtn, base, url=url, pass_on=below, transport=wire, fleet=fleet) as ven:
        await step(ven, clock)
    assert (wire.asked, len(below.told)) == ([], 6)
    await begin(vtn.store, clock, ids["running"])
    changed = event(clock, program["id"], 100.0, 100.0)["intervals"]
    for name, body in (("changed", {"intervals": changed}), ("running", {"intervals": changed}),
                       ("cut short", {"intervals": changed[:1]})):  # fmt: skip
        await bl.put(f"/events/{ids[name]}", bodies[name] | body)
    for name in ("deleted", "declined"):
        assert (await bl.send("DELETE", f"/events/{ids[name]}")).status_code == 200
    clock.advance(5 * HOUR)
    for _ in range(2):
        async with ven_at(vtn, base, url=url, pass_on=below, transport=wire, fleet=fleet) as ven:
            await step(ven, clock)
            await step(ven, clock)
    missing = {ids["deleted"], ids["declined"]}
    assert sorted(wire.asked) == sorted(missing if base == OLD else ids.values())  # 3.0.1 lists what is over
    assert {name: below.told[ids[name]][1:] for name in ids} == {
        "same": [], "changed": [[100.0, 100.0]], "cut short": [[100.0]], "deleted": [None], "declined": [None],
        "running": [[100.0, 100.0]],
    }  # fmt: skip
    assert {name: await standing(vtn.store, event_id) for name, event_id in ids.items()} == {
        "same": ("in", "accepted", True, [300.0, 300.0], False),
        "changed": ("out", "declined", False, [100.0, 100.0], False),
        "cut short": ("out", "declined", False, [100.0], False),
        "deleted": ("gone", "cancelled", True, [300.0, 300.0], True),
        "declined": ("gone", "cancelled", True, [5000.0, 5000.0], True),
        "running": ("in", "active", True, [300.0, 300.0], False),  # what was owed until we knew stays owed
    }


async def begin(store: Store, clock: FixedClock, event_id: str) -> None:
    async with store.begin() as connection:
        query = select(commitment.c.id).where(commitment.c.external_id == event_id)
        before = await load(connection, (await connection.execute(query)).scalar_one())
        after = replace(before, state=CommitmentState.ACTIVE, revision=before.revision + 1)
        await advance(connection, before, after, at=clock.now(), what="began")
