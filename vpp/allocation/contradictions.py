"""Arrays that are each right but cannot be true together, or only in another unit.  Called by `problem.py`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vpp.allocation.arrays import once
from vpp.domain.errors import InvalidRequest

Arrays = Mapping[str, npt.NDArray[Any]]

LONGEST_H = 8 * 24.0
HIGHEST_C_RATE = 100.0
MOST_PROGRAMS = 10
"""The split of one delivery over programmes looks at every subset of them."""


def refuse_contradictions(ready: Arrays) -> None:
    """Refuse what contradicts itself.

    Raises:
        InvalidRequest: naming array, index and what would be right.
    """
    _refuse_wrong_order(ready)
    _refuse_other_units(ready)
    _refuse_bad_windows(ready)
    _refuse_bad_programs(ready)
    _refuse_bad_feeders(ready)
    _refuse_bad_wear(ready)


def _refuse_wrong_order(ready: Arrays) -> None:
    for low, high in (("soc_floor", "soc_ceiling"), ("export_price_per_kwh", "import_price_per_kwh")):
        if (once(ready[low]) > once(ready[high])).any():
            wrong = np.argwhere(ready[low] > ready[high] + 1e-12)
            if wrong.size:
                at = tuple(int(i) for i in wrong[0])
                allowed = f"at most {high} ({float(ready[high][at])})"
                raise InvalidRequest(f"{low}{list(at)}", float(ready[low][at]), allowed)


def _refuse_other_units(ready: Arrays) -> None:
    hours = float(ready["step_h"].sum())
    if hours > LONGEST_H:
        raise InvalidRequest("step_h", f"{hours:g} h in all", f"hours, not minutes: at most {LONGEST_H:g} h in all")
    for name in ("max_charge_kw", "max_discharge_kw"):
        wrong = np.flatnonzero(ready[name] > HIGHEST_C_RATE * ready["capacity_kwh"])
        if wrong.size:
            i = int(wrong[0])
            allowed = f"kW, not W: at most {HIGHEST_C_RATE:g} times capacity_kwh ({float(ready['capacity_kwh'][i])})"
            raise InvalidRequest(f"{name}[{i}]", float(ready[name][i]), allowed)


def _refuse_bad_windows(ready: Arrays) -> None:
    window, price = ready["capacity_window"], ready["capacity_price_per_kw"]
    beyond = np.flatnonzero(window >= len(price))
    if beyond.size:
        t = int(beyond[0])
        raise InvalidRequest(f"capacity_window[{t}]", int(window[t]), "the index of a capacity_price_per_kw, or -1")
    both = np.flatnonzero((window >= 0) & ready["committed"])
    if both.size:
        t = int(both[0])
        raise InvalidRequest(f"committed[{t}]", True, "False where capacity_window is not -1: one or the other")
    missed = np.array(
        [(ready["step_h"] * ready["shortfall_price_per_kwh"])[window == k].sum() for k in range(len(price))]
    )
    wrong = np.flatnonzero(np.isinf(ready["capacity_limit_kw"]) & (price > missed) & np.isin(range(len(price)), window))
    if wrong.size:
        k = int(wrong[0])
        allowed = f"at most what holding none of it costs ({float(missed[k]):g}), or a capacity_limit_kw"
        raise InvalidRequest(f"capacity_price_per_kw[{k}]", float(price[k]), allowed)


def _refuse_bad_programs(ready: Arrays) -> None:
    owed = ready["program_commitment_kw"]
    if len(owed) > MOST_PROGRAMS:
        raise InvalidRequest("program_commitment_kw", len(owed), f"at most {MOST_PROGRAMS} programmes")
    absorbing = ready["committed"] & (ready["commitment_kw"] < 0)
    both = np.argwhere((owed > 0) & absorbing)
    if both.size:
        c, t = (int(i) for i in both[0])
        allowed = "0 where commitment_kw is negative: delivery or absorption, not both"
        raise InvalidRequest(f"program_commitment_kw[{c}, {t}]", float(owed[c, t]), allowed)


def _refuse_bad_feeders(ready: Arrays) -> None:
    parent = ready["feeder_parent"]
    for name in ("feeder", "feeder_parent"):
        beyond = np.flatnonzero(once(ready[name]) >= len(parent))
        if beyond.size:
            i = int(beyond[0])
            raise InvalidRequest(f"{name}[{i}]", int(ready[name][i]), "the index of a feeder_parent, or -1")
    above = np.arange(len(parent))
    for _ in range(len(parent)):
        above = np.where(above >= 0, parent[above], -1)
    circular = np.flatnonzero(above >= 0)
    if circular.size:
        f = int(circular[0])
        raise InvalidRequest(f"feeder_parent[{f}]", int(parent[f]), "a tree: no feeder is above itself")


def _refuse_bad_wear(ready: Arrays) -> None:
    for name, steps, allowed in (
        ("wear_c_rate", np.diff(ready["wear_c_rate"]) > 0, "more than the one before"),
        ("wear_factor", np.diff(ready["wear_factor"]) >= 0, "no less than the one before: wear must be convex"),
    ):
        if not steps.all():
            p = int(np.flatnonzero(~steps)[0]) + 1
            raise InvalidRequest(f"{name}[{p}]", float(ready[name][p]), allowed)
