"""What a client may write in a request's body, as 3.1.0's OpenAPI document says it. Called by `bodies.py`.

A body is checked against these and then kept as it came: fields nobody here knows and payload types nobody here
knows stay. Three tolerances, for clients that are about: an explicit null is as good as leaving an optional field
out; a payload descriptor need not say its `objectType` (the definition's own examples do not); a date and time that
is written otherwise than RFC 3339 has it (without a zone it is UTC) is kept as RFC 3339 has it. A start that means
'now' is kept as it was written, but for 3.0.1's `0000-00-00`, at which a reader of 3.1.0 would fail.
"""

# ruff: noqa: N815  (fields have the names of the wire)

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3_time import parse_duration, parse_instant, says_now

_T = TypeVar("_T")
_ABSENT = "null is as good as absent"
Maybe = Annotated[_T | None, _ABSENT]
"""An optional field that the wire's schema does not let be null."""
Many = Annotated[list[_T], Field(fail_fast=True)]
"""A list, wrong as soon as one of it is: to find what is wrong with each of 300,000 takes seconds."""
OLDER_NOW = "0001-01-01T00:00:00+00:00"
"""How 3.0.1's `0000-00-00`, which no calendar has, is kept."""
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
"""As every reader takes it, without a leap second and in capitals; the space is in the User Guide."""
_INT32 = Field(ge=-(2**31), le=2**31 - 1)


def _instant(text: str) -> str:
    if says_now(text):
        return OLDER_NOW if text.startswith("0000") else text
    try:
        at = parse_instant(text)
    except InvalidRequest as error:
        raise ValueError(f"expected {error.allowed}") from None
    return text if _RFC_3339.fullmatch(text) else at.isoformat().replace("+00:00", "Z")


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except InvalidRequest as error:
        raise ValueError(f"expected {error.allowed}") from None
    return text


def _value(value: Any) -> Any:
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict) and all(_is_number(value.get(axis)) for axis in ("x", "y")):
        return value
    raise ValueError("expected a number, a text, true, false or a point with x and y")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _web_address(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("expected an address that starts with https://")
    return text


ShortText = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ObjectId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]+$", max_length=128)]
LongUrl = Annotated[str, StringConstraints(min_length=2, max_length=8000)]
Instant = Annotated[str, AfterValidator(_instant)]
Duration = Annotated[str, AfterValidator(_duration)]
Int32 = Annotated[int, _INT32]
Targets = Many[ShortText] | None
SUBSCRIPTION_TARGETS_MAX = 200
"""They are looked through at every change of a programme or event."""
ObjectType = Literal["PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE"]
OperationName = Literal["READ", "CREATE", "UPDATE", "DELETE"]


class Wire(BaseModel):
    """A JSON object; what it does not name is kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields = cls.model_fields
        return {
            key: each
            for key, each in value.items()
            if each is not None or key not in fields or _ABSENT not in fields[key].metadata
        }


class IntervalPeriod(Wire):
    start: Maybe[Instant] = None
    duration: Maybe[Duration] = None
    randomizeStart: Maybe[Duration] = None


class ValuesMap(Wire):
    type: ShortText
    values: Many[Annotated[Any, AfterValidator(_value)]]


class Interval(Wire):
    id: Int32
    intervalPeriod: Maybe[IntervalPeriod] = None
    payloads: Many[ValuesMap]


class PayloadDescriptor(Wire):
    """Of an event, of a report, or of either where a program does not say which."""

    objectType: Maybe[Literal["EVENT_PAYLOAD_DESCRIPTOR", "REPORT_PAYLOAD_DESCRIPTOR"]] = None
    payloadType: ShortText
    readingType: ShortText | None = None
    units: ShortText | None = None
    currency: str | None = None
    accuracy: float | None = None
    confidence: Annotated[int, Field(ge=0, le=100)] | None = None


class EventPayloadDescriptor(PayloadDescriptor):
    objectType: Maybe[Literal["EVENT_PAYLOAD_DESCRIPTOR"]] = None


class ReportPayloadDescriptor(PayloadDescriptor):
    objectType: Maybe[Literal["REPORT_PAYLOAD_DESCRIPTOR"]] = None


class ReportDescriptor(Wire):
    payloadType: ShortText
    readingType: ShortText | None = None
    units: ShortText | None = None
    targets: Targets = None
    aggregate: Maybe[bool] = None
    startInterval: Maybe[Int32] = None
    numIntervals: Maybe[Int32] = None
    historical: Maybe[bool] = None
    frequency: Maybe[Int32] = None
    repeat: Maybe[Int32] = None
    reportIntervals: Maybe[Literal["INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS"]] = None


class ProgramDescription(Wire):
    URL: LongUrl


class ProgramRequest(Wire):
    programName: ShortText
    intervalPeriod: Maybe[IntervalPeriod] = None
    programDescriptions: Many[ProgramDescription] | None = None
    payloadDescriptors: Many[PayloadDescriptor] | None = None
    attributes: Many[ValuesMap] | None = None
    targets: Targets = None


class EventRequest(Wire):
    programID: ObjectId
    eventName: str | None = None
    duration: Maybe[Duration] = None
    priority: Annotated[int, Field(ge=0)] | None = None
    targets: Targets = None
    reportDescriptors: Many[ReportDescriptor] | None = None
    payloadDescriptors: Many[EventPayloadDescriptor] | None = None
    intervalPeriod: Maybe[IntervalPeriod] = None
    intervals: Maybe[Many[Interval]] = None


class ReportResource(Wire):
    resourceName: ShortText
    intervalPeriod: Maybe[IntervalPeriod] = None
    intervals: Many[Interval]


class ReportRequest(Wire):
    eventID: ObjectId
    clientName: ShortText
    reportName: str | None = None
    payloadDescriptors: Many[ReportPayloadDescriptor] | None = None
    resources: Many[ReportResource]


class ObjectOperations(Wire):
    objects: Many[ObjectType]
    operations: Many[OperationName]
    callbackUrl: Annotated[LongUrl, AfterValidator(_web_address)]
    bearerToken: str | None = None


class SubscriptionRequest(Wire):
    clientName: ShortText
    programID: Maybe[ObjectId] = None
    objectOperations: Annotated[list[ObjectOperations], Field(max_length=50)]
    targets: Annotated[Targets, Field(max_length=SUBSCRIPTION_TARGETS_MAX)] = None


class VenRequest(Wire):
    """What a VEN and business logic both may say of a ven."""

    venName: ShortText
    clientID: Maybe[ShortText] = None
    targets: Targets = None
    attributes: Many[ValuesMap] | None = None


class ResourceRequest(Wire):
    """What a VEN and business logic both may say of a resource."""

    resourceName: ShortText
    venID: ObjectId
    clientID: Maybe[ShortText] = None
    targets: Targets = None
    attributes: Many[ValuesMap] | None = None
