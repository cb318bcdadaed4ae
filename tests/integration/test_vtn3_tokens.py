"""`/auth/server` and `/auth/token` of our OpenADR 3 VTN, and what it says of notifiers."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import pytest
from fastapi import FastAPI

from market.openadr3.vtn.app import VtnParts, create_vtn
from tests.builders_vtn3 import NEW, OLD, ORIGIN, FixedAuthority, KeptLog, Vtn, running_vtn, ven_body
from tests.clock import FixedClock
from vpp.domain.peer import Caller, PeerRole

SECRET = "bl secret+/:%"
FORM = {"grant_type": "client_credentials", "client_id": "bl-client", "client_secret": SECRET}
GRANT = {"grant_type": "client_credentials"}


class Broker:
    """`Notifiers` with MQTT."""

    async def mqtt_binding(self, caller: Caller, *, access_token: str) -> dict[str, Any] | None:
        authentication = {"method": "OAUTH2_BEARER_TOKEN", "username": caller.client_id}
        return {"URIS": ["mqtts://broker.example"], "serialization": "JSON", "authentication": authentication}

    async def topics(self, path: str, caller: Caller) -> dict[str, str] | None:
        return {"UPDATE": f"{path}/update", "DELETE": f"{path}/delete"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A VTN whose objects are not asked for."""
    log = KeptLog()
    parts: dict[str, Any] = {"shelf": None, "authority": FixedAuthority(), "clock": FixedClock(), "log": log}
    app = FastAPI()
    for version, each in create_vtn(VtnParts(**parts)).items():
        app.mount(f"/openadr3/{version}", each)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as found:
        found.log = log  # type: ignore[attr-defined]
        yield found


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock, notifiers=Broker()) as found:
        yield found


