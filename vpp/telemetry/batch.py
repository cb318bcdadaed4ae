"""Room telemetry: readings as one packed array, and that array as bytes in a stream entry.

Called by `intake`, `stream`, `consumer` and `copy`. Inside the array NaN stands for "the device did not
say"; that is safe because no non-finite number is let in, and it never leaves this room.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from vpp.domain.device import Reading
from vpp.domain.errors import InvalidRequest

Batch = npt.NDArray[np.void]
VALUES = ("battery_kw", "grid_kw", "soc", "discharged_kwh_register", "charged_kwh_register")
RECORD = np.dtype(
    [("device_id", "<i4"), ("measured_us", "<i8"), ("received_us", "<i8")]
    + [(name, "<f8") for name in VALUES]
    + [("islanded", "?"), ("controllable", "?")]
)
"""One reading, 62 bytes: instants in microseconds since the Unix epoch."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_EARLIEST_US = 946_684_800_000_000
_LATEST_US = 4_102_444_800_000_000
"""2000 to 2100: outside of it an entry was not written by us."""


def to_us(at: datetime) -> int:
    """An aware instant in microseconds since the Unix epoch."""
    return (at - EPOCH) // MICROSECOND


def batch_of(readings: Sequence[Reading]) -> Batch:
    """Pack readings, in their order.

    Raises:
        InvalidRequest: a value is not finite; missing is None, never NaN.
    """
    batch = np.empty(len(readings), dtype=RECORD)
    for place, reading in enumerate(readings):
        batch[place] = (
            reading.device_id,
            to_us(reading.measured_at),
            to_us(reading.received_at),
            *(_value(reading, name) for name in VALUES),
            reading.islanded,
            reading.controllable,
        )
    return batch


def _value(reading: Reading, name: str) -> float:
    value: float | None = getattr(reading, name)
    if value is None:
        return math.nan
    if not math.isfinite(value):
        raise InvalidRequest(f"{name} of device {reading.device_id}", value, "a finite number, or None if unknown")
    return value


def encode(batch: Batch) -> bytes:
    """The bytes of a stream entry."""
    return batch.tobytes()


def decode(entry: bytes) -> Batch:
    """Read what `encode` wrote.

    Raises:
        InvalidRequest: these bytes are no batch.
    """
    if not entry or len(entry) % RECORD.itemsize:
        raise InvalidRequest("entry", f"{len(entry)} bytes", f"a multiple of {RECORD.itemsize} bytes")
    flags = np.frombuffer(entry, dtype=np.uint8).reshape(-1, RECORD.itemsize)[:, -2:]
    batch = np.frombuffer(entry, dtype=RECORD)
    instants: Any = np.concatenate([batch["measured_us"], batch["received_us"]])
    sound = (
        bool((flags <= 1).all())
        and bool((batch["device_id"] > 0).all())
        and bool(((instants >= _EARLIEST_US) & (instants < _LATEST_US)).all())
        and not any(bool(np.isinf(batch[name]).any()) for name in VALUES)
    )
    if not sound:
        raise InvalidRequest("entry", f"{len(entry)} bytes", "packed readings with plausible devices and instants")
    return batch
