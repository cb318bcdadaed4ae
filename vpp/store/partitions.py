"""Daily partitions of `reading`, by UTC day. Called by ingest, the demo and maintenance.

A day is a table of its own, so that old telemetry is dropped in one step and not row by row.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest

MAX_DAYS_AT_ONCE = 800
_LOCK_KEY = 0x5650_5050
_LIST = """
select c.relname from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'reading'::regclass
"""


def partition_name(day: date) -> str:
    """The table that holds a UTC day's readings."""
    return f"reading_{day:%Y%m%d}"


async def partition_days(connection: AsyncConnection) -> frozenset[date]:
    """The UTC days that have a partition."""
    names = (await connection.execute(text(_LIST))).scalars()
    return frozenset(date.fromisoformat(name.removeprefix("reading_")) for name in names)


async def ensure_partitions(connection: AsyncConnection, first_day: date, last_day: date) -> int:
    """Make sure every UTC day from `first_day` to `last_day`, both included, has a partition.

    Cheap where nothing is missing (one query, no lock). Returns how many were made.

    Raises:
        InvalidRequest: the range is empty or absurdly long, as after a device's wrong clock.
    """
    if not 0 <= (last_day - first_day).days < MAX_DAYS_AT_ONCE:
        raise InvalidRequest("last_day", last_day.isoformat(), f"0 to {MAX_DAYS_AT_ONCE - 1} days after {first_day}")
    wanted = set(_days(first_day, last_day))
    if wanted <= await partition_days(connection):
        return 0
    # Two makers of one partition would collide; the lock is free again when the transaction ends.
    await connection.execute(text(f"select pg_advisory_xact_lock({_LOCK_KEY})"))
    missing = sorted(wanted - await partition_days(connection))
    for day in missing:
        await connection.execute(
            text(
                f"create table {partition_name(day)} partition of reading for values "
                f"from ('{day}T00:00:00Z') to ('{day + timedelta(days=1)}T00:00:00Z')"
            )
        )
    return len(missing)


async def drop_partitions_before(connection: AsyncConnection, day: date) -> tuple[date, ...]:
    """Drop the partitions of every UTC day before `day`; returns the days dropped, oldest first."""
    old = sorted(d for d in await partition_days(connection) if d < day)
    for each in old:
        await connection.execute(text(f"drop table {partition_name(each)}"))
    return tuple(old)


async def detach_partitions_before(connection: AsyncConnection, day: date) -> tuple[str, ...]:
    """Take the partitions before `day` out of `reading` and keep them as tables to archive.

    Returns the tables' names, oldest first.
    """
    names = [partition_name(d) for d in sorted(await partition_days(connection)) if d < day]
    for name in names:
        await connection.execute(text(f"alter table reading detach partition {name}"))
    return tuple(names)


def _days(first_day: date, last_day: date) -> Iterator[date]:
    return (first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1))
