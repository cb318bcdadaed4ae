"""What an event asks of the fleet: the sense of values turns in one place, and what cannot be taken has a code."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Value
from vpp.domain.signal import EventSignal, SignalKind
from vpp.domain.time import Interval
from vpp.domain.ven import Refusal
from vpp.gateway.meaning import interpret

START_AT = datetime(2026, 8, 19, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
DISPATCH = (SeriesType.DISPATCH_SETPOINT, "LOAD_DISPATCH/setpoint", "KW")
DELTA = (SeriesType.DISPATCH_SETPOINT_RELATIVE, "LOAD_DISPATCH/delta", "KW")
LEVEL = (SeriesType.SIMPLE, "SIMPLE/level", None)
PRICE = (SeriesType.PRICE, "ELECTRICITY_PRICE/price", "KWH")


def a_series(kind: tuple[SeriesType, str, str | None], *values: Value, length: timedelta | None = HOUR) -> Series:
    type_, name, unit = kind
    parts = tuple(
        SeriesInterval(start_at=START_AT + n * (length or HOUR), duration=length, values=(value,), uid=str(n))
        for n, value in enumerate(values)
    )
    return Series(series_id="s1", type=type_, name=name, unit=unit, intervals=parts)


def an_event(*series: Series, **changes: Any) -> GridEvent:
    event = GridEvent(
        event_id="E1",
        modification_number=0,
        program="http://utility.example/elrp",
        start_at=START_AT,
        duration=HOUR,
        series=series,
        created_at=START_AT,
    )
    return replace(event, **changes)


def signal_of(event: GridEvent) -> EventSignal:
    found = interpret(event, source="openadr2:utility", program="elrp", request_id="R1")
    assert isinstance(found, EventSignal), found
    return found


def code_of(event: GridEvent) -> int:
    found = interpret(event, source="openadr2:utility", program="elrp")
    assert isinstance(found, Refusal), found
    return found.code


def test_a_setpoint_is_power_toward_the_grid() -> None:
    signal = signal_of(an_event(a_series(DISPATCH, 500.0, 250)))
    assert (signal.kind, signal.source, signal.program) == (SignalKind.POWER_KW, "openadr2:utility", "elrp")
    assert signal.request_id == "R1"
    assert [(part.interval, part.value) for part in signal.intervals] == [
        (Interval(START_AT, START_AT + HOUR), 500.0),
        (Interval(START_AT + HOUR, START_AT + 2 * HOUR), 250.0),
    ]


def test_a_drop_of_consumption_is_delivery() -> None:
    """Holds conventions, rule 1."""
    assert [part.value for part in signal_of(an_event(a_series(DELTA, -500.0, 0.0))).intervals] == [500.0, 0.0]


def test_a_level_stays_a_level_and_the_tolerance_of_the_start_is_told() -> None:
    signal = signal_of(an_event(a_series(LEVEL, 2), start_tolerance=timedelta(minutes=3), is_test=True))
    assert (signal.kind, signal.intervals[0].value, signal.start_tolerance_s) == (SignalKind.LEVEL, 2.0, 180.0)
    assert signal.is_test


def test_the_dispatch_counts_where_a_level_comes_first() -> None:
    assert signal_of(an_event(a_series(LEVEL, 1), a_series(DISPATCH, 500.0))).kind is SignalKind.POWER_KW


def test_the_level_counts_where_the_dispatch_has_a_unit_we_do_not_know() -> None:
    unknown = replace(a_series(DISPATCH, 5.0), unit=None)
    assert signal_of(an_event(unknown, a_series(LEVEL, 1))).kind is SignalKind.LEVEL


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (an_event(a_series(PRICE, 0.3)), 460),
        (an_event(), 460),
        (an_event(replace(a_series(DISPATCH, 1.0), unit="PERCENT")), 460),
        (an_event(a_series(DELTA, 5.0)), 460),
        (an_event(a_series(DISPATCH)), 454),
        (an_event(a_series(DISPATCH, 1.0, length=None)), 454),
        (an_event(a_series(DISPATCH, 1.0, length=timedelta(0))), 454),
        (an_event(a_series(DISPATCH, float("nan"))), 454),
        (an_event(a_series(DISPATCH, float("inf"))), 454),
        (an_event(a_series(DISPATCH, 1e8)), 454),
        (an_event(a_series(DISPATCH, "much")), 454),
        (an_event(a_series(DISPATCH, True)), 454),
        (an_event(a_series(LEVEL, 1.5)), 454),
        (an_event(a_series(LEVEL, 4)), 454),
        (an_event(a_series(DISPATCH, 1.0), modification_number=2**31), 454),
        (an_event(a_series(DISPATCH, 1.0), event_id="x" * 300), 454),
        (an_event(a_series(DISPATCH, 1.0), start_tolerance=-HOUR), 454),
    ],
)
def test_an_event_we_cannot_take_is_refused_with_a_code(event: GridEvent, code: int) -> None:
    assert code_of(event) == code


def test_intervals_with_a_gap_are_refused() -> None:
    gap = replace(a_series(DISPATCH, 1.0, 2.0, 3.0))
    assert code_of(an_event(replace(gap, intervals=gap.intervals[::2]))) == 454


def test_a_cancellation_counts_even_where_the_rest_cannot_be_read() -> None:
    signal = signal_of(an_event(a_series(PRICE, 0.3), cancelled=True))
    assert (signal.cancelled, signal.intervals) == (True, ())
