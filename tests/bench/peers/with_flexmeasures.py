"""FlexMeasures' `device_scheduler`, called without its database. Run by `bench_peers.py`; needs flexmeasures.

It knows devices behind one connection and commitments, each of which prices the deviation of a group of
devices' flow or stock. So every site is two devices, load and battery, with a commitment for its energy in
each step, one for its wear in each step, one for its peak and one for what stays stored; the fleet's event
is one commitment of all batteries. A bid is the least flow of the batteries and of a shortfall device.
Its flows are positive into a device, stock is counted in kW times steps, and prices are of a kW for a step.

What it cannot say: steps of unequal length. What it does not answer: a proven bound where time runs out,
and the price of the commitment (the direction of power is a binary, so its answer has no duals).
"""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask
from flexmeasures.data.models.planning import Commitment, FlowCommitment, StockCommitment
from flexmeasures.data.models.planning.linear_optimization import device_scheduler
from script import Solve, Solved, main
from textbook import Floats, Instance

COLUMNS = (
    "equals", "max", "min", "efficiency", "derivative equals", "derivative max", "derivative min",
    "derivative down efficiency", "derivative up efficiency", "stock delta",
)  # fmt: skip


class _Model(SimpleNamespace):
    """What goes into `device_scheduler`: devices, limits of groups of them, commitments."""

    index: pd.DatetimeIndex
    devices: list[pd.DataFrame]
    stocks: list[float]
    limits: list[pd.DataFrame]
    groups: list[list[int]]
    commitments: list[Commitment]

    def frame(self, **columns: Any) -> pd.DataFrame:
        return pd.DataFrame(dict.fromkeys(COLUMNS, np.nan) | columns, index=self.index, dtype=float)

    def add_device(self, stock: float = 0.0, **columns: Any) -> int:
        self.devices.append(self.frame(**{name.replace("_", " "): value for name, value in columns.items()}))
        self.stocks.append(stock)
        return len(self.devices) - 1

    def commit(
        self, name: str, devices: list[int], quantity: Any, up: Any, down: Any,
        *, stock: bool = False, together: int | None = None,
    ) -> None:  # fmt: skip
        kind = StockCommitment if stock else FlowCommitment
        every = pd.Series([tuple(devices)] * len(self.index), index=self.index)
        made = kind(
            name=name, device=every, device_group=pd.Series(0, index=devices), index=self.index,
            quantity=self.series(quantity), upwards_deviation_price=self.series(up),
            downwards_deviation_price=self.series(down),
        )  # fmt: skip
        if together is not None:
            made.group = pd.Series(together, index=self.index, name="group")
        self.commitments.append(made)

    def series(self, value: Any) -> pd.Series:
        return pd.Series(np.array(np.broadcast_to(value, len(self.index)), dtype=float), index=self.index)


def _model(p: Instance) -> tuple[_Model, list[int]]:
    sites, steps = p.size
    if np.ptp(p.step_h) > 1e-12:
        raise ValueError("steps of unequal length cannot be said")
    index = pd.date_range("2026-01-01", periods=steps, freq=pd.Timedelta(hours=float(p.step_h[0])))
    m = _Model(index=index, devices=[], stocks=[], limits=[], groups=[], commitments=[])
    batteries = [_site(m, p, i) for i in range(sites)]
    if (p.window >= 0).any():
        _bids(m, p, batteries)
    if p.committed.any():
        hour = float(p.step_h[0])
        owed = np.where(p.committed, p.fixed_kw - p.commitment_kw, np.nan)
        m.commit("event", batteries, owed, p.shortfall_price_per_kwh * hour, -p.excess_price_per_kwh * hour)
    return m, batteries


