"""When an event's reportDescriptors want which intervals, in every combination the definition has."""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from tests.clock import NOON
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType
from vpp.domain.ven3 import ReportIntervals, ReportWanted
from vpp.gateway.ven3.plan import GRACE, MAX_INTERVALS, due, requests_of

HOUR = timedelta(hours=1)


def event(hours: int, *, endless: bool = False) -> GridEvent:
    """An event of so many intervals of an hour; `endless` leaves the last one without an end."""
    intervals = tuple(
        SeriesInterval(
            start_at=NOON + n * HOUR, duration=None if endless and n == hours - 1 else HOUR, values=(1.0,), uid=str(n)
        )
        for n in range(hours)
    )
    series = Series(series_id="s", type=SeriesType.PRICE, name="PRICE", intervals=intervals)
    return GridEvent(
        event_id="e",
        modification_number=0,
        program="p",
        start_at=NOON,
        duration=None if endless else hours * HOUR,
        series=(series,) if intervals else (),
        created_at=NOON,
    )


def plan(told: GridEvent, **timing: Any) -> list[tuple[float, list[int]]]:
    """Hours after the start each report is made at, with the numbers of the intervals it covers."""
    (request,) = requests_of([ReportWanted(payload_type="USAGE", **timing)])
    made = []
    for number in count():
        found = due(told, request, number)
        if found is None or number > 20:
            return made
        grace = GRACE if found.intervals else timedelta(0)
        numbers = [round((interval.start_at - NOON) / HOUR) for interval in found.intervals]
        made.append(((found.at - grace - NOON) / HOUR, numbers))
    raise AssertionError


@pytest.mark.conformance("3.x", "reports", "timing of report descriptors")
@pytest.mark.parametrize(
    ("timing", "wanted"),
    [
        ({}, [(4, [0, 1, 2, 3])]),
        ({"interval_count": 2}, [(4, [2, 3])]),
        ({"start_interval": 2}, [(2, [0, 1])]),
        ({"start_interval": 2, "historical": False}, [(2, [2, 3])]),
        ({"start_interval": 0, "historical": False, "interval_count": 2}, [(0, [0, 1])]),
        (
            {"start_interval": 1, "interval_count": 1, "repeat": -1},
            [(1, [0]), (2, [1]), (3, [2]), (4, [3])],
        ),
        (
            {"start_interval": 0, "interval_count": 1, "repeat": -1},
            [(1, [0]), (2, [1]), (3, [2]), (4, [3])],
        ),
        ({"start_interval": 2, "interval_count": 2, "repeat": 2}, [(2, [0, 1]), (4, [2, 3])]),
        ({"start_interval": 1, "interval_count": 1, "frequency": 2, "repeat": -1}, [(1, [0]), (3, [2])]),
        ({"start_interval": 2, "interval_count": -1, "frequency": 1, "repeat": 2}, [(2, [0, 1]), (3, [0, 1, 2])]),
        ({"repeat": -1}, [(4, [0, 1, 2, 3])]),
        ({"repeat": 0}, []),
        ({"start_interval": 9}, []),
        ({"frequency": 0, "repeat": 5}, [(4, [0, 1, 2, 3])]),
        ({"frequency": 0, "intervals": ReportIntervals.OPEN_INTERVALS}, [(0, [])]),
        (
            {"start_interval": 1, "interval_count": 1, "repeat": 2, "intervals": ReportIntervals.OPEN_INTERVALS},
            [(1, []), (2, [])],
        ),
    ],
)
def test_reports_are_made_when_and_of_what_is_asked(
    timing: dict[str, Any], wanted: list[tuple[float, list[int]]]
) -> None:
    assert plan(event(4), **timing) == wanted


def test_an_event_without_intervals_gets_one_report_of_the_present() -> None:
    assert plan(event(0)) == [(0, [])]
    assert plan(event(0), frequency=0, intervals=ReportIntervals.OPEN_INTERVALS) == [(0, [])]


def test_an_event_without_an_end_is_never_reported_at_its_end() -> None:
    assert plan(event(3, endless=True), start_interval=1, interval_count=1, repeat=-1)[:2] == [(1, [0]), (2, [1])]
    assert plan(event(1, endless=True)) == [(0, [])]


def test_sub_intervals_are_five_minutes() -> None:
    (request,) = requests_of([ReportWanted(payload_type="USAGE", intervals=ReportIntervals.SUB_INTERVALS)])
    found = due(event(2), request, 0)
    assert found is not None
    assert len(found.intervals) == 24
    assert {interval.duration for interval in found.intervals} == {timedelta(minutes=5)}


def test_a_report_covers_a_bounded_number_of_intervals() -> None:
    (request,) = requests_of([ReportWanted(payload_type="USAGE")])
    found = due(event(MAX_INTERVALS + 5), request, 0)
    assert found is not None
    assert len(found.intervals) == MAX_INTERVALS
    assert found.intervals[-1].end_at == NOON + (MAX_INTERVALS + 5) * HOUR


def test_descriptors_of_one_timing_are_one_series_whose_name_does_not_change() -> None:
    usage, demand = ReportWanted(payload_type="USAGE"), ReportWanted(payload_type="DEMAND")
    later = replace(demand, start_interval=2)
    both, other = requests_of([usage, demand, later])
    assert [each.payload_type for each in both.wanted] == ["USAGE", "DEMAND"]
    assert other.wanted == (later,)
    assert requests_of([usage])[0].key == both.key
