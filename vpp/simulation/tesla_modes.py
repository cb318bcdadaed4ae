"""Room simulation: what a Powerwall does under its owner's settings, including a tariff it trades against.

Called by `world` and `history`; the settings arrive through `tesla_server`. There is no kW setpoint: the
site is steered by mode, reserve, export rule and tariff, as the Fleet API has it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

MINUTES_A_DAY = 1440
MINUTES_A_WEEK = 7 * MINUTES_A_DAY
HOLD, TO_LOAD, EXPORT = 0, 1, 2

Table = npt.NDArray[np.int8]

MODES = ("self_consumption", "autonomous", "backup")
EXPORT_RULES = ("battery_ok", "pv_only", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeslaSettings:
    """What the owner's account has set, as the API names it."""

    backup_reserve_percent: float
    default_real_mode: str = "self_consumption"
    customer_preferred_export_rule: str = "pv_only"
    disallow_charge_from_grid_with_solar_installed: bool = True
    storm_mode_enabled: bool = False
    off_grid_vehicle_charging_reserve_percent: float = 0.0
    tariff_content_v2: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **settings: Any) -> "TeslaSettings":
        """The settings with some replaced."""
        return replace(self, **settings)


def time_of_use_tariff(
    peak_per_kwh: float, other_per_kwh: float, export_per_kwh: float, peak_h: tuple[int, int]
) -> dict[str, Any]:
    """A two-price tariff in the API's form; `peak_h` are local clock hours `[start, end)`."""
    start, end = peak_h
    week = {"fromDayOfWeek": 0, "toDayOfWeek": 6}
    periods = {
        "ON_PEAK": {"periods": [{**week, "fromHour": start, "toHour": end}]},
        "OFF_PEAK": {"periods": [{**week, "toHour": start}, {**week, "fromHour": end, "toHour": 24}]},
    }

    def side(rates: dict[str, float]) -> dict[str, Any]:
        return {
            "energy_charges": {"ALL": {"rates": {"ALL": 0}}, "Summer": {"rates": rates}, "Winter": {}},
            "demand_charges": {"ALL": {"rates": {"ALL": 0}}, "Summer": {}, "Winter": {}},
            "daily_charges": [{"name": "Charge"}],
            "seasons": {
                "Summer": {"fromDay": 1, "toDay": 31, "fromMonth": 1, "toMonth": 12, "tou_periods": periods},
                "Winter": {},
            },
        }

    return {
        "version": 1,
        "utility": "Golden Coast Electric",
        "code": "TOU-4-9",
        "name": "Time of use, 4 to 9 pm",
        "currency": "USD",
        **side({"ON_PEAK": peak_per_kwh, "OFF_PEAK": other_per_kwh}),
        "sell_tariff": {"name": "Export", **side({"ON_PEAK": export_per_kwh, "OFF_PEAK": export_per_kwh})},
    }


def trade_table(tariff: Mapping[str, Any], day: date) -> Table:
    """What 'autonomous' does in each minute of a local week from Monday 00:00, shape (10080,), on `day`'s season.

    * EXPORT where selling now earns more than buying costs at any other price of the tariff: a battery
      that may export then sells all it has.
    * TO_LOAD where energy is dearest: the battery carries the load.
    * HOLD elsewhere, and where all hours cost the same: a flat tariff leaves nothing to trade.
    """
    return _cached_table(json.dumps(tariff, sort_keys=True), day.month, day.day)


@lru_cache(maxsize=4096)
def _cached_table(tariff_json: str, month: int, day: int) -> Table:
    tariff = json.loads(tariff_json)
    buy = _prices(tariff, month, day)
    sell = _prices(tariff.get("sell_tariff") or {}, month, day)
    table = np.full(MINUTES_A_WEEK, HOLD, dtype=np.int8)
    known = np.isfinite(buy)
    if known.any() and buy[known].max() > buy[known].min():
        table[known & (buy == buy[known].max())] = TO_LOAD
    for price in np.unique(sell[np.isfinite(sell)]):
        now = sell == price
        elsewhere = buy[known & ~now]
        if elsewhere.size and price > elsewhere.max() and price > np.nanmin(sell):
            table[now] = EXPORT
    table.setflags(write=False)
    return table


def _prices(tariff: Mapping[str, Any], month: int, day: int) -> npt.NDArray[np.float64]:
    """Price per kWh in each minute of the local week; NaN where the tariff says nothing."""
    prices = np.full(MINUTES_A_WEEK, np.nan)
    charges = tariff.get("energy_charges") or {}
    everywhere = ((charges.get("ALL") or {}).get("rates") or {}).get("ALL")
    if everywhere:
        prices[:] = float(everywhere)
    for name, season in (tariff.get("seasons") or {}).items():
        if not season or not _in_season(season, month, day):
            continue
        rates = (charges.get(name) or {}).get("rates") or {}
        for period, where in (season.get("tou_periods") or {}).items():
            price = rates.get(period, rates.get("ALL", everywhere))
            for stretch in where.get("periods", ()) if isinstance(where, Mapping) else where:
                _fill(prices, stretch, float(price or 0.0))
    return prices


def _in_season(season: Mapping[str, Any], month: int, day: int) -> bool:
    first = (season.get("fromMonth", 1), season.get("fromDay", 1))
    last = (season.get("toMonth", 12), season.get("toDay", 31))
    now = (month, day)
    return first <= now <= last if first <= last else now >= first or now <= last


def _fill(prices: npt.NDArray[np.float64], stretch: Mapping[str, int], price_per_kwh: float) -> None:
    """Set one stretch of clock time on its weekdays (0 is Monday); an end not after the start is past midnight."""
    start = stretch.get("fromHour", 0) * 60 + stretch.get("fromMinute", 0)
    end = stretch.get("toHour", 0) * 60 + stretch.get("toMinute", 0)
    if end <= start:
        end += MINUTES_A_DAY
    first, last = stretch.get("fromDayOfWeek", 0), stretch.get("toDayOfWeek", 0)
    for weekday in range(first, last + 1 if last >= first else last + 8):
        begin = (weekday % 7) * MINUTES_A_DAY + start
        prices[np.arange(begin, begin + end - start) % MINUTES_A_WEEK] = price_per_kwh