def _site(m: _Model, p: Instance, i: int) -> int:
    """Add a site's two devices, its limits and its commitments; returns the battery's number."""
    h, net = float(p.step_h[0]), p.net_load_kw[i]
    load = m.add_device(derivative_min=net, derivative_max=net + p.most_curtailed[i])
    battery = m.add_device(
        stock=p.start[i] / h, min=(p.low[i] - p.start[i]) / h, max=(p.high[i] - p.start[i]) / h,
        derivative_min=-p.most_discharge[i], derivative_max=p.most_charge[i],
        derivative_down_efficiency=p.discharge_efficiency[i], derivative_up_efficiency=p.charge_efficiency[i],
    )  # fmt: skip
    m.limits.append(
        m.frame(**{"derivative min": np.where(np.isfinite(p.export_limit_kw[i]), -p.export_limit_kw[i], np.nan)})
    )
    m.groups.append([load, battery])
    m.commit("energy", [load, battery], 0.0, p.import_price_per_kwh[i] * h, p.export_price_per_kwh[i] * h)
    m.commit("wear", [battery], 0.0, 0.0, -p.wear_price_per_kwh[i] * h)
    for w, during in enumerate(p.demand_window):
        if during.any() and p.demand_price_per_kw[i, w] > 0:
            counted = np.where(during, p.peak_so_far_kw[i, w], np.nan)
            m.commit("peak", [load, battery], counted, p.demand_price_per_kw[i, w], 0.0, together=0)
    last = np.full(len(m.index), np.nan)
    last[-1] = (p.high[i] - p.start[i]) / h
    m.commit("stored", [battery], last, 0.0, -p.terminal_value_per_kwh[i] * h, stock=True)
    return battery


def _bids(m: _Model, p: Instance, batteries: list[int]) -> None:
    """For each window a commitment to the highest bid, or one no fleet reaches; what a bid lacks of it costs."""
    h, reach = float(p.step_h[0]), float(p.max_discharge_kw.sum() + p.max_charge_kw.sum())
    short = m.add_device(derivative_min=-reach, derivative_max=0.0)
    m.commit("shortfall", [short], 0.0, 0.0, -p.shortfall_price_per_kwh * h)
    # no bid is below zero: in a window the fleet may not take, except as a shortfall
    m.limits.append(m.frame(**{"derivative max": np.where(p.capacity_window >= 0, p.fixed_kw, np.nan)}))
    m.groups.append([*batteries, short])
    for k, price in enumerate(p.capacity_price_per_kw):
        highest = min(2.0 * reach + float(p.fixed_kw.max()), float(p.capacity_limit_kw[k]))
        wanted = np.where(p.capacity_window == k, p.fixed_kw - highest, np.nan)
        m.commit(f"bid {k}", [*batteries, short], wanted, price, 0.0, together=0)


def build(p: Instance, method: str, time_limit_s: float) -> Solve:
    m, batteries = _model(p)
    app = Flask("bench")
    app.config |= {
        "FLEXMEASURES_LP_SOLVER": method or "highspy", "LOGGING_LEVEL": "INFO",
        "FLEXMEASURES_LP_SOLVER_OPTIONS": {"time_limit": time_limit_s, "output_flag": False},
    }  # fmt: skip
    logging.disable(logging.WARNING)

    def solve() -> Solved:
        with app.app_context():
            flows, _, results, _ = device_scheduler(
                m.devices, m.limits, commitments=m.commitments, initial_stock=m.stocks, ems_constraint_groups=m.groups
            )
        status = str(results.solver.termination_condition)
        battery = -np.array([flows[device].to_numpy() for device in batteries])
        charge, discharge = np.clip(-battery, 0.0, None), np.clip(battery, 0.0, None)
        return Solved(status == "optimal", status, (charge, discharge, _least(p, battery, flows)))

    return solve


def _least(p: Instance, battery: Floats, flows: list[pd.Series]) -> Floats:
    """The bid of each window: the least that batteries and the shortfall device give in it."""
    if not (p.window >= 0).any():
        return np.zeros(len(p.capacity_price_per_kw))
    given = battery.sum(axis=0) - flows[-1].to_numpy() + p.fixed_kw
    least = [given[p.capacity_window == k].min() for k in range(len(p.capacity_price_per_kw))]
    return np.clip(np.array(least), 0.0, p.capacity_limit_kw)


if __name__ == "__main__":
    main(build)
