"""Local calendars: holidays, trading days and clock hours, over changes of the clock and leap days."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from vpp.domain.time import Interval
from vpp.measurement.calendars import (
    by_trading_day,
    clock_pieces,
    hour_starts,
    hours_before,
    is_business_day,
    nerc_holidays,
)

PACIFIC = ZoneInfo("America/Los_Angeles")


def at(*parts: int, zone: ZoneInfo = PACIFIC) -> datetime:
    return datetime(*parts, tzinfo=zone).astimezone(UTC)


def test_the_six_holidays_of_2026_are_known() -> None:
    assert sorted(nerc_holidays(2026)) == [
        date(2026, 1, 1),
        date(2026, 5, 25),
        date(2026, 7, 4),
        date(2026, 9, 7),
        date(2026, 11, 26),
        date(2026, 12, 25),
    ]


def test_a_sunday_holiday_is_observed_on_monday() -> None:
    assert date(2017, 1, 2) in nerc_holidays(2017)
    assert not is_business_day(date(2017, 1, 2))
    assert not is_business_day(date(2016, 12, 26))


def test_a_saturday_holiday_leaves_friday_a_business_day() -> None:
    assert is_business_day(date(2026, 7, 3))


@pytest.mark.parametrize("day", [date(2026, 11, 11), date(2026, 11, 27), date(2016, 10, 10), date(2026, 6, 19)])
def test_other_holidays_are_business_days(day: date) -> None:
    assert is_business_day(day)


def test_a_leap_day_is_a_day_like_others() -> None:
    assert is_business_day(date(2028, 2, 29))
    pieces = clock_pieces(Interval(at(2028, 2, 29, 23), at(2028, 3, 1, 1)), PACIFIC)
    assert [(piece.day, piece.hour) for piece in pieces] == [(date(2028, 2, 29), 23), (date(2028, 3, 1), 0)]


def test_pieces_keep_the_window_whole_when_it_starts_between_hours() -> None:
    window = Interval(at(2026, 8, 19, 16, 7), at(2026, 8, 19, 18, 7))
    pieces = clock_pieces(window, PACIFIC)
    assert [piece.hour for piece in pieces] == [16, 17, 18]
    assert sum((piece.interval.duration for piece in pieces), timedelta()) == window.duration


def test_pieces_can_be_quarter_hours() -> None:
    pieces = clock_pieces(Interval(at(2026, 8, 19, 16, 7), at(2026, 8, 19, 17)), PACIFIC, timedelta(minutes=15))
    assert [piece.interval.duration for piece in pieces] == [timedelta(minutes=m) for m in (8, 15, 15, 15)]


def test_zones_off_the_full_hour_are_cut_at_their_own_hours() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    pieces = clock_pieces(Interval(at(2026, 8, 19, 16, zone=kolkata), at(2026, 8, 19, 18, zone=kolkata)), kolkata)
    assert [piece.hour for piece in pieces] == [16, 17]


def test_the_clock_put_back_gives_an_hour_twice_and_put_on_gives_none() -> None:
    assert len(hour_starts(date(2026, 11, 1), 1, PACIFIC)) == 2
    assert hour_starts(date(2026, 3, 8), 2, PACIFIC) == ()
    assert len(hour_starts(date(2026, 3, 8), 3, PACIFIC)) == 1
    assert len(clock_pieces(Interval(at(2026, 11, 1, 0), at(2026, 11, 2, 0)), PACIFIC)) == 25
    assert len(clock_pieces(Interval(at(2026, 3, 8, 0), at(2026, 3, 9, 0)), PACIFIC)) == 23


def test_hours_before_are_counted_in_elapsed_time_over_a_clock_change() -> None:
    assert hours_before(at(2026, 8, 19, 17, 30), PACIFIC, 4, 2) == tuple((date(2026, 8, 19), h) for h in (13, 14, 15))
    assert hours_before(at(2026, 3, 8, 4), PACIFIC, 4, 2) == (
        (date(2026, 3, 7), 23),
        (date(2026, 3, 8), 0),
        (date(2026, 3, 8), 1),
    )


def test_an_event_over_midnight_belongs_to_two_trading_days() -> None:
    parts = by_trading_day(clock_pieces(Interval(at(2026, 8, 21, 22), at(2026, 8, 22, 2)), PACIFIC))
    assert [(day, [p.hour for p in part]) for day, part in parts] == [
        (date(2026, 8, 21), [22, 23]),
        (date(2026, 8, 22), [0, 1]),
    ]
