"""The fleet's supply curve in one step, and who would give the next kW: read off an answer, nothing is solved.

Called by `vpp explain`, by the pictures' script and by whoever draws the curve.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.limits import discharge_pieces
from vpp.allocation.marginal import SLACK_KW, Marginal, marginal
from vpp.allocation.paid import site_price_per_kwh
from vpp.allocation.problem import Ints, Problem
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.fleet import Floats

CHUNK = 1000
"""Sites that are looked at together: few enough to stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the next kW of one site would cost, per kWh, and for how many kW that holds."""

    site: int
    price_per_kwh: float
    room_kw: float


@dataclass(frozen=True, slots=True)
class SupplyCurve:
    """How much the fleet gives at which price in one step, other steps as they are.

    Attributes:
        price_per_kwh: ascending, (M,).
        power_kw: what the fleet gives at up to that price, cumulative, (M,).
        site: whose step of the curve it is, (M,).
        delivered_kw: what it gives in the answer, mode-only devices included.
        paid_per_kwh: what the answer pays for it.
        charging_kw: power that is charged: where the curve begins, below zero.
        fixed_kw: power that is there at any price.
    """

    price_per_kwh: Floats
    power_kw: Floats
    site: Ints
    delivered_kw: float
    paid_per_kwh: float
    charging_kw: float
    fixed_kw: float


def next_kw(problem: Problem, answer: Allocation, step: int, count: int = 5) -> tuple[Offer, ...]:
    """Return the sites that would give the next kW of `step` cheapest, cheapest first; ties to the lower row.

    Raises:
        InvalidRequest: no such step.
        NotReady: the answer has no prices.
    """
    _check(problem, answer, step)
    site, price, room = [], [], []
    for rows, found in _by_chunks(problem, answer, step):
        high = found.high + _feeder_share(problem, answer, rows, step)
        mine = np.flatnonzero(np.isfinite(high) & (found.room_kw > SLACK_KW))
        best = mine[np.argsort(high[mine], kind="stable")[:count]]
        site.append(best + rows.start)
        price.append(high[best])
        room.append(found.room_kw[best])
    sites, prices, rooms = np.concatenate(site), np.concatenate(price), np.concatenate(room)
    order = np.argsort(prices, kind="stable")[:count]
    return tuple(Offer(int(sites[i]), float(prices[i]), float(rooms[i])) for i in order)


def supply_curve(problem: Problem, answer: Allocation, step: int) -> SupplyCurve:
    """Return the fleet's supply in `step`: every piece of every site's power at its marginal cost.

    A piece costs its tariff and wear and what its energy is worth to that site in this answer, in the
    cheapest other use. What stands at a full feeder costs what others below it would have to be paid.

    Raises:
        InvalidRequest: no such step.
        NotReady: the answer has no prices.
    """
    _check(problem, answer, step)
    return curve_of(problem, answer, step, _by_chunks(problem, answer, step))


def curve_of(problem: Problem, answer: Allocation, step: int, found: Iterable[tuple[slice, Marginal]]) -> SupplyCurve:
    """The same where the marginal costs of all sites are known, by parts of the fleet in order."""
    parts = [_pieces(problem, answer, rows, step, costs) for rows, costs in found]
    price, kw, site = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(price, kind="stable")
    power = answer.battery_kw[:, step]
    charging, fixed = float(np.clip(-power, 0.0, None).sum()), float(problem.fixed_kw[step])
    return SupplyCurve(
        price[order], np.cumsum(kw[order]) - charging + fixed, site[order], float(power.sum()) + fixed,
        float(answer.marginal_price_per_kwh[step]), charging, fixed,
    )  # fmt: skip


def thinned(curve: SupplyCurve, most: int) -> tuple[Floats, Floats]:
    """Price and cumulative power of the curve with at most `most` steps, those next to what is paid kept.

    Steps are joined from its ends, and each joined step keeps the price of its last kW.
    """
    ends = np.flatnonzero(np.diff(curve.price_per_kwh, append=np.inf) > 0)
    if len(ends) > most:
        here = int(np.searchsorted(curve.price_per_kwh[ends], curve.paid_per_kwh))
        near = np.arange(max(0, here - most // 4), min(len(ends), here + most // 4))
        spread = np.linspace(0, len(ends) - 1, most - len(near)).astype(np.int64)
        ends = ends[np.unique(np.concatenate((near, spread)))]
    return curve.price_per_kwh[ends], curve.power_kw[ends]


def _check(problem: Problem, answer: Allocation, step: int) -> None:
    if not 0 <= step < problem.steps:
        raise InvalidRequest("step", step, f"a step from 0 to {problem.steps - 1}")
    if answer.method == "realtime_split":
        raise NotReady("this answer is a real-time split: it has no prices to make a supply curve of")


def _by_chunks(problem: Problem, answer: Allocation, step: int) -> Iterator[tuple[slice, Marginal]]:
    for first in range(0, max(problem.sites, 1), CHUNK):
        rows = slice(first, min(first + CHUNK, problem.sites))
        price = site_price_per_kwh(problem, answer, rows)
        yield rows, marginal(problem.only(rows), answer.battery_kw[rows], answer.soc[rows], price, step)


def _feeder_share(problem: Problem, answer: Allocation, rows: slice, step: int) -> Floats:
    """What a kWh from these sites costs more because a feeder is full, (n,)."""
    return np.asarray(answer.marginal_price_per_kwh[step] - site_price_per_kwh(problem, answer, rows)[:, step])


def _pieces(
    problem: Problem, answer: Allocation, rows: slice, step: int, found: Marginal
) -> tuple[Floats, Floats, Ints]:
    """Price, power [kW] and site of every piece of these sites' power in the step."""
    part, now = problem.only(rows), answer.battery_kw[rows, step]
    share = _feeder_share(problem, answer, rows, step)
    given_back = np.where(np.isfinite(found.less_per_kwh), found.less_per_kwh, part.terminal_value_per_kwh)
    draw = 1.0 / part.discharge_efficiency
    prices, powers, sites = [], [], []

    def add(price_per_kwh: Floats, kw: Floats) -> None:
        there = np.isfinite(price_per_kwh) & (kw > SLACK_KW)
        prices.append((price_per_kwh + share)[there])
        powers.append(kw[there])
        sites.append(np.flatnonzero(there) + rows.start)

    # a site that charges gives by charging less
    charges = np.clip(-now, 0.0, None)
    worth = np.where(np.isfinite(found.more.price_per_kwh), found.more.price_per_kwh, given_back)
    stops = np.where(now < -SLACK_KW, found.up_per_kwh, 0.0) + worth * part.charge_efficiency - found.saved_per_kwh
    add(stops, charges)
    reached, left_kwh = np.zeros(part.sites), found.more.room_kwh.copy()
    for piece in discharge_pieces(_one_step(part, step)):
        bound, own = piece.bound_kw[:, 0], piece.price_per_kwh[:, 0]
        used = np.clip(now - reached, 0.0, bound)
        add(own + given_back * draw - found.raised_per_kwh, used)
        hours = problem.step_h[step]
        open_kw = np.where(now < -SLACK_KW, 0.0, np.minimum(bound - used, left_kwh / (draw * hours)))
        add(own + found.more.price_per_kwh * draw - found.saved_per_kwh, open_kw)
        left_kwh = np.clip(left_kwh - open_kw * draw * hours, 0.0, None)
        reached += bound
    return np.concatenate(prices), np.concatenate(powers), np.concatenate(sites)


def _one_step(problem: Problem, step: int) -> Problem:
    """The same sites with this step only: their pieces of power do not depend on others."""
    here = slice(step, step + 1)
    return replace(
        problem, net_load_kw=problem.net_load_kw[:, here], available=problem.available[:, here],
        may_charge=problem.may_charge[:, here], step_h=problem.step_h[here],
        import_price_per_kwh=problem.import_price_per_kwh[:, here],
        export_price_per_kwh=problem.export_price_per_kwh[:, here],
    )  # fmt: skip
