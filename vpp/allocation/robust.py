"""What is held back because the world is not as read: drift of charge, forecast errors, failing sites.

Called by `from_sites.py` and `promise.py`. Sites of one adapter are one class, because what drifts and
what fails is the vendor's battery and the vendor's cloud.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpp.allocation.chance import Chance, Exposure, chance
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Floats
from vpp.domain.site import Site

Ints = npt.NDArray[np.int64]

MOST_MARGIN = 100.0
"""A margin is no larger than this, even where the asked-for probability cannot be had at all."""
FEWEST_ERRORS = 100
"""With fewer forecast errors of a class than this, a quantile of them says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far a battery's own estimate of its charge may be off.

    A current sensor's offset has a sign, so its error adds up day by day: the buffer grows linearly (the
    square root would be right for noise, which is the smaller part). A full charge sets the estimate
    right. The figures are assumptions, made from what is reported of iron phosphate batteries: 1 % a day
    at worst, 4 % after weeks without a full charge, 6 % after 17 days; the allocator's test fleet has 1-5 %.

    Attributes:
        least_soc: right after a full charge, 0-1.
        growth_soc_per_day: what each day adds.
        most_soc: where it ends; also the buffer of a site of which no full charge is known.
    """

    least_soc: float = 0.01
    growth_soc_per_day: float = 0.005
    most_soc: float = 0.05

    def __post_init__(self) -> None:
        if not (0.0 <= self.least_soc <= self.most_soc <= 1.0 and self.growth_soc_per_day >= 0.0):
            raise InvalidRequest("drift", str(self), "0 <= least_soc <= most_soc <= 1 and growth of 0 or more")


IRON_PHOSPHATE = Drift()
"""Its voltage hardly changes with charge, so between full charges only counting is left. The default."""
NICKEL_MANGANESE_COBALT = Drift(growth_soc_per_day=0.0025, most_soc=0.03)
"""Its voltage at rest tells the charge, so errors are caught earlier. An assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteClass:
    """What is assumed of the sites of one adapter; every figure is to be replaced by what is measured.

    Attributes:
        drift: of the estimated charge.
        dropout: probability that a site fails by itself in an event, 0-1.
        outage: probability that all sites of the class fail together, 0-1.
        soc_error: standard deviation of the error in charge beyond the drift buffer, 0-1.
        peak_guard: share by which a site's peak is aimed lower because forecasts err, such as
            `guard_of_errors` finds; None takes the policy's.
    """

    drift: Drift = IRON_PHOSPHATE
    dropout: float = 0.02
    outage: float = 0.002
    soc_error: float = 0.01
    peak_guard: float | None = None

    def __post_init__(self) -> None:
        for name in ("dropout", "outage", "soc_error", "peak_guard"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise InvalidRequest(name, value, "a share from 0 to below 1")


def drift_soc(hours_since_full_charge: Floats, drifts: Sequence[Drift], kind: Ints) -> Floats:
    """Return the buffer each site keeps above its reserve, 0-1, (N,).

    Args:
        hours_since_full_charge: (N,); NaN where no full charge is known: the largest buffer applies.
        drifts: one for each class.
        kind: class of each site, (N,).
    """
    days = np.clip(hours_since_full_charge, 0.0, None) / 24.0
    least, growth, most = (
        np.array([getattr(drift, name) for drift in drifts])[kind]
        for name in ("least_soc", "growth_soc_per_day", "most_soc")
    )
    return np.asarray(np.where(np.isnan(days), most, np.minimum(least + growth * np.nan_to_num(days), most)))


def fatigue(recent_cycles: Floats, strength: float) -> Floats:
    """Return a factor on each site's wear price, (N,), from the cycles it went through lately; NaN where unknown.

    1 at the mean and where unknown, 1 + strength at twice the mean and beyond, 1 - strength at none. So
    that turns are taken over days, although each day alone is split at least cost.
    """
    known = ~np.isnan(recent_cycles)
    mean = float(recent_cycles[known].mean()) if known.any() else 0.0
    if mean <= 0.0:
        return np.ones(len(recent_cycles))
    away = np.clip(recent_cycles / mean - 1.0, -1.0, 1.0)
    return np.asarray(np.where(known, 1.0 + strength * away, 1.0))


def look_back_h(drifts: Sequence[Drift]) -> float:
    """Return how long ago a full charge may be and still matter [h]: beyond, every buffer is at its largest."""
    growing = [drift for drift in drifts if drift.growth_soc_per_day > 0]
    return 24.0 * max(((d.most_soc - d.least_soc) / d.growth_soc_per_day for d in growing), default=0.0)


def classes_of(sites: Sequence[Site], known: Mapping[str, SiteClass]) -> tuple[tuple[SiteClass, ...], Ints]:
    """Return the classes of these sites, one for each adapter among them, and the class of each site, (N,)."""
    names = sorted({site.adapter for site in sites})
    default = SiteClass()
    place = {name: k for k, name in enumerate(names)}
    kinds = np.array([place[site.adapter] for site in sites], dtype=np.int64)
    return tuple(known.get(name, default) for name in names), kinds


def guard_of_errors(actual_kw: Floats, forecast_kw: Floats, peak_kw: Floats, kind: Ints, probability: float) -> Floats:
    """Return for each class the share of a site's peak its load goes over the forecast, (K,).

    With this as `peak_guard`, a load at its peak stays below it with the probability asked for: adding
    the quantile of the error to the net load or taking it off the peak is the same. NaN for a class with
    too few errors to say; there the policy's guard is kept.

    Args:
        actual_kw, forecast_kw: net load of past steps, (N,S); NaN where there is none.
        peak_kw: what the errors are shares of, (N,).
        kind: class of each site, (N,).
        probability: 0-1, of a load to stay within the guard in one step.
    """
    if actual_kw.shape != forecast_kw.shape or not 0.0 < probability < 1.0 or not (peak_kw > 0).all():
        raise InvalidRequest("probability", probability, "between 0 and 1, arrays of one shape and peaks above 0 kW")
    share = (actual_kw - forecast_kw) / peak_kw[:, None]
    guards = np.full(int(kind.max(initial=-1)) + 1, np.nan)
    for k in range(len(guards)):
        errors = share[kind == k]
        errors = errors[~np.isnan(errors)]
        if errors.size >= FEWEST_ERRORS:
            guards[k] = np.clip(np.quantile(errors, probability), 0.0, 0.99)
    return guards


@dataclass(frozen=True, slots=True)
class Margin:
    """What to hold back so that a promise is kept with the probability asked for.

    Attributes:
        share: of what is promised, that the fleet must be able to give on top if nothing fails.
        held_back: of each class's nominal power, what is not promised, 0-1, (K,); weighted by nominal
            power they make up the whole. A class that fails in step with the rest holds back more.
        deliverable_kw: power reached with that probability.
    """

    share: float
    held_back: Floats
    deliverable_kw: float


def margin(exposure: Exposure, probability: float, *, seed: int = 0) -> Margin:
    """Return the chance margin of a fleet at `probability`."""
    found: Chance = chance(exposure, seed=seed)
    nominal, deliverable = float(found.nominal_kw.sum()), found.at(probability)
    reached = deliverable * (1.0 + MOST_MARGIN) >= nominal
    share = nominal / max(deliverable, 1e-9) - 1.0 if reached and nominal > 0 else MOST_MARGIN * (nominal > 0)
    given = found.by_class(deliverable)
    held = 1.0 - np.divide(given, found.nominal_kw, out=np.ones_like(given), where=found.nominal_kw > 0)
    return Margin(share, held, deliverable)


def deliverable_at(probability: float, exposure: Exposure, *, seed: int = 0) -> float:
    """Return the power the fleet reaches with this probability [kW]."""
    return chance(exposure, seed=seed).at(probability)


def exposure_of(
    sites: Sequence[Site], power_kw: Floats, energy_kwh: Floats, hours: float, known: Mapping[str, SiteClass],
    region: Ints | None = None, region_outage: Floats | None = None,
) -> Exposure:  # fmt: skip
    """Return what these sites are exposed to: each by itself, its adapter's vendor, and its region if given.

    Args:
        power_kw: most each may give, (N,).
        energy_kwh: what each may deliver at its terminals above its floor, (N,).
        hours: how long it is to last [h].
        region: index of each site's region, -1 unknown, (N,).
        region_outage: probability that each region is out.
    """
    classes, kind = classes_of(sites, known)
    group, outage = [kind], [np.array([one.outage for one in classes])]
    if region is not None and region_outage is not None:
        group.append(region)
        outage.append(region_outage)
    full = np.array([site.battery.capacity_kwh * site.battery.discharge_efficiency for site in sites])
    return Exposure(
        power_kw=power_kw, energy_kwh=energy_kwh, full_kwh=full.reshape(len(sites)), hours=hours,
        dropout=np.array([classes[k].dropout for k in kind]), soc_error=np.array([classes[k].soc_error for k in kind]),
        group=np.stack(group), outage=tuple(outage), kind=kind,
    )  # fmt: skip
