"""Feeders: what all sites below a node of the network may do together, and how to keep them within it.

Called by `linear.py`, which makes rows of it, and by `answer.py`, which holds every answer to them.
A flow is the sum of battery power less net load of all sites below, positive toward the grid.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.problem import Ints, Problem
from vpp.domain.fleet import Bools, Floats

TOLERANCE_KW = 1e-6


@dataclass(frozen=True, slots=True)
class Room:
    """What the batteries below each feeder may do together [kW], (F,T): at least `least_kw`, at most `most_kw`.

    Idle batteries are always within: where their flow breaks a limit it is the limit, and `over` says so.
    """

    least_kw: Floats
    most_kw: Floats
    over: Bools


def room(problem: Problem) -> Room:
    """Return the room left by the sites' own load."""
    idle_kw = -below(problem, problem.net_load_kw)
    export_kw, import_kw = problem.feeder_export_limit_kw, problem.feeder_import_limit_kw
    over = (idle_kw > export_kw + TOLERANCE_KW) | (-idle_kw > import_kw + TOLERANCE_KW)
    return Room(np.minimum(-import_kw - idle_kw, 0.0), np.maximum(export_kw - idle_kw, 0.0), over)


def below(problem: Problem, power_kw: Floats) -> Floats:
    """Sum over all sites below each feeder, (N,T) to (F,T)."""
    feeders = len(problem.feeder_parent)
    at = np.flatnonzero(problem.feeder >= 0)
    if not feeders or not at.size:
        return np.zeros((feeders, problem.steps))
    node = problem.feeder[at]
    sums: Floats = np.stack([np.bincount(node, power_kw[at, t], feeders) for t in range(problem.steps)], axis=1)
    return _up_the_tree(problem.feeder_parent, sums)


def deepest_first(parent: Ints) -> Ints:
    """The feeders in an order in which each comes before the one it is fed from, (F,)."""
    depth, above = np.zeros(len(parent), dtype=np.int64), parent.copy()
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parent[above], -1)
    return np.argsort(-depth, kind="stable")


def held(problem: Problem, limits: Room, step: int, power_kw: Floats) -> Floats:
    """Return the power of one step, (N,), scaled back where a feeder's limit would break; no battery does more.

    From the leaves up, the direction that breaks a limit is scaled back. Where that breaks another one
    (less discharge may mean too much import), all batteries below the same root are scaled toward idle,
    which is within by definition.
    """
    parent, feeders = problem.feeder_parent, len(problem.feeder_parent)
    on = problem.feeder >= 0
    node = problem.feeder[on]
    power = power_kw.copy()
    out = np.bincount(node, np.clip(power[on], 0.0, None), feeders)
    into = np.bincount(node, np.clip(-power[on], 0.0, None), feeders)
    keep_out, keep_in = np.ones(feeders), np.ones(feeders)
    order = deepest_first(parent)
    for f in order:
        most, least = limits.most_kw[f, step], limits.least_kw[f, step]
        if out[f] - into[f] > most:
            keep_out[f] = (most + into[f]) / out[f]
        elif out[f] - into[f] < least:
            keep_in[f] = (out[f] - least) / into[f]
        out[f], into[f] = out[f] * keep_out[f], into[f] * keep_in[f]
        if parent[f] >= 0:
            out[parent[f]] += out[f]
            into[parent[f]] += into[f]
    for f in order[::-1]:
        if parent[f] >= 0:
            keep_out[f], keep_in[f] = keep_out[f] * keep_out[parent[f]], keep_in[f] * keep_in[parent[f]]
    power[on] *= np.where(power[on] > 0, keep_out[node], keep_in[node])
    return _toward_idle(problem, limits, step, power)


def _toward_idle(problem: Problem, limits: Room, step: int, power_kw: Floats) -> Floats:
    parent, feeders = problem.feeder_parent, len(problem.feeder_parent)
    on = problem.feeder >= 0
    node = problem.feeder[on]
    flow: Floats = np.bincount(node, power_kw[on], feeders).astype(np.float64)
    sums = _up_the_tree(parent, flow[:, None])[:, 0]
    most, least = limits.most_kw[:, step], limits.least_kw[:, step]
    keep = np.ones(feeders)
    high, low = sums > most + TOLERANCE_KW / 2, sums < least - TOLERANCE_KW / 2
    keep[high], keep[low] = most[high] / sums[high], least[low] / sums[low]
    if (keep == 1.0).all():
        return power_kw
    root = np.arange(feeders)
    while (parent[root] >= 0).any():
        root = np.where(parent[root] >= 0, parent[root], root)
    worst = np.ones(feeders)
    np.minimum.at(worst, root, keep)
    power_kw[on] *= worst[root[node]]
    return power_kw


def _up_the_tree(parent: Ints, sums: Floats) -> Floats:
    for f in deepest_first(parent):
        if parent[f] >= 0:
            sums[parent[f]] += sums[f]
    return sums
