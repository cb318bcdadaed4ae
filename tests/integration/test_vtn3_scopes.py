"""Who may call which operation of our OpenADR 3 VTN: the official documents, operation by operation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from market.openadr3.vtn.app import VtnParts, create_vtn
from tests.builders_vtn3 import (
    BL_SCOPES,
    NEW,
    OLD,
    ORIGIN,
    VEN_SCOPES,
    FixedAuthority,
    KeptLog,
    event_body,
    report_body,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from tests.shared_data import SHARED_DIR, shared_spec
from vpp.domain.errors import NotFound
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery, StoredObject
from vpp.domain.peer import PeerRole

READS_310 = {"read_targets", "read_ven_objects"}
BODIES: dict[str, dict[str, Any]] = {
    "programs": {"programName": "p"},
    "events": event_body("nothing"),
    "reports": report_body("nothing"),
    "subscriptions": subscription_body(),
    "vens": ven_body(),
    "resources": {"objectType": "BL_RESOURCE_REQUEST", "clientID": "c", "resourceName": "r", "venID": "nothing"},
}


class EmptyShelf:
    """An `ObjectShelf` that holds nothing: enough to see who gets as far as it."""

    async def select(self, query: ObjectQuery) -> list[StoredObject]:
        return []

    async def find(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject | None:
        return None

    async def create(self, draft: ObjectDraft, *, resources: Sequence[ObjectDraft] = ()) -> StoredObject:
        at = FixedClock().now()
        return StoredObject(kind=draft.kind, id="i", tenant_id="t", text="{}", created_at=at, modified_at=at)

    async def replace(self, object_id: str, draft: ObjectDraft) -> StoredObject:
        raise NotFound(object_id)

    async def delete(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject:
        raise NotFound(object_id)

    async def granted_targets(self, client_id: str, *, tenant_id: str) -> frozenset[str]:
        return frozenset()

    async def client_of_ven_name(self, ven_name: str, *, tenant_id: str) -> str | None:
        return None


@cache
def _document(version: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(shared_spec("openadr3", version, "openadr3.yaml").read_text())
    return found


def _operations() -> Iterator[tuple[str, str, str]]:
    if not (SHARED_DIR / "spec").exists():
        return
    for version in ("3.1.0", "3.0.1"):
        for path, methods in _document(version)["paths"].items():
            for method in ("get", "post", "put", "delete"):
                if method in methods and not path.startswith("/auth"):
                    yield version, method.upper(), path


OPERATIONS = list(_operations())
"""Empty where the documents are not on this machine; the first test then says so."""


@pytest.fixture
def vtn() -> tuple[httpx.AsyncClient, FixedAuthority]:
    authority, app = FixedAuthority(), FastAPI()
    parts = VtnParts(shelf=EmptyShelf(), authority=authority, clock=FixedClock(), log=KeptLog())
    for version, each in create_vtn(parts).items():
        app.mount(f"/openadr3/{version}", each)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN), authority


async def _status(http: httpx.AsyncClient, version: str, method: str, path: str, token: str | None) -> int:
    for name in ("programID", "eventID", "reportID", "subscriptionID", "venID", "resourceID"):
        path = path.replace(f"{{{name}}}", "nothing")
    collection = "resources" if "/resources" in path else path.split("/")[1]
    body = BODIES[collection] if method in ("POST", "PUT") and collection in BODIES else None
    if token == "ven" and body is not None and collection in ("vens", "resources"):
        body = body | {"objectType": f"VEN_{collection[:-1].upper()}_REQUEST"}
    if version == "3.0.1" and body is not None:
        body = body | {"programID": "nothing"}
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return (await http.request(method, f"/openadr3/{version}{path}", headers=headers, json=body)).status_code


def _documented(version: str, method: str, path: str) -> tuple[set[str], set[int]]:
    operation = _document(version)["paths"][path][method.lower()]
    scopes = next(
        each["oAuth2ClientCredentials"] for each in operation["security"] if "oAuth2ClientCredentials" in each
    )
    return set(scopes), {int(status) for status in operation["responses"]}


def test_the_documents_have_the_operations_this_is_about() -> None:
    shared_spec("openadr3")
    assert len(OPERATIONS) == 30 + 13 + 30


@pytest.mark.conformance("3.x", "auth", "VTN: 401 without a token (3.0.1: 403)")
@pytest.mark.parametrize(("version", "method", "path"), OPERATIONS)
async def test_without_a_token_no_operation_is_open(
    vtn: tuple[httpx.AsyncClient, FixedAuthority], version: str, method: str, path: str
) -> None:
    _, listed = _documented(version, method, path)
    for token in (None, "nobody"):
        status = await _status(vtn[0], version, method, path, token)
        if path == "/notifiers":  # lists no refusal, and tells strangers of webhooks only
            assert status == 200
        else:
            assert status == (401 if 401 in listed else 403)


@pytest.mark.conformance("3.x", "auth", "VTN: scopes of every operation")
@pytest.mark.parametrize(("version", "method", "path"), OPERATIONS)
async def test_a_token_opens_what_its_scope_is_for_and_nothing_else(
    vtn: tuple[httpx.AsyncClient, FixedAuthority], version: str, method: str, path: str
) -> None:
    http, authority = vtn
    scopes, listed = _documented(version, method, path)
    wanted = _openers(version, method, path, scopes)
    for role, known in ((PeerRole.BL, BL_SCOPES), (PeerRole.VEN, VEN_SCOPES)):
        authority.add(role.value, role, known & wanted)
        status = await _status(http, version, method, path, role.value)
        if known & wanted and not _only_for_the_other_role(role, method, path):
            assert status in {200, 201, 400, 404, 409} & listed, (role, status)
        elif path != "/notifiers":
            assert status == (403 if 403 in listed else 401), (role, status)
        authority.add(role.value, role, known - wanted)
        refused = await _status(http, version, method, path, role.value)
        assert refused == (403 if 403 in listed else 401) or path == "/notifiers", (role, refused)


def _openers(version: str, method: str, path: str, scopes: set[str]) -> set[str]:
    """The document's scope, and those that say no less: `read_all` reads what a VEN may read."""
    if method != "GET":
        return scopes
    if version == "3.0.1" or (path.startswith("/notifiers/mqtt/topics/programs")):
        return {"read_all", "read_bl", *READS_310}
    if path.startswith("/notifiers/mqtt/topics/vens/"):
        return {"read_all", "read_bl", "read_ven_objects"}
    return scopes | {"read_all"}


