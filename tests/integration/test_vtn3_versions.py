"""One model in both versions of OpenADR 3: what one writes the other reads."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from market.openadr3.vtn import render_object
from tests.builders_vtn3 import NEW, OLD, Vtn, event_body, report_body, running_vtn, subscription_body, ven_body
from tests.clock import FixedClock
from vpp.domain.openadr3 import ObjectKind
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer, add_peer


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


@pytest.fixture
async def program(vtn: Vtn) -> str:
    return str((await vtn.bl.post("/programs", {"programName": "p"}))["id"])


OLD_TARGETS = [{"type": "GROUP", "values": ["g1", "g2"]}, {"type": "VEN_NAME", "values": ["v1"]}]


@pytest.mark.conformance("3.0.1", "objects", "VTN: typed targets over the same objects")
async def test_targets_of_the_older_version_are_values_in_the_newer_and_keep_their_types(
    vtn: Vtn, program: str
) -> None:
    old = vtn.client("bl", OLD)
    event = await old.post("/events", event_body(program, targets=OLD_TARGETS))
    assert event["targets"] == OLD_TARGETS
    new = await vtn.bl.get(f"/events/{event['id']}")
    assert new["targets"] == ["g1", "g2", "v1"]
    assert new | {"targets": OLD_TARGETS} == await old.get(f"/events/{event['id']}")
    await vtn.bl.put(f"/events/{event['id']}", event_body(program, targets=["g2", "g3"]))
    assert (await old.get(f"/events/{event['id']}"))["targets"] == [{"type": "GROUP", "values": ["g2", "g3"]}]


async def test_lists_of_the_older_version_are_filtered_by_the_type_of_targets_too(vtn: Vtn, program: str) -> None:
    old = vtn.client("bl", OLD)
    body = event_body(program)
    typed = {
        kind: (await old.post("/events", body | {"targets": [{"type": kind, "values": ["g1"]}]}))["id"]
        for kind in ("GROUP", "RESOURCE_NAME")
    }
    untyped = (await vtn.bl.post("/events", body | {"targets": ["g1"]}))["id"]
    wanted = {kind: [*([typed[kind]] if kind in typed else []), untyped] for kind in (*typed, "VEN_NAME")}
    for kind, ids in wanted.items():
        found = await old.get("/events", targetType=kind, targetValues=["g1", "g2"])
        assert [each["id"] for each in found] == ids
    assert len(await old.get("/events", targetValues=["g1"])) == 3
    assert len(await vtn.bl.get("/events", targets=["g1"], targetType="VEN_NAME")) == 3


async def test_targets_of_report_descriptors_are_translated_too(vtn: Vtn, program: str) -> None:
    old = vtn.client("bl", OLD)
    descriptor = {"payloadType": "USAGE", "targets": OLD_TARGETS}
    event = await old.post("/events", event_body(program, reportDescriptors=[descriptor]))
    assert event["reportDescriptors"] == [descriptor]
    new = await vtn.bl.get(f"/events/{event['id']}")
    assert new["reportDescriptors"] == [{"payloadType": "USAGE", "targets": ["g1", "g2", "v1"]}]


NO_TARGETS: tuple[Any, ...] = ("g1", [1], ["g1"], [{"type": "GROUP"}], [{"type": "", "values": []}], [{"values": [1]}])


async def test_targets_that_are_none_of_the_older_version_are_refused(vtn: Vtn) -> None:
    for targets in NO_TARGETS:
        body = {"programName": "n", "targets": targets}
        assert (targets, await vtn.client("bl", OLD).status("POST", "/programs", json=body)) == (targets, 400)


async def test_fields_of_programs_that_the_newer_version_dropped_are_kept(vtn: Vtn) -> None:
    body = {
        "programName": "n",
        "programLongName": "long",
        "retailerName": "ACME",
        "bindingEvents": True,
        "country": "US",
    }
    made = await vtn.client("bl", OLD).post("/programs", body)
    assert {key: made[key] for key in body} == body
    assert await vtn.bl.get(f"/programs/{made['id']}") == made


@pytest.mark.conformance("3.0.1", "reports", "VTN: programID of reports")
async def test_a_report_names_its_program_in_the_older_version(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program))
    new = await vtn.ven1.post("/reports", report_body(event["id"]))
    old = vtn.client("ven1", OLD)
    assert "programID" not in new
    assert (await old.get(f"/reports/{new['id']}"))["programID"] == program
    assert await old.status("POST", "/reports", json=report_body(event["id"])) == 400, "it must there"
    made = await old.post("/reports", report_body(event["id"], programID=program))
    assert made["programID"] == program
    assert [each["id"] for each in await old.get("/reports", programID=program)] == [new["id"], made["id"]]


@pytest.mark.conformance("3.0.1", "objects", "VTN: required fields of 3.0.1")
async def test_the_older_version_requires_what_the_newer_does_not(vtn: Vtn, program: str) -> None:
    old = vtn.client("bl", OLD)
    assert await old.status("POST", "/events", json={"programID": program}) == 400
    assert await old.status("POST", "/subscriptions", json=subscription_body()) == 400
    bare = await vtn.bl.post("/events", {"programID": program, "intervalPeriod": {"duration": "PT1H"}})
    told = await old.get(f"/events/{bare['id']}")
    assert told["intervals"] == []
    assert told["intervalPeriod"] == {"duration": "PT1H", "start": "0001-01-01T00:00:00Z"}


@pytest.mark.conformance("3.0.1", "resources", "VTN: resources below their ven")
async def test_resources_stand_below_their_ven_in_the_older_version(vtn: Vtn) -> None:
    old = vtn.client("bl", OLD)
    ven, other = [await vtn.bl.post("/vens", ven_body(venName=name)) for name in ("v", "w")]
    made = await old.post(f"/vens/{ven['id']}/resources", {"resourceName": "r", "targets": OLD_TARGETS[:1]})
    assert (made["venID"], made["clientID"]) == (ven["id"], "ven1-client")
    assert await vtn.bl.get(f"/resources/{made['id']}") == made | {"targets": ["g1", "g2"]}
    assert await old.get(f"/vens/{ven['id']}/resources") == [made]
    assert await old.get(f"/vens/{other['id']}/resources") == []
    assert await old.get(f"/vens/{ven['id']}/resources/{made['id']}") == made
    assert await old.status("GET", f"/vens/{other['id']}/resources/{made['id']}") == 404
    assert await old.status("GET", "/vens/nothing/resources") == 404
    assert await old.status("POST", "/vens/nothing/resources", json={"resourceName": "x"}) == 404
    assert await old.status("GET", "/resources") == 404
    renamed = await old.put(f"/vens/{ven['id']}/resources/{made['id']}", {"resourceName": "q"})
    assert renamed["resourceName"] == "q"
    assert await old.status("DELETE", f"/vens/{other['id']}/resources/{made['id']}") == 404
    assert await old.status("DELETE", f"/vens/{ven['id']}/resources/{made['id']}") == 200


async def test_a_ven_is_created_and_shown_with_its_resources_in_the_older_version(vtn: Vtn) -> None:
    old = vtn.client("ven1", OLD)
    twice = {"venName": "v", "resources": [{"resourceName": "r"}, {"resourceName": "r"}]}
    assert await old.status("POST", "/vens", json=twice) == 409
    assert await vtn.bl.get("/vens") == await vtn.bl.get("/resources") == [], "all or nothing"
    for nested in ("r", [1], [{}], [{"resourceName": "r"}] * 101):
        assert await old.status("POST", "/vens", json={"venName": "v", "resources": nested}) == 400
    given = [{"resourceName": name, "targets": OLD_TARGETS} for name in ("r1", "r2")]
    ven = await old.post("/vens", {"venName": "v", "resources": given})
    assert [each["resourceName"] for each in ven["resources"]] == ["r1", "r2"]
    assert all("targets" not in each for each in ven["resources"]), "only business logic grants them"
    assert await old.get(f"/vens/{ven['id']}/resources") == ven["resources"]
    assert await old.get("/vens") == [ven]
    kept = await old.put(f"/vens/{ven['id']}", {"venName": "w", "resources": None})
    assert kept["resources"] == ven["resources"]
    assert "resources" not in await vtn.ven1.get(f"/vens/{ven['id']}")


async def test_a_ven_of_the_older_version_belongs_to_the_client_its_name_is_configured_for(vtn: Vtn) -> None:
    async with vtn.store.begin() as connection:
        new = NewPeer(
            tenant_id=vtn.tenant, protocol=Protocol.OPENADR3, role=PeerRole.VEN, name="site", party_id="VEN-7"
        )
        peer, _ = await add_peer(connection, new, at=vtn.clock.now())
    old = vtn.client("bl", OLD)
    assert (await old.post("/vens", {"venName": "VEN-7"}))["clientID"] == peer.client_id
    assert (await old.post("/vens", {"venName": "nobody's"}))["clientID"] == "bl-client"
    assert (await vtn.client("ven1", OLD).post("/vens", {"venName": "mine"}))["clientID"] == "ven1-client"


async def test_operations_are_named_as_http_does_in_notifications_of_the_older_version(vtn: Vtn, program: str) -> None:
    wish = {"objects": ["EVENT"], "operations": ["POST", "UPDATE"], "callbackUrl": "https://example.com/hook"}
    body = subscription_body(programID=program, objectOperations=[wish])
    made = await vtn.client("ven1", OLD).post("/subscriptions", body)
    assert made["objectOperations"] == [wish | {"operations": ["POST", "PUT"]}], "it may know no other names"
    newer = await vtn.ven1.get(f"/subscriptions/{made['id']}")
    assert newer["objectOperations"] == [wish | {"operations": ["CREATE", "UPDATE"]}]
    assert vtn.changes.changes[-1].object.api_version == "3.0.1"
    assert await vtn.ven1.status("POST", "/subscriptions", json=body) == 400, "the newer has names of its own"


async def test_an_object_can_be_rendered_in_either_version_for_whom_it_is_told(vtn: Vtn, program: str) -> None:
    made = await vtn.client("bl", OLD).post("/events", event_body(program, targets=OLD_TARGETS))
    stored = await vtn.shelf.find(ObjectKind.EVENT, made["id"], tenant_id=vtn.tenant)
    assert stored is not None
    assert render_object(stored, None, "3.0.1") == made
    assert render_object(stored, frozenset({"v1"}), "3.0.1")["targets"] == OLD_TARGETS[1:]
    assert render_object(stored, frozenset({"v1"}), "3.1.0")["targets"] == ["v1"]


async def test_every_kind_reads_the_same_in_both_versions_where_they_say_the_same(vtn: Vtn, program: str) -> None:
    event = await vtn.bl.post("/events", event_body(program, priority=2, eventName="\u00e9"))
    await vtn.bl.post("/vens", ven_body(attributes=[{"type": "LOCATION", "values": [40.57, -73.96]}]))
    await vtn.ven1.post("/subscriptions", subscription_body(programID=program))
    for path in ("/programs", "/events", "/subscriptions"):
        assert await vtn.client("bl", NEW).get(path) == await vtn.client("bl", OLD).get(path) != []
    assert (await vtn.client("ven1", OLD).get("/events"))[0] == event
