"""Room openadr3: an event written as OpenADR 3 has it. Called by `events`.

Series whose intervals lie alike share one list of intervals. What was written out on reading (an interval
shared by several values, intervals repeated over the event's duration) is folded up again where the
intervals' ids show that it was one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from market.openadr3.events_in import KINDS_301, LISTS, is_shared_out
from market.openadr3.periods import NOW, Payload, Slot, divided, duration_text, instant_text, span, stretched
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesInterval, SeriesType, Target, TargetKind, Value
from vpp.domain.openadr3 import OLDER_VERSION
from vpp.domain.target_text import target_of_text, target_text

_Place = tuple[str, datetime, timedelta | None]
_OBJECT_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an event's intervals are written: the slots, and the event's own `duration` where it repeats them."""

    slots: tuple[Slot, ...]
    duration: str | None


def write_event(event: GridEvent, *, program_id: str, version: str) -> dict[str, Any]:
    """Return the event as an object of `version`, what a VTN sets (id, times) included."""
    plan = _plan(event, version)
    extras = event.extras
    body: dict[str, Any] = {"id": event.event_id} if _OBJECT_ID.fullmatch(event.event_id) else {}
    body |= {"createdDateTime": instant_text(event.created_at)}
    body |= {"modificationDateTime": instant_text(event.modified_at)} if event.modified_at else {}
    body |= {"objectType": "EVENT", "programID": program_id}
    if event.comment:
        body["eventName"] = event.comment
    if plan.duration is not None and version != OLDER_VERSION:
        body["duration"] = plan.duration
    if event.priority:
        body["priority"] = event.priority - 1
    if event.targets:
        body["targets"] = targets_of(event.targets, version)
    if event.cancelled:
        return body | _cancelled(event)
    if event.reports_wanted:
        body["reportDescriptors"] = _reports(event, version)
    descriptors = [*_descriptors(event.series), *_kept(extras.get("payloadDescriptors"))]
    if descriptors:
        body["payloadDescriptors"] = descriptors
    body["intervalPeriod"] = _period(event, plan)
    intervals = _kept(extras.get("intervals")) if not event.series else list(_intervals(plan.slots, body, version))
    if intervals or version == OLDER_VERSION:
        body["intervals"] = intervals
    return body


def targets_of(targets: Iterable[Target], version: str) -> list[Any]:
    """Return targets as plain texts, or as 3.0.1's objects by type."""
    if version != OLDER_VERSION:
        return [target_text(target) for target in targets]
    names = {kind: name for name, kind in KINDS_301.items()}
    grouped: dict[str, list[str]] = {}
    for target in targets:
        name = names.get(target.kind) or target.label or TargetKind.OTHER.value
        grouped.setdefault(name, []).append(target.value)
    return [{"type": name, "values": values} for name, values in grouped.items()]


def _plan(event: GridEvent, version: str) -> _Plan:
    kept = event.extras.get("duration")
    slots = _slots(event.series)
    if isinstance(kept, str):
        return _Plan(_numbered(slots), kept)
    uids = [slot.uid for slot in slots]
    repeated = next((index for index, uid in enumerate(uids) if uid in uids[:index]), None)
    if repeated and event.duration and version != OLDER_VERSION:
        pattern = slots[:repeated]
        if stretched(pattern, event.start_at + event.duration) == slots:
            return _Plan(_numbered(pattern), duration_text(event.duration))
    return _Plan(_numbered(slots), None)


def _slots(series: Sequence[Series]) -> list[Slot]:
    """The intervals of all series, those that lie alike as one; by start where each series is in order."""
    together: dict[_Place, list[Payload]] = {}
    order: TopologicalSorter[_Place] = TopologicalSorter()
    in_order = True
    for each in series:
        name = each.name if each.type is SeriesType.OTHER and each.name else each.type.value
        pieces = [((piece.uid, piece.start_at, piece.duration), piece.values) for piece in _pieces(each)]
        for place, values in pieces:
            together.setdefault(place, []).append((name, values))
            order.add(place)
        for (one, _), (two, _) in pairwise(pieces):
            order.add(two, one)
            in_order = in_order and one[1] <= two[1]
    try:  # several may begin at one instant: then as the series have them
        places = list(order.static_order())
    except CycleError:
        places = list(together)
    if in_order:
        places.sort(key=lambda place: place[1])
    return [Slot(*place, tuple(together[place])) for place in places]


def _pieces(series: Series) -> Iterable[SeriesInterval]:
    """The intervals, each run of one id put together again where it is an interval shared by several values."""
    intervals, begin = series.intervals, 0
    while begin < len(intervals):
        end = begin + 1
        while end < len(intervals) and intervals[end].uid == intervals[begin].uid:
            end += 1
        shared = _shared(series.type, intervals[begin:end])
        yield from intervals[begin:end] if shared is None else (shared,)
        begin = end