def _only_for_the_other_role(role: PeerRole, method: str, path: str) -> bool:
    if method in ("POST", "PUT") and path.startswith("/reports"):
        return role is PeerRole.BL
    return False


@pytest.mark.parametrize("path", ["/programs", "/events"])
async def test_a_ven_that_holds_business_logics_scope_still_writes_no_program_or_event(
    vtn: tuple[httpx.AsyncClient, FixedAuthority], path: str
) -> None:
    http, authority = vtn
    authority.add("ven", PeerRole.VEN, BL_SCOPES | VEN_SCOPES)
    for version in ("3.1.0", "3.0.1"):
        assert await _status(http, version, "POST", path, "ven") == 403


async def test_a_header_that_is_not_a_bearer_token_is_none(vtn: tuple[httpx.AsyncClient, FixedAuthority]) -> None:
    http, _ = vtn
    for header in ("bl", "Basic bl", "Bearer", "Bearer ", "Bearer b\u00e9l", "Bearer " + "x" * 9000):
        answer = await http.get(f"{NEW}/events", headers={"authorization": header.encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}
        assert (await http.get(f"{OLD}/events", headers={"authorization": header.encode()})).status_code == 403


async def test_long_bodies_of_a_ven_count_as_many_requests_and_wrong_ones_are_refused_soon() -> None:
    authority, app = FixedAuthority(), FastAPI()
    parts = VtnParts(shelf=EmptyShelf(), authority=authority, clock=FixedClock(), log=KeptLog())
    app.mount(NEW, create_vtn(replace(parts, requests_per_second=10.0))["3.1.0"])
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)
    intervals = b",".join([b"{}"] * 300_000)
    body = b'{"eventID":"e","clientName":"c","resources":[{"resourceName":"r","intervals":[%s]}]}' % intervals
    begun_s = time.process_time()
    answers = [
        await http.post(f"{NEW}/reports", content=body, headers={"authorization": "Bearer ven1"}) for _ in range(2)
    ]
    assert time.process_time() - begun_s < 1.0
    assert [answer.status_code for answer in answers] == [400, 500]
    assert answers[1].json()["title"] == "Too Many Requests"
    assert (await http.get(f"{NEW}/events", headers={"authorization": "Bearer ven2"})).status_code == 200


async def test_too_many_requests_of_one_client_are_put_off_and_others_are_not() -> None:
    authority, app = FixedAuthority(), FastAPI()
    parts = VtnParts(shelf=EmptyShelf(), authority=authority, clock=FixedClock(), log=KeptLog())
    app.mount(NEW, create_vtn(replace(parts, requests_per_second=0.5))["3.1.0"])
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)
    answers = [await http.get(f"{NEW}/events", headers={"authorization": "Bearer ven1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 500]
    assert answers[1].json()["title"] == "Too Many Requests"
    assert answers[1].headers["retry-after"] == "1"
    assert (await http.get(f"{NEW}/events", headers={"authorization": "Bearer ven2"})).status_code == 200
