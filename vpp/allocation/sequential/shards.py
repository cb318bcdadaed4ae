"""A part of the fleet with its schedules: what one worker holds.  Called through an executor.

A shard gets prices and the fleet's sums, lets some of its sites answer, and gives back by how much its
own sums have changed. It acts as if every other shard did the same, which shares of sites drawn by lot
nearly do; then parts of one epoch can run side by side.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpp.allocation.sequential.epochs import Market, prove, sweep
from vpp.allocation.sequential.responses import Work, work_for
from vpp.allocation.sequential.tables import Ints, Tables
from vpp.domain.fleet import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a shard is asked to do next.

    Attributes:
        market: prices and what is owed.
        delivered_kw, feeder_kw: the fleet's sums of battery power, (T,), (F,T).
        copies: number of shards.
        epoch: sets the order of sites; `part` of `parts` of it is to be done now.
        share: of the sites, in a closing pass.
        first: sites that have no schedule yet.
        passes: most passes over the steps for one site.
    """

    market: Market
    delivered_kw: Floats
    feeder_kw: Floats
    copies: int
    epoch: int
    part: int = 0
    parts: int = 1
    share: float = 1.0
    first: bool = False
    passes: int = 3


@dataclass(frozen=True, slots=True)
class Reply:
    """What a turn changed: the sums (T,), (F,T), Frank-Wolfe gap, prices paid (T,), sites asked."""

    delivered_kw: Floats
    feeder_kw: Floats
    gap: float
    paid: Floats
    asked: int


@dataclass(slots=True)
class Shard:
    """n sites; `power_kw` (n,T) keeps every hard limit of the sites at all times."""

    tables: Tables
    seed: int
    power_kw: Floats
    cost: Floats
    peaks: Floats
    _order: tuple[int, Ints] | None = None
    _work: Work | None = field(default=None, repr=False)

    @classmethod
    def of(cls, tables: Tables, seed: int) -> "Shard":
        """A shard whose sites have no schedule yet."""
        count, steps = tables.net_kw.shape
        return cls(tables, seed, np.zeros((count, steps)), np.zeros(count), tables.peak_so_far.copy())

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("tables", "seed", "power_kw", "cost", "peaks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._order = self._work = None

    @property
    def work(self) -> Work:
        """Scratch memory, made on first use."""
        if self._work is None:
            self._work = work_for(self.tables)
        return self._work

    def take(self, turn: Turn) -> Reply:
        """Let the sites whose turn it is answer."""
        delivered, feeder = turn.delivered_kw.copy(), turn.feeder_kw.copy()
        order = self._ordered(turn.epoch)
        count = len(order)
        order = order[: max(1, round(count * turn.share))]
        mine = order[len(order) * turn.part // turn.parts : len(order) * (turn.part + 1) // turn.parts]
        share, growth = (turn.part / turn.parts, 1.0 / count) if turn.first else (1.0, 0.0)
        gap, paid = sweep(
            mine, self.tables, self.power_kw, self.cost, self.peaks, turn.market, float(turn.copies), turn.first, share,
            growth, max(1, count // 250), turn.passes, delivered, feeder, self.work,
        )  # fmt: skip
        return Reply(
            (delivered - turn.delivered_kw) / turn.copies, (feeder - turn.feeder_kw) / turn.copies, gap, paid, len(mine)
        )

    def totals(self) -> tuple[Floats, Floats, float]:
        """Sums over the sites, free of drift: battery power (T,), that below each feeder (F,T), cost."""
        feeders = len(self.tables.feeder_parent)
        feeder = np.zeros((feeders, self.power_kw.shape[1]))
        below = self.tables.feeder
        while feeders and (below >= 0).any():
            there = np.flatnonzero(below >= 0)
            np.add.at(feeder, below[there], self.power_kw[there])
            below = np.where(below >= 0, self.tables.feeder_parent[np.maximum(below, 0)], -1)
        return self.power_kw.sum(axis=0), feeder, float(self.cost.sum())

    def bounds(self, price_per_kwh: Floats, feeder_price_per_kwh: Floats, passes: int, tolerance: float) -> Floats:
        """The proven least cost of each site at fixed prices, what delivery earns taken off, (n,)."""
        count = len(self.power_kw)
        bound = np.empty(count)
        prove(
            np.arange(count),
            self.tables,
            self.peaks.copy(),
            price_per_kwh,
            feeder_price_per_kwh,
            passes,
            tolerance,
            self.work,
            bound,
        )
        return bound

    def bound(self, price_per_kwh: Floats, feeder_price_per_kwh: Floats, passes: int, tolerance: float) -> float:
        """Sum of `bounds`."""
        return float(self.bounds(price_per_kwh, feeder_price_per_kwh, passes, tolerance).sum())

    def schedules(self) -> Floats:
        """Battery power, (n,T)."""
        return self.power_kw

    def _ordered(self, epoch: int) -> Ints:
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.power_kw))
            self._order = (epoch, order)
        return self._order[1]
