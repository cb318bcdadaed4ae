"""Room openadr3: an event of OpenADR 3 read. Called by `events`; 3.1.0 and 3.0.1 are told apart where they differ."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from market.openadr3.event_fields import (
    MAX_TEXT,
    is_number,
    items,
    list_in,
    object_in,
    objects_in,
    text_in,
    type_of,
    whole,
)
from market.openadr3.periods import (
    MAX_INTERVALS,
    NOW,
    Payload,
    Slot,
    divided,
    length_of,
    place,
    span,
    start_of,
    stretched,
)
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import (
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
from vpp.domain.openadr3_time import parse_duration, parse_instant, says_now
from vpp.domain.target_text import target_of_text, target_text

LISTS = frozenset({SeriesType.CURVE, SeriesType.OLS, SeriesType.DISPATCH_INSTRUCTION, SeriesType.OTHER})
"""Types whose values belong together; several values of any other number share their interval evenly (7.3)."""
KINDS_301 = {
    "VEN_NAME": TargetKind.VEN,
    "GROUP": TargetKind.GROUP,
    "RESOURCE_NAME": TargetKind.RESOURCE,
    "PARTY": TargetKind.PARTY,
}
"""3.0.1's target types; PARTY is a private one."""
_SERVER_SET = frozenset({"id", "createdDateTime", "modificationDateTime", "objectType"})
_KNOWN = _SERVER_SET | {
    "programID", "eventName", "duration", "priority", "targets", "reportDescriptors", "payloadDescriptors",
    "intervalPeriod", "intervals",
}  # fmt: skip


@dataclass(slots=True)
class _Found:
    """What was found on the way: what stays OpenADR 3's own, and what has no place at all."""

    extras: dict[str, object] = field(default_factory=dict)
    unsaid: list[Unsaid] = field(default_factory=list)


def read_event(
    body: Mapping[str, Any],
    *,
    modification_number: int,
    descriptors: Sequence[Mapping[str, Any]],
    event_id: str | None,
    received_at: datetime | None,
) -> tuple[GridEvent, tuple[Unsaid, ...]]:
    """Return the event a body states, and what of the body has no place in it (see `events.from_openadr3`)."""
    found = _Found()
    modified_at, created_at = _stamp(body, "modificationDateTime"), _stamp(body, "createdDateTime")
    period = object_in(body, "intervalPeriod")
    told_at = modified_at or created_at or received_at or parse_instant(NOW, "now")
    slots = _slots(body, period, told_at, found)
    start_at, duration, slots = _stretch(body, period, slots, told_at, found)
    first = [*(object_in(each, "intervalPeriod") for each in objects_in(body, "intervals")[:1]), period]
    if all(not each.get("start") or says_now(text_in(each, "start")) for each in first):
        found.extras["start"] = NOW
    series = _series(slots, objects_in(body, "payloadDescriptors"), descriptors, found)
    wanted = objects_in(body, "reportDescriptors")
    if wanted:
        found.extras["reportDescriptors"] = [_descriptor_31(each) for each in wanted]
    for key in body:
        if key not in _KNOWN and body[key] is not None:
            found.unsaid.append(Unsaid(key, str(body[key])[:MAX_TEXT], "not an attribute of an OpenADR 3 event"))
    priority = body.get("priority")
    event = GridEvent(
        event_id=event_id or text_in(body, "id"),
        modification_number=modification_number,
        program=text_in(body, "programID"),
        start_at=start_at,
        duration=duration,
        series=series,
        created_at=created_at or received_at or start_at,
        modified_at=modified_at,
        cancelled=_is_cancelled(body, period, modification_number),
        priority=None if priority is None else whole(priority, "priority") + 1,
        comment=text_in(body, "eventName", ""),
        start_tolerance=abs(_tolerance(period, start_at)),
        targets=tuple(_targets(body.get("targets"))),
        reports_wanted=tuple(type_of(each) for each in wanted),
        extras=found.extras,
    )
    return event, tuple(found.unsaid)


def _slots(body: Mapping[str, Any], period: Mapping[str, Any], told_at: datetime, found: _Found) -> list[Slot]:
    raw = objects_in(body, "intervals")
    if len(raw) > MAX_INTERVALS:
        raise InvalidRequest("intervals", len(raw), f"at most {MAX_INTERVALS}")
    intervals = []
    for index, each in enumerate(raw):
        own = object_in(each, "intervalPeriod")
        payloads = tuple(_payload(part) for part in objects_in(each, "payloads"))
        number = each.get("id", index)
        intervals.append((str(whole(number, f"intervals[{index}].id", least=None)), own, payloads))
        if own.get("randomizeStart") and parse_duration(text_in(own, "randomizeStart")):
            found.unsaid.append(
                Unsaid(
                    f"intervals[{index}].intervalPeriod.randomizeStart",
                    str(own["randomizeStart"]),
                    "a random start belongs to the whole event here",
                )
            )
    if raw and not any(payloads for _, _, payloads in intervals):
        found.extras["intervals"] = [dict(each) for each in raw]
    return place(intervals, period, now=told_at)


def _stretch(
    body: Mapping[str, Any], period: Mapping[str, Any], slots: list[Slot], told_at: datetime, found: _Found
) -> tuple[datetime, timedelta | None, list[Slot]]:
    """Return the event's start and length, and its slots with the event's own `duration` carried out."""
    length = text_in(body, "duration", "")
    if not slots:
        start_at = start_of(period, told_at)
        own = length_of(period.get("duration"), start_at, "intervalPeriod.duration")
        if not length or not parse_duration(length):
            return start_at, own, slots
        found.extras["duration"] = length
        if period.get("duration"):
            found.extras["intervalPeriod"] = {"duration": period["duration"]}
        return start_at, length_of(length, start_at, "duration"), slots
    start_at, end_at = span(slots)
    if length and parse_duration(length):
        lasting = length_of(length, start_at, "duration")
        end_at = None if lasting is None else start_at + lasting
        done = stretched(slots, end_at)
        if done is None:
            found.extras["duration"] = length
        else:
            slots = done
    return start_at, None if end_at is None else end_at - start_at, slots


