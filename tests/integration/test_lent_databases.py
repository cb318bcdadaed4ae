"""The databases tests are given: nothing of one test is left for the next, whatever it did."""

import psycopg
import pytest

from tests.databases import Databases


def _all_rows(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 2200"
        ).fetchall()
        counts = {name: connection.execute(f"select count(*) from {name}".encode()).fetchone() for (name,) in names}
    return {name: found[0] for name, found in counts.items() if found is not None}


def test_rows_numbers_and_partitions_of_a_test_are_gone_for_the_next(databases: Databases) -> None:
    with databases.lend() as first:
        before = _all_rows(first)
        with psycopg.connect(first) as connection:
            connection.execute("insert into tenant (id, name) values ('left', 'behind')")
            connection.execute("select nextval(pg_get_serial_sequence('procrastinate_jobs', 'id'))")
            connection.execute(
                "create table reading_left partition of reading for values from ('2001-01-01') to ('2001-01-02')"
            )
    with databases.lend() as second:
        assert second != first
        assert _all_rows(second) == before
        with psycopg.connect(second) as connection:
            found = connection.execute("select nextval(pg_get_serial_sequence('procrastinate_jobs', 'id'))").fetchone()
        assert found == (1,)


@pytest.mark.parametrize(
    "change",
    [
        "drop table alembic_version",
        "alter table tenant add column left_behind int",
        "alter table tenant drop constraint pk_tenant cascade",
        "create function left_behind() returns int language sql as 'select 1'",
        "do $$ begin execute format('alter database %I set work_mem = ''8MB''', current_database()); end $$",
    ],
)
def test_a_database_whose_schema_was_changed_is_lent_to_nobody_else(databases: Databases, change: str) -> None:
    with databases.lend() as changed, psycopg.connect(changed) as connection:
        (before,) = (
            connection.execute("select oid from pg_database where datname = current_database()").fetchone() or ()
        )
        connection.execute(change.encode())
        connection.commit()
    with psycopg.connect(databases.url) as connection:
        assert connection.execute("select 1 from pg_database where oid = %s", [before]).fetchone() is None
    with databases.lend() as fresh:
        assert _all_rows(fresh)["alembic_version"] == 1