@pytest.mark.conformance("3.x", "auth", "VTN: /auth/token by Basic and form, expires_in")
@pytest.mark.parametrize("base", [NEW, OLD])
async def test_a_client_gets_a_token_by_basic_or_by_form(http: httpx.AsyncClient, base: str) -> None:
    encoded = ("bl-client", quote_plus(SECRET))
    answers = [
        await http.post(f"{base}/auth/token", data=FORM),
        await http.post(f"{base}/auth/token", data=GRANT, auth=encoded),
        await http.post(f"{base}/auth/token", data=FORM | {"scope": "read_all whatever", "audience": "x"}),
        await http.post(f"{base}/auth/token", data=FORM, auth=encoded),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        token = answer.json()
        assert (token["access_token"], token["token_type"], token["expires_in"]) == ("bl", "Bearer", 3600)
        assert "write_events" in token["scope"].split()


@pytest.mark.conformance("3.x", "auth", "VTN: errors of /auth/token")
@pytest.mark.parametrize(
    ("form", "auth", "error"),
    [
        ({}, None, "invalid_request"),
        ({"grant_type": "password", "client_id": "bl-client", "client_secret": SECRET}, None, "unsupported_grant_type"),
        (GRANT, None, "invalid_request"),
        (GRANT | {"client_id": "bl-client"}, None, "invalid_request"),
        (FORM | {"client_secret": "x" * 4097}, None, "invalid_request"),
        (FORM | {"client_id": "\0"}, None, "invalid_request"),
        (FORM | {"client_id": "ven1-client"}, ("bl-client", quote_plus(SECRET)), "invalid_request"),
        (FORM | {"client_secret": "wrong"}, None, "invalid_client"),
        (FORM | {"client_id": "nobody"}, None, "invalid_client"),
        (GRANT, ("bl-client", "wrong"), "invalid_client"),
        (GRANT, ("bl-client", ""), "invalid_client"),
    ],
)
async def test_what_earns_no_token_is_refused_in_the_words_of_oauth(
    http: httpx.AsyncClient, form: dict[str, str], auth: tuple[str, str] | None, error: str
) -> None:
    for base, unknown in ((NEW, 401), (OLD, 403)):
        answer = await http.post(f"{base}/auth/token", data=form, auth=auth)  # type: ignore[arg-type]
        assert answer.status_code == (unknown if error == "invalid_client" else 400)
        told = answer.json()
        assert told["error"] == error
        assert (told["status"], told["detail"]) == (answer.status_code, told["error_description"])
        assert SECRET not in answer.text


async def test_a_client_that_may_have_no_scope_it_asks_for_is_told_so(vtn: Vtn) -> None:
    vtn.authority.add("poor", PeerRole.VEN, ())
    form = GRANT | {"client_id": "poor-client", "client_secret": "poor secret+/:%"}
    answer = await vtn.http.post(f"{NEW}/auth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_a_body_that_is_no_form_earns_no_token(http: httpx.AsyncClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    bodies: list[dict[str, Any]] = [
        {"json": FORM},
        {"content": urlencode(FORM) + "&client_id=twice", "headers": form},
        {"content": "&".join(f"a{number}=1" for number in range(30)), "headers": form},
        {"content": b"grant_type=\xff", "headers": form},
        {"content": "grant_type=%ff", "headers": form},
        {"content": b"a" * 1_100_000, "headers": form},
        {"data": GRANT, "headers": {"authorization": "Basic !!!"}},
        {"data": GRANT, "headers": {"authorization": "Basic " + "YQ=="}},
    ]
    for body in bodies:
        answer = await http.post(f"{NEW}/auth/token", **body)
        assert answer.status_code in (400, 401), body


async def test_secrets_are_not_written_into_the_message_log(http: httpx.AsyncClient) -> None:
    await http.post(f"{NEW}/auth/token", data=FORM)
    await http.post(f"{NEW}/auth/token", data=FORM | {"client_secret": "wrong"})
    notes = http.log.notes  # type: ignore[attr-defined]
    assert [(note["kind"], note["status"], note["peer"]) for note in notes] == [
        ("POST /auth/token", "200", "bl-client"),
        ("POST /auth/token", "401", None),
    ]
    assert "secret" not in str(notes)


@pytest.mark.conformance("3.1.0", "auth", "VTN: /auth/server")
async def test_the_token_endpoint_is_told_to_anybody(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{NEW}/auth/server")
    assert answer.json() == {"tokenURL": f"{ORIGIN}{NEW}/auth/token"}
    assert (await http.get(f"{OLD}/auth/server")).status_code == 404, "3.0.1 has none"


async def test_where_tokens_are_issued_elsewhere_the_endpoint_says_so() -> None:
    parts: dict[str, Any] = {"shelf": None, "authority": FixedAuthority(), "clock": FixedClock(), "log": KeptLog()}
    app = create_vtn(VtnParts(**parts, issues_tokens=False))["3.1.0"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as http:
        assert (await http.post("/auth/token", data=FORM)).status_code == 501


async def test_without_a_broker_there_are_webhooks_and_no_topics(http: httpx.AsyncClient) -> None:
    bl = {"authorization": "Bearer bl"}
    assert (await http.get(f"{NEW}/notifiers", headers=bl)).json() == {"WEBHOOK": True}
    assert (await http.get(f"{NEW}/notifiers/mqtt/topics/programs", headers=bl)).status_code == 404


@pytest.mark.conformance("3.1.0", "notifiers", "VTN: /notifiers")
async def test_a_broker_is_told_to_whoever_shows_a_token(vtn: Vtn) -> None:
    assert (await vtn.ven1.get("/notifiers"))["MQTT"]["authentication"]["username"] == "ven1-client"
    assert await vtn.client(None).get("/notifiers") == {"WEBHOOK": True}


@pytest.mark.conformance("3.1.0", "notifiers", "VTN: topics by scope and object")
async def test_topics_are_told_of_what_the_caller_may_see(vtn: Vtn) -> None:
    program = await vtn.bl.post("/programs", {"programName": "p", "targets": ["g1"]})
    mine = await vtn.bl.post("/vens", ven_body(targets=["g1"]))
    await vtn.bl.post("/vens", ven_body("ven2-client"))
    topics = "/notifiers/mqtt/topics"
    found = await vtn.ven1.get(f"{topics}/vens/{mine['id']}/events")
    assert found == {
        "topics": {"UPDATE": f"vens/{mine['id']}/events/update", "DELETE": f"vens/{mine['id']}/events/delete"}
    }
    for path in (f"vens/{mine['id']}", f"vens/{mine['id']}/resources", f"programs/{program['id']}/events", "programs"):
        assert await vtn.ven1.status("GET", f"{topics}/{path}") == 200
        assert await vtn.bl.status("GET", f"{topics}/{path}") == 200
    for path in (f"vens/{mine['id']}", f"programs/{program['id']}", "vens/nothing"):
        assert await vtn.ven2.status("GET", f"{topics}/{path}") == 404
    for path in ("events", "reports", "subscriptions", "vens", "resources"):
        assert await vtn.ven1.status("GET", f"{topics}/{path}") == 403
        assert await vtn.bl.status("GET", f"{topics}/{path}") == 200
