"""What a battery can do in each step, as bounds and prices of one-directional pieces of power.

Called by `linear.py`, `realtime.py`, `blocks.py` and the service. Cost is convex because energy is
never sold dearer than bought, so the cheapest piece fills first and no on/off variable is needed.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of power in one direction: at most `bound_kw`, at `price_per_kwh`, both (N,T)."""

    bound_kw: Floats
    price_per_kwh: Floats


@dataclass(frozen=True, slots=True)
class IdleBreach:
    """Where a limit is broken even with the battery idle: reported, never hidden. Each (N,T)."""

    over_export: Bools
    over_import: Bools


def floor_kwh(problem: Problem) -> Floats:
    """Lowest allowed energy [kWh], (N,): the floor, or the present energy where that is below it."""
    return np.minimum(problem.soc_floor, problem.soc) * problem.capacity_kwh


def ceiling_kwh(problem: Problem) -> Floats:
    """Highest allowed energy [kWh], (N,): the ceiling, or the present energy where that is above it."""
    return np.maximum(problem.soc_ceiling, problem.soc) * problem.capacity_kwh


def max_discharge_kw(problem: Problem) -> Floats:
    """Most discharge each step allows [kW], (N,T), with the export limit folded in.

    A site below its floor may not discharge at all until a later problem finds it above.
    """
    free_kw = problem.net_load_kw + problem.export_limit_kw[:, None]
    bound = np.clip(np.minimum(problem.max_discharge_kw[:, None], free_kw), 0.0, None)
    may = problem.available & (problem.soc >= problem.soc_floor)[:, None]
    return np.where(may, bound, 0.0)


def max_charge_kw(problem: Problem) -> Floats:
    """Most charging each step allows [kW], (N,T), with the import limit folded in."""
    free_kw = problem.import_limit_kw[:, None] - problem.net_load_kw
    bound = np.clip(np.minimum(problem.max_charge_kw[:, None], free_kw), 0.0, None)
    may = problem.available & problem.may_charge & (problem.soc <= problem.soc_ceiling)[:, None]
    return np.where(may, bound, 0.0)


def idle_breach(problem: Problem, tolerance_kw: float = 1e-6) -> IdleBreach:
    """Return where the site alone, without its battery, breaks its interconnection limits."""
    net = problem.net_load_kw
    return IdleBreach(
        net < -problem.export_limit_kw[:, None] - tolerance_kw,
        net > problem.import_limit_kw[:, None] + tolerance_kw,
    )


def discharge_pieces(problem: Problem) -> tuple[Piece, ...]:
    """Discharge that saves import, then discharge that is exported; prices carry the wear.

    Where wear grows with the C-rate there is such a pair for each of its tiers, from the gentlest up.
    """
    most = max_discharge_kw(problem)
    own = np.minimum(most, np.clip(problem.net_load_kw, 0.0, None))
    pieces: list[Piece] = []
    for low_kw, high_kw, wear in wear_tiers(problem):
        from_own = np.clip(np.minimum(own, high_kw) - low_kw, 0.0, None)
        from_rest = np.clip(np.minimum(most, high_kw) - np.maximum(own, low_kw), 0.0, None)
        pieces.append(Piece(from_own, wear - problem.import_price_per_kwh))
        pieces.append(Piece(from_rest, wear - problem.export_price_per_kwh))
    return tuple(pieces)


def wear_tiers(problem: Problem) -> tuple[tuple[Floats, Floats, Floats], ...]:
    """From how many kW, up to how many, and what wear costs per kWh there; each (N,1)."""
    edge = problem.capacity_kwh[:, None]
    lows = (0.0 * edge, *(rate * edge for rate in problem.wear_c_rate))
    highs = (*lows[1:], np.full_like(edge, np.inf))
    factors = (1.0, *problem.wear_factor)
    wear = problem.wear_price_per_kwh[:, None]
    return tuple((low, high, wear * factor) for low, high, factor in zip(lows, highs, factors, strict=True))


def charge_pieces(problem: Problem) -> tuple[Piece, ...]:
    """Charging from PV that would be curtailed, from PV that would be sold, and from the grid.

    Where selling costs money, storing what is sold comes before storing what is curtailed.
    """
    most = max_charge_kw(problem)
    surplus = np.clip(-problem.net_load_kw, 0.0, None)
    curtailed = np.clip(surplus - problem.export_limit_kw[:, None], 0.0, None)
    sold = surplus - curtailed
    sold_first = problem.export_price_per_kwh < 0
    from_sold = np.minimum(sold, np.where(sold_first, most, np.clip(most - curtailed, 0.0, None)))
    from_curtailed = np.minimum(curtailed, most - from_sold)
    bought = most - from_sold - from_curtailed
    return (
        Piece(from_curtailed, np.zeros_like(most)),
        Piece(from_sold, np.array(problem.export_price_per_kwh)),
        Piece(bought, np.array(problem.import_price_per_kwh)),
    )
