"""Finds the size of prices that are far from where they began.  Called by `coordinator.py`.

The method of multipliers moves a price by what is missing times a stiffness that fits usual prices of
energy. Where not delivering costs a thousand times as much and the fleet cannot deliver all, it would take
a thousand epochs to get there; here the price is searched for by factors, between bounds that were tried.
"""

import numpy as np

from vpp.domain.fleet import Floats

MISSING = 0.05
"""Of the reference power: what is missing beyond this is not a matter of a few per cent in the price."""
FACTOR = 4.0
USUAL = 4.0
"""Prices up to so many times a usual one are left to the multipliers."""


class Discovery:
    """What has been tried in each step: the dearest price that left too little, the cheapest that left too much."""

    def __init__(self, lowest_price_per_kwh: Floats, highest_price_per_kwh: Floats, usual_price_per_kwh: float) -> None:
        absorbs = -lowest_price_per_kwh > highest_price_per_kwh
        self._sign = np.where(absorbs, -1.0, 1.0)
        self._cap = np.where(absorbs, -lowest_price_per_kwh, highest_price_per_kwh)
        self._usual = usual_price_per_kwh
        self._too_low = np.full(len(self._cap), usual_price_per_kwh)
        self._too_high = np.full(len(self._cap), np.inf)

    @property
    def needed(self) -> bool:
        """Whether any price may go far beyond the usual."""
        return bool((self._cap > USUAL * self._usual).any())

    def correct(self, price_per_kwh: Floats, following_per_kwh: Floats, missing_share: Floats) -> Floats:
        """Return the next prices (T,), corrected where much is missing or there is much too much at a far price.

        Args:
            price_per_kwh: at which `missing_share` (of the reference power) was left.
            following_per_kwh: what the multipliers say.
        """
        price, following = self._sign * price_per_kwh, self._sign * following_per_kwh
        missing = self._sign * missing_share
        far = self._cap > USUAL * self._usual
        short = far & (missing > MISSING) & (price < self._cap)
        over = far & (missing < -MISSING) & (price > USUAL * self._usual)
        self._too_low = np.where(short, np.maximum(price, self._usual), self._too_low)
        self._too_high = np.where(over, price, self._too_high)
        # prices of one step depend on the others': a bound that proves wrong is forgotten
        self._too_high = np.where(short & (self._too_high <= self._too_low), np.inf, self._too_high)
        self._too_low = np.where(over & (self._too_low >= self._too_high), self._usual, self._too_low)
        between = np.sqrt(self._too_low * np.where(np.isfinite(self._too_high), self._too_high, self._too_low))
        up = np.where(np.isfinite(self._too_high), between, FACTOR * self._too_low)
        following = np.where(short, np.maximum(following, up), following)
        following = np.where(over, np.minimum(following, between), following)
        return np.asarray(self._sign * np.minimum(following, self._cap))

    def size(self, price_per_kwh: Floats) -> float:
        """How many times the usual price the prices are by now, at least 1."""
        far = self._cap > USUAL * self._usual
        if not far.any():
            return 1.0
        return max(1.0, float(np.median(np.abs(price_per_kwh)[far])) / (USUAL * self._usual))
