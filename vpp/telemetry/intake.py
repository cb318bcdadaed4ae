"""Room telemetry: what somebody posted, checked and packed without a model object per value.

Called by the portal. The fast path reads the body once with msgspec; only a refused body is read again,
slowly, to name every bad reading.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from vpp.domain.errors import InvalidRequest
from vpp.store.engine import Store
from vpp.store.tables.fleet import device, site
from vpp.telemetry.batch import RECORD, VALUES, Batch, to_us

MAX_READINGS = 5000
MAX_BODY_BYTES = 4_000_000
MAX_AHEAD = timedelta(minutes=2)
MAX_AGE = timedelta(days=30)
MAX_PROBLEMS = 100
DEVICES_KEPT_S = 60.0
DEVICES_AGAIN_S = 2.0

_BODY_ALLOWED = '{"readings": [{"device_id": 1, "measured_at": "2026-08-19T16:00:00Z", "battery_kw": 2.5}, ...]}'


class PostedReading(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One reading as posted: kW with discharge and export positive, kWh, soc 0-1; null is unknown."""

    device_id: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    measured_at: Annotated[datetime, msgspec.Meta(tz=True)]
    battery_kw: float | None = None
    grid_kw: float | None = None
    soc: float | None = None
    discharged_kwh_register: float | None = None
    charged_kwh_register: float | None = None
    islanded: bool = False
    controllable: bool = True


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    readings: Annotated[list[PostedReading], msgspec.Meta(max_length=MAX_READINGS)]


_ALLOWED = {
    "device_id": "the number of one of your devices",
    "measured_at": "a date and time with a zone, as 2026-08-19T16:00:00Z",
    "islanded": "true or false",
    "controllable": "true or false",
} | dict.fromkeys(VALUES, "a finite number, or null if unknown")
_TYPES = {field.name: field.type for field in msgspec.structs.fields(PostedReading)}
_decoder = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class ReadingProblem:
    """One bad value: the reading's place in the list from 0 (None: the whole body), field, value, what is allowed."""

    index: int | None
    field: str
    value: str
    allowed: str


class TelemetryRefused(InvalidRequest):
    """Nothing of the body was taken. `problems` names up to 100 bad values, in order."""

    def __init__(self, problems: list[ReadingProblem]) -> None:
        self.problems = problems[:MAX_PROBLEMS]
        first = problems[0]
        where = first.field if first.index is None else f"readings[{first.index}].{first.field}"
        super().__init__(where, first.value, first.allowed)


class KnownDevices:
    """Each tenant's device numbers, kept for a minute and asked again when an unknown one appears."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[float, frozenset[int]]] = {}

    async def unknown(self, tenant_id: str, device_ids: npt.NDArray[np.int32]) -> frozenset[int]:
        """Which of these numbers are no device of this tenant."""
        wanted = frozenset(device_ids.tolist())
        read_s, known = self._kept.get(tenant_id, (-math.inf, frozenset()))
        age_s = time.monotonic() - read_s
        if age_s > DEVICES_KEPT_S or (not wanted <= known and age_s > DEVICES_AGAIN_S):
            of_tenant = select(device.c.id).join(site).where(site.c.tenant_id == tenant_id)
            async with self._store.begin() as connection:
                known = frozenset((await connection.execute(of_tenant)).scalars())
            self._kept[tenant_id] = (time.monotonic(), known)
        return wanted - known


def read_posted(body: bytes, *, now: datetime) -> Batch:
    """Check and pack a posted body.

    Values out of range are taken as measured: the snapshot tells them apart, and a battery that
    reports nonsense is a fact worth storing.

    Raises:
        TelemetryRefused: with every bad value found.
    """
    try:
        posted = _decoder.decode(body).readings
    except (msgspec.MsgspecError, UnicodeDecodeError) as refused:
        raise TelemetryRefused(_explain(body, str(refused))) from None
    batch = np.empty(len(posted), dtype=RECORD)
    try:
        batch["measured_us"] = np.rint(np.array([r.measured_at.timestamp() for r in posted]) * 1e6)
    except OverflowError:
        raise TelemetryRefused(_explain(body, "an instant out of range")) from None
    batch["device_id"] = [r.device_id for r in posted]
    batch["received_us"] = to_us(now)
    batch["battery_kw"] = [r.battery_kw for r in posted]
    batch["grid_kw"] = [r.grid_kw for r in posted]
    batch["soc"] = [r.soc for r in posted]
    batch["discharged_kwh_register"] = [r.discharged_kwh_register for r in posted]
    batch["charged_kwh_register"] = [r.charged_kwh_register for r in posted]
    batch["islanded"] = [r.islanded for r in posted]
    batch["controllable"] = [r.controllable for r in posted]
    _check_instants(batch, posted, now)
    return batch


def _check_instants(batch: Batch, posted: list[PostedReading], now: datetime) -> None:
    earliest, latest = now - MAX_AGE, now + MAX_AHEAD
    bad = (batch["measured_us"] < to_us(earliest)) | (batch["measured_us"] > to_us(latest))
    if bad.any():
        allowed = f"an instant from {earliest.isoformat()} to {latest.isoformat()}"
        raise TelemetryRefused(
            [
                ReadingProblem(int(i), "measured_at", posted[int(i)].measured_at.isoformat(), allowed)
                for i in np.flatnonzero(bad)[:MAX_PROBLEMS]
            ]
        )


def refuse_unknown(batch: Batch, unknown: frozenset[int]) -> None:
    """Refuse a batch with readings of unknown devices.

    Raises:
        TelemetryRefused: naming each such reading.
    """
    if unknown:
        places = np.flatnonzero(np.isin(batch["device_id"], list(unknown)))[:MAX_PROBLEMS]
        raise TelemetryRefused(
            [ReadingProblem(int(i), "device_id", str(batch["device_id"][i]), _ALLOWED["device_id"]) for i in places]
        )


def _explain(body: bytes, why: str) -> list[ReadingProblem]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return [ReadingProblem(None, "body", why[:200], f"JSON as {_BODY_ALLOWED}")]
    readings = content.get("readings") if isinstance(content, dict) else None
    if not isinstance(readings, list) or set(content) != {"readings"}:
        return [ReadingProblem(None, "body", why[:200], f"an object as {_BODY_ALLOWED}")]
    if len(readings) > MAX_READINGS:
        return [ReadingProblem(None, "readings", f"{len(readings)} readings", f"at most {MAX_READINGS} a request")]
    problems: list[ReadingProblem] = []
    for index, reading in enumerate(readings):
        problems += _problems_of(index, reading)
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems or [ReadingProblem(None, "body", why[:200], f"JSON as {_BODY_ALLOWED}")]


def _problems_of(index: int, reading: Any) -> Iterator[ReadingProblem]:
    if not isinstance(reading, dict):
        yield ReadingProblem(index, "", repr(reading)[:80], "an object with device_id and measured_at")
        return
    for name in ("device_id", "measured_at"):
        if name not in reading:
            yield ReadingProblem(index, name, "", _ALLOWED[name])
    for name, value in reading.items():
        if name not in _TYPES:
            yield ReadingProblem(index, str(name)[:80], repr(value)[:80], f"one of the fields {', '.join(_TYPES)}")
        elif not _fits(name, value):
            yield ReadingProblem(index, name, repr(value)[:80], _ALLOWED[name])


def _fits(name: str, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        converted = msgspec.convert(value, _TYPES[name])
        return not isinstance(converted, datetime) or math.isfinite(converted.timestamp())
    except (msgspec.ValidationError, OverflowError, ValueError):
        return False
