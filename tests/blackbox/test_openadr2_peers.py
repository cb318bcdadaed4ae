"""The service as other people's OpenADR 2.0b VENs see it: each in an environment of its own, over HTTP.

Goal: what we call conforming is what independent programs understand. Method: the service runs in processes of its
own; each peer lives one whole life side by side with the others, while the operator tells, changes and cancels its
events by API; the tests look at what the peer was told and what of it we know. The VTN is killed in the middle.

Known faults of the peers, none of which stops a life:

* openleadr 0.5.36 mixes up the points of several requests in one oadrCreateReport (they are asked one by one here),
  forgets its reports when it ends its registration, and does not answer an event that is over.
* pyoadr-ven 0.6.0 writes what the schema does not allow (the deviations below); its parser dies of a
  modificationDateTime unless its checks of simple types are switched off, and of a poll frequency; it takes one
  SIMPLE signal only, never sends oadrCreatedReport, and answers a cancelled event first with the number before.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.blackbox.life_openleadr import ClientLife, openleadr_client
from tests.blackbox.life_pyoadr import AgentLife, pyoadr_agent
from tests.blackbox.lives import living
from tests.blackbox.service import Service, running_service
from vpp.store.embedded import ServerUrls

OPENLEADR, PYOADR = "openleadr 0.5.36", "pyoadr-ven 0.6.0"


def shows(service: str, point: str, peer: str) -> pytest.MarkDecorator:
    """A point of the profile that a test shows."""
    return pytest.mark.conformance("2.0b", service, f"VTN: {point}", peer=peer)


@pytest.fixture(scope="module")
def service(
    servers: ServerUrls, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with Redis.from_url(servers.redis_url, socket_timeout=10) as client:
        client.flushdb()
    folder = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, servers.redis_url, folder, openadr2_vtn_poll_s=1) as service:
        yield service


@pytest.fixture(scope="module")
def lives(request: pytest.FixtureRequest, service: Service) -> Iterator[Callable[[str], Any]]:
    every = {"client": lambda: openleadr_client(service), "agent": lambda: pyoadr_agent(service)}
    with living(request, every) as outcome:
        yield outcome


@pytest.fixture(scope="module")
def client(lives: Callable[[str], Any]) -> ClientLife:
    """The life of openleadr's client."""
    life: ClientLife = lives("client")
    return life


@pytest.fixture(scope="module")
def agent(lives: Callable[[str], Any]) -> AgentLife:
    """The life of pyoadr-ven's agent."""
    life: AgentLife = lives("agent")
    return life


def told(life: ClientLife | AgentLife, event: str) -> list[tuple[int, str]]:
    """Every version and status of an event as it was told, each once."""
    lines = [(line["number"], line["status"]) for line in life.ven.all("event") if line["id"] == event]
    return list(dict.fromkeys(lines))


def version(life: ClientLife | AgentLife, event: str, number: int) -> dict[str, Any]:
    """What was told of one version."""
    return next(line for line in life.ven.all("event") if (line["id"], line["number"]) == (event, number))


@shows("EiRegisterParty", "query and create: venID, registrationID and poll frequency", OPENLEADR)
def test_the_client_registers_under_its_name_and_polls_as_often_as_it_is_told(client: ClientLife) -> None:
    assert client.registered["ven_id"] == "stock"
    assert client.registered["registration_id"]
    assert client.registered["poll_s"] == 1.0


@shows("EiEvent", "two signals, several intervals each", OPENLEADR)
def test_the_client_reads_both_signals_with_their_intervals(client: ClientLife) -> None:
    assert version(client, client.first, 0)["signals"] == [
        {"name": "LOAD_DISPATCH", "type": "setpoint", "intervals": [[1800.0, 8.0], [1800.0, 4.0]]},
        {"name": "SIMPLE", "type": "level", "intervals": [[3600.0, 2.0]]},
    ]


@shows("EiEvent", "test event, VTN comment, target by group", OPENLEADR)
def test_the_client_is_told_of_a_test_event_for_its_group(client: ClientLife) -> None:
    line = version(client, client.last, 0)
    assert (line["test"], line["comment"], line["status"]) == (True, "a trial", "far")


@shows("EiEvent", "far, near, active, cancelled, with modificationNumber in order", OPENLEADR)
def test_the_client_sees_every_version_of_the_event_in_order(client: ClientLife) -> None:
    assert told(client, client.first) == [
        (0, "far"), (1, "far"), (2, "near"), (3, "active"), (4, "active"), (5, "cancelled"),
    ]  # fmt: skip


