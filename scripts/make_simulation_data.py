"""Trim the SimBench time series to the summer the simulation replays.

Run by hand when the source changes: `uv run --group data python scripts/make_simulation_data.py`.
SimBench's database is under the Open Database License 1.0, its contents under the Database Contents License 1.0;
the file written here is a derived database under the same licence (see `vpp/simulation/data/README.md`).
"""

import argparse
import csv
import importlib.util
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

GRID = Path("networks") / "1-complete_data-mixed-all-0-sw"
FIRST_DAY, DAYS = date(2016, 6, 1), 92
STEPS_A_DAY = 96
LOADS = tuple(f"G{kind}" for kind in ("0-A", "0-M", "1-A", "1-B", "1-C", "2-A", "3-A", "3-H", "3-M", "4-A"))
LOADS += ("G4-B", "G4-M", "G5-A", "G6-A", "H0-A", "H0-B", "H0-C", "H0-G", "H0-L", "L0-A", "L1-A", "L2-A")
PLANTS = tuple(f"PV{number}" for number in range(1, 9))
SCALE = 50_000
"""Values are shares of the customer's yearly peak, 0-1, stored as integers of 1/50,000."""


def source_folder(given: Path | None) -> Path:
    """Where SimBench's CSV files lie: the folder given, or the installed package."""
    if given is not None:
        return given
    spec = importlib.util.find_spec("simbench")
    if spec is None or spec.origin is None:
        raise SystemExit("simbench is not installed: uv run --group data python scripts/make_simulation_data.py")
    return Path(spec.origin).parent / GRID


def read_columns(path: Path, columns: Sequence[str]) -> npt.NDArray[np.uint16]:
    """The named columns between the first day and the last, shape (column, step), in 1/SCALE.

    The source marks each quarter of an hour by its beginning in German local time; no change of clock falls in summer.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter=";")
        header = next(rows)
        places = [header.index(column) for column in columns]
        kept = []
        for row in rows:
            at = datetime.strptime(row[0], "%d.%m.%Y %H:%M")  # noqa: DTZ007 - a local clock, see above
            if 0 <= (at.date() - FIRST_DAY).days < DAYS:
                kept.append([float(row[place]) for place in places])
    values = np.array(kept).T
    if values.shape != (len(columns), DAYS * STEPS_A_DAY):
        raise SystemExit(f"{path.name}: expected {DAYS} whole days, found {values.shape[1]} quarters of an hour")
    return np.round(values * SCALE).astype(np.uint16)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="folder with SimBench's LoadProfile.csv and RESProfile.csv")
    parser.add_argument("--out", type=Path, default=Path("vpp/simulation/data/simbench_summer.npz"))
    options = parser.parse_args()
    folder = source_folder(options.source)
    np.savez_compressed(
        options.out,
        load=read_columns(folder / "LoadProfile.csv", [f"{name}_pload" for name in LOADS]),
        pv=read_columns(folder / "RESProfile.csv", PLANTS),
        load_names=np.array(LOADS),
        first_day=np.array(FIRST_DAY.isoformat()),
        scale=np.array(SCALE),
    )
    sys.stdout.write(f"{options.out}: {options.out.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
