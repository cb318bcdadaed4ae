"""From sites as enrolled and telemetry as read to a `Problem`.  Called by the service only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from vpp.allocation.options import SMALL, Options
from vpp.allocation.problem import Problem
from vpp.allocation.robust import SiteClass, classes_of, drift_soc, fatigue, look_back_h
from vpp.allocation.tariffs import prices
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, FleetState, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval

HEADROOM_PRICE_SHARE = 0.15
"""What a kW of headroom is worth, as a share of the demand charge it keeps away from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the service assumes where no contract or tariff says it.

    Attributes:
        drift_soc: kept above the owner's reserve, because a battery's own estimate of its charge drifts,
            where nobody says when the batteries were last full; else each class has its own, see `SiteClass`.
        peak_guard: share by which a site's peak is aimed lower, because load forecasts err: on the demo's first day
            3 of 70 commercial sites went over their peak with 2 %, none with 8 %; other days needed `headroom` too.
        headroom: share by which a site stays below its peak if its battery has the energy to spare, because a
            load may jump between two cycles.
        own_peak_share: a site that needs more than this share of its energy against its own peak is not called.
        wear_price_per_kwh: of discharged energy.
        shortfall_price_per_kwh: of not delivering: above any energy price, and so low that holding a kW
            of demand peak is worth more for hours, so that the award does not cost an owner a peak.
        excess_price_per_kwh: of delivering more than owed: above what a tariff can gain by it, so that
            the award is not exceeded except to hold a site's own peak.
        delivery_margin: share aimed at above the target, against devices that give a little less.
        capability_margin: share of the target that must be spare before it is promised, for dropouts,
            where `site_classes` is not given.
        site_classes: what is known of the sites of each adapter; adapters not named take the defaults. None
            means that nothing was measured: a flat margin then.
        promise_probability: with which a promise is to be kept, where `site_classes` is given, 0-1.
        fatigue: how much dearer the wear of a site that worked twice the mean lately is, as a share.
        time_limit_s: wall time for one solve [s].
        dask_url: Dask scheduler for large fleets, None for this process's threads.
    """

    drift_soc: float = 0.01
    peak_guard: float = 0.08
    headroom: float = 0.2
    own_peak_share: float = 0.4
    wear_price_per_kwh: float = 0.04
    shortfall_price_per_kwh: float = 3.0
    excess_price_per_kwh: float = 1.0
    delivery_margin: float = 0.01
    capability_margin: float = 0.03
    site_classes: Mapping[str, SiteClass] | None = None
    promise_probability: float = 0.95
    fatigue: float = 0.5
    time_limit_s: float = 10.0
    dask_url: str | None = None

    def options_for(self, problem: Problem) -> Options:
        """How the service solves: of an answer that no linear programme gave, a sample is solved again by one."""
        audit = "sample" if problem.sites * problem.steps > SMALL else "none"
        return Options(time_limit_s=self.time_limit_s, dask_url=self.dask_url, audit=audit)


@dataclass(frozen=True, slots=True)
class View:
    """Sites that may be used, in order of id, with their charge and net load: what a solve looks at."""

    sites: tuple[Site, ...]
    rows: tuple[int, ...]
    """Where each of `sites` is in the caller's order."""
    soc: Floats
    battery_kw: Floats
    net_load_kw: Floats
    drift_soc: Floats
    """What each keeps above its reserve, 0-1."""
    fatigue: Floats
    """Factor on each one's wear price."""


def drift_buffers(sites: Sequence[Site], policy: Policy, hours_since_full_charge: Floats | None = None) -> Floats:
    """Return what each site keeps above its reserve, 0-1, (N,), in the order of `sites`.

    Raises:
        InvalidRequest: `hours_since_full_charge` has not one value for each site.
    """
    if hours_since_full_charge is None:
        return np.full(len(sites), policy.drift_soc)
    if hours_since_full_charge.shape != (len(sites),):
        raise InvalidRequest("hours_since_full_charge", hours_since_full_charge.shape, f"shape ({len(sites)},)")
    classes, kind = classes_of(sites, policy.site_classes or {})
    return drift_soc(hours_since_full_charge, [one.drift for one in classes], kind)


def full_charge_look_back(policy: Policy | None = None) -> timedelta:
    """Return how long ago a battery's last full charge may be and still make a difference."""
    known = (policy or Policy()).site_classes or {}
    return timedelta(hours=look_back_h([SiteClass().drift, *(one.drift for one in known.values())]))


def fatigue_of(sites: Sequence[Site], recent_discharge_kwh: Floats, strength: float) -> Floats:
    """Return the factor on each site's wear price, (N,), by energy per capacity; see `robust.fatigue`.

    Raises:
        InvalidRequest: `recent_discharge_kwh` has not one value for each site.
    """
    if recent_discharge_kwh.shape != (len(sites),):
        raise InvalidRequest("recent_discharge_kwh", recent_discharge_kwh.shape, f"shape ({len(sites)},)")
    return fatigue(recent_discharge_kwh / np.array([site.battery.capacity_kwh for site in sites]), strength)


def peak_guards(sites: Sequence[Site], policy: Policy) -> Floats:
    """Return the share by which each site's peak is aimed lower, (N,)."""
    classes, kind = classes_of(sites, policy.site_classes or {})
    guards = [policy.peak_guard if one.peak_guard is None else one.peak_guard for one in classes]
    return np.array(guards, dtype=np.float64)[kind]


