"""The schema's revisions: they arrive where the tables say, once, and keep posted rows as they are.

Cited by docs/decisions/0002-postgresql-only.md.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.clock import NOON
from vpp.domain.errors import Conflict, NotReady
from vpp.store.engine import Store, driver_url
from vpp.store.migrate import alembic_config, downgrade, migrate
from vpp.store.migrations.scope import is_ours
from vpp.store.partitions import ensure_partitions
from vpp.store.tables import accounts, commitments, metadata, settlement

HEAD = ScriptDirectory.from_config(alembic_config()).get_current_head()


def revision_of(database_url: str) -> str | None:
    engine = create_engine(driver_url(database_url))
    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return revision


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"include_name": is_ours, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def post_something(connection: AsyncConnection) -> None:
    event = uuid4()
    await connection.execute(insert(accounts.tenant), {"id": "t", "name": "T"})
    await connection.execute(
        insert(settlement.ledger_account),
        [{"id": kind, "tenant_id": "t", "kind": kind, "currency": "USD"} for kind in ("receivable", "revenue")],
    )
    batch = {"tenant_id": "t", "key": "k", "fingerprint": "f", "previous_hash": "", "hash": "h", "posted_at": NOON}
    batch_id = (
        await connection.execute(insert(settlement.ledger_batch).returning(settlement.ledger_batch.c.id), batch)
    ).scalar_one()
    legs = {"debit_account": "receivable", "credit_account": "revenue", "amount_cents": 5, "memo": ""}
    await connection.execute(insert(settlement.ledger_transfer), {"batch_id": batch_id, "seq": 1} | legs)
    row = {
        "id": event, "tenant_id": "t", "program": "p", "source": "s", "external_id": "e", "modification_number": 0,
        "state": "received", "revision": 0, "start_offset_s": 0.0, "cancel_requested": False, "is_test": False,
        "opt_reason": "", "received_at": NOON,
    }  # fmt: skip
    await connection.execute(insert(commitments.commitment), row)
    target = {"commitment_id": event, "modification_number": 0, "start_at": NOON, "target_kw": 1.0}
    await connection.execute(insert(commitments.commitment_target), target | {"end_at": NOON.replace(hour=20)})


def test_an_empty_database_reaches_the_newest_revision_and_stays_there(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert revision_of(empty_database_url) == HEAD
    migrate(empty_database_url)
    assert revision_of(empty_database_url) == HEAD


def test_two_processes_that_migrate_at_once_take_turns(empty_database_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: migrate(empty_database_url), range(3)))
    assert revision_of(empty_database_url) == HEAD


async def test_the_migrated_database_is_what_the_tables_say(store: Store) -> None:
    async with store.begin() as connection:
        await ensure_partitions(connection, date(2026, 8, 18), date(2026, 8, 19))
        assert await connection.run_sync(differences) == []


async def test_the_comparison_sees_a_column_that_is_not_in_the_tables(store: Store) -> None:
    async with store.begin() as connection:
        await connection.execute(text("alter table site add column surprise text"))
        assert [found[0] for found in await connection.run_sync(differences)] == ["remove_column"]


async def test_the_queues_schema_is_in_place(store: Store) -> None:
    async with store.begin() as connection:
        jobs = await connection.execute(text("select count(*) from procrastinate_jobs"))
        assert jobs.scalar_one() == 0


@pytest.mark.parametrize("table", ["ledger_batch", "ledger_transfer", "commitment_target"])
@pytest.mark.parametrize("statement", ["update {0} set {1} = {1}", "delete from {0}", "truncate {0} cascade"])
async def test_what_is_posted_or_owed_cannot_be_changed(store: Store, table: str, statement: str) -> None:
    column = {"ledger_batch": "hash", "ledger_transfer": "memo", "commitment_target": "target_kw"}[table]
    async with store.begin() as connection:
        await post_something(connection)
    with pytest.raises(IntegrityError, match="is refused: its rows are immutable"):
        async with store.begin() as connection:
            await connection.execute(text(statement.format(table, column)))


def test_the_ledger_is_never_undone_by_a_downgrade(database_url: str) -> None:
    with pytest.raises(Conflict, match="there is no ledger"):
        downgrade(database_url, "base")
    assert revision_of(database_url) == "0001"


def test_reports_owed_and_events_told_before_revision_10_go_on(database_url: str) -> None:
    part = {"start_at": "2026-08-19T19:00:00+00:00", "end_at": "2026-08-19T20:00:00+00:00", "values": []}
    told = {"program_id": "p", "client_name": "vpp"}
    owed = told | {"resource_name": "AGGREGATED_REPORT", "intervals": [part]}
    downgrade(database_url, "0009")
    engine = create_engine(driver_url(database_url))
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into openadr3_report (source, event_id, name, report, made_at) "
                "values ('s', 'e', 'r', :r, now())"
            ),
            {"r": json.dumps(owed)},
        )
        for event_id, over in (("long ago", "2 days"), ("just now", "1 hour")):
            connection.execute(
                text(
                    "insert into openadr3_event_seen (source, event_id, program_id, modification_number, digest, body, "
                    "reports, outcome, reason, first_seen_at, changed_at, missed, over_at) "
                    "values ('s', :id, 'p', 0, '', '{}', '[]', 'in', '', now(), now(), 0, "
                    "now() - cast(:over as interval))"
                ),
                {"id": event_id, "over": over},
            )
    migrate(database_url)
    with engine.begin() as connection:
        found = connection.execute(text("select report from openadr3_report")).scalar_one()
        outstanding = connection.execute(text("select event_id from openadr3_event_seen where closed_at is null"))
        assert outstanding.scalars().all() == ["just now"]
    engine.dispose()
    assert found == told | {"resources": [{"name": "AGGREGATED_REPORT", "intervals": [part]}]}


def test_events_told_before_revision_11_are_kept_as_their_tenants_own(database_url: str) -> None:
    downgrade(database_url, "0010")
    engine = create_engine(driver_url(database_url))
    event = text(
        "insert into grid_event (event_id, tenant_id, program, modification_number, cancelled, start_at, origin, "
        "created_at, modified_at, event) "
        "values ('e', :tenant, 'p', 0, false, now(), 'operator', now(), now(), '{}')"
    )
    with engine.begin() as connection:
        connection.execute(text("insert into tenant (id, name) values ('t1', ''), ('t2', '')"))
        connection.execute(event, {"tenant": "t1"})
        connection.execute(text("insert into grid_event_version values ('e', 0, '{}', now())"))
        connection.execute(
            text(
                "insert into peer (id, tenant_id, protocol, role, name, groups, granted_targets, config, created_at) "
                "values ('p1', 't1', 'openadr2', 'ven', 'v', '{}', '{}', '{}', now())"
            )
        )
        connection.execute(text("insert into vtn2_delivery (peer_id, event_id, told_count) values ('p1', 'e', 1)"))
        connection.execute(
            text(
                "insert into received_event "
                "(source, event_id, tenant_id, event, received_at, changed_at, forwarded_as) "
                "values ('p1', 'x', 't1', '{}', now(), now(), 'e')"
            )
        )
    migrate(database_url)
    with engine.begin() as connection:
        connection.execute(event, {"tenant": "t2"})
        for table in ("grid_event_version", "vtn2_delivery", "received_event"):
            assert connection.execute(text(f"select tenant_id from {table}")).scalars().all() == ["t1"]
    engine.dispose()
    with pytest.raises(IntegrityError):
        downgrade(database_url, "0010")
    assert revision_of(database_url) == "0011"


async def test_a_migration_waits_five_seconds_for_a_lock_and_not_longer(store: Store, database_url: str) -> None:
    async with store.begin() as connection:
        await connection.execute(text("drop table alembic_version"))
    engine = create_engine(driver_url(database_url))
    with engine.connect() as blocker:
        blocker.execute(text("create table alembic_version (version_num text)"))
        with pytest.raises(OperationalError, match="lock timeout"):
            migrate(database_url)
        blocker.rollback()
    engine.dispose()


def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    with pytest.raises(NotReady, match="PostgreSQL does not answer"):
        migrate("postgresql://vpp@127.0.0.1:1/vpp")
