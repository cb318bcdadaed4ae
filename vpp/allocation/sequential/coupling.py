"""What ties the sites of a problem together, as bands on sums of power.  Called by `coordinator.py`."""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.feeders import room
from vpp.allocation.problem import Problem
from vpp.allocation.sequential.tables import Ints
from vpp.domain.fleet import Bools, Floats

NO_LIMIT_KW = 1e15
NEAR = 0.25
"""A price this close to that of a shortfall may be meant to leave it: the mean of an epoch is a little off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupling:
    """T steps, K capacity windows, F feeders; prices per kWh.

    Attributes:
        step_h: (T,).
        committed: where a power is owed whatever the bid, (T,).
        target_kw: owed there, less what others deliver, (T,).
        lowest_price_per_kwh, highest_price_per_kwh: minus the price of too much delivered, and that of
            too little, (T,).
        tier_kw, tier_price_per_kwh: from how much shortfall on which price of it holds, ascending, (R,T): where
            several programmes owe at once, the cheapest goes without first. The last price is the highest.
        window: capacity window, -1 none, (T,); offset_kw: what others deliver, (T,).
        capacity_price_per_kw: per kW, (K,); capacity_limit_kw: (K,).
        feeder_low_kw, feeder_high_kw: hard bounds on the battery power below each feeder, (F,T).
    """

    step_h: Floats
    committed: Bools
    target_kw: Floats
    lowest_price_per_kwh: Floats
    highest_price_per_kwh: Floats
    tier_kw: Floats
    tier_price_per_kwh: Floats
    window: Ints
    offset_kw: Floats
    capacity_price_per_kw: Floats
    capacity_limit_kw: Floats
    feeder_low_kw: Floats
    feeder_high_kw: Floats

    @property
    def coupled(self) -> Bools:
        """Steps whose power is worth something to the fleet, (T,)."""
        return np.asarray(self.committed | (self.window >= 0))

    def with_bids(self, bid_kw: Floats) -> Floats:
        """What is owed when these bids are taken, less what others deliver [kW], (T,)."""
        target = self.target_kw.copy()
        offered = self.window >= 0
        target[offered] = bid_kw[self.window[offered]] - self.offset_kw[offered]
        return target

    def best_bids(self, delivered_kw: Floats) -> Floats:
        """The bids that earn most for a delivery [kW], (K,): as much as shortfall does not eat up."""
        bids = np.zeros(len(self.capacity_price_per_kw))
        for k, price in enumerate(self.capacity_price_per_kw):
            steps = np.flatnonzero(self.window == k)
            if not len(steps):
                bids[k] = self.capacity_limit_kw[k] if np.isfinite(self.capacity_limit_kw[k]) else 0.0
                continue
            level = delivered_kw[steps] + self.offset_kw[steps]
            order = np.argsort(level, kind="stable")
            eaten = np.cumsum((self.step_h * self.highest_price_per_kwh)[steps][order])
            at = int(np.searchsorted(eaten, price, side="left"))
            best = level[order][at] if at < len(steps) else self.capacity_limit_kw[k]
            bids[k] = min(max(float(best), 0.0), float(self.capacity_limit_kw[k]))
        return bids

    def cost(self, delivered_kw: Floats, bid_kw: Floats) -> float:
        """What shortfall and excess cost, less what the bids earn."""
        missing = np.where(self.coupled, self.with_bids(bid_kw) - delivered_kw, 0.0)
        return float(self.step_h @ self._penalty(missing) - self.capacity_price_per_kw @ bid_kw)

    def answer(self, price_per_kwh: Floats, stiffness: float, missing_kw: Floats) -> Floats:
        """The augmented Lagrangian's price where so much is missing, (T,): as the kernels' `fleet_price`."""
        moved = price_per_kwh + stiffness * missing_kw
        made, least = self.highest_price_per_kwh.copy(), self.lowest_price_per_kwh
        found = np.zeros(len(made), dtype=bool)
        for start_kw, most in zip(self.tier_kw, self.tier_price_per_kwh, strict=True):
            within = moved - stiffness * start_kw
            here = ~found & (within <= most)
            made[here], found, least = np.maximum(within, least)[here], found | here, most
        return made

    def stray(self, price_per_kwh: Floats, missing_kw: Floats) -> Floats:
        """What is missing beyond (or, below zero, short of) what such prices leave undone [kW], (T,)."""
        least, most = np.zeros(len(missing_kw)), np.full(len(missing_kw), np.inf)
        for start_kw, price in zip(self.tier_kw[1:], self.tier_price_per_kwh[:-1], strict=True):
            least = np.where(price < price_per_kwh * (1.0 - NEAR), start_kw, least)
        for start_kw, price in zip(self.tier_kw[::-1], self.tier_price_per_kwh[::-1], strict=True):
            most = np.where(price > price_per_kwh * (1.0 + NEAR), start_kw, most)
        return np.asarray(missing_kw - np.clip(missing_kw, least, np.maximum(most, least)))

    def slack(self, price_per_kwh: Floats, missing_kw: Floats) -> float:
        """What missing and surplus power add to the gap at these prices; 0 where they fit together."""
        proven = price_per_kwh * missing_kw - self._conjugate(price_per_kwh)
        return float(self.step_h @ (self._penalty(missing_kw) - proven))

    def _penalty(self, missing_kw: Floats) -> Floats:
        """What missing (or, below zero, surplus) power costs an hour, (T,)."""
        short, ends = np.clip(missing_kw, 0.0, None), [*self.tier_kw[1:], np.inf]
        cost = np.clip(missing_kw, None, 0.0) * self.lowest_price_per_kwh
        for start_kw, end_kw, price in zip(self.tier_kw, ends, self.tier_price_per_kwh, strict=True):
            cost += price * np.clip(np.minimum(short, end_kw) - start_kw, 0.0, None)
        return np.asarray(cost)

    def _conjugate(self, price_per_kwh: Floats) -> Floats:
        """How far the penalty stays below these prices' line at most, an hour, (T,)."""
        widths = np.diff(self.tier_kw, axis=0)
        return np.asarray((np.clip(price_per_kwh - self.tier_price_per_kwh[:-1], 0.0, None) * widths).sum(axis=0))

    def bound(self, price_per_kwh: Floats, feeder_price_per_kwh: Floats) -> float:
        """The part of the Lagrangian bound that is not the sites'; -inf where the prices prove nothing."""
        worth = self.step_h * price_per_kwh
        value = float((worth * np.where(self.committed, self.target_kw, 0.0)).sum())
        value -= float(self.step_h @ self._conjugate(price_per_kwh))
        for k, earned in enumerate(self.capacity_price_per_kw):
            steps = self.window == k
            value -= float((worth * self.offset_kw)[steps].sum())
            missed = earned - float(worth[steps].sum())
            if missed > 0:  # rounding of a scaled price is no reason to prove nothing
                limit = self.capacity_limit_kw[k]
                value -= missed * limit if np.isfinite(limit) else (np.inf if missed > 1e-12 * (1 + earned) else 0.0)
        side = np.where(feeder_price_per_kwh > 0, self.feeder_low_kw, self.feeder_high_kw)
        return value + float(
            (np.where(feeder_price_per_kwh != 0, feeder_price_per_kwh * side, 0.0) @ self.step_h).sum()
        )

    def provable(self, price_per_kwh: Floats) -> Floats:
        """The nearest prices that can prove something: within their caps, and windows worth their capacity."""
        made = np.clip(price_per_kwh, self.lowest_price_per_kwh, self.highest_price_per_kwh)
        for k, earned in enumerate(self.capacity_price_per_kw):
            steps = self.window == k
            worth = float(self.step_h[steps] @ made[steps])
            if worth < earned and not np.isfinite(self.capacity_limit_kw[k]):
                made[steps] = _raised(made[steps], self.step_h[steps], self.highest_price_per_kwh[steps], float(earned))
        return np.asarray(made)


