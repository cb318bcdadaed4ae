"""Room openadr2: item bases, the units of signals and of report points. Called by the event and report codecs.

Source: `oadr_power_20b.xsd` and `oadr_20b.xsd` (members of the substitution group emix:itemBase).
"""

from dataclasses import dataclass
from typing import Any

from market.openadr2.names import OADR, POWER
from market.openadr2.parse import CURRENCIES
from market.openadr2.values import exponent_of, number_text, read_number
from market.openadr2.xml_in import content, flag
from market.openadr2.xml_out import element, text
from market.openadr2.xml_out import flag as write_flag
from vpp.domain.errors import InvalidRequest

NOMINAL_FREQUENCY_HZ = 60.0
NOMINAL_VOLTAGE_V = 240.0
"""What powerAttributes say where the caller does not; the schema wants them, nothing here reads them."""

_PREFIX_OF = {"p": "p", "n": "n", "micro": "µ", "m": "m", "c": "c", "d": "d", "none": "", "k": "k", "M": "M"} | {
    "G": "G",
    "T": "T",
}
_FIXED = {
    "powerReal": ("power", "RealPower", "W"),
    "powerApparent": ("power", "ApparentPower", "VA"),
    "powerReactive": ("power", "ReactivePower", "VAR"),
    "energyReal": ("power", "RealEnergy", "Wh"),
    "energyApparent": ("power", "ApparentEnergy", "VAh"),
    "energyReactive": ("power", "ReactiveEnergy", "VARh"),
    "voltage": ("power", "Voltage", "V"),
    "current": ("oadr", "Current", "A"),
    "frequency": ("oadr", "Frequency", "Hz"),
    "Therm": ("oadr", "Therm", "thm"),
    "pulseCount": ("oadr", "pulse count", "count"),
}
_CURRENCY_ITEMS = {"currency": "currency", "currencyPerKWh": "currencyPerKWh", "currencyPerKW": "currencyPerKW"} | {
    "currencyPerThm": "currency"  # the schema's list of descriptions has none of its own
}
_ITEM_OF_UNIT = {unit: item for item, (_, _, unit) in _FIXED.items()} | {
    "celsius": "temperature",
    "fahrenheit": "temperature",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item base: element's name, base unit as written there, siScaleCode, and what only some kinds have."""

    item: str
    unit: str
    scale: str = "none"
    description: str = ""
    pulse_factor: float | None = None
    frequency_hz: float | None = None
    voltage_v: float | None = None
    alternating: bool | None = None

    @property
    def scaled_unit(self) -> str:
        """The unit with its SI prefix: `kW`."""
        return _PREFIX_OF[self.scale] + self.unit

    @property
    def exponent(self) -> int:
        """The power of ten between a value and the base unit."""
        return exponent_of(self.scale)


def read_item(parent: Any) -> Item | None:
    """Return the item base among an element's children, or None where there is none that names a unit."""
    for part in parent:
        space = part.tag.rpartition("}")[0][1:]
        if space in (POWER, OADR) and (unit := part.find(f"{{{space}}}itemUnits")) is not None:
            return _read(part, content(unit))
    return None


def _read(part: Any, unit: str) -> Item:
    name = part.tag.rpartition("}")[2]
    found = {leaf.tag.rpartition("}")[2]: leaf for leaf in part}
    attributes = found.get("powerAttributes")
    scale, pulses = found.get("siScaleCode"), found.get("pulseFactor")
    about = {
        "item": name,
        "unit": "W" if unit == "J/s" else unit,
        "scale": "none" if scale is None else content(scale),
        "description": content(found["itemDescription"]),
    }
    if pulses is not None:
        return Item(**about, pulse_factor=read_number(content(pulses), "pulseFactor"))
    if attributes is None:
        return Item(**about)
    hertz, volts = (read_number(content(attributes[index]), "powerAttributes") for index in (0, 1))
    return Item(**about, frequency_hz=hertz, voltage_v=volts, alternating=flag(attributes, "power:ac"))


def item_for(unit: str, scale: str = "none") -> Item:
    """Return the item base of a unit with its SI prefix (`kW`, `Wh`, `EUR`); a customUnit for one nobody lists."""
    prefix = _PREFIX_OF.get(scale)
    if prefix and unit.startswith(prefix) and (rest := unit.removeprefix(prefix)):
        return Item(item=_ITEM_OF_UNIT.get(rest, "customUnit"), unit=rest, scale=scale)
    if unit in _ITEM_OF_UNIT:
        return Item(item=_ITEM_OF_UNIT[unit], unit=unit, scale=scale)
    for code, prefix in _PREFIX_OF.items():
        if prefix and unit.startswith(prefix) and unit.removeprefix(prefix) in _ITEM_OF_UNIT:
            base = unit.removeprefix(prefix)
            return Item(item=_ITEM_OF_UNIT[base], unit=base, scale=code)
    return Item(item="currency" if unit in CURRENCIES else "customUnit", unit=unit, scale=scale)


def write_item(item: Item) -> str:
    """Return the XML of an item base.

    Raises:
        InvalidRequest: the item's name, unit or scale is none of the schema's.
    """
    if item.scale not in _PREFIX_OF:
        raise InvalidRequest("scale", item.scale, f"one of {', '.join(_PREFIX_OF)}")
    if item.item in _FIXED:
        prefix, description, unit = _FIXED[item.item]
        if item.unit != unit:
            raise InvalidRequest("unit", item.unit, f"{unit} for {item.item}")
    elif item.item in _CURRENCY_ITEMS:
        prefix, description, unit = "oadr", _CURRENCY_ITEMS[item.item], item.unit
        if unit not in CURRENCIES:
            raise InvalidRequest("currency", unit, "a code of ISO 4217 that the schema lists")
    elif item.item == "temperature":
        prefix, description, unit = "oadr", "temperature", item.unit
        if unit not in ("celsius", "fahrenheit"):
            raise InvalidRequest("unit", unit, "celsius or fahrenheit")
    elif item.item == "customUnit":
        prefix, description, unit = "oadr", item.description or item.unit, item.unit
    else:
        raise InvalidRequest("item", item.item, f"one of {', '.join((*_FIXED, *_CURRENCY_ITEMS))}, customUnit")
    return element(f"{prefix}:{item.item}", *_parts(item, prefix, description, unit))


def _parts(item: Item, prefix: str, description: str, unit: str) -> list[str]:
    parts = [text(f"{prefix}:itemDescription", description), text(f"{prefix}:itemUnits", unit)]
    if item.item == "pulseCount":
        factor = 1.0 if item.pulse_factor is None else item.pulse_factor
        return [*parts, text("oadr:pulseFactor", number_text(factor))]
    parts.append(text("scale:siScaleCode", item.scale))
    if item.item.startswith("power"):
        hertz = NOMINAL_FREQUENCY_HZ if item.frequency_hz is None else item.frequency_hz
        volts = NOMINAL_VOLTAGE_V if item.voltage_v is None else item.voltage_v
        attributes = text("power:hertz", f"{hertz:f}") + text("power:voltage", f"{volts:f}")
        parts.append(
            element("power:powerAttributes", attributes, write_flag("power:ac", item.alternating is not False))
        )
    return parts
