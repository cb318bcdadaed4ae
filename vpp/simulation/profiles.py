"""Room simulation: the packaged load and PV profiles on a site's local clock.

Called by `fleet` (history) and `weather` (minute by minute). What the data is and under which licence
it comes is told in `data/README.md`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from vpp.domain.fleet import Floats
from vpp.domain.time import as_utc, floor_to

Ints = npt.NDArray[np.int64]

QUARTER_MIN = 15.0
QUARTERS_A_DAY = 96
WEEKS_MOVED = 522
"""17 August 2016 is replayed on 19 August 2026: both Wednesdays."""
LOOP_DAYS = 91
"""13 whole weeks; beyond the packaged summer they repeat, so that weekdays stay weekdays."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """The packaged quarter-hourly means.

    Attributes:
        load: shape (kind, step), share of the customer's yearly peak, 0-1.
        pv: shape (plant, step), share of rated power, 0-1.
        load_names: the kinds, such as "H0-A".
        first_day: the local day of step 0, after moving the calendar.
    """

    load: Floats
    pv: Floats
    load_names: tuple[str, ...]
    first_day: date

    def kind(self, name: str) -> int:
        """The row of a load kind."""
        return self.load_names.index(name)

    def source_day(self, day: date) -> date:
        """The day of measurement that is replayed on `day`; the weekday is the same."""
        return self.first_day - timedelta(weeks=WEEKS_MOVED) + timedelta(days=(day - self.first_day).days % LOOP_DAYS)


@cache
def load_profiles() -> Profiles:
    """Read the packaged file once per process; the arrays are read-only."""
    with (files("vpp.simulation") / "data" / "simbench_summer.npz").open("rb") as file:
        packed = np.load(file)
        kept = LOOP_DAYS * QUARTERS_A_DAY
        load, pv = (packed[name][:, :kept] / float(packed["scale"]) for name in ("load", "pv"))
        names = tuple(str(name) for name in packed["load_names"])
        first_day = date.fromisoformat(str(packed["first_day"])) + timedelta(weeks=WEEKS_MOVED)
    load.setflags(write=False)
    pv.setflags(write=False)
    return Profiles(load, pv, names, first_day)


def local_minutes(times: Floats, time_zone: str, first_day: date) -> Floats:
    """Minutes of the local wall clock since `first_day` 00:00, for Unix times [s], any shape (time,).

    The clock is asked once an hour, since no zone changes it more often. On the day it jumps, the
    profile jumps with it.
    """
    zone = ZoneInfo(time_zone)
    hours_of = np.floor_divide(times, 3600.0)
    known, where = np.unique(hours_of, return_inverse=True)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    offsets_s = np.array(
        [(epoch + timedelta(hours=float(hour))).astimezone(zone).utcoffset() or timedelta() for hour in known]
    )
    seconds = np.array([offset.total_seconds() for offset in offsets_s])[where]
    start_s = (datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC) - epoch).total_seconds()
    return np.asarray((times + seconds - start_s) / 60.0)


def sample(rows: Floats, row: Ints, minutes: Floats) -> Floats:
    """Read profiles at local minutes, linear between the middles of the quarters.

    Args:
        rows: profiles, shape (kind, step).
        row: which profile each site follows, shape (site,).
        minutes: local minutes since the first day, shape (time, site).

    Returns:
        shape (time, site).
    """
    steps = rows.shape[1]
    place = (minutes - QUARTER_MIN / 2.0) / QUARTER_MIN
    before = np.floor(place)
    share = place - before
    left = before.astype(np.int64) % steps
    low, high = rows[row, left], rows[row, (left + 1) % steps]
    return np.asarray(low + share * (high - low))


def unix_minutes(start_at: datetime, count: int, step: timedelta = timedelta(minutes=1)) -> Floats:
    """The middles of `count` steps from `start_at`, as Unix times [s]."""
    first = as_utc(start_at).timestamp()
    step_s = step.total_seconds()
    return np.asarray(first + step_s * (np.arange(count) + 0.5), dtype=np.float64)


def utc_day(at: datetime) -> datetime:
    """The beginning of the UTC day that holds `at`."""
    return floor_to(at, timedelta(days=1))
