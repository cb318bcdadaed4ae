"""Daily partitions of `reading`."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import insert, select

from vpp.domain.errors import InvalidRequest
from vpp.store.engine import Store
from vpp.store.partitions import detach_partitions_before, drop_partitions_before, ensure_partitions, partition_days
from vpp.store.tables.telemetry import reading

FIRST, LAST = date(2026, 8, 18), date(2026, 8, 20)


def a_row(at: datetime) -> dict[str, object]:
    return {"device_id": 1, "measured_at": at, "received_at": at, "islanded": False, "controllable": True}


async def test_every_day_of_the_range_gets_one_partition_however_often_it_is_asked(store: Store) -> None:
    async with store.begin() as connection:
        assert await ensure_partitions(connection, FIRST, LAST) == 3
        assert await ensure_partitions(connection, FIRST, LAST) == 0
        assert await partition_days(connection) == {FIRST, date(2026, 8, 19), LAST}


async def test_the_first_and_last_instant_of_the_range_find_a_place(store: Store) -> None:
    instants = [datetime(2026, 8, 18, tzinfo=UTC), datetime(2026, 8, 20, 23, 59, 59, 999999, tzinfo=UTC)]
    async with store.begin() as connection:
        await ensure_partitions(connection, FIRST, LAST)
        await connection.execute(insert(reading), [a_row(at) for at in instants])
        found = (await connection.execute(select(reading.c.measured_at).order_by(reading.c.measured_at))).scalars()
        assert list(found) == instants


async def test_dropping_takes_the_days_before_and_no_other(store: Store) -> None:
    async with store.begin() as connection:
        await ensure_partitions(connection, FIRST, LAST)
        assert await drop_partitions_before(connection, LAST) == (FIRST, date(2026, 8, 19))
        assert await partition_days(connection) == {LAST}


async def test_a_detached_day_keeps_its_rows_outside_the_table(store: Store) -> None:
    async with store.begin() as connection:
        await ensure_partitions(connection, FIRST, LAST)
        await connection.execute(insert(reading), [a_row(datetime(2026, 8, 18, 12, tzinfo=UTC))])
        assert await detach_partitions_before(connection, date(2026, 8, 19)) == ("reading_20260818",)
        assert (await connection.execute(select(reading.c.device_id))).all() == []
        kept = await connection.exec_driver_sql("select device_id from reading_20260818")
        assert kept.scalars().all() == [1]


async def test_a_range_from_a_wrong_clock_is_refused(store: Store) -> None:
    async with store.begin() as connection:
        with pytest.raises(InvalidRequest):
            await ensure_partitions(connection, date(1970, 1, 1), LAST)
        with pytest.raises(InvalidRequest):
            await ensure_partitions(connection, LAST, FIRST)
