"""Numbers, times and states are said the same way everywhere, and what is unknown is said to be."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.builders import a_commitment
from tests.clock import NOON
from vpp.domain.commitment import CommitmentState
from vpp.domain.fleet import Quality
from vpp.domain.time import Interval
from vpp.portal import render
from vpp.portal.chart import MOST_STEPS, chart, chart_steps
from vpp.portal.credentials import hash_password, password_matches
from vpp.portal.live import encode
from vpp.portal.queries_events import CycleRow, DeliveryRow
from vpp.portal.queries_fleet import Part, PowerBucket, SiteRow
from vpp.portal.report import measured_report, preliminary_report
from vpp.portal.sign_in import local_path
from vpp.portal.site_state import SiteState, site_state

THIN = "\u202f"
FIVE = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (render.power(None), "unknown"),
        (render.power(4.04), "4.0 kW"),
        (render.power(-0.0001), "0.0 kW"),
        (render.power(-3.2), "\u22123.2 kW"),
        (render.power(5200), f"5{THIN}200 kW"),
        (render.power(12_345), "12.35 MW"),
        (render.energy(2.7), "2.70 kWh"),
        (render.energy(1234.5), f"1{THIN}234 kWh"),
        (render.percent(0.973, 1), f"97.3{THIN}%"),
        (render.percent(None), "unknown"),
        (render.money(123456), "$1,234.56"),
        (render.money(-5), "\u2212$0.05"),
        (render.price(Decimal("2")), "$2.00"),
        (render.price(Decimal("0.04125")), "$0.04125"),
        (render.age(40), "40 s"),
        (render.age(36 * 60), "36 min"),
        (render.age(None), "never"),
        (render.days([date(2026, 7, 30), date(2026, 7, 31), date(2026, 8, 3)]), "30, 31 Jul, 3 Aug"),
    ],
)
def test_a_number_is_said_with_its_unit(shown: str, text: str) -> None:
    assert shown == text


def test_an_event_over_the_end_of_summer_time_names_both_days_and_the_zone() -> None:
    start_at = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    shown = render.window(start_at, start_at + timedelta(hours=4), "America/Los_Angeles")
    assert shown == "Sat 31 Oct 2026, 23:30 to Sun 01 Nov, 02:30 PST"


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "evil", ""])
def test_after_sign_in_nobody_is_sent_to_another_site(wanted: str) -> None:
    assert local_path(wanted) == ""


def test_a_password_matches_its_own_hash_only() -> None:
    stored = hash_password("correct horse battery")
    assert password_matches("correct horse battery", stored)
    assert not password_matches("correct horse", stored)
    assert not password_matches("correct horse battery", "md5$abc")
    assert hash_password("correct horse battery") != stored


def a_row(**changes: object) -> SiteRow:
    usual: dict[str, object] = {
        "id": "s1", "name": "S", "owner_id": "o", "time_zone": "UTC", "adapter": "sunspec", "capacity_kwh": 10.0,
        "max_discharge_kw": 5.0, "reserve_soc": 0.2, "measured_at": NOON, "battery_kw": 4.0, "grid_kw": 3.0,
        "soc": 0.5, "islanded": False,
    }  # fmt: skip
    return SiteRow(**{**usual, **changes})  # type: ignore[arg-type]


def a_part(**changes: object) -> Part:
    usual: dict[str, object] = {
        "command_state": "readback_ok", "power_kw": 4.0, "expires_at": NOON + FIVE, "saved": True,
    }  # fmt: skip
    return Part(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quality", "row", "part", "event_state", "state"),
    [
        (Quality.GOOD, {}, {}, "active", SiteState.DELIVERING),
        (Quality.GOOD, {}, {"expires_at": NOON - FIVE}, "active", SiteState.STANDBY),
        (Quality.GOOD, {}, {"power_kw": 0.0}, "active", SiteState.STANDBY),
        (Quality.GOOD, {}, {"command_state": "failed"}, "active", SiteState.FAILED),
        (Quality.GOOD, {}, {"command_state": "unknown"}, "active", SiteState.FAILED),
        (Quality.GOOD, {"islanded": True}, {}, "active", SiteState.ISLANDED),
        (Quality.STALE, {}, {}, "active", SiteState.STALE),
        (Quality.FROZEN, {}, {}, "active", SiteState.FROZEN),
        (Quality.MISSING, {}, None, "active", SiteState.MISSING),
        (Quality.OUT_OF_RANGE, {}, {}, "active", SiteState.OUT_OF_RANGE),
        (Quality.GOOD, {}, None, "accepted", SiteState.STANDBY),
        (Quality.STALE, {}, {"verified_at": NOON}, "releasing", SiteState.HANDED_BACK),
        (Quality.GOOD, {}, {"verified_at": None}, "releasing", SiteState.HANDBACK_OWED),
        (Quality.STALE, {}, None, "settled", SiteState.NOT_CALLED),
    ],
)
def test_each_site_is_in_one_state(
    quality: Quality, row: dict[str, object], part: dict[str, object] | None, event_state: str, state: SiteState
) -> None:
    own = None if part is None else a_part(**part)
    found, reason = site_state(quality, a_row(**row), own, CommitmentState(event_state), NOON)
    assert found is state
    assert bool(reason) == (
        state.name in ("FAILED", "ISLANDED", "STALE", "FROZEN", "MISSING", "OUT_OF_RANGE", "HANDBACK_OWED")
    )


def a_cycle(start_at: datetime, **changes: float) -> CycleRow:
    usual = {"target_kw": 10.0, "planned_kw": 9.0, "shortfall_kw": 1.0, "forecast_kwh": 9.5} | changes
    return CycleRow(start_at=start_at, end_at=start_at + FIVE, **usual)


def test_the_chart_shows_no_power_for_steps_nobody_measured_or_planned() -> None:
    event = a_commitment(10.0)
    start_at = event.window.start_at
    steps = chart_steps(event.window, FIVE)
    drawn = chart(
        steps,
        event,
        [a_cycle(start_at), a_cycle(start_at + 2 * FIVE)],
        [PowerBucket(start_at=start_at, power_kw=8.0, heard=2)],
    )
    assert drawn.planned_kw[:4] == [9.0, None, 9.0, None]
    assert drawn.metered_kw[:3] == [8.0, None, None]
    assert set(drawn.target_kw) == {10.0}
    assert len(drawn.at_s) == len(drawn.target_kw) == 13


def test_a_chart_never_has_too_many_steps() -> None:
    long = Interval(NOON, NOON + timedelta(days=30))
    assert len(chart_steps(long, timedelta(seconds=10))) <= MOST_STEPS + 1


def test_the_report_is_preliminary_until_measured_and_then_tells_what_could_not_be() -> None:
    event = a_commitment(10.0, 10.0)
    first = Interval(event.window.start_at, event.window.start_at + timedelta(hours=1))
    second = first.shifted(timedelta(hours=1))
    early = preliminary_report(
        event, [a_cycle(first.start_at)], [PowerBucket(start_at=first.start_at, power_kw=8.0, heard=2)], [first, second]
    )
    assert (early.status, early.delivered_kwh, early.rows[1].delivered_kw) == ("preliminary", 8.0, None)
    assert [row.expected_kw for row in early.rows] == [9.0, None]
    measured = [
        DeliveryRow(
            method="submeter", start_at=hour.start_at, end_at=hour.end_at, committed_kwh=Decimal(10),
            baseline_kwh=None, metered_kwh=delivered, delivered_kwh=delivered,
        )
        for hour, delivered in ((first, Decimal("9.5")), (second, None))
    ]  # fmt: skip
    final = measured_report(event, [], measured)
    assert (final.status, final.delivered_kwh, final.delivered_fraction) == ("measured", 9.5, 0.475)
    assert final.rows[1].delivered_kw is None


def test_a_picture_is_new_only_if_more_than_its_time_changed() -> None:
    first, later, other = (
        encode({"as_of": "12:00", "n": 1}),
        encode({"as_of": "12:01", "n": 1}),
        encode({"as_of": "12:01", "n": 2}),
    )
    assert first.id == later.id != other.id
