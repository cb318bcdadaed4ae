"""One number that splits kW over sites: the level up to which each site's ramp is filled.

Called by `realtime.py` for fewer sites than are worth a compiled kernel, and by `split_kernels.py` for
the few sites that a coarse search leaves undecided. No solver and no compiler is imported here.

Every split of one interval is the same search. A site gives nothing below `start`, all of `cap_kw` above
`end`, and in between in proportion. Merit order: both are its price (a jump). Quadratic cost: its marginal
cost when idle and at full power. Time to go: minus its hours, before and after the step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpp.domain.fleet import Floats

NOISE_KW = 1e-12
MOST_HOURS = 1e12


@dataclass(frozen=True, slots=True)
class Ramps:
    """Where each site begins to give, where it gives all, and how much that is [kW], each (N,)."""

    start: Floats
    end: Floats
    cap_kw: Floats

    def given_kw(self, level: float, ties: float = 0.0) -> Floats:
        """What each site gives at a level, (N,); of a jump exactly there the share `ties`."""
        width = self.end - self.start
        jump = width <= 0.0
        part = np.clip((level - self.start) / np.where(jump, 1.0, width), 0.0, 1.0)
        step = np.where(self.start < level, 1.0, np.where(self.start == level, ties, 0.0))
        return np.asarray(self.cap_kw * np.where(jump, step, part))

    def total_kw(self, level: float, ties: float) -> float:
        """What they give together."""
        return float(self.given_kw(level, ties).sum())


def find_level(
    ramps: Ramps, target_kw: float, total_kw: Callable[[Ramps, float, float], float] = Ramps.total_kw
) -> float:
    """Return the lowest level at which the ramps and the jumps at it reach the target; inf where none does.

    Bisects over the ramps' own corners and sums afresh at each, so that no rounding builds up.

    Args:
        ramps: the sites.
        target_kw: power wanted.
        total_kw: sums what they give at a level, as `Ramps.total_kw` does.
    """
    corners = np.unique(np.concatenate((ramps.start, ramps.end)))
    low, high = -1, len(corners)
    while high - low > 1:
        middle = (low + high) // 2
        if total_kw(ramps, corners[middle], 1.0) >= target_kw:
            high = middle
        else:
            low = middle
    if high == len(corners):
        return np.inf
    if low < 0:
        return float(corners[0])
    # between two corners everything is straight; at the upper one there may be a jump
    at_low, before_high = total_kw(ramps, corners[low], 1.0), total_kw(ramps, corners[high], 0.0)
    if target_kw >= before_high or before_high <= at_low:
        return float(corners[high])
    part = (target_kw - at_low) / (before_high - at_low)
    return float(np.clip(corners[low] + part * (corners[high] - corners[low]), corners[low], corners[high]))


def fill(ramps: Ramps, target_kw: float, weight: Floats | None = None) -> Floats:
    """Return what each site gives so that together they reach the target, or all they have [kW], (N,).

    Jumps at the level go to the lower index first, or with a `weight` each gets in proportion to it.
    """
    if target_kw >= ramps.cap_kw.sum():
        return ramps.cap_kw.copy()
    level = find_level(ramps, target_kw)
    share = ramps.given_kw(level)
    left_kw = target_kw - float(share.sum())
    tied = np.flatnonzero((ramps.start >= ramps.end) & (ramps.start == level))
    if tied.size:
        share[tied] = among_equals(ramps.cap_kw[tied], left_kw, None if weight is None else weight[tied])
        left_kw = target_kw - float(share.sum())
    moving = np.flatnonzero((ramps.start <= level) & (ramps.end >= level))
    moved = share[moving]
    settle(moved, ramps.cap_kw[moving], left_kw)
    share[moving] = moved
    return share


def among_equals(cap_kw: Floats, target_kw: float, weight: Floats | None) -> Floats:
    """Split over sites of the same price: the first ones first, or in proportion to a weight."""
    if weight is None:
        reached = np.cumsum(cap_kw)
        return np.asarray(np.clip(target_kw - (reached - cap_kw), 0.0, cap_kw))
    return fill(Ramps(np.zeros(len(cap_kw)), cap_kw / weight, cap_kw), target_kw)


def settle(share_kw: Floats, cap_kw: Floats, left_kw: float) -> float:
    """Give the last digits that rounding left to the first sites with room, in place; returns what is left."""
    for i in range(len(share_kw)):
        if abs(left_kw) <= NOISE_KW:
            break
        moved = min(max(float(share_kw[i]) + left_kw, 0.0), float(cap_kw[i]))
        left_kw -= moved - float(share_kw[i])
        share_kw[i] = moved
    return left_kw


def time_to_go_ramps(limit_kw: Floats, energy_kwh: Floats, step_h: float, weight: Floats | None) -> Ramps:
    """Ramps over minus the weighted hours each site lasts at full power, before and after the step."""
    hours = np.divide(energy_kwh, limit_kw, out=np.zeros(len(limit_kw)), where=limit_kw > 0)
    hours = np.minimum(hours, MOST_HOURS)
    by = 1.0 if weight is None else weight
    cap = np.minimum(limit_kw, energy_kwh / step_h)
    return Ramps(-by * hours, -by * np.clip(hours - step_h, 0.0, None), cap)
