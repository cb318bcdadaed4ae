"""The form in which the operator composes an event: what was typed, to an event and back. Called by `grid_event_pages`.

The form states one signal; events of several are composed through the API. What was typed stays in the form
when it is refused, with the reason beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.datastructures import FormData

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.portal.local_time import TwiceOnTheClock, instant_of, typed
from vpp.portal.signals import SIGNALS, read_values, value_words

MAX_ROWS = 300
MAX_TYPED = 2000
TEXT_FIELDS = (
    "event_id", "expected_number", "program", "type", "name", "unit", "currency", "start", "start_fold", "priority",
    "tolerance_min", "ramp_up_min", "recovery_min", "notification_min", "comment", "resources", "parties", "reason",
)  # fmt: skip
LENGTHS = ("ramp_up", "recovery", "notification")


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form, as it was typed.

    Attributes:
        rows: minutes and values of each interval; empty ones are passed over.
        targets: `ven:` and `group:` addressees that are ticked.
    """

    texts: Mapping[str, str]
    rows: tuple[tuple[str, str], ...]
    targets: frozenset[str] = frozenset()
    is_test: bool = False
    answer_wanted: bool = True

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


@dataclass(slots=True)
class Refusals:
    """What is wrong with the form, by field; `twice` where the start is shown twice by the clock."""

    by_field: dict[str, str] = field(default_factory=dict)
    twice: bool = False


def empty(*, event_id: str, start_at: datetime, zone: str, program: str) -> Typed:
    """A new form: four intervals of an hour, of which one is filled in."""
    start, _ = typed(start_at, zone)
    texts = {"event_id": event_id, "program": program, "type": SeriesType.SIMPLE.value, "start": start}
    return Typed(texts=texts, rows=(("60", "1"), ("", ""), ("", ""), ("", "")))


def typed_from(form: FormData) -> Typed:
    """What a form sent, cut to a reasonable length."""
    texts = {name: str(form.get(name, ""))[:MAX_TYPED].strip() for name in TEXT_FIELDS}
    minutes = [str(each)[:40] for each in form.getlist("minutes")]
    values = [str(each)[:MAX_TYPED] for each in form.getlist("value")]
    rows = tuple(zip(minutes, values, strict=False))[:MAX_ROWS]
    return Typed(
        texts=texts,
        rows=rows,
        targets=frozenset(str(each)[:200] for each in form.getlist("target")),
        is_test=form.get("is_test") == "yes",
        answer_wanted=form.get("answer_wanted", "yes") == "yes",
    )


def more_rows(form: Typed, count: int = 4) -> Typed:
    """The form with empty intervals added, for those without scripts."""
    return replace(form, rows=(*form.rows, *((("", ""),) * count))[:MAX_ROWS])


def typed_of(event: GridEvent, zone: str) -> Typed | None:
    """An event as it would have been typed; None where the form cannot state it."""
    if len(event.series) != 1 or not _follows_on(event.series[0], event.start_at):
        return None
    series = event.series[0]
    start, fold = typed(event.start_at, zone)
    named = {TargetKind.RESOURCE: "resources", TargetKind.PARTY: "parties"}
    listed = {
        name: ", ".join(target.value for target in event.targets if target.kind is kind) for kind, name in named.items()
    }
    texts = {
        "event_id": event.event_id, "expected_number": str(event.modification_number), "program": event.program,
        "type": series.type.value, "name": series.name if series.type is SeriesType.OTHER else "",
        "unit": series.unit or "", "currency": series.currency or "", "start": start, "start_fold": fold,
        "priority": str(event.priority or ""), "comment": event.comment,
        "tolerance_min": _minutes(event.start_tolerance), **listed,
        **{f"{name}_min": _minutes(getattr(event, name)) for name in LENGTHS},
    }  # fmt: skip
    rows = tuple((_minutes(part.duration) or "0", value_words(part.values)) for part in series.intervals)
    ticked = frozenset(
        f"{target.kind.value}:{target.value}"
        for target in event.targets
        if target.kind in (TargetKind.VEN, TargetKind.GROUP)
    )
    return Typed(texts, rows, ticked, event.is_test, event.answer_wanted)


