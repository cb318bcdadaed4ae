"""Mode-only sites as fixed blocks: on at their own power until the reserve, then handed back.

Called by `discrete/choices.py`, which starts from this answer and keeps it where it finds none better.
Such a device takes no setpoint and few commands a day, so each gets one start and one release in an
event; the sites that take kW fill what is left. A greedy sweep over the steps, the same answer for the
same input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vpp.allocation.limits import floor_kwh, max_discharge_kw
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import shaving_kw
from vpp.domain.fleet import Bools, Floats

MIN_RUN_H = 0.5
"""A start that would have to be taken back sooner is not worth one of the day's commands."""
MIN_POWER_KW = 0.05


class ModeState(StrEnum):
    """Where a mode-only site stands in the event at hand."""

    IDLE = "idle"
    RUNNING = "running"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Blocks:
    """What the mode-only sites do: power (M,T) [kW], the step each starts at or -1 (M,)."""

    power_kw: Floats
    start: tuple[int, ...]


class Sweep:
    """The running blocks while the sweep goes through the steps."""

    def __init__(self, limit_kw: Floats, energy_kwh: Floats, hours: Floats, cap_kw: Floats, committed: Bools) -> None:
        self.limit_kw = np.where(committed, limit_kw, 0.0)
        self.energy_kwh = energy_kwh.copy()
        self.hours = hours
        self.cap_kw = cap_kw
        self.power_kw = np.zeros_like(limit_kw)
        self.running = np.zeros(len(limit_kw), dtype=bool)

    def profiles(self, sites: Sequence[int] | Floats, step: int) -> Floats:
        """Power of blocks that run from `step` until empty, (len(sites), T)."""
        rows = np.asarray(sites, dtype=np.int64)
        made = np.zeros((len(rows), self.limit_kw.shape[1]))
        limit, left = self.limit_kw[rows], self.energy_kwh[rows]
        for t in range(step, made.shape[1]):
            made[:, t] = np.minimum(limit[:, t], left / self.hours[t])
            left = np.maximum(left - made[:, t] * self.hours[t], 0.0)
        return made

    def start(self, site: int, step: int) -> None:
        self.running[site] = True
        self.power_kw[site] = self.profiles([site], step)[0]

    def stop(self, site: int, step: int) -> None:
        self.running[site] = False
        self.power_kw[site, step:] = 0.0

    def fits(self, site: int, step: int, sum_kw: Floats) -> bool:
        """Whether a block started now stays within the cap for a useful while, or until it is empty.

        Where the cap falls soon, older and emptier blocks make room, so that is no reason to wait.
        """
        profile = self.profiles([site], step)[0]
        if profile[step] < MIN_POWER_KW:
            return False
        passed_h = np.cumsum(self.hours[step:]) - self.hours[step:]
        near = step + np.flatnonzero(
            (passed_h < MIN_RUN_H) & (profile[step:] > 0) & (self.cap_kw[step:] >= self.cap_kw[step])
        )
        return bool((sum_kw[near] + profile[near] <= self.cap_kw[near] + 1e-9).all())

    def advance(self, step: int) -> None:
        self.energy_kwh = np.clip(self.energy_kwh - self.power_kw[:, step] * self.hours[step], 0.0, None)


