"""Every unit conversion of the service: nothing else multiplies by a thousand.

Inside, power is kW, energy kWh, SOC and other shares 0-1, durations seconds. Power is positive
toward the grid at AC terminals (discharge, export, generation); see `docs/conventions.md`, rule 1.
"""

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal


def kw_from_w(power_w: float) -> float:
    """Watts to kilowatts."""
    return power_w / 1000.0


def w_from_kw(power_kw: float) -> float:
    """Kilowatts to watts."""
    return power_kw * 1000.0


def mw_from_kw(power_kw: float) -> float:
    """Kilowatts to megawatts."""
    return power_kw / 1000.0


def kwh_from_wh(energy_wh: float) -> float:
    """Watt-hours to kilowatt-hours."""
    return energy_wh / 1000.0


def fraction_from_percent(value_percent: float) -> float:
    """Percent to a share of one."""
    return value_percent / 100.0


def percent_from_fraction(value: float) -> float:
    """A share of one to percent."""
    return value * 100.0


def energy_kwh(mean_power_kw: float, duration: timedelta) -> float:
    """Energy of a mean power over a duration."""
    return mean_power_kw * duration.total_seconds() / 3600.0


def billable_kwh(energy_kwh: float) -> Decimal:
    """The one door from measured float energy to money's Decimal: rounded half up to the Wh."""
    return Decimal(repr(energy_kwh)).quantize(Decimal("0.001"), rounding=ROUND_HALF_UP)
