"""An event we tell downstream as the API states it: seconds, kW, instants with a zone. Called by its API and pages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import (
    EventStatus,
    GridEvent,
    Point,
    Series,
    SeriesInterval,
    SeriesType,
    Target,
    TargetKind,
    Unsaid,
    Value,
)
from vpp.domain.peer import Protocol
from vpp.peering import Downstream

MAX_DURATION_S = 3650 * 86_400.0
LEVELS = range(4)
"""Of SIMPLE: normal, moderate, high, special."""

Text = Annotated[str, Field(max_length=128)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Whole = Annotated[int, Field(ge=-(10**15), le=10**15)]
Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_S, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PointModel(_Strict):
    """A point of a curve."""

    x: Number
    y: Number


class TargetModel(_Strict):
    """One addressee; `label` names a kind of another protocol's own."""

    kind: TargetKind
    value: Text
    label: Text = ""


class IntervalModel(_Strict):
    """Values over a stretch of time; it follows the one before where it has no start; null duration has no end."""

    start_at: AwareDatetime | None = None
    duration_s: Seconds | None
    values: Annotated[
        list[bool | Whole | Number | Annotated[str, Field(max_length=1000)] | PointModel], Field(max_length=1000)
    ]
    uid: Text = ""


class SeriesModel(_Strict):
    """One signal. `name` is needed for a private type (OTHER); `unit` is OpenADR 3's word, PERCENT a share of one."""

    type: SeriesType
    name: Text = ""
    unit: Text | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    current: Number | None = None
    series_id: Text = ""
    targets: Annotated[list[TargetModel], Field(max_length=200)] = []
    intervals: Annotated[list[IntervalModel], Field(min_length=1, max_length=10_000)]


class GridEventIn(_Strict):
    """An event to tell. `priority` 1 is highest, 0 or null none; `event_id` makes a repeated request harmless."""

    event_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    program: Annotated[str, Field(min_length=1, max_length=256)]
    start_at: AwareDatetime
    duration_s: Seconds | None = None
    series: Annotated[list[SeriesModel], Field(min_length=1, max_length=32)]
    is_test: bool = False
    priority: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    comment: Annotated[str, Field(max_length=1000)] = ""
    modification_reason: Annotated[str, Field(max_length=1000)] = ""
    start_tolerance_s: Seconds = 0
    notification_s: Seconds | None = None
    ramp_up_s: Seconds | None = None
    recovery_s: Seconds | None = None
    targets: Annotated[list[TargetModel], Field(max_length=1000)] = []
    answer_wanted: bool = True
    reports_wanted: Annotated[list[Text], Field(max_length=50)] = []
    cancelled: bool = False

    def to_event(self, *, event_id: str, at: datetime) -> GridEvent:
        """Return the event, its length that of its longest signal where none is given.

        Raises:
            InvalidRequest: an interval follows one without an end or goes on after the event, a private type has no
                name, or a SIMPLE level is none of 0 to 3.
        """
        series = tuple(_series(each, index, self.start_at) for index, each in enumerate(self.series))
        length = _length(series, self)
        if self.duration_s is not None and length is not None and length.total_seconds() > self.duration_s:
            raise InvalidRequest("duration_s", self.duration_s, f"{length.total_seconds():g}, the end of its intervals")
        return GridEvent(
            event_id=event_id,
            modification_number=0,
            program=self.program,
            start_at=self.start_at.astimezone(UTC),
            duration=_duration(self.duration_s) if "duration_s" in self.model_fields_set else length,
            series=series,
            created_at=at,
            modification_reason=self.modification_reason,
            is_test=self.is_test,
            priority=self.priority,
            comment=self.comment,
            start_tolerance=timedelta(seconds=self.start_tolerance_s),
            notification=_duration(self.notification_s),
            ramp_up=_duration(self.ramp_up_s),
            recovery=_duration(self.recovery_s),
            targets=_targets(self.targets),
            answer_wanted=self.answer_wanted,
            reports_wanted=tuple(self.reports_wanted),
        )


class UnsaidModel(BaseModel):
    """Something of the event that a protocol has no words for."""

    field: str
    value: str
    why: str


