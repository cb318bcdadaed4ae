"""A linear programme in arrays, and the collector it is put together with.

Called by `linear.py` and `coupling.py`, which fill it, and by `solver.py`, which hands it over.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vpp.domain.fleet import Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """Minimise offset + cost.x with lower <= x <= upper and row_lower <= A x <= row_upper; A as triplets by row."""

    cost: Floats
    lower: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    rows: Ints
    columns: Ints
    values: Floats
    offset: float = 0.0


@dataclass(slots=True)
class Collector:
    """Collects columns, rows and triplets."""

    cost: list[Floats] = field(default_factory=list)
    lower: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)
    columns: int = 0
    row_lower: list[Floats] = field(default_factory=list)
    row_upper: list[Floats] = field(default_factory=list)
    rows: int = 0
    triplets: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)

    def add_columns(self, cost: Floats, lower: Floats | float, upper: Floats | float) -> Ints:
        """Add columns and return their numbers."""
        first, count = self.columns, len(cost)
        self.cost.append(cost)
        self.lower.append(np.broadcast_to(np.asarray(lower, float), count))
        self.upper.append(np.broadcast_to(np.asarray(upper, float), count))
        self.columns += count
        return np.arange(first, first + count)

    def add_rows(self, lower: Floats, upper: Floats | float) -> Ints:
        """Add rows and return their numbers."""
        first, count = self.rows, len(lower)
        self.row_lower.append(lower)
        self.row_upper.append(np.broadcast_to(np.asarray(upper, float), count))
        self.rows += count
        return np.arange(first, first + count)

    def put(self, rows: Ints, columns: Ints, values: Floats | float) -> None:
        """Add coefficients."""
        self.triplets.append((rows, columns, np.broadcast_to(np.asarray(values, float), len(rows))))

    def put_where(self, row_of: Ints, columns: Ints, values: Floats) -> None:
        """Add a coefficient for each column that has a row; -1 means none."""
        there = row_of >= 0
        self.put(row_of[there], columns[there], values[there])

    def finish(self, offset: float) -> LinearProgram:
        """Return the programme, its triplets in order of rows."""
        rows, columns, values = (np.concatenate(part) for part in zip(*self.triplets, strict=True))
        order = np.lexsort((columns, rows))
        return LinearProgram(
            np.concatenate(self.cost), np.concatenate(self.lower), np.concatenate(self.upper),
            np.concatenate(self.row_lower), np.concatenate(self.row_upper),
            rows[order], columns[order], values[order], offset,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Power:
    """The columns that are battery power: site, step, sign (discharge +1, charge -1) and column of each."""

    site: Ints
    step: Ints
    sign: Floats
    column: Ints
