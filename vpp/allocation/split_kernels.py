"""One interval's split over very many sites, compiled.  Called by `realtime.py`, which imports it late.

A sample of sites says between which two levels (see `waterfill.py`) the answer lies; one pass over all
sites sums what is settled by that and picks the few per cent that are not; those are searched in the
same way until they are few. A second pass writes. No sort of all sites, and a sample that misleads
costs another pass, never the answer. Sums are taken over blocks of fixed size in a fixed order, so
that the answer does not depend on the number of threads.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpp.allocation.compiled import kernel
from vpp.allocation.waterfill import MOST_HOURS, NOISE_KW, Ramps, among_equals, find_level, settle
from vpp.domain.fleet import Floats

COST, QUADRATIC, TIME_TO_GO, RAMPS = 0, 1, 2, 3
BLOCK = 2048
PER_SAMPLE, LEAST_SAMPLE, MOST_SAMPLE = 25, 500, 8192
FEW = 4000
"""So many undecided sites are searched by sorting."""
SPREAD = 3.5
"""Standard deviations of the sample's error on either side; a miss costs one more pass."""
HARDLY_FEWER = 0.6
"""Where more than this share stays undecided (many sites of few prices), the next round halves instead."""
MOST_ROUNDS = 60
THREADED = 200_000
"""Below this many sites a second thread costs more than it saves."""

Ints = npt.NDArray[np.int64]


class Sites(NamedTuple):
    """What a split is computed from, as the kernels read it; contiguous, (N,) or (0,) where not used.

    `first` and `second` are: price and nothing (COST); price and slope (QUADRATIC); energy [kWh] and
    nothing (TIME_TO_GO, `step_h` long); start and end (RAMPS).
    """

    kind: int
    cap_kw: Floats
    first: Floats
    second: Floats
    weight: Floats
    step_h: float


def sites_of(
    kind: int, cap_kw: Floats, first: Floats, second: Floats | None = None, weight: Floats | None = None,
    step_h: float = 1.0,
) -> Sites:  # fmt: skip
    """Return what the kernels read; read-only and contiguous, so that they are compiled for one type only."""
    nothing = np.zeros(0)
    arrays = (cap_kw, first, nothing if second is None else second, nothing if weight is None else weight)
    views = [np.ascontiguousarray(array, dtype=np.float64).view() for array in arrays]
    for view in views:
        view.setflags(write=False)
    return Sites(kind, views[0], views[1], views[2], views[3], float(step_h))


@kernel
def _ramp(sites: Sites, i: int) -> tuple[float, float, float]:
    """Start, end and power of one site."""
    cap = sites.cap_kw[i]
    if sites.kind == COST:
        return sites.first[i], sites.first[i], cap
    if sites.kind == RAMPS:
        return sites.first[i], sites.second[i], cap
    weighted = sites.weight.shape[0] > 0
    if sites.kind == QUADRATIC:
        slope = sites.second[i] / sites.weight[i] if weighted else sites.second[i]
        return sites.first[i], sites.first[i] + slope * cap, cap
    weight, energy = sites.weight[i] if weighted else 1.0, sites.first[i]
    hours = min(energy / cap, MOST_HOURS) if cap > 0.0 else 0.0
    if hours < sites.step_h:
        cap = min(cap, energy / sites.step_h)
    return -weight * hours, -weight * max(hours - sites.step_h, 0.0), cap


@kernel
def _take(sites: Sites, at: Ints, start: Floats, end: Floats, cap: Floats) -> None:
    """Ramps of the sites at these indices."""
    for k in range(at.shape[0]):
        start[k], end[k], cap[k] = _ramp(sites, at[k])


