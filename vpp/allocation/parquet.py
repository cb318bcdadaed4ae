"""Arrays by site as Parquet: one row a site, what is not by site as JSON beside the schema.  Called by `files.py`.

A (N,) array is a column of numbers, a (N,T) array a column of lists of T. Written and read in groups of
rows, so that a file of a million sites needs hardly more memory than its arrays.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vpp.domain.errors import InvalidRequest

ROWS = 65_536
ABOUT = b"vpp.allocation"
Arrays = dict[str, npt.NDArray[Any]]


def write_table(path: Path, by_site: Arrays, about: dict[str, Any]) -> None:
    """Write arrays that have a row for each site, and what is JSON-able about all of them."""
    types = {name: pa.from_numpy_dtype(array.dtype) for name, array in by_site.items()}
    fields = [
        pa.field(name, types[name] if array.ndim == 1 else pa.list_(types[name], array.shape[1]), nullable=False)
        for name, array in by_site.items()
    ]
    schema = pa.schema(fields, metadata={ABOUT: json.dumps(about).encode()})
    sites = max((len(array) for array in by_site.values()), default=0)
    # numbers hardly ever repeat: a dictionary of them would only cost time
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="snappy") as out:
        for first in range(0, sites, ROWS):
            columns = [_column(array[first : first + ROWS]) for array in by_site.values()]
            out.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_table(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the columns as arrays with a row for each site, and what was written about them.

    Raises:
        InvalidRequest: it is no Parquet file, a value is missing, or lists of one column differ in length.
    """
    try:
        with pq.ParquetFile(path) as file:
            about = json.loads((file.schema_arrow.metadata or {}).get(ABOUT, b"{}"))
            made: Arrays = {}
            first = 0
            for batch in file.iter_batches(batch_size=ROWS):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    part = _values(name, column)
                    if name not in made:
                        made[name] = np.empty((file.metadata.num_rows, *part.shape[1:]), dtype=part.dtype)
                    if part.shape[1:] != made[name].shape[1:]:
                        raise InvalidRequest(name, "lists of different lengths", "as many values in each row")
                    made[name][first : first + len(part)] = part
                first += batch.num_rows
            return made or _without_rows(file.schema_arrow), about
    except pa.ArrowException as error:
        raise InvalidRequest(str(path), str(error), "a Parquet file of named arrays") from error


def _column(rows: npt.NDArray[Any]) -> Any:
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return values if rows.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, rows.shape[1])


def _values(name: str, column: Any) -> npt.NDArray[Any]:
    inner = column.flatten() if pa.types.is_nested(column.type) and hasattr(column, "flatten") else column
    if column.null_count or inner.null_count:
        raise InvalidRequest(name, "null", "a value in every row: what is missing everywhere is a column left out")
    values = np.asarray(inner.to_numpy(zero_copy_only=False))
    if inner is column:
        return values
    wide = len(values) // max(len(column), 1)
    lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False))
    if (lengths != wide).any():
        raise InvalidRequest(name, "lists of different lengths", "as many values in each row")
    return values.reshape(len(column), wide)


def _without_rows(schema: Any) -> Arrays:
    """The arrays of a fleet without sites."""
    return {
        field.name: np.zeros((0, field.type.list_size) if pa.types.is_fixed_size_list(field.type) else 0)
        for field in schema
    }
