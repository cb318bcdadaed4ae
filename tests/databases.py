"""Databases for tests: each test has one of its own, as new as the first, without the price of making it.

A clone of the migrated template costs more than most tests. So a database that a test gives back is swept: rows
go, sequences start again, partitions the test made go. One whose schema is no longer the template's, or that has
grown, is dropped, and the next test gets a new clone. Each loan has a name of its own, so that whoever is still
about from a test before finds nothing. Used by `tests/conftest.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

GROWN_BYTES = 32 * 1024 * 1024
"""Emptying this much costs more than a new clone."""

_SCHEMA = """
select md5(string_agg(line, E'\\n' order by line)) from (
  select format('c %s %s %s', relnamespace::regnamespace, relname, relkind) from pg_class
    where relnamespace::regnamespace::text !~ '^pg_(toast|temp)'
  union all select format('a %s %s %s %s', attrelid, attname, atttypid, attnotnull) from pg_attribute
    where attrelid >= 16384 and attnum > 0
  union all select format('k %s', pg_get_constraintdef(oid)) from pg_constraint where oid >= 16384
  union all select format('t %s %s %s', tgrelid, tgname, tgenabled) from pg_trigger where not tgisinternal
  union all select format('f %s', md5(prosrc)) from pg_proc where oid >= 16384
  union all select format('s %s', setconfig) from pg_db_role_setting
) as lines(line)
"""
_SWEEP = """
do $$
declare each regclass; sequence text; found bool;
begin
  set local session_replication_role = replica;
  for each in select oid from pg_class where relispartition and relkind = 'r' and oid <> all({kept}) loop
    execute format('drop table %s', each);
  end loop;
  for each in select oid from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop
    execute format('select exists (select from only %s)', each) into found;
    if found then execute format('delete from only %s', each); end if;
  end loop;
  for sequence in select format('%I.%I', schemaname, sequencename) from pg_sequences where last_value is not null loop
    execute format('alter sequence %s restart', sequence);
  end loop;
end $$
"""


@dataclass(slots=True)
class Databases:
    """The databases of one server, all like its migrated template.

    Args:
        url: of the database to administer from.
        template: name of the migrated database nobody connects to.
    """

    url: str
    template: str
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _swept: list[str] = field(default_factory=list)
    _tables: list[int] = field(default_factory=list)
    _schema: str = ""
    _seeds: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self._connected(self.template) as connection:
            tables = connection.execute(
                "select oid::int, oid::regclass::text from pg_class"
                " where relkind = 'r' and relnamespace = 'public'::regnamespace"
            ).fetchall()
            self._tables = [oid for oid, _ in tables]
            self._schema = _schema_of(connection)
            rows = {name: _rows_of(connection, name) for _, name in tables}
            self._seeds = {name: found for name, found in rows.items() if found}

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Lend a database as new; yields its address."""
        name = f"vpp_test_{next(self._numbers)}"
        with self._administrating() as connection:
            if self._swept:
                connection.execute(_said("alter database {} rename to {}", self._swept.pop(), name))
            else:
                connection.execute(_said("create database {} template {}", name, self.template))
        yield self.address(name)
        with self._administrating() as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [name]
            )
            (size,) = connection.execute("select pg_database_size(%s)", [name]).fetchone() or (0,)
            if size < GROWN_BYTES and self._sweep(name):
                self._swept.append(name)
            else:
                connection.execute(_said("drop database {} with (force)", name))

    def address(self, name: str) -> str:
        """Return the address of a database by name."""
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def _sweep(self, name: str) -> bool:
        """Leave nothing of a test; False where its schema is not the template's, and stays so."""
        with self._connected(name) as connection:
            connection.execute(sql.SQL(_SWEEP).format(kept=sql.Literal(self._tables)))
            if _schema_of(connection) != self._schema:
                return False
            for table, rows in self._seeds.items():
                with connection.cursor().copy(f"copy {table} from stdin".encode()) as copied:
                    copied.write(rows)
        return True

    @contextmanager
    def _connected(self, name: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        with psycopg.connect(self.address(name), connect_timeout=5) as connection:
            yield connection

    @contextmanager
    def _administrating(self) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            yield connection


def _said(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*(sql.Identifier(name) for name in names))


def _schema_of(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    found = connection.execute(_SCHEMA).fetchone()
    return str(found and found[0])


def _rows_of(connection: "psycopg.Connection[tuple[Any, ...]]", table: str) -> bytes:
    with connection.cursor().copy(f"copy {table} to stdout".encode()) as copied:
        return b"".join(bytes(part) for part in copied)