def usable(sites: Sequence[Site], state: FleetState) -> Bools:
    """Which sites have a good reading and are tied to the grid, in the order of `sites`, (N,).

    Raises:
        InvalidRequest: the state does not know a site.
    """
    at = {site_id: i for i, site_id in enumerate(state.site_ids)}
    unknown = next((site.id for site in sites if site.id not in at), None)
    if unknown is not None:
        raise InvalidRequest("state", unknown, "a state with a row for every site")
    return np.array([state.available[at[site.id]] for site in sites], dtype=bool).reshape(len(sites))


def needed_at_home(
    sites: Sequence[Site], state: FleetState, net_load_kw: Floats, steps: Sequence[Interval], policy: Policy
) -> Bools:
    """Which sites' batteries are needed against their own demand peak, in the order of `sites`, (N,).

    A site whose load would rise so far over its peak that holding it takes much of the energy above the
    reserve is left to its own controller, which follows the load by the second; an award never comes
    before that.
    """
    tariff = prices(sites, steps)
    step_h = np.array([step.duration_h for step in steps])
    needed_kwh, guarded = np.zeros(len(sites)), 1.0 - peak_guards(sites, policy)
    for w, window in enumerate(tariff.demand_window):
        aimed_kw = guarded * tariff.peak_so_far_kw[:, w]
        over_kw = np.clip(net_load_kw - aimed_kw[:, None], 0.0, None) * window
        needed_kwh = np.maximum(needed_kwh, (over_kw @ step_h) * (tariff.demand_price_per_kw[:, w] > 0))
    at = {site_id: i for i, site_id in enumerate(state.site_ids)}
    soc = np.array([state.soc[at[site.id]] for site in sites])
    reserve = np.array([site.reserve_soc for site in sites])
    held = np.array([site.battery.capacity_kwh * site.battery.discharge_efficiency for site in sites])
    return np.asarray(needed_kwh > policy.own_peak_share * np.clip(soc - reserve, 0.0, None) * held)


def view(
    sites: Sequence[Site], state: FleetState, net_load_kw: Floats, chosen: Bools, drift_soc: Floats,
    fatigue: Floats | None = None,
) -> View:  # fmt: skip
    """Return the chosen sites sorted by id, so that an answer depends on the set and not on its order.

    `drift_soc` and `fatigue` as in `View`, in the order of `sites`; without `fatigue` every factor is 1.

    Raises:
        InvalidRequest: `net_load_kw` has not one row for each site.
    """
    net = np.asarray(net_load_kw, dtype=np.float64)
    if net.ndim != 2 or net.shape[0] != len(sites):
        raise InvalidRequest("net_load_kw", net.shape, f"shape ({len(sites)}, steps)")
    rows = sorted(np.flatnonzero(chosen).tolist(), key=lambda i: sites[i].id)
    at = {site_id: i for i, site_id in enumerate(state.site_ids)}
    there = [at[sites[i].id] for i in rows]
    picked = tuple(sites[i] for i in rows)
    tired = np.ones(len(sites)) if fatigue is None else fatigue
    return View(picked, tuple(rows), state.soc[there], state.battery_kw[there], net[rows], drift_soc[rows], tired[rows])


def build_problem(
    seen: View,
    steps: Sequence[Interval],
    event: Bools,
    policy: Policy,
    *,
    headroom: bool = False,
    **owed: Floats | Bools,
) -> Problem:
    """Return the problem of these sites over these steps; `event` marks its steps, `owed` holds the coupling arrays.

    Before and during the event nobody charges and before it nobody discharges, because a battery that
    moves then spoils the baseline; behind it the solver may do what protects the site. With `headroom` a
    site stays further below its peak where that costs little (see `Policy.headroom`).
    """
    sites = seen.sites
    tariff = prices(sites, steps)
    guard = peak_guards(sites, policy)
    tiers = ((guard, 1.0), (np.maximum(guard, policy.headroom), HEADROOM_PRICE_SHARE))[: 2 if headroom else 1]
    ends = np.flatnonzero(event)
    first, last = (int(ends[0]), int(ends[-1])) if ends.size else (0, -1)
    step = np.arange(len(steps))
    battery = {
        name: np.array([getattr(site.battery, name) for site in sites], dtype=np.float64)
        for name in (
            "max_charge_kw", "max_discharge_kw", "capacity_kwh", "charge_efficiency", "discharge_efficiency",
        )
    }  # fmt: skip
    reserve = np.array([site.reserve_soc for site in sites], dtype=np.float64)
    worth = tariff.cheapest_per_kwh / battery["charge_efficiency"]
    return Problem.build(
        battery,
        **owed,
        step_h=np.array([s.duration_h for s in steps]),
        net_load_kw=seen.net_load_kw,
        soc=np.clip(seen.soc, 0.0, 1.0),
        soc_floor=np.minimum(1.0, reserve + seen.drift_soc),
        export_limit_kw=np.array([site.export_limit_kw for site in sites], dtype=np.float64),
        import_limit_kw=np.array([site.import_limit_kw for site in sites], dtype=np.float64),
        available=np.broadcast_to(step >= first, seen.net_load_kw.shape),
        may_charge=step > last,
        import_price_per_kwh=tariff.import_price_per_kwh,
        export_price_per_kwh=tariff.export_price_per_kwh,
        demand_window=np.tile(tariff.demand_window, (len(tiers), 1)),
        demand_price_per_kw=np.hstack([tariff.demand_price_per_kw * share for _, share in tiers]),
        peak_so_far_kw=np.hstack([tariff.peak_so_far_kw * (1.0 - lower)[:, None] for lower, _ in tiers]),
        wear_price_per_kwh=policy.wear_price_per_kwh * seen.fatigue,
        terminal_value_per_kwh=np.clip(worth, 0.0, None),
    )
