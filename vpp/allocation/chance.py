"""How much power a fleet delivers with which probability.  Called by `robust.py` and by bidding.

What hits many sites at once (a vendor's cloud or a region that is out, an error that all estimates of
charge share) is enumerated or sampled. Given those, sites fail independently and their sum is taken
as normal. So the work grows with the number of sites once, not once for each scenario. A few sites
are not normal together: up to `FEW` of them are drawn one by one, as `monte_carlo` does, which is also
the audit of that shortcut.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpp.allocation.normal import Normal
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

Ints = npt.NDArray[np.int64]

ENUMERATED = 12
"""Up to so many groups that can be out, every combination is looked at; beyond, combinations are drawn."""
DRAWN = 20_000
ERRORS = 64
"""Values of the common error for each combination, as long as `POINTS` allows."""
POINTS = 32_768
NODES = np.linspace(-4.0, 4.0, 17)
"""Where deliverable power is worked out over the common error, in standard deviations. Between them it is
taken as linear, which is on the safe side: power is concave in energy but for sites that are empty."""
BISECTIONS = 50
FEW = 200
"""Up to so many sites every one is drawn: their sum's skew would cost up to 0.02 in probability at 100 sites."""
SMOOTHING = 1e-3
"""Spread of a drawn sum, as a share of nominal power: drawn points are no density without one."""
_BLOCK = 1_000_000
_LEAST_SD = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """What a fleet could deliver throughout `hours` if nothing failed, and what may fail.

    Attributes:
        power_kw: most each site may give [kW], (N,).
        energy_kwh: what each may deliver at its terminals, above its floor [kWh], (N,).
        full_kwh: what a full one would deliver: errors of charge are shares of this [kWh], (N,).
        hours: how long the power is to be held [h].
        dropout: probability that a site fails by itself, (N,).
        soc_error: standard deviation of the error in its charge, 0-1, (N,).
        soc_error_common: share of that error's variance that all sites have in common, 0-1.
        group: groups a site belongs to, one row for each kind of group (vendor, region); -1 none, (G,N).
        outage: for each kind of group, the probability that each of its groups is out.
        kind: class of each site, (N,), 0 to one less than the number of classes.
    """

    power_kw: Floats
    energy_kwh: Floats
    full_kwh: Floats
    hours: float
    dropout: Floats
    soc_error: Floats
    soc_error_common: float = 0.5
    group: Ints
    outage: tuple[Floats, ...]
    kind: Ints

    def __post_init__(self) -> None:
        sites = len(self.power_kw)
        for name in ("power_kw", "energy_kwh", "full_kwh", "dropout", "soc_error"):
            column = np.asarray(getattr(self, name))
            if column.shape != (sites,) or not np.isfinite(column).all() or (column < 0).any():
                raise InvalidRequest(name, column.shape, f"{sites} finite numbers of 0 or more")
        shares = [self.dropout, np.array([self.soc_error_common]), *self.outage]
        if not self.hours > 0 or any(((part < 0) | (part > 1)).any() for part in shares):
            raise InvalidRequest("hours, dropout or outage", self.hours, "hours above 0 and probabilities from 0 to 1")
        if self.group.shape != (len(self.outage), sites) or self.kind.shape != (sites,):
            raise InvalidRequest("group", self.group.shape, f"shape ({len(self.outage)}, {sites})")
        known = np.array([[len(part)] for part in self.outage]).reshape(-1, 1)
        if (self.group >= known).any() or (self.group < -1).any() or (self.kind < 0).any():
            raise InvalidRequest("group", int(self.group.max(initial=-1)), "the index of an outage, or -1")

    @property
    def nominal_kw(self) -> Floats:
        """What each site gives if nothing fails [kW], (N,)."""
        return np.minimum(self.power_kw, self.energy_kwh / self.hours)

    @property
    def may_fail(self) -> bool:
        """Whether anything can go wrong at all."""
        return bool(self.dropout.any() or self.soc_error.any() or any(part.any() for part in self.outage))


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """The distribution of delivered power: normal in each of J states of what is common; K classes of sites.

    Attributes:
        weight: probability of each state, (J,).
        mean_kw, variance: of each class in each state, (J,K).
        nominal_kw: of each class if nothing fails, (K,).
    """

    weight: Floats
    mean_kw: Floats
    variance: Floats
    nominal_kw: Floats
    normal: Normal

    def probability(self, power_kw: float) -> float:
        """Return the probability that at least `power_kw` is delivered."""
        mean, sd = self._sums()
        return float(self.weight @ self.normal.below((mean - power_kw) / sd)) if power_kw > 0 else 1.0

    def at(self, probability: float) -> float:
        """Return the power that is reached with this probability [kW].

        Raises:
            InvalidRequest: a probability that is not between 0 and 1.
        """
        if not 0.0 < probability < 1.0:
            raise InvalidRequest("probability", probability, "a share between 0 and 1")
        mean, sd = self._sums()
        low, high = 0.0, float(self.nominal_kw.sum())
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if float(self.weight @ self.normal.below((mean - middle) / sd)) >= probability:
                low = middle
            else:
                high = middle
        return low

    def by_class(self, power_kw: float) -> Floats:
        """Return what each class is expected to give when the fleet gives `power_kw` in all [kW], (K,)."""
        mean, sd = self._sums()
        away = (power_kw - mean) / sd
        density = self.weight * np.exp(-0.5 * np.clip(np.square(away), None, 1400.0)) / sd
        if density.sum() <= 0:
            return np.asarray(self.nominal_kw * (power_kw / max(float(self.nominal_kw.sum()), _LEAST_SD)))
        share = self.variance / np.maximum(self.variance.sum(axis=1), np.square(sd))[:, None]
        given = self.mean_kw + share * (power_kw - mean)[:, None]
        return np.asarray(density @ given / density.sum())

    def _sums(self) -> tuple[Floats, Floats]:
        least = _LEAST_SD * max(1.0, float(self.nominal_kw.sum()))
        return self.mean_kw.sum(axis=1), np.sqrt(self.variance.sum(axis=1) + least * least)