class GridEventOut(GridEventIn):
    """An event as it stands, with what each protocol cannot say of it (`event`: all of it)."""

    event_id: str
    modification_number: int
    status: EventStatus
    created_at: datetime
    modified_at: datetime | None
    origin: str
    openadr3_id: str | None
    unsaid: dict[Protocol, list[UnsaidModel]]


def out_of(found: Downstream, unsaid: Mapping[Protocol, Sequence[Unsaid]], at: datetime) -> GridEventOut:
    """Return an event as the API states it."""
    event = found.event
    values: dict[str, Any] = {
        name: getattr(event, name)
        for name in (
            *("event_id", "modification_number", "program", "start_at", "is_test", "priority", "comment", "cancelled"),
            *("modification_reason", "answer_wanted", "created_at", "modified_at"),
        )
    }
    for name in ("duration", "start_tolerance", "notification", "ramp_up", "recovery"):
        values[f"{name}_s"] = _seconds(getattr(event, name))
    return GridEventOut.model_construct(
        **values,
        reports_wanted=list(event.reports_wanted),
        series=[_series_out(series) for series in event.series],
        targets=[_target_out(target) for target in event.targets],
        status=event.status_at(at),
        origin=found.origin,
        openadr3_id=found.openadr3_id,
        unsaid={
            protocol: [UnsaidModel(field=each.field, value=each.value, why=each.why) for each in listed]
            for protocol, listed in unsaid.items()
        },
    )


def _series(model: SeriesModel, index: int, start_at: datetime) -> Series:
    if model.type is SeriesType.OTHER and not model.name:
        raise InvalidRequest(f"series[{index}].name", "", "the name of the private type")
    intervals: list[SeriesInterval] = []
    follow_at: datetime | None = start_at
    for number, each in enumerate(model.intervals):
        begin_at = each.start_at or follow_at
        if begin_at is None:
            field = f"series[{index}].intervals[{number}].start_at"
            raise InvalidRequest(field, None, "a start, as the interval before has no end")
        length = _duration(each.duration_s)
        values = tuple(_value(value) for value in each.values)
        if model.type is SeriesType.SIMPLE and not (
            len(values) == 1 and type(values[0]) is int and values[0] in LEVELS
        ):
            raise InvalidRequest(
                f"series[{index}].intervals[{number}].values", each.values, "one level of 0, 1, 2 or 3"
            )
        intervals.append(
            SeriesInterval(
                start_at=begin_at.astimezone(UTC), duration=length, values=values, uid=each.uid or str(number)
            )
        )
        follow_at = None if length is None else begin_at + length
    return Series(
        series_id=model.series_id or str(index),
        type=model.type,
        name=model.name or model.type.value,
        intervals=tuple(intervals),
        unit=model.unit,
        currency=model.currency,
        targets=_targets(model.targets),
        current=model.current,
    )


def _series_out(series: Series) -> SeriesModel:
    return SeriesModel.model_construct(
        type=series.type,
        name=series.name,
        unit=series.unit,
        currency=series.currency,
        current=series.current,
        series_id=series.series_id,
        targets=[_target_out(target) for target in series.targets],
        intervals=[
            IntervalModel.model_construct(
                start_at=interval.start_at,
                duration_s=_seconds(interval.duration),
                values=[_value_out(value) for value in interval.values],
                uid=interval.uid,
            )
            for interval in series.intervals
        ],
    )


def _length(series: Sequence[Series], model: GridEventIn) -> timedelta | None:
    ends = [
        None if interval.duration is None else interval.start_at + interval.duration
        for each in series
        for interval in each.intervals
    ]
    known = [end for end in ends if end is not None]
    return max(known) - model.start_at if len(known) == len(ends) and known else None


def _duration(length_s: float | None) -> timedelta | None:
    return None if length_s is None else timedelta(seconds=length_s)


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _value(value: Any) -> Value:
    return Point(value.x, value.y) if isinstance(value, PointModel) else value


def _value_out(value: Value) -> Any:
    return PointModel.model_construct(x=value.x, y=value.y) if isinstance(value, Point) else value


def _targets(models: Sequence[TargetModel]) -> tuple[Target, ...]:
    return tuple(Target(each.kind, each.value, each.label) for each in models)


def _target_out(target: Target) -> TargetModel:
    return TargetModel.model_construct(kind=target.kind, value=target.value, label=target.label)