def _raised(price_per_kwh: Floats, step_h: Floats, most: Floats, worth: float) -> Floats:
    """Prices scaled up, then lifted evenly, until they are worth enough or all at their caps."""
    have = float(step_h @ price_per_kwh)
    made = np.minimum(price_per_kwh * (worth / have), most) if have > 0 else price_per_kwh
    for _ in range(len(price_per_kwh)):
        missing = worth - float(step_h @ made)
        room = most - made > 1e-15
        if missing <= 0 or not room.any():
            break
        made = np.where(room, np.minimum(made + missing / step_h[room].sum() * (1 + 1e-12), most), made)
    return np.asarray(made)


def coupling_of(problem: Problem) -> Coupling:
    """Return the coupling of a problem; turn-up steps change sides of shortfall and excess."""
    committed, window = problem.committed, problem.capacity_window
    offered = window >= 0
    absorb = committed & (problem.commitment_kw < 0)
    short, excess = problem.shortfall_price_per_kwh, problem.excess_price_per_kwh
    within = room(problem)
    main_kw = np.where(committed, problem.commitment_kw - problem.fixed_kw, 0.0)
    main_price = np.where(absorb, excess, np.where(committed | offered, short, 0.0))
    programs_kw = problem.program_commitment_kw
    tier_kw, tier_price = _tiers(
        np.vstack([programs_kw, np.where(absorb, 0.0, np.clip(main_kw, 0.0, None))]),
        np.vstack([np.where(programs_kw > 0, problem.program_shortfall_price_per_kwh, 0.0), main_price]),
    )
    return Coupling(
        step_h=problem.step_h, committed=committed | (programs_kw > 0).any(axis=0),
        target_kw=main_kw + programs_kw.sum(axis=0),
        lowest_price_per_kwh=-np.where(absorb, short, np.where(committed, excess, 0.0)),
        highest_price_per_kwh=tier_price[-1].copy(), tier_kw=tier_kw, tier_price_per_kwh=tier_price,
        window=window, offset_kw=np.where(offered, problem.fixed_kw, 0.0),
        capacity_price_per_kw=problem.capacity_price_per_kw, capacity_limit_kw=problem.capacity_limit_kw,
        feeder_low_kw=np.clip(within.least_kw, -NO_LIMIT_KW, None),
        feeder_high_kw=np.clip(within.most_kw, None, NO_LIMIT_KW),
    )  # fmt: skip


def _tiers(owed_kw: Floats, price_per_kwh: Floats) -> tuple[Floats, Floats]:
    """Where each price of shortfall begins and what it is, cheapest first, (R,T) each; R is 1 for one demand."""
    if len(owed_kw) == 1:
        return np.zeros_like(owed_kw), price_per_kwh
    # who owes nothing has no tier: it goes to the end with the highest price
    price = np.where(owed_kw > 0, price_per_kwh, price_per_kwh.max(axis=0))
    order = np.argsort(price, axis=0, kind="stable")
    owed, price = np.take_along_axis(owed_kw, order, 0), np.take_along_axis(price, order, 0)
    return np.cumsum(owed, axis=0) - owed, price