def event_of(form: Typed, zone: str, *, at: datetime) -> tuple[GridEvent | None, Refusals]:
    """Return the event that was typed, or None with what is wrong with it."""
    wrong = Refusals()

    def tried(name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InvalidRequest as error:
            wrong.by_field[name] = f"{error.allowed[0].upper()}{error.allowed[1:]}."
            wrong.twice = wrong.twice or isinstance(error, TwiceOnTheClock)
            return None

    start_at = tried("start", lambda: instant_of(form["start"], zone, "start", fold=form["start_fold"]))
    series = tried("rows", lambda: _series(form, start_at or at))
    lengths = {
        name: tried(f"{name}_min", partial(_length, form[f"{name}_min"], f"{name}_min"))
        for name in (*LENGTHS, "tolerance")
    }
    priority = tried("priority", lambda: _priority(form["priority"]))
    program = tried("program", lambda: _needed(form["program"], "program", "the programme or market context"))
    targets = tried("targets", lambda: _targets(form))
    if wrong.by_field:
        return None, wrong
    ends = [part.start_at + part.duration for part in series.intervals if part.duration]
    whole = len(ends) == len(series.intervals)
    event = GridEvent(
        event_id=form["event_id"],
        modification_number=0,
        program=program,
        start_at=start_at,
        duration=max(ends) - start_at if whole else None,
        series=(series,),
        created_at=at,
        modification_reason=form["reason"],
        is_test=form.is_test,
        priority=priority,
        comment=form["comment"],
        start_tolerance=lengths["tolerance"] or timedelta(0),
        notification=lengths["notification"],
        ramp_up=lengths["ramp_up"],
        recovery=lengths["recovery"],
        targets=targets,
        answer_wanted=form.answer_wanted,
    )
    return event, wrong


def _series(form: Typed, start_at: datetime) -> Series:
    if form["type"] not in SeriesType.__members__:
        raise InvalidRequest("type", form["type"], "a signal of the list")
    type_ = SeriesType(form["type"])
    name = form["name"] if type_ is SeriesType.OTHER else type_.value
    _needed(name, "name", "the private type's name")
    signal = SIGNALS[type_]
    intervals: list[SeriesInterval] = []
    at: datetime | None = start_at
    for number, (minutes, value) in enumerate(form.rows, start=1):
        if not minutes.strip() and not value.strip():
            continue
        if at is None:
            raise InvalidRequest("rows", number, f"nothing after interval {number - 1}, which has no end")
        length = _length(minutes, f"interval {number}")
        if length is None:
            raise InvalidRequest("rows", minutes, f"interval {number} needs its minutes; 0 is without an end")
        try:
            values = read_values(signal.kind, value, f"interval {number}")
        except InvalidRequest as error:
            raise InvalidRequest("rows", value, f"{error.allowed} in interval {number}") from error
        uid = str(len(intervals))
        intervals.append(SeriesInterval(start_at=at, duration=length or None, values=values, uid=uid))
        at = at + length if length else None
    if not intervals:
        raise InvalidRequest("rows", "", "at least one interval")
    return Series(
        series_id="0",
        type=type_,
        name=name,
        intervals=tuple(intervals),
        unit=form["unit"] or None if signal.units else None,
        currency=form["currency"].upper() or None if signal.currency else None,
    )


def _targets(form: Typed) -> tuple[Target, ...]:
    kinds = {"ven": TargetKind.VEN, "group": TargetKind.GROUP}
    found = []
    for each in sorted(form.targets):
        kind, _, value = each.partition(":")
        if kind not in kinds or not value:
            raise InvalidRequest("targets", each, "addressees of the list")
        found.append(Target(kinds[kind], value))
    for name, kind in (("resources", TargetKind.RESOURCE), ("parties", TargetKind.PARTY)):
        found += [Target(kind, part.strip()) for part in form[name].split(",") if part.strip()]
    return tuple(found)


def _length(text: str, field_name: str) -> timedelta | None:
    if not text.strip():
        return None
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 60 * 24 * 3650:
        raise InvalidRequest(field_name, text, "minutes, 0 or more")
    return timedelta(minutes=minutes)


def _priority(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest("priority", text, "a whole number from 0")
    return int(text)


def _needed(text: str, field_name: str, allowed: str) -> str:
    if not 0 < len(text) <= 256:
        raise InvalidRequest(field_name, text[:40], allowed)
    return text


def _follows_on(series: Series, start_at: datetime) -> bool:
    """Whether intervals are such as the form states: one after the other, without targets of their own."""
    at: datetime | None = start_at
    for part in series.intervals:
        if part.start_at != at:
            return False
        at = None if part.duration is None else part.start_at + part.duration
    return not series.targets and series.current is None


def _minutes(length: timedelta | None) -> str:
    return "" if not length else f"{length / timedelta(minutes=1):.12g}"