@shows("EiEvent", "modify before the event; optOut and optIn", OPENLEADR)
def test_the_client_changes_its_mind_with_the_event(client: ClientLife) -> None:
    assert [client.answers[number].opt_in for number in (0, 1, 3, 4, 5)] == [True, False, True, True, True]
    assert {answer.code for answer in client.answers.values()} == {200}
    assert version(client, client.first, 1)["signals"][0]["intervals"] == [[1800.0, 6.0], [1800.0, 3.0]]


@shows("EiEvent", "modify during the event, told by a VTN killed and started again", OPENLEADR)
def test_the_client_goes_on_with_a_vtn_that_was_killed(client: ClientLife) -> None:
    line = version(client, client.first, 4)
    assert (line["comment"], line["status"]) == ("told while the VTN was down", "active")
    assert client.answers[4].answered_modification == 4


@shows("EiEvent", "active and completed told on poll", OPENLEADR)
def test_the_client_is_told_that_an_event_began_and_ended(client: ClientLife) -> None:
    assert told(client, client.short)[-2:] == [(0, "active"), (0, "completed")]


@shows("EiOpt", "create and cancel", OPENLEADR)
def test_the_clients_opt_overrides_its_answer_until_it_is_taken_back(client: ClientLife) -> None:
    assert (client.opted.opt_in, client.opted.opt_id) == (False, "opt-1")
    assert (client.unopted.opt_in, client.unopted.opt_id) == (True, None)


@shows("EiReport", "METADATA registration, one-shot TELEMETRY_USAGE", OPENLEADR)
def test_the_clients_one_value_arrives_and_the_request_is_done(client: ClientLife) -> None:
    assert sorted(client.offered) == ["once", "usage"]
    assert [(each.r_id, each.value) for each in client.once] == [("capacity", 7.25)]
    assert client.states["once"] == "done"


@shows("EiReport", "periodic TELEMETRY_USAGE, over a restart of the VTN, and cancel", OPENLEADR)
def test_the_clients_values_arrive_every_second_until_the_report_is_cancelled(client: ClientLife) -> None:
    assert {(each.r_id, each.value) for each in client.periodic} == {("power", 12.5)}
    assert len({each.start_at for each in client.periodic}) == len(client.periodic)
    assert client.states["usage"] == "cancelled"


@shows("EiRegisterParty", "oadrRequestReregistration: registers again and is told its events again", OPENLEADR)
def test_the_client_registers_anew_when_asked_to(client: ClientLife) -> None:
    assert client.told_again["status"] == "far"


@shows("EiRegisterParty", "cancel by the VEN, and re-registration under the ids it had", OPENLEADR)
def test_the_client_ends_its_registration_and_comes_back_as_who_it_was(client: ClientLife) -> None:
    assert client.ended.cancelled_by == "ven"
    same = ("ven_id", "registration_id")
    assert [client.again[key] for key in same] == [client.registered[key] for key in same]


@shows("EiRegisterParty", "create, with a venName alone", PYOADR)
def test_the_agent_registers(agent: AgentLife) -> None:
    assert (agent.registered["ven_id"], agent.registered["vtn_id"]) == ("lenient", "VPP-VTN")


@shows("EiEvent", "modify before and during the event, cancel", PYOADR)
def test_the_agent_follows_the_event_to_its_end(agent: AgentLife) -> None:
    versions = told(agent, agent.event)
    assert [number for number, status in versions if status != "cancelled"] == [0, 1, 2, 3]
    assert dict(versions[:-1])[3] == "active"
    assert versions[-1][1] == "cancelled"
    assert (agent.answer.opt_in, agent.answer.code) == (True, 200)


@shows("EiEvent", "an undecided VEN (optType none) is told again until it decides", PYOADR)
def test_the_agent_may_take_its_time_to_decide(agent: AgentLife) -> None:
    assert "opt-none" in agent.tolerated["oadrCreatedEvent"]
    assert {line["opt"] for line in agent.ven.all("event")} <= {"none", "optIn"}


@shows("EiReport", "METADATA registration, standing request, periodic TELEMETRY_USAGE", PYOADR)
def test_the_agents_values_arrive_as_the_peers_configuration_wants_them(agent: AgentLife) -> None:
    (offer,) = agent.offers
    assert [(point.r_id, point.unit) for point in offer.points] == [("actual", "W")]
    assert agent.state == "running"
    assert {(each.r_id, each.value) for each in agent.values} == {("actual", 3.5)}


@shows("Deviations", "tolerated and named in the message log", PYOADR)
def test_what_the_agent_writes_against_the_schema_is_tolerated_by_name(agent: AgentLife) -> None:
    assert set().union(*agent.tolerated.values()) == {
        "attribute-without-namespace", "element-in-wrong-namespace", "length-unknown", "offer-without-request-id",
        "opt-none", "response-without-request-id", "type-name-as-element",
    }  # fmt: skip