@kernel
def _survey(sites: Sites, low: float, high: float, first: int, last: int, sums: Floats, at: Ints) -> None:
    """Sum what levels from `low` to `high` settle in each block, and pick the sites they do not.

    Columns of `sums` (B,6): given at `low` by the others, what those add per unit of level, power of
    all; of those picked their number, and what they give below `low` and up to `high` with its jumps.
    """
    count = sites.cap_kw.shape[0]
    for block in range(first, last):
        base, steady, total, least, most = 0.0, 0.0, 0.0, 0.0, 0.0
        picked = block * BLOCK
        for i in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            start, end, cap = _ramp(sites, i)
            # without branches: which side a site is on cannot be foreseen, and a wrong guess costs more than both
            total += cap
            base += cap * (end < low)
            at[picked] = i
            picked += (end >= low) & (start <= high)
        inside, picked = picked, block * BLOCK
        for k in range(picked, inside):
            start, end, cap = _ramp(sites, at[k])
            if start <= low and end >= high and start < end:
                rate = cap / (end - start)
                base += rate * (low - start)
                steady += rate
            else:
                at[picked] = at[k]
                picked += 1
                width = end - start
                least += cap * (min(max((low - start) / width, 0.0), 1.0) if width > 0.0 else 1.0 * (start < low))
                most += cap * (min(max((high - start) / width, 0.0), 1.0) if width > 0.0 else 1.0 * (start <= high))
        sums[block, 0], sums[block, 1], sums[block, 2] = base, steady, total
        sums[block, 3], sums[block, 4], sums[block, 5] = picked - block * BLOCK, least, most


@kernel
def _write(sites: Sites, level: float, first: int, last: int, share: Floats, sums: Floats) -> None:
    """Write what each site gives at a level, without the jumps at it.

    Columns of `sums` (B,2): power given, power of the jumps at the level.
    """
    count, ramps = sites.cap_kw.shape[0], sites.kind != COST
    for block in range(first, last):
        given, tied = 0.0, 0.0
        for i in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            start, end, cap = _ramp(sites, i)
            jump = end <= start
            part = min(max((level - start) / (end - start + jump), 0.0), 1.0) if ramps else 0.0
            x = cap * (start < level) * (1.0 if jump else part)
            tied += cap * (jump & (start == level))
            given += x
            share[i] = x
        sums[block, 0], sums[block, 1] = given, tied


@kernel
def _total(start: Floats, end: Floats, cap: Floats, level: float, ties: float) -> float:
    """What ramps give together at a level, and this share of the jumps at it."""
    total = 0.0
    for i in range(cap.shape[0]):
        jump = end[i] <= start[i]
        part = min(max((level - start[i]) / (end[i] - start[i] + jump), 0.0), 1.0)
        step = 1.0 * (start[i] < level) + ties * (start[i] == level)
        total += cap[i] * (step if jump else part)
    return total


@kernel
def _at_level(sites: Sites, level: float, jumps_only: bool, first: int, last: int, at: Ints) -> int:
    """Pick the sites whose ramp or jump, or whose jump only, is at the level; returns how many."""
    picked = 0
    for i in range(first, min(last, sites.cap_kw.shape[0])):
        start, end, _ = _ramp(sites, i)
        if start <= level <= end and (start == end or not jumps_only):
            at[picked] = i
            picked += 1
    return picked


@kernel
def _count_hours(edges: Floats, power_kw: Floats, energy_kwh: Floats, first: int, last: int, sums: Floats) -> None:
    """Sum energy and power of the sites of each block by the first edge they are empty at; `sums` (B,T+1,2)."""
    count, most = power_kw.shape[0], edges.shape[0]
    for block in range(first, last):
        for i in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            p, e = power_kw[i], energy_kwh[i]
            low, size = 0, most
            # number of edges at which the site still has energy, by halving without branches
            while size > 0:
                half = size >> 1
                beyond = edges[low + half] * p < e
                low += beyond * (half + 1)
                size = beyond * (size - half - 1) + (1 - beyond) * half
            sums[block, low, 0] += e * (p > 0.0)
            sums[block, low, 1] += p


def by_hours(edges_h: Floats, power_kw: Floats, energy_kwh: Floats, threads: int) -> tuple[Floats, Floats]:
    """Return energy and power of the sites that last beyond so many of the ascending edges, each (T+1,)."""
    sites = sites_of(RAMPS, power_kw, energy_kwh, edges_h)
    sums = np.zeros((_blocks(sites), len(edges_h) + 1, 2))
    with _Pool(threads if len(power_kw) >= THREADED else 1) as pool:
        pool.each(
            _blocks(sites),
            lambda first, last: _count_hours(sites.second, sites.cap_kw, sites.first, first, last, sums),
        )
    total = sums.sum(axis=0)
    return total[:, 0], total[:, 1]


