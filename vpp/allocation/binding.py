"""Which limit stops each site in one step of an answer, and what its next kW costs, for a whole fleet.

Called by the service for the interval at hand and by `explain.py`, which checks the same names by solving
one site again. Nothing is solved here: the prices of `marginal.py` say whether a site would do more.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vpp.allocation.limits import max_charge_kw, max_discharge_kw
from vpp.allocation.marginal import PEAK, SLACK_KW, Marginal, marginal
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Bools, Floats

TOLERANCE_PER_KWH = 1e-6
Names = npt.NDArray[np.object_]


class Constraint(StrEnum):
    """What keeps a site from doing more."""

    POWER = "power"
    ENERGY = "energy"
    RESERVE = "reserve"
    CEILING = "ceiling"
    EXPORT = "export"
    IMPORT = "import"
    PEAK = "peak"
    AVAILABILITY = "availability"
    FEEDER = "feeder"
    FATIGUE = "fatigue"
    MODE = "mode"
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where every site stands in one step; all (N,).

    Attributes:
        power_kw: battery power, discharge positive.
        price_per_kwh: what the site is paid per kWh discharged: the fleet's price less its feeders'.
        charging: the question is why it does not absorb more, else why it does not give more.
        low_per_kwh, high_per_kwh: what the last kWh discharged cost the site and the next would cost.
        room_kw: for how many kW `high_per_kwh` holds.
        constraint: what stops it.
    """

    power_kw: Floats
    price_per_kwh: Floats
    charging: Bools
    low_per_kwh: Floats
    high_per_kwh: Floats
    room_kw: Floats
    constraint: Names


def standing(
    problem: Problem, battery_kw: Floats, soc: Floats, price_per_kwh: Floats, step: int, fleet_price_per_kwh: float,
    found: Marginal | None = None,
) -> Standing:  # fmt: skip
    """Return where each site stands in `step`.

    Args:
        problem: any number of sites.
        battery_kw, soc: the answer, (N,T) and (N,T+1).
        price_per_kwh: what each site is paid, (T,) or (N,T).
        step: the step that is asked about.
        fleet_price_per_kwh: what the fleet pays in this step where no feeder is full.
        found: the sites' marginal costs in this step, where they are known.
    """
    price = np.broadcast_to(np.asarray(price_per_kwh, dtype=np.float64), battery_kw.shape)
    found = found or marginal(problem, battery_kw, soc, price, step)
    power = battery_kw[:, step]
    charging = asks_to_charge(problem, battery_kw, step)
    names = np.where(
        charging,
        _charging(problem, battery_kw, price[:, step], step, found),
        _discharging(problem, battery_kw, price[:, step], step, found),
    )
    # the feeder's price alone keeps it from giving (or absorbing) what the fleet's price would pay for
    gives = ~charging & (found.high < fleet_price_per_kwh - TOLERANCE_PER_KWH)
    absorbs = charging & (found.low > fleet_price_per_kwh + TOLERANCE_PER_KWH)
    full = np.abs(price[:, step] - fleet_price_per_kwh) > TOLERANCE_PER_KWH
    names = np.where(full & (gives | absorbs), Constraint.FEEDER, names)
    return Standing(power, price[:, step], charging, found.low, found.high, found.room_kw, names)


def asks_to_charge(problem: Problem, battery_kw: Floats, step: int) -> Bools:
    """Whether to ask why a site does not absorb more, (N,): absorption is owed, or it charges where nothing is."""
    owed = float(problem.commitment_kw[step]) if problem.committed[step] else 0.0
    coupled = problem.committed[step] or problem.capacity_window[step] >= 0
    return np.asarray((battery_kw[:, step] < -SLACK_KW) & (not coupled or owed < 0) | np.full(problem.sites, owed < 0))


def beyond_discharge_per_kwh(problem: Problem, step: int) -> Floats:
    """Price of discharge just beyond what `step` allows, tariff and wear, (N,)."""
    most = max_discharge_kw(problem)[:, step]
    wear = problem.wear_price_per_kwh * _wear_factor(problem, most)
    own = most < np.clip(problem.net_load_kw[:, step], 0.0, None)
    return np.asarray(
        wear - np.where(own, problem.import_price_per_kwh[:, step], problem.export_price_per_kwh[:, step])
    )


def beyond_charge_per_kwh(problem: Problem, step: int) -> Floats:
    """Price of charging just beyond what `step` allows, (N,): from PV that would be lost or sold, or bought."""
    most = max_charge_kw(problem)[:, step]
    surplus = np.clip(-problem.net_load_kw[:, step], 0.0, None)
    curtailed = np.clip(surplus - problem.export_limit_kw, 0.0, None)
    sell = problem.export_price_per_kwh[:, step]
    first, then = np.where(sell < 0, sell, 0.0), np.where(sell < 0, 0.0, sell)
    turn = np.where(sell < 0, surplus - curtailed, curtailed)
    inside = np.where(most < turn, first, then)
    return np.where(most < surplus, inside, problem.import_price_per_kwh[:, step])


