"""The form in which the operator composes an event: what was typed, to an event and back. Called by `grid_event_pages`.

What was typed stays in the form when it is refused, with the reason beside it. An event is opened in the form only
where reading the form again gives the same event: what it cannot state is changed through the API.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

from starlette.datastructures import FormData

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Series, Target, TargetKind
from vpp.portal.grid_event_signal_form import (
    MAX_ROWS,
    ROW,
    TEXTS,
    TypedSignal,
    as_before,
    empty_signal,
    length_of,
    more_rows,
    needed,
    series_of,
    signal_after,
    signals_from,
    typed_minutes,
    typed_signal,
)
from vpp.portal.local_time import TwiceOnTheClock, instant_of, typed

MAX_SIGNALS = 10
MAX_TYPED = 2000
MAX_FIELDS = 2 * MAX_ROWS * MAX_SIGNALS + 2000
"""Intervals of all signals, and everything else in the form."""

TEXT_FIELDS = (
    "event_id", "expected_number", "program", "start", "start_fold", "priority", "tolerance_min", "ramp_up_min",
    "recovery_min", "notification_min", "comment", "resources", "parties", "reason",
)  # fmt: skip
LENGTHS = ("ramp_up", "recovery", "notification")
_WORDS = {"rows": "intervals", "name": "name of the private type", "program": "programme"}


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form, as it was typed.

    Attributes:
        targets: `ven:` and `group:` addressees that are ticked.
    """

    texts: Mapping[str, str]
    signals: tuple[TypedSignal, ...]
    targets: frozenset[str] = frozenset()
    is_test: bool = False
    answer_wanted: bool = True

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


@dataclass(slots=True)
class Refusals:
    """What is wrong with the form, by field: `start`, or `unit-1` of the second signal.

    Attributes:
        twice: the clock shows the start twice, and nobody said which is meant.
    """

    by_field: dict[str, str] = field(default_factory=dict)
    twice: bool = False


def empty(*, event_id: str, start_at: datetime, zone: str, program: str) -> Typed:
    """A new form: one signal of four intervals of an hour, of which one is filled in."""
    start, _ = typed(start_at, zone)
    return Typed(texts={"event_id": event_id, "program": program, "start": start}, signals=(empty_signal(),))


def typed_from(form: FormData) -> Typed:
    """What a form sent, cut to a reasonable length."""
    sent = [(name, _one_line(str(value))) for name, value in form.multi_items()]
    texts = {name: value for name, value in sent if name in TEXT_FIELDS}
    return Typed(
        texts=texts,
        signals=signals_from([each for each in sent if each[0] in (*TEXTS, *ROW)])[: MAX_SIGNALS + 1],
        targets=frozenset(value for name, value in sent if name == "target"),
        is_test=form.get("is_test") == "yes",
        answer_wanted=form.get("answer_wanted", "yes") == "yes",
    )


def edited(typed_form: Typed, form: FormData) -> Typed | None:
    """The form with what one of its own buttons adds or removes, for those without scripts; None: none was pressed."""
    signals = typed_form.signals
    if "more_signals" in form:
        further = signal_after(signals[-1]) if signals else empty_signal()
        return replace(typed_form, signals=(*signals, further)[: max(MAX_SIGNALS, len(signals))])
    for button in ("more", "drop"):
        if button in form:
            number = str(form[button])
            index = int(number) if number.isascii() and number.isdigit() and len(number) < 3 else 0
            changed = (more_rows(each) for each in signals[index : index + 1] if button == "more")
            left = (*signals[:index], *changed, *signals[index + 1 :])
            return replace(typed_form, signals=left or (empty_signal(),))
    return None


def typed_of(event: GridEvent, zone: str) -> Typed | None:
    """An event as it would have been typed; None where the form cannot state all of it."""
    form = _as_typed(event, zone)
    read, _ = event_of(form, zone, at=event.created_at)
    stands = replace(event, cancelled=False)
    return form if read is not None and restated(stands, read) == stands else None


def restated(old: GridEvent, new: GridEvent) -> GridEvent:
    """What the form says of an event that stands, with what it has no field for as it was; `old` where that is all."""
    before = {series.series_id: series for series in old.series}
    kept = replace(
        new,
        created_at=old.created_at,
        modification_number=old.modification_number,
        modified_at=old.modified_at,
        series=tuple(as_before(before.get(each.series_id, each), each) for each in new.series),
        targets=old.targets if set(old.targets) == set(new.targets) else new.targets,
        reports_wanted=old.reports_wanted,
        extras=old.extras,
    )
    return old if replace(kept, modification_reason=old.modification_reason) == old else kept


