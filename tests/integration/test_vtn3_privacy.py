"""Object privacy at our OpenADR 3 VTN: what a VEN may see and write, rule by rule (definition, "Object Privacy")."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from tests.builders_vtn3 import (
    NEW,
    OLD,
    VEN_SCOPES,
    Vtn,
    event_body,
    report_body,
    running_vtn,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from vpp.domain.errors import Conflict
from vpp.domain.openadr3 import ObjectDraft, ObjectKind
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer, add_peer
from vpp.store.tables.peering import peer as peers


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


@pytest.fixture
async def program(vtn: Vtn) -> str:
    return str((await vtn.bl.post("/programs", {"programName": "open"}))["id"])


async def _resource(vtn: Vtn, ven_id: str, name: str, *targets: str, client: str = "ven1-client") -> dict[str, object]:
    body = {"objectType": "BL_RESOURCE_REQUEST", "clientID": client, "resourceName": name, "venID": ven_id}
    return await vtn.bl.post("/resources", body | {"targets": list(targets)})


@pytest.mark.conformance("3.1.0", "privacy", "VTN: clientID is stamped from the token")
async def test_the_vtn_stamps_the_client_of_the_token_on_what_a_ven_creates(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    ven = await vtn.ven1.post("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "v", "clientID": "ven2-client"})
    resource = {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": "r", "venID": ven["id"], "clientID": "x"}
    for created in (
        ven,
        await vtn.ven1.post("/resources", resource),
        await vtn.ven1.post("/reports", report_body(event["id"], clientID="ven2-client")),
        await vtn.ven1.post("/subscriptions", subscription_body(clientID="ven2-client")),
    ):
        assert created["clientID"] == "ven1-client"


@pytest.mark.conformance("3.1.0", "privacy", "VTN: object privacy in lists")
async def test_a_ven_sees_only_what_carries_its_client_and_business_logic_sees_all(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    for client in (vtn.ven1, vtn.ven2):
        name = "one" if client is vtn.ven1 else "two"
        await client.post("/reports", report_body(event["id"]))
        await client.post("/subscriptions", subscription_body())
        ven = await client.post("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": f"{name} {id(client)}"})
        await client.post(
            "/resources", {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": name, "venID": ven["id"]}
        )
    for path in ("/reports", "/subscriptions", "/vens", "/resources"):
        mine, theirs = await vtn.ven1.get(path), await vtn.ven2.get(path)
        assert {each["clientID"] for each in mine} == {"ven1-client"}
        assert {each["clientID"] for each in theirs} == {"ven2-client"}
        assert len(await vtn.bl.get(path)) == len(mine) + len(theirs) == 2


async def test_a_ven_that_has_nothing_is_answered_with_an_empty_list(vtn: Vtn) -> None:
    await vtn.bl.post("/vens", ven_body())
    assert await vtn.ven2.get("/vens") == []


@pytest.mark.conformance("3.1.0", "privacy", "VTN: object privacy of single objects")
async def test_what_is_another_vens_does_not_exist_for_a_ven(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    ven = await vtn.bl.post("/vens", ven_body())
    resource = await _resource(vtn, ven["id"], "r")
    report = await vtn.ven1.post("/reports", report_body(event["id"]))
    subscription = await vtn.ven1.post("/subscriptions", subscription_body())
    bodies = {
        f"/vens/{ven['id']}": {"objectType": "VEN_VEN_REQUEST", "venName": "stolen"},
        f"/resources/{resource['id']}": {
            "objectType": "VEN_RESOURCE_REQUEST", "resourceName": "r", "venID": ven["id"],
        },
        f"/reports/{report['id']}": report_body(event["id"]),
        f"/subscriptions/{subscription['id']}": subscription_body(),
    }  # fmt: skip
    for path, body in bodies.items():
        assert await vtn.ven2.status("GET", path) == 404
        assert await vtn.ven2.status("PUT", path, json=body) == 404
        assert await vtn.ven2.status("DELETE", path) == 404
        assert await vtn.ven1.status("GET", path) == 200
    other = {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": "mine", "venID": ven["id"]}
    assert await vtn.ven2.status("POST", "/resources", json=other) == 404


async def test_what_has_no_targets_is_everybodys(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    for client in (vtn.ven1, vtn.ven2):
        assert [each["id"] for each in await client.get("/events")] == [event["id"]]
        assert [each["id"] for each in await client.get("/programs")] == [program]
        assert (await client.get(f"/events/{event['id']}"))["id"] == event["id"]


async def test_targets_that_are_granted_and_not_requested_open_no_list(vtn: Vtn, program: str) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    await vtn.bl.post("/programs", {"programName": "closed", "targets": ["g1"]})
    assert await vtn.ven1.get("/events") == []
    assert [each["id"] for each in await vtn.ven1.get("/programs")] == [program]


async def test_targets_that_are_requested_and_not_granted_open_nothing(vtn: Vtn, program: str) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["g2"]))
    event = await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    assert await vtn.ven1.get("/events", targets=["g1"]) == []
    assert await vtn.ven1.status("GET", f"/events/{event['id']}") == 404
    assert await vtn.ven2.get("/events", targets=["g1"]) == [], "it has no ven at all"


@pytest.mark.conformance("3.1.0", "privacy", "VTN: granted and requested targets open what is targeted")
async def test_targets_that_are_granted_on_a_ven_or_its_resources_and_requested_open(vtn: Vtn, program: str) -> None:
    ven = await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    await _resource(vtn, ven["id"], "r", "r1")
    by_ven = await vtn.bl.post("/events", event_body(program, targets=["g1", "g9"]))
    by_resource = await vtn.bl.post("/events", event_body(program, targets=["r1"]))
    found = await vtn.ven1.get("/events", targets=["g1", "r1", "g9"])
    assert [each["id"] for each in found] == [by_ven["id"], by_resource["id"]]
    assert [each["id"] for each in await vtn.ven1.get("/events", targets=["r1"])] == [by_resource["id"]]


async def test_targets_granted_to_a_peer_count_until_it_is_revoked(vtn: Vtn, program: str) -> None:
    async with vtn.store.begin() as connection:
        new = NewPeer(
            tenant_id=vtn.tenant, protocol=Protocol.OPENADR3, role=PeerRole.VEN, name="v", party_id="VEN-7",
            granted_targets=("g1",),
        )  # fmt: skip
        made, _ = await add_peer(connection, new, at=vtn.clock.now())
        await connection.execute(update(peers).where(peers.c.id == made.id).values(client_id="ven1-client"))
    event = await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    assert [each["id"] for each in await vtn.ven1.get("/events", targets=["g1"])] == [event["id"]]
    named = await vtn.bl.post("/events", event_body(program, targets=["VEN-7"]))
    assert [each["id"] for each in await vtn.ven1.get("/events", targets=["VEN-7"])] == [named["id"]]
    async with vtn.store.begin() as connection:
        mine = update(peers).where(peers.c.tenant_id == vtn.tenant)
        await connection.execute(mine.values(revoked_at=vtn.clock.now()))
    assert await vtn.ven1.get("/events", targets=["g1"]) == []


@pytest.mark.conformance("3.1.0", "privacy", "VTN: no VEN takes the venName another is configured with")
async def test_a_ven_may_not_take_the_name_another_is_configured_with(vtn: Vtn) -> None:
    vtn.authority.add(vtn.tenant, PeerRole.VEN, VEN_SCOPES)
    owner = f"{vtn.tenant}-client"
    async with vtn.store.begin() as connection:
        new = NewPeer(
            tenant_id=vtn.tenant, protocol=Protocol.OPENADR3, role=PeerRole.VEN, name="site", party_id="VEN-7",
            client_id=owner,
        )  # fmt: skip
        await add_peer(connection, new, at=vtn.clock.now())
    body = {"objectType": "VEN_VEN_REQUEST", "venName": "VEN-7"}
    for version in (NEW, OLD):
        assert await vtn.client("ven2", version).status("POST", "/vens", json=body) == 409
    mine = await vtn.ven2.post("/vens", body | {"venName": "mine"})
    assert await vtn.ven2.status("PUT", f"/vens/{mine['id']}", json=body) == 409
    assert (await vtn.client(vtn.tenant).post("/vens", body))["clientID"] == owner


async def test_a_ven_with_resources_does_not_change_hands_and_show_them(vtn: Vtn) -> None:
    ven = await vtn.bl.post("/vens", ven_body(venName="v"))
    resource = await _resource(vtn, str(ven["id"]), "r")
    to_other = ven_body("ven2-client", venName="v")
    assert await vtn.bl.status("PUT", f"/vens/{ven['id']}", json=to_other) == 409
    assert await vtn.client("ven2", OLD).status("GET", f"/vens/{ven['id']}") == 404
    await vtn.bl.send("DELETE", f"/resources/{resource['id']}")
    assert (await vtn.bl.put(f"/vens/{ven['id']}", to_other))["clientID"] == "ven2-client"


async def test_a_target_taken_from_a_ven_closes_what_it_opened(vtn: Vtn, program: str) -> None:
    ven = await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    assert len(await vtn.ven1.get("/events", targets=["g1"])) == 1
    await vtn.bl.put(f"/vens/{ven['id']}", ven_body(targets=["g2"]))
    assert await vtn.ven1.get("/events", targets=["g1"]) == []


@pytest.mark.conformance("3.1.0", "privacy", "VTN: target hiding")
async def test_targets_that_were_not_requested_or_not_granted_are_hidden(vtn: Vtn, program: str) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["g1", "g2"]))
    event = await vtn.bl.post("/events", event_body(program, targets=["g1", "g2", "secret"]))
    assert (await vtn.ven1.get("/events", targets=["g1"]))[0]["targets"] == ["g1"]
    assert (await vtn.ven1.get("/events", targets=["g1", "g2", "secret"]))[0]["targets"] == ["g1", "g2"]
    assert (await vtn.ven1.get(f"/events/{event['id']}"))["targets"] == ["g1", "g2"]
    assert (await vtn.bl.get("/events", targets=["g1"]))[0]["targets"] == ["g1", "g2", "secret"]


async def test_targets_of_a_vens_own_objects_are_not_hidden(vtn: Vtn) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["g1", "g2"]))
    assert (await vtn.ven1.get("/vens", targets=["g1"]))[0]["targets"] == ["g1", "g2"]
    wish = await vtn.ven1.post("/subscriptions", subscription_body(targets=["g1"]))
    assert wish["targets"] == ["g1"]


@pytest.mark.conformance("3.1.0", "privacy", "VTN: only business logic grants targets")
async def test_only_business_logic_writes_targets_of_vens_and_resources(vtn: Vtn) -> None:
    mine = {"objectType": "VEN_VEN_REQUEST", "venName": "v"}
    ven = await vtn.ven1.post("/vens", mine | {"targets": ["all"]})
    assert "targets" not in ven
    granted = await vtn.bl.put(f"/vens/{ven['id']}", ven_body(venName="v", targets=["g1"]))
    assert granted["targets"] == ["g1"]
    renamed = await vtn.ven1.put(f"/vens/{ven['id']}", mine | {"venName": "w", "targets": ["g1", "all"]})
    assert (renamed["venName"], renamed["targets"]) == ("w", ["g1"])
    body = {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": "r", "venID": ven["id"], "targets": ["all"]}
    assert "targets" not in await vtn.ven1.post("/resources", body)
    assert await vtn.ven1.get("/events", targets=["all"]) == []


@pytest.mark.conformance("3.1.0", "privacy", "VTN: BL and VEN requests are told apart")
async def test_a_ven_may_not_pass_for_business_logic_nor_the_reverse(vtn: Vtn) -> None:
    assert await vtn.ven1.status("POST", "/vens", json=ven_body(targets=["g1"])) == 403
    assert await vtn.bl.status("POST", "/vens", json={"objectType": "VEN_VEN_REQUEST", "venName": "v"}) == 400
    assert await vtn.bl.status("POST", "/vens", json={"objectType": "BL_VEN_REQUEST", "venName": "v"}) == 400
    assert await vtn.bl.get("/vens") == []


async def test_a_ven_refers_only_to_what_it_may_see(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program, targets=["g1"]))
    closed = await vtn.bl.post("/programs", {"programName": "closed", "targets": ["g1"]})
    unknown = await vtn.ven1.send("POST", "/reports", json=report_body("nothing"))
    hidden = await vtn.ven1.send("POST", "/reports", json=report_body(event["id"]))
    assert unknown.status_code == hidden.status_code == 409
    assert hidden.json()["detail"].replace(event["id"], "nothing") == unknown.json()["detail"]
    assert await vtn.ven1.status("POST", "/subscriptions", json=subscription_body(programID=closed["id"])) == 409
    await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    assert (await vtn.ven1.post("/reports", report_body(event["id"])))["eventID"] == event["id"]


async def test_in_the_older_version_a_ven_is_shown_what_is_granted_to_it_and_no_more(vtn: Vtn, program: str) -> None:
    await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    free = await vtn.bl.post("/events", event_body(program))
    mine = await vtn.bl.post("/events", event_body(program, targets=["g1", "secret"]))
    await vtn.bl.post("/events", event_body(program, targets=["secret"]))
    old = vtn.client("ven1", OLD)
    found = await old.get("/events")
    assert [each["id"] for each in found] == [free["id"], mine["id"]]
    assert found[1]["targets"] == [{"type": "GROUP", "values": ["g1"]}]
    assert [each["id"] for each in await old.get("/events", targetType="GROUP", targetValues=["g1"])] == [mine["id"]]
    assert await old.get("/events", targetType="GROUP", targetValues=["secret"]) == []
    assert await vtn.client("ven2", OLD).get("/vens") == []


async def test_one_tenants_objects_do_not_exist_for_another(vtn: Vtn, program: str) -> None:
    vtn.authority.add("stranger", PeerRole.BL, vtn.authority.callers["bl"].scopes, tenant_id="other")
    stranger = vtn.client("stranger")
    assert await stranger.get("/programs") == []
    assert await stranger.status("GET", f"/programs/{program}") == 404
    assert await stranger.status("DELETE", f"/programs/{program}") == 404
    assert await stranger.status("PUT", f"/programs/{program}", json={"programName": "mine"}) == 404
    assert len(await vtn.bl.get("/programs")) == 1


async def test_a_ven_that_changes_itself_while_a_target_is_taken_from_it_does_not_get_it_back(vtn: Vtn) -> None:
    made = await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    seen = await vtn.ven1.get(f"/vens/{made['id']}")
    await vtn.bl.put(f"/vens/{made['id']}", ven_body(targets=[]))
    late = ObjectDraft(
        kind=ObjectKind.VEN, tenant_id=vtn.tenant, body=seen, client_id=seen["clientID"], keeps_targets=True
    )  # fmt: skip
    with pytest.raises(Conflict):
        await vtn.shelf.replace(made["id"], late)
    assert await vtn.shelf.granted_targets(seen["clientID"], tenant_id=vtn.tenant) == frozenset()
    assert (await vtn.ven1.put(f"/vens/{made['id']}", {"objectType": "VEN_VEN_REQUEST", "venName": "renamed"}))[
        "venName"
    ] == "renamed"
