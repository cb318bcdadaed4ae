"""The split of one interval's kW over sites without a solver, and of a whole problem when none answers.

Called by `exact.py` when no solver answers in time, and by whoever needs one interval split at once.

Three rules, one search (`waterfill.py`; `split_kernels.py` for many sites):

* merit order: the cheapest first;
* quadratic: the same marginal cost everywhere, price + slope x power;
* time to go: the sites' remaining hours at full power become as equal as they can. It serves any request
  that can be served at all, if limits stay and nobody recharges (Evans, Tindemans and Angeli, IEEE
  Trans. Power Systems 34(5), 2019).

A target below zero is turn-up: limits are then charge limits, energy is the room left [kWh at the
terminals], price is what absorbing costs, and what comes back is negative. No site is ever given more
than its limit; the sum is the target, or all there is.

A `weight` (N,), 1 if left out, says how much of the burden a site takes, for fairness or to spare the
tired; only ratios matter. Merit order: sites of equal price share in proportion to it (without weights
the lower index comes first), so fairness costs nothing. Quadratic: it divides the slope, so sites alike
in all else share in proportion to it. Time to go: it multiplies a site's hours, so one of weight 2 is
left with half as many; with unequal weights the guarantee above is given up.
"""

import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vpp.allocation.arrays import SPECS
from vpp.allocation.feeders import Room, held, room
from vpp.allocation.limits import (
    ceiling_kwh,
    charge_pieces,
    discharge_pieces,
    floor_kwh,
    max_charge_kw,
    max_discharge_kw,
)
from vpp.allocation.problem import Problem
from vpp.allocation.waterfill import Ramps, among_equals, fill, time_to_go_ramps
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

MANY = 20_000
"""From so many sites on the compiled search is used; below, its import would cost more than it saves."""
MOST_THREADS = 2
"""More were not measured."""
STEPS_AT_ONCE = 16
"""Enough steps to read (N,T) arrays by whole lines, few enough for a million sites' memory."""
ROUNDING_KW = 1e-6


def split_by_cost(
    target_kw: float, limit_kw: Floats, price_per_kwh: Floats, *, weight: Floats | None = None,
    threads: int | None = None,
) -> Floats:  # fmt: skip
    """Split by merit order: the cheapest first up to the target [kW].

    Args:
        target_kw: power wanted; below zero to absorb.
        limit_kw: most each site may give, (N,).
        price_per_kwh: marginal cost of each, (N,).
        weight: how sites of equal price share, (N,); the lower index first if left out.
        threads: for very many sites; the answer does not depend on it.
    """
    wanted = _wanted(target_kw, weight, limit_kw=limit_kw, price_per_kwh=price_per_kwh)
    if len(limit_kw) >= MANY:
        # imported late: the compiler takes most of a second to load
        from vpp.allocation import split_kernels as kernels

        share = kernels.split(
            kernels.sites_of(kernels.COST, limit_kw, price_per_kwh), wanted, threads_for(threads), weight
        )
    elif weight is None:
        order = np.argsort(price_per_kwh, kind="stable")
        share = np.zeros(len(limit_kw))
        share[order] = among_equals(limit_kw[order], wanted, None)
    else:
        share = fill(Ramps(price_per_kwh, price_per_kwh, limit_kw), wanted, weight)
    return share if target_kw >= 0 else -share


def split_quadratic(
    target_kw: float, limit_kw: Floats, price_per_kwh: Floats, slope_per_kwh_kw: Floats, *,
    weight: Floats | None = None, threads: int | None = None,
) -> Floats:  # fmt: skip
    """Split at least cost where a site's kWh costs price + slope x power, so that marginal costs are equal.

    Args:
        target_kw: power wanted; below zero to absorb.
        limit_kw: most each site may give, (N,).
        price_per_kwh: marginal cost of the first kW, (N,).
        slope_per_kwh_kw: by how much each kW raises it, 0 or more, (N,).
        weight: divides the slope, (N,).
        threads: for very many sites; the answer does not depend on it.
    """
    wanted = _wanted(
        target_kw, weight, limit_kw=limit_kw, price_per_kwh=price_per_kwh, slope_per_kwh_kw=slope_per_kwh_kw
    )
    if len(limit_kw) >= MANY:
        from vpp.allocation import split_kernels as kernels  # imported late, as above

        sites = kernels.sites_of(kernels.QUADRATIC, limit_kw, price_per_kwh, slope_per_kwh_kw, weight)
        share = kernels.split(sites, wanted, threads_for(threads))
    else:
        slope = slope_per_kwh_kw if weight is None else slope_per_kwh_kw / weight
        share = fill(Ramps(price_per_kwh, price_per_kwh + slope * limit_kw, limit_kw), wanted)
    return share if target_kw >= 0 else -share


