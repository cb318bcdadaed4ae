"""The tariff that makes a Powerwall discharge: an extreme price while the event lasts.

Tesla's optimiser sells where the price is high. There is no power in it: the battery discharges at a
power of its own choice until its reserve. Each day has the same hours; the window ends with the
command, so a device we cannot reach any more loses its reason to discharge, though not its tariff.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from vpp.domain.time import floor_to

EVENT_CODE = "VPP-EVENT"
"""Marks a tariff as ours, so that it is never taken for the owner's own."""

_EVENT_PRICE_PER_KWH = 10.0
_OTHER_PRICE_PER_KWH = 0.1
_STEP = timedelta(minutes=30)
_DAY_MINUTES = 24 * 60
_SEASON = "Summer"
_IN_EVENT, _OTHERWISE = "ON_PEAK", "OFF_PEAK"


def is_ours(tariff: Any) -> bool:
    """Whether a tariff was written by `event_tariff`."""
    return isinstance(tariff, Mapping) and tariff.get("code") == EVENT_CODE


def event_tariff(native: Mapping[str, Any], start_at: datetime, end_at: datetime, time_zone: str) -> dict[str, Any]:
    """A tariff with an extreme price, to buy and to sell, in the half hours that touch `[start_at, end_at)`.

    Buying is as dear as selling because Tesla takes no sell price above the buy price.
    Name and currency follow the owner's own tariff; prices are per kWh.
    """
    start_minute, end_minute = _window(start_at, end_at, time_zone)
    seasons = {
        _SEASON: {
            "fromMonth": 1,
            "fromDay": 1,
            "toMonth": 12,
            "toDay": 31,
            "tou_periods": {
                _IN_EVENT: {"periods": _periods(start_minute, end_minute)},
                _OTHERWISE: {"periods": _periods(end_minute, start_minute)},
            },
        },
        "Winter": {},
    }
    common = {
        "name": "Grid event",
        "utility": native.get("utility") or "Grid event",
        "daily_charges": [{"name": "Charge"}],
        "demand_charges": {"ALL": {"rates": {"ALL": 0}}, _SEASON: {}, "Winter": {}},
        "seasons": seasons,
    }
    buying = {_IN_EVENT: _EVENT_PRICE_PER_KWH, _OTHERWISE: _OTHER_PRICE_PER_KWH}
    selling = {_IN_EVENT: _EVENT_PRICE_PER_KWH, _OTHERWISE: 0.0}
    return {
        **common,
        "version": 1,
        "code": EVENT_CODE,
        "currency": native.get("currency") or "USD",
        "energy_charges": _rates(buying),
        "sell_tariff": {**common, "energy_charges": _rates(selling)},
    }


def covers(tariff: Any, start_at: datetime, end_at: datetime, time_zone: str) -> bool:
    """Whether an event tariff of ours has its extreme price throughout `[start_at, end_at)`."""
    if not is_ours(tariff):
        return False
    try:
        periods = tariff["seasons"][_SEASON]["tou_periods"][_IN_EVENT]["periods"]
        minutes = {minute for period in periods for minute in _minutes_of(period)}
    except (KeyError, TypeError):
        return False
    start_minute, end_minute = _window(start_at, end_at, time_zone)
    length = (end_minute - start_minute) % _DAY_MINUTES or _DAY_MINUTES
    return all((start_minute + offset) % _DAY_MINUTES in minutes for offset in range(length))


def _window(start_at: datetime, end_at: datetime, time_zone: str) -> tuple[int, int]:
    """First and last minute of the local day, outward to half hours."""
    zone = ZoneInfo(time_zone)
    start, end = floor_to(start_at, _STEP), floor_to(end_at, _STEP)
    end += _STEP if end < end_at else timedelta()
    local = [at.astimezone(zone) for at in (start, end)]
    return local[0].hour * 60 + local[0].minute, local[1].hour * 60 + local[1].minute


def _periods(start_minute: int, end_minute: int) -> list[dict[str, int]]:
    """One or two periods of every day; midnight at the end is written as hour 0, as Tesla does."""
    if start_minute < end_minute or end_minute == 0:
        return [_period(start_minute, end_minute)]
    return [_period(start_minute, 0), _period(0, end_minute)]


def _period(start_minute: int, end_minute: int) -> dict[str, int]:
    return {
        "fromDayOfWeek": 0,
        "toDayOfWeek": 6,
        "fromHour": start_minute // 60,
        "fromMinute": start_minute % 60,
        "toHour": end_minute // 60,
        "toMinute": end_minute % 60,
    }


def _minutes_of(period: Mapping[str, int]) -> range:
    start_minute = period.get("fromHour", 0) * 60 + period.get("fromMinute", 0)
    end_minute = period.get("toHour", 0) * 60 + period.get("toMinute", 0)
    return range(start_minute, end_minute or _DAY_MINUTES)


def _rates(prices: Mapping[str, float]) -> dict[str, Any]:
    return {"ALL": {"rates": {"ALL": 0}}, _SEASON: {"rates": dict(prices)}, "Winter": {}}
