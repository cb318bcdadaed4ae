"""Signed messages are remembered in Valkey, however many come at the same time."""

import asyncio
from uuid import uuid4

from structlog.testing import capture_logs

from vpp.bootstrap.replays import ValkeyReplay
from vpp.store.engine import Store


async def test_a_thousand_at_the_same_time_are_each_new_once(store: Store) -> None:
    replay, other, run = ValkeyReplay(store), ValkeyReplay(store), uuid4().hex
    nonces = [f"{run}-{number}" for number in range(1000)]
    with capture_logs() as logs:
        first = await asyncio.gather(*(replay.first_time(nonce) for nonce in nonces))
        again = await asyncio.gather(*(other.first_time(nonce) for nonce in nonces))
        twice = await asyncio.gather(*(replay.first_time(f"{run}-once") for _ in range(2)))
    assert (all(first), any(again), sum(twice), logs) == (True, False, 1, [])


async def test_without_valkey_the_process_has_to_do_and_says_so(database_url: str) -> None:
    store = Store(database_url, "redis://127.0.0.1:1")
    try:
        with capture_logs() as logs:
            assert await asyncio.gather(*(ValkeyReplay(store).first_time("n") for _ in range(3))) == [True] * 3
    finally:
        await store.close()
    assert {line["event"] for line in logs} == {"replays are held off by this process alone"}
