"""An object of our OpenADR 3 VTN as a row, and back. Called by the rest of this folder."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, StoredObject
from vpp.domain.openadr3_time import event_span
from vpp.store.tables.openadr3 import openadr3_object as objects

SERVER_SET = frozenset({"id", "createdDateTime", "modificationDateTime", "objectType", "clientID"})
"""What our VTN says of an object, whatever its body says."""
OWNED = frozenset({ObjectKind.REPORT, ObjectKind.SUBSCRIPTION, ObjectKind.VEN, ObjectKind.RESOURCE})
"""Kinds that belong to a client."""
NAME_FIELDS: Mapping[ObjectKind, str] = {
    ObjectKind.PROGRAM: "programName",
    ObjectKind.EVENT: "eventName",
    ObjectKind.REPORT: "clientName",
    ObjectKind.SUBSCRIPTION: "clientName",
    ObjectKind.VEN: "venName",
    ObjectKind.RESOURCE: "resourceName",
}
COLUMNS = (
    objects.c.number, objects.c.id, objects.c.tenant_id, objects.c.kind, objects.c.api_version, objects.c.name,
    objects.c.client_id, objects.c.program_id, objects.c.event_id, objects.c.ven_id, objects.c.targets,
    objects.c.target_types, objects.c.body, objects.c.created_at, objects.c.modified_at,
)  # fmt: skip
"""What a `StoredObject` is made of, in the order `as_object` takes it."""
_EVENT_NAME_MAX = 200
_NO_TYPES: Mapping[str, tuple[str, ...]] = {}


def instant_text(at: datetime) -> str:
    """An instant as the wire has it, to the microsecond, so that a modification always shows."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def row_of(draft: ObjectDraft, *, object_id: str, created_at: datetime, modified_at: datetime) -> dict[str, Any]:
    """Return the columns of a draft, but for the program of a report, which is its event's.

    Raises:
        InvalidRequest: an object that belongs to a client names none, or a time in it cannot be read.
    """
    if draft.kind in OWNED and not draft.client_id:
        raise InvalidRequest("clientID", draft.client_id, "the client the object belongs to")
    body = draft.body
    start_at, end_at = event_span(body, stated_at=modified_at) if draft.kind is ObjectKind.EVENT else (None, None)
    operations = body.get("objectOperations") or () if draft.kind is ObjectKind.SUBSCRIPTION else ()
    return {
        "id": object_id,
        "tenant_id": draft.tenant_id,
        "kind": draft.kind.value,
        "api_version": draft.api_version,
        "name": _name(draft),
        "client_id": draft.client_id if draft.kind in OWNED else None,
        "program_id": body.get("programID") if draft.kind in (ObjectKind.EVENT, ObjectKind.SUBSCRIPTION) else None,
        "event_id": body.get("eventID") if draft.kind is ObjectKind.REPORT else None,
        "ven_id": body.get("venID") if draft.kind is ObjectKind.RESOURCE else None,
        "targets": list(dict.fromkeys(body.get("targets") or ())),
        "target_types": {value: list(types) for value, types in draft.target_types.items()} or None,
        "objects": sorted({name for each in operations for name in each["objects"]}),
        "start_at": start_at,
        "end_at": end_at,
        "body": _text(draft, object_id, created_at, modified_at),
        "created_at": created_at,
        "modified_at": modified_at,
    }


def _name(draft: ObjectDraft) -> str | None:
    """What an object is found by. An event's name is of any length, and no event is asked for by it."""
    name: str | None = draft.body.get(NAME_FIELDS[draft.kind])
    return name[:_EVENT_NAME_MAX] if draft.kind is ObjectKind.EVENT and name is not None else name


def as_object(row: Any) -> StoredObject:
    """Return the object of a row of `COLUMNS`."""
    (
        number, object_id, tenant_id, kind, version, name, client_id, program_id, event_id, ven_id, targets,
        types, body, created_at, modified_at,
    ) = row  # fmt: skip
    return StoredObject(
        number=number,
        id=object_id,
        tenant_id=tenant_id,
        kind=ObjectKind(kind),
        api_version=version,
        name=name,
        client_id=client_id,
        program_id=program_id,
        event_id=event_id,
        ven_id=ven_id,
        targets=tuple(targets),
        target_types={value: tuple(each) for value, each in types.items()} if types else _NO_TYPES,
        text=body,
        created_at=created_at,
        modified_at=modified_at,
    )


def _text(draft: ObjectDraft, object_id: str, created_at: datetime, modified_at: datetime) -> str:
    wire: dict[str, Any] = {
        "id": object_id,
        "createdDateTime": instant_text(created_at),
        "modificationDateTime": instant_text(modified_at),
        "objectType": draft.kind.value,
    }
    if draft.kind in OWNED:
        wire["clientID"] = draft.client_id
    shown_by_caller = bool(draft.body.get("targets"))
    for key, value in draft.body.items():
        if key not in SERVER_SET and not (key == "targets" and shown_by_caller):
            wire[key] = value
    return json.dumps(wire, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
