"""An object as it was when something happened to it, to be told later.

Called by `queue.py` and `vpp/gateway/notify`.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from vpp.domain.openadr3 import ObjectKind, StoredObject

_INSTANTS = ("created_at", "modified_at")
_SECRET = "bearerToken"  # noqa: S105 the name of a field


def snapshot(found: StoredObject) -> dict[str, Any]:
    """Return an object as JSON, without the tokens a subscription holds: whoever is told has no use for them."""
    if found.kind is ObjectKind.SUBSCRIPTION:
        found = replace(found, text=_without_tokens(found.text))
    made = {field.name: getattr(found, field.name) for field in fields(found)}
    return made | {name: made[name].isoformat() for name in _INSTANTS}


def from_snapshot(kept: Mapping[str, Any]) -> StoredObject:
    """Return the object a snapshot was made of; fields a later release added have their defaults."""
    known = {field.name for field in fields(StoredObject)}
    values = {name: value for name, value in kept.items() if name in known}
    values |= {name: datetime.fromisoformat(kept[name]) for name in _INSTANTS}
    values["kind"], values["targets"] = ObjectKind(kept["kind"]), tuple(kept["targets"])
    values["target_types"] = {value: tuple(types) for value, types in kept["target_types"].items()}
    return StoredObject(**values)


def _without_tokens(text: str) -> str:
    body = json.loads(text)
    for each in body.get("objectOperations") or ():
        if each.get(_SECRET) is not None:
            each[_SECRET] = None
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