def split_by_time_to_go(
    target_kw: float, limit_kw: Floats, energy_kwh: Floats, step_h: float, *, weight: Floats | None = None,
    threads: int | None = None,
) -> Floats:  # fmt: skip
    """Split so that the sites' remaining hours at full power become as equal as they can.

    Args:
        target_kw: power wanted in this step; below zero to absorb.
        limit_kw: most each site may give, (N,).
        energy_kwh: what each may still deliver, or absorb, at its terminals, (N,).
        step_h: length of the step [h].
        weight: multiplies a site's hours, (N,).
        threads: for very many sites; the answer does not depend on it.
    """
    wanted = _wanted(target_kw, weight, limit_kw=limit_kw, energy_kwh=energy_kwh)
    if len(limit_kw) >= MANY:
        from vpp.allocation import split_kernels as kernels  # imported late, as above

        sites = kernels.sites_of(kernels.TIME_TO_GO, limit_kw, energy_kwh, None, weight, step_h)
        share = kernels.split(sites, wanted, threads_for(threads))
    else:
        share = fill(time_to_go_ramps(limit_kw, energy_kwh, step_h, weight), wanted)
    return share if target_kw >= 0 else -share


def _wanted(target_kw: float, weight: Floats | None, **arrays: Floats) -> float:
    """Return how much is wanted in the target's direction.

    Raises:
        InvalidRequest: a target, limit, energy, price, slope or weight that is none.
    """
    if not np.isfinite(target_kw):
        raise InvalidRequest("target_kw", target_kw, "a finite power")
    if weight is not None:
        arrays["weight"] = weight
    sites = len(arrays["limit_kw"])
    for name, values in arrays.items():
        if values.shape != (sites,):
            raise InvalidRequest(name, values.shape, f"one value per site, shape ({sites},)")
        low = -np.inf if name == "price_per_kwh" else 0.0
        # a sum is finite only if all are
        if sites and (not np.isfinite(values.sum()) or values.min() < low or (name == "weight" and values.min() <= 0)):
            allowed = "finite" if name == "price_per_kwh" else "above 0" if name == "weight" else "0 or more"
            wrong = ~np.isfinite(values) | (values < low) | ((values <= 0) if name == "weight" else False)
            at = int(np.flatnonzero(wrong)[0]) if wrong.any() else 0
            raise InvalidRequest(f"{name}[{at}]", float(values[at]), allowed)
    return abs(float(target_kw))


def threads_for(asked: int | None) -> int:
    """How many threads to use where so many are asked for, or none in particular."""
    return asked or min(MOST_THREADS, os.cpu_count() or 1)


def split_step(problem: Problem, step: int, target_kw: float) -> Floats:
    """Split one step's kW by marginal cost, (N,): saved import before export, wear and stored worth counted.

    Below zero, by the cost of absorbing: PV that would be lost or sold before what must be bought.
    """
    now, hours = _steps(problem, step, step + 1), float(problem.step_h[step])
    stored = problem.soc * problem.capacity_kwh
    if target_kw >= 0:
        pieces, worth = discharge_pieces(now), problem.terminal_value_per_kwh / problem.discharge_efficiency
        energy = (stored - floor_kwh(problem)) * problem.discharge_efficiency
    else:
        pieces, worth = charge_pieces(now), -problem.terminal_value_per_kwh * problem.charge_efficiency
        energy = (ceiling_kwh(problem) - stored) / problem.charge_efficiency
    bound = np.stack([piece.bound_kw[:, 0] for piece in pieces])
    price = np.stack([np.broadcast_to(piece.price_per_kwh, piece.bound_kw.shape)[:, 0] + worth for piece in pieces])
    # each site's energy goes to its cheapest pieces
    order = np.argsort(price, axis=0, kind="stable")
    bound, price = np.take_along_axis(bound, order, 0), np.take_along_axis(price, order, 0)
    reach = np.minimum(np.cumsum(bound, axis=0), np.clip(energy, 0.0, None) / hours)
    share = split_by_cost(target_kw, np.diff(reach, axis=0, prepend=0.0).clip(0.0).ravel(), price.ravel())
    return np.asarray(share.reshape(len(pieces), problem.sites).sum(axis=0))


