"""The service as other people's OpenADR 3 clients see it: each in an environment of its own, over HTTP.

Goal and method are those of `test_openadr2_peers.py`. Clients that can are business logic as well as VEN; for the
others the operator tells, changes and cancels the event by API, and business logic of 3.1.0 reads their report.
Beside them, on the same service, our own VEN of 2.0b lives at a utility made of openleadr's server. It has no fleet,
so that it declines; that a fleet opts in is shown in `tests/integration/test_gateway_openadr2.py`.

Known faults of the clients, none of which stops a life:

* python-oa3-client 0.5.0 finds programmes by name without asking for targets, so that one with targets is not
  found so; its webhook receiver answers no echo challenge, which 3.1.0 demands (it is given another here).
* openadr3-client 2.4.2 names operations of 3.1.0 subscriptions as 3.0.1's clients do, and so can make none there;
  it has no callback receiver. It takes plain HTTP for its token only where OAUTHLIB_INSECURE_TRANSPORT says so.
* oadr30-ven-ud 1.2.0 writes an error to its log for every 201, and asks for the scope read_all whatever it does.
* openleadr 0.5.36's server has no way to modify an event, and fails on a TELEMETRY_STATUS report.
* toadr3 0.29.0 reads a notification's operations by the names of HTTP only.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.blackbox.environments import python_312
from tests.blackbox.life_utility import UtilityLife, openleadr_server
from tests.blackbox.lives import living
from tests.blackbox.lives3 import VenLife, both_sides, oa3, toadr3, ud
from tests.blackbox.peer import Peer
from tests.blackbox.service import Service, running_service
from vpp.store.embedded import ServerUrls

OA3, ELAAD = "python-oa3-client 0.5.0 with openadr3 0.5.0", "openadr3-client 2.4.2"
TOADR3, UD = "toadr3 0.29.0", "oadr30-ven-ud 1.2.0"


def shows(profile: str, service: str, point: str, peer: str) -> pytest.MarkDecorator:
    """A point of the specification that a test shows."""
    return pytest.mark.conformance(profile, service, f"VTN: {point}", peer=peer)


@pytest.fixture(scope="module")
def service(
    servers: ServerUrls, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with Redis.from_url(servers.redis_url, socket_timeout=10) as client:
        client.flushdb()
    folder = tmp_path_factory.mktemp("service")
    settings = {"further": ("work", "gateway"), "openadr3_allow_http_callbacks": "true"}
    with running_service(module_database_url, servers.redis_url, folder, **settings) as service:
        yield service


@pytest.fixture(scope="module")
def lives(request: pytest.FixtureRequest, service: Service) -> Iterator[Callable[[str], Any]]:
    every = {
        "oa3_life": lambda: oa3(service),
        "elaad_life": lambda: both_sides(service, "openadr3-client", "elaad_client", "elaad"),
        "toadr3_life": lambda: toadr3(service),
        "ud_life": lambda: ud(service),
        "utility_life": lambda: openleadr_server(service),
    }
    with living(request, every) as outcome:
        yield outcome


@pytest.fixture(scope="module")
def oa3_life(lives: Callable[[str], Any]) -> Peer:
    """The life of python-oa3-client, as business logic and VEN."""
    life: Peer = lives("oa3_life")
    return life


@pytest.fixture(scope="module")
def elaad_life(lives: Callable[[str], Any]) -> Peer:
    """The life of ElaadNL's openadr3-client, as business logic and VEN."""
    life: Peer = lives("elaad_life")
    return life


@pytest.fixture(scope="module")
def toadr3_life(lives: Callable[[str], Any]) -> VenLife:
    """The life of toadr3's VEN."""
    life: VenLife = lives("toadr3_life")
    return life


@pytest.fixture(scope="module")
def ud_life(lives: Callable[[str], Any]) -> VenLife:
    """The life of oadr30-ven-ud's VEN."""
    life: VenLife = lives("ud_life")
    return life


@pytest.fixture(scope="module")
def utility_life(lives: Callable[[str], Any]) -> UtilityLife:
    """The life of our VEN at openleadr's server."""
    life: UtilityLife = lives("utility_life")
    return life


def said(peer: Peer, what: str) -> dict[str, Any]:
    """The one thing of a kind a peer said."""
    (line,) = peer.all(what)
    return line


@shows("3.1.0", "auth", "/auth/server leads to the token; credentials in the form", OA3)
@shows("3.1.0", "objects", "BL makes a programme; a name that is taken is 409, one not allowed 403", OA3)
def test_oa3_makes_a_programme_and_learns_what_it_may_not(oa3_life: Peer) -> None:
    assert said(oa3_life, "again")["status"] == 409
    assert said(oa3_life, "forbidden")["status"] == 403


