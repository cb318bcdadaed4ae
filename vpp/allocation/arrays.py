"""What each array of a `Problem` must look like: shape, range, default.

Called by `problem.py`, and by `files.py`, which stores by shape. Arrays of a million sites must fit in
memory, so what is the same for every site stays one value or one row, seen N times through a view.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpp.domain.errors import InvalidRequest


class Spec(NamedTuple):
    """Shape in letters, range and default.

    N sites, T steps, W demand windows, K capacity windows, C programmes, F feeders, P tiers of wear.
    """

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
    "step_h": Spec("T", 1e-4, 48.0, "a length in hours above 0 and up to 48 h"),
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
    "commitment_kw": Spec("T", -1e9, 1e9, "a power within 1e9 kW", 0.0),
    "committed": Spec("T", default=False, kind="b"),
    "fixed_kw": Spec("T", -1e9, 1e9, "a power within 1e9 kW", 0.0),
    "shortfall_price_per_kwh": Spec("T", 0.0, 1e5, "a price from 0 to 100000 per kWh", 10.0),
    "excess_price_per_kwh": Spec("T", 0.0, 1e5, "a price from 0 to 100000 per kWh", 0.0),
    "capacity_window": Spec("T", -1, 1e6, "a window's index, or -1", -1, kind="i"),
    "capacity_price_per_kw": Spec("K", 0.0, 1e6, "a price from 0 to 1000000 per kW", 0.0),
    "capacity_limit_kw": Spec("K", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
    "program_commitment_kw": Spec("CT", 0.0, 1e9, "a power from 0 to 1e9 kW", 0.0),
    "program_shortfall_price_per_kwh": Spec("CT", 0.0, 1e5, "a price from 0 to 100000 per kWh", 10.0),
    "program_site": Spec("CN", default=True, kind="b"),
    "feeder": Spec("N", -1, 1e6, "a feeder's index, or -1", -1, kind="i"),
    "feeder_parent": Spec("F", -1, 1e6, "a feeder's index, or -1", -1, kind="i"),
    "feeder_export_limit_kw": Spec("FT", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
    "feeder_import_limit_kw": Spec("FT", 0.0, np.inf, "a limit of 0 kW or more", np.inf, unbounded=True),
    "wear_c_rate": Spec("P", 1e-6, 100.0, "a C-rate above 0 and up to 100 per hour", 1.0),
    "wear_factor": Spec("P", 1.0, 1e4, "a factor of 1 or more", 1.0),
}
_DTYPES: dict[str, type[np.generic]] = {"f": np.float64, "b": np.bool_, "i": np.int64}


def has_default(name: str) -> bool:
    """Whether an array may be left out."""
    return SPECS[name].default is not None


def cast(name: str, value: Any) -> npt.NDArray[Any]:
    """Return `value` as an array of the kind `name` needs; rows repeated by a view come back once, (1,T).

    Raises:
        InvalidRequest: it holds text, objects, or numbers where yes/no or whole numbers belong.
    """
    kind = SPECS[name].kind
    try:
        raw = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise InvalidRequest(name, "rows of different lengths", "an array of numbers") from None
    if raw.dtype.kind not in "bifu":
        raise InvalidRequest(name, str(raw.dtype), "an array of numbers")
    if raw.ndim and raw.shape[0] > 1 and raw.strides[0] == 0:
        raw = raw[:1] if raw.ndim > 1 else raw[0]
    made = np.asarray(raw, dtype=_DTYPES[kind])
    if kind != "f" and not np.array_equal(made, raw):
        raise InvalidRequest(name, _first(name, raw, made != raw), "True or False" if kind == "b" else "whole numbers")
    return made


def shape_of(name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape an array of this name has."""
    return tuple(sizes[letter] for letter in SPECS[name].shape)


def fitted(name: str, value: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return `value` checked, read-only and in `shape`.

    A scalar fits all, one row of steps fits every site, and an axis of length one is repeated. What is
    the same for every site comes back as a view with stride 0 over sites; what the caller could still
    write to is copied.

    Raises:
        InvalidRequest: the shape does not fit, or a value is NaN or outside its range.
    """
    given = cast(name, value)
    if given.size == 0 and 0 in shape:
        given = given.reshape(shape)
    letters = SPECS[name].shape
    if letters == "NT" and given.shape == shape[1:] and name != "net_load_kw":
        given = given[None]
    stretched = given.ndim == len(shape) and all(
        have in (1, want) for have, want in zip(given.shape, shape, strict=True)
    )
    if given.ndim != 0 and not (given.shape == shape or (stretched and len(shape) > 1)):
        # what was written, not what a view was shortened to
        raise InvalidRequest(name, np.shape(value), f"shape {shape} ({', '.join(letters)})")
    check_range(name, given, shape)
    same_for_all = letters[0] == "N" and (given.ndim == 0 or (given.shape != shape and given.shape[0] == 1))
    if not same_for_all:
        kept = given.shape == shape and given.flags.c_contiguous and _frozen(given)
        made = given if kept else np.array(np.broadcast_to(given, shape), order="C")
    else:
        made = np.broadcast_to(np.array(np.broadcast_to(given, (1, *shape[1:]) if len(shape) > 1 else ())), shape)
    made.setflags(write=False)
    return made


def check_range(name: str, value: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse NaN, infinity where it means nothing, and what is outside the range.

    Raises:
        InvalidRequest: naming array and index.
    """
    spec = SPECS[name]
    if spec.kind == "b" or value.size == 0:
        return
    high = spec.high if spec.unbounded else min(spec.high, np.finfo(np.float64).max)
    low = max(spec.low, -np.finfo(np.float64).max)
    if value.min() >= low and value.max() <= high:  # NaN fails both
        return
    seen = np.broadcast_to(value, shape)
    at = [int(i) for i in np.argwhere(~((seen >= low) & (seen <= high)))[0]]
    raise InvalidRequest(f"{name}{at}", float(seen[tuple(at)]), spec.allowed)


def once(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a view repeats for every site: a scalar for (N,), a row (T,) for (N,T); else all of it."""
    repeated = value.ndim > 0 and value.shape[0] > 1 and value.strides[0] == 0
    return np.asarray(value[0]) if repeated else value


def _frozen(value: npt.NDArray[Any]) -> bool:
    """Whether nobody can write to this array, nor to one it looks into."""
    inside: Any = value
    while isinstance(inside, np.ndarray):
        if inside.flags.writeable:
            return False
        inside = inside.base
    return inside is None


def _first(name: str, raw: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]) -> str:
    at = tuple(int(i) for i in np.argwhere(np.atleast_1d(wrong))[0])
    return f"{np.atleast_1d(raw)[at]} at {list(at)}"
