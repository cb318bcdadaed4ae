"""What one more kW would cost each site in one step of an answer, without solving anything again.

Called by `supply.py` for a fleet's supply curve and by the service for the interval at hand. A site may
give more in one step by giving less (or charging more) in another, by leaving less stored at the end, or
by letting a demand peak rise in all the steps that stand at it. The cheapest of these is a possible move,
so the price found is never too low; it is exact unless only several such moves together are cheaper.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.limits import Piece, ceiling_kwh, charge_pieces, discharge_pieces, floor_kwh
from vpp.allocation.problem import Ints, Problem
from vpp.domain.fleet import Bools, Floats

SLACK_KW = 1e-6
SLACK_SHARE = 1e-6
"""Of the capacity: nearer than this to floor or ceiling is at it."""
NUDGE_PER_KWH = 1e-9
TERMINAL, PEAK = -1, -2
"""Sources of energy that are no step: what is stored at the end, and a demand peak that rises."""


@dataclass(frozen=True, slots=True)
class Slopes:
    """Cost of moving from the present power, per kWh at the terminals; all (N,T).

    `up` is one more kWh discharged and `down` what the last one cost; infinite where power is at its
    limit. Rooms are how far that price holds [kW]. `draw_up`, `draw_down` are stored kWh per kWh.
    """

    up_per_kwh: Floats
    up_room_kw: Floats
    down_per_kwh: Floats
    down_room_kw: Floats
    draw_up: Floats
    draw_down: Floats


@dataclass(frozen=True, slots=True)
class Energy:
    """Price of one stored kWh more in one step [per kWh], how much there is of it, and whence; all (N,).

    `source` is the step that would give less, or TERMINAL or PEAK; the price is infinite where none can.
    """

    price_per_kwh: Floats
    room_kwh: Floats
    source: Ints


@dataclass(frozen=True, slots=True)
class Marginal:
    """Marginal cost of every site in one step, per kWh discharged; all (N,).

    `low` is what the last kWh cost (-inf where power cannot be lowered), `high` what the next would cost
    (inf where a limit stops it), `room_kw` for how many kW that holds. `more` prices the energy for it
    and `less_per_kwh` says what a stored kWh given back is worth.
    `up_per_kwh` and `down_per_kwh` are the slopes of tariff and wear alone, `saved_per_kwh` and
    `raised_per_kwh` what a demand peak adds: less import saves, more import costs.
    """

    low: Floats
    high: Floats
    room_kw: Floats
    more: Energy
    less_per_kwh: Floats
    up_per_kwh: Floats
    down_per_kwh: Floats
    saved_per_kwh: Floats
    raised_per_kwh: Floats


def slopes(problem: Problem, battery_kw: Floats) -> Slopes:
    """Slopes of each site's own cost (tariff and wear) at the present power, demand peaks left out."""
    out_price, out_room, used_price, used_room = _filled(discharge_pieces(problem), np.clip(battery_kw, 0.0, None))
    in_price, in_room, drawn_price, drawn_room = _filled(_in_order(problem), np.clip(-battery_kw, 0.0, None))
    discharges, charges = battery_kw > SLACK_KW, battery_kw < -SLACK_KW
    given, taken = 1.0 / problem.discharge_efficiency[:, None], problem.charge_efficiency[:, None]
    return Slopes(
        up_per_kwh=np.where(charges, -drawn_price, out_price),
        up_room_kw=np.where(charges, drawn_room, out_room),
        down_per_kwh=np.where(discharges, used_price, -in_price),
        down_room_kw=np.where(discharges, used_room, in_room),
        draw_up=np.where(charges, taken, given),
        draw_down=np.where(discharges, given, taken),
    )


def _in_order(problem: Problem) -> tuple[Piece, ...]:
    """The pieces of charging from the cheapest up: where selling costs money, what is sold is stored first."""
    lost, sold, bought = charge_pieces(problem)
    first = problem.export_price_per_kwh < 0
    if not first.any():
        return lost, sold, bought
    return (
        Piece(np.where(first, sold.bound_kw, lost.bound_kw), np.where(first, sold.price_per_kwh, lost.price_per_kwh)),
        Piece(np.where(first, lost.bound_kw, sold.bound_kw), np.where(first, lost.price_per_kwh, sold.price_per_kwh)),
        bought,
    )