def titled(field_name: str, signals: int) -> str:
    """A field in words, as `signal 2, unit`; of one signal alone its number is not said."""
    name, dash, index = field_name.partition("-")
    words = _WORDS.get(name, name.removesuffix("_min").replace("_", " "))
    return f"signal {int(index) + 1}, {words}" if dash and signals > 1 else words


def event_of(form: Typed, zone: str, *, at: datetime) -> tuple[GridEvent | None, Refusals]:
    """Return the event that was typed, or None with what is wrong with it."""
    wrong = Refusals()

    def tried(name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InvalidRequest as error:
            wrong.by_field[name] = _sentence(error.allowed)
            wrong.twice = wrong.twice or isinstance(error, TwiceOnTheClock)
            return None

    start_at = tried("start", lambda: instant_of(form["start"], zone, "start", fold=form["start_fold"]))
    series = tuple(_series(form, start_at or at, wrong))
    lengths = {
        name: tried(f"{name}_min", partial(length_of, form[f"{name}_min"], f"{name}_min"))
        for name in (*LENGTHS, "tolerance")
    }
    priority = tried("priority", lambda: _priority(form["priority"]))
    program = tried("program", lambda: needed(form["program"], "program", "the programme or market context"))
    targets = tried("targets", lambda: _targets(form))
    if wrong.by_field:
        return None, wrong
    ends = [None if not part.duration else part.start_at + part.duration for each in series for part in each.intervals]
    known = [end for end in ends if end is not None]
    event = GridEvent(
        event_id=form["event_id"],
        modification_number=0,
        program=program,
        start_at=start_at,
        duration=max(known) - start_at if len(known) == len(ends) else None,
        series=series,
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


def _series(form: Typed, start_at: datetime, wrong: Refusals) -> Iterator[Series]:
    """The signals that can be read; of the others what is wrong is written down."""
    if not 0 < len(form.signals) <= MAX_SIGNALS:
        wrong.by_field["signals"] = f"1 to {MAX_SIGNALS} signals; an event of more is stated through the API."
        return
    taken = {signal["series_id"] for signal in form.signals}
    fresh = (number for number in map(str, count()) if number not in taken)
    used: set[str] = set()
    for index, signal in enumerate(form.signals):
        mine = signal["series_id"]
        series_id = next(fresh) if not mine or mine in used else mine
        used.add(series_id)
        try:
            yield series_of(signal, start_at, series_id)
        except InvalidRequest as error:
            wrong.by_field[f"{error.field}-{index}"] = _sentence(error.allowed)


def _as_typed(event: GridEvent, zone: str) -> Typed:
    start, fold = typed(event.start_at, zone)
    named = {TargetKind.RESOURCE: "resources", TargetKind.PARTY: "parties"}
    listed = {
        name: ", ".join(target.value for target in event.targets if target.kind is kind) for kind, name in named.items()
    }
    texts = {
        "event_id": event.event_id, "expected_number": str(event.modification_number), "program": event.program,
        "start": start, "start_fold": fold, "priority": "" if event.priority is None else str(event.priority),
        "comment": event.comment, "tolerance_min": typed_minutes(event.start_tolerance or None), **listed,
        **{f"{name}_min": typed_minutes(getattr(event, name)) for name in LENGTHS},
    }  # fmt: skip
    ticked = frozenset(
        f"{target.kind.value}:{target.value}"
        for target in event.targets
        if target.kind in (TargetKind.VEN, TargetKind.GROUP)
    )
    sent = {name: _one_line(value) for name, value in texts.items()}
    return Typed(sent, tuple(map(_as_sent, event.series)), ticked, event.is_test, event.answer_wanted)


def _as_sent(series: Series) -> TypedSignal:
    signal = typed_signal(series)
    texts = {name: _one_line(value) for name, value in signal.texts.items()}
    return TypedSignal(texts, tuple((minutes, _one_line(value)) for minutes, value in signal.rows))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _one_line(text: str) -> str:
    """A text as a field of the form sends it: in one line, of limited length."""
    return text.replace("\r", "").replace("\n", "")[:MAX_TYPED].strip()


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


def _priority(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest("priority", text, "a whole number from 0")
    return int(text)
