"""Tokens of an external OAuth server: genuine ones are taken, everything else is not.

Goal: nobody gets in by a wrong audience, issuer, time, algorithm or key, and its key rotation is followed without a
flood of invented key ids becoming a flood of fetches. Method: a real server on a real socket hands out real RSA and
EC keys.
"""

import base64
import hashlib
import hmac
import json
import warnings
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.warnings import InsecureKeyLengthWarning

from tests.builders_peering import Ticks, stored_peer
from tests.clock import NOON, FixedClock
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.peer import Caller, PeerRole
from vpp.peering import OwnAuthority, list_peers, revoke_peer
from vpp.peering.external_tokens import ExternalTokens
from vpp.peering.jwks import FAILED_INTERVAL_S, KEEP_S, MIN_INTERVAL_S, KeySet
from vpp.peering.scopes import BL_SCOPES, VEN_SCOPES
from vpp.store.engine import Store

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
KEYS: dict[str, Key] = {
    "rsa-1": rsa.generate_private_key(65537, 2048),
    "rsa-2": rsa.generate_private_key(65537, 2048),
    "ec-1": ec.generate_private_key(ec.SECP256R1()),
    "weak": rsa.generate_private_key(65537, 1024),
}


class Server:
    """An OAuth server's JWKS address; `keys` are those it shows now."""

    def __init__(self) -> None:
        self.keys, self.fetched, self.status, self.body = ["rsa-1", "ec-1"], 0, 200, b""
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.fetched += 1
        shown = [_jwk(name) for name in self.keys]
        noise = [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "RSA", "kid": "broken"}, 7]
        return web.Response(status=self.status, body=self.body or json.dumps({"keys": [*noise, *shown]}).encode())


