"""Explanations in plain words: one sentence for a site in a step.

Called by `explain.py` and by the portal, so that a command line and a page say the same.
"""

import math
from typing import Protocol

from vpp.allocation.binding import Constraint

WORDS = {
    Constraint.POWER: "inverter at its limit",
    Constraint.ENERGY: "battery empty",
    Constraint.RESERVE: "owner's reserve",
    Constraint.CEILING: "battery full",
    Constraint.EXPORT: "export limit",
    Constraint.IMPORT: "import limit",
    Constraint.PEAK: "demand peak",
    Constraint.AVAILABILITY: "not available",
    Constraint.FEEDER: "feeder full or grid limit reached",
    Constraint.FATIGUE: "battery wear",
    Constraint.MODE: "knows on and off only",
    Constraint.NOT_NEEDED: "not needed",
}


_MORE = {
    Constraint.POWER: "a kW more of inverter",
    Constraint.EXPORT: "a kW more of export",
    Constraint.IMPORT: "a kW more of import",
    Constraint.RESERVE: "a kWh less of reserve",
    Constraint.ENERGY: "a kWh more of battery",
    Constraint.CEILING: "a kWh more of room at the top",
    Constraint.PEAK: "a kW more of demand peak so far",
    Constraint.AVAILABILITY: "being available throughout",
}


def worth_words(limit: Constraint, worth: float, currency: str = "$") -> str:
    """Say what a little more of a limit would be worth over the whole time."""
    return f"{_MORE[limit]} would be worth {worth:,.2f} {currency}"


def constraint_words(constraint: Constraint) -> str:
    """What a table calls a constraint."""
    return WORDS[constraint]


class Told(Protocol):
    """What a sentence is made of."""

    @property
    def battery_kw(self) -> float: ...
    @property
    def price_per_kwh(self) -> float: ...
    @property
    def fleet_price_per_kwh(self) -> float: ...
    @property
    def low_per_kwh(self) -> float: ...
    @property
    def high_per_kwh(self) -> float: ...
    @property
    def charging(self) -> bool: ...
    @property
    def constraint(self) -> Constraint: ...


def sentence(told: Told, currency: str = "$") -> str:
    """Say what a site does in a step and why it does not do more."""
    return f"{_doing(told)}: {_charge_reason(told, currency) if told.charging else _reason(told, currency)}."


def price(value_per_kwh: float, currency: str = "$") -> str:
    """A price per kWh with as many digits as tell it apart, a real minus sign."""
    digits = 2 if abs(value_per_kwh) >= 0.1 or value_per_kwh == 0 else 3
    sign = "\u2212" if round(value_per_kwh, digits) < 0 else ""
    return f"{sign}{abs(value_per_kwh):.{digits}f} {currency}/kWh"


def _doing(told: Told) -> str:
    if abs(told.battery_kw) < 0.005:
        return "Idles"
    return f"{'Gives' if told.battery_kw > 0 else 'Takes'} {abs(told.battery_kw):.2f} kW"


def _reason(told: Told, currency: str) -> str:  # noqa: C901 - one case for each constraint
    pays = f"the fleet pays {price(told.price_per_kwh, currency)}"
    if told.price_per_kwh < -0.0005:  # the sites give more than is owed for their own tariffs' sake
        pays = f"the fleet has enough and would pay {price(-told.price_per_kwh, currency)} for less"
    finite = math.isfinite(told.high_per_kwh)
    costs = f"its next kWh would cost {price(told.high_per_kwh, currency)}" if finite else ""
    match told.constraint:
        case Constraint.POWER:
            return f"its inverter is at its limit; {pays}, more than one kWh more would cost"
        case Constraint.EXPORT:
            return f"it may not export more; {pays}, more than one kWh more would cost"
        case Constraint.AVAILABILITY:
            return f"its battery is not available in this step, though {pays}"
        case Constraint.RESERVE | Constraint.ENERGY:
            kept = "the owner's reserve" if told.constraint is Constraint.RESERVE else "an empty battery"
            if not finite:
                return f"{kept} leaves it no energy for more, though {pays}"
            return f"{costs}, because {kept} limits its energy and it is worth that in another step; {pays}"
        case Constraint.PEAK if finite:
            return f"{costs}, because it would raise its demand peak; {pays}"
        case Constraint.PEAK:
            return f"its energy is needed against its own demand peak, though {pays}"
        case Constraint.FEEDER:
            fleet = price(told.fleet_price_per_kwh, currency)
            full = "its feeder is full, or a limit the utility set is reached"
            return f"{full}; {costs or 'it could give more'}, and the fleet pays {fleet} elsewhere"
        case Constraint.FATIGUE:
            return f"{costs}, too dear because of the wear of its battery; {pays}"
        case Constraint.MODE:
            return "its device knows on and off only, so it runs as a block of its own"
        case _:
            return _not_needed(told, pays, costs)


def _not_needed(told: Told, pays: str, costs: str) -> str:
    if not costs:
        return f"no more is possible, nor would it gain by more; {pays}"
    if abs(told.high_per_kwh - told.price_per_kwh) <= 1e-6:
        return f"{costs}, just what the fleet pays: it has room and the fleet needs no more"
    return f"{costs}; {pays}"


def _charge_reason(told: Told, currency: str) -> str:
    """Why it does not absorb more: what absorbing costs is the price of a kWh discharged with the sign turned."""
    cost = -told.low_per_kwh
    pays = f"the fleet pays {price(-told.price_per_kwh, currency)} for a kWh absorbed"
    if told.price_per_kwh == 0:
        pays = "the fleet asks for nothing here"
    costs = f"absorbing its next kWh would cost {price(cost, currency)}" if math.isfinite(cost) else ""
    match told.constraint:
        case Constraint.POWER:
            return f"its inverter is at its limit; {pays}"
        case Constraint.IMPORT:
            return f"it may not import more; {pays}"
        case Constraint.AVAILABILITY:
            return f"its battery may not charge in this step; {pays}"
        case Constraint.CEILING:
            return f"its battery has no room for more energy; {pays}"
        case Constraint.PEAK:
            return f"{costs or 'absorbing more is dear'}, because it would raise its demand peak; {pays}"
        case Constraint.FEEDER:
            return f"its feeder is full, or a limit the utility set is reached; {pays}"
        case _:
            return f"{costs or 'no more is possible'}; {pays}"
