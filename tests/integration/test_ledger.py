"""The ledger on real PostgreSQL: posted once, balanced always, changed never."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders import TENANT
from tests.clock import NOON
from vpp.domain.errors import Conflict, InvalidRequest
from vpp.settlement import (
    BatchResult,
    Transfer,
    ledger_sum,
    owner_payable,
    paid_cents,
    post_batch,
    receivable,
    revenue,
    trial_balance,
    verify_chain,
)
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

_numbers = count(1)
UTILITY = receivable(TENANT, "elrp", "USD")
OWNER = owner_payable(TENANT, "o1", "USD")
OURS = revenue(TENANT, "USD")


async def a_tenant(connection: AsyncConnection, tenant_id: str = TENANT) -> str:
    await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id))
    return tenant_id


async def post(connection: AsyncConnection, key: str, *transfers: Transfer, tenant_id: str = TENANT) -> BatchResult:
    return await post_batch(connection, tenant_id=tenant_id, key=key, transfers=transfers, now=NOON)


async def test_a_batch_is_posted_once_however_often_it_is_told(store: Store) -> None:
    """Holds conventions, rule 12."""
    async with store.begin() as connection:
        await a_tenant(connection)
        transfers = (Transfer(UTILITY, OWNER, 700, "site a"), Transfer(UTILITY, OURS, 300, "aggregator"))
        first = await post(connection, "k", *transfers)
        again = await post_batch(
            connection, tenant_id=TENANT, key="k", transfers=transfers, now=NOON + timedelta(days=1)
        )
        assert (first.posted, again.posted, first.batch_id == again.batch_id) == (True, False, True)
        assert await trial_balance(connection, TENANT) == {UTILITY.id: 1000, OWNER.id: -700, OURS.id: -300}
        assert await ledger_sum(connection, TENANT) == 0
        assert await paid_cents(connection, TENANT) == await paid_cents(connection, TENANT, owner_id="o1") == 700


async def test_another_payload_under_the_same_key_is_refused(store: Store) -> None:
    async with store.begin() as connection:
        await a_tenant(connection)
        await post(connection, "k", Transfer(UTILITY, OWNER, 700, "m"))
        for other in (Transfer(UTILITY, OWNER, 701, "m"), Transfer(OWNER, UTILITY, 700, "m")):
            with pytest.raises(Conflict, match="'k'"):
                await post(connection, "k", other)


async def test_what_is_no_transfer_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="amount_cents"):
        Transfer(UTILITY, OWNER, 0, "m")
    with pytest.raises(InvalidRequest, match="credit"):
        Transfer(UTILITY, UTILITY, 1, "m")
    with pytest.raises(InvalidRequest, match="currency"):
        Transfer(UTILITY, revenue(TENANT, "EUR"), 1, "m")
    async with store.begin() as connection:
        await a_tenant(connection)
        with pytest.raises(InvalidRequest, match="transfers"):
            await post(connection, "k")


async def test_an_account_of_another_tenant_is_refused(store: Store) -> None:
    async with store.begin() as connection:
        await a_tenant(connection)
        await a_tenant(connection, "other")
        await post(connection, "k", Transfer(UTILITY, OWNER, 1, "m"))
        with pytest.raises(Conflict, match="another tenant"):
            await post(connection, "k", Transfer(UTILITY, OWNER, 1, "m"), tenant_id="other")


@pytest.mark.parametrize("table", ["ledger_batch", "ledger_transfer"])
@pytest.mark.parametrize("change", ["update {} set {}", "delete from {}", "truncate {} cascade"])
async def test_the_database_refuses_to_change_what_is_posted(store: Store, table: str, change: str) -> None:
    column = {"ledger_batch": "key = 'x'", "ledger_transfer": "amount_cents = 1"}[table]
    async with store.begin() as connection:
        await a_tenant(connection)
        await post(connection, "k", Transfer(UTILITY, OWNER, 700, "m"))
    with pytest.raises(DBAPIError):
        async with store.begin() as connection:
            await connection.exec_driver_sql(change.format(table, column))


async def test_a_change_made_behind_the_triggers_is_found_by_the_chain(store: Store) -> None:
    async with store.begin() as connection:
        await a_tenant(connection)
        for n in range(3):
            await post(connection, f"k{n}", Transfer(UTILITY, OWNER, 700 + n, "m"))
        assert (await verify_chain(connection, TENANT)).broken == ()
        await connection.exec_driver_sql("set local session_replication_role = replica")
        await connection.exec_driver_sql("update ledger_transfer set amount_cents = 9 where amount_cents = 701")
        found = await verify_chain(connection, TENANT)
        assert found.batches == 3
        assert len(found.broken) == 1


async def test_a_batch_taken_out_of_the_middle_is_found_by_the_chain(store: Store) -> None:
    async with store.begin() as connection:
        await a_tenant(connection)
        for n in range(3):
            await post(connection, f"k{n}", Transfer(UTILITY, OWNER, 700 + n, "m"))
        await connection.exec_driver_sql("set local session_replication_role = replica")
        await connection.exec_driver_sql("delete from ledger_batch where key = 'k1'")
        assert len((await verify_chain(connection, TENANT)).broken) == 1


async def test_posting_at_the_same_time_keeps_one_chain_and_one_batch_a_key(store: Store) -> None:
    async with store.begin() as connection:
        await a_tenant(connection)

    async def one(n: int) -> bool:
        async with store.begin() as connection:
            return (await post(connection, f"k{n % 4}", Transfer(UTILITY, OWNER, 1 + n % 4, "m"))).posted

    posted = await asyncio.gather(*(one(n) for n in range(12)))
    async with store.begin() as connection:
        assert sum(posted) == 4
        assert (await verify_chain(connection, TENANT)).broken == ()
        assert await paid_cents(connection, TENANT) == 1 + 2 + 3 + 4


@given(
    batches=st.lists(
        st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 10**12)), min_size=1, max_size=5),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_postings_sum_to_zero_and_replays_change_nothing(
    store: Store, batches: Sequence[Sequence[tuple[bool, int, int]]]
) -> None:
    async with store.begin() as connection:
        name = await a_tenant(connection, f"tenant {next(_numbers)}")
        utility = receivable(name, "elrp", "USD")
        told = [
            [
                Transfer(*((utility, owner) if forward else (owner, utility)), cents, "m")
                for forward, number, cents in batch
                for owner in [owner_payable(name, str(number), "USD")]
            ]
            for batch in batches
        ]
        for key, transfers in enumerate(told):
            await post(connection, str(key), *transfers, tenant_id=name)
        balance = await trial_balance(connection, name)
        expected = sum(t.amount_cents if t.debit == utility else -t.amount_cents for batch in told for t in batch)
        assert balance[utility.id] == expected
        assert await ledger_sum(connection, name) == 0
        for key, transfers in enumerate(told):
            await post(connection, str(key), *transfers, tenant_id=name)
        assert await trial_balance(connection, name) == balance
        assert (await verify_chain(connection, name)).broken == ()