def _wear_factor(problem: Problem, power_kw: Floats) -> Floats:
    if not len(problem.wear_c_rate):
        return np.ones(len(power_kw))
    tier = np.searchsorted(problem.wear_c_rate, power_kw / problem.capacity_kwh, side="right")
    return np.asarray(np.concatenate(([1.0], problem.wear_factor))[tier])


def discharge_cap(problem: Problem, step: int) -> Names:
    """Which limit is the tightest on discharge in `step`, (N,)."""
    inverter = problem.max_discharge_kw <= problem.net_load_kw[:, step] + problem.export_limit_kw
    names = np.where(inverter, Constraint.POWER, Constraint.EXPORT)
    names = np.where(problem.soc < problem.soc_floor, Constraint.RESERVE, names)
    return np.where(problem.available[:, step], names, Constraint.AVAILABILITY)


def charge_cap(problem: Problem, step: int) -> Names:
    """Which limit is the tightest on charging in `step`, (N,)."""
    inverter = problem.max_charge_kw <= problem.import_limit_kw - problem.net_load_kw[:, step]
    names = np.where(inverter, Constraint.POWER, Constraint.IMPORT)
    names = np.where(problem.soc > problem.soc_ceiling, Constraint.CEILING, names)
    return np.where(problem.available[:, step] & problem.may_charge[:, step], names, Constraint.AVAILABILITY)


def floor_name(problem: Problem) -> Names:
    """What an empty battery is: at the reserve somebody set, or out of energy, (N,)."""
    return np.where(problem.soc_floor > 0, Constraint.RESERVE, Constraint.ENERGY)


def _discharging(problem: Problem, battery_kw: Floats, paid_per_kwh: Floats, step: int, found: Marginal) -> Names:
    """Why sites do not give more."""
    power = battery_kw[:, step]
    most = max_discharge_kw(problem)[:, step]
    at_end = problem.terminal_value_per_kwh
    draw = np.where(power < -SLACK_KW, problem.charge_efficiency, 1.0 / problem.discharge_efficiency)
    at_cap = power >= most - SLACK_KW
    some = np.isfinite(found.more.price_per_kwh)
    worth = np.where(some, found.more.price_per_kwh, at_end)
    beyond = beyond_discharge_per_kwh(problem, step) - found.saved_per_kwh
    capped = at_cap & (beyond + worth * draw < paid_per_kwh - TOLERANCE_PER_KWH)
    # with no power at all, or with energy worth no more than at the end, would it give more?
    own = np.where(at_cap, beyond, found.up_per_kwh - found.saved_per_kwh)
    short = own + at_end * draw < paid_per_kwh - TOLERANCE_PER_KWH
    capped |= short & at_cap & (most <= SLACK_KW)
    capped &= some | (most <= SLACK_KW)
    held = np.where(some & (found.more.source == PEAK), Constraint.PEAK, floor_name(problem))
    dear = np.isfinite(found.high) & (found.high > paid_per_kwh + TOLERANCE_PER_KWH) & (power > -SLACK_KW)
    worn = dear & (found.high - problem.wear_price_per_kwh <= paid_per_kwh)
    idle = np.where(worn, Constraint.FATIGUE, Constraint.NOT_NEEDED)
    return np.where(capped, discharge_cap(problem, step), np.where(short, held, idle))


def _charging(problem: Problem, battery_kw: Floats, paid_per_kwh: Floats, step: int, found: Marginal) -> Names:
    """Why sites do not absorb more."""
    kept = problem.charge_efficiency
    at_cap = -battery_kw[:, step] >= max_charge_kw(problem)[:, step] - SLACK_KW
    worth = np.where(np.isfinite(found.less_per_kwh), found.less_per_kwh, problem.terminal_value_per_kwh)
    capped = at_cap & (worth * kept - beyond_charge_per_kwh(problem, step) > paid_per_kwh + TOLERANCE_PER_KWH)
    raised = found.raised_per_kwh
    next_kwh = np.where(at_cap, beyond_charge_per_kwh(problem, step), -found.down_per_kwh)
    peak = (raised > 0) & (worth * kept - next_kwh > paid_per_kwh + TOLERANCE_PER_KWH)
    empty = problem.terminal_value_per_kwh * kept - next_kwh - raised > paid_per_kwh + TOLERANCE_PER_KWH
    idle = np.where(peak, Constraint.PEAK, np.where(empty & ~at_cap, Constraint.CEILING, Constraint.NOT_NEEDED))
    return np.where(capped, charge_cap(problem, step), idle)
