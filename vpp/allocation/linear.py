"""The problem as one linear programme in arrays.

Called by `exact.py`, and by whoever needs the problem of single sites at given prices.

Columns: pieces of charge and discharge per site and step where their bound is above zero; stored
energy at the end of each segment; peak increments; those of `coupling.py`.
Rows: stored energy per segment, peaks; those of `coupling.py`, which tie the sites together.

A segment is a run of steps in which a site can move its energy in one direction only, so that only
its end can break floor or ceiling: one row stands for the run. Events without charging thus cost one
row a site, not one a step.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.coupling import Coupling, add_coupling, no_coupling
from vpp.allocation.limits import Piece, ceiling_kwh, charge_pieces, discharge_pieces, floor_kwh
from vpp.allocation.problem import Problem
from vpp.allocation.sparse import Collector, Ints, LinearProgram, Power
from vpp.domain.fleet import Bools, Floats

__all__ = ["Layout", "LinearProgram", "build", "segment_ends"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The way back from columns and rows to sites and steps."""

    power: Power
    coupling: Coupling


def build(problem: Problem, price_per_kwh: Floats | None = None) -> tuple[LinearProgram, Layout]:
    """Return the programme and the way back from its columns to sites and steps.

    Args:
        problem: what is to be solved.
        price_per_kwh: what each delivered kWh earns, (T,) or (N,T). Given, the rows that tie the sites
            together are left out, with shortfall, excess and capacity: the programme is the sum of the
            sites' own problems at these prices (the Lagrangian sub-problems).
    """
    lp = Collector()
    discharge, charge = discharge_pieces(problem), charge_pieces(problem)
    power = _add_power(lp, problem, discharge, charge, price_per_kwh)
    _add_energy(lp, problem, discharge, charge, power)
    _add_peaks(lp, problem, charge, power)
    coupling = add_coupling(lp, problem, power) if price_per_kwh is None else no_coupling(problem)
    return lp.finish(_idle_cost(problem)), Layout(power, coupling)


def _add_power(
    lp: Collector, problem: Problem, discharge: tuple[Piece, ...], charge: tuple[Piece, ...], earns: Floats | None
) -> Power:
    """One column for each piece with room."""
    parts: list[tuple[Ints, Ints, Floats, Ints]] = []
    for pieces, direction in ((discharge, 1.0), (charge, -1.0)):
        for piece in pieces:
            site, step = np.nonzero(piece.bound_kw > 0)
            price = piece.price_per_kwh[site, step]
            if earns is not None:
                price = price - direction * np.broadcast_to(earns, piece.bound_kw.shape)[site, step]
            column = lp.add_columns(price * problem.step_h[step], 0.0, piece.bound_kw[site, step])
            parts.append((site, step, np.full(len(site), direction), column))
    return Power(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def segment_ends(can_discharge: Bools, can_charge: Bools) -> Bools:
    """Return (N,T) True where a segment ends: the last step of a run in one direction."""
    moves = can_discharge.astype(np.int8) + 2 * can_charge.astype(np.int8)
    steps = np.arange(moves.shape[1])
    latest = np.maximum.accumulate(np.where(moves > 0, steps, 0), axis=1)
    filled = np.take_along_axis(moves, latest, axis=1)
    ends = np.ones(moves.shape, dtype=bool)
    ends[:, :-1] = (filled[:, :-1] | filled[:, 1:]) == 3
    return ends


def _add_energy(
    lp: Collector, problem: Problem, discharge: tuple[Piece, ...], charge: tuple[Piece, ...], power: Power
) -> None:
    """Energy at each segment's end: between floor and ceiling, worth its terminal value at the last."""
    ends = segment_ends(_any_room(discharge), _any_room(charge))
    # number of the segment each (site, step) belongs to, counted through the fleet
    number: Ints = (np.cumsum(ends.ravel()) - ends.ravel()).reshape(ends.shape).astype(np.int64)
    end_site, end_step = np.nonzero(ends)
    first = np.diff(end_site, prepend=-1) != 0
    last = end_step == problem.steps - 1
    cost = np.where(last, -problem.terminal_value_per_kwh[end_site], 0.0)
    energy = lp.add_columns(cost, floor_kwh(problem)[end_site], ceiling_kwh(problem)[end_site])
    start = np.where(first, (problem.soc * problem.capacity_kwh)[end_site], 0.0)
    rows = lp.add_rows(start, start)
    lp.put(rows, energy, 1.0)
    lp.put(rows[~first], energy[~first] - 1, -1.0)
    site, step = power.site, power.step
    factor = np.where(power.sign > 0, 1.0 / problem.discharge_efficiency[site], -problem.charge_efficiency[site])
    lp.put(rows[number[site, step]], power.column, factor * problem.step_h[step])


def _add_peaks(lp: Collector, problem: Problem, charge: tuple[Piece, ...], power: Power) -> None:
    """Peak rows only where import could pass the peak so far and that has a price."""
    most_import = problem.net_load_kw + np.sum([piece.bound_kw for piece in charge], axis=0)
    for w in range(len(problem.demand_window)):
        reach = most_import > problem.peak_so_far_kw[:, w, None]
        matters = problem.demand_window[w] & (problem.demand_price_per_kw[:, w] > 0)[:, None] & reach
        owners = np.flatnonzero(matters.any(axis=1))
        if not owners.size:
            continue
        increment = lp.add_columns(problem.demand_price_per_kw[owners, w], 0.0, np.inf)
        at_site, at_step = np.nonzero(matters)
        over = problem.net_load_kw[at_site, at_step] - problem.peak_so_far_kw[at_site, w]
        row_of = np.full(matters.shape, -1)
        row_of[at_site, at_step] = lp.add_rows(over, np.inf)
        # increment - charge + discharge >= net load - peak so far
        lp.put(row_of[at_site, at_step], increment[np.searchsorted(owners, at_site)], 1.0)
        lp.put_where(row_of[power.site, power.step], power.column, power.sign)


def _idle_cost(problem: Problem) -> float:
    """Cost of energy with idle batteries: what the columns, which are all 0 then, leave out."""
    net = problem.net_load_kw
    bought, sold = np.clip(net, 0.0, None), np.clip(-net, 0.0, problem.export_limit_kw[:, None])
    energy = bought * problem.import_price_per_kwh - sold * problem.export_price_per_kwh
    return float((energy @ problem.step_h).sum())


def _any_room(pieces: tuple[Piece, ...]) -> Bools:
    return np.asarray(np.any([piece.bound_kw > 0 for piece in pieces], axis=0))
