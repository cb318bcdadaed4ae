"""Capacity limits a utility has set, as bounds of a plan: per site and for the fleet together.

Called by `service.py` and `promise.py`, which hand them to the solver as feeders, and once more for every answer,
so that no way of solving can exceed them. They are hard like an interconnection limit: no money is weighed against
them. Where a site's own load or PV breaks one, its battery makes it no worse.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpp.allocation.from_sites import View
from vpp.domain.fleet import Bools, Floats
from vpp.domain.fleet_signal import Direction, FleetLimit
from vpp.domain.site import Site
from vpp.domain.time import Interval

TOLERANCE_KW = 1e-6


@dataclass(frozen=True, slots=True)
class GridLimits:
    """The limits that may hold while a plan runs.

    Attributes:
        limits: of single sites and of the fleet.
        outside_kw: what sites of the fleet that the plan does not hold send to the grid now, together [kW];
            matters to fleet limits only.
    """

    limits: tuple[FleetLimit, ...] = ()
    outside_kw: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.limits)

    def most_kw(self, direction: Direction, steps: Sequence[Interval], site_id: str | None) -> Floats:
        """The tightest limit in each step [kW], (T,): of a site, or with None of the fleet; inf where there is none."""
        most = np.full(len(steps), np.inf)
        for limit in self.limits:
            if limit.direction is direction and limit.site_id == site_id:
                for k, step in enumerate(steps):
                    if limit.overlaps(step.start_at, step.end_at):
                        most[k] = min(most[k], limit.limit_kw)
        return most


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Limits over steps: of sites, (N,T), and of the fleet, (T,); inf where there is none."""

    export_kw: Floats
    import_kw: Floats
    fleet_export_kw: Floats
    fleet_import_kw: Floats
    limited: Bools = field(init=False)

    def __post_init__(self) -> None:
        limited = (np.isfinite(self.export_kw) | np.isfinite(self.import_kw)).any(axis=1)
        object.__setattr__(self, "limited", limited)

    @property
    def of_fleet(self) -> bool:
        return bool(np.isfinite(self.fleet_export_kw).any() or np.isfinite(self.fleet_import_kw).any())


def may_run_modes(
    limits: GridLimits, sites: Sequence[Site], mode_ids: Collection[str], event: Sequence[Interval]
) -> Bools:
    """Which sites may be used, (N,): a mode-only battery discharges as it likes, so only where its most is allowed.

    Under an export limit of the fleet mode-only sites are used all together or not at all.
    """
    may = np.ones(len(sites), dtype=bool)
    if not limits:
        return may
    fleet_kw = limits.most_kw(Direction.EXPORT, event, None).min(initial=np.inf)
    all_kw = sum(site.battery.max_discharge_kw for site in sites if site.id in mode_ids)
    for i, site in enumerate(sites):
        if site.id in mode_ids:
            own_kw = limits.most_kw(Direction.EXPORT, event, site.id).min(initial=np.inf)
            may[i] = site.battery.max_discharge_kw <= own_kw and all_kw + limits.outside_kw <= fleet_kw
    return may


def beside_kw(limits: GridLimits, seen: View, good: Bools, net_load_kw: Floats, fixed_kw: Floats) -> Floats:
    """What all sites of the fleet but those of `seen` send to the grid [kW], (T,).

    Args:
        seen: the sites whose power is to be found.
        good: which of the plan's sites have a reading, (N,); one without is seen by nobody and not counted.
        net_load_kw: of the plan's sites [kW], (N,T).
        fixed_kw: battery power of the plan's other sites [kW], (T,).
    """
    others = good.copy()
    others[list(seen.rows)] = False
    return np.asarray(limits.outside_kw + fixed_kw - np.where(others[:, None], net_load_kw, 0.0).sum(axis=0))


