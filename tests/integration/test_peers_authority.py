"""Our own access tokens: who gets one, what it says, when it ends.

Goal: a revoked peer or a changed secret ends every token, at once where changes are heard and within seconds where
they are not; all processes share what tokens are signed with. Method: several authorities on one database stand for
several processes; `ticks` are stepped by hand.
"""

import asyncio
import base64
import json
from contextlib import suppress
from datetime import timedelta

import jwt
import pytest
from sqlalchemy import select, text

from tests.builders_peering import Ticks, stored_peer, until
from tests.clock import FixedClock
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import OwnAuthority, revoke_peer, rotate_secret, update_peer
from vpp.peering.scopes import VEN_SCOPES
from vpp.peering.token_keys import KEEP_FOR, ROTATE_AFTER
from vpp.store.engine import Store
from vpp.store.tables.peering import token_key

SETTINGS = Settings(_env_file=None)


class Files:
    """Secret files by name."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def get(self, name: str) -> str | None:
        return self.files.get(name)


async def token_of(authority: OwnAuthority, peer: Peer, secret: str, scope: str | None = None) -> str:
    grant = await authority.grant(peer.client_id or "", secret, scope)
    assert grant is not None
    return grant.access_token


async def revoke(store: Store, clock: FixedClock, peer: Peer) -> None:
    async with store.begin() as connection:
        await revoke_peer(connection, peer.id, at=clock.now())


@pytest.mark.conformance("3.x", "auth", "VTN: tokens of its own")
async def test_a_client_that_shows_its_secret_gets_a_token_that_any_process_takes(
    store: Store, clock: FixedClock
) -> None:
    peer, secret = await stored_peer(store)
    issuer, other = OwnAuthority(store, clock, SETTINGS), OwnAuthority(store, clock, SETTINGS)
    grant = await issuer.grant(peer.client_id or "", secret, "write_reports read_targets nonsense")
    assert grant is not None
    assert (grant.expires_in_s, grant.scope) == (3600, "read_targets write_reports")
    for authority in (issuer, other):
        caller = await authority.caller(grant.access_token)
        assert caller is not None
        assert (caller.client_id, caller.tenant_id, caller.peer_id) == (peer.client_id, "default", peer.id)
        assert (caller.role, caller.scopes) == (PeerRole.VEN, {"read_targets", "write_reports"})
    assert issuer.token_url == "http://127.0.0.1:8000/openadr3/3.1.0/auth/token"


async def test_all_who_show_a_token_at_once_after_a_start_are_let_in(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    token = await token_of(OwnAuthority(store, clock, SETTINGS), peer, secret)
    restarted = OwnAuthority(store, clock, SETTINGS)
    callers = await asyncio.gather(*(restarted.caller(token) for _ in range(8)))
    assert [each and each.client_id for each in callers] == [peer.client_id] * 8


async def test_wrong_secrets_unknown_clients_and_peers_that_do_not_come_to_us_get_nothing(
    store: Store, clock: FixedClock
) -> None:
    peer, secret = await stored_peer(store)
    await stored_peer(
        store, "up", protocol=Protocol.OPENADR3, role=PeerRole.VTN, url="https://v.example", client_id="up"
    )
    authority = OwnAuthority(store, clock, SETTINGS)
    client = peer.client_id or ""
    tried = [
        (client, ""), (client, secret + "x"), (client, secret[:-1]), (client, "\udcff"), (client, "x" * 10_000),
        ("nobody", secret), ("", secret), ("a\0b", secret), ("x" * 1000, secret), ("up", ""), ("up", "0" * 64),
    ]  # fmt: skip
    assert [await authority.grant(*each, None) for each in tried] == [None] * len(tried)


@pytest.mark.conformance("3.x", "auth", "VTN: a token ends with its time")
async def test_a_token_ends_with_its_time(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    authority = OwnAuthority(store, clock, SETTINGS)
    token = await token_of(authority, peer, secret)
    clock.advance(timedelta(seconds=3599))
    assert await authority.caller(token) is not None
    clock.advance(timedelta(seconds=1))
    assert await authority.caller(token) is None
    assert await OwnAuthority(store, clock, SETTINGS).caller(token) is None


async def test_a_revoked_peer_is_out_within_five_seconds_where_nothing_is_heard(
    store: Store, clock: FixedClock
) -> None:
    peer, secret = await stored_peer(store)
    ticks = Ticks()
    authority = OwnAuthority(store, clock, SETTINGS, ticks=ticks)
    token = await token_of(authority, peer, secret)
    assert await authority.caller(token) is not None
    await revoke(store, clock, peer)
    ticks.now_s += 5
    assert await authority.caller(token) is None
    assert await authority.grant(peer.client_id or "", secret, None) is None


async def listening(store: Store) -> bool:
    query = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
    async with store.begin() as connection:
        return bool((await connection.execute(text(query))).scalar())


async def out(authority: OwnAuthority, token: str) -> bool:
    return await authority.caller(token) is None


async def test_a_revoked_peer_is_out_at_once_where_changes_are_heard(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    authority = OwnAuthority(store, clock, SETTINGS, ticks=Ticks())
    hearing = asyncio.create_task(authority.run())
    try:
        await until(lambda: listening(store))
        token = await token_of(authority, peer, secret)
        assert await authority.caller(token) is not None
        await revoke(store, clock, peer)
        await until(lambda: out(authority, token))
    finally:
        hearing.cancel()
        with suppress(asyncio.CancelledError):
            await hearing


async def test_a_new_secret_ends_the_tokens_got_with_the_old_one(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    ticks = Ticks()
    authority = OwnAuthority(store, clock, SETTINGS, ticks=ticks)
    old = await token_of(authority, peer, secret)
    async with store.begin() as connection:
        _, fresh = await rotate_secret(connection, peer.id, tenant_id="default")
    ticks.now_s += 5
    assert await authority.caller(old) is None
    assert await authority.grant(peer.client_id or "", secret, None) is None
    assert await authority.caller(await token_of(authority, peer, fresh)) is not None


async def test_another_change_of_a_peer_leaves_its_tokens(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    ticks = Ticks()
    authority = OwnAuthority(store, clock, SETTINGS, ticks=ticks)
    token = await token_of(authority, peer, secret)
    async with store.begin() as connection:
        await update_peer(connection, peer.id, {"granted_targets": ("north",)}, tenant_id="default")
    ticks.now_s += 5
    assert await authority.caller(token) is not None


async def test_a_token_nobody_signed_or_that_was_changed_is_nobodys(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    authority = OwnAuthority(store, clock, SETTINGS)
    token = await token_of(authority, peer, secret, "read_targets")
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    key_id = jwt.get_unverified_header(token)["kid"]

    def forged(key: str, **changes: object) -> str:
        return jwt.encode(claims | changes, key, "HS256", headers={"kid": key_id})

    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": key_id}).encode()).decode().rstrip("=")
    deep = base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")
    more = base64.urlsafe_b64encode(json.dumps(claims | {"scope": "write_reports"}).encode()).decode().rstrip("=")
    tried = [
        "", "x", "a.b.c", "\udcff", "x" * 10_000, f"{head}.{more}.{signature}", f"{none}.{body}.", f"{head}.{body}.",
        token[:-4] + "AAAA", f"{deep}.{body}.{signature}",
        forged("x" * 64), forged(key_id * 4, scope="read_all"), f"{head}.{signature}.{body}",
    ]  # fmt: skip
    assert [await authority.caller(each) for each in tried] == [None] * len(tried)
    assert await authority.caller(token) is not None


async def test_keys_in_sql_are_one_for_all_who_start_at_once_and_change_without_a_break(
    store: Store, clock: FixedClock
) -> None:
    peer, secret = await stored_peer(store)
    authorities = [OwnAuthority(store, clock, SETTINGS) for _ in range(4)]
    tokens = await asyncio.gather(*(token_of(authority, peer, secret) for authority in authorities))
    assert len({jwt.get_unverified_header(token)["kid"] for token in tokens}) == 1
    clock.advance(ROTATE_AFTER - timedelta(minutes=10))
    before = await token_of(OwnAuthority(store, clock, SETTINGS), peer, secret)
    clock.advance(timedelta(minutes=10))
    ticks = Ticks()
    late = OwnAuthority(store, clock, SETTINGS, ticks=ticks)
    assert await late.caller(before) is not None  # and it now knows the old key only
    after = await token_of(OwnAuthority(store, clock, SETTINGS), peer, secret)
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    ticks.now_s += 3
    assert await late.caller(after) is not None
    assert await OwnAuthority(store, clock, SETTINGS).caller(before) is not None
    clock.advance(KEEP_FOR)
    await token_of(OwnAuthority(store, clock, SETTINGS), peer, secret)
    async with store.begin() as connection:
        assert len((await connection.execute(select(token_key))).all()) == 1


async def test_a_secret_file_is_signed_with_and_its_lines_change_over(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    old, new = "o" * 40, "n" * 40
    before = OwnAuthority(store, clock, SETTINGS, secrets=Files(openadr3_token_key=old))
    during = OwnAuthority(store, clock, SETTINGS, secrets=Files(openadr3_token_key=f"{new}\n{old}\n"))
    after = OwnAuthority(store, clock, SETTINGS, secrets=Files(openadr3_token_key=new))
    token = await token_of(before, peer, secret)
    assert await during.caller(token) is not None
    assert await after.caller(token) is None
    assert await after.caller(await token_of(during, peer, secret)) is not None
    async with store.begin() as connection:
        assert (await connection.execute(select(token_key))).all() == []
    short = OwnAuthority(store, clock, SETTINGS, secrets=Files(openadr3_token_key="short"))
    with pytest.raises(NotReady, match="openadr3_token_key"):
        await short.grant(peer.client_id or "", secret, None)


async def test_everything_a_ven_may_do_is_given_where_nothing_is_asked_for(store: Store, clock: FixedClock) -> None:
    peer, secret = await stored_peer(store)
    grant = await OwnAuthority(store, clock, SETTINGS).grant(peer.client_id or "", secret, None)
    assert grant is not None
    assert set(grant.scope.split()) == VEN_SCOPES
