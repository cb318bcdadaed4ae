"""What the checks send, in the words of either version, and what an object has to look like.

Everything made is named after the session, starts ten years from now, and holds a payload type no VEN acts on.
"""

from datetime import datetime, timedelta
from typing import Any

from market.openadr3.conformance.session import Session3
from market.openadr3.vtn.problems import Problem
from market.openadr3.vtn.versions import VERSIONS
from vpp.domain.openadr3 import ObjectKind

PAYLOAD = "X-CONFORMANCE"
VALUES = [1.5, "two", True]
KINDS = {
    "programs": ObjectKind.PROGRAM,
    "events": ObjectKind.EVENT,
    "reports": ObjectKind.REPORT,
    "subscriptions": ObjectKind.SUBSCRIPTION,
    "vens": ObjectKind.VEN,
    "resources": ObjectKind.RESOURCE,
}
_SERVER_SET = ("id", "createdDateTime", "modificationDateTime", "objectType")
_FAR = timedelta(days=3650)


def program(session: Session3, name: str, **more: Any) -> dict[str, Any]:
    """A programme nobody else knows."""
    return {"programName": f"{session.tag}-{name}"} | more


def event(session: Session3, program_id: str, *, start_at: datetime | None = None, **more: Any) -> dict[str, Any]:
    """An hour of nothing."""
    start = (start_at or session.clock.now() + _FAR).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "programID": program_id,
        "eventName": f"{session.tag}-event",
        "intervalPeriod": {"start": start, "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": PAYLOAD, "values": VALUES}]}],
    } | more


def report(session: Session3, program_id: str, event_id: str) -> dict[str, Any]:
    """A reading of nothing."""
    interval = {"id": 0, "payloads": [{"type": PAYLOAD, "values": [1.5]}]}
    body = {
        "eventID": event_id,
        "clientName": session.tag,
        "resources": [{"resourceName": session.tag, "intervals": [interval]}],
    }
    return body | ({"programID": program_id} if session.is_older else {})


def ven_of(session: Session3, client_id: str, name: str, **more: Any) -> dict[str, Any]:
    """A ven as business logic writes it."""
    said = {} if session.is_older else {"objectType": "BL_VEN_REQUEST", "clientID": client_id}
    return said | {"venName": f"{session.tag}-{name}"} | more


def own_ven(session: Session3, name: str) -> dict[str, Any]:
    """A ven as the VEN itself writes it."""
    return ({} if session.is_older else {"objectType": "VEN_VEN_REQUEST"}) | {"venName": f"{session.tag}-{name}"}


def resource_of(session: Session3, ven_id: str, client_id: str, name: str) -> dict[str, Any]:
    """A resource as business logic writes it."""
    named = {"resourceName": f"{session.tag}-{name}"}
    if session.is_older:
        return named
    return named | {"objectType": "BL_RESOURCE_REQUEST", "clientID": client_id, "venID": ven_id}


def shape_error(session: Session3, path: str, found: Any) -> str | None:
    """Why an object is not what the version's document says of its kind, None where it is."""
    kind = KINDS[path]
    if not isinstance(found, dict):
        return f"expected a JSON object, not {type(found).__name__}"
    missing = [name for name in _SERVER_SET if not isinstance(found.get(name), str)]
    if missing:
        return f"{', '.join(missing)} missing"
    if found["objectType"] != kind.value:
        return f"objectType is {found['objectType']}, not {kind.value}"
    said = {key: value for key, value in found.items() if key != "objectType"}
    if session.is_older and kind is ObjectKind.RESOURCE:
        said.setdefault("venID", "in-the-path")
    try:
        VERSIONS[session.vtn.profile].read(kind, said)
    except Problem as problem:
        return problem.detail
    return None
