"""Why each site does what it does in a plan's first step, small enough to be kept with every cycle.

Written by the service into what a cycle stores, read by the portal. Nothing is solved for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.binding import Constraint, standing
from vpp.allocation.from_sites import View
from vpp.allocation.marginal import marginal
from vpp.allocation.narrate import sentence
from vpp.allocation.problem import Problem
from vpp.allocation.supply import curve_of, thinned
from vpp.domain.fleet import Bools, Floats
from vpp.domain.site import Site

MOST_SITES = 20_000
"""A cycle of more sites keeps the curve and how many are stopped by what, not each one's reason."""
MOST_STEPS = 120
LIKE = 5
"""Digits behind the point of what is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a site did what it did in one cycle; prices per kWh, None where no more (or no less) was possible.

    `room_kw` is for how many kW `high_per_kwh` held.
    """

    site_id: str
    battery_kw: float
    price_per_kwh: float
    low_per_kwh: float | None
    high_per_kwh: float | None
    room_kw: float
    constraint: Constraint
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """What was kept of one cycle.

    Attributes:
        price_per_kwh: what the fleet paid for a kWh of this cycle.
        delivered_kw: what was planned, mode-only devices included.
        curve_price_per_kwh, curve_kw: the fleet's supply, cumulative; empty where there was none.
        stopped: how many sites were stopped by what.
        sites: each site's reason, by id; empty for a very large fleet.
    """

    price_per_kwh: float
    delivered_kw: float
    curve_price_per_kwh: tuple[float, ...]
    curve_kw: tuple[float, ...]
    stopped: dict[Constraint, int]
    sites: dict[str, Reason]

    def next_kw(self, count: int) -> list[Reason]:
        """The sites that would have given the next kW cheapest, cheapest first."""
        able = [one for one in self.sites.values() if one.high_per_kwh is not None and one.room_kw > 0]
        return sorted(able, key=lambda one: (one.high_per_kwh or 0.0, one.site_id))[:count]


def reasons(
    sites: Sequence[Site], good: Bools, takes_kw: View, by_mode: View, problem: Problem, answer: Allocation,
    power_kw: Floats,
) -> dict[str, Any] | None:  # fmt: skip
    """Return what a cycle keeps, JSON-able; None for a split, which has no prices, and where there is no step.

    Args:
        sites, good: the plan's sites, and which of them could be read and are tied to the grid, (N,).
        takes_kw, by_mode: those that take kW, whose problem was solved, and mode-only ones.
        problem, answer: what was solved.
        power_kw: the plan, (N,T), rows as `sites`.
    """
    if answer.method == "realtime_split" or not problem.steps:
        return None
    paid = float(answer.marginal_price_per_kwh[0])
    found = marginal(problem, answer.battery_kw, answer.soc, answer.marginal_price_per_kwh, 0)
    seen = standing(problem, answer.battery_kw, answer.soc, answer.marginal_price_per_kwh, 0, paid, found)
    curve = curve_of(problem, answer, 0, [(slice(0, problem.sites), found)])
    price_per_kwh, kw = thinned(curve, MOST_STEPS)
    names = np.full(len(sites), Constraint.AVAILABILITY, dtype=object)
    names[good] = Constraint.PEAK  # of those, who is in neither part is needed at home
    names[list(by_mode.rows)] = Constraint.MODE
    names[list(takes_kw.rows)] = seen.constraint
    called = np.zeros(len(sites), dtype=bool)
    called[[*takes_kw.rows, *by_mode.rows]] = True
    low, high, room = np.full(len(sites), -np.inf), np.full(len(sites), np.inf), np.zeros(len(sites))
    low[list(takes_kw.rows)], high[list(takes_kw.rows)] = seen.low_per_kwh, seen.high_per_kwh
    room[list(takes_kw.rows)] = seen.room_kw
    made: dict[str, Any] = {
        "price_per_kwh": round(paid, LIKE), "delivered_kw": round(curve.delivered_kw, LIKE),
        "curve": {"price_per_kwh": _plain(price_per_kwh), "kw": _plain(kw)},
        "stopped": {str(name): int((names == name).sum()) for name in Constraint if (names == name).any()},
    }  # fmt: skip
    if len(sites) <= MOST_SITES:
        made["sites"] = {
            "id": [site.id for site in sites], "kw": _plain(power_kw[:, 0]), "low": _plain(low), "high": _plain(high),
            "room_kw": _plain(room), "stopped_by": [str(name) for name in names], "called": called.tolist(),
        }  # fmt: skip
    return made


def read_reasons(stored: Mapping[str, Any] | None) -> Reasons | None:
    """Return what a cycle kept, as written by `reasons`; None where it kept nothing."""
    if not stored:
        return None
    paid = float(stored["price_per_kwh"])
    told = stored.get("sites") or {name: [] for name in _COLUMNS}
    sites = {row[0]: _reason(paid, *row) for row in zip(*(told[name] for name in _COLUMNS), strict=True)}
    return Reasons(
        price_per_kwh=paid, delivered_kw=float(stored["delivered_kw"]),
        curve_price_per_kwh=tuple(stored["curve"]["price_per_kwh"]), curve_kw=tuple(stored["curve"]["kw"]),
        stopped={Constraint(name): int(count) for name, count in stored["stopped"].items()}, sites=sites,
    )  # fmt: skip


_COLUMNS = ("id", "kw", "low", "high", "room_kw", "stopped_by", "called")


@dataclass(frozen=True, slots=True)
class _Told:
    """What `narrate.sentence` wants."""

    battery_kw: float
    price_per_kwh: float
    fleet_price_per_kwh: float
    low_per_kwh: float
    high_per_kwh: float
    charging: bool
    constraint: Constraint


def _reason(
    paid_per_kwh: float, site_id: str, kw: float, low: float | None, high: float | None, room_kw: float, name: str,
    called: bool,
) -> Reason:  # fmt: skip
    constraint = Constraint(name)
    told = _Told(
        kw, paid_per_kwh, paid_per_kwh, -math.inf if low is None else low, math.inf if high is None else high,
        False, constraint,
    )  # fmt: skip
    return Reason(
        site_id=site_id, battery_kw=kw, price_per_kwh=paid_per_kwh, low_per_kwh=low, high_per_kwh=high,
        room_kw=room_kw, constraint=constraint, sentence=sentence(told) if called else _left_out(constraint),
    )  # fmt: skip


def _left_out(constraint: Constraint) -> str:
    if constraint is Constraint.PEAK:
        return "Left to its own controller: its battery is needed against its own demand peak."
    return "Not called on: no good reading from it, or it is cut off from the grid."


def _plain(values: Floats) -> list[float | None]:
    """As JSON can say it: what is not finite becomes null."""
    return [round(value, LIKE) if math.isfinite(value) else None for value in values.tolist()]
