"""The allocation problem as data: frozen, validated arrays and no solver.

Called by the service, which builds it from sites, by `vpp allocate`, and by anyone who wants to check
us. N sites, T steps, W demand windows, K capacity windows, C programmes, F feeders, P tiers of wear.
Powers are positive toward the grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vpp.allocation.arrays import SPECS, cast, fitted, has_default, shape_of
from vpp.allocation.contradictions import refuse_contradictions
from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Bools, Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """One allocation problem; make it with `Problem.build`, which fills defaults and checks.

    Every array is read-only. A scalar is broadcast to the shape stated here, so is one row (T,) to (N,T);
    what is the same for every site stays a view with stride 0, because a million sites must fit in memory.

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
        commitment_kw: power owed [kW], (T,); default 0. Negative is turn-up: absorption is owed.
        committed: steps in which `commitment_kw` is owed, (T,); default all if it is given, else none.
        fixed_kw: power that others deliver whatever we do (mode-only devices), counted as delivered
            [kW], (T,); default 0.
        shortfall_price_per_kwh: price of not delivering, (T,); default 10.
        excess_price_per_kwh: price of going beyond what is owed, in its direction, (T,); default 0.
        capacity_window: window of each step, -1 outside, (T,) int; default -1. A step is either
            committed or in a capacity window.
        capacity_price_per_kw: what a kW held through a window earns, (K,).
        capacity_limit_kw: most that may be offered in a window [kW], (K,); default unlimited.
        program_commitment_kw: power owed to each further programme [kW], (C,T); default none. It is owed
            on top of `commitment_kw`; a delivered kWh counts once. While a programme is owed power, the
            sites with the same programmes do not absorb on balance.
        program_shortfall_price_per_kwh: price of not delivering it, (C,T), and so its priority; default 10.
        program_site: which sites a programme may count, (C,N) bool; default all.
        feeder: the feeder each site is on, -1 none, (N,) int; default -1.
        feeder_parent: the feeder a feeder is fed from, -1 none, (F,) int; default -1.
        feeder_export_limit_kw, feeder_import_limit_kw: most that all sites below a feeder together export
            or import [kW], (F,T); default unlimited. Hard; where idle batteries break it, their flow is the limit.
        wear_c_rate, wear_factor: discharge above `wear_c_rate` times `capacity_kwh` wears `wear_factor` times
            as much, both ascending, (P,); default none.
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
    program_commitment_kw: Floats
    program_shortfall_price_per_kwh: Floats
    program_site: Bools
    feeder: Ints
    feeder_parent: Ints
    feeder_export_limit_kw: Floats
    feeder_import_limit_kw: Floats
    wear_c_rate: Floats
    wear_factor: Floats

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
            ready[name] = fitted(name, value, shape_of(name, sizes))
        refuse_contradictions(ready)
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

    def only(self, rows: slice | Ints) -> "Problem":
        """The same problem with these sites only, everything that is owed unchanged; a slice copies nothing."""
        made: dict[str, Any] = {}
        for name, array in self.arrays().items():
            shape = SPECS[name].shape
            if shape == "CN":
                made[name] = array[:, rows]
            elif shape[0] != "N":
                made[name] = array
            elif array.strides[0] == 0 and self.sites > 0:
                count = len(range(*rows.indices(self.sites))) if isinstance(rows, slice) else len(rows)
                made[name] = np.broadcast_to(array[:1] if array.ndim > 1 else array[0], (count, *array.shape[1:]))
            else:
                made[name] = array[rows]
            made[name].setflags(write=False)
        return Problem(**made)


def _sizes(given: Mapping[str, Any]) -> dict[str, int]:
    """Return how long each axis is, as the arrays state it.

    Raises:
        InvalidRequest: an array that states an axis is no table where it must be.
    """
    sites, steps = _table("net_load_kw", given["net_load_kw"], "(sites, steps)")
    limits = [given[n] for n in ("feeder_export_limit_kw", "feeder_import_limit_kw") if np.ndim(given.get(n, 0)) == 2]
    feeders = _length(given.get("feeder_parent"))
    if given.get("feeder_parent") is None and limits:
        feeders = _table("feeder_export_limit_kw", limits[0], "(feeders, steps)")[0]
    if (given.get("wear_c_rate") is None) != (given.get("wear_factor") is None):
        alone = "wear_c_rate" if given.get("wear_factor") is None else "wear_factor"
        raise InvalidRequest(alone, "given alone", "wear_c_rate and wear_factor together")
    return {
        "N": sites,
        "T": steps,
        "W": _table("demand_window", given.get("demand_window"), "(windows, steps)")[0],
        "K": _length(given.get("capacity_price_per_kw")),
        "C": _table("program_commitment_kw", given.get("program_commitment_kw"), "(programmes, steps)")[0],
        "F": feeders,
        "P": _length(given.get("wear_c_rate")),
    }


def _length(value: Any) -> int:
    return 0 if value is None else int(np.size(value))


def _table(name: str, value: Any, axes: str) -> tuple[int, int]:
    if value is None:
        return 0, 0
    shape = np.shape(value) if isinstance(value, np.ndarray) else cast(name, value).shape
    if shape == (0,) and name != "net_load_kw":  # how JSON writes a table without rows
        return 0, 0
    if len(shape) != 2:
        raise InvalidRequest(name, shape, f"shape {axes}")
    return int(shape[0]), int(shape[1])
