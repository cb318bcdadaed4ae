"""The textbook programme of an allocation problem, and a process that solves many of them with GLOP and HiGHS.

`python -m tests.oracle_allocation` reads cases (kind, sites, seed) and answers each with a line of objectives. It
states the problem in its own way: charge, discharge, energy, import, curtailment and peak in every step, wear as
an epigraph, programmes as parts of what a group of sites gives. It shares no code with the product's programme.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from ortools.math_opt import model_pb2
from ortools.math_opt.python import mathopt

from tests.builders_instances import instance
from vpp.allocation import Problem

SOLVERS = {"glop": mathopt.SolverType.GLOP, "highs": mathopt.SolverType.HIGHS}
Column = np.ndarray


class Programme:
    """Columns and rows as they come; a row is a list of (columns, coefficients) of its shape."""

    def __init__(self) -> None:
        self.cost: list[np.ndarray] = []
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.count = self.rows = 0
        self.row_low: list[np.ndarray] = []
        self.row_high: list[np.ndarray] = []
        self.entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.constant = 0.0

    def columns(self, shape: tuple[int, ...], low: Any = 0.0, high: Any = np.inf, cost: Any = 0.0) -> Column:
        for store, value in ((self.low, low), (self.high, high), (self.cost, cost)):
            store.append(np.broadcast_to(np.asarray(value, float), shape).ravel())
        first, self.count = self.count, self.count + int(np.prod(shape))
        return np.arange(first, self.count).reshape(shape)

    def row(self, terms: list[tuple[Column, Any]], low: Any, high: Any) -> None:
        """Rows of one shape: the sum of terms, each of that shape, between low and high."""
        shape = terms[0][0].shape
        number = np.arange(self.rows, self.rows + int(np.prod(shape)))
        self.rows += len(number)
        self.row_low.append(np.broadcast_to(np.asarray(low, float), shape).ravel())
        self.row_high.append(np.broadcast_to(np.asarray(high, float), shape).ravel())
        for column, factor in terms:
            self.entries.append((number, column.ravel(), np.broadcast_to(np.asarray(factor, float), shape).ravel()))

    def one_row(self, terms: list[tuple[Column, Any]], low: float, high: float) -> None:
        """One row: the sum over all elements of all terms."""
        for column, factor in terms:
            values = np.broadcast_to(np.asarray(factor, float), column.shape).ravel()
            self.entries.append((np.full(column.size, self.rows), column.ravel(), values))
        self.rows += 1
        self.row_low.append(np.array([low]))
        self.row_high.append(np.array([high]))

    def solve(self, solver: mathopt.SolverType) -> float:
        low, high, cost, row_low, row_high = (
            np.concatenate(part) for part in (self.low, self.high, self.cost, self.row_low, self.row_high)
        )
        row, column, value = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        order = np.lexsort((column, row))
        made = model_pb2.ModelProto()
        made.variables.ids.extend(range(self.count))
        made.variables.lower_bounds.extend(low.tolist())
        made.variables.upper_bounds.extend(high.tolist())
        made.variables.integers.extend([False] * self.count)
        made.objective.linear_coefficients.ids.extend(np.flatnonzero(cost).tolist())
        made.objective.linear_coefficients.values.extend(cost[cost != 0].tolist())
        made.linear_constraints.ids.extend(range(self.rows))
        made.linear_constraints.lower_bounds.extend(row_low.tolist())
        made.linear_constraints.upper_bounds.extend(row_high.tolist())
        made.linear_constraint_matrix.row_ids.extend(row[order].tolist())
        made.linear_constraint_matrix.column_ids.extend(column[order].tolist())
        made.linear_constraint_matrix.coefficients.extend(value[order].tolist())
        result = mathopt.solve(mathopt.Model.from_model_proto(made), solver)
        if result.termination.reason != mathopt.TerminationReason.OPTIMAL:
            return float("nan")
        return float(result.objective_value()) + self.constant


def textbook(p: Problem) -> Programme:
    """The whole problem as one programme."""
    lp, (n, t) = Programme(), (p.sites, p.steps)
    h, net, limit = p.step_h, p.net_load_kw, p.export_limit_kw[:, None]
    can_give = p.available & (p.soc >= p.soc_floor)[:, None]
    can_take = p.available & p.may_charge & (p.soc <= p.soc_ceiling)[:, None]
    most_c = np.minimum(p.max_charge_kw[:, None], np.maximum(p.import_limit_kw[:, None] - net, 0)) * can_take
    most_d = np.maximum(np.minimum(p.max_discharge_kw[:, None], net + limit), 0) * can_give
    buy, sell = np.broadcast_to(p.import_price_per_kwh, (n, t)), np.broadcast_to(p.export_price_per_kwh, (n, t))
    charge = lp.columns((n, t), high=most_c, cost=h * sell)
    give = lp.columns((n, t), high=most_d, cost=-h * sell)
    stored = lp.columns(
        (n, t), np.minimum(p.soc_floor, p.soc)[:, None] * p.capacity_kwh[:, None],
        np.maximum(p.soc_ceiling, p.soc)[:, None] * p.capacity_kwh[:, None],
        np.where(np.arange(t) == t - 1, -p.terminal_value_per_kwh[:, None], 0.0),
    )  # fmt: skip
    bought = lp.columns((n, t), cost=h * (buy - sell))
    spilled = lp.columns((n, t), high=np.maximum(-net - limit, 0), cost=h * sell)
    lp.constant += float((h * sell * net).sum())
    gain, loss = -h * p.charge_efficiency[:, None], h / p.discharge_efficiency[:, None]
    start = (p.soc * p.capacity_kwh)[:, None]
    first = [(stored[:, :1], 1.0), (charge[:, :1], gain[:, :1]), (give[:, :1], loss[:, :1])]
    lp.row(first, start, start)
    later = [(stored[:, 1:], 1.0), (stored[:, :-1], -1.0), (charge[:, 1:], gain[:, 1:]), (give[:, 1:], loss[:, 1:])]
    lp.row(later, 0.0, 0.0)
    flow = [(charge, 1.0), (give, -1.0), (spilled, 1.0)]
    lp.row([(bought, 1.0), *((column, -factor) for column, factor in flow)], net, np.inf)
    lp.row(flow, -limit - net, np.inf)
    _wear(lp, p, give)
    for w in range(len(p.demand_window)):
        inside = np.flatnonzero(p.demand_window[w])
        peak = lp.columns((n, 1), low=p.peak_so_far_kw[:, w : w + 1], cost=p.demand_price_per_kw[:, w : w + 1])
        lp.constant -= float(p.demand_price_per_kw[:, w] @ p.peak_so_far_kw[:, w])
        lp.row([(np.repeat(peak, len(inside), axis=1), 1.0), (bought[:, inside], -1.0)], 0.0, np.inf)
    _fleet(lp, p, charge, give)
    return lp


def _wear(lp: Programme, p: Problem, give: Column) -> None:
    """Cost of wear at least the line through each tier: convex, so the highest line is the cost."""
    price = p.step_h * p.wear_price_per_kwh[:, None]
    wear = lp.columns(give.shape, cost=1.0)
    lp.row([(wear, 1.0), (give, -price)], 0.0, np.inf)
    behind, before = 0.0, 1.0  # what the line lies below zero at no power, per kWh of capacity
    for rate, factor in zip(p.wear_c_rate, p.wear_factor, strict=True):
        behind, before = behind + (factor - before) * rate, factor
        lp.row([(wear, 1.0), (give, -price * factor)], -price * behind * p.capacity_kwh[:, None], np.inf)


def _fleet(lp: Programme, p: Problem, charge: Column, give: Column) -> None:
    offer = lp.columns((len(p.capacity_price_per_kw),), high=p.capacity_limit_kw, cost=-p.capacity_price_per_kw)
    eligible = [tuple(np.flatnonzero(column)) for column in p.program_site.T]
    for t in range(p.steps):
        owing = [c for c in range(len(p.program_commitment_kw)) if p.program_commitment_kw[c, t] > 0]
        taken: list[tuple[Column, Any]] = []
        parts: dict[int, list[tuple[Column, Any]]] = {c: [] for c in owing}
        for group in set(eligible):
            served = [c for c in owing if c in group]
            if served:
                part = lp.columns((len(served),))
                members = np.array([i for i, other in enumerate(eligible) if other == group])
                lp.one_row([(give[members, t], 1.0), (charge[members, t], -1.0), (part, -1.0)], 0.0, np.inf)
                taken.append((part, -1.0))
                for k, c in enumerate(served):
                    parts[c].append((part[k : k + 1], 1.0))
        for c in owing:
            short = lp.columns((1,), cost=p.step_h[t] * p.program_shortfall_price_per_kwh[c, t])
            owed = float(p.program_commitment_kw[c, t])
            lp.one_row([*parts[c], (short, 1.0)], owed, owed)
        window = p.capacity_window[t]
        if p.committed[t] or window >= 0:
            up = -1.0 if p.committed[t] and p.commitment_kw[t] < 0 else 1.0
            short = lp.columns((1,), cost=p.step_h[t] * p.shortfall_price_per_kwh[t])
            beyond = lp.columns((1,), cost=p.step_h[t] * p.excess_price_per_kwh[t] if p.committed[t] else 0.0)
            held = [(offer[window : window + 1], -1.0)] if window >= 0 else []
            owed = (float(p.commitment_kw[t]) if p.committed[t] else 0.0) - float(p.fixed_kw[t])
            all_power = [(give[:, t], 1.0), (charge[:, t], -1.0)]
            lp.one_row([*all_power, *taken, *held, (short, up), (beyond, -up)], owed, owed)
        for f in range(len(p.feeder_parent)):
            _feeder(lp, p, charge, give, f, t)


def _feeder(lp: Programme, p: Problem, charge: Column, give: Column, f: int, t: int) -> None:
    def under(node: int) -> bool:
        while node >= 0 and node != f:
            node = int(p.feeder_parent[node])
        return node == f

    sites = np.array([i for i in range(p.sites) if under(int(p.feeder[i]))], dtype=int)
    idle = -float(p.net_load_kw[sites, t].sum())
    most = max(float(p.feeder_export_limit_kw[f, t]), idle) - idle
    least = min(-float(p.feeder_import_limit_kw[f, t]), idle) - idle
    lp.one_row([(give[sites, t], 1.0), (charge[sites, t], -1.0)], least, most)


class OracleProcess:
    """A process that works cases out one by one, while the caller does something else.

    It is told kind, sites and seed of each case and makes the problem itself.
    """

    def __init__(self, cases: Iterable[tuple[str, int, int]]) -> None:
        self._waiting = list(cases)
        self._found: dict[tuple[str, int, int], dict[str, float]] = {}

    def __enter__(self) -> "OracleProcess":
        command = [sys.executable, "-m", "tests.oracle_allocation"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write("\n".join(json.dumps(case) for case in self._waiting) + "\n")
        self._process.stdin.close()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()

    def objective(self, case: tuple[str, int, int]) -> float:
        """The least cost of a case, on which both solvers must agree."""
        assert self._process.stdout is not None
        while case not in self._found:
            line = self._process.stdout.readline()
            assert line, "the oracle's process has ended"
            self._found[self._waiting.pop(0)] = json.loads(line)
        glop, highs = self._found[case]["glop"], self._found[case]["highs"]
        assert abs(glop - highs) <= 1e-7 * max(1.0, abs(highs)), f"{case}: GLOP says {glop}, HiGHS {highs}"
        return highs


def main() -> None:
    """Solve each case that standard input names; one line of JSON each."""
    for line in sys.stdin:
        kind, sites, seed = json.loads(line)
        lp = textbook(instance(kind, sites, seed))
        found = {name: lp.solve(solver) for name, solver in SOLVERS.items()}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
