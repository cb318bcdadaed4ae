"""The rules of CAISO 10-in-10 one by one, on made-up loads."""

from collections.abc import Callable, Collection
from datetime import date, timedelta

import numpy as np
import pytest

from vpp.domain.errors import InvalidRequest
from vpp.measurement.baselines.caiso_10_in_10 import Rules, caiso_10_in_10
from vpp.measurement.baselines.days import Baseline, DayLoads, day_loads
from vpp.measurement.calendars import is_business_day

WEDNESDAY = date(2026, 8, 19)
DAYS = [WEDNESDAY - timedelta(days=back) for back in range(60)]
EVENT_HOURS, WINDOW_HOURS = [17, 18], [13, 14, 15]


def loads(
    load_kwh: Callable[[date, int], float | None] = lambda day, hour: 1.0, trading_day: date = WEDNESDAY
) -> DayLoads:
    days = [trading_day - timedelta(days=back) for back in range(60)]
    series = {(day, hour): kwh for day in days for hour in range(24) if (kwh := load_kwh(day, hour)) is not None}
    return day_loads(series, days, EVENT_HOURS, WINDOW_HOURS)


def baseline(given: DayLoads, event_days: Collection[date] = (), **rules: object) -> Baseline:
    return caiso_10_in_10(WEDNESDAY, given, event_days=event_days, rules=Rules(**rules))  # type: ignore[arg-type]


def codes(found: Baseline) -> list[str]:
    return [finding["code"] for finding in found.findings]


def test_ten_business_days_are_taken_most_recent_first() -> None:
    found = baseline(loads())
    assert len(found.days) == 10
    assert found.days[0] == date(2026, 8, 5)
    assert found.days[-1] == date(2026, 8, 18)
    assert all(is_business_day(day) for day in found.days)


def test_four_other_days_are_taken_for_a_weekend_day() -> None:
    saturday = date(2026, 8, 22)
    found = caiso_10_in_10(saturday, loads(trading_day=saturday), event_days=())
    assert [day.isoformat() for day in found.days] == ["2026-08-08", "2026-08-09", "2026-08-15", "2026-08-16"]


def test_event_and_outage_days_are_left_out() -> None:
    found = caiso_10_in_10(WEDNESDAY, loads(), event_days={date(2026, 8, 18)}, outage_days={date(2026, 8, 17)})
    assert date(2026, 8, 18) not in found.days
    assert date(2026, 8, 17) not in found.days
    assert len(found.days) == 10


def test_the_45th_day_back_is_used_and_the_46th_never() -> None:
    friday = date(2026, 8, 21)
    last, beyond = friday - timedelta(days=45), friday - timedelta(days=46)
    assert is_business_day(last)
    assert is_business_day(beyond)
    busy = {friday - timedelta(days=back) for back in range(60)} - {last, beyond}
    found = caiso_10_in_10(friday, loads(trading_day=friday), event_days=busy)
    assert last in found.days
    assert beyond not in found.days


def test_between_five_and_ten_days_no_event_day_is_added() -> None:
    free = [day for day in DAYS[1:] if is_business_day(day)][:7]
    found = baseline(loads(), event_days=set(DAYS) - set(free))
    assert set(found.days) == set(free)


def test_below_five_days_the_event_days_with_the_highest_load_are_added() -> None:
    business = [day for day in DAYS[1:46] if is_business_day(day)]
    high = {business[20]: 9.0, business[25]: 8.0}
    given = loads(lambda day, hour: high.get(day, 1.0))
    found = baseline(given, event_days=set(DAYS) - set(business[:3]))
    assert set(found.days) == {*business[:3], business[20], business[25]}
    assert "event_days_added" in codes(found)


def test_equal_event_days_are_added_most_recent_first() -> None:
    business = [day for day in DAYS[1:46] if is_business_day(day)]
    found = baseline(loads(), event_days=set(DAYS))
    assert set(found.days) == set(business[:5])


def test_with_fewer_than_five_days_in_all_nothing_is_pretended() -> None:
    """Holds conventions, rule 8."""
    business = [day for day in DAYS[1:46] if is_business_day(day)]
    given = loads(lambda day, hour: 1.0 if day in business[:4] or day == WEDNESDAY else None)
    found = baseline(given)
    assert found.baseline_kwh is None
    assert "too_few_days" in codes(found)


