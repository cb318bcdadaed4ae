"""Which utility is connected, since when, and why not: what the gateway keeps of it with the peer.

Goal: an operator need not read the gateway's log. Method: the gateway's own supervisor and VENs of both protocols, as
the process makes them, on a real PostgreSQL and at VTNs on real sockets.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from tests.builders_peering import stored_peer, until
from tests.builders_ven2 import ScriptedVtn
from tests.builders_ven3 import CLIENT, SECRET, NullLog, fake_vtn
from tests.clock import NOON, FixedClock
from vpp.bootstrap.gateway import Vens
from vpp.bootstrap.ven3 import Vens3
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway import PeerLoop, Supervisor
from vpp.peering import Standing, get_peer, note_standing, revoke_peer, standings, update_peer
from vpp.store.engine import Store

VTN = {"role": PeerRole.VTN, "url": "https://vtn.example"}


async def known(store: Store, peer: Peer) -> Standing | None:
    async with store.begin() as connection:
        return (await standings(connection, [peer])).get(peer.id)


async def standing(store: Store, peer: Peer) -> Standing:
    found = await known(store, peer)
    assert found is not None
    return found


def trouble_is(store: Store, peer: Peer, *words: str | None) -> Callable[[], Awaitable[bool]]:
    """Whether a peer's trouble names all of some words; None: it has none."""

    async def ask() -> bool:
        found = await known(store, peer)
        if found is None or found.trouble is None:
            return found is not None and words == (None,)
        return all(word is not None and word in found.trouble for word in words)

    return ask


@asynccontextmanager
async def gateway(store: Store, folder: Path) -> AsyncIterator[None]:
    """What `vpp gateway` runs."""
    clock, settings = SystemClock(), Settings(secrets_dir=folder)
    made = Vens(settings, store, clock, NullLog(), 1)
    made3 = Vens3(settings, store, clock, NullLog(), 1)

    async def peers() -> list[Peer]:
        return [*await made.peers(), *await made3.peers()]

    def make(peer: Peer) -> PeerLoop:
        return made3.make(peer) if peer.protocol is Protocol.OPENADR3 else made.make(peer)

    running = asyncio.create_task(Supervisor(store, clock, peers=peers, make=make, every_s=0.2).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def change(store: Store, peer: Peer, **changes: Any) -> None:
    async with store.begin() as connection:
        await update_peer(connection, peer.id, changes, tenant_id="default")


async def test_a_2_0b_vtn_that_cannot_be_served_says_why_until_it_can_and_then_that_nobody_asks_it(
    store: Store, tmp_path: Path
) -> None:
    vtn = ScriptedVtn(poll=timedelta(seconds=1))
    async with vtn.serving():
        config: dict[str, Any] = {"ven_name": "fleet", "ca_name": "utility-ca.pem"}
        peer, _ = await stored_peer(
            store, "utility", protocol=Protocol.OPENADR2, config=config, **VTN | {"url": vtn.url}
        )
        with capture_logs():
            async with gateway(store, tmp_path):
                await until(trouble_is(store, peer, "cannot be served", "utility-ca.pem"))
                broken = await standing(store, peer)
                await change(store, peer, config={"ven_name": "fleet"}, url="http://127.0.0.1:9")
                await until(trouble_is(store, peer, "not reached"))
                still = await standing(store, peer)
                await change(store, peer, url=vtn.url)
                await until(trouble_is(store, peer, None))
                well = await standing(store, peer)
            ended = await standing(store, peer)
    assert broken.since_at == still.since_at, "another reason is the same trouble"
    assert broken.since_at < well.since_at < ended.since_at
    assert ended.trouble == "nobody asks it: vpp gateway has ended"


async def test_an_openadr_3_vtn_shows_what_it_refuses_until_it_is_connected(store: Store, tmp_path: Path) -> None:
    clock = FixedClock(NOON)
    (tmp_path / "ours").write_text("wrong")
    async with fake_vtn(clock) as vtn:
        peer, _ = await stored_peer(
            store, "utility", protocol=Protocol.OPENADR3, **VTN | {"url": vtn.url}, client_id=CLIENT,
            config={"client_secret_name": "secret"},
        )  # fmt: skip
        with capture_logs():
            async with gateway(store, tmp_path):
                await until(trouble_is(store, peer, "cannot be served", "client_secret_name"))
                await change(store, peer, config={"client_secret_name": "ours"})
                await until(trouble_is(store, peer, "401"))
                (tmp_path / "ours").write_text(SECRET)
                await change(store, peer, config={"client_secret_name": "ours", "poll_s": 1})
                await until(trouble_is(store, peer, None))


async def test_a_standing_is_kept_since_it_turned_and_ends_with_the_peer(store: Store) -> None:
    peer, _ = await stored_peer(store, "utility", protocol=Protocol.OPENADR2, **VTN)
    assert await known(store, peer) is None
    told: list[tuple[Exception | str | None, int, str | None]] = [
        (None, 0, None), (None, 0, None), ("a", 2, "a"), (TimeoutError(), 2, "TimeoutError"),
        ("b\0\x1b" + "c" * 900, 2, ""),
        (None, 5, None), ("a", 6, "a"),
    ]  # fmt: skip
    for minute, (trouble, since, said) in enumerate(told):
        await note_standing(store, peer.id, trouble, at=NOON + timedelta(minutes=minute))
        found = await standing(store, peer)
        assert found.since_at == NOON + timedelta(minutes=since)
        assert found.trouble == said or (said == "" and found.trouble == "b  " + "c" * 497)
    await note_standing(store, None, "that of the settings has no row", at=NOON)
    async with store.begin() as connection:
        await revoke_peer(connection, peer.id, at=NOON)
        assert await standings(connection, [await get_peer(connection, peer.id, tenant_id="default")]) == {}
