"""The allocation problem as data: frozen, validated arrays and no solver.

Called by the service, which builds it from sites, by `vpp allocate`, and by anyone who wants to check
us. N sites, T steps, W demand windows, K capacity windows. Powers are positive toward the grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vpp.allocation.arrays import SPECS, cast, check_range, has_default, read_only, shape_of
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """One allocation problem; make it with `Problem.build`, which fills defaults and checks.

    Every array is read-only. What may be given smaller is broadcast to the shape stated here.

    Attributes:
        step_h: length of each step [h], (T,); a scalar may be given.
        net_load_kw: consumption less PV, without the battery [kW], (N,T).
        max_charge_kw, max_discharge_kw: inverter limits, magnitudes [kW], (N,).
        capacity_kwh: usable energy [kWh], (N,).
        soc, soc_floor, soc_ceiling: state of charge now and its hard limits, 0-1, (N,); floor 0, ceiling 1.
        charge_efficiency, discharge_efficiency: one way, above 0 to 1, (N,); default 1.
        export_limit_kw, import_limit_kw: interconnection limits [kW], (N,); default unlimited.
        available: the battery may be used, (N,T); default yes. Where not, it idles.
        may_charge: charging is allowed, (N,T) or (T,); default yes.
        import_price_per_kwh, export_price_per_kwh: (N,T) or (T,); default 0. Export pays at most import.
        demand_window: which steps count for which demand charge, (W,T); default none.
        demand_price_per_kw: price of raising the peak, (N,W); default 0.
        peak_so_far_kw: the billing period's peak until now, (N,W); default 0.
        wear_price_per_kwh: of discharged energy, (N,); default 0.
        terminal_value_per_kwh: worth of energy stored at the end, (N,); default 0.
        commitment_kw: power owed [kW], (T,); default 0.
        committed: steps in which `commitment_kw` is owed, (T,); default all if it is given, else none.
        fixed_kw: power that others deliver whatever we do (mode-only devices), counted as delivered
            [kW], (T,); default 0.
        shortfall_price_per_kwh: price of not delivering, (T,); default 10.
        excess_price_per_kwh: price of delivering more than owed, (T,); default 0.
        capacity_window: window of each step, -1 outside, (T,) int; default -1. A step is either
            committed or in a capacity window.
        capacity_price_per_kw: what a kW held through a window earns, (K,).
        capacity_limit_kw: most that may be offered in a window [kW], (K,); default unlimited.
    """

    step_h: Floats
    net_load_kw: Floats
    max_charge_kw: Floats
    max_discharge_kw: Floats
    capacity_kwh: Floats
    soc: Floats
    soc_floor: Floats
    soc_ceiling: Floats
    charge_efficiency: Floats
    discharge_efficiency: Floats
    export_limit_kw: Floats
    import_limit_kw: Floats
    available: Bools
    may_charge: Bools
    import_price_per_kwh: Floats
    export_price_per_kwh: Floats
    demand_window: Bools
    demand_price_per_kw: Floats
    peak_so_far_kw: Floats
    wear_price_per_kwh: Floats
    terminal_value_per_kwh: Floats
    commitment_kw: Floats
    committed: Bools
    fixed_kw: Floats
    shortfall_price_per_kwh: Floats
    excess_price_per_kwh: Floats
    capacity_window: Ints
    capacity_price_per_kw: Floats
    capacity_limit_kw: Floats

    @classmethod
    def build(cls, arrays: Mapping[str, Any] | None = None, /, **more: Any) -> "Problem":
        """Make a problem from named arrays, leaving out what has a default.

        Raises:
            InvalidRequest: an unknown or missing name, a wrong shape, NaN, a value outside its range
                or a contradiction; the message names array, index and reason.
        """
        given = {**(arrays or {}), **more}
        unknown = sorted(set(given) - set(SPECS))
        if unknown:
            raise InvalidRequest(unknown[0], "an unknown array", "one of " + ", ".join(SPECS))
        missing = [name for name in SPECS if given.get(name) is None and not has_default(name)]
        if missing:
            raise InvalidRequest(missing[0], None, "an array; it has no default")
        sizes = _sizes(given)
        ready: dict[str, Any] = {}
        for name, spec in SPECS.items():
            value = given.get(name)
            if value is None:
                committed = name == "committed" and given.get("commitment_kw") is not None
                value = True if committed else spec.default
            ready[name] = read_only(cast(name, value), shape_of(name, sizes), name)
            check_range(name, ready[name])
        _refuse_contradictions(ready)
        return cls(**ready)

    @property
    def sites(self) -> int:
        """Number of sites, N."""
        return int(self.net_load_kw.shape[0])

    @property
    def steps(self) -> int:
        """Number of steps, T."""
        return int(self.net_load_kw.shape[1])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every array by name, as `build` takes them back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _sizes(given: Mapping[str, Any]) -> dict[str, int]:
    """Return N, T, W, K as the arrays state them.

    Raises:
        InvalidRequest: net_load_kw or demand_window is no table.
    """
    net = cast("net_load_kw", given["net_load_kw"])
    if net.ndim != 2:
        raise InvalidRequest("net_load_kw", net.shape, "shape (sites, steps)")
    window = given.get("demand_window")
    windows = 0 if window is None else cast("demand_window", window)
    if not isinstance(windows, int) and windows.ndim != 2:
        raise InvalidRequest("demand_window", windows.shape, "shape (windows, steps)")
    price = given.get("capacity_price_per_kw")
    return {
        "N": net.shape[0],
        "T": net.shape[1],
        "W": windows if isinstance(windows, int) else windows.shape[0],
        "K": 0 if price is None else int(np.size(price)),
    }


def _refuse_contradictions(ready: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays that are each right but cannot be true together."""
    for low, high, why in (
        ("soc_floor", "soc_ceiling", "at most soc_ceiling"),
        ("export_price_per_kwh", "import_price_per_kwh", "at most import_price_per_kwh"),
    ):
        wrong = np.argwhere(ready[low] > ready[high] + 1e-12)
        if wrong.size:
            at = tuple(int(i) for i in wrong[0])
            raise InvalidRequest(f"{low}{list(at)}", float(ready[low][at]), f"{why} ({float(ready[high][at])})")
    window = ready["capacity_window"]
    beyond = np.flatnonzero(window >= len(ready["capacity_price_per_kw"]))
    if beyond.size:
        t = int(beyond[0])
        raise InvalidRequest(f"capacity_window[{t}]", int(window[t]), "the index of a capacity_price_per_kw, or -1")
    both = np.flatnonzero((window >= 0) & ready["committed"])
    if both.size:
        t = int(both[0])
        raise InvalidRequest(f"committed[{t}]", True, "False where capacity_window is not -1: one or the other")
