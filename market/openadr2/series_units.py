"""Room openadr2: units of signals, between 2.0b's item bases and the domain's words. Called by the event codec.

The domain holds kW, kWh and shares of one, with OpenADR 3's words for units; 2.0b has an item base with an SI
prefix. Values are shifted by powers of ten, never rounded. What is written has power and energy in k.
"""

from market.openadr2.items import Item
from vpp.domain.grid_event import Series, SeriesType

_UNIT_OF_ITEM = {
    "powerReal": ("KW", -3),
    "powerApparent": ("KVA", -3),
    "powerReactive": ("KVAR", -3),
    "energyReal": ("KWH", -3),
    "energyApparent": ("KVAH", -3),
    "energyReactive": ("KVARH", -3),
    "voltage": ("VOLTS", 0),
    "current": ("AMPS", 0),
    "frequency": ("HZ", 0),
    "Therm": ("THERMS", 0),
    "pulseCount": ("COUNT", 0),
}
_UNIT_OF_PRICE = {"currency": None, "currencyPerKWh": "KWH", "currencyPerKW": "KW", "currencyPerThm": "THERMS"}
_PERCENT_WORDS = frozenset(("%", "percent", "pct", "percentage"))
_BASE_OF_ITEM = {
    "powerReal": "W",
    "powerApparent": "VA",
    "powerReactive": "VAR",
    "energyReal": "Wh",
    "energyApparent": "VAh",
    "energyReactive": "VARh",
    "voltage": "V",
    "current": "A",
    "frequency": "Hz",
    "Therm": "thm",
    "pulseCount": "count",
}
_ITEM_OF_UNIT = {unit: item for item, (unit, _) in _UNIT_OF_ITEM.items()}
_PRICE_OF_UNIT = {unit: item for item, unit in _UNIT_OF_PRICE.items()}
PERCENT = "PERCENT"


def unit_of(type_: SeriesType, item: Item | None) -> tuple[str | None, str | None, int]:
    """Return a signal's unit in OpenADR 3's words, its currency, and the power of ten for its values."""
    if item is None:
        # the profile states this signal in percent and gives it no item base
        return (PERCENT, None, -2) if type_ is SeriesType.CONTROL_LEVEL_OFFSET_PERCENT else (None, None, 0)
    if item.item in _UNIT_OF_PRICE:
        return _UNIT_OF_PRICE[item.item], item.unit, item.exponent
    if item.item in _UNIT_OF_ITEM:
        unit, shift = _UNIT_OF_ITEM[item.item]
        return unit, None, item.exponent + shift
    if item.item == "temperature":
        return item.unit.upper(), None, item.exponent
    if item.unit.lower() in _PERCENT_WORDS:
        return PERCENT, None, item.exponent - 2
    return item.unit, None, item.exponent


def item_of(series: Series) -> tuple[Item | None, int]:
    """Return the item base to write for a series, and the power of ten its values are multiplied by."""
    unit, currency = series.unit, series.currency
    if currency is not None:
        if unit in _PRICE_OF_UNIT:
            return Item(item=_PRICE_OF_UNIT[unit], unit=currency), 0
        return Item(item="customUnit", unit=f"{currency}/{unit}"), 0
    if unit is None:
        return None, 0
    if unit in _ITEM_OF_UNIT:
        item = _ITEM_OF_UNIT[unit]
        kilo = _UNIT_OF_ITEM[item][1] == -3
        return Item(item=item, unit=_BASE_OF_ITEM[item], scale="k" if kilo else "none"), 0
    if unit in ("CELSIUS", "FAHRENHEIT"):
        return Item(item="temperature", unit=unit.lower()), 0
    if unit == PERCENT:
        plain = series.type is SeriesType.CONTROL_LEVEL_OFFSET_PERCENT
        return None if plain else Item(item="customUnit", unit="percent", description="percent"), 2
    return Item(item="customUnit", unit=unit), 0
