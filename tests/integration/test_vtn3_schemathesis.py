"""Our 3.1.0 routes against the official OpenAPI document: requests made from it, right and wrong, and every answer
one that it lists (schemathesis, over a real socket, a bounded number of seeded cases)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import cycle
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.builders_vtn3 import (
    NEW,
    Vtn,
    event_body,
    listening,
    report_body,
    running_vtn,
    subscription_body,
    ven_body,
)
from tests.clock import FixedClock
from tests.shared_data import shared_spec
from vpp.domain.peer import PeerRole

CASES = 5
"""For each operation and each way of making cases."""
DEAR = {"reports": 1, "events": 2}
"""The same for bodies that take long to make."""
FORGOTTEN = ("/vens", "POST", 409)
"""The document lists no 409 for `POST /vens`, and yet says that a venName is unique; PUT lists it."""
UNSATISFIABLE = ("/vens", "/resources")
"""What these answer is to be of objectType VEN and BL_VEN_REQUEST at once, so that nothing conforms to it."""


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock, requests_per_second=1e6, token_requests_per_second=1e6) as found:
        yield found


async def _ids(vtn: Vtn) -> dict[str, str]:
    """Objects to be found by the cases, by the name of the path's parameter."""
    program = (await vtn.bl.post("/programs", {"programName": "there"}))["id"]
    event = (await vtn.bl.post("/events", event_body(program)))["id"]
    ven = (await vtn.bl.post("/vens", ven_body(venName="there")))["id"]
    resource = {"objectType": "BL_RESOURCE_REQUEST", "clientID": "ven1-client", "resourceName": "r", "venID": ven}
    return {
        "programID": program,
        "eventID": event,
        "venID": ven,
        "reportID": (await vtn.ven1.post("/reports", report_body(event)))["id"],
        "subscriptionID": (await vtn.ven1.post("/subscriptions", subscription_body()))["id"],
        "resourceID": (await vtn.bl.post("/resources", resource))["id"],
    }


def _run(operation: Any, mode: GenerationMode, url: str, ids: dict[str, str], seen: set[Any]) -> None:
    cases_max = CASES if operation.method == "get" else DEAR.get(operation.path.split("/")[1], CASES)
    turns = cycle(((True, "bl"), (True, "ven1"), (False, "bl"), (False, "ven1")))

    @seed(31)
    @settings(
        max_examples=cases_max, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def cases(case: schemathesis.Case) -> None:
        real, token = next(turns)
        if real:
            for name in set(case.path_parameters or ()) & set(ids):
                case.path_parameters[name] = ids[name]
            if isinstance(case.body, dict):
                case.body.update({name: ids[name] for name in ("programID", "eventID", "venID") if name in case.body})
        answer = case.call(base_url=url, headers={"authorization": f"Bearer {token}"})
        place = (operation.path, operation.method.upper(), answer.status_code)
        seen.add(place)
        if place != FORGOTTEN:
            case.validate_response(answer, checks=_checks(operation.path))
        assert answer.status_code < 500, answer.text

    with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        cases()


def _checks(path: str) -> list[Any]:
    schema = [] if path.startswith(UNSATISFIABLE) else [response_schema_conformance]
    return [status_code_conformance, content_type_conformance, *schema]


@pytest.mark.conformance(
    "3.1.0", "objects", "VTN: no status or body the OpenAPI document does not list", peer="schemathesis"
)
async def test_every_answer_to_whatever_the_document_allows_or_forbids_is_one_it_lists(vtn: Vtn) -> None:
    path = shared_spec("openadr3", "3.1.0", "openadr3.yaml")
    schema = schemathesis.openapi.from_path(path)
    ids = await _ids(vtn)
    vtn.authority.add("bl", PeerRole.BL, vtn.authority.callers["bl"].scopes | {"write_reports"})
    seen: set[Any] = set()

    def everything(url: str) -> None:
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in GenerationMode:
                _run(operation, mode, url, ids, seen)

    async with listening(vtn.app) as url:
        await asyncio.to_thread(everything, url + NEW)
    answered = {place[:2] for place in seen}
    assert len(answered) == 45
    assert {status for _, _, status in seen} >= {200, 201, 400, 403, 404}
