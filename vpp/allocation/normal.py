"""The normal distribution on arrays, by a table: numpy has none and SciPy is not among our parts.

Called by `chance.py`. Errors are below 3e-8.
"""

import math

import numpy as np

from vpp.domain.fleet import Floats

REACH = 8.0
PER_UNIT = 1000
_LEAST_SHARE = 1e-6


class Normal:
    """The table; making one takes 3 ms, so it is made once for a distribution."""

    def __init__(self) -> None:
        self._values = np.arange(-REACH * PER_UNIT, REACH * PER_UNIT + 1) / PER_UNIT
        self._below = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in self._values.tolist()])

    def below(self, values: Floats) -> Floats:
        """Return the probability of a standard normal at or below each value."""
        place = np.clip((values + REACH) * PER_UNIT, 0.0, len(self._values) - 1.0)
        low = np.minimum(place.astype(np.int64), len(self._values) - 2)
        return np.asarray(self._below[low] + (self._below[low + 1] - self._below[low]) * (place - low))

    def value_at(self, probability: Floats) -> Floats:
        """Return the value below which a standard normal lies with each probability."""
        return np.asarray(np.interp(probability, self._below, self._values))

    def clipped(self, mean: Floats, sd: Floats, most: Floats) -> tuple[Floats, Floats]:
        """Return the expectation of y and of y squared for y = min(most, max(0, x)), x normal. All (N,)."""
        plain = np.clip(mean, 0.0, most)
        unsure = sd > _LEAST_SHARE * np.maximum(most, 1e-9)
        if not unsure.any():
            return plain, np.square(plain)
        mean, sd, most = mean[unsure], sd[unsure], most[unsure]
        # integrals of P(x > y) and of 2 y P(x > y) from 0 to `most`, in units of the deviation
        (once_low, twice_low), (once_high, twice_high) = self._tails(-mean / sd), self._tails((most - mean) / sd)
        first, second = plain.copy(), np.square(plain)
        first[unsure] = sd * (once_high - once_low)
        second[unsure] = 2.0 * sd * (mean * (once_high - once_low) + sd * (twice_high - twice_low))
        return first, second

    def _tails(self, z: Floats) -> tuple[Floats, Floats]:
        """Antiderivatives of 1 - P(z) and of z (1 - P(z))."""
        density = np.exp(-0.5 * np.square(np.clip(z, -37.0, 37.0))) / math.sqrt(2.0 * math.pi)
        below = self.below(z)
        above = 1.0 - below
        return z * above - density, 0.5 * (np.square(z) * above - z * density + below)