def _shared(type_: SeriesType, run: Sequence[SeriesInterval]) -> SeriesInterval | None:
    if len(run) < 2 or type_ in LISTS or any(part.duration is None or len(part.values) != 1 for part in run):
        return None
    values = tuple(part.values[0] for part in run)
    total = sum((part.duration for part in run if part.duration), timedelta(0))
    placed = [(part.start_at, part.duration) for part in run]
    if not is_shared_out(type_, values, total) or placed != divided(run[0].start_at, total, len(run)):
        return None
    return replace(run[0], duration=total, values=values)


def _numbered(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """The slots, each with an id of its own: what is no number, or taken, gets the next free one."""
    taken: set[int] = set()
    free = iter(range(len(slots) * 2 + 1))
    wanted = {int(slot.uid) for slot in slots if _is_id(slot.uid)}
    done = []
    for slot in slots:
        number = int(slot.uid) if _is_id(slot.uid) else None
        if number is None or number in taken:
            number = next(each for each in free if each not in taken and each not in wanted)
        taken.add(number)
        done.append(replace(slot, uid=str(number)))
    return tuple(done)


def _is_id(uid: str) -> bool:
    return re.fullmatch(r"0|-?[1-9][0-9]{0,9}", uid, re.ASCII) is not None and int(uid) in _INT32


def _period(event: GridEvent, plan: _Plan) -> dict[str, Any]:
    """The default period: the first interval's length, from the event's start."""
    kept = event.extras.get("intervalPeriod")
    first = plan.slots[0].duration if plan.slots else event.duration
    text = kept["duration"] if isinstance(kept, dict) and "duration" in kept else duration_text(first)
    start_at = span(plan.slots)[0] if plan.slots else event.start_at
    told_now = start_at == (event.modified_at or event.created_at)
    says_now = told_now and event.extras.get("start") == NOW
    period = {"start": NOW if says_now else instant_text(start_at), "duration": text}
    if not plan.slots and isinstance(event.extras.get("duration"), str) and kept is None:
        del period["duration"]
    if event.start_tolerance:
        period["randomizeStart"] = duration_text(event.start_tolerance)
    return period


def _intervals(slots: Sequence[Slot], body: dict[str, Any], version: str) -> Iterable[dict[str, Any]]:
    """The intervals, with a period of their own only where the default, and following on, does not say it."""
    if not slots:
        return
    default, follow_at = slots[0].duration, span(slots)[0]
    for slot in slots:
        own = {}
        if slot.start_at != follow_at or (version == OLDER_VERSION and slot.duration != default):
            own["start"] = instant_text(slot.start_at)
        if slot.duration != default:
            own["duration"] = duration_text(slot.duration)
        yield {
            "id": int(slot.uid),
            **({"intervalPeriod": own} if own else {}),
            "payloads": [
                {"type": name, "values": [_value(value) for value in values]} for name, values in slot.payloads
            ],
        }
        follow_at = slot.end_at or datetime.max.replace(tzinfo=slot.start_at.tzinfo)


def _cancelled(event: GridEvent) -> dict[str, Any]:
    """How a cancelled event is told (User Guide 7.9): no length, at the beginning of time."""
    uids = _numbered(_slots(event.series))
    intervals = [
        {"id": int(slot.uid), "payloads": [{"type": n, "values": [_value(v) for v in vs]} for n, vs in slot.payloads]}
        for slot in uids
    ]
    descriptors = list(_descriptors(event.series))
    body: dict[str, Any] = {"payloadDescriptors": descriptors} if descriptors else {}
    return body | {"intervalPeriod": {"start": NOW, "duration": "PT0S"}, "intervals": intervals}


def _descriptors(series: Sequence[Series]) -> Iterable[dict[str, Any]]:
    seen: set[str] = set()
    for each in series:
        name = each.name if each.type is SeriesType.OTHER and each.name else each.type.value
        if name not in seen:
            seen.add(name)
            units = {"units": each.unit} if each.unit else {}
            currency = {"currency": each.currency} if each.currency else {}
            yield {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": name, **units, **currency}


def _reports(event: GridEvent, version: str) -> list[dict[str, Any]]:
    kept = _kept(event.extras.get("reportDescriptors"))
    names = tuple(each.get("payloadType", each.get("payLoadType")) for each in kept)
    if names != event.reports_wanted:
        return [{"payloadType": name} for name in event.reports_wanted]
    if version != OLDER_VERSION:
        return kept
    return [
        {**each, "targets": targets_of(map(target_of_text, each["targets"]), version)} if each.get("targets") else each
        for each in kept
    ]


def _kept(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list | tuple) else []


def _value(value: Value) -> Any:
    return {"x": value.x, "y": value.y} if isinstance(value, Point) else value
