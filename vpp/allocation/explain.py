"""Why one site got what it got: marginal cost and binding limit of each step, by solving that site again.

Called by `vpp explain` and by whoever asks about a site. Only the site's own problem is solved, at the
prices of the answer, so it takes as long among a million sites as among ten.
"""

from dataclasses import dataclass

import numpy as np

from vpp.allocation.answer import Allocation, site_cost
from vpp.allocation.binding import (
    Constraint,
    asks_to_charge,
    beyond_discharge_per_kwh,
    charge_cap,
    discharge_cap,
    floor_name,
)
from vpp.allocation.limits import floor_kwh, max_charge_kw, max_discharge_kw
from vpp.allocation.marginal import PEAK, SLACK_KW, SLACK_SHARE, Slopes, marginal, slopes
from vpp.allocation.narrate import sentence
from vpp.allocation.one_site import OneSite, on_their_own
from vpp.allocation.paid import site_price_per_kwh
from vpp.allocation.problem import Problem
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.fleet import Floats

TOLERANCE_PER_KWH = 1e-6
WORTH_SOMETHING = 1e-5
"""A limit binds if moving it is worth more than this per kW or kWh."""
LIMITS = (
    Constraint.POWER, Constraint.EXPORT, Constraint.IMPORT, Constraint.RESERVE, Constraint.ENERGY,
    Constraint.CEILING, Constraint.PEAK, Constraint.AVAILABILITY,
)  # fmt: skip

