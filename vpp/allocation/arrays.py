"""What each array of a `Problem` must look like: shape, range, default. Called only by `problem.py`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpp.domain.errors import InvalidRequest


class Spec(NamedTuple):
    """Shape in letters (N sites, T steps, W demand, K capacity windows), range and default."""

    shape: str
    low: float = -np.inf
    high: float = np.inf
    allowed: str = "a finite number"
    default: float | bool | None = None
    kind: str = "f"
    unbounded: bool = False
    """True where infinity is meaningful: no limit."""


_POWER = (0.0, 1e7, "a power from 0 to 1e7 kW")
_SHARE = (0.0, 1.0, "a share from 0 to 1, not percent")
_PRICE = (-1e4, 1e4, "a price between -10000 and 10000 per kWh")

SPECS: dict[str, Spec] = {
    "step_h": Spec("T", 1e-4, 48.0, "a length above 0 and up to 48 h"),
    "net_load_kw": Spec("NT", -1e7, 1e7, "a power within 1e7 kW"),
    "max_charge_kw": Spec("N", *_POWER),
    "max_discharge_kw": Spec("N", *_POWER),
    "capacity_kwh": Spec("N", 1e-6, 1e8, "an energy above 0 up to 1e8 kWh"),
    "soc": Spec("N", *_SHARE),
    "soc_floor": Spec("N", *_SHARE, 0.0),
    "soc_ceiling": Spec("N", *_SHARE, 1.0),
    "charge_efficiency": Spec("N", 0.01, 1.0, "a one-way efficiency from 0.01 to 1, not percent", 1.0),
    "discharge_efficiency": Spec("N", 0.01, 1.0, "a one-way efficiency from 0.01 to 1, not percent", 1.0),
    "export_limit_kw": Spec("N", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
    "import_limit_kw": Spec("N", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
    "available": Spec("NT", default=True, kind="b"),
    "may_charge": Spec("NT", default=True, kind="b"),
    "import_price_per_kwh": Spec("NT", *_PRICE, 0.0),
    "export_price_per_kwh": Spec("NT", *_PRICE, 0.0),
    "demand_window": Spec("WT", default=False, kind="b"),
    "demand_price_per_kw": Spec("NW", 0.0, 1e5, "a price from 0 to 100000 per kW", 0.0),
    "peak_so_far_kw": Spec("NW", *_POWER, 0.0),
    "wear_price_per_kwh": Spec("N", 0.0, 1e4, "a price from 0 to 10000 per kWh", 0.0),
    "terminal_value_per_kwh": Spec("N", 0.0, 1e4, "a value from 0 to 10000 per kWh", 0.0),
    "commitment_kw": Spec("T", 0.0, 1e9, "a power from 0 to 1e9 kW", 0.0),
    "committed": Spec("T", default=False, kind="b"),
    "fixed_kw": Spec("T", -1e9, 1e9, "a power within 1e9 kW", 0.0),
    "shortfall_price_per_kwh": Spec("T", 0.0, 1e5, "a price from 0 to 100000 per kWh", 10.0),
    "excess_price_per_kwh": Spec("T", 0.0, 1e5, "a price from 0 to 100000 per kWh", 0.0),
    "capacity_window": Spec("T", -1, 1e6, "a window's index, or -1", -1, kind="i"),
    "capacity_price_per_kw": Spec("K", 0.0, 1e6, "a price from 0 to 1000000 per kW", 0.0),
    "capacity_limit_kw": Spec("K", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
}
_DTYPES: dict[str, type[np.generic]] = {"f": np.float64, "b": np.bool_, "i": np.int64}


def has_default(name: str) -> bool:
    """Whether an array may be left out."""
    return SPECS[name].default is not None


def cast(name: str, value: Any) -> npt.NDArray[Any]:
    """Return `value` as an array of the kind `name` needs.

    Raises:
        InvalidRequest: it holds text, objects, or numbers where yes/no or whole numbers belong.
    """
    kind = SPECS[name].kind
    raw = np.asarray(value)
    if raw.dtype.kind not in "bif" and raw.dtype.kind != "u":
        raise InvalidRequest(name, str(raw.dtype), "an array of numbers")
    made = np.asarray(raw, dtype=_DTYPES[kind])
    if kind != "f" and not np.array_equal(made, raw):
        raise InvalidRequest(name, _first(name, raw, made != raw), "True or False" if kind == "b" else "whole numbers")
    return made


def shape_of(name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape an array of this name has."""
    return tuple(sizes[letter] for letter in SPECS[name].shape)


def read_only(value: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Return a read-only copy in `shape`; a scalar fits all, one row of steps fits every site.

    Raises:
        InvalidRequest: the shape does not fit.
    """
    row = len(shape) == 2 and SPECS[name].shape == "NT" and value.shape == shape[1:] and name != "net_load_kw"
    if value.shape != shape and value.ndim != 0 and not row:
        raise InvalidRequest(name, value.shape, f"shape {shape} ({', '.join(SPECS[name].shape)})")
    made = np.array(np.broadcast_to(value, shape))
    made.setflags(write=False)
    return made


def check_range(name: str, value: npt.NDArray[Any]) -> None:
    """Refuse NaN, infinity where it means nothing, and what is outside the range.

    Raises:
        InvalidRequest: naming array and index.
    """
    spec = SPECS[name]
    if spec.kind == "b" or value.size == 0:
        return
    bad = np.isnan(value) if spec.unbounded else ~np.isfinite(value)
    bad |= (value < spec.low) | (value > spec.high)
    if bad.any():
        at = [int(i) for i in np.argwhere(bad)[0]]
        raise InvalidRequest(f"{name}{at}", float(value[tuple(at)]), spec.allowed)


def _first(name: str, raw: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]) -> str:
    at = tuple(int(i) for i in np.argwhere(np.atleast_1d(wrong))[0])
    return f"{np.atleast_1d(raw)[at]} at {list(at)}"
