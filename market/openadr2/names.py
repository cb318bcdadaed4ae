"""Room openadr2: namespaces, and the signals of 2.0b beside the types of the domain.

Called by every reader and writer of this room. Source: profile specification 2.0b, section on signals;
schema `oadr_ei_20b.xsd` (SignalNameEnumeratedType, SignalTypeEnumeratedType).
"""

from vpp.domain.grid_event import SeriesType

OADR = "http://openadr.org/oadr-2.0b/2012/07"
OADR_2A = "http://openadr.org/oadr-2.0a/2012/07"
EI = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
XCAL = "urn:ietf:params:xml:ns:icalendar-2.0"
STRM = "urn:ietf:params:xml:ns:icalendar-2.0:stream"
EMIX = "http://docs.oasis-open.org/ns/emix/2011/06"
POWER = "http://docs.oasis-open.org/ns/emix/2011/06/power"
SCALE = "http://docs.oasis-open.org/ns/emix/2011/06/siscale"
GML = "http://www.opengis.net/gml/3.2"
DS = "http://www.w3.org/2000/09/xmldsig#"
DSP = "http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties"

PREFIXES = {
    "ei": EI,
    "emix": EMIX,
    "gml": GML,
    "oadr": OADR,
    "power": POWER,
    "pyld": PYLD,
    "scale": SCALE,
    "strm": STRM,
    "xcal": XCAL,
}
"""What we declare, in canonical order (by prefix)."""

SCHEMA_VERSION = f"{{{EI}}}schemaVersion"

_MESSAGES = """
    DistributeEvent CreatedEvent RequestEvent Response CancelOpt CanceledOpt CreateOpt CreatedOpt
    CancelReport CanceledReport CreateReport CreatedReport RegisterReport RegisteredReport UpdateReport
    UpdatedReport CancelPartyRegistration CanceledPartyRegistration CreatePartyRegistration
    CreatedPartyRegistration RequestReregistration QueryRegistration Poll
"""
MESSAGE_NAMES = frozenset(f"oadr{name}" for name in _MESSAGES.split())

BASELINE = "eiEventBaseline"
"""Key of `GridEvent.extras` for the baseline 2.0b can send with an event."""

_TYPE_OF = {
    ("SIMPLE", "level"): SeriesType.SIMPLE,
    ("simple", "level"): SeriesType.SIMPLE,
    ("ELECTRICITY_PRICE", "price"): SeriesType.PRICE,
    ("ELECTRICITY_PRICE", "priceRelative"): SeriesType.PRICE_RELATIVE,
    ("ELECTRICITY_PRICE", "priceMultiplier"): SeriesType.PRICE_MULTIPLIER,
    ("ENERGY_PRICE", "price"): SeriesType.PRICE,
    ("ENERGY_PRICE", "priceRelative"): SeriesType.PRICE_RELATIVE,
    ("ENERGY_PRICE", "priceMultiplier"): SeriesType.PRICE_MULTIPLIER,
    ("DEMAND_CHARGE", "price"): SeriesType.DEMAND_CHARGE,
    ("LOAD_DISPATCH", "setpoint"): SeriesType.DISPATCH_SETPOINT,
    ("LOAD_DISPATCH", "delta"): SeriesType.DISPATCH_SETPOINT_RELATIVE,
    ("LOAD_DISPATCH", "multiplier"): SeriesType.DISPATCH_MULTIPLIER,
    ("LOAD_DISPATCH", "level"): SeriesType.DISPATCH_LEVEL,
    ("LOAD_CONTROL", "x-loadControlCapacity"): SeriesType.CONTROL_CAPACITY,
    ("LOAD_CONTROL", "x-loadControlLevelOffset"): SeriesType.CONTROL_LEVEL_OFFSET,
    ("LOAD_CONTROL", "x-loadControlPercentOffset"): SeriesType.CONTROL_LEVEL_OFFSET_PERCENT,
    ("LOAD_CONTROL", "x-loadControlSetpoint"): SeriesType.CONTROL_SETPOINT,
    ("CHARGE_STATE", "setpoint"): SeriesType.CHARGE_STATE_SETPOINT,
    ("CHARGE_STATE", "delta"): SeriesType.CHARGE_STATE_DELTA,
    ("CHARGE_STATE", "multiplier"): SeriesType.CHARGE_STATE_MULTIPLIER,
    ("BID_PRICE", "price"): SeriesType.BID_PRICE,
    ("BID_LOAD", "setpoint"): SeriesType.BID_LOAD,
    ("BID_ENERGY", "setpoint"): SeriesType.BID_ENERGY,
}

_SIGNAL_NAMES = frozenset(name for name, _ in _TYPE_OF)
SIGNAL_TYPES = frozenset(kind for _, kind in _TYPE_OF) | {"delta", "level", "multiplier", "setpoint"}

_SIGNAL_OF: dict[SeriesType, tuple[str, str]] = {}
for _signal, _series_type in _TYPE_OF.items():
    if _signal[0] not in ("simple", "ENERGY_PRICE"):
        _SIGNAL_OF[_series_type] = _signal


def series_type(signal_name: str, signal_type: str) -> SeriesType:
    """Return what a 2.0b signal means; OTHER where the pair is none of the profile's."""
    return _TYPE_OF.get((signal_name, signal_type), SeriesType.OTHER)


def signal_of(type_: SeriesType, name: str) -> tuple[str, str] | None:
    """Return the signalName and signalType to write, or None where 2.0b has no words for it.

    Args:
        type_: what the values are.
        name: the type as its sender wrote it; a 2.0b name (`LOAD_DISPATCH/setpoint`) of that type is kept.
    """
    signal_name, _, signal_type = name.rpartition("/")
    if signal_type in SIGNAL_TYPES and _may_be_sent(signal_name) and series_type(signal_name, signal_type) is type_:
        return signal_name, signal_type
    return _SIGNAL_OF.get(type_)


def _may_be_sent(signal_name: str) -> bool:
    return signal_name in _SIGNAL_NAMES or (signal_name.startswith("x-") and not signal_name[2:3].isspace())