def choose(
    problem: Problem, states: Sequence[ModeState], target_kw: Floats, others_kw: Floats, others_kwh: float,
    *, measured_kw: Floats | None = None, tolerance: float = 0.02,
) -> Blocks:  # fmt: skip
    """Return which mode-only sites run when, so that nobody delivers what cannot be absorbed.

    Args:
        problem: the mode-only sites; its committed steps are the event.
        states: where each site stands. RUNNING ones stay until empty or over-delivering; RELEASED
            ones are not started again.
        target_kw: power owed in each step, (T,).
        others_kw: what the sites that take kW could hold in each step, (T,).
        others_kwh: the energy those can deliver: blocks carry their own share of all energy.
        measured_kw: power of each site now, (M,): a running site is expected to go on like that.
        tolerance: share by which blocks alone may exceed the target.
    """
    energy = deliverable_kwh(problem)
    limit = limits_kw(problem, states, measured_kw)
    sweep = Sweep(limit, energy, problem.step_h, target_kw * (1.0 + tolerance), problem.committed)
    wanted = wanted_kw(problem, states, target_kw, others_kw, others_kwh)
    start = [-1] * problem.sites
    open_sites = {i for i, state in enumerate(states) if state is ModeState.IDLE}
    for i, state in enumerate(states):
        if state is ModeState.RUNNING:
            sweep.start(i, 0)
            start[i] = 0
    for t in np.flatnonzero(problem.committed).tolist():
        _release_excess(sweep, t)
        _start_missing(sweep, t, wanted, open_sites, start)
        sweep.advance(t)
    return Blocks(sweep.power_kw, tuple(start))


def wanted_kw(
    problem: Problem, states: Sequence[ModeState], target_kw: Floats, others_kw: Floats, others_kwh: float
) -> Floats:
    """Power these sites should carry together [kW], (T,): their share of all energy, or what the others cannot.

    At this share both kinds of sites last equally long.
    """
    left = np.array([state is not ModeState.RELEASED for state in states], dtype=bool)
    mine = float(deliverable_kwh(problem)[left].sum())
    share = mine / (mine + others_kwh) if mine + others_kwh > 0 else 0.0
    return np.where(problem.committed, np.maximum(share * target_kw, target_kw - others_kw), 0.0)


def deliverable_kwh(problem: Problem) -> Floats:
    """Energy each site can deliver [kWh], (N,), less what it needs against its own peak outside the event."""
    stored = np.clip(problem.soc * problem.capacity_kwh - floor_kwh(problem), 0.0, None)
    kept = (shaving_kw(problem) * problem.step_h)[:, ~problem.committed].sum(axis=1)
    return np.asarray(np.clip(stored * problem.discharge_efficiency - kept, 0.0, None))


def limits_kw(problem: Problem, states: Sequence[ModeState], measured_kw: Floats | None) -> Floats:
    """Power a site is expected to give [kW], (M,T): its limits, for a running one no more than it gives now."""
    limit = max_discharge_kw(problem)
    if measured_kw is None:
        return limit
    running = np.array([state is ModeState.RUNNING for state in states], dtype=bool)
    # a site that was started a moment ago may still read zero
    known = running & (measured_kw > MIN_POWER_KW)
    return np.where(known[:, None], np.minimum(limit, measured_kw[:, None]), limit)


def _release_excess(sweep: Sweep, step: int) -> None:
    """Hand back the emptiest blocks while the running ones together exceed the cap."""
    sum_kw = float(sweep.power_kw[:, step].sum())
    for i in sorted(np.flatnonzero(sweep.running).tolist(), key=lambda i: (sweep.energy_kwh[i], i)):
        if sum_kw <= sweep.cap_kw[step] + 1e-9:
            return
        sum_kw -= float(sweep.power_kw[i, step])
        sweep.stop(i, step)


def _start_missing(sweep: Sweep, step: int, wanted: Floats, open_sites: set[int], start: list[int]) -> None:
    """Start the blocks that last longest until the wanted power is reached."""
    if sweep.power_kw[:, step].sum() >= wanted[step] - 1e-9:
        return
    hours = {i: sweep.energy_kwh[i] / max(float(sweep.limit_kw[i, step]), 1e-9) for i in open_sites}
    for i in sorted(open_sites, key=lambda i: (-hours[i], i)):
        sum_kw = sweep.power_kw.sum(axis=0)
        if sum_kw[step] >= wanted[step] - 1e-9:
            return
        if sweep.energy_kwh[i] > 0 and sweep.fits(i, step, sum_kw):
            sweep.start(i, step)
            start[i] = step
            open_sites.discard(i)
