"""The signals an event may carry, as people choose them: words, units and what a value is. Called by the event form."""

from dataclasses import dataclass

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Point, SeriesType, Value

_S = SeriesType
MAX_TEXT = 200
MAX_POINTS = 50


@dataclass(frozen=True, slots=True)
class Signal:
    """How one type of signal is asked for: its units, the first of them usual; () where it has none."""

    title: str
    group: str
    units: tuple[str, ...] = ()
    currency: bool = False
    kind: str = "number"


_POWER, _PRICES, _LEVELS = "Power and energy", "Prices", "Levels and controls"
_CAPACITY, _ALERTS, _OTHERS = "Capacity limits and reservations", "Alerts", "Other"
_KW, _KWH = ("KW",), ("KWH", "THERMS")
_ELECTRIC = ("KW", "KVA", "KVAR")


def _capacities() -> dict[SeriesType, Signal]:
    found = {}
    for way in ("IMPORT", "EXPORT"):
        word = way.capitalize()
        for name, words in (
            ("LIMIT", "capacity limit"),
            ("SUBSCRIPTION", "capacity subscribed"),
            ("RESERVATION", "capacity reserved"),
            ("AVAILABLE", "capacity available"),
        ):
            found[_S(f"{way}_CAPACITY_{name}")] = Signal(f"{word} {words}", _CAPACITY, _ELECTRIC)
        for name, words in (("RESERVATION_FEE", "reservation fee"), ("AVAILABLE_PRICE", "price of capacity")):
            found[_S(f"{way}_CAPACITY_{name}")] = Signal(f"{word} {words}", _CAPACITY, _KW, currency=True)
    return found


SIGNALS: dict[SeriesType, Signal] = {
    _S.SIMPLE: Signal("Simple level, 0 to 3", _LEVELS),
    _S.DISPATCH_SETPOINT: Signal("Dispatch: consumption to hold", _POWER, _ELECTRIC),
    _S.DISPATCH_SETPOINT_RELATIVE: Signal("Dispatch: change of consumption", _POWER, (*_ELECTRIC, "PERCENT")),
    _S.DISPATCH_MULTIPLIER: Signal("Dispatch: multiple of usual consumption", _POWER),
    _S.DISPATCH_LEVEL: Signal("Dispatch: level", _POWER),
    _S.DISPATCH_INSTRUCTION: Signal("Dispatch: instructions agreed on", _POWER, kind="text"),
    _S.CHARGE_STATE_SETPOINT: Signal("State of charge to reach", _POWER, ("PERCENT", "KWH")),
    _S.CHARGE_STATE_DELTA: Signal("Change of the state of charge", _POWER, ("KWH", "PERCENT")),
    _S.CHARGE_STATE_MULTIPLIER: Signal("Multiple of the state of charge", _POWER),
    _S.CONTROL_SETPOINT: Signal("Setting of a device", _LEVELS, ("CELSIUS", "FAHRENHEIT", "KW", "PERCENT", "VOLTS")),
    _S.CONTROL_LEVEL_OFFSET: Signal("Control level offset, \u221210 to 10", _LEVELS),
    _S.CONTROL_LEVEL_OFFSET_PERCENT: Signal("Control level offset as a share of one", _LEVELS, ("PERCENT",)),
    _S.CONTROL_CAPACITY: Signal("Share of capacity to use", _LEVELS, ("PERCENT",)),
    _S.PRICE: Signal("Price of energy", _PRICES, _KWH, currency=True),
    _S.PRICE_ALTERNATE: Signal("Price of a second form of energy", _PRICES, ("THERMS", "KWH"), currency=True),
    _S.EXPORT_PRICE: Signal("Price of exported energy", _PRICES, _KWH, currency=True),
    _S.PRICE_RELATIVE: Signal("Change of the price", _PRICES, _KWH, currency=True),
    _S.PRICE_MULTIPLIER: Signal("Multiple of the price", _PRICES),
    _S.DEMAND_CHARGE: Signal("Demand charge", _PRICES, _KW, currency=True),
    _S.BID_PRICE: Signal("Bid: price", _PRICES, _KWH, currency=True),
    _S.BID_LOAD: Signal("Bid: power", _PRICES, _KW),
    _S.BID_ENERGY: Signal("Bid: energy", _PRICES, ("KWH",)),
    _S.GHG: Signal("Greenhouse gas emissions", _PRICES, ("GHG",)),
    **_capacities(),
    _S.ALERT_GRID_EMERGENCY: Signal("Alert: grid emergency", _ALERTS, kind="text"),
    _S.ALERT_BLACK_START: Signal("Alert: black start", _ALERTS, kind="text"),
    _S.ALERT_POSSIBLE_OUTAGE: Signal("Alert: possible outage", _ALERTS, kind="text"),
    _S.ALERT_FLEX_ALERT: Signal("Alert: flex alert", _ALERTS, kind="text"),
    _S.ALERT_FIRE: Signal("Alert: fire", _ALERTS, kind="text"),
    _S.ALERT_FREEZING: Signal("Alert: freezing", _ALERTS, kind="text"),
    _S.ALERT_WIND: Signal("Alert: wind", _ALERTS, kind="text"),
    _S.ALERT_TSUNAMI: Signal("Alert: tsunami", _ALERTS, kind="text"),
    _S.ALERT_AIR_QUALITY: Signal("Alert: air quality", _ALERTS, kind="text"),
    _S.ALERT_OTHER: Signal("Alert: other", _ALERTS, kind="text"),
    _S.CURVE: Signal("Curve of points", _OTHERS, kind="points"),
    _S.OLS: Signal("Optimum load shape, shares of one", _OTHERS, kind="list"),
    _S.CTA2045_REBOOT: Signal("CTA-2045: reboot", _OTHERS, kind="list"),
    _S.CTA2045_SET_OVERRIDE_STATUS: Signal("CTA-2045: set override", _OTHERS),
    _S.OTHER: Signal("A private type", _OTHERS, ("KW", "KWH", "PERCENT"), kind="any"),
}

