"""Every example of the 3.1.0 definition and user guide that can be posted comes back as it was."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.builders_vtn3 import Vtn, event_body, report_body, running_vtn
from tests.clock import FixedClock
from tests.shared_data import SHARED_DIR, shared_vectors

_FOLDER = SHARED_DIR / "vectors" / "openadr3" / "spec_examples"
_SERVER_SET = {"id", "createdDateTime", "modificationDateTime", "objectType", "clientID"}
_ANSWERS = {
    "Definition_000": "a problem",
    "Definition_003": "a notification",
    "Definition_004": "the notifiers",
    "Definition_005": "topics",
}
"""What only a VTN says."""
_MISSPELT = {"User_Guide_009"}
"""Its `payLoadType` is no `payloadType`, which a report descriptor requires: it is refused."""


def _examples() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.json")) if _FOLDER.exists() else []


@pytest.fixture
async def vtn(module_database_url: str, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(module_database_url, clock) as found:
        yield found


class Desk:
    """What examples refer to, made once."""

    def __init__(self, vtn: Vtn) -> None:
        self.vtn = vtn

    async def prepare(self) -> None:
        self.program = (await self.vtn.bl.post("/programs", {"programName": "of the examples"}))["id"]
        self.event = (await self.vtn.bl.post("/events", event_body(self.program)))["id"]
        ven = {"objectType": "BL_VEN_REQUEST", "clientID": "ven_client", "venName": "of the examples"}
        self.ven = (await self.vtn.bl.post("/vens", ven))["id"]

    async def round_trip(self, example: dict[str, Any]) -> None:
        """Post an example, refer to what is there, and compare what came back."""
        sent = {key: value for key, value in example.items() if key not in _SERVER_SET - {"clientID"}}
        path, client = self._door(sent)
        for key, value in (("programID", self.program), ("eventID", self.event), ("venID", self.ven)):
            if key in sent:
                sent[key] = value
        if path in ("/vens", "/resources"):
            sent["objectType"] = f"BL_{path[1:-1].upper()}_REQUEST"
        sent = json.loads(json.dumps(sent).replace("myserver.com", "example.com"))
        made = await client.post(path, sent)
        assert await client.get(f"{path}/{made['id']}") == made
        sent.pop("objectType", None)
        expected = set(made) - _SERVER_SET if "clientID" not in sent else set(made) - _SERVER_SET | {"clientID"}
        assert {key: made[key] for key in expected} == sent
        assert await client.status("DELETE", f"{path}/{made['id']}") == 200

    def _door(self, sent: dict[str, Any]) -> tuple[str, Any]:
        for key, path in (
            ("programName", "/programs"),
            ("objectOperations", "/subscriptions"),
            ("eventID", "/reports"),
            ("resourceName", "/resources"),
            ("venName", "/vens"),
            ("programID", "/events"),
        ):
            if key in sent:
                return path, self.vtn.ven1 if path in ("/reports", "/subscriptions") else self.vtn.bl
        raise AssertionError(f"no object: {sent}")


def _wrapped(part: dict[str, Any]) -> dict[str, Any]:
    """A fragment of an example, in the smallest object it can be part of."""
    if "type" in part and part["type"] == "LOCATION":
        return {"programName": "wrapped", "attributes": [part]}
    if "type" in part:
        return event_body("p", intervals=[{"id": 0, "payloads": [part]}])
    if "readingType" in part:
        return report_body("e", payloadDescriptors=[part])
    return event_body("p", payloadDescriptors=[part])


@pytest.mark.conformance("3.1.0", "objects", "VTN: every example of the definition is kept as it was")
async def test_every_example_that_can_be_posted_comes_back_as_it_was(vtn: Vtn) -> None:
    shared_vectors("openadr3", "spec_examples")
    desk = Desk(vtn)
    await desk.prepare()
    seen = 0
    for name in _examples():
        found = json.loads((_FOLDER / f"{name}.json").read_text())
        if name in _ANSWERS:
            continue
        for example in found if isinstance(found, list) else [found]:
            whole = any(key in example for key in ("programName", "programID", "eventID", "venName", "venID"))
            if name in _MISSPELT:
                assert await vtn.bl.status("POST", "/events", json=example) == 400, name
            else:
                try:
                    await desk.round_trip(example if whole else _wrapped(example))
                except AssertionError as error:
                    raise AssertionError(f"{name}: {error}") from error
            seen += 1
    assert seen == len(_examples()) - len(_ANSWERS)
