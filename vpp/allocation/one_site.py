"""One site's own programme at given prices, whose limits can be moved one at a time.

Called by `explain.py`; `audit.py` takes its sites from here. Every question is one small solve: what the
next kW of a step would cost, and what a limit is worth if it were moved a little.
"""

from dataclasses import dataclass, replace

import numpy as np

from vpp.allocation.binding import Constraint
from vpp.allocation.limits import charge_pieces, discharge_pieces
from vpp.allocation.linear import build, segment_ends
from vpp.allocation.options import SolverName
from vpp.allocation.problem import Ints, Problem
from vpp.allocation.solver import Solution, run
from vpp.allocation.sparse import LinearProgram
from vpp.domain.errors import NotReady
from vpp.domain.fleet import Floats

SHARE = 1e-3
"""By how much a limit is moved, as a share of the site's power or energy: within one linear piece of its cost."""
SLOPE_SHARE = 2e-5
"""By how much power is moved to see what the next kW costs: hardly a corner of the cost is as near as that."""
NOTHING = 1e-9
"""A reduced cost or a row's price below this is zero."""
SOLVE_WITHIN_S = 10.0


def on_their_own(problem: Problem, rows: Ints) -> Problem:
    """These sites with nothing that ties them together: no feeder holds them."""
    few = problem.only(rows)
    return replace(few, feeder=np.full(few.sites, -1))