def _is_cancelled(body: Mapping[str, Any], period: Mapping[str, Any], modification_number: int) -> bool:
    """User Guide 7.9: start and duration set to nothing. A new event so set asks for reports, or is about no time."""
    nothing = says_now(text_in(period, "start", "")) and not parse_duration(text_in(period, "duration", "PT0S"))
    own = any(object_in(each, "intervalPeriod") for each in objects_in(body, "intervals"))
    return modification_number > 0 and nothing and not own and not objects_in(body, "reportDescriptors")


def _series(
    slots: Sequence[Slot], own: Sequence[Mapping[str, Any]], programs: Sequence[Mapping[str, Any]], found: _Found
) -> tuple[Series, ...]:
    """Return a series for each type, in the order of the event's descriptors, then of appearance."""
    intervals: dict[tuple[str, int], list[SeriesInterval]] = {}
    for slot in slots:
        seen: dict[str, int] = {}
        for name, values in slot.payloads:
            key = (name, seen.get(name, 0))
            seen[name] = key[1] + 1
            intervals.setdefault(key, []).extend(_parts(slot, series_type(name), values))
    order: dict[str, int] = {}
    described: dict[str, Mapping[str, Any]] = {type_of(each): each for each in reversed(programs)}
    unused = []
    for each in own:
        name = type_of(each)
        if name in order or (name, 0) not in intervals:
            unused.append(dict(each))
        else:
            order[name], described[name] = len(order), each
    if unused:
        found.extras["payloadDescriptors"] = unused
    keys = sorted(intervals, key=lambda key: order.get(key[0], len(order)))
    return tuple(
        Series(
            series_id=str(index),
            type=series_type(key[0]),
            name=key[0],
            intervals=tuple(intervals[key]),
            unit=text_in(described.get(key[0], {}), "units", "") or None,
            currency=text_in(described.get(key[0], {}), "currency", "") or None,
        )
        for index, key in enumerate(keys)
    )


def series_type(name: str) -> SeriesType:
    """Return the type a payload's name stands for; OTHER for a private one."""
    try:
        return SeriesType(name)
    except ValueError:
        return SeriesType.OTHER


def is_shared_out(type_: SeriesType, values: Sequence[Value], duration: timedelta | None) -> bool:
    """Whether each of several values stands for an equal part of its interval (7.3, multi-valued payloads)."""
    numbers = all(not isinstance(value, str | Point) for value in values)
    return len(values) > 1 and bool(duration) and numbers and type_ not in LISTS


def _parts(slot: Slot, type_: SeriesType, values: tuple[Value, ...]) -> Iterable[SeriesInterval]:
    if slot.duration is None or not is_shared_out(type_, values, slot.duration):
        return [SeriesInterval(start_at=slot.start_at, duration=slot.duration, values=values, uid=slot.uid)]
    parts = divided(slot.start_at, slot.duration, len(values))
    return [
        SeriesInterval(start_at=start_at, duration=duration, values=(value,), uid=slot.uid)
        for (start_at, duration), value in zip(parts, values, strict=True)
    ]


def _payload(body: Mapping[str, Any]) -> Payload:
    values = list_in(body, "values")
    if len(values) > MAX_INTERVALS:
        raise InvalidRequest("values", len(values), f"at most {MAX_INTERVALS}")
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return type_of(body, "type"), tuple(_value(value) for value in flat)


def _value(value: Any) -> Value:
    if isinstance(value, Mapping):
        x, y = value.get("x"), value.get("y")
        if is_number(x) and is_number(y):
            return Point(x, y)  # type: ignore[arg-type]
    elif isinstance(value, str | bool) or is_number(value):
        return value  # type: ignore[no-any-return]
    raise InvalidRequest("values", str(value)[:MAX_TEXT], "numbers, texts, true or false, or points with x and y")


def _targets(raw: Any) -> Iterable[Target]:
    for each in items(raw, "targets"):
        if isinstance(each, str):
            yield target_of_text(each)
        elif isinstance(each, Mapping):
            name = type_of(each, "type")
            for value in list_in(each, "values"):
                kind = KINDS_301.get(name, TargetKind.OTHER)
                yield Target(kind, str(value), name if kind is TargetKind.OTHER else "")
        else:
            raise InvalidRequest("targets", str(each)[:MAX_TEXT], "texts, or objects with type and values")


def _descriptor_31(body: Mapping[str, Any]) -> dict[str, Any]:
    """A reportDescriptor with its targets as 3.1.0 has them."""
    if not body.get("targets"):
        return dict(body)
    return {**body, "targets": [target_text(target) for target in _targets(body["targets"])]}


def _tolerance(period: Mapping[str, Any], start_at: datetime) -> timedelta:
    text = text_in(period, "randomizeStart", "")
    later_at = abs(parse_duration(text, "randomizeStart")).after(start_at) if text else start_at
    if later_at is None:
        raise InvalidRequest("randomizeStart", text, "a length of time with an end")
    return later_at - start_at


def _stamp(body: Mapping[str, Any], key: str) -> datetime | None:
    try:
        return parse_instant(text_in(body, key, ""), key)
    except InvalidRequest:  # set by the VTN: bad ones are its own defect, and no reason to lose the event
        return None
