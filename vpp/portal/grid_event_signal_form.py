"""One signal in the form of an event: what was typed, to a series and back. Called by `grid_event_form`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Series, SeriesInterval, SeriesType
from vpp.portal.grid_event_models import LEVELS
from vpp.portal.signals import SIGNALS, read_values, value_words

MAX_ROWS = 300
"""Intervals of one signal that a form takes."""

TEXTS = ("type", "series_id", "name", "unit", "currency")
ROW = ("minutes", "value")
_EMPTY = ("", "")
_LONGEST_MIN = 60 * 24 * 3650


@dataclass(frozen=True, slots=True)
class TypedSignal:
    """What stands in the form of one signal.

    Attributes:
        texts: its type, unit and so on, by field; `series_id` is the id it has already, "" where it is new.
        rows: minutes and values of each interval; empty ones are passed over.
    """

    texts: Mapping[str, str]
    rows: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


def empty_signal() -> TypedSignal:
    """A simple level over four intervals, of which the first is an hour of level 1."""
    return TypedSignal({"type": SeriesType.SIMPLE.value}, (("60", "1"), *(_EMPTY,) * 3))


def signal_after(signal: TypedSignal) -> TypedSignal:
    """A further signal over the same intervals, whose values are still to be typed."""
    return TypedSignal({"type": SeriesType.SIMPLE.value}, tuple((minutes, "") for minutes, _ in signal.rows))


def signals_from(fields: Sequence[tuple[str, str]]) -> tuple[TypedSignal, ...]:
    """The signals a form sent, from its fields in the order of the page: each begins with its `type`."""
    texts: list[dict[str, str]] = []
    rows: list[dict[str, list[str]]] = []
    for name, value in fields:
        if name == "type":
            texts.append({})
            rows.append({column: [] for column in ROW})
        if texts and name in TEXTS:
            texts[-1][name] = value
        elif texts and name in ROW:
            rows[-1][name].append(value)
    return tuple(
        TypedSignal(each, tuple(zip(columns["minutes"], columns["value"], strict=False)))
        for each, columns in zip(texts, rows, strict=True)
    )


def more_rows(signal: TypedSignal, count: int = 4) -> TypedSignal:
    """The signal with empty intervals added, for those without scripts."""
    return replace(signal, rows=(*signal.rows, *(_EMPTY,) * count)[: max(MAX_ROWS, len(signal.rows))])


def typed_signal(series: Series) -> TypedSignal:
    """A series as it would have been typed; whether nothing is lost by that is the caller's to find out."""
    texts = {
        "type": series.type.value,
        "series_id": series.series_id,
        "name": series.name if series.type is SeriesType.OTHER else "",
        "unit": series.unit or "",
        "currency": series.currency or "",
    }
    rows = tuple((typed_minutes(part.duration) or "0", value_words(part.values)) for part in series.intervals)
    return TypedSignal(texts, rows)


def series_of(signal: TypedSignal, start_at: datetime, series_id: str) -> Series:
    """Return the series that was typed, from `start_at` on.

    Raises:
        InvalidRequest: names the field of the signal: `type`, `name`, `unit`, `currency` or `rows`.
    """
    if signal["type"] not in SeriesType.__members__:
        raise InvalidRequest("type", signal["type"], "a signal of the list")
    type_ = SeriesType(signal["type"])
    name = needed(signal["name"], "name", "the private type's name") if type_ is SeriesType.OTHER else type_.value
    return Series(
        series_id=series_id,
        type=type_,
        name=name,
        intervals=_intervals(signal, type_, start_at),
        unit=_unit(signal["unit"], type_),
        currency=_currency(signal["currency"], type_),
    )


def as_before(old: Series, new: Series) -> Series:
    """The new statement of a series, with what a form has no field for as it was: words for the type, interval ids."""
    if old.type is not new.type:
        return new
    kept = len(new.intervals) <= len(old.intervals)
    intervals = (
        tuple(replace(part, uid=was.uid) for part, was in zip(new.intervals, old.intervals, strict=False))
        if kept
        else new.intervals
    )
    return replace(new, name=new.name if new.type is SeriesType.OTHER else old.name, intervals=intervals)


def length_of(text: str, field_name: str) -> timedelta | None:
    """Return the minutes typed; None where nothing was.

    Raises:
        InvalidRequest: no number of minutes; names the field.
    """
    if not text.strip():
        return None
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= _LONGEST_MIN:
        raise InvalidRequest(field_name, text, "minutes, 0 or more")
    return timedelta(minutes=minutes)


def typed_minutes(length: timedelta | None) -> str:
    """A length as a person types it."""
    return "" if length is None else f"{length / timedelta(minutes=1):.12g}"


def needed(text: str, field_name: str, allowed: str) -> str:
    """Return a text that may not be empty.

    Raises:
        InvalidRequest: it is, or is longer than 256 characters.
    """
    if not 0 < len(text) <= 256:
        raise InvalidRequest(field_name, text[:40], allowed)
    return text


def _intervals(signal: TypedSignal, type_: SeriesType, start_at: datetime) -> tuple[SeriesInterval, ...]:
    if len(signal.rows) > MAX_ROWS:
        raise InvalidRequest("rows", len(signal.rows), f"at most {MAX_ROWS} intervals")
    intervals: list[SeriesInterval] = []
    at: datetime | None = start_at
    for number, (minutes, value) in enumerate(signal.rows, start=1):
        if not minutes.strip() and not value.strip():
            continue
        if at is None:
            raise InvalidRequest("rows", number, f"nothing after interval {number - 1}, which has no end")
        part = _interval(minutes, value, type_, at, number, uid=str(len(intervals)))
        intervals.append(part)
        at = at + part.duration if part.duration else None
    if not intervals:
        raise InvalidRequest("rows", "", "at least one interval")
    return tuple(intervals)


def _interval(minutes: str, value: str, type_: SeriesType, at: datetime, number: int, *, uid: str) -> SeriesInterval:
    try:
        length = length_of(minutes, "rows")
        values = read_values(SIGNALS[type_].kind, value, "rows")
    except InvalidRequest as error:
        raise InvalidRequest("rows", error.value, f"{error.allowed} in interval {number}") from error
    if length is None:
        raise InvalidRequest("rows", minutes, f"interval {number} needs its minutes; 0 is without an end")
    if type_ is SeriesType.SIMPLE and values[0] not in LEVELS:
        raise InvalidRequest("rows", value, f"a level of 0, 1, 2 or 3 in interval {number}")
    return SeriesInterval(start_at=at, duration=length or None, values=values, uid=uid)


def _unit(text: str, type_: SeriesType) -> str | None:
    units = SIGNALS[type_].units
    if units and text and text not in units:
        raise InvalidRequest("unit", text, f"one of {', '.join(units)} or none")
    return text or None if units else None


def _currency(text: str, type_: SeriesType) -> str | None:
    if not SIGNALS[type_].currency or not text:
        return None
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise InvalidRequest("currency", text, "three letters of ISO 4217, as USD")
    return text.upper()