def _filled(pieces: tuple[Piece, ...], power_kw: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Fill the pieces in turn: price and room of the next kW, price and length of the last one."""
    left, begun = power_kw, np.zeros(power_kw.shape, dtype=bool)
    next_price, next_kw = np.full(power_kw.shape, np.inf), np.zeros(power_kw.shape)
    last_price, last_kw = np.full(power_kw.shape, -np.inf), np.zeros(power_kw.shape)
    for piece in pieces:
        used = np.minimum(left, piece.bound_kw)
        left = left - used
        open_kw = piece.bound_kw - used
        opens, touched = (open_kw > SLACK_KW) & ~begun, used > SLACK_KW
        begun |= opens
        np.copyto(next_price, piece.price_per_kwh, where=opens)
        np.copyto(next_kw, open_kw, where=opens)
        np.copyto(last_price, piece.price_per_kwh, where=touched)
        np.copyto(last_kw, used, where=touched)
    return next_price, next_kw, last_price, last_kw


@dataclass(frozen=True, slots=True)
class Peaks:
    """Demand peaks of an answer. `at` (W,N,T) marks the steps that stand at a priced peak.

    Attributes:
        raise_per_kwh: cost of importing more in a step, (N,T).
        save_per_kwh: gain of importing less, where one step alone makes the peak, (N,T).
    """

    at: Bools
    raise_per_kwh: Floats
    save_per_kwh: Floats


def peaks(problem: Problem, battery_kw: Floats) -> Peaks:
    """Which steps make the demand peaks, and what it costs or saves to move import there."""
    net = problem.net_load_kw - battery_kw
    bought = np.clip(net, 0.0, None)
    at = np.zeros((len(problem.demand_window), *net.shape), dtype=bool)
    raised, saved = np.zeros(net.shape), np.zeros(net.shape)
    for w, window in enumerate(problem.demand_window):
        price = problem.demand_price_per_kw[:, w, None]
        owners = np.flatnonzero(price[:, 0] > 0)
        if not owners.size or not window.any():
            continue
        so_far = problem.peak_so_far_kw[owners, w, None]
        top = np.maximum(bought[owners][:, window].max(axis=1, keepdims=True), so_far)
        at[w, owners] = window & (bought[owners] >= top - SLACK_KW) & (net[owners] >= -SLACK_KW)
        raised += at[w] * price / problem.step_h
        alone = (at[w].sum(axis=1, keepdims=True) == 1) & at[w]
        alone[owners] &= top > so_far + SLACK_KW
        saved += alone * price / problem.step_h
    return Peaks(at, raised, saved)


def marginal(problem: Problem, battery_kw: Floats, soc: Floats, price_per_kwh: Floats, step: int) -> Marginal:
    """Return what the next and the last kWh of `step` cost each site, other steps paid `price_per_kwh`.

    Args:
        problem: any number of sites; work and memory grow with their number times that of steps.
        battery_kw, soc: the answer, (N,T) and (N,T+1).
        price_per_kwh: what each site is paid per kWh discharged, (T,) or (N,T).
        step: the step that is asked about.
    """
    price = np.broadcast_to(np.asarray(price_per_kwh, dtype=np.float64), battery_kw.shape)
    slope, peak = slopes(problem, battery_kw), peaks(problem, battery_kw)
    energy = soc * problem.capacity_kwh[:, None]
    slack = SLACK_SHARE * problem.capacity_kwh
    above = np.clip(energy - (floor_kwh(problem) + slack)[:, None], 0.0, None)
    below = np.clip((ceiling_kwh(problem) - slack)[:, None] - energy, 0.0, None)
    # a stored kWh gained by giving less in a step, and lost by giving more there
    gained = (price - slope.down_per_kwh + peak.raise_per_kwh) / slope.draw_down
    lost = (price - slope.up_per_kwh + peak.save_per_kwh) / slope.draw_up
    gained = gained + NUDGE_PER_KWH * (peak.raise_per_kwh > 0)  # of two alike, the one that raises no peak
    gain_kwh = slope.down_room_kw * problem.step_h * slope.draw_down
    lose_kwh = slope.up_room_kw * problem.step_h * slope.draw_up
    more = _cheapest(gained, gain_kwh, problem.terminal_value_per_kwh, above, below, step)
    more = _with_peaks(problem, slope, peak, price, (above, below), step, more)
    less = _cheapest(-lost, lose_kwh, -problem.terminal_value_per_kwh, below, above, step)
    hours, up, down = problem.step_h[step], slope.draw_up[:, step], slope.draw_down[:, step]
    can_lower = np.isfinite(slope.down_per_kwh[:, step])
    high = slope.up_per_kwh[:, step] + more.price_per_kwh * up - peak.save_per_kwh[:, step]
    low = slope.down_per_kwh[:, step] - np.where(can_lower, less.price_per_kwh, 0.0) * down
    return Marginal(
        low=np.where(can_lower, low - peak.raise_per_kwh[:, step], -np.inf),
        high=high,
        room_kw=np.where(np.isfinite(high), np.minimum(slope.up_room_kw[:, step], more.room_kwh / (up * hours)), 0.0),
        more=more,
        less_per_kwh=-less.price_per_kwh,
        up_per_kwh=slope.up_per_kwh[:, step],
        down_per_kwh=slope.down_per_kwh[:, step],
        saved_per_kwh=peak.save_per_kwh[:, step],
        raised_per_kwh=peak.raise_per_kwh[:, step],
    )


def _cheapest(
    price_per_kwh: Floats, room_kwh: Floats, at_end: Floats, ahead: Floats, back: Floats, step: int
) -> Energy:
    """Cheapest source over the other steps: later ones while `ahead` has room, earlier ones while `back` has.

    Taking from a later step moves the energy stored in between one way, from an earlier step the other.
    """
    sites, steps = price_per_kwh.shape
    best, room, source = np.full(sites, np.inf), np.zeros(sites), np.full(sites, TERMINAL)
    reach = np.full(sites, np.inf)
    for t in range(step + 1, steps + 1):
        reach = np.minimum(reach, ahead[:, t])
        if t < steps:
            _better(best, room, source, price_per_kwh[:, t], np.minimum(reach, room_kwh[:, t]), t)
        else:
            _better(best, room, source, at_end, reach, TERMINAL)
    reach = np.full(sites, np.inf)
    for t in range(step - 1, -1, -1):
        reach = np.minimum(reach, back[:, t + 1])
        _better(best, room, source, price_per_kwh[:, t], np.minimum(reach, room_kwh[:, t]), t)
    return Energy(best, room, source)


def _better(best: Floats, room: Floats, source: Ints, price_per_kwh: Floats, there: Floats, name: int) -> None:
    better = (price_per_kwh < best) & (there > 0)
    best[better], room[better], source[better] = price_per_kwh[better], there[better], name


def _with_peaks(
    problem: Problem,
    slope: Slopes,
    peak: Peaks,
    price_per_kwh: Floats,
    slacks: tuple[Floats, Floats],
    step: int,
    found: Energy,
) -> Energy:
    """The same with one source more: all steps that stand at a peak import more together, and it rises."""
    best, room, source = found.price_per_kwh.copy(), found.room_kwh.copy(), found.source.copy()
    source[_stands_at_peak(peak.at, source)] = PEAK
    above, below = slacks
    steps = np.arange(problem.steps)
    for at in peak.at:
        tied = at & (steps != step)
        several = np.flatnonzero((at.sum(axis=1) > 1) & ~at[:, step])
        if not several.size:
            continue
        mine = tied[several]
        hours = np.where(mine, problem.step_h, 0.0)
        hit = (peak.at[:, several] & mine[None]).any(axis=2)
        cost = (hit * problem.demand_price_per_kw[several].T).sum(axis=0)
        with np.errstate(invalid="ignore"):
            cost += np.where(mine, hours * (price_per_kwh[several] - slope.down_per_kwh[several]), 0.0).sum(axis=1)
        gives = (hours * slope.draw_down[several]).sum(axis=1)
        kwh = np.where(mine, slope.down_room_kw[several], np.inf).min(axis=1) * gives
        kwh = np.minimum(kwh, _reach(mine, above[several], below[several], step))
        better = (cost / gives < best[several] - NUDGE_PER_KWH) & (kwh > 0)
        rows = several[better]
        best[rows], room[rows], source[rows] = (cost / gives)[better], kwh[better], PEAK
    return Energy(best, room, source)


def _stands_at_peak(at: Bools, source: Ints) -> Bools:
    """Whether the step a site would take from is one that makes its demand peak."""
    if not len(at):
        return np.zeros(len(source), dtype=bool)
    marked: Bools = np.asarray(at.any(axis=0))
    there = marked[np.arange(len(source)), np.clip(source, 0, None)]
    return np.asarray(there & (source >= 0))


def _reach(mine: Bools, above: Floats, below: Floats, step: int) -> Floats:
    """Energy that can be moved between `step` and all the marked steps together, (N,)."""
    nodes = np.arange(above.shape[1])
    last = mine.shape[1] - 1 - np.argmax(mine[:, ::-1], axis=1)
    first = np.argmax(mine, axis=1)
    ahead = np.where((nodes > step) & (nodes <= last[:, None]), above, np.inf).min(axis=1)
    back = np.where((nodes <= step) & (nodes > first[:, None]), below, np.inf).min(axis=1)
    return np.asarray(np.minimum(ahead, back))
