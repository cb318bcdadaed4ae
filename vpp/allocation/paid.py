"""What each site is paid at the end: the fleet's price of a step and what its feeders take from it.

Called by `explain.py`, `supply.py` and the service.
"""

import numpy as np

from vpp.allocation.answer import Allocation
from vpp.allocation.problem import Ints, Problem
from vpp.domain.fleet import Floats


def site_price_per_kwh(problem: Problem, answer: Allocation, rows: slice | Ints | None = None) -> Floats:
    """Return what each of these sites is paid for a kWh discharged, (n,T), or a view of (T,) where all are paid alike.

    Where programmes count different sites, the answer holds the price of a site that all may count, and
    that is what every site is taken to be paid.
    """
    return paid(
        answer.marginal_price_per_kwh, answer.feeder_price_per_kwh, problem.feeder_parent,
        problem.feeder if rows is None else problem.feeder[rows],
    )  # fmt: skip


def paid(fleet_per_kwh: Floats, feeder_per_kwh: Floats, parent: Ints, feeder: Ints) -> Floats:
    """The same from arrays: (T,), (F,T), (F,) and the feeder of each site, (n,)."""
    fleet = np.asarray(fleet_per_kwh, dtype=np.float64)
    if not np.any(feeder_per_kwh):
        return np.asarray(np.broadcast_to(fleet, (len(feeder), len(fleet))))
    made = np.tile(fleet, (len(feeder), 1))
    node = np.array(feeder)
    while (node >= 0).any():
        on = node >= 0
        made[on] += feeder_per_kwh[node[on]]
        node = np.where(on, parent[node], -1)
    return made
