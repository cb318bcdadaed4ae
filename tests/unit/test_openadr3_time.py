"""Times as OpenADR 3 writes them, and when an event is over."""

from datetime import UTC, datetime, timedelta

import pytest

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3_time import event_span, parse_duration, parse_instant, says_now

STATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = "2026-03-08T00:00:00-08:00"
START_AT = datetime(2026, 3, 8, 8, tzinfo=UTC)
"""Midnight in California on the day its clocks go forward."""
HOUR = timedelta(hours=1)


def _event(*intervals: dict[str, object], **more: object) -> dict[str, object]:
    return {"intervalPeriod": {"start": START, "duration": "PT1H"}, "intervals": list(intervals)} | more


@pytest.mark.parametrize(
    ("text", "months", "rest"),
    [
        ("PT1H", 0, HOUR),
        ("P1Y2M3DT4H5M6.5S", 14, timedelta(days=3, hours=4, minutes=5, seconds=6.5)),
        ("P2W", 0, timedelta(weeks=2)),
        ("-PT5M", 0, timedelta(minutes=-5)),
        ("PT0S", 0, timedelta(0)),
    ],
)
def test_a_duration_is_read_as_iso_8601_has_it(text: str, months: int, rest: timedelta) -> None:
    found = parse_duration(text)
    assert (found.months, found.rest) == (months, rest)


@pytest.mark.parametrize("text", ["", "P", "PT", "1H", "PT1H ", "PT-1H", "P1S", "pt1h", "PT1H\n", "P" + "9" * 80 + "Y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["P9999Y", "P99999999999D", "PT" + "9" * 40 + "H", "P" + "9" * 50 + "M"])
def test_a_duration_beyond_every_calendar_never_ends(text: str) -> None:
    assert parse_duration(text).after(STATED) is None


def test_a_month_after_the_31st_is_the_last_day_of_a_shorter_month() -> None:
    assert parse_duration("P1M").after(datetime(2026, 1, 31, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["0001-01-01", "0000-00-00", "0000-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"]
)
def test_every_spelling_of_now_is_known(text: str) -> None:
    assert says_now(text)


@pytest.mark.parametrize(
    "text", ["2026-08-19T20:00:00Z", "2026-08-19 20:00:00.000Z", "2026-08-19T13:00:00-07:00", "2026-08-19T20:00:00"]
)
def test_an_instant_is_read_whatever_its_zone(text: str) -> None:
    assert parse_instant(text) == datetime(2026, 8, 19, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "noon", "20260819T200000Z", "2026-13-01T00:00:00Z", "2026-08-19T25:00:00Z", "0000-00-01"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="start"):
        parse_instant(text)


def test_a_leap_second_is_the_first_of_the_next_minute() -> None:
    assert parse_instant("2016-12-31T23:59:60Z") == datetime(2017, 1, 1, tzinfo=UTC)
    assert parse_instant("2016-12-31T18:59:60.5-05:00") == datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    with pytest.raises(InvalidRequest, match="start"):
        parse_instant("2016-12-31T23:58:60Z")


def test_intervals_without_times_follow_each_other_by_the_default_duration() -> None:
    assert event_span(_event({}, {}, {}), stated_at=STATED) == (START_AT, START_AT + 3 * HOUR)


def test_a_day_is_24_hours_on_the_day_the_clocks_change() -> None:
    event = {"intervalPeriod": {"start": START, "duration": "P1D"}, "intervals": [{}]}
    assert event_span(event, stated_at=STATED)[1] == START_AT + 24 * HOUR


def test_an_intervals_own_period_takes_precedence_and_the_last_to_end_ends_the_event() -> None:
    late = {"intervalPeriod": {"start": "2026-03-08T12:00:00Z", "duration": "PT10H"}}
    early = {"intervalPeriod": {"start": "2026-03-08T09:00:00Z"}}
    assert event_span(_event(late, early), stated_at=STATED)[1] == datetime(2026, 3, 8, 22, tzinfo=UTC)


def test_intervals_alone_state_the_start_of_an_event() -> None:
    own = {"intervalPeriod": {"start": START, "duration": "PT2H"}}
    assert event_span({"intervals": [own, {"intervalPeriod": {"duration": "PT1H"}}]}, stated_at=STATED) == (
        START_AT,
        START_AT + 3 * HOUR,
    )


@pytest.mark.parametrize("shift", ["PT10M", "-PT10M"])
def test_a_random_start_puts_the_end_off_by_as_much(shift: str) -> None:
    event = {"intervalPeriod": {"start": START, "duration": "PT1H", "randomizeStart": shift}, "intervals": [{}]}
    assert event_span(event, stated_at=STATED)[1] == START_AT + HOUR + timedelta(minutes=10)


def test_the_duration_of_an_event_repeats_or_cuts_its_intervals() -> None:
    assert event_span(_event({}, duration="P7D"), stated_at=STATED)[1] == START_AT + timedelta(days=7)
    assert event_span(_event({}, {}, {}, duration="PT2H"), stated_at=STATED)[1] == START_AT + 2 * HOUR
    assert event_span(_event({}, duration="P9999Y"), stated_at=STATED)[1] is None


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"intervals": []},
        {"intervals": [{}]},
        {"intervalPeriod": {"start": START}, "intervals": [{}]},
        {"intervalPeriod": {"start": START, "duration": "PT0S"}, "intervals": [{}]},
        {"intervalPeriod": {"start": START, "duration": "P9999Y"}, "intervals": [{}, {}]},
        {"intervalPeriod": {"start": "0001-01-01", "duration": "P9999Y"}, "intervals": [{}]},
        {"intervalPeriod": {"start": START, "duration": "PT1H"}},
    ],
)
def test_an_event_without_a_stated_end_has_none(event: dict[str, object]) -> None:
    assert event_span(event, stated_at=STATED)[1] is None


def test_an_event_from_now_on_runs_from_when_it_was_stated() -> None:
    event = {"intervalPeriod": {"start": "0001-01-01", "duration": "PT4H"}, "intervals": [{}]}
    assert event_span(event, stated_at=STATED) == (STATED, STATED + 4 * HOUR)


def test_an_event_cancelled_as_the_user_guide_has_it_is_over_at_once() -> None:
    event = {"intervalPeriod": {"start": "0001-01-01", "duration": "PT0S"}, "intervals": [{}]}
    assert event_span(event, stated_at=STATED)[1] == STATED