def as_feeders(
    limits: GridLimits, seen: View, steps: Sequence[Interval], outside_kw: Floats
) -> dict[str, Any]:  # fmt: skip
    """Return the limits as a problem's feeder arrays: one below the fleet's for each limited site; {} for none.

    Args:
        seen: the sites of the problem.
        outside_kw: what all other sites of the fleet send to the grid [kW], (T,).
    """
    bounds = _bounds(limits, seen.sites, steps)
    if not bounds.limited.any() and not bounds.of_fleet:
        return {}
    rows = np.flatnonzero(bounds.limited)
    root = 1 if bounds.of_fleet else 0
    feeder = np.full(len(seen.sites), 0 if root else -1)
    feeder[rows] = root + np.arange(len(rows))
    # what others already send takes of the limit; `held` looks after what is then below nothing
    export = [np.clip(bounds.fleet_export_kw - outside_kw, 0.0, None)] if root else []
    into = [np.clip(bounds.fleet_import_kw + outside_kw, 0.0, None)] if root else []
    return {
        "feeder": feeder,
        "feeder_parent": np.array([-1] * root + [0 if root else -1] * len(rows)),
        "feeder_export_limit_kw": np.array([*export, *bounds.export_kw[rows]]).reshape(-1, len(steps)),
        "feeder_import_limit_kw": np.array([*into, *bounds.import_kw[rows]]).reshape(-1, len(steps)),
    }


def held(
    limits: GridLimits, sites: Sequence[Site], steps: Sequence[Interval], net_load_kw: Floats, power_kw: Floats,
    outside_kw: Floats,
) -> Floats:  # fmt: skip
    """Return battery power (N,T) cut back to what the limits allow; no battery does more, none changes direction.

    Args:
        net_load_kw: load less PV of each site [kW], (N,T).
        power_kw: of their batteries, discharge positive [kW], (N,T).
        outside_kw: as for `as_feeders`.
    """
    if not limits:
        return power_kw
    bounds = _bounds(limits, sites, steps)
    most, least = np.clip(bounds.export_kw + net_load_kw, 0.0, None), np.clip(net_load_kw - bounds.import_kw, None, 0.0)
    power = np.clip(power_kw, least, most)
    flow = outside_kw - net_load_kw.sum(axis=0)
    given, taken = np.clip(power, 0.0, None).sum(axis=0), np.clip(-power, 0.0, None).sum(axis=0)
    give_kw = np.clip(bounds.fleet_export_kw - flow + taken, 0.0, None)
    take_kw = np.clip(bounds.fleet_import_kw + flow + given, 0.0, None)
    power = np.where(power > 0, power * _share(give_kw, given), power * _share(take_kw, taken))
    return np.asarray(power)


def told(limits: GridLimits, step: Interval) -> list[dict[str, Any]]:
    """What holds in a step, JSON-able, for the record of a cycle."""
    return [
        {
            "direction": limit.direction.value, "kw": limit.limit_kw, "site": limit.site_id,
            "event": limit.event_id, "source": limit.source,
        }
        for limit in limits.limits if limit.overlaps(step.start_at, step.end_at)
    ]  # fmt: skip


def _share(room_kw: Floats, wanted_kw: Floats) -> Floats:
    over = wanted_kw > room_kw + TOLERANCE_KW
    return np.where(over, np.divide(room_kw, wanted_kw, out=np.ones_like(wanted_kw), where=over), 1.0)


def _bounds(limits: GridLimits, sites: Sequence[Site], steps: Sequence[Interval]) -> _Bounds:
    named = {limit.site_id for limit in limits.limits}
    shape = (len(sites), len(steps))
    found: Mapping[Direction, Floats] = {direction: np.full(shape, np.inf) for direction in Direction}
    for direction, table in found.items():
        for i, site in enumerate(sites):
            if site.id in named:
                table[i] = limits.most_kw(direction, steps, site.id)
    return _Bounds(
        found[Direction.EXPORT],
        found[Direction.IMPORT],
        limits.most_kw(Direction.EXPORT, steps, None),
        limits.most_kw(Direction.IMPORT, steps, None),
    )
