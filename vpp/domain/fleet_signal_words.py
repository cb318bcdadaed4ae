"""A signal's meaning in one short sentence. Called by the gateway, which keeps it for the operator's pages."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from vpp.domain.fleet_signal import (
    Alert,
    Bid,
    Capacity,
    CapacityLimit,
    CapacityTerms,
    ChargeKind,
    ChargeState,
    Curve,
    DemandPrice,
    DeviceCommand,
    DeviceSetting,
    Emissions,
    FleetSignal,
    Instruction,
    Level,
    LevelOffset,
    LoadShape,
    Multiplier,
    NotUsable,
    PercentOffset,
    PowerOwed,
    Price,
    PriceKind,
    ShareOfCapacity,
    Unknown,
)
from vpp.domain.grid_event import Point, SeriesType, Value
from vpp.domain.units import percent_from_fraction

MOST_VALUES = 8
_PRICE = {
    PriceKind.IMPORT: "energy costs {}",
    PriceKind.EXPORT: "exported energy is paid {}",
    PriceKind.ALTERNATE: "the second form of energy costs {}",
    PriceKind.RELATIVE: "the price changes by {}",
    PriceKind.MULTIPLIER: "{} times the usual price",
}
_CHARGE = {
    ChargeKind.SETPOINT: "hold a charge of {}",
    ChargeKind.DELTA: "change the charge by {}",
    ChargeKind.MULTIPLIER: "{} of the charge",
}


def words(signal: FleetSignal) -> str:
    """Return what a signal says, as people would; numbers as they were stated."""
    return _WORDS[type(signal)](signal)


def _offset(steps: int) -> str:
    if steps == 0:
        return "normal operation"
    return f"{abs(steps)} step{'s' if abs(steps) != 1 else ''} {'less' if steps > 0 else 'more'} load than normal"


def _device(signal: DeviceCommand) -> str:
    if signal.type is SeriesType.CTA2045_REBOOT:
        return "hard reboot" if signal.code else "soft reboot"
    return "override" if signal.code else "no override"


def _charge(signal: ChargeState) -> str:
    if signal.energy_kwh is not None:
        return _CHARGE[signal.kind].format(f"{signal.energy_kwh:.12g} kWh")
    share = signal.share or 0.0
    return _CHARGE[signal.kind].format(
        f"{share:.12g} times" if signal.kind is ChargeKind.MULTIPLIER else _percent(share)
    )


def _price(signal: Price) -> str:
    if signal.kind is PriceKind.MULTIPLIER:
        return _PRICE[signal.kind].format(_plain(signal.amount))
    per = {"KWH": "kWh", "THERMS": "therm"}.get(signal.unit or "", signal.unit)
    return _PRICE[signal.kind].format(f"{_amount(signal.amount, signal.currency)} per {per}")


def _bid(signal: Bid) -> str:
    unit = {"KWH": "kWh", "KW": "kW"}.get(signal.unit or "", signal.unit or "")
    if signal.type is SeriesType.BID_PRICE:
        return f"bid of {_amount(signal.amount, signal.currency)} per {unit}"
    return f"bid of {_plain(signal.amount)} {unit}"


def _terms(signal: CapacityTerms) -> str:
    if signal.what in (Capacity.RESERVATION_FEE, Capacity.AVAILABLE_PRICE):
        return f"{signal.direction.value}: {signal.what.value} {_amount(signal.amount, signal.currency)} per kW"
    return f"{signal.direction.value}: {signal.what.value} of {_plain(signal.amount)} kW"


def _amount(amount: Decimal, currency: str | None) -> str:
    return f"{_plain(amount)} {currency or '(no currency stated)'}"


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"


def _percent(share: float) -> str:
    return f"{percent_from_fraction(share):.6g} %"


def _list(values: tuple[Value, ...]) -> str:
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return (", ".join(_value(value) for value in values[:MOST_VALUES]) or "no value") + more


def _value(value: Value) -> str:
    if isinstance(value, Point):
        return f"({value.x:g}, {value.y:g})"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _power(signal: PowerOwed) -> str:
    return f"deliver {signal.power_kw:.12g} kW" if signal.power_kw >= 0 else f"take {-signal.power_kw:.12g} kW"


def _level(signal: Level) -> str:
    return f"level {signal.level}" + (", normal operation" if signal.level == 0 else "")


def _setting(signal: DeviceSetting) -> str:
    return f"set to {_value(signal.value)}" + (f" {signal.unit}" if signal.unit else "")


def _unknown(signal: Unknown) -> str:
    return _list(signal.values) + (f" {signal.unit}" if signal.unit else "")


_WORDS: dict[type[FleetSignal], Callable[[Any], str]] = {
    PowerOwed: _power,
    Level: _level,
    LevelOffset: lambda signal: _offset(signal.steps),
    PercentOffset: lambda signal: f"level of operation {percent_from_fraction(signal.share):+.6g} % from normal",
    Multiplier: lambda signal: f"{signal.factor:.12g} times the usual consumption",
    ShareOfCapacity: lambda signal: f"use {_percent(signal.share)} of the load control capacity",
    Price: _price,
    DemandPrice: lambda signal: f"peak demand costs {_amount(signal.amount_per_kw, signal.currency)} per kW",
    CapacityLimit: lambda signal: f"{signal.direction.value} at most {signal.limit_kw:.12g} kW",
    CapacityTerms: _terms,
    ChargeState: _charge,
    Alert: lambda signal: signal.text,
    Emissions: lambda signal: f"{signal.grams_per_kwh:.12g} g of greenhouse gas per kWh",
    Curve: lambda signal: f"curve through {_list(signal.points)}",
    LoadShape: lambda signal: f"load shape {_list(signal.shares)}",
    Instruction: lambda signal: _list(signal.texts),
    DeviceSetting: _setting,
    DeviceCommand: _device,
    Bid: _bid,
    Unknown: _unknown,
    NotUsable: lambda signal: signal.reason,
}
