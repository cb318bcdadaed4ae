"""The event tariff: which hours it makes dear, in the site's own time, across midnight and back from Tesla."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from adapters.tesla import tariff, wire
from tests.builders_tesla import OWNER_TARIFF, without_zeros
from tests.shared_data import shared_data

PACIFIC = "America/Los_Angeles"
FIVE_PM = datetime(2026, 8, 20, 0, 0, tzinfo=UTC)


def _dear_minutes(content: dict[str, object], season: str = "Summer") -> set[int]:
    periods = content["seasons"][season]["tou_periods"]["ON_PEAK"]["periods"]  # type: ignore[index]
    minutes: set[int] = set()
    for it in periods:
        start, end = it["fromHour"] * 60 + it["fromMinute"], it["toHour"] * 60 + it["toMinute"]
        minutes |= set(range(start, end or 1440))
    return minutes


def test_the_dear_hours_are_the_event_s_in_local_time_outward_to_half_hours() -> None:
    content = tariff.event_tariff(
        OWNER_TARIFF, FIVE_PM + timedelta(minutes=5), FIVE_PM + timedelta(minutes=95), PACIFIC
    )
    assert _dear_minutes(content) == set(range(17 * 60, 19 * 60))


def test_an_event_across_midnight_is_two_periods() -> None:
    start = FIVE_PM + timedelta(hours=6)
    content = tariff.event_tariff(OWNER_TARIFF, start, start + timedelta(hours=2), PACIFIC)
    assert _dear_minutes(content) == {*range(23 * 60, 24 * 60), *range(60)}


@pytest.mark.parametrize("start_h", range(24))
@pytest.mark.parametrize("length_h", [1, 4, 8])
def test_every_minute_of_a_day_has_exactly_one_price(start_h: int, length_h: int) -> None:
    start = FIVE_PM + timedelta(hours=start_h)
    content = tariff.event_tariff(OWNER_TARIFF, start, start + timedelta(hours=length_h), PACIFIC)
    for side in (content, content["sell_tariff"]):
        counted = []
        for name in ("ON_PEAK", "OFF_PEAK"):
            for it in side["seasons"]["Summer"]["tou_periods"][name]["periods"]:
                begin, end = it["fromHour"] * 60 + it["fromMinute"], it["toHour"] * 60 + it["toMinute"]
                counted += range(begin, end or 1440)
        assert sorted(counted) == list(range(1440))


def test_selling_is_never_dearer_than_buying_and_pays_most_in_the_event() -> None:
    content = tariff.event_tariff(OWNER_TARIFF, FIVE_PM, FIVE_PM + timedelta(hours=1), PACIFIC)
    buy = content["energy_charges"]["Summer"]["rates"]
    sell = content["sell_tariff"]["energy_charges"]["Summer"]["rates"]
    assert all(sell[name] <= buy[name] for name in buy)
    assert sell["ON_PEAK"] > 10 * max(sell["OFF_PEAK"], 0.48)


def test_a_tariff_covers_what_it_was_made_for_and_not_more_even_as_tesla_gives_it_back() -> None:
    end = FIVE_PM + timedelta(hours=2)
    content = without_zeros(tariff.event_tariff(OWNER_TARIFF, FIVE_PM, end, PACIFIC))
    assert tariff.covers(content, FIVE_PM + timedelta(minutes=20), end, PACIFIC)
    assert not tariff.covers(content, FIVE_PM, end + timedelta(minutes=1), PACIFIC)
    assert not tariff.covers(OWNER_TARIFF, FIVE_PM, end, PACIFIC)
    assert not tariff.covers({"code": tariff.EVENT_CODE}, FIVE_PM, end, PACIFIC)


def test_tariffs_are_the_same_with_and_without_their_zeros() -> None:
    content = tariff.event_tariff(OWNER_TARIFF, FIVE_PM, FIVE_PM + timedelta(hours=1), PACIFIC)
    assert wire.same(wire.TARIFF, content, without_zeros(content))
    assert not wire.same(wire.TARIFF, content, OWNER_TARIFF)


def test_it_has_the_fields_of_a_recorded_tariff() -> None:
    path = shared_data("devices", "tesla", "python-tesla-fleet-api", "tariff_v2_sample.json")
    recorded = json.loads(path.read_text())["response"]["tariff_content_v2"]
    ours = tariff.event_tariff(recorded, FIVE_PM, FIVE_PM + timedelta(hours=1), PACIFIC)
    assert set(recorded) <= set(ours)
    assert (ours["currency"], ours["utility"]) == (recorded["currency"], recorded["utility"])
    period = recorded["seasons"]["Summer"]["tou_periods"]["PERIOD_00_30"]["periods"][0]
    assert set(period) <= set(ours["seasons"]["Summer"]["tou_periods"]["ON_PEAK"]["periods"][0])
