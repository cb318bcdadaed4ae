"""The allocation problem as anyone would write it down, from the arrays of a problem file and numpy alone.

Used by every peer's script here (they share nothing else with us and never import `vpp`), by
`bench_peers.py` to judge our own answer by the same yardstick, and by a test. The programme has a column
for each charge, discharge, stored energy, import and curtailment of each site and step, each demand peak,
shortfall, excess and bid. An answer is judged from its charge and discharge alone.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BEYOND = ("program_commitment_kw", "feeder_parent", "wear_c_rate")
"""Arrays of a richer problem than this programme states; none of the compared problems has them."""


SHAPES = {
    "step_h": "T", "net_load_kw": "NT", "max_charge_kw": "N", "max_discharge_kw": "N", "capacity_kwh": "N",
    "soc": "N", "soc_floor": "N", "soc_ceiling": "N", "charge_efficiency": "N", "discharge_efficiency": "N",
    "export_limit_kw": "N", "import_limit_kw": "N", "available": "NT", "may_charge": "NT",
    "import_price_per_kwh": "NT", "export_price_per_kwh": "NT", "demand_window": "WT", "demand_price_per_kw": "NW",
    "peak_so_far_kw": "NW", "wear_price_per_kwh": "N", "terminal_value_per_kwh": "N", "commitment_kw": "T",
    "committed": "T", "fixed_kw": "T", "shortfall_price_per_kwh": "T", "excess_price_per_kwh": "T",
    "capacity_window": "T", "capacity_price_per_kw": "K", "capacity_limit_kw": "K",
}  # fmt: skip
"""The arrays that state a problem, by sites N, steps T, demand windows W and capacity windows K."""


@dataclass(frozen=True)
class Instance:
    """A problem's arrays by name, and the bounds they imply: N sites, T steps, W demand, K capacity windows.

    Attributes:
        given: the arrays as they are in the file.
        most_charge, most_discharge, most_curtailed: bounds of power [kW], (N,T).
        start, low, high: stored energy now, and its limits [kWh], (N,).
        coupled: steps in which power is owed or offered, indices; window: capacity window of each, or -1.
        owed: what is owed in each of them net of what others deliver [kW].
    """

    given: dict[str, Any]
    most_charge: Floats
    most_discharge: Floats
    most_curtailed: Floats
    start: Floats
    low: Floats
    high: Floats
    coupled: Ints
    window: Ints
    owed: Floats

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["given"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def size(self) -> tuple[int, int]:
        """Sites and steps."""
        sites, steps = self.given["net_load_kw"].shape
        return int(sites), int(steps)

    @property
    def priced_excess(self) -> npt.NDArray[np.bool_]:
        """Which of the coupled steps have a price on delivering more than owed; a bid has none."""
        return np.asarray((self.given["excess_price_per_kwh"][self.coupled] > 0) & (self.window < 0))


def read(path: Path | str) -> Instance:
    """Read a problem file as `vpp.allocation.write_problem` writes it."""
    with np.load(path, allow_pickle=False) as arrays:
        return instance({name: arrays[name] for name in arrays.files})


def instance(p: dict[str, Any]) -> Instance:
    """Return the instance of a problem's arrays; one that is the same for all may be given smaller.

    Raises:
        ValueError: the problem asks for what the textbook programme does not state.
    """
    beyond = [name for name in BEYOND if np.size(p.get(name, ()))]
    if beyond or (p["commitment_kw"] < 0).any():
        raise ValueError(f"beyond the textbook programme: {', '.join(beyond) or 'a negative commitment_kw'}")
    p = _whole(p)
    net, export = p["net_load_kw"], p["export_limit_kw"][:, None]
    charge = np.clip(np.minimum(p["max_charge_kw"][:, None], p["import_limit_kw"][:, None] - net), 0.0, None)
    charge[~(p["available"] & p["may_charge"]) | (p["soc"] > p["soc_ceiling"])[:, None]] = 0.0
    discharge = np.clip(np.minimum(p["max_discharge_kw"][:, None], net + export), 0.0, None)
    discharge[~p["available"] | (p["soc"] < p["soc_floor"])[:, None]] = 0.0
    window = p["capacity_window"]
    coupled = np.flatnonzero(p["committed"] | (window >= 0))
    owed = np.where(p["committed"], p["commitment_kw"], 0.0) - p["fixed_kw"]
    return Instance(
        p, charge, discharge, np.clip(-net - export, 0.0, None),
        p["soc"] * p["capacity_kwh"], np.minimum(p["soc_floor"], p["soc"]) * p["capacity_kwh"],
        np.maximum(p["soc_ceiling"], p["soc"]) * p["capacity_kwh"], coupled, window[coupled], owed[coupled],
    )  # fmt: skip


def _whole(given: dict[str, Any]) -> dict[str, Any]:
    """Every array in its full shape; what has no demand or capacity window to be of is empty."""
    sites, steps = given["net_load_kw"].shape
    sizes = {"N": sites, "T": steps, "W": len(given.get("demand_window", ()))}
    sizes["K"] = len(given.get("capacity_price_per_kw", ()))
    full = {name: tuple(sizes[letter] for letter in letters) for name, letters in SHAPES.items()}
    return {name: np.broadcast_to(given[name] if 0 not in shape else 0.0, shape) for name, shape in full.items()}


def few(p: Instance, sites: int) -> Instance:
    """The problem of the first few sites, with what is owed in proportion."""
    cut = {name: value[:sites] if SHAPES[name][0] == "N" else value for name, value in p.given.items()}
    return instance({**cut, "commitment_kw": p.commitment_kw * (sites / p.size[0])})


@dataclass
class LinearProgram:
    """Minimise cost.x + offset with lower <= x <= upper and row_lower <= A x <= row_upper.

    `first` is the first column of each kind: charge, discharge, energy, imported, curtailed (N x T by
    site), peak (N x W by site), short, over (by coupled step), bid (K).
    """

    cost: Floats
    lower: Floats
    upper: Floats
    first: dict[str, int]
    offset: float = 0.0
    rows: int = 0
    row_bounds: list[tuple[Floats, Floats]] = field(default_factory=list)
    triplets: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)

    def add_rows(self, lower: Floats, upper: Floats | float, terms: list[tuple[Any, Any, Any]]) -> None:
        """Add `len(lower)` rows; each term is (row number within these, column, coefficient)."""
        self.row_bounds.append((lower, np.broadcast_to(np.asarray(upper, float), len(lower))))
        for row, column, value in terms:
            self.triplets.append((self.rows + row, column, np.broadcast_to(np.asarray(value, float), len(column))))
        self.rows += len(lower)

    @property
    def row_lower(self) -> Floats:
        return np.concatenate([low for low, _ in self.row_bounds])

    @property
    def row_upper(self) -> Floats:
        return np.concatenate([high for _, high in self.row_bounds])

    def coordinates(self) -> tuple[Ints, Ints, Floats]:
        """Rows, columns and values of A."""
        rows, columns, values = (np.concatenate(part) for part in zip(*self.triplets, strict=True))
        return rows, columns, values

    def matrix(self) -> Any:
        """A as scipy's compressed rows."""
        from scipy import sparse  # the peers have it, our own environment does not

        rows, columns, values = self.coordinates()
        return sparse.csr_matrix((values, (rows, columns)), shape=(self.rows, len(self.cost)))


