"""Room peering: an event as JSON, for a JSONB column and the API, without loss.

Called by `downstream`, `forward`, the gateway and the portal. Instants are text in UTC, durations whole
microseconds, so that nothing is rounded. Values stay numbers, texts and truths; what JSON or PostgreSQL's
numbers would change on the way is written as an object: `{"float": "1e+22"}`, `{"x": 1.0, "y": 2.0}`.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesInterval, SeriesType, Target, TargetKind, Value
from vpp.domain.time import as_utc

_US = timedelta(microseconds=1)


def event_to_json(event: GridEvent) -> dict[str, Any]:
    """Return the event as an object of JSON; `event_from_json` gives back an equal event.

    Raises:
        InvalidRequest: a text holds what PostgreSQL cannot keep (NUL, half a surrogate), or `extras`
            holds something that is not JSON.
    """
    body = {
        "event_id": event.event_id,
        "modification_number": event.modification_number,
        "program": event.program,
        "start_at": _instant(event.start_at),
        "duration_us": _length(event.duration),
        "series": [_series_to_json(series) for series in event.series],
        "created_at": _instant(event.created_at),
        "modified_at": None if event.modified_at is None else _instant(event.modified_at),
        "modification_reason": event.modification_reason,
        "cancelled": event.cancelled,
        "is_test": event.is_test,
        "priority": event.priority,
        "comment": event.comment,
        "start_tolerance_us": _length(event.start_tolerance),
        "notification_us": _length(event.notification),
        "ramp_up_us": _length(event.ramp_up),
        "recovery_us": _length(event.recovery),
        "targets": [_target_to_json(target) for target in event.targets],
        "answer_wanted": event.answer_wanted,
        "reports_wanted": list(event.reports_wanted),
        "extras": event.extras,
    }
    _refuse_unkeepable(body)
    return body


def event_from_json(body: Mapping[str, Any]) -> GridEvent:
    """Return the event that `event_to_json` wrote down.

    Raises:
        InvalidRequest: the object is not one of those.
    """
    try:
        return GridEvent(
            event_id=body["event_id"],
            modification_number=body["modification_number"],
            program=body["program"],
            start_at=_at(body["start_at"]),
            duration=_span(body["duration_us"]),
            series=tuple(_series_from_json(series) for series in body["series"]),
            created_at=_at(body["created_at"]),
            modified_at=None if body["modified_at"] is None else _at(body["modified_at"]),
            modification_reason=body["modification_reason"],
            cancelled=body["cancelled"],
            is_test=body["is_test"],
            priority=body["priority"],
            comment=body["comment"],
            start_tolerance=_span(body["start_tolerance_us"]) or timedelta(0),
            notification=_span(body["notification_us"]),
            ramp_up=_span(body["ramp_up_us"]),
            recovery=_span(body["recovery_us"]),
            targets=tuple(_target_from_json(target) for target in body["targets"]),
            answer_wanted=body["answer_wanted"],
            reports_wanted=tuple(body["reports_wanted"]),
            extras=dict(body["extras"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InvalidRequest("event", str(error), "an event as event_to_json writes it") from error


def _series_to_json(series: Series) -> dict[str, Any]:
    return {
        "series_id": series.series_id,
        "type": series.type.value,
        "name": series.name,
        "unit": series.unit,
        "currency": series.currency,
        "current": None if series.current is None else _value_to_json(series.current),
        "targets": [_target_to_json(target) for target in series.targets],
        "intervals": [
            {
                "start_at": _instant(interval.start_at),
                "duration_us": _length(interval.duration),
                "uid": interval.uid,
                "values": [_value_to_json(value) for value in interval.values],
            }
            for interval in series.intervals
        ],
    }


def _series_from_json(body: Mapping[str, Any]) -> Series:
    current = None if body["current"] is None else _value_from_json(body["current"])
    if current is not None and (isinstance(current, bool) or not isinstance(current, int | float)):
        raise TypeError(f"the current value {current!r} is no number")
    return Series(
        series_id=body["series_id"],
        type=SeriesType(body["type"]),
        name=body["name"],
        unit=body["unit"],
        currency=body["currency"],
        current=current,
        targets=tuple(_target_from_json(target) for target in body["targets"]),
        intervals=tuple(
            SeriesInterval(
                start_at=_at(interval["start_at"]),
                duration=_span(interval["duration_us"]),
                uid=interval["uid"],
                values=tuple(_value_from_json(value) for value in interval["values"]),
            )
            for interval in body["intervals"]
        ),
    )


def _target_to_json(target: Target) -> dict[str, str]:
    return {"kind": target.kind.value, "value": target.value, "label": target.label}


def _target_from_json(body: Mapping[str, str]) -> Target:
    return Target(TargetKind(body["kind"]), body["value"], body["label"])


def _value_to_json(value: Value) -> Any:
    if isinstance(value, Point):
        return {"x": _value_to_json(value.x), "y": _value_to_json(value.y)}
    if isinstance(value, float) and _changed_by_numeric(value):
        return {"float": repr(value)}
    return value


def _changed_by_numeric(value: float) -> bool:
    """Whether a JSONB column gives back another float: no infinities there, no -0.0, and 1e+22 comes back an int."""
    return not math.isfinite(value) or "e+" in repr(value) or (value == 0 and math.copysign(1.0, value) < 0)


def _value_from_json(value: Any) -> Value:
    if not isinstance(value, Mapping):
        if not isinstance(value, float | int | str):
            raise TypeError(f"{value!r} is no value")
        return value
    if "float" in value:
        return float(value["float"])
    x, y = _value_from_json(value["x"]), _value_from_json(value["y"])
    if not isinstance(x, int | float) or not isinstance(y, int | float):
        raise TypeError(f"{value!r} is no point")
    return Point(x, y)


def _instant(at: datetime) -> str:
    return as_utc(at).isoformat()


def _at(text: str) -> datetime:
    return as_utc(datetime.fromisoformat(text)).astimezone(UTC)


def _length(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // _US


def _span(length_us: int | None) -> timedelta | None:
    return None if length_us is None else length_us * _US


def _refuse_unkeepable(body: dict[str, Any]) -> None:
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:  # also half a surrogate
        raise InvalidRequest("event", str(error), "texts of Unicode, and extras that are JSON") from error
    if "\\u0000" in text and "\x00" in _texts(body):
        raise InvalidRequest("event", "a text with NUL", "texts PostgreSQL can keep")


def _texts(value: Any) -> str:
    """Every text in an object of JSON, one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(_texts(key) + _texts(part) for key, part in value.items())
    return "".join(_texts(part) for part in value) if isinstance(value, list | tuple) else ""
