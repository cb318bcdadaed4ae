"""The problem as one linear programme in arrays.  Called by `exact.py`.

Columns: pieces of charge and discharge per site and step where their bound is above zero; stored
energy at the end of each segment; peak increments; shortfall, excess, capacity.
Rows: stored energy per segment, peaks, delivered power per coupled step.

A segment is a run of steps in which a site can move its energy in one direction only, so that only
its end can break floor or ceiling: one row stands for the run. Events without charging thus cost one
row a site, not one a step.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpp.allocation.limits import Piece, ceiling_kwh, charge_pieces, discharge_pieces, floor_kwh
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """Minimise cost.x with lower <= x <= upper and row_lower <= A x <= row_upper; A as triplets by row."""

    cost: Floats
    lower: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    rows: Ints
    columns: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the answer is: for each column of power its site, step and sign; the coupling rows."""

    site: Ints
    step: Ints
    sign: Floats
    capacity_at: int
    coupled_steps: Ints
    coupling_at: int


class _Builder:
    """Collects columns and triplets; rows are numbered by the caller."""

    def __init__(self) -> None:
        self.cost: list[Floats] = []
        self.lower: list[Floats] = []
        self.upper: list[Floats] = []
        self.columns = 0
        self.row_lower: list[Floats] = []
        self.row_upper: list[Floats] = []
        self.rows = 0
        self.triplets: list[tuple[Ints, Ints, Floats]] = []

    def add_columns(self, cost: Floats, lower: Floats | float, upper: Floats | float) -> Ints:
        first, count = self.columns, len(cost)
        self.cost.append(cost)
        self.lower.append(np.broadcast_to(np.asarray(lower, float), count))
        self.upper.append(np.broadcast_to(np.asarray(upper, float), count))
        self.columns += count
        return np.arange(first, first + count)

    def add_rows(self, lower: Floats, upper: Floats | float) -> Ints:
        first, count = self.rows, len(lower)
        self.row_lower.append(lower)
        self.row_upper.append(np.broadcast_to(np.asarray(upper, float), count))
        self.rows += count
        return np.arange(first, first + count)

    def put(self, rows: Ints, columns: Ints, values: Floats | float) -> None:
        self.triplets.append((rows, columns, np.broadcast_to(np.asarray(values, float), len(rows))))

    def finish(self) -> LinearProgram:
        rows, columns, values = (np.concatenate(part) for part in zip(*self.triplets, strict=True))
        order = np.lexsort((columns, rows))
        return LinearProgram(
            np.concatenate(self.cost), np.concatenate(self.lower), np.concatenate(self.upper),
            np.concatenate(self.row_lower), np.concatenate(self.row_upper),
            rows[order], columns[order], values[order],
        )  # fmt: skip


def build(problem: Problem) -> tuple[LinearProgram, Layout]:
    """Return the programme and the way back from its columns to sites and steps."""
    lp = _Builder()
    discharge, charge = discharge_pieces(problem), charge_pieces(problem)
    site, step, sign, column = _add_power(lp, problem, discharge, charge)
    _add_energy(lp, problem, discharge, charge, (site, step, sign, column))
    _add_peaks(lp, problem, charge, (site, step, sign, column))
    capacity_at, coupled, coupling_at = _add_coupling(lp, problem, (site, step, sign, column))
    return lp.finish(), Layout(site, step, sign, capacity_at, coupled, coupling_at)


_Power = tuple[Ints, Ints, Floats, Ints]


def _add_power(lp: _Builder, problem: Problem, discharge: tuple[Piece, ...], charge: tuple[Piece, ...]) -> _Power:
    """One column for each piece with room; returns site, step, sign and column number of each."""
    parts: list[_Power] = []
    for pieces, direction in ((discharge, 1.0), (charge, -1.0)):
        for piece in pieces:
            site, step = np.nonzero(piece.bound_kw > 0)
            cost = piece.price_per_kwh[site, step] * problem.step_h[step]
            column = lp.add_columns(cost, 0.0, piece.bound_kw[site, step])
            parts.append((site, step, np.full(len(site), direction), column))
    site, step, sign, column = (np.concatenate(part) for part in zip(*parts, strict=True))
    return site, step, sign, column


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
    lp: _Builder, problem: Problem, discharge: tuple[Piece, ...], charge: tuple[Piece, ...], power: _Power
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
    site, step, sign, column = power
    factor = np.where(sign > 0, 1.0 / problem.discharge_efficiency[site], -problem.charge_efficiency[site])
    lp.put(rows[number[site, step]], column, factor * problem.step_h[step])


def _add_peaks(lp: _Builder, problem: Problem, charge: tuple[Piece, ...], power: _Power) -> None:
    """Peak rows only where import could pass the peak so far and that has a price."""
    most_import = problem.net_load_kw + np.sum([piece.bound_kw for piece in charge], axis=0)
    site, step, sign, column = power
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
        mine = row_of[site, step] >= 0
        lp.put(row_of[site, step][mine], column[mine], sign[mine])


def _add_coupling(lp: _Builder, problem: Problem, power: _Power) -> tuple[int, Ints, int]:
    """Delivered power, shortfall and excess against what is owed or offered, in each coupled step."""
    _, step, sign, column = power
    window = problem.capacity_window
    coupled = np.flatnonzero(problem.committed | (window >= 0))
    hours = problem.step_h[coupled]
    capacity = lp.add_columns(-problem.capacity_price_per_kw, 0.0, problem.capacity_limit_kw)
    short = lp.add_columns(hours * problem.shortfall_price_per_kwh[coupled], 0.0, np.inf)
    owed = np.where(problem.committed, problem.commitment_kw, 0.0)[coupled] - problem.fixed_kw[coupled]
    priced = problem.excess_price_per_kwh[coupled] > 0
    rows = lp.add_rows(owed, np.where(priced, owed, np.inf))
    over = lp.add_columns((hours * problem.excess_price_per_kwh[coupled])[priced], 0.0, np.inf)
    lp.put(rows, short, 1.0)
    lp.put(rows[priced], over, -1.0)
    offered = window[coupled] >= 0
    lp.put(rows[offered], capacity[window[coupled][offered]], -1.0)
    row_of = np.full(problem.steps, -1)
    row_of[coupled] = rows
    mine = row_of[step] >= 0
    lp.put(row_of[step][mine], column[mine], sign[mine])
    return (int(capacity[0]) if len(capacity) else lp.columns), coupled, (int(rows[0]) if len(rows) else lp.rows)


def _any_room(pieces: tuple[Piece, ...]) -> Bools:
    return np.asarray(np.any([piece.bound_kw > 0 for piece in pieces], axis=0))
