"""Room openadr3: fields of a JSON object, refused by name where they are not what they should be.

Called by `events_in`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from vpp.domain.errors import InvalidRequest

MAX_TEXT = 128


def type_of(body: Mapping[str, Any], key: str = "payloadType") -> str:
    name = body.get(key, body.get("payLoadType"))  # so spelt in the User Guide itself
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TEXT:
        raise InvalidRequest(key, str(name)[:MAX_TEXT], f"a text of 1 to {MAX_TEXT} characters")
    return name


def text_in(body: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InvalidRequest(key, str(value)[:MAX_TEXT], "a text")
    return value


def object_in(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise InvalidRequest(key, str(value)[:MAX_TEXT], "an object")
    found: Mapping[str, Any] = value or {}
    for part in ("start", "duration", "randomizeStart"):
        text_in(found, part, "")
    return found


def list_in(body: Mapping[str, Any], key: str) -> list[Any]:
    return items(body.get(key), key)


def items(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(key, str(value)[:MAX_TEXT], "a list")
    return value


def objects_in(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = list_in(body, key)
    if not all(isinstance(each, Mapping) for each in found):
        raise InvalidRequest(key, str(found)[:MAX_TEXT], "a list of objects")
    return found


def is_number(value: Any) -> bool:
    """Whether a value is a number that a double holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def whole(value: Any, key: str, *, least: int | None = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise InvalidRequest(key, str(value)[:MAX_TEXT], "a whole number" if least is None else "a whole number from 0")
    return value