_NOT_NEEDED: tuple[Constraint, None, float] = (Constraint.NOT_NEEDED, None, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExplanation:
    """One step of one site.

    Attributes:
        step: its number.
        battery_kw: what the site does, discharge positive.
        price_per_kwh: what the fleet pays it for a kWh discharged, its feeders' share taken off.
        fleet_price_per_kwh: what the fleet pays where no feeder is full.
        low_per_kwh, high_per_kwh: what the last kWh discharged cost the site, tariff, wear, demand peak and
            the worth of the energy counted, and what the next one would cost. Two numbers because the cost
            of a battery has corners; -inf or inf where no less or no more is possible.
        charging: the question is why it does not absorb more, else why it does not give more.
        constraint: what stops it.
        also: a second limit that stands at the same place: moving one of the two alone changes nothing.
        worth: what moving that limit a little would be worth to the site, per kW (kWh for energy).
        sentence: the same in plain words.
    """

    step: int
    battery_kw: float
    price_per_kwh: float
    fleet_price_per_kwh: float
    low_per_kwh: float
    high_per_kwh: float
    charging: bool
    constraint: Constraint
    also: Constraint | None
    worth: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteExplanation:
    """Why one site got what it got.

    Attributes:
        site: its row.
        steps: one for each step asked about.
        limit_worth: what moving each limit of the site a little over the whole time would be worth to it,
            per kW or kWh (for availability: having it throughout). Limits worth nothing are not named.
        off_best: by how much its schedule costs it more than the best one at these prices.
        solves: how many small programmes that took.
    """

    site: int
    steps: tuple[StepExplanation, ...]
    limit_worth: dict[Constraint, float]
    off_best: float
    solves: int


def explain(problem: Problem, answer: Allocation, site: int, steps: tuple[int, ...] | None = None) -> SiteExplanation:
    """Explain one site of an answer.

    Args:
        problem, answer: what was solved, and what came of it.
        site: the site's row.
        steps: which steps to explain; all by default.

    Raises:
        InvalidRequest: no such site or step.
        NotReady: the answer has no prices to explain it by, being a real-time split, or no solver
            proves an optimum of the site's own problem.
    """
    if not 0 <= site < problem.sites:
        raise InvalidRequest("site", site, f"a row from 0 to {problem.sites - 1}")
    wrong = [t for t in steps or () if not 0 <= t < problem.steps]
    if wrong:
        raise InvalidRequest("step", wrong[0], f"a step from 0 to {problem.steps - 1}")
    if answer.method == "realtime_split":
        raise NotReady("this answer is a real-time split: it has no prices by which to say why; solve with more time")
    row = np.array([site], dtype=np.int64)
    alone = on_their_own(problem, row)
    price = np.asarray(site_price_per_kwh(problem, answer, row), dtype=np.float64)
    return explain_alone(
        alone, site, answer.battery_kw[row], answer.soc[row], price, answer.marginal_price_per_kwh, steps
    )


def explain_alone(
    alone: Problem, site: int, battery_kw: Floats, soc: Floats, price_per_kwh: Floats, fleet_price_per_kwh: Floats,
    steps: tuple[int, ...] | None = None,
) -> SiteExplanation:  # fmt: skip
    """The same where only the one site was read: its problem, schedule (1,T), charge (1,T+1) and price (1,T)."""
    asked = _Asked(alone, battery_kw, soc, price_per_kwh, fleet_price_per_kwh)
    told = tuple(asked.about(t) for t in (range(alone.steps) if steps is None else steps))
    worth = {limit: asked.worth_of(limit) for limit in LIMITS}
    actual = (
        site_cost(alone, battery_kw, soc * alone.capacity_kwh[:, None]) - (battery_kw * price_per_kwh) @ alone.step_h
    )
    return SiteExplanation(
        site=site, steps=told, limit_worth={limit: gain for limit, gain in worth.items() if gain > WORTH_SOMETHING},
        off_best=max(0.0, float(actual[0]) - asked.one.least), solves=asked.one.solves,
    )  # fmt: skip


class _Asked:
    """One site's programme with its schedule: what is asked about each step."""

    def __init__(
        self, problem: Problem, battery_kw: Floats, soc: Floats, price_per_kwh: Floats, fleet_per_kwh: Floats
    ) -> None:
        self.problem = problem
        self.power, self.soc = battery_kw, soc
        self.price = price_per_kwh[0]
        self.fleet_price = fleet_per_kwh
        self.one = OneSite(problem, self.price)
        self.slope: Slopes = slopes(problem, battery_kw)
        self.most = max_discharge_kw(problem)[0], max_charge_kw(problem)[0]
        self.floor = Constraint(str(floor_name(problem)[0]))
        self.peak_price = self.one.peak_price()

    def worth_of(self, limit: Constraint) -> float:
        """What moving a limit over the whole time is worth; a floor is the reserve's or the battery's own."""
        if limit in (Constraint.RESERVE, Constraint.ENERGY) and limit is not self.floor:
            return 0.0
        return self.one.worth(limit)

    def about(self, t: int) -> StepExplanation:
        low, high = self.one.marginal(t, float(self.power[0, t]))
        charging = bool(asks_to_charge(self.problem, self.power, t)[0])
        name, also, worth = (self._charging if charging else self._discharging)(t, low, high)
        found = StepExplanation(
            step=t, battery_kw=float(self.power[0, t]), price_per_kwh=float(self.price[t]),
            fleet_price_per_kwh=float(self.fleet_price[t]), low_per_kwh=low, high_per_kwh=high, charging=charging,
            constraint=name, also=also, worth=worth, sentence="",
        )  # fmt: skip
        fields = {name: getattr(found, name) for name in found.__slots__}
        return StepExplanation(**{**fields, "sentence": sentence(found)})

    def _discharging(self, t: int, low: float, high: float) -> tuple[Constraint, Constraint | None, float]:
        name = Constraint(str(discharge_cap(self.problem, t)[0]))
        left_kw = float(self.most[0][t] - self.power[0, t])
        capped = self._capped(t, name, left_kw, 1.0)
        if capped is not None:
            return capped
        price = float(self.price[t])
        if price < self.fleet_price[t] - TOLERANCE_PER_KWH and high < self.fleet_price[t] - TOLERANCE_PER_KWH:
            return Constraint.FEEDER, None, float(self.fleet_price[t] - max(high, price))
        at_cap = left_kw <= SLACK_KW
        own = float(beyond_discharge_per_kwh(self.problem, t)[0]) if at_cap else float(self.slope.up_per_kwh[0, t])
        worth = float(self.problem.terminal_value_per_kwh[0])
        if own + worth * float(self.slope.draw_up[0, t]) < price - TOLERANCE_PER_KWH:
            if at_cap and self.most[0][t] <= SLACK_KW:
                return self._blocked(t, name)
            peak = self.one.worth(Constraint.PEAK) if self._source(t) == PEAK else 0.0
            if peak > WORTH_SOMETHING:
                return Constraint.PEAK, None, peak
            gained = self.one.floor_worth(t)
            if gained > WORTH_SOMETHING:
                return self.floor, None, gained
        wear = float(self.problem.wear_price_per_kwh[0])
        worn = np.isfinite(high) and price + TOLERANCE_PER_KWH < high <= price + wear and self.power[0, t] > -SLACK_KW
        return (Constraint.FATIGUE, None, 0.0) if worn else _NOT_NEEDED

    def _blocked(self, t: int, name: Constraint) -> tuple[Constraint, Constraint | None, float]:
        """No power is possible at all, and a little more of it alone changes nothing: what else is missing?"""
        if name is Constraint.EXPORT and -self.problem.net_load_kw[0, t] >= self.problem.export_limit_kw[0]:
            return name, None, self.one.worth(name)  # its own PV takes all that may be exported
        if self._is_empty(t) or self.one.floor_worth(t) > WORTH_SOMETHING:
            return name, self.floor, 0.0
        return _NOT_NEEDED

    def _source(self, t: int) -> int:
        """The step that would give up the energy of one kWh more, or PEAK or TERMINAL."""
        return int(marginal(self.problem, self.power, self.soc, self.price, t).more.source[0])

    def _is_empty(self, t: int) -> bool:
        kwh = float(self.soc[0, t + 1] * self.problem.capacity_kwh[0] - floor_kwh(self.problem)[0])
        return kwh <= SLACK_SHARE * float(self.problem.capacity_kwh[0])

    def _charging(self, t: int, low: float, high: float) -> tuple[Constraint, Constraint | None, float]:
        name = Constraint(str(charge_cap(self.problem, t)[0]))
        capped = self._capped(t, name, float(self.most[1][t] + self.power[0, t]), -1.0)
        if capped is not None:
            return capped
        price = float(self.price[t])
        if price > self.fleet_price[t] + TOLERANCE_PER_KWH and low > self.fleet_price[t] + TOLERANCE_PER_KWH:
            return Constraint.FEEDER, None, float(min(low, price) - self.fleet_price[t])
        if self.peak_price[t] > TOLERANCE_PER_KWH:
            peak = self.one.worth(Constraint.PEAK)
            if peak > WORTH_SOMETHING:
                return Constraint.PEAK, None, peak
        own = float(self.slope.down_per_kwh[0, t])
        if (
            own + float(self.problem.terminal_value_per_kwh[0]) * float(self.slope.draw_down[0, t])
            > price + TOLERANCE_PER_KWH
        ):
            gained = self.one.ceiling_worth(t)
            if gained > WORTH_SOMETHING:
                return Constraint.CEILING, None, gained
        return _NOT_NEEDED

    def _capped(
        self, t: int, name: Constraint, left_kw: float, sign: float
    ) -> tuple[Constraint, Constraint | None, float] | None:
        """The limit of power that stops the site in this step, if one does and moving it is worth something."""
        if left_kw > SLACK_KW:
            return None
        if name in (Constraint.RESERVE, Constraint.CEILING):
            return self._outside(t, name, sign)
        other = Constraint.EXPORT if sign > 0 else Constraint.IMPORT
        gained = self.one.cap_worth((name,), t, sign)
        if gained > WORTH_SOMETHING:
            return name, None, gained
        if name is Constraint.POWER:
            gained = self.one.cap_worth((name, other), t, sign)
            if gained > WORTH_SOMETHING:
                return name, other, gained
        return None

    def _outside(self, t: int, name: Constraint, sign: float) -> tuple[Constraint, Constraint | None, float] | None:
        """A battery below its floor (above its ceiling) may not go further: would it at this price?"""
        worth = float(self.problem.terminal_value_per_kwh[0])
        give, take = float(self.problem.discharge_efficiency[0]), float(self.problem.charge_efficiency[0])
        import_price, export_price = (
            float(self.problem.import_price_per_kwh[0, t]), float(self.problem.export_price_per_kwh[0, t])
        )  # fmt: skip
        net = float(self.problem.net_load_kw[0, t])
        if sign > 0:
            own = float(self.problem.wear_price_per_kwh[0]) - (import_price if net > 0 else export_price)
            gained = float(self.price[t]) - own - worth / give
        else:
            gained = worth * take - (import_price if net >= 0 else export_price) - float(self.price[t])
        if gained <= WORTH_SOMETHING:
            return None
        empty = sign > 0 and float(self.problem.soc[0]) <= SLACK_SHARE
        return name, Constraint.ENERGY if empty else None, self.worth_of(name)
