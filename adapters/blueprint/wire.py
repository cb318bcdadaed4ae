"""The vendor's bytes or bodies to values and back: pure functions, no input or output.

State here, with the source, how the vendor counts: units, sign of battery and of grid power, what
"not known" looks like. Convert and flip once, here. Missing is None, never 0.
"""

from vpp.domain.units import kw_from_w


def battery_kw(power_w: float | None) -> float | None:
    """The vendor counts discharge positive, as we do [W]."""
    return None if power_w is None else kw_from_w(power_w)


def grid_kw(power_w: float | None) -> float | None:
    """The vendor counts import positive [W]; export is positive here."""
    return None if power_w is None else -kw_from_w(power_w)