@shows("3.1.0", "objects", "a VEN registers once, with a resource", OA3)
def test_oa3_registers_once(oa3_life: Peer) -> None:
    line = said(oa3_life, "ven")
    assert (line["id"], line["resource"]) == (line["again"], "battery")


@shows("3.1.0", "privacy", "what has targets is seen by whom they are granted", OA3)
def test_oa3_sees_what_has_targets_once_they_are_granted(oa3_life: Peer) -> None:
    line = said(oa3_life, "granted")
    assert "oa3 prices" not in line["before"]
    assert line["targets"] == ["feeder-9"]
    assert said(oa3_life, "created")["events"] == [["peak", [[0.25], [0.5]]]]


@shows("3.1.0", "events", "created, modified and deleted by BL, as the VEN sees it", OA3)
def test_oa3_sees_the_event_change_and_go(oa3_life: Peer) -> None:
    assert said(oa3_life, "modified")["events"] == [["peak", [[0.75], [0.5]]]]
    assert said(oa3_life, "deleted")["events"] == []


@shows("3.1.0", "reports", "posted by the VEN, read by BL, gone with the event", OA3)
def test_oa3_reads_the_report_it_sent(oa3_life: Peer) -> None:
    line = said(oa3_life, "reported")
    assert line["read"] == [line["id"]]
    assert "1.25" in line["values"]
    assert said(oa3_life, "deleted")["reports"] == 0


@shows("3.1.0", "subscriptions", "echo challenge, CREATE, UPDATE and DELETE with the bearer token, deleted", OA3)
def test_oa3_is_called_back_of_all_that_happens_to_the_event(oa3_life: Peer) -> None:
    assert said(oa3_life, "challenged")["echo"]
    heard = oa3_life.all("notified")
    assert [line["operation"] for line in heard] == ["CREATE", "UPDATE", "DELETE"]
    assert {(line["id"], line["type"]) for line in heard} == {(said(oa3_life, "created")["id"], "EVENT")}
    assert {line["authorization"] for line in heard} == {"Bearer open-sesame"}
    assert said(oa3_life, "unsubscribe")["result"] == 404


REQUIRED = python_312() is not None or os.environ.get("VPP_REQUIRE_ALL") != "1"
"""This client runs on no Python before 3.12: nothing is missing where there is none."""

if REQUIRED:

    @shows("3.1.0", "auth", "token endpoint discovered, credentials by HTTP Basic", ELAAD)
    def test_elaads_client_finds_its_token(elaad_life: Peer, service: Service) -> None:
        assert said(elaad_life, "auth")["url"] == f"{service.url}/openadr3/3.1.0/auth/token"

    @shows("3.1.0", "privacy", "targets granted to a ven by BL; hidden until then", ELAAD)
    def test_elaads_ven_sees_the_programme_once_it_is_granted(elaad_life: Peer) -> None:
        assert said(elaad_life, "ven")["resource"] == "charger"
        assert said(elaad_life, "hidden")["programs"] == 0
        assert said(elaad_life, "granted")["targets"] == ["feeder-3"]

    @shows("3.1.0", "events", "created, modified and deleted; read as a list by target and one by one", ELAAD)
    def test_elaads_ven_sees_the_event_change_and_go(elaad_life: Peer) -> None:
        line = said(elaad_life, "created")
        assert (line["events"], line["one"]) == ([[11.0, 7.5]], [11.0, 7.5])
        assert said(elaad_life, "modified")["events"] == [[6.0, 7.5]]
        assert said(elaad_life, "deleted")["events"] == []

    @shows("3.1.0", "reports", "posted by the VEN, found by BL by programme, event and clientName", ELAAD)
    def test_elaads_business_logic_finds_the_report(elaad_life: Peer) -> None:
        line = said(elaad_life, "reported")
        assert line["read"] == [[line["id"], 5.5]]


@shows("3.0.1", "auth", "credentials in the form, expires_in in the answer", TOADR3)
def test_toadr3_gets_a_token_that_lasts(toadr3_life: VenLife) -> None:
    assert said(toadr3_life.peer, "token")["has"]


@shows("3.0.1", "events", "an operator's event for this VEN, modified and cancelled", TOADR3)
def test_toadr3_sees_the_operators_event_to_its_end(toadr3_life: VenLife) -> None:
    (first,), (changed,), (gone,) = toadr3_life.first, toadr3_life.changed, toadr3_life.cancelled
    assert first["id"] == changed["id"] == gone["id"] == toadr3_life.event_id
    assert first["values"] == [["SIMPLE", [1]], ["SIMPLE", [2]]]
    assert (first["priority"], first["duration_s"]) == (2, 1800.0), "0 is the highest in OpenADR 3, 1 in the API"
    assert changed["values"] == [["SIMPLE", [3]], ["SIMPLE", [0]]]
    assert (gone["start_at"][:10], gone["duration_s"]) == ("0001-01-01", 0.0)


