"""Where two versions of an event differ in meaning.

Called by `market/openadr2` and `market/openadr3` to find what a protocol did not carry, and by the portal to
show what a modification changed. Identity and book-keeping are left out (event_id, modification_number,
program, created_at, modified_at): each protocol carries them in its own way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind, Value

_PLAIN = ("start_at", "duration", "modification_reason", "cancelled", "is_test", "comment", "answer_wanted")
_LENGTHS = ("start_tolerance", "notification", "ramp_up", "recovery")
_SERIES = ("type", "series_id", "unit", "currency", "current")
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """One field, by its path (`comment`, `series[0].unit`, `extras.duration`), with both values as text."""

    field: str
    before: str
    after: str


def differences(before: GridEvent, after: GridEvent) -> tuple[Difference, ...]:
    """Return every field that means something else in `after`.

    No length of time and a length of zero are the same, as are no priority and 0. A series' name is its
    sender's wording and counts only where the type is OTHER; so does a target's label.
    """
    return tuple(_fields(before, after))


def losses(before: GridEvent, again: GridEvent) -> tuple[Difference, ...]:
    """Return what of `before` a protocol did not carry; `again` is what was read back from what it wrote.

    An extra that only the reading back made, as the details of a report that was wanted, is nothing lost.
    """
    own = {f"extras.{key}" for key in before.extras}
    return tuple(
        each for each in differences(before, again) if not each.field.startswith("extras.") or each.field in own
    )


def _fields(before: GridEvent, after: GridEvent) -> Iterator[Difference]:
    for name in _PLAIN:
        yield from _one(name, getattr(before, name), getattr(after, name))
    for name in _LENGTHS:
        yield from _one(name, getattr(before, name) or timedelta(0), getattr(after, name) or timedelta(0))
    yield from _one("priority", before.priority or None, after.priority or None)
    yield from _one("targets", _ordered(before.targets), _ordered(after.targets))
    yield from _one("reports_wanted", before.reports_wanted, after.reports_wanted)
    for key in sorted({*before.extras, *after.extras}):
        yield from _one(f"extras.{key}", before.extras.get(key), after.extras.get(key))
    yield from _all_series(before.series, after.series)


def _all_series(before: tuple[Series, ...], after: tuple[Series, ...]) -> Iterator[Difference]:
    """Compare series one by one, in order; where some are missing, those of a type belong together."""
    if len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _series(f"series[{index}]", one, other)
        return
    rest = list(after)
    for index, one in enumerate(before):
        if rest and (rest[0].type, _private_name(rest[0])) == (one.type, _private_name(one)):
            yield from _series(f"series[{index}]", one, rest.pop(0))
        else:
            yield Difference(f"series[{index}]", one.name, "none")
    for other in rest:
        yield Difference("series", "none", other.name)


def _private_name(series: Series) -> str:
    return series.name if series.type is SeriesType.OTHER else ""


def _series(path: str, before: Series, after: Series) -> Iterator[Difference]:
    for name in _SERIES:
        yield from _one(f"{path}.{name}", getattr(before, name), getattr(after, name))
    if before.type is SeriesType.OTHER:
        yield from _one(f"{path}.name", before.name, after.name)
    yield from _one(f"{path}.targets", _ordered(before.targets), _ordered(after.targets))
    if list(map(_meaning, before.intervals)) != list(map(_meaning, after.intervals)):
        yield Difference(f"{path}.intervals", _intervals_text(before), _intervals_text(after))
    if len(before.intervals) == len(after.intervals):
        uids = [interval.uid for interval in before.intervals]
        yield from _one(f"{path}.intervals.uid", uids, [interval.uid for interval in after.intervals])


def _one(field: str, before: object, after: object) -> Iterator[Difference]:
    if before != after:
        yield Difference(field, value_text(before), value_text(after))


def _meaning(interval: SeriesInterval) -> tuple[Any, ...]:
    """An interval without its uid; yes and 1 are not the same value, 1 and 1.0 are."""
    return interval.start_at, interval.duration, tuple(_typed(value) for value in interval.values)


def _typed(value: Value) -> tuple[bool, Value]:
    return isinstance(value, bool), value


def _intervals_text(series: Series) -> str:
    return value_text([
        f"{part.start_at:%Y-%m-%d %H:%M:%S} UTC for {value_text(part.duration)}: {value_text(part.values)}"
        for part in series.intervals[:5]
    ])  # fmt: skip


def _ordered(targets: tuple[Target, ...]) -> list[Target]:
    return sorted({target if target.kind is TargetKind.OTHER else replace(target, label="") for target in targets})


def value_text(value: object) -> str:
    """Return a value as a text for people, cut where it is long."""
    text = ", ".join(map(value_text, value)) if isinstance(value, list | tuple) else _plain(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _plain(value: object) -> str:
    if isinstance(value, Target):
        return f"{value.label or value.kind.value} {value.value}"
    return "none" if value is None else str(value)
