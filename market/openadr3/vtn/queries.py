"""Query parameters, read as strictly as the OpenAPI documents say. Called by `objects.py`.

Parameters nobody here knows are passed over; one that is said twice and may be said once is refused.
"""

import re
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from market.openadr3.vtn.problems import BAD_REQUEST, Problem
from vpp.domain.openadr3 import ObjectKind, ObjectQuery

LIMIT_MAX = 50
"""The most objects a page holds, and how many it holds where nothing is said."""
_SKIP_MAX = 2**31 - 1
_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TEXT_MAX_CHARS = 128
_TARGETS_MAX = 1000
_NAME_PARAMETERS = {
    ObjectKind.REPORT: "clientName",
    ObjectKind.SUBSCRIPTION: "clientName",
    ObjectKind.VEN: "venName",
    ObjectKind.RESOURCE: "resourceName",
    ObjectKind.PROGRAM: "programName",
}
"""`programName` is in neither document, only in clients."""
_ID_PARAMETERS = {
    ObjectKind.EVENT: {"programID": "program_id"},
    ObjectKind.REPORT: {"programID": "program_id", "eventID": "event_id"},
    ObjectKind.SUBSCRIPTION: {"programID": "program_id"},
    ObjectKind.RESOURCE: {"venID": "ven_id"},
}


def read_query(kind: ObjectKind, params: QueryParams, *, tenant_id: str, at: datetime) -> ObjectQuery:
    """Return what a list request asks for, but for its targets and who may see what.

    Raises:
        Problem: a parameter cannot be.
    """
    found: dict[str, Any] = {"skip": 0, "limit": LIMIT_MAX}
    for name, most in (("skip", _SKIP_MAX), ("limit", LIMIT_MAX)):
        if (text := _one(params, name)) is not None:
            found[name] = _whole_number(name, text, most)
    if kind in _NAME_PARAMETERS and (text := _one(params, _NAME_PARAMETERS[kind])) is not None:
        found["name"] = short_text(_NAME_PARAMETERS[kind], text)
    for name, field in _ID_PARAMETERS.get(kind, {}).items():
        if (text := _one(params, name)) is not None:
            found[field] = object_id(text, name)
    if kind is ObjectKind.EVENT and (text := _one(params, "active")) is not None and _boolean("active", text):
        found["active_at"] = at
    if kind is ObjectKind.SUBSCRIPTION:
        found["objects"] = _objects(params.getlist("objects"))
    return ObjectQuery(kind=kind, tenant_id=tenant_id, **found)


def read_target_type(params: QueryParams) -> str | None:
    """Return the type of targets that 3.0.1's list requests name, None where they name none.

    Raises:
        Problem: it is named twice, empty or too long.
    """
    text = _one(params, "targetType")
    return None if text is None else short_text("targetType", text)


def read_targets(kind: ObjectKind, params: QueryParams, parameter: str) -> frozenset[str] | None:
    """Return the targets a list request names by a parameter, None where it names none or the kind has no filter.

    Raises:
        Problem: one is empty or too long, or there are too many.
    """
    if kind is ObjectKind.REPORT or parameter not in params:
        return None
    values = params.getlist(parameter)
    if len(values) > _TARGETS_MAX:
        raise Problem(BAD_REQUEST, f"{parameter}: expected up to {_TARGETS_MAX}")
    return frozenset(short_text(parameter, value) for value in values)


def object_id(text: str, name: str) -> str:
    """Return an object's id.

    Raises:
        Problem: it cannot be one.
    """
    if _ID.fullmatch(text):
        return text
    raise Problem(BAD_REQUEST, f"{name}: expected 1 to 128 letters, digits, - or _")


def short_text(name: str, value: str) -> str:
    """Return a name or a target.

    Raises:
        Problem: it is empty or too long, or holds what no text here may hold.
    """
    if 0 < len(value) <= _TEXT_MAX_CHARS and "\0" not in value and value.isprintable():
        return value
    raise Problem(BAD_REQUEST, f"{name}: expected 1 to {_TEXT_MAX_CHARS} characters")


def _one(params: QueryParams, name: str) -> str | None:
    values = params.getlist(name)
    if len(values) > 1:
        raise Problem(BAD_REQUEST, f"{name}: expected once, not {len(values)} times")
    return values[0] if values else None


def _whole_number(name: str, text: str, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most:
        return int(text)
    raise Problem(BAD_REQUEST, f"{name}: expected a whole number from 0 to {most}")


def _boolean(name: str, text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise Problem(BAD_REQUEST, f"{name}: expected true or false")


def _objects(values: list[str]) -> tuple[ObjectKind, ...]:
    names = [name for value in values for name in value.split(",")]
    try:
        return tuple(dict.fromkeys(ObjectKind(name) for name in names))
    except ValueError:
        raise Problem(BAD_REQUEST, f"objects: expected any of {', '.join(ObjectKind)}") from None
