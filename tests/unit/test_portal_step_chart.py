"""A signal is drawn as it was said: each value over its interval, gaps as gaps, 0 in sight."""

from datetime import datetime, timedelta

import pytest

from tests.builders_downstream import HOUR, START_AT, a_series
from vpp.domain.grid_event import SeriesInterval, SeriesType
from vpp.domain.time import Interval
from vpp.portal.render import field_words, figure, tick
from vpp.portal.step_chart import MOST_STEPS, Step, step_chart, steps_of


def steps(*values: float | None, start_at: datetime = START_AT, length: timedelta = HOUR) -> list[Step]:
    return [Step(Interval(start_at + i * length, start_at + (i + 1) * length), value) for i, value in enumerate(values)]


def test_each_value_is_a_step_as_long_as_its_interval() -> None:
    drawn = step_chart({"kW": steps(10.0, 5.0, 0.0, 5.0)}, now=START_AT + HOUR)
    assert drawn is not None
    assert drawn.lines == {"kW": "M0 0H250V50H500V100H750V50H1000"}
    assert (drawn.low, drawn.high, drawn.zero, drawn.now) == (0.0, 10.0, 100.0, 250.0)
    assert [spot.values for spot in drawn.spots[:2]] == [(("kW", 10.0),), (("kW", 5.0),)]
    assert [at for _, at in drawn.ticks] == [START_AT + n * HOUR for n in range(5)]


def test_what_nobody_knows_is_a_gap_and_powers_below_zero_are_drawn_below_it() -> None:
    drawn = step_chart({"a": steps(-10.0, None, 10.0)}, now=START_AT - HOUR)
    assert drawn is not None
    assert drawn.lines["a"] == "M0 100H333.33M666.67 0H1000"
    assert (drawn.zero, drawn.now) == (50.0, None)
    assert drawn.spots[1].values == (("a", None),)


def test_lines_share_one_time_and_one_scale() -> None:
    drawn = step_chart({"delivered": steps(30.0, None), "expected": steps(60.0, 60.0)}, now=START_AT)
    assert drawn is not None
    assert drawn.lines == {"delivered": "M0 50H500", "expected": "M0 0H500V0H1000"}
    assert drawn.spots[1].values == (("delivered", None), ("expected", 60.0))


@pytest.mark.parametrize("lines", [{}, {"a": []}, {"a": steps(None, None)}])
def test_there_is_no_picture_of_nothing(lines: dict[str, list[Step]]) -> None:
    assert step_chart(lines, now=START_AT) is None


def test_a_picture_of_very_many_intervals_is_bounded() -> None:
    drawn = step_chart({"a": steps(*range(10_000), length=timedelta(minutes=1))}, now=START_AT)
    assert drawn is not None
    assert len(drawn.spots) == MOST_STEPS
    assert len(drawn.ticks) <= 6


def test_texts_and_intervals_without_an_end_find_their_place() -> None:
    endless = SeriesInterval(start_at=START_AT, duration=None, values=(3.0,), uid="0")
    series = a_series(kind=SeriesType.DISPATCH_SETPOINT, intervals=(endless,))
    assert steps_of(series, end_at=None) == [Step(Interval(START_AT, START_AT + HOUR), 3.0)]
    assert steps_of(series, end_at=START_AT + 2 * HOUR) == [Step(Interval(START_AT, START_AT + 2 * HOUR), 3.0)]
    assert [step.value for step in steps_of(a_series("smoke", 1, True), end_at=None)] == [None, 1.0, 1.0]


def test_figures_ticks_and_fields_are_said_as_people_read_them() -> None:
    assert [figure(0.87), figure(-12.5), figure(30.0), figure(100.0)] == ["0.87", "\u221212.5", "30", "100"]
    assert [tick(START_AT, "UTC", length) for length in (HOUR, timedelta(days=9))] == [
        START_AT.strftime("%H:%M"), START_AT.strftime("%d %b"),
    ]  # fmt: skip
    assert field_words("series[1].unit") == "signal 2, unit"
    assert field_words("extras.reportDescriptors") == "reportDescriptors"
    assert field_words("ramp_up") == "ramp up"