def split(
    sites: Sites, target_kw: float, threads: int, tie_weight: Floats | None = None, spread: float = SPREAD
) -> Floats:
    """Return what each site gives so that together they reach the target, or all they have [kW], (N,).

    Args:
        sites: limits and what decides.
        target_kw: power wanted, 0 or more.
        threads: how many work at once; the answer is the same to the last bit whatever their number.
        tie_weight: (N,); how sites of the same price share, else the lower index comes first.
        spread: standard deviations of the sample's error to allow for; matters for speed only.
    """
    with _Pool(threads if len(sites.cap_kw) >= THREADED else 1) as pool:
        level = _find(sites, target_kw, pool, spread)
        share = np.empty(len(sites.cap_kw))
        sums = np.empty((_blocks(sites), 2))
        pool.each(_blocks(sites), lambda first, last: _write(sites, level, first, last, share, sums))
    if np.isinf(level):
        return share
    left_kw = target_kw - math.fsum(sums[:, 0])
    tied = np.flatnonzero(sums[:, 1])
    if tied.size:
        at = _picked(sites, level, True, int(tied[0]), int(tied[-1]) + 1)
        share[at] = _among_equals(sites.cap_kw[at], left_kw, None if tie_weight is None else tie_weight[at], threads)
        left_kw -= math.fsum(share[at])
    for block in range(_blocks(sites)):
        if abs(left_kw) <= NOISE_KW:
            break
        at = _picked(sites, level, False, block, block + 1)
        moved, most = share[at], _taken(sites, at).cap_kw
        left_kw = settle(moved, most, left_kw)
        share[at] = moved
    return share


