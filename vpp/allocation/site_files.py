"""One site out of problem and result files, without reading the others.  Called by `vpp explain`.

A result says which problem it answers and what that file's hash was, because a result alone cannot say why.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vpp.allocation.arrays import SPECS
from vpp.allocation.explain import SiteExplanation, explain_alone
from vpp.allocation.files import PROVENANCE, SITE_IDS, read_arrays, read_problem, read_result, sha256
from vpp.allocation.one_site import on_their_own
from vpp.allocation.paid import paid
from vpp.allocation.problem import Problem
from vpp.allocation.supply import Offer, next_kw
from vpp.domain.errors import InvalidRequest, NotFound, NotReady
from vpp.domain.fleet import Floats

BLOCK_BYTES = 1 << 20
_HEAD = ("method", "marginal_price_per_kwh", "feeder_price_per_kwh", "site_cost", *PROVENANCE)


@dataclass(frozen=True, slots=True)
class Explained:
    """A site's explanation as the command gives it: its id and row, and who would give the next kW if asked."""

    site_id: str
    explanation: SiteExplanation
    next_kw: tuple[Offer, ...]
    next_ids: tuple[str, ...]


def explain_file(result_path: Path, site: str, problem_path: Path | None = None, step: int | None = None) -> Explained:
    """Explain one site of a result file.

    Args:
        result_path: what `vpp allocate` wrote.
        site: the site's id where the problem file has ids, else its row.
        problem_path: the problem file, where it is not where it was when the result was made.
        step: only this step, and who would give its next kW: for that every site is read.

    Raises:
        NotFound: a file or the site is not there.
        InvalidRequest: no such step, or a file is not what it should be.
        NotReady: the problem file is another one than was solved, or the answer has no prices.
    """
    about = _result_head(result_path)
    path = _problem_of(result_path, about, problem_path)
    ids = site_ids(path)
    row = _row(site, ids, len(about["site_cost"]))
    if str(np.asarray(about["method"]).item()) == "realtime_split":
        raise NotReady("this answer is a real-time split: it has no prices by which to say why; solve with more time")
    alone = read_one(path, row)
    if step is not None and not 0 <= step < alone.steps:
        raise InvalidRequest("step", step, f"a step from 0 to {alone.steps - 1}")
    battery_kw, soc = (one_row(result_path, name, row) for name in ("battery_kw", "soc"))
    fleet = np.asarray(about["marginal_price_per_kwh"], dtype=np.float64)
    price = paid(fleet, np.asarray(about["feeder_price_per_kwh"]), alone.feeder_parent, alone.feeder)
    told = explain_alone(
        on_their_own(alone, np.array([0])), row, battery_kw, soc, price, fleet, None if step is None else (step,)
    )
    offers = () if step is None else next_kw(read_problem(path), read_result(result_path), step)
    names = tuple(str(offer.site) if ids is None else str(ids[offer.site]) for offer in offers)
    return Explained(site if ids is None else str(ids[row]), told, offers, names)


def site_ids(path: Path) -> npt.NDArray[np.str_] | None:
    """The sites' own ids in a problem file, (N,); None where it has none."""
    found = read_arrays(path, (SITE_IDS,)).get(SITE_IDS)
    return None if found is None else np.asarray(found).astype(np.str_)


def read_one(path: Path, row: int) -> Problem:
    """The problem of one site, with the feeders and prices of all; of `.npz` only its rows are kept.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no problem.
    """
    if path.suffix != ".npz":
        return read_problem(path).only(np.array([row]))
    by_site = [name for name, spec in SPECS.items() if spec.shape[0] == "N"]
    arrays = read_arrays(path, [name for name in SPECS if name not in by_site])
    if np.ndim(arrays.get("program_site", 0)) == 2:
        arrays["program_site"] = arrays["program_site"][:, [row]]
    for name in by_site:
        try:
            arrays[name] = _npz_row(path, name, row, len(SPECS[name].shape))
        except KeyError:
            continue
    return Problem.build(arrays)


def one_row(path: Path, name: str, row: int) -> Floats:
    """One site's row of a result's array, (1,...)."""
    if path.suffix == ".npz":
        return np.asarray(_npz_row(path, name, row, 2), dtype=np.float64)
    return np.asarray(read_arrays(path, (name,))[name], dtype=np.float64)[[row]]


def _npz_row(path: Path, name: str, row: int, axes: int) -> npt.NDArray[Any]:
    """Row `row` of an array of the file, kept as an axis of length one; what all sites share comes whole.

    The file is read through to that row and no further, and nothing before it is kept.

    Raises:
        KeyError: it is not in the file.
        InvalidRequest: the file is not what it should be.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _header(file)
            if len(shape) < axes or fortran:
                whole = np.frombuffer(file.read(), dtype=dtype).reshape(shape, order="F" if fortran else "C")
                return whole if len(shape) < axes else whole[[row]]
            if not 0 <= row < shape[0]:
                raise InvalidRequest("site", row, f"a row from 0 to {shape[0] - 1}")
            size = int(np.prod(shape[1:])) * dtype.itemsize
            _skip(file, row * size)
            return np.frombuffer(file.read(size), dtype=dtype).reshape((1, *shape[1:]))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidRequest(str(path), str(error), "an .npz file of named arrays") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), bool(fortran), dtype


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        passed = len(file.read(min(count, BLOCK_BYTES)))
        if not passed:
            raise EOFError("the file ends before the site")
        count -= passed


def _result_head(path: Path) -> dict[str, Any]:
    """What a result says of all sites together.

    Raises:
        InvalidRequest: it is no result.
    """
    head = read_arrays(path, _HEAD)
    missing = [name for name in _HEAD if name not in head and name not in PROVENANCE]
    if missing:
        raise InvalidRequest(str(path), f"without {missing[0]}", "a result written by vpp allocate")
    return head


def _problem_of(result_path: Path, head: dict[str, Any], given: Path | None) -> Path:
    """The problem file a result answers.

    Raises:
        NotFound: it is gone.
        NotReady: it is not the one that was solved, or the result does not say which one was.
    """
    named, wanted = (str(np.asarray(head.get(name, "")).item()) for name in PROVENANCE)
    if not wanted:
        raise NotReady(f"{result_path} does not say which problem it answers: solve it again with vpp allocate")
    path = given or Path(named)
    if not path.exists():
        raise NotFound(f"{path}: the problem this result answers is gone; give its new place with --problem")
    if sha256(path) != wanted:
        raise NotReady(f"{path} has changed since {result_path} was made: solve it again with vpp allocate")
    return path


def _row(site: str, ids: npt.NDArray[np.str_] | None, sites: int) -> int:
    """The row of a site by its id, or by number where the problem has no ids.

    Raises:
        NotFound: there is no such site.
    """
    if ids is not None:
        found = np.flatnonzero(ids == site)
        if found.size != 1:
            raise NotFound(f"no site {site}" if not found.size else f"{found.size} sites are called {site}")
        return int(found[0])
    if not site.isdecimal() or int(site) >= sites:
        raise NotFound(f"no site {site}: the problem has no site ids, so give a row from 0 to {sites - 1}")
    return int(site)
