"""Request bodies: read within bounds, parsed strictly, checked against the schema. Called by `objects.py`.

Nothing is kept of a body that is too long: the rest of it is read and dropped, up to a bound, so that the client
gets to see why.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from market.openadr3.vtn.models import (
    EventRequest,
    ProgramRequest,
    ReportRequest,
    ResourceRequest,
    SubscriptionRequest,
    VenRequest,
    Wire,
)
from market.openadr3.vtn.problems import BAD_REQUEST, Problem
from vpp.domain.openadr3 import ObjectKind

BODY_MAX_BYTES = 1_000_000
DEPTH_MAX = 32
_DRAIN_MAX_BYTES = 64_000_000
_INTEGER_MAX_DIGITS = 308
_ERRORS_TOLD = 5
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MODELS: Mapping[ObjectKind, type[Wire]] = {
    ObjectKind.PROGRAM: ProgramRequest,
    ObjectKind.EVENT: EventRequest,
    ObjectKind.REPORT: ReportRequest,
    ObjectKind.SUBSCRIPTION: SubscriptionRequest,
    ObjectKind.VEN: VenRequest,
    ObjectKind.RESOURCE: ResourceRequest,
}


async def read_bounded(request: Request) -> bytes:
    """Return the body.

    Raises:
        Problem: it is longer than `BODY_MAX_BYTES`, or the client went away.
    """
    parts: list[bytes] = []
    length = 0
    try:
        async for part in request.stream():
            length += len(part)
            if length <= BODY_MAX_BYTES:
                parts.append(part)
            elif length > _DRAIN_MAX_BYTES:
                break
    except ClientDisconnect:
        raise Problem(BAD_REQUEST, "the body ended before it was complete") from None
    if length > BODY_MAX_BYTES:
        raise Problem(BAD_REQUEST, f"a body may have up to {BODY_MAX_BYTES} bytes", title="Content Too Large")
    return b"".join(parts)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object a body holds.

    Raises:
        Problem: it is not UTF-8, not JSON, not an object, nested deeper than `DEPTH_MAX`, holds a number no
            client can read back (NaN, 1e999, an integer of 400 digits), a NUL or half a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
        found = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_sane)
    except UnicodeDecodeError:
        raise Problem(BAD_REQUEST, "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(BAD_REQUEST, f"the body is nested deeper than {DEPTH_MAX} levels") from None
    except ValueError as error:
        raise Problem(BAD_REQUEST, f"the body is not JSON as it should be: {error}") from None
    if not isinstance(found, dict):
        raise Problem(BAD_REQUEST, "the body is not a JSON object")
    _refuse_depth(found)
    if b"\\u" in body:
        _refuse_half_characters(body, found)
    if b"\0" in body:
        raise Problem(BAD_REQUEST, "the body holds a NUL")
    return found


def checked(kind: ObjectKind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body of 3.1.0 that has passed its schema, with what the schema does not name.

    Raises:
        Problem: it does not pass, in words that name the fields.
    """
    try:
        return _MODELS[kind].model_validate(body).model_dump(exclude_unset=True)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{'.'.join(str(each) for each in one['loc'])[:100]}: {one['msg']}" for one in errors[:_ERRORS_TOLD]]
        more = f"; and {len(errors) - _ERRORS_TOLD} more" if len(errors) > _ERRORS_TOLD else ""
        raise Problem(BAD_REQUEST, "; ".join(told) + more) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond what a double holds")
    return number


def _sane(text: str) -> int:
    if len(text) > _INTEGER_MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits is beyond what a double holds")
    return int(text)


def _refuse_depth(found: dict[str, Any]) -> None:
    level: list[Any] = [found]
    for _ in range(DEPTH_MAX):
        level = [
            each
            for container in level
            for each in (container.values() if isinstance(container, dict) else container)
            if isinstance(each, (dict, list))
        ]
        if not level:
            return
    raise Problem(BAD_REQUEST, f"the body is nested deeper than {DEPTH_MAX} levels")


def _refuse_half_characters(body: bytes, found: dict[str, Any]) -> None:
    if _NUL.search(body):
        raise Problem(BAD_REQUEST, "the body holds a NUL")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Problem(BAD_REQUEST, "the body holds half a surrogate pair") from None