def _jwk(name: str) -> dict[str, Any]:
    kind = jwt.algorithms.ECAlgorithm if name.startswith("ec") else jwt.algorithms.RSAAlgorithm
    public: dict[str, Any] = kind.to_jwk(KEYS[name].public_key(), as_dict=True)  # type: ignore[arg-type]
    return public | {"kid": name, "use": "sig"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    app = web.Application()
    app.router.add_get("/jwks", serving.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield serving
    await runner.cleanup()


def settings(server: Server, **changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "openadr3_oauth_issuer": "https://idp.example",
        "openadr3_oauth_jwks_url": server.url,
        "openadr3_oauth_token_url": "https://idp.example/token",
        "openadr3_oauth_audience": "vtn",
    }
    return Settings(**(fields | changes))


def token(
    key: str = "rsa-1", algorithm: str | None = None, *, head: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token the server would issue for the client `site`, unless `claims` say otherwise; None leaves one out."""
    said = {
        "iss": "https://idp.example", "aud": ["vtn", "other"], "exp": int(NOON.timestamp()) + 600,
        "client_id": "site", "scope": "openid write_reports read_targets",
    } | claims  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    algorithm = algorithm or ("ES256" if key.startswith("ec") else "RS256")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.encode(said, KEYS[key], algorithm, headers={"kid": key} if head is None else head)


async def ask(store: Store, clock: FixedClock, configured: Settings, *tokens: str) -> list[Caller | None]:
    authority = OwnAuthority(store, clock, configured)
    return [await authority.caller(each) for each in tokens]


@pytest.mark.conformance("3.x", "auth", "VTN: tokens of another OAuth server, by its JWKS")
async def test_rsa_and_ec_tokens_are_taken_for_the_peer_they_name(
    store: Store, clock: FixedClock, server: Server
) -> None:
    peer, secret = await stored_peer(store, client_id="site")
    authority = OwnAuthority(store, clock, settings(server))
    for each in (token("rsa-1"), token("ec-1"), token("rsa-1", client_id=None, azp="site")):
        caller = await authority.caller(each)
        assert caller is not None
        assert (caller.peer_id, caller.role) == (peer.id, PeerRole.VEN)
        assert caller.scopes == {"write_reports", "read_targets"}
    assert server.fetched == 1
    assert authority.token_url == "https://idp.example/token"
    ours = await authority.grant("site", secret, None)
    assert ours is not None
    assert await authority.caller(ours.access_token) is not None


async def test_what_is_not_genuine_or_not_for_us_is_refused(store: Store, clock: FixedClock, server: Server) -> None:
    await stored_peer(store, client_id="site")
    now = int(NOON.timestamp())
    public = KEYS["rsa-1"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    good = token()
    confused = _signed_with_public_key(good, public)
    server.keys.append("weak")
    refused = {
        "wrong audience": token(aud="another"),
        "no audience": token(aud=None),
        "wrong issuer": token(iss="https://evil.example"),
        "no end": token(exp=None),
        "over": token(exp=now - 31),
        "not yet": token(nbf=now + 31),
        "strange end": token(exp="soon"),
        "nobody's client": token(client_id="stranger"),
        "strange client": token(client_id="a\0b"),
        "client that is no text": token(client_id=7, azp=None),
        "none": jwt.encode({"iss": "https://idp.example", "client_id": "site"}, None, "none", headers={"kid": "rsa-1"}),
        "public key as shared secret": confused,
        "another key": token("rsa-2", head={"kid": "rsa-1"}),
        "unknown key": token("rsa-2"),
        "key of another kind": token("ec-1", head={"kid": "rsa-1"}),
        "algorithm not listed": token("rsa-1", "RS512"),
        "no key named and several there": token(head={}),
        "weak key": token("weak"),
        "shared secret listed as a key": jwt.encode({"client_id": "site"}, b"secret" * 8, headers={"kid": "shared"}),
        "key id that is no text": good.replace(good.split(".")[0], "eyJhbGciOiJSUzI1NiIsImtpZCI6N30", 1),
    }
    answers = await ask(store, clock, settings(server), *refused.values())
    assert [name for name, answer in zip(refused, answers, strict=True) if answer is not None] == []
    within = await ask(store, clock, settings(server), good, token(exp=now - 29), token(nbf=now + 29))
    assert None not in within


def _signed_with_public_key(genuine: str, public_pem: bytes) -> str:
    """A token whose HMAC was made with the server's public key, as if that were a shared secret."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa-1"}').rstrip(b"=")
    signed = head + b"." + genuine.split(".")[1].encode()
    mark = base64.urlsafe_b64encode(hmac.new(public_pem, signed, hashlib.sha256).digest()).rstrip(b"=")
    return (signed + b"." + mark).decode()


async def test_a_token_that_was_taken_ends_with_its_time_and_its_peer(
    store: Store, clock: FixedClock, server: Server
) -> None:
    peer, _ = await stored_peer(store, client_id="site")
    ticks = Ticks()
    authority = OwnAuthority(store, clock, settings(server), ticks=ticks)
    short, long = token(), token(exp=int(NOON.timestamp()) + 86_400)
    assert await authority.caller(short) is not None
    clock.advance(timedelta(seconds=630))
    assert await authority.caller(short) is None
    assert await authority.caller(long) is not None
    async with store.begin() as connection:
        await revoke_peer(connection, peer.id, at=clock.now())
    ticks.now_s += 5
    assert await authority.caller(long) is None


async def test_a_rotated_key_is_found_and_invented_ids_do_not_make_us_fetch(server: Server) -> None:
    ticks = Ticks()
    keys = KeySet(server.url, ["RS256", "ES256"], ticks=ticks)
    assert await keys.find("rsa-1") is not None
    server.keys = ["rsa-2"]
    ticks.now_s += MIN_INTERVAL_S
    assert await keys.find("rsa-2") is not None
    assert await keys.find("rsa-1") is None
    assert await keys.find(None) is not None
    assert server.fetched == 2
    for number in range(500):
        assert await keys.find(f"invented-{number}") is None
    ticks.now_s += MIN_INTERVAL_S - 1
    assert await keys.find("invented") is None
    assert server.fetched == 2
    ticks.now_s += KEEP_S
    assert await keys.find("rsa-2") is not None
    assert server.fetched == 3


@pytest.mark.parametrize("fault", [{"status": 500}, {"body": b"{"}, {"body": b'{"keys": 1}'}, {"body": b"x" * 300_000}])
async def test_keys_that_were_fetched_outlast_a_server_that_is_broken(server: Server, fault: dict[str, Any]) -> None:
    ticks = Ticks()
    keys = KeySet(server.url, ["RS256"], ticks=ticks)
    assert await keys.find("rsa-1") is not None
    ticks.now_s += KEEP_S + 1
    for name, value in fault.items():
        setattr(server, name, value)
    assert await keys.find("rsa-1") is not None
    server.status, server.body, server.keys = 200, b"", ["rsa-2"]
    ticks.now_s += FAILED_INTERVAL_S
    assert await keys.find("rsa-2") is not None
    assert server.fetched == 3


@pytest.mark.conformance("3.x", "auth", "VTN: its scopes and roles are mapped")
async def test_its_words_are_mapped_to_our_scopes_and_roles(store: Store, clock: FixedClock, server: Server) -> None:
    await stored_peer(store, "site", client_id="site")
    await stored_peer(store, "grid", role=PeerRole.BL, client_id="grid")
    configured = settings(
        server,
        openadr3_oauth_scope_claim="roles",
        openadr3_oauth_roles={"vtn-admin": "bl", "vtn-site": "ven"},
        openadr3_oauth_scopes={"vtn-admin": "read_all write_events", "vtn-site": "write_reports write_events"},
    )
    admin, site, wrong, both, neither = await ask(
        store, clock, configured,
        token(client_id="grid", roles=["vtn-admin", "mail"]), token(roles="vtn-site mail"),
        token(roles=["vtn-admin"]), token(roles=["vtn-admin", "vtn-site"]), token(roles=["mail"]),
    )  # fmt: skip
    assert admin is not None
    assert site is not None
    assert (admin.role, admin.scopes) == (PeerRole.BL, {"read_all", "write_events"})
    assert (site.role, site.scopes) == (PeerRole.VEN, {"write_reports"})
    assert (wrong, both) == (None, None)
    assert neither is not None
    assert neither.scopes == frozenset()


async def test_a_role_without_mapped_scopes_has_the_roles_own(store: Store, clock: FixedClock, server: Server) -> None:
    await stored_peer(store, "grid", role=PeerRole.BL, client_id="grid")
    configured = settings(server, openadr3_oauth_roles={"admin": "bl"})
    whole, narrow = await ask(
        store, clock, configured, token(client_id="grid", scope="admin"),
        token(client_id="grid", scope="admin read_all write_reports"),
    )  # fmt: skip
    assert whole is not None
    assert narrow is not None
    assert (whole.scopes, narrow.scopes) == (BL_SCOPES, {"read_all"})


async def test_a_client_nobody_knows_is_added_only_where_that_is_wanted_and_its_role_is_mapped(
    store: Store, clock: FixedClock, server: Server
) -> None:
    roles: dict[str, Any] = {"openadr3_oauth_roles": {"site": "ven"}}
    wanted = settings(server, openadr3_oauth_auto_peers=True, **roles)
    stranger, unmapped = token(client_id="new", scope="site"), token(client_id="new")
    assert await ask(store, clock, settings(server, **roles), stranger) == [None]
    assert await ask(store, clock, wanted, unmapped) == [None]
    first, again = await ask(store, clock, wanted, stranger, stranger)
    assert first is not None
    assert first == again
    assert (first.role, first.scopes) == (PeerRole.VEN, VEN_SCOPES)
    async with store.begin() as connection:
        (peer,) = await list_peers(connection, tenant_id="default")
        await revoke_peer(connection, peer.id, at=NOON)
    assert await ask(store, clock, wanted, stranger) == [None]


def test_half_a_configuration_and_plain_http_are_refused(clock: FixedClock, server: Server) -> None:
    with pytest.raises(NotReady, match="AUDIENCE"):
        ExternalTokens(settings(server, openadr3_oauth_audience=None), clock)
    with pytest.raises(InvalidRequest, match="https"):
        ExternalTokens(settings(server, openadr3_oauth_jwks_url="http://idp.example/jwks"), clock)
