"""Room gateway: what every type of signal means for the fleet, told the same whichever protocol it came by.

Called by `hearing` with each event received, and by whoever documents the types. `RULES` has one rule for every
`SeriesType`; a test fails for a type without one. Values are read literally and held against OpenADR 3.1's
`event-interval-payloads.schema.yaml`: PERCENT is a share of one, so 0.8 is 80 % and 80 is out of range; a value in
another unit than its type has is flagged, never converted. Where 2.0b goes beyond that schema (a change of
consumption below zero is the usual one there) 2.0b's range holds for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
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
    Direction,
    Effect,
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
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesInterval, SeriesType, Value

_S = SeriesType
MAX_TEXT_CHARS = 128
MAX_NUMBER = 1e12
ANY = ("*",)
"""Stands for: no unit, or any."""

Read = Callable[[Series, tuple[Value, ...], dict[str, Any]], FleetSignal]


class _Wrong(Exception):
    """What would have been right."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a type is read.

    Attributes:
        read: makes the meaning of one interval's values; `_Wrong` says what would be right.
        meaning: in words, for the reference.
        units: those its values may be in, "" for none stated.
        effect: what comes of it where the programme is ours and nothing is wrong with it.
        note: what we do with it, in words.
    """

    read: Read
    meaning: str
    units: tuple[str, ...] = ("",)
    effect: Effect = Effect.SHOWN
    note: str = "kept and shown"


def meanings(event: GridEvent) -> tuple[FleetSignal, ...]:
    """Return what an event means, series by series and in the order of their intervals."""
    return tuple(signal for series in event.series for signal in series_meanings(series))


def series_meanings(series: Series) -> tuple[FleetSignal, ...]:
    """Return what one series means, a signal for each interval; `NotUsable` where a value is not what it should be."""
    return tuple(_meaning(series, part) for part in series.intervals)


def _meaning(series: Series, part: SeriesInterval) -> FleetSignal:
    rule = RULES[series.type]
    end_at = _end(part)
    common: dict[str, Any] = {"type": series.type, "name": series.name, "start_at": part.start_at, "end_at": end_at}
    unit = series.unit or ""
    if rule.units != ANY and unit not in rule.units:
        right = " or ".join(each or "no unit" for each in rule.units)
        return NotUsable(
            **common, values=part.values, reason=f"{series.name} in {unit or 'no unit'}; it should be in {right}"
        )
    try:
        return rule.read(series, part.values, common)
    except _Wrong as wrong:
        said = ", ".join(_short(value) for value in part.values[:5]) or "no value"
        in_unit = f" {unit}" if unit else ""
        return NotUsable(**common, values=part.values, reason=f"{series.name} {said}{in_unit}; it should be {wrong}")


def _end(part: SeriesInterval) -> datetime | None:
    try:
        return None if part.duration is None else part.start_at + part.duration
    except OverflowError:  # beyond the calendar is no end
        return None


def _short(value: Value) -> str:
    if isinstance(value, Point):
        return f"({value.x:g}, {value.y:g})"
    return f"{value:.12g}" if isinstance(value, float) else repr(value)[:60]


def _number(values: tuple[Value, ...], right: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    stated = values[0] if len(values) == 1 else None
    if isinstance(stated, bool) or not isinstance(stated, int | float):
        raise _Wrong(right)
    if not low <= stated <= high:  # false for what is no number; an int may be too long to be a float
        raise _Wrong(right)
    return float(stated)


def _whole(values: tuple[Value, ...], right: str, low: int, high: int) -> int:
    stated = _number(values, right, low, high)
    if stated != int(stated):
        raise _Wrong(right)
    return int(stated)


def _amount(values: tuple[Value, ...], right: str, low: float = -MAX_NUMBER) -> Decimal:
    _number(values, right, low)
    return Decimal(str(values[0]))


def _power(sense: float) -> Read:
    def read(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
        return PowerOwed(**common, power_kw=sense * _number(values, "one power in kW") + 0.0)

    return read


def _level(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Level(**common, level=_whole(values, "a level of 0, 1, 2 or 3", 0, 3))


def _dispatch_level(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Level(**common, level=_whole(values, "a whole number", -(10**6), 10**6))


def _level_offset(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return LevelOffset(**common, steps=_whole(values, "a whole number from -10 to 10", -10, 10))


def _percent_offset(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return PercentOffset(**common, share=_number(values, "a share from -1 to 1, as 0.5 for 50 %", -1, 1))


def _capacity_share(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return ShareOfCapacity(**common, share=_number(values, "a share from 0 to 1", 0, 1))


def _multiplier(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Multiplier(**common, factor=_number(values, "a factor of 0 or more", 0))


def _price(kind: PriceKind) -> Read:
    def read(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
        amount = _amount(values, "one amount")
        return Price(**common, kind=kind, amount=amount, unit=series.unit, currency=series.currency)

    return read


def _demand_price(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return DemandPrice(**common, amount_per_kw=_amount(values, "one amount per kW"), currency=series.currency)


def _limit(direction: Direction) -> Read:
    def read(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
        return CapacityLimit(**common, direction=direction, limit_kw=_number(values, "one limit of 0 kW or more", 0))

    return read


def _terms(direction: Direction, what: Capacity) -> Read:
    is_power = what in (Capacity.SUBSCRIPTION, Capacity.RESERVATION)
    # the schema lets an export subscription be below zero, and what is available in either direction
    least = 0.0 if is_power and (direction, what) != (Direction.EXPORT, Capacity.SUBSCRIPTION) else -MAX_NUMBER

    def read(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
        right = "one number" if least < 0 else "one number of 0 or more"
        amount = _amount(values, right, least)
        return CapacityTerms(**common, direction=direction, what=what, amount=amount, currency=series.currency)

    return read


def _charge(kind: ChargeKind) -> Read:
    def read(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
        if series.unit == "KWH":
            low = -MAX_NUMBER if kind is ChargeKind.DELTA else 0.0
            return ChargeState(**common, kind=kind, energy_kwh=_number(values, "an energy of 0 kWh or more", low))
        if kind is ChargeKind.MULTIPLIER:
            return ChargeState(**common, kind=kind, share=_number(values, "a factor of 0 or more", 0))
        low = -1.0 if kind is ChargeKind.DELTA else 0.0
        right = f"a share from {low:g} to 1, as 0.8 for 80 %"
        return ChargeState(**common, kind=kind, share=_number(values, right, low, 1.0))

    return read


def _text(value: Value) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARS:
        raise _Wrong(f"a text of 1 to {MAX_TEXT_CHARS} characters")
    return value


def _alert(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    # the schema bounds the text of a grid emergency alone; the text of any other may be longer, and is cut
    stated = values[0] if len(values) == 1 else None
    if series.type is _S.ALERT_GRID_EMERGENCY:
        return Alert(**common, text=_text(stated if stated is not None else ""))
    if not isinstance(stated, str):
        raise _Wrong("one text")
    return Alert(**common, text=stated[:1000])


def _emissions(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Emissions(**common, grams_per_kwh=_number(values, "one number of 0 g/kWh or more", 0))


def _curve(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    points = tuple(value for value in values if isinstance(value, Point))
    if not points or len(points) != len(values):
        raise _Wrong("points with x and y")
    return Curve(**common, points=points)


def _load_shape(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return LoadShape(**common, shares=tuple(_number((value,), "shares from 0 to 1", 0, 1) for value in values))


def _instruction(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    if not values:
        raise _Wrong("at least one text")
    return Instruction(**common, texts=tuple(_text(value) for value in values))


def _setting(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    if len(values) != 1 or (isinstance(values[0], str) and not 1 <= len(values[0]) <= MAX_TEXT_CHARS):
        raise _Wrong(f"one number, text of 1 to {MAX_TEXT_CHARS} characters, true, false or point")
    return DeviceSetting(**common, value=values[0], unit=series.unit)


def _device_command(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return DeviceCommand(**common, code=_whole(values, "0 or 1", 0, 1))


def _bid(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Bid(**common, amount=_amount(values, "one number"), unit=series.unit, currency=series.currency)


def _unknown(series: Series, values: tuple[Value, ...], common: dict[str, Any]) -> FleetSignal:
    return Unknown(**common, values=values, unit=series.unit)


_COMMITTED = "owed: accepted if the fleet covers it, and carried out in the event"
_LIMITED = "a hard limit on every plan and command while it is in force, before any money"
_PRICED = "kept as the programme's prices and shown; tariffs do not follow them"
_NOT_OURS = "kept and shown; a battery has no such control"
_KEPT_CHARGE = "kept and shown with what it means for each site; no plan aims at a charge yet"
_SEEN = "shown to the operator and the owners while it is in force; it changes no control"


def _alerts() -> dict[SeriesType, Rule]:
    words = {
        "GRID_EMERGENCY": "the grid may soon fail to supply some customers",
        "BLACK_START": "the grid is coming back; use as little as can be",
        "POSSIBLE_OUTAGE": "power may be lost in the coming hours or days",
        "FLEX_ALERT": "power will be scarce; move load to other times",
        "FIRE": "danger of fire that may interrupt supply",
        "FREEZING": "dangerously low temperatures",
        "WIND": "dangerous wind",
        "TSUNAMI": "tsunami waves are expected",
        "AIR_QUALITY": "bad air",
        "OTHER": "an alert its text explains",
    }
    return {_S(f"ALERT_{name}"): Rule(_alert, f"Alert: {said}", ANY, note=_SEEN) for name, said in words.items()}


def _capacities() -> dict[SeriesType, Rule]:
    found = {}
    for direction in Direction:
        name = direction.value.upper()
        for what, type_name, said in (
            (Capacity.SUBSCRIPTION, "SUBSCRIPTION", "kW of {} subscribed to in advance"),
            (Capacity.RESERVATION, "RESERVATION", "kW of {} granted on top"),
            (Capacity.AVAILABLE, "AVAILABLE", "kW of {} that could be reserved on top"),
        ):
            words = said.format(direction.value)
            found[_S(f"{name}_CAPACITY_{type_name}")] = Rule(_terms(direction, what), words, ("KW",))
        for what, type_name, said in (
            (Capacity.RESERVATION_FEE, "RESERVATION_FEE", "Fee per kW of {} reserved on top"),
            (Capacity.AVAILABLE_PRICE, "AVAILABLE_PRICE", "Price per kW of {} that could be reserved"),
        ):
            words = said.format(direction.value)
            found[_S(f"{name}_CAPACITY_{type_name}")] = Rule(_terms(direction, what), words, ("KW",))
        words = f"The most the site, or the fleet together, may {direction.value} [kW]"
        found[_S(f"{name}_CAPACITY_LIMIT")] = Rule(_limit(direction), words, ("KW",), Effect.LIMIT, _LIMITED)
    return found


RULES: dict[SeriesType, Rule] = {
    _S.SIMPLE: Rule(_level, "Level 0 to 3; the programme says how many kW each is", ANY, Effect.COMMITTED, _COMMITTED),
    _S.DISPATCH_SETPOINT: Rule(
        _power(1.0), "Power to deliver at the grid connection [kW]", ("KW",), Effect.COMMITTED, _COMMITTED
    ),
    _S.DISPATCH_SETPOINT_RELATIVE: Rule(
        _power(-1.0), "Change of consumption [kW]; less is power delivered", ("KW",), Effect.COMMITTED, _COMMITTED
    ),
    _S.DISPATCH_MULTIPLIER: Rule(_multiplier, "Multiple of the usual consumption", ANY),
    _S.DISPATCH_LEVEL: Rule(_dispatch_level, "Level of dispatch; no programme of ours says how many kW it is", ANY),
    _S.DISPATCH_INSTRUCTION: Rule(_instruction, "Instructions agreed on outside OpenADR", ANY),
    _S.CONTROL_SETPOINT: Rule(_setting, "Setting of a device, as its programme defines it", ANY, note=_NOT_OURS),
    _S.CONTROL_LEVEL_OFFSET: Rule(
        _level_offset,
        "Whole steps from normal operation, -10 to 10; the higher, the less load",
        note="kept and shown; no programme of ours says how many kW a step is",
    ),
    _S.CONTROL_LEVEL_OFFSET_PERCENT: Rule(
        _percent_offset,
        "Change from the normal level of operation as a share of one, -1 to 1",
        ("PERCENT", ""),
        note="kept and shown; a share of the level of operation is no power",
    ),
    _S.CONTROL_CAPACITY: Rule(_capacity_share, "Share of its load control capacity to use, 0 to 1", ("PERCENT", "")),
    _S.CHARGE_STATE_SETPOINT: Rule(
        _charge(ChargeKind.SETPOINT), "Charge to hold: share of one, or kWh", ("PERCENT", "KWH"), note=_KEPT_CHARGE
    ),
    _S.CHARGE_STATE_DELTA: Rule(
        _charge(ChargeKind.DELTA), "Change of the charge: share of one, or kWh", ("PERCENT", "KWH")
    ),
    _S.CHARGE_STATE_MULTIPLIER: Rule(_charge(ChargeKind.MULTIPLIER), "Multiple of the charge", ("",)),
    _S.PRICE: Rule(_price(PriceKind.IMPORT), "Price of energy per kWh", ("KWH",), note=_PRICED),
    _S.EXPORT_PRICE: Rule(_price(PriceKind.EXPORT), "Price of exported energy per kWh", ("KWH",), note=_PRICED),
    _S.PRICE_ALTERNATE: Rule(
        _price(PriceKind.ALTERNATE), "Price of a second form of energy", ("KWH", "THERMS"), note=_PRICED
    ),
    _S.PRICE_RELATIVE: Rule(_price(PriceKind.RELATIVE), "Change of the price per kWh", ("KWH",), note=_PRICED),
    _S.PRICE_MULTIPLIER: Rule(_price(PriceKind.MULTIPLIER), "Multiple of the price", ANY, note=_PRICED),
    _S.DEMAND_CHARGE: Rule(_demand_price, "Price per kW of peak demand", ("KW",)),
    _S.GHG: Rule(_emissions, "Marginal greenhouse gas emissions [g/kWh]", ("GHG", "")),
    _S.CURVE: Rule(_curve, "Curve of points for an inverter, as its programme defines it", ANY, note=_NOT_OURS),
    _S.OLS: Rule(_load_shape, "Optimum load shape: shares of usage, 0 to 1", ("", "PERCENT")),
    **_capacities(),
    **_alerts(),
    _S.CTA2045_REBOOT: Rule(_device_command, "CTA-2045 reboot: 0 soft, 1 hard", ANY, note=_NOT_OURS),
    _S.CTA2045_SET_OVERRIDE_STATUS: Rule(_device_command, "CTA-2045 override: 0 none, 1 override", ANY, note=_NOT_OURS),
    _S.BID_PRICE: Rule(_bid, "Bid: price per kWh", ("KWH",)),
    _S.BID_LOAD: Rule(_bid, "Bid: power [kW]", ("KW",)),
    _S.BID_ENERGY: Rule(_bid, "Bid: energy [kWh]", ("KWH",)),
    _S.OTHER: Rule(_unknown, "A type nobody here knows", ANY, note="kept and shown by its name; nothing is guessed"),
}
