"""Room telemetry: a batch into `reading`, each (device, measured_at) once.

Called by `consumer`. Repeating a batch is harmless, so whoever is not sure that it was written writes again.
"""

from datetime import UTC, date, datetime

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.telemetry.batch import EPOCH, VALUES, Batch
from vpp.telemetry.copy import copy_rows, instants, pack

_US_PER_DAY = 86_400_000_000
RESEND_US = 60_000_000
"""The same `measured_at` coming again within a minute is a resend; later, the device's clock stands still."""

_COLUMNS = f"device_id, measured_at, received_at, {', '.join(VALUES)}, islanded, controllable, repeated_at"
_STAGE = text(
    "create temporary table if not exists reading_stage (like reading including defaults) on commit delete rows"
)
_INSERT = text(f"""
insert into reading ({_COLUMNS})
select {_COLUMNS} from reading_stage order by device_id, measured_at
on conflict (device_id, measured_at) do update
set repeated_at = greatest(reading.repeated_at, excluded.repeated_at, excluded.received_at)
where greatest(excluded.repeated_at, excluded.received_at)
    > greatest(reading.repeated_at, reading.received_at) + interval '60 seconds'
""")  # noqa: S608 - the columns are ours
"""Ordered, so that two writers of overlapping batches wait for each other and never deadlock."""


def days_of(batch: Batch) -> list[date]:
    """The UTC days the batch has readings of, in order."""
    days = np.unique(batch["measured_us"] // _US_PER_DAY)
    return [date.fromordinal(EPOCH.toordinal() + int(day)) for day in days]


def day_of(at: datetime) -> date:
    """The UTC day of an instant."""
    return at.astimezone(UTC).date()


async def write_batch(connection: AsyncConnection, batch: Batch) -> int:
    """Write readings whose days have partitions; returns how many were new or had news.

    The first of several with the same device and instant is kept.
    """
    if len(batch) == 0:
        return 0
    once, repeated_us = _once(batch)
    missing = {3 + place: np.isnan(once[name]) for place, name in enumerate(VALUES)}
    missing[3 + len(VALUES) + 2] = repeated_us == 0
    columns = [
        once["device_id"].astype(">i4"),
        instants(once["measured_us"]),
        instants(once["received_us"]),
        *(once[name].astype(">f8") for name in VALUES),
        once["islanded"].astype("u1"),
        once["controllable"].astype("u1"),
        instants(repeated_us),
    ]
    await connection.execute(_STAGE)
    await copy_rows(connection, f"reading_stage ({_COLUMNS})", pack(columns, missing))
    return int((await connection.execute(_INSERT)).rowcount)


def _once(batch: Batch) -> tuple[Batch, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The first-received reading of each device and instant, and when it last came again (0 if it did not)."""
    ordered = batch[np.lexsort((batch["received_us"], batch["measured_us"], batch["device_id"]))]
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = (ordered["device_id"][1:] != ordered["device_id"][:-1]) | (
        ordered["measured_us"][1:] != ordered["measured_us"][:-1]
    )
    starts = np.flatnonzero(is_first)
    last_us = np.maximum.reduceat(ordered["received_us"], starts)
    once = ordered[starts]
    return once, np.where(last_us - once["received_us"] > RESEND_US, last_us, 0)