class _Now(NamedTuple):
    """What one step of the split starts from: step and length, limits [kW] and energy [kWh], (N,)."""

    step: int
    hours: float
    discharge_kw: Floats
    charge_kw: Floats
    deliverable_kwh: Floats
    room_kwh: Floats
    kept_kwh: Floats


def split_all(problem: Problem) -> Floats:
    """Battery power (N,T) for every step without a solver.

    Keeps back what a site needs against its own demand peaks, then serves what is owed by greatest
    time-to-go: the dearest commitment first, turn-up without raising a priced peak. Charges for nothing
    else. Feeders are kept to, and what they cut off is asked of the others.
    """
    power = np.zeros((problem.sites, problem.steps))
    feeders = room(problem) if len(problem.feeder_parent) else None
    stored, floor, ceiling = problem.soc * problem.capacity_kwh, floor_kwh(problem), ceiling_kwh(problem)
    into, out = problem.charge_efficiency, problem.discharge_efficiency
    kept = _shaved_kwh(problem)
    for first in range(0, problem.steps, STEPS_AT_ONCE):
        block = _steps(problem, first, min(first + STEPS_AT_ONCE, problem.steps))
        most = max_discharge_kw(block)
        shave, most = shaving_kw(block, most).T.copy(), most.T.copy()
        absorbs = bool((block.committed & (block.commitment_kw < 0)).any())
        charge = _charge_below_peaks_kw(block).T.copy() if absorbs else np.zeros_like(most)
        done = np.empty_like(most)
        for k in range(block.steps):
            hours = float(block.step_h[k])
            kept = np.clip(kept - shave[k] * hours, 0.0, None)
            energy, gap = np.clip((stored - floor) * out, 0.0, None), np.clip((ceiling - stored) / into, 0.0, None)
            now = _Now(first + k, hours, most[k], charge[k], energy, gap, kept)
            given = _served(problem, now, np.minimum(shave[k], energy / hours))
            if feeders is not None:
                given = _within_feeders(problem, now, feeders, given)
            done[k] = given
            stored = np.clip(stored - np.where(given > 0, given / out, given * into) * hours, floor, ceiling)
        power[:, first : first + block.steps] = done.T
    return power


def _served(problem: Problem, now: _Now, own_kw: Floats) -> Floats:
    """Add to what sites give for themselves what is owed in this step, (N,)."""
    t, power, unclaimed = now.step, own_kw.copy(), own_kw.copy()
    asked, coupled = asked_kw(problem)
    main_kw = float(asked[t] - problem.fixed_kw[t]) if coupled[t] else 0.0
    programs = np.flatnonzero(problem.program_commitment_kw[:, t] > 0)
    owed = [
        (float(problem.program_shortfall_price_per_kwh[c, t]), float(problem.program_commitment_kw[c, t]),
         problem.program_site[c]) for c in programs
    ]  # fmt: skip
    everyone = np.ones(problem.sites, dtype=bool)
    if main_kw > 0 and asked[t] >= 0:
        owed.append((float(problem.shortfall_price_per_kwh[t]), main_kw, everyone))
    if all(sites.all() for _, _, sites in owed):
        owed = [(0.0, sum(kw for _, kw, _ in owed), everyone)]
    for _, kw, sites in sorted(owed, key=lambda one: (-one[0], int(one[2].sum()))):
        have_kw = float(unclaimed[sites].sum())
        if have_kw > 0:
            unclaimed[sites] *= 1.0 - min(1.0, kw / have_kw)
        if kw > have_kw:
            power += _more(now, power, kw - have_kw, sites)
    if main_kw < 0 and asked[t] < 0:
        # no programme is owed power in such a step, and who discharges for itself does not absorb
        power += _more(now, power, main_kw - float(unclaimed.sum()), power <= 0)
    return power


