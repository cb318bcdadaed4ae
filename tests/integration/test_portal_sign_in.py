"""Signing in is slow to guess, short-lived, and of no use to another site's page."""

from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from tests.builders_portal import NOW, PASSWORD, World, a_world, browser, portal, signed_in
from tests.clock import FixedClock
from vpp.domain.errors import Conflict, InvalidRequest
from vpp.portal import create_account
from vpp.portal.credentials import SESSION_LIFETIME
from vpp.portal.sign_in import PER_ACCOUNT
from vpp.store.engine import Store
from vpp.store.tables import accounts
from vpp.store.tables.fleet import site


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
async def world(store: Store) -> World:
    return await a_world(store, sites=6)


@pytest.fixture
def app(store: Store, clock: FixedClock) -> FastAPI:
    return portal(store, clock)


@pytest.mark.parametrize("role", ["operator", "utility", "owner"])
async def test_each_role_lands_on_its_page(app: FastAPI, world: World, role: str) -> None:
    async with browser(app) as client:
        answer = await signed_in(client, getattr(world, role))
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert (await client.get("/")).headers["location"] == f"/{role}"
        assert (await client.get(f"/{role}")).status_code == 200


async def test_the_cookie_is_kept_from_scripts_and_other_sites(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        plain = (await signed_in(client, world.operator)).headers["set-cookie"].lower()
    assert "httponly" in plain
    assert "samesite=lax" in plain
    assert "secure" not in plain
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="https://portal.test") as client:
        answer = await signed_in(client, world.operator)
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "max-age" in answer.headers["strict-transport-security"]


async def test_only_hashes_are_stored(store: Store, app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        token = client.cookies["vpp_session"]
    async with store.begin() as connection:
        hashes = (await connection.execute(select(accounts.session.c.token_hash))).scalars().all()
        passwords = (await connection.execute(select(accounts.account.c.password_hash))).scalars().all()
    assert token not in hashes
    assert all(stored.startswith("scrypt$") and PASSWORD not in stored for stored in passwords)


async def test_a_session_ends_with_its_time(app: FastAPI, clock: FixedClock, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        clock.advance(SESSION_LIFETIME - timedelta(seconds=1))
        assert (await client.get("/operator")).status_code == 200
        clock.advance(timedelta(seconds=1))
        answer = await client.get("/operator")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/operator")


async def test_signing_out_makes_the_cookie_worthless(store: Store, app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        await signed_in(client, world.operator)
        stolen = client.cookies["vpp_session"]
        page = await client.get("/operator")
        csrf = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        assert (await client.post("/sign-out", data={"csrf_token": csrf})).status_code == 303
    async with browser(app) as thief:
        thief.cookies["vpp_session"] = stolen
        assert (await thief.get("/operator")).status_code == 303
    async with store.begin() as connection:
        assert (await connection.execute(select(func.count()).select_from(accounts.session))).scalar() == 0


@pytest.mark.parametrize(
    ("email", "password"), [("operator@north.example", "wrong password"), ("nobody@north.example", PASSWORD)]
)
async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(
    app: FastAPI, world: World, email: str, password: str
) -> None:
    async with browser(app) as client:
        answer = await signed_in(client, email, password)
    assert answer.status_code == 401
    assert "E-mail or password is not right." in answer.text
    assert "set-cookie" not in answer.headers


async def test_guessing_is_stopped_even_when_the_next_guess_is_right(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        for _ in range(PER_ACCOUNT):
            assert (await signed_in(client, world.operator, "wrong password")).status_code == 401
        answer = await signed_in(client, world.operator)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 300
        assert (await signed_in(client, world.owner)).status_code == 303


async def test_signing_in_rightly_does_not_use_up_attempts(store: Store, app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        for _ in range(PER_ACCOUNT + 2):
            client.cookies.clear()
            assert (await signed_in(client, world.operator)).status_code == 303
    keys = [key async for key in store.redis.scan_iter("vpp:sign-in:*")]
    assert keys
    assert all([await store.redis.ttl(key) > 0 for key in keys])


async def test_a_change_needs_the_pages_token(store: Store, app: FastAPI, world: World) -> None:
    path = f"/owner/sites/{world.sites[0]}/reserve"
    async with browser(app) as client:
        await signed_in(client, world.owner)
        page = await client.get("/owner")
        token = page.text.split('"x-csrf-token": "')[1].split('"')[0]
        form = {"reserve_percent": "40"}
        refused = [
            await client.patch(path, data=form),
            await client.patch(path, data=form, headers={"x-csrf-token": "0" * 64}),
            await client.patch(path, data=form | {"csrf_token": "x"}),
            await client.patch(path, data=form, headers={"x-csrf-token": token, "origin": "https://evil.example"}),
            await client.patch(path, data=form, headers={"x-csrf-token": token, "sec-fetch-site": "cross-site"}),
            await client.patch(path, data=form, headers={"x-csrf-token": token, "origin": "null"}),
        ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        assert await _reserve(store, world.sites[0]) == 0.2
        good = {"x-csrf-token": token, "origin": "http://portal.test", "sec-fetch-site": "same-origin"}
        answer = await client.patch(path, data=form, headers=good)
        assert answer.status_code == 200
        assert "Saved: 40" in answer.text
    assert await _reserve(store, world.sites[0]) == 0.4


async def test_sign_in_from_another_site_is_refused(app: FastAPI, world: World) -> None:
    async with browser(app) as client:
        client.headers["origin"] = "https://evil.example"
        assert (await signed_in(client, world.operator)).status_code == 403


@pytest.mark.parametrize("percent", ["-1", "101", "nan", "20.5", "", "1e1"])
async def test_a_reserve_that_is_no_whole_percent_is_refused(
    store: Store, app: FastAPI, world: World, percent: str
) -> None:
    async with browser(app) as client:
        await signed_in(client, world.owner)
        page = await client.get("/owner")
        client.headers["x-csrf-token"] = page.text.split('"x-csrf-token": "')[1].split('"')[0]
        answer = await client.patch(f"/owner/sites/{world.sites[0]}/reserve", data={"reserve_percent": percent})
    assert answer.status_code == 422
    assert await _reserve(store, world.sites[0]) == 0.2


async def test_an_account_is_made_once_and_whole(store: Store, world: World) -> None:
    usual = {"tenant_id": world.tenant_id, "password": PASSWORD, "role": "operator"}
    async with store.begin() as connection:
        with pytest.raises(Conflict):
            await create_account(connection, **usual, email="OPERATOR@north.example")
        for wrong in ({"password": "short"}, {"role": "owner"}, {"role": "utility"}, {"role": "king"}):
            with pytest.raises(InvalidRequest):
                await create_account(connection, **usual | wrong, email="new@north.example")
        with pytest.raises(InvalidRequest):
            await create_account(connection, **usual, email="no address")


async def test_a_form_too_long_is_refused(app: FastAPI) -> None:
    async with browser(app) as client:
        answer = await client.post("/sign-in", data={"email": "a@b.c", "password": "x" * 50_000})
    assert answer.status_code in (413, 422)


async def _reserve(store: Store, site_id: str) -> float:
    async with store.begin() as connection:
        return float((await connection.execute(select(site.c.reserve_soc).where(site.c.id == site_id))).scalar_one())