@pytest.mark.parametrize(("today_kwh", "adjustment"), [(3.0, 1.2), (0.1, 0.8), (1.1, 1.1), (-5.0, 0.8)])
def test_the_adjustment_is_the_ratio_of_the_hours_before_within_its_cap(today_kwh: float, adjustment: float) -> None:
    found = baseline(loads(lambda day, hour: today_kwh if day == WEDNESDAY and hour in WINDOW_HOURS else 1.0))
    assert found.ratio == pytest.approx(today_kwh)
    assert found.adjustment == pytest.approx(adjustment)
    assert found.baseline_kwh == pytest.approx([adjustment] * 2)


def test_the_hour_just_before_the_event_does_not_count() -> None:
    found = baseline(loads(lambda day, hour: 50.0 if day == WEDNESDAY and hour == 16 else 1.0))
    assert found.adjustment == 1.0


def test_unadjusted_reports_the_ratio_and_does_not_apply_it() -> None:
    found = baseline(loads(lambda day, hour: 3.0 if day == WEDNESDAY else 1.0), adjusted=False)
    assert (found.method, found.ratio, found.adjustment) == ("caiso_10_in_10_unadjusted", 3.0, 1.0)
    assert found.baseline_kwh == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("window_kwh", [0.0, -2.0, 1e-9])
def test_an_exporting_window_makes_the_event_not_measurable(window_kwh: float) -> None:
    found = baseline(loads(lambda day, hour: window_kwh if hour in WINDOW_HOURS else 1.0))
    assert found.ratio is None
    assert found.baseline_kwh is None
    assert codes(found) == ["ratio_undefined", "not_measurable"]


def test_an_exporting_window_counts_as_ratio_one_only_where_the_terms_say_so() -> None:
    given = loads(lambda day, hour: -2.0 if hour in WINDOW_HOURS else 1.0)
    found = baseline(given, ratio_one_if_undefined=True)
    assert found.baseline_kwh == pytest.approx([1.0, 1.0])
    assert codes(found) == ["ratio_undefined", "ratio_one"]


def test_a_missing_window_today_is_not_measurable() -> None:
    found = baseline(loads(lambda day, hour: None if (day, hour) == (WEDNESDAY, 14) else 1.0))
    assert found.baseline_kwh is None
    assert "no_window" in codes(found)


def test_a_day_with_a_missing_hour_is_passed_over_and_said() -> None:
    gap = date(2026, 8, 18)
    found = baseline(loads(lambda day, hour: None if (day, hour) == (gap, 17) else 1.0))
    assert gap not in found.days
    assert len(found.days) == 10
    assert found.findings[0]["days"] == ["2026-08-18"]


def test_a_gap_of_one_site_among_many_is_filled_with_its_own_mean() -> None:
    shape = (20, len(DAYS))
    present = np.ones((*shape, 2), dtype=np.bool_)
    present[3, 1, 0] = False
    given = DayLoads(
        days=tuple(DAYS),
        event_kwh=np.where(present, np.arange(20.0)[:, None, None], 0.0),
        event_present=present,
        window_kwh=np.ones((*shape, 3)),
        window_present=np.ones((*shape, 3), dtype=np.bool_),
    )
    found = baseline(given)
    assert found.baseline_kwh == pytest.approx([190.0, 190.0])
    assert found.findings[0] == {
        "code": "site_days_filled",
        "text": "days of single sites are missing; each is filled with that site's mean of the other days",
        "site_days": 1,
    }


def test_a_site_without_history_is_not_counted() -> None:
    present = np.ones((20, len(DAYS), 2), dtype=np.bool_)
    present[19, 1:] = False
    given = DayLoads(
        days=tuple(DAYS),
        event_kwh=np.where(present, 1.0, 0.0),
        event_present=present,
        window_kwh=np.ones((20, len(DAYS), 3)),
        window_present=np.ones((20, len(DAYS), 3), dtype=np.bool_),
    )
    found = baseline(given)
    assert found.counted.tolist() == [True] * 19 + [False]
    assert found.baseline_kwh == pytest.approx([19.0, 19.0])


def test_an_infinite_load_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        loads(lambda day, hour: float("inf"))