def chance(exposure: Exposure, *, seed: int = 0) -> Chance:
    """Return the distribution of what a fleet delivers. The same exposure and seed give the same answer."""
    normal = Normal()
    random = np.random.default_rng(seed)
    classes = int(exposure.kind.max(initial=0)) + 1
    nominal = np.asarray(np.bincount(exposure.kind, weights=exposure.nominal_kw, minlength=classes), dtype=np.float64)
    if len(exposure.power_kw) <= FEW and exposure.may_fail:
        spread = np.square(SMOOTHING) * float(nominal.sum()) * nominal
        sums = _drawn(exposure, DRAWN, random)
        return Chance(np.full(DRAWN, 1 / DRAWN), sums, np.broadcast_to(spread, sums.shape), nominal, normal)
    cell, members = _cells(exposure)
    mean, variance = _over_nodes(exposure, normal, cell, len(members))
    out, weight = _states(exposure, random)
    alive = _alive(exposure, members, out)
    states = len(out)
    errors = 1 if mean.shape[1] == 1 else max(1, min(ERRORS, POINTS // states))
    # each state gets its own shift within the strata, so that few values a state still cover all of them
    shift = (random.permutation(states) + 0.5) / states
    strata = (np.arange(errors) + shift[:, None]) / errors
    at = np.clip((normal.value_at(strata) - NODES[0]) / (NODES[1] - NODES[0]), 0.0, len(NODES) - 1.0)
    class_of = exposure.kind[members]
    means, variances = np.zeros((states * errors, classes)), np.zeros((states * errors, classes))
    for k in range(classes):
        mine = class_of == k
        means[:, k] = _between(alive[:, mine] @ mean[mine], at)
        variances[:, k] = _between(alive[:, mine] @ variance[mine], at)
    return Chance(np.repeat(weight / errors, errors), means, variances, nominal, normal)


def monte_carlo(exposure: Exposure, scenarios: int, *, seed: int = 0) -> Floats:
    """Return what the fleet delivers in each of so many scenarios [kW], drawing every site in each: the audit."""
    return np.asarray(_drawn(exposure, scenarios, np.random.default_rng(seed)).sum(axis=1))


def _drawn(exposure: Exposure, scenarios: int, random: np.random.Generator) -> Floats:
    """Power of each class in each scenario [kW], (scenarios, K)."""
    sites, classes = len(exposure.power_kw), int(exposure.kind.max(initial=0)) + 1
    common, own = np.sqrt(exposure.soc_error_common), np.sqrt(1.0 - exposure.soc_error_common)
    of_class = np.eye(classes)[exposure.kind]
    sums = np.empty((scenarios, classes))
    block = max(1, _BLOCK // max(1, sites))
    for first in range(0, scenarios, block):
        some = min(block, scenarios - first)
        works = random.random((some, sites)) >= exposure.dropout
        for group, outage in zip(exposure.group, exposure.outage, strict=True):
            out = random.random((some, len(outage))) < outage
            # the last column stands for no group: never out
            works &= ~np.hstack([out, np.zeros((some, 1), dtype=bool)])[:, group]
        error = common * random.standard_normal((some, 1)) + own * random.standard_normal((some, sites))
        held = (exposure.energy_kwh + exposure.full_kwh * exposure.soc_error * error) / exposure.hours
        sums[first : first + some] = (np.clip(held, 0.0, exposure.power_kw) * works) @ of_class
    return sums


def _cells(exposure: Exposure) -> tuple[Ints, Ints]:
    """Return the cell of each site, (N,), and one site of each cell: sites of a cell share groups and class."""
    key = np.asarray(exposure.kind, dtype=np.int64)
    for group, outage in zip(exposure.group, exposure.outage, strict=True):
        # renumbered at each kind of group, so that the key cannot overflow
        key = np.unique(key * (len(outage) + 1) + group + 1, return_inverse=True)[1]
    _, members, cell = np.unique(key, return_index=True, return_inverse=True)
    return cell, members


def _over_nodes(exposure: Exposure, normal: Normal, cell: Ints, cells: int) -> tuple[Floats, Floats]:
    """Mean and variance of each cell's power at each node of the common error, (cells, nodes)."""
    common = np.sqrt(exposure.soc_error_common) * exposure.soc_error * exposure.full_kwh / exposure.hours
    own = np.sqrt(1.0 - exposure.soc_error_common) * exposure.soc_error * exposure.full_kwh / exposure.hours
    nodes = NODES if common.any() else np.zeros(1)
    mean, variance = np.empty((cells, len(nodes))), np.empty((cells, len(nodes)))
    works = 1.0 - exposure.dropout
    for n, node in enumerate(nodes):
        first, second = normal.clipped(exposure.energy_kwh / exposure.hours + node * common, own, exposure.power_kw)
        spread = works * second - np.square(works * first)
        mean[:, n] = np.bincount(cell, weights=works * first, minlength=cells)
        variance[:, n] = np.bincount(cell, weights=np.clip(spread, 0.0, None), minlength=cells)
    return mean, variance


def _states(exposure: Exposure, random: np.random.Generator) -> tuple[Bools, Floats]:
    """Return combinations of groups that are out, (U,F), and their probabilities, (U,)."""
    outage = np.concatenate([*exposure.outage, np.empty(0)])
    at_risk = np.flatnonzero(outage > 0)
    if len(at_risk) <= ENUMERATED:
        bits = np.arange(2 ** len(at_risk))[:, None] >> np.arange(len(at_risk)) & 1
        some = bits.astype(bool)
        weight = np.where(some, outage[at_risk], 1.0 - outage[at_risk]).prod(axis=1)
        counted = weight
    else:
        drawn = np.stack([random.random(DRAWN) < outage[f] for f in at_risk], axis=1)
        some, counts = np.unique(drawn, axis=0, return_counts=True)
        counted = counts / DRAWN
    out = np.zeros((len(some), len(outage)), dtype=bool)
    out[:, at_risk] = some
    return out, counted


def _alive(exposure: Exposure, members: Ints, out: Bools) -> Floats:
    """Which cells work in each state, (U, cells), as 0 and 1."""
    alive = np.ones((len(out), len(members)), dtype=bool)
    first = 0
    for group, outage in zip(exposure.group, exposure.outage, strict=True):
        mine = group[members]
        alive[:, mine >= 0] &= ~out[:, first + mine[mine >= 0]]
        first += len(outage)
    return alive.astype(np.float64)


def _between(values: Floats, at: Floats) -> Floats:
    """Values (U, nodes) read at fractional nodes (U, errors), flat."""
    if values.shape[1] == 1:
        return np.repeat(values[:, 0], at.shape[1])
    low = np.minimum(at.astype(np.int64), values.shape[1] - 2)
    share = at - low
    below, above = np.take_along_axis(values, low, axis=1), np.take_along_axis(values, low + 1, axis=1)
    return np.asarray(below * (1.0 - share) + above * share).ravel()