HINTS = {
    "number": "A number.",
    "text": "A text; several apart by semicolons.",
    "list": "Numbers, apart by semicolons.",
    "points": "Points as 0.95, 0.3; 1.05, \u22120.3",
    "any": "Numbers or texts, apart by semicolons.",
}


def title_of(type_: SeriesType, name: str = "") -> str:
    """The words for a type, or a private type's own name."""
    return name if type_ is SeriesType.OTHER and name else SIGNALS[type_].title


def read_values(kind: str, text: str, field: str) -> tuple[Value, ...]:
    """Return the values a person typed into one interval.

    Raises:
        InvalidRequest: the text is no value of this kind; names the field.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts or len(parts) > MAX_POINTS or any(len(part) > MAX_TEXT for part in parts):
        raise InvalidRequest(field, text[:MAX_TEXT], f"1 to {MAX_POINTS} values of at most {MAX_TEXT} characters")
    if kind == "number" and len(parts) != 1:
        raise InvalidRequest(field, text[:MAX_TEXT], "one number")
    return tuple(_value(kind, part, field) for part in parts)


def _value(kind: str, text: str, field: str) -> Value:
    if kind == "text":
        return text
    if kind == "points":
        x, comma, y = text.partition(",")
        if not comma:
            raise InvalidRequest(field, text, "two numbers with a comma between them")
        return Point(_number(x, field), _number(y, field))
    try:
        return _number(text, field)
    except InvalidRequest:
        if kind == "any":
            return text
        raise


def _number(text: str, field: str) -> float:
    plain = text.strip().replace("\u2212", "-")
    try:
        number = float(plain)
    except ValueError:
        number = float("nan")
    if not abs(number) <= 1e12:
        raise InvalidRequest(field, text, "a number")
    return number


def value_words(values: tuple[Value, ...]) -> str:
    """Values as a person types them."""
    return "; ".join(_words(value) for value in values)


def _words(value: Value) -> str:
    if isinstance(value, Point):
        return f"{_words(value.x)}, {_words(value.y)}"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
