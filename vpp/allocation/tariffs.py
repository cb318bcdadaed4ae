"""Tariffs as arrays: prices and demand windows of each site over the steps, by its local clock.

Called by `from_sites.py`. Sites of one tariff and time zone share one evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.fleet import Bools, Floats
from vpp.domain.site import DemandCharge, EnergyPeriod, Site, Tariff
from vpp.domain.time import Interval


@dataclass(frozen=True, slots=True)
class Prices:
    """Tariffs over sites and steps.

    Attributes:
        import_price_per_kwh, export_price_per_kwh: (N,T).
        cheapest_per_kwh: the tariff's lowest import price, (N,): what refilling will cost.
        demand_window: (W,T); demand_price_per_kw, peak_so_far_kw: (N,W).
    """

    import_price_per_kwh: Floats
    export_price_per_kwh: Floats
    cheapest_per_kwh: Floats
    demand_window: Bools
    demand_price_per_kw: Floats
    peak_so_far_kw: Floats


def local_clock(steps: Sequence[Interval], time_zone: str) -> list[datetime]:
    """Local time at the middle of each step; right on days with 23 or 25 hours, too."""
    zone = ZoneInfo(time_zone)
    return [(step.start_at + step.duration / 2).astimezone(zone) for step in steps]


def applies(period: EnergyPeriod | DemandCharge, local: datetime) -> bool:
    """Whether a period of a tariff holds at a local instant."""
    hour = local.hour + local.minute / 60 + local.second / 3600
    return period.start_h <= hour < period.end_h and local.isoweekday() in period.weekdays


def prices(sites: Sequence[Site], steps: Sequence[Interval]) -> Prices:
    """Return every site's prices over the steps.

    Where a tariff pays more for export than import costs, the export price is taken as the import
    price: the battery is then indifferent between saving and selling, and the problem stays convex.
    A moment no energy period covers costs nothing.
    """
    clocks = {zone: local_clock(steps, zone) for zone in {site.time_zone for site in sites}}
    energy = {key: _energy(key[0], clocks[key[1]]) for key in {(site.tariff, site.time_zone) for site in sites}}
    bought = np.array([energy[site.tariff, site.time_zone] for site in sites]).reshape(len(sites), len(steps))
    export = np.array([float(site.tariff.export_price_per_kwh) for site in sites])
    cheapest = [min((float(p.price_per_kwh) for p in site.tariff.energy), default=0.0) for site in sites]
    window, price, peak = _demand(sites, clocks, len(steps))
    return Prices(bought, np.minimum(export[:, None], bought), np.array(cheapest), window, price, peak)


def _energy(tariff: Tariff, clock: Sequence[datetime]) -> Floats:
    return np.array(
        [next((float(p.price_per_kwh) for p in tariff.energy if applies(p, local)), 0.0) for local in clock]
    )


def _demand(sites: Sequence[Site], clocks: dict[str, list[datetime]], steps: int) -> tuple[Bools, Floats, Floats]:
    """One window for each distinct clock of a demand charge; two alike on one site get one each."""
    index: dict[tuple[object, ...], int] = {}
    masks: list[list[bool]] = []
    found: list[tuple[int, int, float, float]] = []
    for i, site in enumerate(sites):
        seen: dict[tuple[object, ...], int] = {}
        for charge in site.tariff.demand:
            clock = (site.time_zone, charge.start_h, charge.end_h, charge.weekdays)
            seen[clock] = seen.get(clock, 0) + 1
            key = (*clock, seen[clock])
            if key not in index:
                index[key] = len(masks)
                masks.append([applies(charge, local) for local in clocks[site.time_zone]])
            peak_kw = site.peak_so_far_kw.get(charge.name, 0.0)
            found.append((i, index[key], float(charge.price_per_kw), peak_kw))
    price, peak = np.zeros((len(sites), len(masks))), np.zeros((len(sites), len(masks)))
    for i, w, price_per_kw, peak_kw in found:
        price[i, w], peak[i, w] = price_per_kw, max(0.0, peak_kw)
    return np.array(masks, dtype=bool).reshape(len(masks), steps), price, peak
