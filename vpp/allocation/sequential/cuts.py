"""The lowest point of a few planes over non-negative coordinates.  Called by `responses.py`.

A linear programme of W + 1 rows, small enough for a dense revised simplex on its dual:
maximise sum_k a_k v_k with sum_k a_k = 1, sum_k a_k g_kw - slack_w = 0, a and slack not negative.
"""

import numpy as np

from vpp.allocation.compiled import kernel

MOST_PIVOTS = 60


@kernel
def lowest(value, slope, count, at):
    """Return min over x >= 0 of max_k value[k] + slope[k].x, and write the x that attains it to `at` (W,).

    Plane 1 must rise in every coordinate; it is where the search starts.
    """
    dims = at.shape[0]
    if dims == 1:
        return lowest_on_line(value, slope, count, at)
    size = dims + 1
    basis = np.empty(size, np.int64)  # below `count` a plane, else the slack of a coordinate
    inverse, costs, point, added = np.zeros((size, size)), np.zeros(size), np.zeros(size), np.empty(size)
    basis[0], costs[0], inverse[0, 0] = 1, value[1], 1.0
    for w in range(dims):
        basis[w + 1] = count + w
        inverse[w + 1, 0], inverse[w + 1, w + 1] = slope[1, w], -1.0
    for _ in range(MOST_PIVOTS):
        for c in range(size):  # the level, then minus the coordinates
            point[c] = 0.0
            for r in range(size):
                point[c] += costs[r] * inverse[r, c]
        enter, most = -1, 1e-9 * (1.0 + abs(point[0]))
        for k in range(count):
            gain = value[k] - point[0]
            for w in range(dims):
                gain -= slope[k, w] * point[w + 1]
            if gain > most:
                enter, most = k, gain
        for w in range(dims):
            if point[w + 1] > max(most, 1e-9):
                enter, most = count + w, point[w + 1]
        if enter < 0:
            break
        column(slope, count, enter, added)
        step = np.zeros(size)
        for r in range(size):
            for c in range(size):
                step[r] += inverse[r, c] * added[c]
        leave, least = -1, np.inf
        for r in range(size):
            if step[r] > 1e-12:
                ratio = max(inverse[r, 0], 0.0) / step[r]
                if ratio < least - 1e-15:
                    leave, least = r, ratio
        if leave < 0:
            break
        basis[leave], costs[leave] = enter, value[enter] if enter < count else 0.0
        for c in range(size):
            inverse[leave, c] /= step[leave]
        for r in range(size):
            if r != leave:
                for c in range(size):
                    inverse[r, c] -= step[r] * inverse[leave, c]
    for w in range(dims):
        at[w] = max(0.0, -point[w + 1])
    return point[0]


@kernel
def column(slope, count, index, into):
    """The constraint column of a plane, or of a coordinate's slack."""
    for r in range(into.shape[0]):
        into[r] = 0.0
    if index < count:
        into[0] = 1.0
        for w in range(into.shape[0] - 1):
            into[w + 1] = slope[index, w]
    else:
        into[index - count + 1] = -1.0


@kernel
def lowest_on_line(value, slope, count, at):
    """The same in one dimension: the best mean of a falling and a rising plane."""
    x, top = 0.0, 0
    for k in range(1, count):
        if value[k] > value[top] or (value[k] == value[top] and slope[k, 0] > slope[top, 0]):
            top = k
    for _ in range(count):  # the highest plane falls: follow it to the first one that crosses
        if slope[top, 0] >= 0.0:
            break
        crossing, cross = -1, np.inf
        for k in range(count):
            if slope[k, 0] > slope[top, 0]:
                meets = max(x, (value[top] - value[k]) / (slope[k, 0] - slope[top, 0]))
                if meets < cross or (meets == cross and slope[k, 0] > slope[crossing, 0]):
                    crossing, cross = k, meets
        if crossing < 0:
            break
        x, top = cross, crossing
    at[0] = x
    return value[top] + slope[top, 0] * x