@shows("3.0.1", "subscriptions", "made, listed, told by POST, PUT and DELETE, and deleted", TOADR3)
def test_toadr3_is_called_back_in_the_words_of_its_version(toadr3_life: VenLife) -> None:
    facts = toadr3_life.facts
    assert facts["listed"] == [facts["subscription"]]
    heard = {(line["operation"], line["id"]) for line in toadr3_life.peer.all("notified")}
    assert heard == {("PUT", toadr3_life.event_id)}
    assert facts["unsubscribed"] is None


@shows("3.0.1", "reports", "posted by the VEN, read by BL of 3.1.0", TOADR3)
def test_toadr3s_report_is_read_by_business_logic_of_the_newer_version(toadr3_life: VenLife) -> None:
    (report,) = toadr3_life.read
    assert toadr3_life.facts["report"] == [report["id"], [report["id"]]]
    (resource,) = report["resources"]
    assert (resource["resourceName"], resource["intervals"][0]["payloads"][0]["values"]) == ("heat-pump", [2.5])


@shows("3.0.1", "objects", "a VEN may not delete a programme", TOADR3)
def test_toadr3_may_not_delete_a_programme(toadr3_life: VenLife) -> None:
    assert toadr3_life.facts["forbidden"] == 403


@shows("3.0.1", "vens", "a ven comes with its resources", UD)
def test_uds_ven_comes_with_its_resources(ud_life: VenLife) -> None:
    assert ud_life.facts["ven"] == ["ud", ["thermostat"]]


@shows("3.0.1", "events", "read as a time series; modified; empty once cancelled", UD)
def test_ud_makes_a_time_series_of_the_operators_event(ud_life: VenLife) -> None:
    assert ud_life.facts["ids"] == [ud_life.event_id]
    assert [line[:2] + line[3:] for line in ud_life.first] == [["SIMPLE", [1.0], "1800.0"], ["SIMPLE", [2.0], "1800.0"]]
    assert [line[1] for line in ud_life.changed] == [[3.0], [0.0]]
    assert ud_life.cancelled == []


@shows("3.0.1", "reports", "operating state, posted with the scope of reading alone", UD)
def test_uds_report_is_read_by_business_logic_of_the_newer_version(ud_life: VenLife) -> None:
    (report,) = ud_life.read
    (resource,) = report["resources"]
    assert resource["intervals"][0]["payloads"] == [{"type": "OPERATING_STATE", "values": ["NORMAL"]}]


def at_utility(service: str, point: str) -> pytest.MarkDecorator:
    """A point of 2.0b that our VEN shows at a utility."""
    return pytest.mark.conformance("2.0b", service, f"VEN: {point}", peer="openleadr server 0.5.36")


@at_utility("EiRegisterParty", "registers by its name, as a process of its own")
def test_our_ven_registers_at_the_utility(utility_life: UtilityLife) -> None:
    line = said(utility_life.utility, "registered")
    assert (line["name"], line["ven_id"]) == ("fleet", "ven-of-the-utility")


@at_utility("EiEvent", "every version answered, with the reason; a cancellation with optIn")
def test_our_ven_answers_every_version_of_the_utilitys_event(utility_life: UtilityLife) -> None:
    opts = {line["number"]: (line["opt"], line["code"]) for line in utility_life.utility.all("opt")}
    assert opts == {0: ("optOut", 200), 1: ("optOut", 200), 2: ("optOut", 200), 3: ("optIn", 200)}
    assert "no" in utility_life.utility.all("opt")[0]["why"]


@at_utility("EiEvent", "passed on to those below us, modified and cancelled")
def test_the_utilitys_event_is_passed_on_in_all_its_versions(utility_life: UtilityLife) -> None:
    values = [[interval["values"] for interval in each["series"][0]["intervals"]] for each in utility_life.below]
    assert values == [[[0.0], [0.0]], [[100.0], [50.0]], [[0.0], [0.0]], [[0.0], [0.0]]]
    assert [each["status"] for each in utility_life.below] == ["far", "far", "far", "cancelled"]
    assert utility_life.below[0]["series"][0]["type"] == "DISPATCH_SETPOINT"


@at_utility("EiReport", "METADATA registration, and a one-shot TELEMETRY_STATUS")
def test_our_ven_offers_its_reports_and_sends_what_is_asked_for(utility_life: UtilityLife) -> None:
    offered = {(line["measurement"], line["unit"]) for line in utility_life.utility.all("offered")}
    assert {("RealPower", "W"), ("RealEnergy", "Wh"), ("Status", None)} <= offered
    (status,) = [line for line in utility_life.utility.all("report") if line["name"] == "TELEMETRY_STATUS"]
    assert status["values"][0]["payload_resource_status"] == {"online": False, "manual_override": False}
