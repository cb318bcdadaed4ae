"""Batteries that would charge and discharge at once to burn energy in their losses, made to choose.

Called by `exact.py` where its answer does so and taking that back costs more than the gap asked for; `minimum.py`
uses the same rounds. A battery
cannot do both, but the linear programme lets it where a kWh is worth less than nothing: at negative prices, for
absorption that is owed, at a feeder's import limit. The same prices break the order in which charging takes from
PV that would be curtailed, PV that would be sold, and the grid.

Sets: the pairs (site, step) concerned. Columns: those of `linear.py`, and for each pair one yes/no for its direction
and one for each source that must be used up first. Pairs come in as an answer breaks them, so the programme
stays small and, once none is broken, is the problem itself; its bound holds at every stage.

Where the whole would be too large (`WHOLE`), the sites concerned are solved in small lots beside what all others do,
so that what is owed is still seen, and each lot's answer is taken if the fleet's cost falls. The bound then comes from
the fleet's prices: at these, each such site can do no better alone than its own yes/no programme says.
"""

import time
from dataclasses import replace

import numpy as np

from vpp.allocation.answer import Allocation, assemble
from vpp.allocation.discrete.mip import MipSolver
from vpp.allocation.discrete.pairs import MIXED, Whole
from vpp.allocation.feeders import below, room
from vpp.allocation.limits import Piece, charge_pieces, discharge_pieces
from vpp.allocation.options import Options
from vpp.allocation.paid import site_price_per_kwh
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.programs import serve
from vpp.allocation.realtime import split_all
from vpp.domain.fleet import Bools, Floats

WHOLE = 40_000
"""Sites times steps up to which one programme holds all; above, lots of `LOT` sites each."""
LOT = 10
LEAST_S = 0.1
MOST_ROUNDS = 12
LINEAR, SPLIT = "linear_programme", "realtime_split"


def without_simultaneity(
    problem: Problem, options: Options | None = None, start: Allocation | None = None
) -> Allocation:
    """Return the best allocation in which no battery charges and discharges at once, with its proven gap.

    Args:
        problem: any problem; where energy is never worth less than nothing the answer is the linear programme's.
        options: `gap`, `time_limit_s` and `solvers` count.
        start: the answer to improve, needed where the fleet is too large for one programme.
    """
    options = options or Options()
    started = time.perf_counter()
    if start is not None and problem.sites * problem.steps > WHOLE:
        pairs = worth_burning(problem, site_price_per_kwh(problem, start)) | stores_out_of_order(problem)
        proves = start.method == LINEAR and start.status == "optimal"
        return in_lots(problem, options, start, started, np.flatnonzero(pairs.any(axis=1)), proves=proves)
    found = together(problem, options, started, 0.0)
    if found is None:
        found = assemble(
            problem, split_all(problem), started=started, gap=options.gap, method=SPLIT, status=SPLIT,
            attempts=("relaxed: no answer in time",),
        )  # fmt: skip
    return found if start is None or found.objective < start.objective or found.bound > start.bound else start


def worth_burning(problem: Problem, price_per_kwh: Floats) -> Bools:
    """Where moving a kWh in and out of storage at once gains, at what delivered kWh earn (T,) or (N,T); (N,T)."""
    charge, discharge = _cheapest(charge_pieces(problem)), _cheapest(discharge_pieces(problem))
    per_kwh = 1.0 / (problem.charge_efficiency * problem.discharge_efficiency)[:, None]
    gain = -(charge * per_kwh + discharge + np.asarray(price_per_kwh) * (per_kwh - 1.0))
    return np.isfinite(gain) & (gain > 1e-9)


def _cheapest(pieces: tuple[Piece, ...]) -> Floats:
    return np.asarray(np.min([np.where(p.bound_kw > 0, p.price_per_kwh, np.inf) for p in pieces], axis=0))


def together(
    problem: Problem, options: Options, started: float, enough: float, least_kw: Floats | None = None
) -> Allocation | None:
    """One programme for all sites, yes/no columns as answers ask for them; None without any answer in time.

    Args:
        problem, options: what is to be solved, and how.
        started: `time.perf_counter()` when the solve began.
        enough: ends where the cost is known to the gap asked for, or to this.
        least_kw: power below which a battery cannot run, (N,T); default none.
    """
    whole = Whole(problem, least_kw=least_kw)
    first = whole.relaxed(options)
    if first is None:
        return None
    values, bound = first.values, first.bound + whole.offset
    best = whole.answer(values, first, bound, options, started, ("relaxed: optimal",))
    for round_number in range(1, MOST_ROUNDS + 1):
        both, disordered, little = whole.both_ways(values), whole.out_of_order(values), whole.below_least(values)
        left_s = options.time_limit_s - (time.perf_counter() - started)
        near = max(enough, options.gap * max(1.0, abs(best.objective)))
        if best.objective - bound <= near or not (both | disordered | little).any() or left_s <= 0:
            break
        if round_number == 1:
            both |= worth_burning(problem, site_price_per_kwh(problem, best)) & both.any(axis=1, keepdims=True)
        whole.give_direction(both | disordered)
        whole.keep_order(disordered)
        # a site that would run too low once will do so elsewhere when it may not
        whole.give_least((whole.least_kw > 0) & little.any(axis=1, keepdims=True))
        found = whole.solved(0.85 * left_s, near / 2)  # what is left is for the prices
        if found is None:
            break
        bound = max(bound, found.bound)
        values, settled = whole.settled(found, options, options.time_limit_s - (time.perf_counter() - started))
        said = (*best.attempts, f"round {round_number}: {found.status}")
        made = whole.answer(values, settled, bound, options, started, said)
        best = made if made.objective < best.objective else replace(best, attempts=said)
    return _bounded(best, bound, options, started)


