"""Our OpenADR 3 VEN at our own VTN, in both versions: the whole life of an event, its report and its privacy."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from tests.builders_gateway import add_tenant
from tests.builders_ven3 import SetFigures, running_ven3
from tests.builders_vtn3 import NEW, OLD, ORIGIN, Client, Vtn, running_vtn
from tests.clock import FixedClock
from vpp.commitments import load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.gateway.ven3 import Openadr3Ven
from vpp.gateway.ven3.plan import GRACE
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

HOUR = timedelta(hours=1)
BOTH = pytest.mark.parametrize("base", [NEW, OLD], ids=["3.1.0", "3.0.1"])


@pytest.fixture
async def vtn(store: Store, database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    await add_tenant(store)
    async with running_vtn(database_url, clock) as served:
        yield served


def ven_at(vtn: Vtn, base: str, **more: Any) -> Any:
    return running_ven3(
        vtn.store,
        vtn.clock,
        ORIGIN + base,
        transport=httpx.ASGITransport(vtn.app),
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
