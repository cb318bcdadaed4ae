"""The fleet's state as aligned, read-only columns with a quality per site, validated once."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from vpp.domain.errors import InvalidRequest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Quality(IntEnum):
    """Why a reading may, or may not, be used. Only GOOD is dispatched on."""

    GOOD = 0
    MISSING = 1
    STALE = 2
    FROZEN = 3
    OUT_OF_RANGE = 4


def read_only(column: npt.ArrayLike, length: int, name: str) -> Floats:
    """Return a float64 read-only copy of `column`, checked for length.

    Raises:
        InvalidRequest: the column has another length than the fleet.
    """
    values = np.array(column, dtype=np.float64)
    if values.shape != (length,):
        raise InvalidRequest(name, values.shape, f"one value per site, shape ({length},)")
    values.setflags(write=False)
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """What the fleet is doing at one instant; every column is aligned with `site_ids`.

    Attributes:
        at: the instant the snapshot speaks of.
        site_ids: shape (site,).
        soc: state of charge, 0-1. Meaningful only where `quality` is GOOD; 0 elsewhere.
        battery_kw: battery power, discharge positive [kW].
        grid_kw: power at the grid connection, export positive [kW].
        islanded: the site is cut off from the grid and runs on its battery.
        quality: `Quality` per site, shape (site,), int8.
    """

    at: datetime
    site_ids: tuple[str, ...]
    soc: Floats
    battery_kw: Floats
    grid_kw: Floats
    islanded: Bools
    quality: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        length = len(self.site_ids)
        for name in ("soc", "battery_kw", "grid_kw"):
            object.__setattr__(self, name, read_only(getattr(self, name), length, name))
        for name, kind in (("islanded", np.bool_), ("quality", np.int8)):
            column = np.array(getattr(self, name), dtype=kind)
            if column.shape != (length,):
                raise InvalidRequest(name, column.shape, f"one value per site, shape ({length},)")
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        for name in ("soc", "battery_kw", "grid_kw"):
            if not np.isfinite(getattr(self, name)[self.good]).all():
                raise InvalidRequest(name, "not finite", "finite values wherever quality is GOOD")

    @property
    def good(self) -> Bools:
        """Which sites have a reading that may be used, shape (site,)."""
        return np.asarray(self.quality == Quality.GOOD)

    @property
    def available(self) -> Bools:
        """Which sites may be dispatched: a good reading and tied to the grid, shape (site,)."""
        return np.asarray(self.good & ~self.islanded)

    @property
    def net_load_kw(self) -> Floats:
        """Consumption less generation behind the meter without the battery [kW], shape (site,)."""
        return np.asarray(self.battery_kw - self.grid_kw)