def _bounded(answer: Allocation, bound: float, options: Options, started: float) -> Allocation:
    """The answer with the best bound there is."""
    bound = min(bound, answer.objective)
    gap = (answer.objective - bound) / max(1.0, abs(answer.objective))
    return replace(
        answer, bound=bound, gap=gap, status="optimal" if gap <= options.gap else "feasible",
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def in_lots(
    problem: Problem, options: Options, start: Allocation, started: float, concerned: Ints, *, proves: bool,
    least_kw: Floats | None = None,
) -> Allocation:  # fmt: skip
    """The sites concerned, a lot at a time, beside what all others do.

    Args:
        problem, options, started, least_kw: as for `together`.
        start: the answer to improve.
        concerned: the sites whose choices are whole.
        proves: the start's bound is what all sites cost in the linear programme at its prices. What a lot's own
            programme costs more at these prices then raises it.
    """
    price = site_price_per_kwh(problem, start)
    battery_kw, capacity_kw, raised, done = start.battery_kw.copy(), start.capacity_kw, 0.0, 0
    least = np.broadcast_to(0.0, battery_kw.shape) if least_kw is None else least_kw
    proves = proves and not len(problem.program_commitment_kw)
    enough = options.gap * max(1.0, abs(start.objective)) / max(1, len(concerned))
    for first in range(0, len(concerned), LOT):
        left_s = options.time_limit_s - (time.perf_counter() - started)
        if left_s <= 0:
            break
        lot = concerned[first : first + LOT]
        # half of its share of the time for the answer, half for the bound
        half = replace(options, time_limit_s=max(LEAST_S, left_s * len(lot) / len(concerned[first:]) / 2))
        beside = _beside(problem, battery_kw, capacity_kw, lot)
        before = assemble(beside, battery_kw[lot], started=started, gap=1.0, capacity_kw=capacity_kw, method=MIXED)
        found = together(beside, half, time.perf_counter(), enough * len(lot), least[lot])
        if found is not None and found.objective < before.objective:
            battery_kw[lot], capacity_kw = found.battery_kw, found.capacity_kw
        if proves:
            raised += _dearer_alone(
                Whole(problem.only(lot), price[lot], least[lot]), price[lot], half, enough * len(lot)
            )
        done += len(lot)
    made = assemble(
        problem, battery_kw, started=started, gap=options.gap,
        bound=start.bound + max(0.0, raised - 1e-6 * max(1.0, abs(start.bound)) if raised else 0.0),
        capacity_kw=capacity_kw, marginal_price_per_kwh=start.marginal_price_per_kwh,
        feeder_price_per_kwh=start.feeder_price_per_kwh, method=MIXED, solver=str(MipSolver.HIGHS),
        attempts=(*start.attempts, f"{done} of {len(concerned)} sites concerned, in lots of {LOT}"),
    )  # fmt: skip
    return made if made.objective < start.objective or made.bound > start.bound else start


def _dearer_alone(whole: Whole, price_per_kwh: Floats, options: Options, enough: float) -> float:
    """How much more a lot costs at the fleet's prices than the linear programme thinks, at least."""
    started = time.perf_counter()
    first = whole.relaxed(options)
    if first is None:
        return 0.0
    values, bound = first.values, first.bound + whole.offset
    least = bound
    for _ in range(MOST_ROUNDS):
        both, disordered, little = whole.both_ways(values), whole.out_of_order(values), whole.below_least(values)
        left_s = options.time_limit_s - (time.perf_counter() - started)
        if not (both | disordered | little).any() or left_s <= 0:
            break
        both |= worth_burning(whole.problem, price_per_kwh) & both.any(axis=1, keepdims=True)
        whole.give_direction(both | disordered)
        whole.keep_order(disordered)
        whole.give_least((whole.least_kw > 0) & little.any(axis=1, keepdims=True))
        found = whole.solved(0.85 * left_s, enough / 2)
        if found is None:
            break
        values, bound = found.values, max(bound, found.bound)
    return bound - least


def _beside(problem: Problem, battery_kw: Floats, capacity_kw: Floats, lot: Ints) -> Problem:
    """The problem of these sites with what all others do taken as given."""
    others = np.ones(problem.sites, dtype=bool)
    others[lot] = False
    rows = np.flatnonzero(others)
    rest, given_kw, mine = problem.only(rows), battery_kw[rows], problem.only(lot)
    offered = problem.capacity_window >= 0
    owed = np.where(problem.committed, problem.commitment_kw, 0.0)
    owed[offered] = capacity_kw[problem.capacity_window[offered]]
    served = serve(rest, given_kw, np.where(problem.committed | offered, owed - problem.fixed_kw, -np.inf))
    limits, flow, idle_kw = room(problem), below(rest, given_kw), -below(mine, mine.net_load_kw)
    return replace(
        mine, fixed_kw=problem.fixed_kw + served.rest_kw,
        program_commitment_kw=np.clip(problem.program_commitment_kw - served.programs_kw, 0.0, None),
        feeder_export_limit_kw=limits.most_kw - flow + idle_kw, feeder_import_limit_kw=flow - limits.least_kw - idle_kw,
    )  # fmt: skip


def stores_out_of_order(problem: Problem) -> Bools:
    """Where a battery would rather store sold PV or grid power than what is curtailed, (N,T)."""
    surplus = np.clip(-problem.net_load_kw, 0.0, None)
    curtails = surplus > problem.export_limit_kw[:, None]
    return np.asarray(curtails & ((problem.export_price_per_kwh < 0) | (problem.import_price_per_kwh < 0)))
