"""Allocation problems of the kinds that occur, at any size, from a seed.

`instance(kind, sites, seed)` is used by the tests of every method and by the benchmark. "p2b" and "p3" are the
fleets of the allocator's measurements: a four-hour event in 5-minute steps whose shape binds in every step, and a
day ahead in quarter hours with two capacity windows. A million sites take some seconds and little more memory than
the net load itself, which is made in chunks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from vpp.allocation import Problem

CHUNK_SITES = 20_000
QUARTER_H = 0.25
Arrays = dict[str, Any]


def instance(kind: str, sites: int, seed: int) -> Problem:
    """The problem of this kind, one of `KINDS`; the same for the same size and seed."""
    return Problem.build(KINDS[kind](sites, seed))


def fleet(sites: int, seed: int, local_h: np.ndarray, step_h: float, least_charge: float) -> Arrays:
    """Sites behind the meter at local hours (T,): half with PV, a third without export, most with a demand charge.

    `least_charge` is the least share of usable energy a battery starts with.
    """
    parts: list[Arrays] = []
    net_load_kw = np.empty((sites, len(local_h)))
    for first in range(0, sites, CHUNK_SITES):
        count = min(CHUNK_SITES, sites - first)
        r = np.random.default_rng([seed, first])
        parts.append(_sites(r, count, least_charge))
        net_load_kw[first : first + count] = _net_load(r, parts[-1]["max_charge_kw"], local_h)
        most = net_load_kw[first : first + count].max(axis=1).clip(0)
        parts[-1]["peak_so_far_kw"] = (most * r.uniform(0.72, 1.0, count))[:, None]
    net_load_kw.setflags(write=False)
    import_price = np.where(
        (local_h >= 16) & (local_h < 21), 0.42, np.where((local_h >= 9) & (local_h < 14), 0.19, 0.24)
    )
    return {
        "step_h": step_h,
        "net_load_kw": net_load_kw,
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        "import_price_per_kwh": import_price,
        "export_price_per_kwh": 0.05,
        "demand_window": np.ones((1, len(local_h)), dtype=bool),
        "terminal_value_per_kwh": 0.20,
        "shortfall_price_per_kwh": 2.0,
    }


def _sites(r: np.random.Generator, count: int, least_charge: float) -> Arrays:
    power_kw = np.exp(r.normal(np.log(60), 0.7, count)).clip(5, 500)
    capacity_kwh = power_kw * r.choice([1.0, 2.0, 3.0, 4.0], count, p=[0.1, 0.5, 0.2, 0.2])
    one_way = np.sqrt(r.uniform(0.82, 0.92, count))
    drift = r.uniform(0.01, 0.05, count)
    floor, ceiling = r.uniform(0.05, 0.3, count) + drift, 1.0 - drift
    return {
        "max_charge_kw": power_kw,
        "max_discharge_kw": power_kw,
        "capacity_kwh": capacity_kwh,
        "charge_efficiency": one_way,
        "discharge_efficiency": one_way,
        "soc_floor": floor,
        "soc_ceiling": ceiling,
        "soc": floor + r.uniform(least_charge, 0.9, count) * (ceiling - floor),
        "export_limit_kw": np.where(r.random(count) < 0.35, 0.0, power_kw * r.uniform(0.3, 1.2, count)),
        "demand_price_per_kw": r.choice([12.0, 18.0, 25.0, 0.0], count, p=[0.3, 0.3, 0.2, 0.2])[:, None],
        "wear_price_per_kwh": r.uniform(0.03, 0.07, count),
    }


def _net_load(r: np.random.Generator, power_kw: np.ndarray, local_h: np.ndarray) -> np.ndarray:
    count, steps = len(power_kw), len(local_h)
    base, busiest_h = power_kw * r.uniform(0.6, 2.5, count), r.normal(14.5, 2.5, count)
    load = 0.35 + 0.65 * np.exp(-0.5 * ((local_h - busiest_h[:, None]) / 3.2) ** 2)
    load *= base[:, None] * np.exp(r.normal(0, 0.12, (count, steps)))
    panels_kw = np.where(r.random(count) < 0.5, power_kw * r.uniform(0.3, 1.5, count), 0.0)
    sun = np.clip(np.cos((local_h - 12.8) / 12 * np.pi * 1.15), 0.0, None) ** 1.3
    return load - panels_kw[:, None] * sun * np.exp(r.normal(0, 0.15, (count, steps)))


def stored_kwh(arrays: Arrays) -> float:
    """What all sites together can deliver from what is stored above their floors."""
    above = (arrays["soc"] - arrays["soc_floor"]).clip(0) * arrays["capacity_kwh"]
    return float((above * arrays["discharge_efficiency"]).sum())


def _p1(sites: int, seed: int) -> Arrays:
    """One interval of five minutes."""
    made = fleet(sites, seed, np.array([17.0]), 1 / 12, 0.3)
    share = np.random.default_rng([seed, 1]).uniform(0.2, 1.1)
    return {**made, "commitment_kw": np.array([share * float(made["max_discharge_kw"].sum())])}


def _p2b(sites: int, seed: int) -> Arrays:
    """16:00 to 20:00 in 5-minute steps, stored energy worth more than any saving, a shape that binds."""
    steps = np.arange(48)
    made = fleet(sites, seed, 16 + steps / 12, 1 / 12, 0.6)
    shape = 1 + 0.35 * np.sin(steps / 48 * 2 * np.pi * 1.5)
    worth = np.random.default_rng([seed, 5]).uniform(0.38, 0.60, sites)
    return {**made, "terminal_value_per_kwh": worth, "commitment_kw": 0.8 * stored_kwh(made) / 4 * shape}


def _day(sites: int, seed: int, local_h: np.ndarray) -> Arrays:
    made = fleet(sites, seed, local_h, QUARTER_H, 0.3)
    window = np.where((local_h >= 16) & (local_h < 20), 0, np.where((local_h >= 6) & (local_h < 9), 1, -1))
    return {**made, "capacity_window": window, "capacity_price_per_kw": np.array([1.2, 0.3])}


def _p3(sites: int, seed: int) -> Arrays:
    """A day ahead in quarter hours with capacity windows 16-20 h and 6-9 h."""
    return _day(sites, seed, np.arange(96) * QUARTER_H)


def _spring(sites: int, seed: int) -> Arrays:
    """The day on which the clock skips from 2 to 3: 92 quarter hours."""
    passed_h = np.arange(92) * QUARTER_H
    return _day(sites, seed, passed_h + (passed_h >= 2))


def _autumn(sites: int, seed: int) -> Arrays:
    """The day on which the hour from 1 to 2 comes twice: 100 quarter hours."""
    passed_h = np.arange(100) * QUARTER_H
    return _day(sites, seed, passed_h - (passed_h >= 2))


def _evening(sites: int, seed: int) -> Arrays:
    """10:00 to 22:00 in half hours with an event from 16 to 20: short, with PV, recharge and peaks.

    In most of them stored energy is worth more than any saving, so that what is owed is not given anyway.
    """
    local_h = 10 + np.arange(24) / 2
    made = fleet(sites, seed, local_h, 0.5, 0.3)
    event = (local_h >= 16) & (local_h < 20)
    r = np.random.default_rng([seed, 2])
    asked_kw = r.uniform(0.5, 1.1) * stored_kwh(made) / 4 * r.uniform(0.7, 1.3, 24)
    if r.random() < 0.7:
        made["terminal_value_per_kwh"] = r.uniform(0.42, 0.60, sites)
    return {**made, "committed": event, "commitment_kw": np.where(event, asked_kw, 0.0)}


def _flat(sites: int, seed: int) -> Arrays:
    """Identical sites at flat prices: every optimum is one of very many."""
    made = _evening(1, seed)
    del made["terminal_value_per_kwh"]
    repeated = {
        name: np.repeat(value, sites, axis=0)
        for name, value in made.items()
        if np.shape(value)[:1] == (1,) and name != "demand_window"
    }
    owed = {"commitment_kw": sites * made["commitment_kw"].mean() * np.ones(24)}
    return {**made, **repeated, **owed, "import_price_per_kwh": 0.3, "terminal_value_per_kwh": 0.3}


def _zero_export(sites: int, seed: int) -> Arrays:
    return {**_evening(sites, seed), "export_limit_kw": 0.0}


def _empty(sites: int, seed: int) -> Arrays:
    """Batteries at their floor, some below it."""
    made = _evening(sites, seed)
    below = np.random.default_rng([seed, 3]).choice([1.0, 0.5, 0.0], sites, p=[0.6, 0.3, 0.1])
    asked_kw = 0.05 * made["max_discharge_kw"].sum() * made["committed"]
    return {**made, "soc": made["soc_floor"] * below, "commitment_kw": asked_kw}


def _full(sites: int, seed: int) -> Arrays:
    """Batteries at their ceiling, some above it."""
    made = _evening(sites, seed)
    above = np.random.default_rng([seed, 3]).choice([0.0, 0.5, 1.0], sites, p=[0.6, 0.3, 0.1])
    return {**made, "soc": made["soc_ceiling"] + (1 - made["soc_ceiling"]) * above}


def _fresh(sites: int, seed: int) -> Arrays:
    """The first day of a billing period, with a facility charge and one of the evening."""
    made = _evening(sites, seed)
    price = np.hstack([made["demand_price_per_kw"], 0.5 * made["demand_price_per_kw"]])
    windows = np.array([np.ones(24, dtype=bool), made["committed"]])
    return {**made, "demand_window": windows, "demand_price_per_kw": price, "peak_so_far_kw": 0.0}


def _unavailable(sites: int, seed: int) -> Arrays:
    made = _evening(sites, seed)
    r = np.random.default_rng([seed, 4])
    whole = r.random((sites, 1)) > 0.2
    return {**made, "available": whole & (r.random((sites, 24)) > 0.1), "may_charge": r.random((sites, 24)) > 0.3}


def _infeasible(sites: int, seed: int) -> Arrays:
    """Far more is owed than there is; import limits that idle sites already break."""
    made = _evening(sites, seed)
    return {**made, "commitment_kw": 3 * made["commitment_kw"], "import_limit_kw": 1.2 * made["max_charge_kw"]}


def _turn_up(sites: int, seed: int) -> Arrays:
    """Absorption is owed at noon and delivery in the evening; going beyond either costs a little."""
    made = {**_evening(sites, seed), "terminal_value_per_kwh": 0.20, "import_price_per_kwh": 0.3}
    noon = np.arange(24) < 6
    room = ((made["soc_ceiling"] - made["soc"]) * made["capacity_kwh"]).sum()
    share = np.random.default_rng([seed, 6]).uniform(0.1, 0.6)
    owed = np.where(noon, -share * room / 3, made["commitment_kw"])
    return {**made, "committed": noon | made["committed"], "commitment_kw": owed, "excess_price_per_kwh": 0.02}


def _feeders(sites: int, seed: int) -> Arrays:
    """Two levels of feeders; some limits bind, idle sites break some, an override closes one for an hour."""
    made = _evening(sites, seed)
    r = np.random.default_rng([seed, 7])
    power = float(made["max_discharge_kw"].sum())
    export = power * r.uniform(0.0, 0.15, (5, 1)) * np.ones(24)
    export[1, 12:14] = 0.0
    return {
        **made,
        "net_load_kw": 0.15 * made["net_load_kw"],
        "feeder": r.integers(-1, 5, sites),
        "feeder_parent": np.array([-1, 0, 0, 1, -1]),
        "feeder_export_limit_kw": export,
        "feeder_import_limit_kw": power * r.uniform(0.05, 0.6, (5, 1)) * np.ones(24),
    }


def _programs(sites: int, seed: int) -> Arrays:
    """Three programmes that overlap the main commitment, each with sites and a price of its own."""
    made = _evening(sites, seed)
    r = np.random.default_rng([seed, 8])
    level = stored_kwh(made) / 4
    owed = level * r.uniform(0.1, 0.5, (3, 1)) * (r.random((3, 24)) < 0.4)
    return {
        **made,
        "commitment_kw": 0.6 * made["commitment_kw"],
        "program_commitment_kw": owed,
        "program_shortfall_price_per_kwh": r.choice([0.6, 1.0, 3.0], (3, 24)),
        "program_site": r.random((3, sites)) < 0.6,
        "excess_price_per_kwh": float(r.choice([0.0, 0.1])),
    }


def _c_rate(sites: int, seed: int) -> Arrays:
    """The binding event with wear that grows with the C-rate."""
    tiers = {"wear_c_rate": np.array([0.1, 0.2, 0.35]), "wear_factor": np.array([1.5, 2.5, 4.0])}
    return {**_p2b(sites, seed), **tiers}


def _mixed(sites: int, seed: int) -> Arrays:
    """Everything at once."""
    made = {**_fresh(sites, seed), **_unavailable(sites, seed), **_feeders(sites, seed), **_programs(sites, seed)}
    fresh = _fresh(sites, seed)
    windows = {name: fresh[name] for name in ("demand_window", "demand_price_per_kw", "peak_so_far_kw")}
    return {**made, **windows, "wear_c_rate": np.array([0.3]), "wear_factor": np.array([2.0])}


KINDS: dict[str, Callable[[int, int], Arrays]] = {
    "p1": _p1, "p2b": _p2b, "p3": _p3, "dst_short": _spring, "dst_long": _autumn, "evening": _evening, "flat": _flat,
    "zero_export": _zero_export, "empty": _empty, "full": _full, "fresh": _fresh, "unavailable": _unavailable,
    "infeasible": _infeasible, "turn_up": _turn_up, "feeders": _feeders, "programs": _programs, "c_rate": _c_rate,
    "mixed": _mixed,
}  # fmt: skip
