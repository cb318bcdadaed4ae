"""Room telemetry: numpy columns straight to PostgreSQL's binary COPY, without a Python object per row.

Called by `consumer` and `history`. Rows of one COPY may differ in which columns are null: rows with the
same nulls have the same width, so each such group is one structured array.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection as PsycopgConnection
from sqlalchemy.ext.asyncio import AsyncConnection

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
POSTGRES_EPOCH_US = 946_684_800_000_000
_CHUNK = 1 << 20

Column = npt.NDArray[Any]


def instants(instant_us: Column) -> Column:
    """Microseconds since the Unix epoch as `timestamptz`, which counts from 2000."""
    return (instant_us - POSTGRES_EPOCH_US).astype(">i8")


def pack(columns: Sequence[Column], nullable: Mapping[int, npt.NDArray[np.bool_]]) -> Iterable[bytes]:
    """Rows of COPY data, without header and trailer.

    Args:
        columns: equally long, already of the big-endian type PostgreSQL expects for the column.
        nullable: where a column is null, by the column's place.
    """
    patterns = np.zeros(len(columns[0]), dtype=np.int64)
    for place, is_null in nullable.items():
        patterns |= is_null.astype(np.int64) << place
    for pattern in np.unique(patterns):
        rows = patterns == pattern
        chosen = [None if pattern >> place & 1 else column[rows] for place, column in enumerate(columns)]
        yield _pack_alike(chosen, int(rows.sum()))


def _pack_alike(columns: Sequence[Column | None], length: int) -> bytes:
    fields: list[tuple[str, Any]] = [("count", ">i2")]
    for place, column in enumerate(columns):
        fields.append((f"size{place}", ">i4"))
        if column is not None:
            fields.append((f"value{place}", column.dtype))
    rows = np.empty(length, dtype=np.dtype(fields))
    rows["count"] = len(columns)
    for place, column in enumerate(columns):
        rows[f"size{place}"] = -1 if column is None else column.dtype.itemsize
        if column is not None:
            rows[f"value{place}"] = column
    return rows.tobytes()


async def copy_rows(connection: AsyncConnection, target: str, rows: Iterable[bytes]) -> None:
    """Send packed rows into `target`, a table with its columns in brackets, in the caller's transaction."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, PsycopgConnection):
        raise TypeError(f"binary COPY needs psycopg's asynchronous connection, not {type(driver)}")
    async with driver.cursor() as cursor, cursor.copy(f"copy {target} from stdin (format binary)") as copy:
        await copy.write(HEADER)
        for packed in rows:
            for at in range(0, len(packed), _CHUNK):
                await copy.write(packed[at : at + _CHUNK])
        await copy.write(TRAILER)
