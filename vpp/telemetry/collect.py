"""Room telemetry: asks every site through its adapter. Called by dispatch and lifecycle.

A site that does not answer is a value in the outcome, never an exception: the others go on.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vpp.domain.device import Reading
from vpp.domain.errors import DeviceError, ProtocolError, TimedOut, Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock, DeviceAdapter
from vpp.store.engine import Store
from vpp.telemetry.batch import VALUES
from vpp.telemetry.consumer import IngestConsumer
from vpp.telemetry.stream import MAX_BACKLOG, MAX_PER_ENTRY, BacklogFull, publish

READS_AT_ONCE = 64
"""Per adapter, so that a vendor that hangs does not hold up the others."""
READ_TIMEOUT_S = 60.0
"""Above every adapter's own deadline; it only catches one that forgot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOutcome:
    """What came of asking a fleet.

    Attributes:
        readings: of the sites that answered, ordered by site.
        failures: why a site did not, by site id.
        stored: how many readings the drain wrote that were new, also of other publishers.
    """

    readings: tuple[Reading, ...]
    failures: Mapping[str, DeviceError]
    stored: int


async def collect(
    store: Store, adapters: Mapping[str, DeviceAdapter], sites: Sequence[Site], *, clock: Clock
) -> CollectOutcome:
    """Read every site once, and return when what they said is in the database.

    Raises:
        RedisError, SQLAlchemyError: a server is away; what was published is written by the next drain.
    """
    by_adapter: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        by_adapter[site.adapter].append(site)
    answers: dict[str, Reading | DeviceError] = {}
    async with asyncio.TaskGroup() as group:
        for name, some in by_adapter.items():
            adapter = adapters.get(name)
            if adapter is None:
                answers |= {site.id: Unsupported(f"no adapter {name!r} is set up") for site in some}
                continue
            waiting = iter(some)
            for _ in range(min(READS_AT_ONCE, len(some))):
                group.create_task(_read_some(adapter, waiting, answers))
    readings = tuple(a for site in sites if isinstance(a := answers[site.id], Reading))
    failures = {site.id: a for site in sites if isinstance(a := answers[site.id], DeviceError)}
    return CollectOutcome(readings=readings, failures=failures, stored=await _store(store, readings))


async def _read_some(
    adapter: DeviceAdapter, waiting: Iterator[Site], answers: dict[str, Reading | DeviceError]
) -> None:
    for site in waiting:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                answers[site.id] = _checked(site, await adapter.read(site))
        except TimeoutError:
            answers[site.id] = TimedOut(f"{adapter.name} did not answer within {READ_TIMEOUT_S:g} s", sent=False)
        except DeviceError as failure:
            answers[site.id] = failure


def _checked(site: Site, reading: Reading) -> Reading:
    if reading.device_id != site.device_id:
        raise ProtocolError(f"asked device {site.device_id} and got a reading of {reading.device_id}")
    for name in VALUES:
        value: float | None = getattr(reading, name)
        if value is not None and not math.isfinite(value):
            raise ProtocolError(f"{name} of device {site.device_id} is {value}")
    return reading


async def _store(store: Store, readings: Sequence[Reading]) -> int:
    """Publish and drain by turns, so that a fleet larger than the stream's bound still gets through."""
    consumer = IngestConsumer(store)
    stored = 0
    at_once = MAX_BACKLOG // 2 * MAX_PER_ENTRY
    for at in range(0, len(readings), at_once):
        some = readings[at : at + at_once]
        try:
            await publish(store, some)
        except BacklogFull:
            stored += await consumer.drain()
            await publish(store, some)
        stored += await consumer.drain()
    return stored