def assemble(p: Instance) -> LinearProgram:
    """Return the textbook programme."""
    lp = _columns(p)
    _site_rows(lp, p)
    _coupling_rows(lp, p)
    return lp


def _columns(p: Instance) -> LinearProgram:
    (sites, steps), hours = p.size, p.step_h
    many, windows, coupled, bids = sites * steps, len(p.demand_window), len(p.coupled), len(p.capacity_price_per_kw)
    zero, free = np.zeros(many), np.full(many, np.inf)
    sell, buy = p.export_price_per_kwh * hours, p.import_price_per_kwh * hours
    worth = np.zeros((sites, steps))
    worth[:, -1] = -p.terminal_value_per_kwh
    wear = p.wear_price_per_kwh[:, None] * hours
    step = hours[p.coupled]
    kinds: dict[str, tuple[Floats, Floats, Floats]] = {
        # energy is sold at the export price throughout, and the imported part pays the difference
        "charge": (sell.ravel(), zero, p.most_charge.ravel()),
        "discharge": ((wear - sell).ravel(), zero, p.most_discharge.ravel()),
        "energy": (worth.ravel(), np.repeat(p.low, steps), np.repeat(p.high, steps)),
        "imported": ((buy - sell).ravel(), zero, free),
        "curtailed": (sell.ravel(), zero, p.most_curtailed.ravel()),
        "peak": (p.demand_price_per_kw.ravel(), p.peak_so_far_kw.ravel(), np.full(sites * windows, np.inf)),
        "short": (step * p.shortfall_price_per_kwh[p.coupled], np.zeros(coupled), np.full(coupled, np.inf)),
        "over": (
            step * p.excess_price_per_kwh[p.coupled], np.zeros(coupled), np.where(p.priced_excess, np.inf, 0.0)
        ),
        "bid": (-p.capacity_price_per_kw, np.zeros(bids), p.capacity_limit_kw),
    }  # fmt: skip
    ends = np.cumsum([len(cost) for cost, _, _ in kinds.values()])
    first = {name: int(end - len(kinds[name][0])) for name, end in zip(kinds, ends, strict=True)}
    offset = float((sell * p.net_load_kw).sum() - (p.demand_price_per_kw * p.peak_so_far_kw).sum())
    cost, lower, upper = (np.concatenate([kind[i] for kind in kinds.values()]) for i in range(3))
    return LinearProgram(cost, lower, upper, first, offset)