class _Pool:
    """Runs a kernel over ranges of blocks, with threads of its own or without any."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def each(self, blocks: int, work: Callable[[int, int], None]) -> None:
        if self._pool is None or blocks < 2 * self._threads:
            work(0, blocks)
            return
        edges = [blocks * k // self._threads for k in range(self._threads + 1)]
        list(self._pool.map(work, edges[:-1], edges[1:]))


def _blocks(sites: Sites) -> int:
    return -(-len(sites.cap_kw) // BLOCK)


def _taken(sites: Sites, at: Ints) -> Ramps:
    made = Ramps(np.empty(len(at)), np.empty(len(at)), np.empty(len(at)))
    _take(sites, at, made.start, made.end, made.cap_kw)
    return made


def _picked(sites: Sites, level: float, jumps_only: bool, first: int, last: int) -> Ints:
    at = np.empty((last - first) * BLOCK, dtype=np.int64)
    return at[: _at_level(sites, level, jumps_only, first * BLOCK, last * BLOCK, at)]


def _among_equals(cap_kw: Floats, target_kw: float, weight: Floats | None, threads: int) -> Floats:
    if weight is None or len(cap_kw) <= FEW:
        return among_equals(cap_kw, target_kw, weight)
    return split(sites_of(RAMPS, cap_kw, np.zeros(len(cap_kw)), cap_kw / weight), target_kw, threads)


class _Search(NamedTuple):
    """What is left to search: undecided sites, those that rise steadily from `low` to `high`, what is wanted."""

    sites: Sites
    target_kw: float
    low: float = -np.inf
    high: float = np.inf
    steady: float = 0.0


class _Seen(NamedTuple):
    """What is known between two levels: power given at both, that of all, and the search that is left."""

    before_kw: float
    after_kw: float
    total_kw: float
    rest: _Search


def _find(sites: Sites, target_kw: float, pool: _Pool, spread: float) -> float:
    """Return the level that reaches the target; inf where all together do not."""
    left, narrow = _Search(sites, target_kw), False
    for attempt in range(MOST_ROUNDS):
        count = len(left.sites.cap_kw)
        if count <= FEW:
            break
        low, high = _guess(left, narrow, spread)
        seen = _look(left, low, high, pool)
        if attempt == 0 and target_kw >= seen.total_kw:
            return np.inf
        # the bounds hold but for rounding: one that seems broken is the answer
        if left.target_kw < seen.before_kw:
            if low <= left.low:
                return left.low
            seen = _look(left, left.low, float(np.nextafter(low, -np.inf)), pool)
        elif left.target_kw > seen.after_kw:
            if high >= left.high:
                return left.high
            seen = _look(left, float(np.nextafter(high, np.inf)), left.high, pool)
        elif low == high:
            return low
        left = seen.rest
        narrow = len(left.sites.cap_kw) > HARDLY_FEWER * count
    return _last(left)


def _last(left: _Search) -> float:
    """The level, by sorting what is left."""
    ramps = Ramps(left.sites.first, left.sites.second, left.sites.cap_kw)
    if left.steady > 0.0:
        parts = ((ramps.start, left.low), (ramps.end, left.high), (ramps.cap_kw, left.steady * (left.high - left.low)))
        ramps = Ramps(*(np.append(array, value) for array, value in parts))
    return min(find_level(ramps, left.target_kw, _total_kw), left.high)


def _total_kw(ramps: Ramps, level: float, ties: float) -> float:
    return float(_total(ramps.start, ramps.end, ramps.cap_kw, level, ties))


def _look(left: _Search, low: float, high: float, pool: _Pool) -> _Seen:
    sites, blocks = left.sites, _blocks(left.sites)
    sums, at = np.empty((blocks, 6)), np.empty(blocks * BLOCK, dtype=np.int64)
    pool.each(blocks, lambda first, last: _survey(sites, low, high, first, last, sums, at))
    base, steady, total, _, least, most = (math.fsum(column) for column in sums.T)
    steady += left.steady
    if left.steady > 0.0:
        base += left.steady * (low - left.low)
    risen = steady * (high - low) if steady > 0.0 else 0.0
    undecided = _taken(sites, np.concatenate([at[b * BLOCK :][: int(k)] for b, k in enumerate(sums[:, 3])]))
    rest = sites_of(RAMPS, undecided.cap_kw, undecided.start, undecided.end)
    search = _Search(rest, left.target_kw - base, low, high, steady)
    return _Seen(base + least, base + risen + most, total, search)


def _guess(left: _Search, narrow: bool, spread: float) -> tuple[float, float]:
    """Two levels between which a sample expects the answer, or one that halves the search if `narrow`."""
    count = len(left.sites.cap_kw)
    drawn = min(max(count // PER_SAMPLE, LEAST_SAMPLE), MOST_SAMPLE)
    sample = _taken(left.sites, np.random.default_rng(drawn).integers(0, count, drawn))
    wanted = left.target_kw * drawn / count
    level, reached = _curve(sample)
    if left.steady > 0.0:
        reached = reached + left.steady * drawn / count * (np.clip(level, left.low, left.high) - left.low)
    middle = level[min(int(np.searchsorted(reached, wanted)), len(level) - 1)]
    at_low = at_high = middle
    if not narrow:
        error = spread * math.sqrt(drawn) * float(sample.given_kw(middle).std())
        below = int(np.searchsorted(reached, wanted - error)) - 1
        above = int(np.searchsorted(reached, wanted + error))
        at_low = level[below] if below >= 0 else left.low
        at_high = level[above] if above < len(level) else left.high
    return float(np.clip(at_low, left.low, left.high)), float(np.clip(at_high, left.low, left.high))


def _curve(ramps: Ramps) -> tuple[Floats, Floats]:
    """Levels in order and the power given up to each; rounding builds up, which a guess can bear."""
    jump = ramps.start >= ramps.end
    if jump.all():
        order = np.argsort(ramps.start)
        return ramps.start[order], np.cumsum(ramps.cap_kw[order])
    slope = ramps.cap_kw / np.where(jump, np.inf, ramps.end - ramps.start)
    level = np.concatenate((ramps.start, ramps.end))
    order = np.argsort(level)
    level = level[order]
    turn = np.cumsum(np.concatenate((slope, -slope))[order])
    jumped = np.cumsum(np.concatenate((np.where(jump, ramps.cap_kw, 0.0), np.zeros(len(jump))))[order])
    risen = np.concatenate(([0.0], np.cumsum(turn[:-1] * np.diff(level))))
    return level, jumped + risen
