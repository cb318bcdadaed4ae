"""ELRP and CSRP: when they may call, what they pay. Expected figures are worked out by hand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from market.coned_csrp import ConEdCsrp
from market.coned_csrp.program import event_factor
from market.elrp import Elrp
from tests.builders_settlement import an_event, terms
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.time import Interval
from vpp.ports import MarketProgram

AUGUST = date(2026, 8, 1)
PROGRAMMES: list[MarketProgram] = [Elrp(), ConEdCsrp()]


def window(month: int, day: int, start_utc_h: float, hours: float) -> Interval:
    start_at = datetime(2026, month, day, tzinfo=UTC) + timedelta(hours=start_utc_h)
    return Interval(start_at, start_at + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (window(8, 19, 23, 4), None),  # 16 to 20 h in California
        (window(8, 19, 23, 5), None),  # to 21 h sharp
        (window(8, 23, 24, 2), None),  # Sundays are in
        (window(8, 19, 22, 2), "between 16:00 and 21:00"),
        (window(8, 20, 2, 3), "between 16:00 and 21:00"),  # ends 22 h
        (window(4, 15, 24, 2), "May to October"),
        (window(11, 1, 24, 2), "May to October"),
        (window(10, 31, 23.5, 2), None),
        (window(8, 19, 23, 0.5), "last 1 to 5 h"),
    ],
)
def test_elrp_calls_in_season_and_hours_by_the_local_clock(given: Interval, refused: str | None) -> None:
    reason = Elrp().refuse_reason(given, "America/Los_Angeles", terms())
    assert (reason is None) if refused is None else (refused in (reason or ""))


def test_elrp_keeps_the_three_hours_of_group_a4_where_the_contract_says_so() -> None:
    refused = Elrp().refuse_reason(window(8, 19, 23, 4), "America/Los_Angeles", terms(max_event_h=3))
    assert refused == "ELRP events last 1 to 3 h; this one lasts 4 h"


def test_elrp_refuses_hours_above_sixty_a_year_where_told_how_many_were_used() -> None:
    assert "60 h" in (Elrp().refuse_reason(window(8, 19, 23, 4), "America/Los_Angeles", terms(hours_used=57)) or "")


def test_elrp_season_is_by_the_local_date_not_by_utc() -> None:
    assert Elrp().refuse_reason(window(11, 1, 1, 2), "America/Los_Angeles", terms()) is None  # 18 h on 31 October


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (window(8, 19, 18, 4), None),  # 14 to 18 h in New York
        (window(8, 22, 18, 4), "weekdays"),
        (window(10, 1, 18, 4), "May to September"),
        (window(8, 19, 18, 5), "up to 4 h"),
        (window(8, 19, 14, 4), "between 11:00 and 23:00"),
    ],
)
def test_csrp_calls_in_season_on_weekdays_in_its_networks_hours(given: Interval, refused: str | None) -> None:
    reason = ConEdCsrp().refuse_reason(given, "America/New_York", terms(call_start_h=11, call_end_h=23))
    assert (reason is None) if refused is None else (refused in (reason or ""))


@pytest.mark.parametrize("program", PROGRAMMES, ids=lambda program: program.name)
def test_a_simple_level_is_a_share_of_the_nominated_power(program: MarketProgram) -> None:
    shares = {"1": "0.5", "2": 1}
    assert program.kw_of_level(0, terms()) == 0
    assert program.kw_of_level(1, terms()) == 100
    assert program.kw_of_level(1.0, terms(level_shares=shares)) == 50
    with pytest.raises(InvalidRequest, match="level"):
        program.kw_of_level(3, terms(level_shares=shares))


def test_elrp_pays_two_dollars_a_kwh_for_each_event() -> None:
    pay = Elrp().monthly_pay(AUGUST, [an_event("10.5", "9.75"), an_event("0.001")], terms())
    assert [line.amount_cents for line in pay.lines] == [4050, 0]
    assert pay.total_cents == 4050
    assert pay.lines[0].quantity == Decimal("20.25")


def test_elrp_charges_nothing_for_an_event_below_zero_and_pays_nothing_for_what_is_not_measured() -> None:
    pay = Elrp().monthly_pay(AUGUST, [an_event("-3", "1"), an_event(None, "2")], terms())
    assert [line.amount_cents for line in pay.lines] == [0, 400]


def test_csrp_pays_reservation_by_factor_and_energy() -> None:
    # 100 kW nominated; 80 and 100 kW on average: factor (0.8 + 1) / 2 = 0.9.
    events = [
        an_event("80", "80", "80", "80"),
        an_event("120", "80", "110", "100", start_at=datetime(2026, 8, 25, tzinfo=UTC)),
    ]
    pay = ConEdCsrp().monthly_pay(AUGUST, events, terms("coned_csrp"))
    assert pay.performance_factor == Decimal("0.9")
    assert [(line.kind, line.amount_cents) for line in pay.lines] == [
        ("reservation", 162000),  # 100 x 0.9 x $18
        ("performance", 32000),
        ("performance", 41000),
    ]


@pytest.mark.parametrize("area", ["staten_island", "westchester"])
def test_csrp_pays_six_dollars_in_the_low_areas(area: str) -> None:
    pay = ConEdCsrp().monthly_pay(AUGUST, [an_event("100")], terms("coned_csrp", area=area))
    assert pay.lines[0].amount_cents == 60000


def test_csrp_adds_five_dollars_from_the_fifth_event_and_does_not_count_tests() -> None:
    def kinds(events: int, tests: int, before: int = 0) -> list[str]:
        given = [an_event("100", start_at=datetime(2026, 8, n + 1, 18, tzinfo=UTC)) for n in range(events)]
        given += [
            an_event("100", start_at=datetime(2026, 8, n + 20, 18, tzinfo=UTC), is_test=True) for n in range(tests)
        ]
        pay = ConEdCsrp().monthly_pay(AUGUST, given, terms("coned_csrp", events_before_month=before))
        return [line.kind for line in pay.lines if line.kind != "performance"]

    assert kinds(4, 1) == ["reservation"]
    assert kinds(5, 0) == ["reservation", "bonus"]
    assert kinds(2, 0, before=3) == ["reservation", "bonus"]


@pytest.mark.parametrize(
    ("event", "factor"),
    [
        (an_event("50", "50", "50", "50", "0"), "0.5"),  # the fifth hour does not count
        (an_event("30", "30"), "0.3"),  # a short event counts with what it has
        (an_event("-10"), "0"),
        (an_event("500"), "1"),
        (an_event("25", "25", step=timedelta(minutes=15)), "1"),  # 25 kWh in a quarter hour is 100 kW
        (an_event("100", "100", "100", "0", step=timedelta(minutes=90)), "0.666667"),  # 66.7 kW for 4 h
    ],
)
def test_csrp_factor_is_the_mean_power_of_the_first_four_hours(event: object, factor: str) -> None:
    assert event_factor(event, Decimal(100)) == Decimal(factor)  # type: ignore[arg-type]


def test_csrp_event_without_measurement_has_no_factor_and_no_reservation_is_invented() -> None:
    assert event_factor(an_event(None, "5"), Decimal(100)) is None
    pay = ConEdCsrp().monthly_pay(AUGUST, [an_event(None, "5")], terms("coned_csrp"))
    assert pay.performance_factor is None
    assert [line.kind for line in pay.lines] == ["performance"]


def test_csrp_without_a_nomination_says_so() -> None:
    with pytest.raises(NotReady, match="nominated"):
        ConEdCsrp().monthly_pay(AUGUST, [an_event("1")], terms("coned_csrp", "0"))