def _site_rows(lp: LinearProgram, p: Instance) -> None:
    sites, steps = p.size
    k = np.arange(sites * steps)
    site, t = np.divmod(k, steps)
    charge, discharge, energy, imported, curtailed = (
        lp.first[name] + k for name in ("charge", "discharge", "energy", "imported", "curtailed")
    )
    hours, net = p.step_h[t], p.net_load_kw.ravel()
    later = t > 0
    begin = np.where(later, 0.0, p.start[site])
    stored = [
        (k, energy, 1.0), (k[later], energy[later] - 1, -1.0),
        (k, charge, -hours * p.charge_efficiency[site]), (k, discharge, hours / p.discharge_efficiency[site]),
    ]  # fmt: skip
    lp.add_rows(begin, begin, stored)
    flow = [(k, charge, 1.0), (k, discharge, -1.0), (k, curtailed, 1.0)]
    lp.add_rows(net, np.inf, [(k, imported, 1.0), *((row, column, -value) for row, column, value in flow)])
    limited = np.flatnonzero(np.isfinite(p.export_limit_kw[site]))
    number = np.arange(len(limited))
    lp.add_rows(
        (-p.export_limit_kw[site] - net)[limited], np.inf, [(number, column[limited], v) for _, column, v in flow]
    )
    for w, during in enumerate(p.demand_window):
        inside = np.flatnonzero(during[t])
        number = np.arange(len(inside))
        peak = lp.first["peak"] + site[inside] * len(p.demand_window) + w
        lp.add_rows(np.zeros(len(inside)), np.inf, [(number, peak, 1.0), (number, imported[inside], -1.0)])


def _coupling_rows(lp: LinearProgram, p: Instance) -> None:
    """Delivered + short - over >= what is owed or bid; the rows are the last ones."""
    sites, steps = p.size
    row, at = np.repeat(np.arange(len(p.coupled)), sites), np.repeat(p.coupled, sites)
    cell = np.tile(np.arange(sites), len(p.coupled)) * steps + at
    number = np.arange(len(p.coupled))
    offered = p.window >= 0
    terms = [
        (row, lp.first["discharge"] + cell, 1.0), (row, lp.first["charge"] + cell, -1.0),
        (number, lp.first["short"] + number, 1.0), (number, lp.first["over"] + number, -1.0),
        (number[offered], lp.first["bid"] + p.window[offered], -1.0),
    ]  # fmt: skip
    lp.add_rows(p.owed, np.where(p.priced_excess, p.owed, np.inf), terms)


def parts(p: Instance, lp: LinearProgram, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return charge and discharge [kW] (N,T) and bids [kW] (K,) of a solution."""
    many = p.size[0] * p.size[1]
    charge, discharge = (x[lp.first[name] :][:many].reshape(p.size) for name in ("charge", "discharge"))
    return charge, discharge, x[lp.first["bid"] :]


def judge(p: Instance, charge: Floats, discharge: Floats, bid: Floats) -> dict[str, float]:
    """Cost and broken limits of an answer, from its power alone.

    Returns:
        objective: what it costs, with the energy that this power leaves stored and shortfall paid for.
        over_kw, over_kwh: by how much it breaks the worst power limit [kW] and energy limit [kWh].
        shortfall_kwh: owed or bid, and not delivered.
    """
    hours, battery = p.step_h, discharge - charge
    moved = (charge * p.charge_efficiency[:, None] - discharge / p.discharge_efficiency[:, None]) * hours
    energy = p.start[:, None] + np.cumsum(moved, axis=1)
    net = p.net_load_kw - battery
    bought, sold = np.clip(net, 0.0, None), np.clip(-net, 0.0, p.export_limit_kw[:, None])
    cost = float(((bought * p.import_price_per_kwh - sold * p.export_price_per_kwh) @ hours).sum())
    cost += float((discharge @ hours) @ p.wear_price_per_kwh - energy[:, -1] @ p.terminal_value_per_kwh)
    for w, during in enumerate(p.demand_window):
        if during.any():
            raised = np.clip(bought[:, during].max(axis=1) - p.peak_so_far_kw[:, w], 0.0, None)
            cost += float(raised @ p.demand_price_per_kw[:, w])
    offered = p.window >= 0
    owed = p.owed.copy()
    owed[offered] += bid[p.window[offered]]
    missing = owed - battery.sum(axis=0)[p.coupled]
    short, over = np.clip(missing, 0.0, None), np.where(p.priced_excess, np.clip(-missing, 0.0, None), 0.0)
    step = hours[p.coupled]
    cost += float(
        (short * p.shortfall_price_per_kwh[p.coupled] + over * p.excess_price_per_kwh[p.coupled]) @ step
        - p.capacity_price_per_kw @ bid
    )
    # the bounds of power hold the connection's limits, too
    broken = [
        charge - p.most_charge,
        discharge - p.most_discharge,
        -charge,
        -discharge,
        bid - p.capacity_limit_kw,
        -bid,
    ]
    beyond = np.maximum(p.low[:, None] - energy, energy - p.high[:, None])
    return {
        "objective": cost,
        "over_kw": max(0.0, *(float(kind.max()) for kind in broken if kind.size)),
        "over_kwh": max(0.0, float(beyond.max())),
        "shortfall_kwh": float(short @ step),
    }