def moved(problem: Problem, limit: Constraint, by_kw: float) -> Problem:
    """The problem with one limit of its sites moved out by `by_kw`.

    Availability has no little: it is given in every step. A floor that the battery is below, or a ceiling
    that it is above, is moved just past the battery's charge.
    """
    match limit:
        case Constraint.POWER:
            return replace(
                problem, max_discharge_kw=problem.max_discharge_kw + by_kw, max_charge_kw=problem.max_charge_kw + by_kw
            )
        case Constraint.EXPORT:
            return replace(problem, export_limit_kw=problem.export_limit_kw + by_kw)
        case Constraint.IMPORT:
            return replace(problem, import_limit_kw=problem.import_limit_kw + by_kw)
        case Constraint.PEAK:
            return replace(problem, peak_so_far_kw=problem.peak_so_far_kw + by_kw)
        case Constraint.AVAILABILITY:
            always = np.ones(problem.available.shape, dtype=bool)
            return replace(problem, available=always, may_charge=always)
        case Constraint.RESERVE:
            floor = np.clip(np.minimum(problem.soc_floor, problem.soc) - SHARE, 0.0, 1.0)
            return replace(problem, soc_floor=floor)
        case Constraint.CEILING:
            ceiling = np.clip(np.maximum(problem.soc_ceiling, problem.soc) + SHARE, 0.0, 1.0)
            return replace(problem, soc_ceiling=ceiling)
        case _:
            return problem


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme whose columns of power are held to the site's true limits, with room to open some.

    `wide` are the bounds if the moved limit were out everywhere; `sign` and `step` say what each column
    of power is; `energy` holds the column of what is stored at the end of a step and `ends` that step.
    """

    lp: LinearProgram
    wide: Floats
    sign: Floats
    step: Ints
    energy: Ints
    ends: Ints


class OneSite:
    """A site's programme at prices."""

    def __init__(self, problem: Problem, price_per_kwh: Floats) -> None:
        """Take a problem of one site and what it is paid per kWh, (T,).

        Raises:
            NotReady: neither solver proves an optimum.
        """
        self.problem = problem
        self.price = np.asarray(price_per_kwh, dtype=np.float64)
        self.step_kw = SHARE * max(float(problem.max_discharge_kw[0]), float(problem.max_charge_kw[0]), 1e-3)
        self.step_kwh = SHARE * float(problem.capacity_kwh[0])
        self.solves = 0
        self._programmes: dict[tuple[Constraint, ...], tuple[Programme, Solution | None]] = {}
        self._floors: dict[tuple[str, int], float] = {}
        self.base, best = self._programme(())
        if best is None:
            raise NotReady("no solver proved an optimum of this site's own problem")
        self.best = best
        self.least = self._cost(self.base.lp, best)

    def attempt(self, lp: LinearProgram) -> Solution | None:
        """Solve; None where nothing is feasible or nobody proves an optimum."""
        self.solves += 1
        found = run(lp, SolverName.GLOP, SOLVE_WITHIN_S)
        if not found.optimal and "infeasible" not in found.status:
            found = run(lp, SolverName.HIGHS, SOLVE_WITHIN_S)
        return found if found.optimal else None

    def worth(self, limit: Constraint) -> float:
        """What the site gains if a limit is moved a little in all steps, per kW or kWh; availability as a whole."""
        below, above = (
            self.problem.soc[0] < self.problem.soc_floor[0],
            self.problem.soc[0] > self.problem.soc_ceiling[0],
        )
        if limit in (Constraint.RESERVE, Constraint.ENERGY) and not below:
            return self.floor_worth(0)
        if limit is Constraint.CEILING and not above:
            return self.ceiling_worth(0)
        gained = self._gain(build(moved(self.problem, limit, self.step_kw), self.price)[0])
        if limit in (Constraint.RESERVE, Constraint.CEILING):
            return gained / self.step_kwh
        return gained if limit is Constraint.AVAILABILITY else gained / self.step_kw

    def cap_worth(self, limits: tuple[Constraint, ...], step: int, sign: float) -> float:
        """What the site gains per kW if limits of power are moved together, in one step and direction only."""
        programme, closed = self._programme(limits)
        mine = np.flatnonzero((programme.step == step) & (programme.sign == sign))
        open_ = mine[programme.wide[mine] > programme.lp.upper[mine] + 0.5 * self.step_kw]
        if closed is None or not open_.size:
            return 0.0
        lp = programme.lp
        # a limit whose price is zero in one optimum is worth nothing: no need to solve
        price = lp.cost[open_] - np.array(
            [lp.values[at] @ closed.row_prices[lp.rows[at]] for at in self._in(lp, open_)]
        )
        if (price > -NOTHING).all():
            return 0.0
        upper = lp.upper.copy()
        room = self.step_kw
        for column in open_:
            upper[column] += min(room, programme.wide[column] - upper[column])
        return self._gain(replace(lp, upper=upper)) / self.step_kw

    def floor_worth(self, step: int) -> float:
        """What the site gains per kWh if its floor is a little lower from the end of `step` on."""
        return self._energy_worth("floor", step)

    def ceiling_worth(self, step: int) -> float:
        """What the site gains per kWh if its ceiling is a little higher from the end of `step` on."""
        return self._energy_worth("ceiling", step)

    def _energy_worth(self, which: str, step: int) -> float:
        first = int(np.searchsorted(self.base.ends, step))
        if (which, first) not in self._floors:
            lower, upper = self.base.lp.lower.copy(), self.base.lp.upper.copy()
            if which == "floor":
                lower[self.base.energy[first:]] -= self.step_kwh
            else:
                upper[self.base.energy[first:]] += self.step_kwh
            gained = self._gain(replace(self.base.lp, lower=lower, upper=upper))
            self._floors[which, first] = gained / self.step_kwh
        return self._floors[which, first]

    def peak_price(self) -> Floats:
        """What importing a kWh more in each step costs by the demand peaks, (T,), in this optimum."""
        first = len(self.base.ends)
        found, lp = np.zeros(self.problem.steps), self.base.lp
        at = np.flatnonzero((lp.rows >= first) & (lp.columns < len(self.base.step)))
        # the rows behind those of energy are the peaks'; each holds the power of one step
        rows, where = np.unique(lp.rows[at], return_index=True)
        step = self.base.step[lp.columns[at[where]]]
        np.add.at(found, step, np.clip(self.best.row_prices[rows], 0.0, None))
        return np.asarray(found / self.problem.step_h)

    def marginal(self, step: int, power_kw: float) -> tuple[float, float]:
        """Return what the last kWh discharged in `step` cost and what the next would, at `power_kw`.

        The rest of the schedule is free to answer, paid the prices of the other steps. -inf or inf where
        no less or no more is possible.
        """
        by_kw = self.step_kw * SLOPE_SHARE / SHARE
        lower, upper = self._slope(step, power_kw - by_kw), self._slope(step, power_kw + by_kw)
        return (-np.inf if lower is None else lower), (np.inf if upper is None else upper)

    def _slope(self, step: int, power_kw: float) -> float | None:
        """Slope of the site's cost where battery power in `step` is fixed; None where it cannot be."""
        lp, mine = self.base.lp, np.flatnonzero(self.base.step == step)
        row = len(lp.row_lower)
        fixed = replace(
            lp, row_lower=np.append(lp.row_lower, power_kw), row_upper=np.append(lp.row_upper, power_kw),
            rows=np.append(lp.rows, np.full(len(mine), row)), columns=np.append(lp.columns, mine),
            values=np.append(lp.values, self.base.sign[mine]),
        )  # fmt: skip
        found = self.attempt(fixed) if mine.size else None
        return None if found is None else float(found.row_prices[row] / self.problem.step_h[step] + self.price[step])

    def _programme(self, limits: tuple[Constraint, ...]) -> tuple[Programme, Solution | None]:
        """The programme with room to move these limits, and its optimum while they are not moved."""
        if limits not in self._programmes:
            loose = self.problem
            for limit in limits:
                loose = moved(loose, limit, self.step_kw)
            lp, layout = build(loose, self.price)
            true, can = [], []
            pairs = ((discharge_pieces(loose), discharge_pieces(self.problem)),
                     (charge_pieces(loose), charge_pieces(self.problem)))  # fmt: skip
            for wide, narrow in pairs:
                can.append(np.any([piece.bound_kw > 0 for piece in wide], axis=0))
                for more, piece in zip(wide, narrow, strict=True):
                    there = more.bound_kw[0] > 0
                    true.append(np.minimum(piece.bound_kw[0, there], more.bound_kw[0, there]))
            ends = np.flatnonzero(segment_ends(can[0], can[1])[0])
            powers = len(layout.power.column)
            upper = lp.upper.copy()
            upper[:powers] = np.concatenate(true)
            made = Programme(
                replace(lp, upper=upper), lp.upper, layout.power.sign, layout.power.step,
                np.arange(powers, powers + len(ends)), ends,
            )  # fmt: skip
            self._programmes[limits] = made, self.attempt(made.lp)
        return self._programmes[limits]

    def _gain(self, lp: LinearProgram) -> float:
        found = self.attempt(lp)
        return 0.0 if found is None else self.least - self._cost(lp, found)

    def _cost(self, lp: LinearProgram, solution: Solution) -> float:
        return float(lp.cost @ solution.values) + lp.offset

    def _in(self, lp: LinearProgram, columns: Ints) -> list[Ints]:
        return [np.flatnonzero(lp.columns == column) for column in columns]
