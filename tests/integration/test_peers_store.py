"""Peers are added, found, changed and revoked by their rules, and every change is told.

Goal: what is stored of a peer can be trusted by both VTNs, and nothing secret is in it. Method: a real
PostgreSQL; each rule is broken once.
"""

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DataError

from tests.builders_peering import add_tenant, new_peer, stored_peer
from tests.clock import NOON
from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import (
    NewPeer,
    add_peer,
    find_peer,
    get_peer,
    list_peers,
    revoke_peer,
    rotate_secret,
    update_peer,
)
from vpp.store.engine import Store
from vpp.store.tables.peering import peer as peers

FINGERPRINT = "AA:BB:CC:DD:EE:FF:00:11:22:33"
VEN2: dict[str, Any] = {"protocol": Protocol.OPENADR2, "role": PeerRole.VEN}
VTN3: dict[str, Any] = {"protocol": Protocol.OPENADR3, "role": PeerRole.VTN, "url": "https://vtn.example/3"}


async def refused(store: Store, new: NewPeer, error: type[Exception], match: str) -> None:
    await add_tenant(store)
    with pytest.raises(error, match=match):
        async with store.begin() as connection:
            await add_peer(connection, new, at=NOON)


async def test_a_peer_that_comes_to_us_gets_an_id_and_a_secret_of_which_only_the_hash_is_kept(store: Store) -> None:
    peer, secret = await stored_peer(store, granted_targets=("north", "north", "east"))
    async with store.begin() as connection:
        row = (await connection.execute(select(peers))).one()
        found = await find_peer(
            connection, tenant_id="default", protocol=peer.protocol, role=peer.role, client_id=peer.client_id
        )
    assert found == peer
    assert peer.party_id == "site-1"
    assert peer.granted_targets == ("north", "east")
    assert len(secret) >= 43
    assert secret not in repr(tuple(row))


async def test_a_vtn_above_us_gets_no_secret_of_ours_and_may_know_us_by_the_same_id_as_another(store: Store) -> None:
    first, secret = await stored_peer(store, "one", client_id="vpp", **VTN3)
    second, _ = await stored_peer(store, "two", client_id="vpp", **VTN3)
    assert (secret, first.client_id, second.client_id) == ("", "vpp", "vpp")


async def test_names_ids_and_certificates_are_one_peers(store: Store) -> None:
    await stored_peer(store, "one", party_id="VEN1", fingerprint=FINGERPRINT.lower(), **VEN2)
    await stored_peer(store, "client", client_id="client")
    await refused(store, new_peer("one", **VEN2), Conflict, "named one")
    await refused(store, new_peer("two", party_id="VEN1", **VEN2), Conflict, "party_id VEN1")
    await refused(store, new_peer("two", fingerprint=FINGERPRINT, **VEN2), Conflict, "certificate")
    await refused(store, new_peer("other", client_id="client"), Conflict, "client_id")


async def test_a_revoked_peers_name_may_be_used_again_but_not_its_client_id(store: Store) -> None:
    first, _ = await stored_peer(store, client_id="client")
    async with store.begin() as connection:
        await revoke_peer(connection, first.id, at=NOON)
        await revoke_peer(connection, first.id, at=NOON.replace(hour=13))
    again, _ = await stored_peer(store)
    await refused(store, new_peer("other", client_id="client"), Conflict, "client_id")
    async with store.begin() as connection:
        listed = await list_peers(connection, tenant_id="default")
        every = await list_peers(connection, tenant_id="default", revoked=True)
        old = await get_peer(connection, first.id, tenant_id="default")
        nobody = await find_peer(
            connection, tenant_id="default", protocol=first.protocol, role=first.role, client_id="client"
        )
        with pytest.raises(NotFound):
            await revoke_peer(connection, "nobody", at=NOON)
        with pytest.raises(NotFound):
            await get_peer(connection, first.id, tenant_id="other")
        with pytest.raises(NotFound):
            await rotate_secret(connection, first.id, tenant_id="default")
    assert [peer.id for peer in listed] == [again.id]
    assert {peer.id for peer in every} == {first.id, again.id}
    assert old.revoked_at == NOON
    assert nobody is None


async def test_what_may_change_changes_and_the_rest_is_refused(store: Store) -> None:
    one, _ = await stored_peer(store, "one", party_id="VEN1", **VEN2)
    two, _ = await stored_peer(store, "two", fingerprint=FINGERPRINT, **VEN2)
    async with store.begin() as connection:
        changed = await update_peer(
            connection, two.id, {"groups": ("north",), "url": "https://site.example/"}, tenant_id="default"
        )
        assert (changed.groups, changed.url, changed.fingerprint) == (("north",), "https://site.example", FINGERPRINT)
        with pytest.raises(Conflict, match="VEN1"):
            await update_peer(connection, two.id, {"party_id": "VEN1"}, tenant_id="default")
        with pytest.raises(Conflict, match="two"):
            await update_peer(connection, one.id, {"fingerprint": FINGERPRINT}, tenant_id="default")
        with pytest.raises(InvalidRequest, match="name"):
            await update_peer(connection, two.id, {"name": "three"}, tenant_id="default")
        with pytest.raises(NotFound):
            await update_peer(connection, two.id, {"groups": ()}, tenant_id="other")


async def test_every_change_is_told_when_it_is_committed(store: Store) -> None:
    told: list[str] = []
    address = store.database_url
    async with await psycopg.AsyncConnection.connect(address, autocommit=True, connect_timeout=5) as listener:
        await listener.execute("listen vpp_peer")
        peer, _ = await stored_peer(store)
        for change in ("update", "rotate", "revoke"):
            async with store.begin() as connection:
                if change == "update":
                    await update_peer(connection, peer.id, {"groups": ("a",)}, tenant_id="default")
                elif change == "rotate":
                    await rotate_secret(connection, peer.id, tenant_id="default")
                else:
                    await revoke_peer(connection, peer.id, at=NOON)
        async for notice in listener.notifies(timeout=5, stop_after=4):
            told.append(notice.payload)
    assert told == [peer.id] * 4


async def test_two_who_add_the_same_name_at_once_make_one_peer(store: Store) -> None:
    await add_tenant(store)

    async def add() -> bool:
        try:
            async with store.begin() as connection:
                await add_peer(connection, new_peer(), at=NOON)
        except Conflict:
            return False
        return True

    assert sorted(await asyncio.gather(*(add() for _ in range(4)))) == [False, False, False, True]


async def test_an_error_of_the_database_that_is_logged_says_none_of_the_values(store: Store) -> None:
    with pytest.raises(DataError) as raised:
        async with store.begin() as connection:
            await connection.execute(text("select 1 / 0, cast(:secret as text)"), {"secret": "of-nobodys-business"})
    assert "of-nobodys-business" not in str(raised.value)
