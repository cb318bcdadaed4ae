"""Prices that make many sites add up to what is owed.  Called by `solve.py` of this package.

Each epoch lets every site answer the augmented Lagrangian's price once, then moves the multipliers by
what is missing. The schedules are feasible at every moment; a Lagrangian bound proves how far from the
best they can be at most.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vpp.allocation.sequential.coupling import Coupling
from vpp.allocation.sequential.discovery import Discovery
from vpp.allocation.sequential.epochs import Market
from vpp.allocation.sequential.executors import Executor
from vpp.allocation.sequential.shards import Turn
from vpp.domain.fleet import Floats

SITE_PASSES, MOST_SITE_PASSES = 6, 40
CLOSING_SHARE = 0.05
CLOSING_STIFFNESS = 10.0
MOST_AT_ONCE = 2000
"""Sites a single shard does between two looks at the deadline."""
EXCHANGES = 16
"""Exchanges of sums between shards in an epoch: with 4 the gap stalls ten times as high (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes that make the method independent of units.

    Attributes:
        sites: number of sites; power_kw: what they can discharge together.
        price_per_kwh: a usual price of energy.
        feeder_power_kw: what the sites below each feeder can discharge together, (F,).
    """

    sites: int
    power_kw: float
    price_per_kwh: float
    feeder_power_kw: Floats


@dataclass(slots=True)
class Coordinator:
    """One run. `run` may be called again to go on from where it stands."""

    coupling: Coupling
    executor: Executor
    scale: Scale
    start_price_per_kwh: Floats
    shards: int
    honest_cost: Callable[[], float] | None = None
    """Cost of the schedules once made to keep what the coordinator only prices (feeders); else its own is used."""
    epochs: int = 0
    filled: bool = False
    """Whether every site has been asked at least once."""
    passes: float = 0.0
    site_passes: int = SITE_PASSES
    """Most passes over the steps in one site's search for its peaks; more once nothing moves any more."""
    lower: float = -np.inf
    upper: float = np.inf
    price_per_kwh: Floats = field(init=False)
    proven_price_per_kwh: Floats = field(init=False)
    feeder_price_per_kwh: Floats = field(init=False)
    proven_feeder_price_per_kwh: Floats = field(init=False)
    bid_kw: Floats = field(init=False)
    delivered_kw: Floats = field(init=False)
    feeder_kw: Floats = field(init=False)
    site_cost: float = 0.0
    stiffness: float = field(init=False)
    feeder_stiffness: Floats = field(init=False)
    _mean_price_per_kwh: Floats = field(init=False)
    _reference_kw: float = field(init=False)
    _usual_stiffness: float = field(init=False)
    _discovery: Discovery = field(init=False)
    _pass_s: float = 0.0

    def __post_init__(self) -> None:
        c = self.coupling
        self.price_per_kwh = np.clip(self.start_price_per_kwh, c.lowest_price_per_kwh, c.highest_price_per_kwh)
        self.proven_price_per_kwh = self.price_per_kwh.copy()
        self._mean_price_per_kwh = self.price_per_kwh.copy()
        self.feeder_price_per_kwh = np.zeros(c.feeder_low_kw.shape)
        self.proven_feeder_price_per_kwh = self.feeder_price_per_kwh.copy()
        self.bid_kw = np.zeros(len(c.capacity_price_per_kw))
        self.delivered_kw = np.zeros(len(c.step_h))
        self.feeder_kw = np.zeros(c.feeder_low_kw.shape)
        owed = np.abs(c.target_kw[c.committed])
        self._reference_kw = float(owed.mean()) if owed.size and owed.mean() > 0 else 0.25 * self.scale.power_kw
        self._reference_kw = max(min(self._reference_kw, self.scale.power_kw), 1e-9)
        answer = float(np.clip(np.sqrt(self.scale.sites / 100), 0.7, 7.0)) * self.scale.price_per_kwh
        self.stiffness = answer / self._reference_kw
        self._usual_stiffness = self.stiffness
        self._discovery = Discovery(c.lowest_price_per_kwh, c.highest_price_per_kwh, self.scale.price_per_kwh)
        self.feeder_stiffness = answer / np.maximum(0.25 * self.scale.feeder_power_kw, 1e-9)

    @property
    def gap(self) -> float:
        """(best - bound) / max(1, |best|)."""
        return (self.upper - self.lower) / max(1.0, abs(self.upper))

    def run(self, gap: float, deadline: float, most_epochs: int = 200) -> bool:
        """Go on until the gap is proven; False at the deadline (of `time.perf_counter`) or after so many epochs."""
        if not self.epochs:
            # without a bid nothing is owed yet: the first answers are to the start prices alone
            first = 1e-9 if len(self.bid_kw) else 1.0
            self._epoch(first=True, stiffness=self.stiffness * first, deadline=deadline)
            self._take_stock()
        while self.epochs < most_epochs:
            if time.perf_counter() > deadline:
                return False
            moved = self._epoch(stiffness=self.stiffness, deadline=deadline)
            self._take_stock()
            size = max(1.0, abs(self.upper))
            following = self._next_price()
            if moved / size < gap or self.epochs % 8 == 0:
                self._close(deadline)
                hopeful = moved / size + self._residual_gap() / size
                if (hopeful < 1.5 * gap or self.epochs % 8 == 0) and self._prove(following, gap, deadline):
                    return True
                if moved / size < 0.1 * gap:
                    self.site_passes = min(2 * self.site_passes, MOST_SITE_PASSES)
            elif not np.isfinite(self.lower) and time.perf_counter() + 2.5 * self._pass_s > deadline:
                self._prove(following, gap, deadline)  # the last time there is for it
            self.price_per_kwh = following
            self.feeder_price_per_kwh = self._next_feeder_price_per_kwh()
        return False

    def _market(self, stiffness: float) -> Market:
        c = self.coupling
        return Market(
            self.price_per_kwh.copy(), stiffness, c.with_bids(self.bid_kw), c.lowest_price_per_kwh.copy(),
            c.highest_price_per_kwh.copy(),
            c.window.copy(), c.offset_kw.copy(), c.capacity_price_per_kw.copy(), c.capacity_limit_kw.copy(),
            c.tier_kw.copy(), c.tier_price_per_kwh.copy(), self.feeder_price_per_kwh.copy(), c.feeder_low_kw.copy(),
            c.feeder_high_kw.copy(),
            self.feeder_stiffness * (stiffness / self.stiffness),
        )  # fmt: skip

    def _epoch(self, *, first: bool = False, share: float = 1.0, stiffness: float, deadline: float) -> float:
        """One pass over all shards in a number of exchanges; returns the sum of Frank-Wolfe gaps."""
        parts = EXCHANGES if self.shards > 1 or self.scale.sites > MOST_AT_ONCE else 1
        moved, asked, paid, begun = 0.0, 0, np.zeros(len(self.price_per_kwh)), time.perf_counter()
        self.epochs += share == 1.0 and not first
        self.passes += share
        for part in range(parts):
            if time.perf_counter() > deadline:
                break
            turn = Turn(
                market=self._market(stiffness), delivered_kw=self.delivered_kw,
                feeder_kw=self.feeder_kw, copies=self.shards, epoch=2 * self.epochs + (share < 1.0), part=part,
                parts=parts, share=share, first=first, passes=self.site_passes,
            )  # fmt: skip
            for reply in self.executor.call("take", turn):
                self.delivered_kw = self.delivered_kw + reply.delivered_kw
                self.feeder_kw = self.feeder_kw + reply.feeder_kw
                moved, asked, paid = moved + reply.gap, asked + reply.asked, paid + reply.paid
        self.filled |= first and asked == self.scale.sites
        if share == 1.0:
            self._pass_s = time.perf_counter() - begun
        if not first and share == 1.0 and asked:
            self._mean_price_per_kwh = paid / asked
        return moved

    def _take_stock(self) -> None:
        """Add up anew, take the best bids for what is delivered, and cost it all."""
        totals = self.executor.call("totals")
        self.delivered_kw = np.sum([total[0] for total in totals], axis=0)
        self.feeder_kw = np.sum([total[1] for total in totals], axis=0)
        self.site_cost = sum(total[2] for total in totals)
        self.bid_kw = self.coupling.best_bids(self.delivered_kw)
        self.upper = self.site_cost + self.coupling.cost(self.delivered_kw, self.bid_kw)

    def _missing_kw(self) -> Floats:
        c = self.coupling
        return np.where(c.coupled, c.with_bids(self.bid_kw) - self.delivered_kw, 0.0)

    def _next_price(self) -> Floats:
        missing_kw = self._missing_kw()
        moved = self.coupling.answer(self.price_per_kwh, self.stiffness, missing_kw)
        moved = 0.5 * (moved + self._mean_price_per_kwh) if self.epochs < 3 else moved
        if self.epochs < 3 or not self._discovery.needed:
            return moved
        stray_kw = self.coupling.stray(self._mean_price_per_kwh, missing_kw)
        moved = self._discovery.correct(self._mean_price_per_kwh, moved, stray_kw / self._reference_kw)
        self.stiffness = self._usual_stiffness * self._discovery.size(moved)
        return moved

    def _next_feeder_price_per_kwh(self) -> Floats:
        c, rho = self.coupling, self.feeder_stiffness[:, None]
        short = self.feeder_price_per_kwh + rho * (c.feeder_low_kw - self.feeder_kw)
        over = self.feeder_price_per_kwh + rho * (c.feeder_high_kw - self.feeder_kw)
        return np.where(short > 0.0, short, np.minimum(over, 0.0))

    def _close(self, deadline: float) -> None:
        """Let a few sites take up what is still missing, at a stiffer price around the mean."""
        before, self.price_per_kwh = self.price_per_kwh, self._mean_price_per_kwh
        self._epoch(share=CLOSING_SHARE, stiffness=CLOSING_STIFFNESS * self.stiffness, deadline=deadline)
        self._take_stock()
        self.price_per_kwh = before

    def _residual_gap(self) -> float:
        """What the missing and the surplus power would add to the gap at the mean price."""
        return self.coupling.slack(self._mean_price_per_kwh, self._missing_kw())

    def _prove(self, following: Floats, gap: float, deadline: float) -> bool:
        """Bound passes at the mean price and at the next multipliers; True once the gap is proven."""
        if self.honest_cost is not None:
            self.upper = self.honest_cost()
        for price in (self._mean_price_per_kwh, following):
            if time.perf_counter() + self._pass_s > deadline:
                return False
            self.passes += 1
            made = self.coupling.provable(price)
            fixed = self.coupling.bound(made, self.feeder_price_per_kwh)
            if np.isfinite(fixed):
                bound = fixed + sum(self.executor.call("bound", made, self.feeder_price_per_kwh, 12, 1e-7))
                if bound > self.lower:
                    self.lower, self.proven_price_per_kwh = bound, made
                    self.proven_feeder_price_per_kwh = self.feeder_price_per_kwh.copy()
            if self.gap <= gap:
                return True
        return False
