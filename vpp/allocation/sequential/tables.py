"""The sites of a problem as the tables the kernels read.  Called by `shards.py`.

One row of parameters a site, so that a site's numbers lie beside each other in memory; what is the same
for every site is one row for all.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vpp.allocation.limits import ceiling_kwh, floor_kwh
from vpp.allocation.problem import Problem
from vpp.domain.fleet import Floats

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

CHARGE_KW, DISCHARGE_KW, EXPORT_KW, IMPORT_KW = 0, 1, 2, 3
CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY, WEAR, TERMINAL = 4, 5, 6, 7
FLOOR_KWH, CEILING_KWH, START_KWH, CAPACITY_KWH = 8, 9, 10, 11
PARAMETERS = 12
MAY_DISCHARGE, MAY_CHARGE = 1, 2
NO_LIMIT_KW = 1e12


class Tables(NamedTuple):
    """N sites, T steps, W demand windows, P wear tiers. A table of one row holds for every site.

    Attributes:
        step_h: (T,).
        site: parameters by the indices above, (N,12).
        net_kw: load less PV [kW], (N,T).
        may: bits MAY_DISCHARGE and MAY_CHARGE, (N or 1,T).
        import_price_per_kwh, export_price_per_kwh: per kWh, (N or 1,T).
        window: which steps count for which demand charge, (W,T).
        demand_price_per_kw, peak_so_far: per kW, kW, (N,W).
        wear_c_rate, wear_factor: (P,).
        feeder: the feeder each site hangs on, -1 none, (N,); feeder_parent: (F,).
    """

    step_h: Floats
    site: Floats
    net_kw: Floats
    may: Bytes
    import_price_per_kwh: Floats
    export_price_per_kwh: Floats
    window: Bytes
    demand_price_per_kw: Floats
    peak_so_far: Floats
    wear_c_rate: Floats
    wear_factor: Floats
    feeder: Ints
    feeder_parent: Ints


def tables_of(problem: Problem, sites: slice | Ints = slice(None)) -> Tables:
    """Return the tables of some sites of a problem (all, unless told)."""
    site = np.empty((problem.sites, PARAMETERS))
    site[:, CHARGE_KW] = np.where(problem.soc <= problem.soc_ceiling, problem.max_charge_kw, 0.0)
    site[:, DISCHARGE_KW] = np.where(problem.soc >= problem.soc_floor, problem.max_discharge_kw, 0.0)
    site[:, EXPORT_KW] = np.minimum(problem.export_limit_kw, NO_LIMIT_KW)
    site[:, IMPORT_KW] = np.minimum(problem.import_limit_kw, NO_LIMIT_KW)
    site[:, CHARGE_EFFICIENCY] = problem.charge_efficiency
    site[:, DISCHARGE_EFFICIENCY] = problem.discharge_efficiency
    site[:, WEAR] = problem.wear_price_per_kwh
    site[:, TERMINAL] = problem.terminal_value_per_kwh
    site[:, FLOOR_KWH] = floor_kwh(problem)
    site[:, CEILING_KWH] = ceiling_kwh(problem)
    site[:, START_KWH] = problem.soc * problem.capacity_kwh
    site[:, CAPACITY_KWH] = problem.capacity_kwh
    available, charging = _thin(problem.available), _thin(problem.may_charge)
    may = available.astype(np.uint8) * MAY_DISCHARGE + (available & charging).astype(np.uint8) * MAY_CHARGE
    counts = problem.demand_window.any(axis=1) & (problem.demand_price_per_kw > 0).any(axis=0)

    def cut(table: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        return _own(table if len(table) == 1 and problem.sites > 1 else table[sites])

    return Tables(
        _own(problem.step_h), _own(site[sites]), _own(problem.net_load_kw[sites]),
        cut(may.astype(np.uint8)), cut(_thin(problem.import_price_per_kwh)), cut(_thin(problem.export_price_per_kwh)),
        _own(problem.demand_window[counts].astype(np.uint8)), _own(problem.demand_price_per_kw[:, counts][sites]),
        _own(problem.peak_so_far_kw[:, counts][sites]), _own(problem.wear_c_rate), _own(problem.wear_factor),
        _own(problem.feeder[sites]), _own(problem.feeder_parent),
    )  # fmt: skip


def _own(table: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """An array the kernels take without being compiled anew: contiguous and writable."""
    return np.require(table, requirements=["C", "W"])


def _thin(table: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """One row where every row is the same memory, so that nothing is copied out for a million sites."""
    return table[:1] if table.strides[0] == 0 and len(table) > 0 else table
