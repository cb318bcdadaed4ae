"""Room telemetry: the bounded stream between whoever hears from devices and the database.

Called by the portal (`publish_batch`), `collect` and the simulation (`publish`). A reading that was taken
here stays in Valkey until it is in PostgreSQL; when the stream is full nothing is taken.
"""

from collections.abc import Sequence

from vpp.domain.device import Reading
from vpp.domain.errors import NotReady
from vpp.store.engine import Store
from vpp.telemetry.batch import Batch, batch_of, encode

STREAM = "vpp:telemetry"
DEAD_STREAM = "vpp:telemetry:dead"
GROUP = "ingest"
FIELD = "readings.1"
"""Name and version of the encoding in `batch`."""
MAX_PER_ENTRY = 500
MAX_BACKLOG = 2000
"""Entries that may wait, about a million readings or 62 MB."""

_ADD = """
local waiting = redis.call('XLEN', KEYS[1])
if waiting + #ARGV - 2 > tonumber(ARGV[1]) then return -1 end
for i = 3, #ARGV do redis.call('XADD', KEYS[1], '*', ARGV[2], ARGV[i]) end
return waiting
"""
"""Counts and adds in one step, so that the bound holds with any number of publishers. All or nothing."""


class BacklogFull(NotReady):
    """The database cannot follow; nothing was taken, send the same again later."""


async def publish(store: Store, readings: Sequence[Reading]) -> int:
    """Put readings on the stream, 500 to an entry; returns how many.

    Raises:
        BacklogFull: none was taken.
        InvalidRequest: a value is not finite; none was taken.
    """
    return await publish_batch(store, batch_of(readings))


async def publish_batch(store: Store, batch: Batch, *, max_backlog: int = MAX_BACKLOG, stream: str = STREAM) -> int:
    """Put a packed batch on the stream; returns how many readings.

    Raises:
        BacklogFull: `max_backlog` entries or more would wait; none was taken.
    """
    if len(batch) == 0:
        return 0
    entries = [encode(batch[at : at + MAX_PER_ENTRY]) for at in range(0, len(batch), MAX_PER_ENTRY)]
    waiting = await store.redis.eval(_ADD, 1, stream, max_backlog, FIELD, *entries)
    if waiting < 0:
        raise BacklogFull(f"more than {max_backlog} batches of readings wait for the database; send again later")
    return len(batch)


async def backlog(store: Store) -> int:
    """How many entries wait for the database."""
    return int(await store.redis.xlen(STREAM))