def _more(now: _Now, power_kw: Floats, target_kw: float, sites: Bools) -> Floats:
    """What these sites give, or below zero take, on top by greatest time-to-go, (N,)."""
    if target_kw >= 0:
        limit = np.where(sites, now.discharge_kw - power_kw, 0.0)
        energy = now.deliverable_kwh - np.clip(power_kw, 0.0, None) * now.hours - now.kept_kwh
    else:
        limit = np.where(sites, now.charge_kw + np.minimum(power_kw, 0.0), 0.0)
        energy = now.room_kwh + np.minimum(power_kw, 0.0) * now.hours
    limit = np.clip(limit, 0.0, None)
    wanted = float(np.clip(target_kw, -limit.sum(), limit.sum()))  # an unlimited offer asks for all
    return split_by_time_to_go(wanted, limit, np.clip(energy, 0.0, None), now.hours)


def _within_feeders(problem: Problem, now: _Now, feeders: Room, power_kw: Floats) -> Floats:
    """Scale back what a feeder does not carry and ask it of sites elsewhere, as often as that helps."""
    wanted_kw = float(power_kw.sum())
    power = held(problem, feeders, now.step, power_kw)
    blocked = np.zeros(len(problem.feeder_parent), dtype=bool)
    before = power_kw
    for _ in range(len(blocked)):
        cut = np.abs(before - power) > ROUNDING_KW
        if not cut.any() or abs(wanted_kw - power.sum()) <= ROUNDING_KW:
            break
        blocked[problem.feeder[cut]] = True
        open_sites = np.ones(problem.sites, dtype=bool)
        on = problem.feeder >= 0
        open_sites[on] = ~blocked[problem.feeder[on]]
        before = power + _more(now, power, wanted_kw - float(power.sum()), open_sites)
        power = held(problem, feeders, now.step, before)
    return power


def asked_kw(problem: Problem) -> tuple[Floats, Bools]:
    """Power owed or offered in each step [kW], (T,), and where there is any; unlimited offers ask for all."""
    offered = problem.capacity_window >= 0
    asked = np.where(problem.committed, problem.commitment_kw, 0.0)
    asked[offered] = problem.capacity_limit_kw[problem.capacity_window[offered]]
    return asked, np.asarray(problem.committed | offered)


def shaving_kw(problem: Problem, most_kw: Floats | None = None) -> Floats:
    """Discharge that keeps each site at or below its priced peaks [kW], (N,T); at most `most_kw` if it is known."""
    most = max_discharge_kw(problem) if most_kw is None else most_kw
    over = np.zeros_like(most)
    for w, window in enumerate(problem.demand_window):
        priced = (problem.demand_price_per_kw[:, w] > 0)[:, None] & window
        if priced.any():
            over = np.maximum(over, np.where(priced, problem.net_load_kw - problem.peak_so_far_kw[:, w, None], 0.0))
    return np.asarray(np.minimum(over, most))


def _charge_below_peaks_kw(problem: Problem) -> Floats:
    """Most charging that raises no priced peak [kW], (N,T)."""
    most = max_charge_kw(problem)
    for w, window in enumerate(problem.demand_window):
        priced = (problem.demand_price_per_kw[:, w] > 0)[:, None] & window
        if priced.any():
            below = np.clip(problem.peak_so_far_kw[:, w, None] - problem.net_load_kw, 0.0, None)
            most = np.where(priced, np.minimum(most, below), most)
    return most


def _shaved_kwh(problem: Problem) -> Floats:
    """Energy each site needs against its own peaks in all steps [kWh], (N,)."""
    total = np.zeros(problem.sites)
    if (problem.demand_price_per_kw > 0).any():
        for first in range(0, problem.steps, STEPS_AT_ONCE):
            block = _steps(problem, first, min(first + STEPS_AT_ONCE, problem.steps))
            total += shaving_kw(block) @ block.step_h
    return total


def _steps(problem: Problem, first: int, last: int) -> Problem:
    """The same sites over some of the steps; nothing is copied."""
    cut = {
        name: array[..., first:last] for name, array in problem.arrays().items() if SPECS[name].shape[-1] == "T"
    }  # fmt: skip
    return replace(problem, **cut)
