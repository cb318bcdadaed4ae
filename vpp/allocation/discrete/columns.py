"""Candidate blocks of mode-only sites: when each could start and be handed back.  Called by `choices.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpp.allocation.blocks import MIN_POWER_KW, MIN_RUN_H, Blocks, ModeState, Sweep
from vpp.allocation.problem import Problem
from vpp.allocation.sparse import Ints
from vpp.domain.fleet import Floats


@dataclass(frozen=True, slots=True)
class Columns:
    """Candidates, at most one of which each site takes: site (C,), start step (C,), power [kW] (C,T).

    `greedy` (M,) is the candidate the greedy sweep took for each site, -1 where it left the site alone.
    """

    site: Ints
    start: Ints
    power_kw: Floats
    greedy: Ints


def candidates(
    problem: Problem, states: Sequence[ModeState], sweep: Sweep, greedy: Blocks, most_columns: int
) -> Columns:
    """Return each site's blocks: start in any step of the event (running ones now); end when empty, before the
    last part-full step, or where the cap falls; and what the greedy sweep chose.

    Where there would be more than about `most_columns`, starts are thinned evenly; the greedy ones always stay.
    """
    events = np.flatnonzero(problem.committed)
    open_sites = [i for i, state in enumerate(states) if state is ModeState.IDLE]
    running = [i for i, state in enumerate(states) if state is ModeState.RUNNING]
    falls = 1 + np.flatnonzero(sweep.cap_kw[1:] < sweep.cap_kw[:-1] - 1e-9)
    per_start = len(open_sites) * (2 + len(falls) // 2)
    stride = max(1, int(np.ceil(len(events) * per_start / max(most_columns, 1))))
    found: dict[tuple[int, bytes], tuple[int, Floats]] = {}
    for i in np.flatnonzero(np.array(greedy.start) >= 0).tolist():
        found[i, greedy.power_kw[i].tobytes()] = (greedy.start[i], greedy.power_kw[i])
    chosen = {key[0]: place for place, key in enumerate(found)}
    for t in events[::stride].tolist():
        _add(found, sweep, open_sites, t, falls)
    too_much = float(sweep.profiles(running, 0)[:, 0].sum()) > sweep.cap_kw[0] if running else False
    _add(found, sweep, running, 0, np.concatenate(([0], falls)) if too_much else falls, least_h=0.0)
    site = np.array([key[0] for key in found], dtype=np.int64)
    start = np.array([value[0] for value in found.values()], dtype=np.int64)
    power = np.array([value[1] for value in found.values()]).reshape(len(found), problem.steps)
    return Columns(site, start, power, np.array([chosen.get(i, -1) for i in range(problem.sites)], dtype=np.int64))


def _add(
    found: dict[tuple[int, bytes], tuple[int, Floats]], sweep: Sweep, sites: Sequence[int], start: int, falls: Ints,
    least_h: float = MIN_RUN_H,
) -> None:  # fmt: skip
    """Put in the blocks of these sites that start in one step."""
    if not sites:
        return
    profiles = sweep.profiles(sites, start)
    limit = sweep.limit_kw[list(sites)]
    passed_h = np.concatenate(([0.0], np.cumsum(sweep.hours)))
    enough = int(np.searchsorted(passed_h, passed_h[start] + least_h - 1e-9))
    part_full = (profiles > 0) & (profiles < limit - 1e-9)
    tail = np.where(part_full.any(axis=1), part_full.argmax(axis=1), -1)
    last = profiles.shape[1] - 1 - (profiles[:, ::-1] > 0).argmax(axis=1)
    worth_it = (profiles[:, start] >= MIN_POWER_KW) | (least_h == 0)
    for k in np.flatnonzero(worth_it).tolist():
        i, profile = sites[k], profiles[k]
        found.setdefault((i, profile.tobytes()), (start, profile))
        ends = {int(t) for t in falls if start <= t <= last[k]} | {int(tail[k])}
        for end in sorted(ends):
            if end >= enough and end >= start:
                short = profile.copy()
                short[end:] = 0.0
                found.setdefault((i, short.tobytes()), (start, short))
