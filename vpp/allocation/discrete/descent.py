"""Site by site to a better choice of blocks, between the greedy sweep and the solver.  Called by `choices.py`.

With the others' energy at a price, the cost of a choice is the blocks' own plus one convex function of their sum a
step. Each site in turn takes the block that makes this least, until none moves; the same on every machine.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.discrete.columns import Columns
from vpp.allocation.sparse import Ints
from vpp.domain.fleet import Floats

MOST_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a sum of blocks costs in each step.

    Attributes:
        step_h, target_kw, cap_kw, wanted_kw: (T,); a sum above the cap is not allowed.
        short_per_kwh, over_per_kwh, stray_per_kwh: per kWh of shortfall, excess and distance from wanted, (T,).
        tier_kw, tier_per_kwh: the others' power and its price with that of their energy, cheapest first, (G,T).
    """

    step_h: Floats
    target_kw: Floats
    cap_kw: Floats
    wanted_kw: Floats
    short_per_kwh: Floats
    over_per_kwh: Floats
    stray_per_kwh: Floats
    tier_kw: Floats
    tier_per_kwh: Floats

    def of(self, sum_kw: Floats) -> Floats:
        """Cost of each row of sums (C,T), (C,); infinite above the cap."""
        missing = self.target_kw - sum_kw
        cost = self.over_per_kwh * np.maximum(-missing, 0.0)
        missing = np.maximum(missing, 0.0)
        cost += self.stray_per_kwh * np.abs(sum_kw - self.wanted_kw) + self.short_per_kwh * missing
        passed = np.zeros_like(self.target_kw)
        for kw, price in zip(self.tier_kw, self.tier_per_kwh, strict=True):
            gain = np.maximum(self.short_per_kwh - price, 0.0)
            cost -= gain * np.minimum(np.maximum(missing - passed, 0.0), kw)
            passed = passed + np.where(gain > 0, kw, 0.0)
        made = cost @ self.step_h
        made[(sum_kw > self.cap_kw + 1e-9).any(axis=1)] = np.inf
        return np.asarray(made)


def descend(columns: Columns, own_cost: Floats, must_run: Ints, taken: Ints, cost: StepCost) -> Ints:
    """Return the candidates taken once no site alone can do better; begins with `taken`, (M,), -1 for none.

    Args:
        own_cost: of each candidate to its site, (C,).
        must_run: sites that take one of their candidates in any case.
    """
    taken = taken.copy()
    sum_kw = columns.power_kw[taken[taken >= 0]].sum(axis=0)
    may_idle = np.ones(len(taken), dtype=bool)
    may_idle[must_run] = False
    order = np.argsort(columns.site, kind="stable")
    edges = np.searchsorted(columns.site[order], np.arange(len(taken) + 1))
    # each site's candidates and, last, to stay idle
    number = [np.append(order[edges[i] : edges[i + 1]], -1) for i in range(len(taken))]
    nothing = np.zeros_like(columns.power_kw[:1])
    power = [np.concatenate((columns.power_kw[mine[:-1]], nothing)) for mine in number]
    own = [np.append(own_cost[mine[:-1]], 0.0 if may_idle[i] else np.inf) for i, mine in enumerate(number)]
    at = [int(np.flatnonzero(mine == now)[0]) for mine, now in zip(number, taken, strict=True)]
    still = 0  # sites looked at since one moved
    for visit in range(MOST_ROUNDS * len(taken)):
        i = visit % len(taken)
        still += 1
        if len(number[i]) > 1:
            rest = sum_kw - power[i][at[i]]
            total = own[i] + cost.of(rest + power[i])
            best, now = int(np.argmin(total)), float(total[at[i]])
            if total[best] < now - 1e-9 * max(1.0, abs(now)):
                at[i], sum_kw, still = best, rest + power[i][best], 0
        if still >= len(taken):
            break
    return np.array([mine[k] for mine, k in zip(number, at, strict=True)], dtype=np.int64)
