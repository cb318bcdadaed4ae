"""Webhooks and MQTT make our OpenADR 3 VEN ask sooner; forged, silent or broken they cost nothing but time."""

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import func, select

from tests.builders_gateway import add_tenant
from tests.builders_ven3 import FakeVtn, fake_vtn, mosquitto, running_ven3
from tests.clock import FixedClock
from vpp.domain.errors import InvalidRequest
from vpp.gateway.notify import AddressRules, CallbackChallenge, CallbackClient, CallbackGuard
from vpp.gateway.ven3 import Alarm, Openadr3Ven
from vpp.gateway.ven3.callback import callback_router
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

URL = "https://vpp.example/openadr3/callback/utility"
SOURCE = "openadr3:utility"
DAY_S = 86_400.0
"""Polling this seldom, nothing is heard of in time but by being told."""


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture
async def vtn(clock: FixedClock) -> AsyncIterator[FakeVtn]:
    async with fake_vtn(clock) as served:
        yield served


@pytest.fixture
async def caller(fleet_store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A VTN as it calls us back."""
    app = FastAPI()
    app.include_router(callback_router(fleet_store))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://vpp.example") as client:
        yield client


@asynccontextmanager
async def running(loop: Openadr3Ven) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def heard(store: Store, alarm: Alarm) -> AsyncIterator[None]:
    """Listening has begun: everybody was woken once."""
    woken = alarm.of(SOURCE)
    task = asyncio.create_task(alarm.listen(store))
    try:
        async with asyncio.timeout(5):
            await woken.wait()
        woken.clear()
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def commitments(store: Store) -> int:
    async with store.begin() as connection:
        return int((await connection.execute(select(func.count()).select_from(commitment))).scalar_one())


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in SQL, or in another task
            await asyncio.sleep(0.01)


def operation(vtn: FakeVtn) -> dict[str, Any]:
    (subscription,) = vtn.objects["subscriptions"].values()
    (found,) = subscription["objectOperations"]
    return dict(found)


@pytest.mark.parametrize("version", ["3.1.0", "3.0.1"])
async def test_we_subscribe_once_and_again_when_the_vtn_has_forgotten(
    fleet_store: Store, clock: FixedClock, version: str
) -> None:
    async with fake_vtn(clock, version=version) as vtn:
        for _ in range(2):
            async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
                await ven.step()
                await ven.step()
        assert vtn.count("POST /subscriptions") == 1
        assert operation(vtn)["callbackUrl"] == URL
        first_token = operation(vtn)["bearerToken"]
        vtn.objects["subscriptions"].clear()
        clock.advance(timedelta(minutes=16))
        async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
            await ven.step()
            assert operation(vtn)["bearerToken"] != first_token
            await ven.leave()
    assert vtn.objects["subscriptions"] == {}


@pytest.mark.conformance("3.x", "events", "VEN: falls back to polling")
async def test_a_vtn_that_cannot_push_is_polled_all_the_same(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn
) -> None:
    vtn.event(300.0)
    vtn.lose_reply_to = {"POST /subscriptions"}
    async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
        await ven.step()
        assert await commitments(fleet_store) == 1
        clock.advance(timedelta(minutes=16))
        await ven.step()
    assert len(vtn.objects["subscriptions"]) == 1  # the one whose answer was lost has been replaced


@pytest.mark.conformance("3.x", "subscriptions", "VEN: webhooks")
async def test_a_webhook_wakes_the_loop_which_asks_the_vtn_itself(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn, caller: httpx.AsyncClient
) -> None:
    alarm = Alarm()
    async with (
        running_ven3(fleet_store, clock, vtn.url, callback_url=URL, wake=alarm.of(SOURCE), poll_s=DAY_S) as ven,
        heard(fleet_store, alarm),
        running(ven),
    ):
        await until(lambda: _truth(clock.sleepers > 0))
        vtn.event(300.0)
        headers = {"Authorization": f"Bearer {operation(vtn)['bearerToken']}"}
        forged = {"objectType": "EVENT", "operation": "DELETE", "object": {"id": "event-2"}}
        assert (await caller.post(URL, json=forged, headers=headers)).status_code == 200
        await until(lambda: _passed(clock, fleet_store))


async def test_a_vtn_that_asks_for_patience_is_not_asked_before_whatever_it_tells(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn
) -> None:
    wake = asyncio.Event()
    vtn.failing, vtn.retry_after = 1, "120"
    async with running_ven3(fleet_store, clock, vtn.url, wake=wake, poll_s=DAY_S) as ven, running(ven):
        await until(lambda: _truth(clock.sleepers > 0))
        wake.set()
        before = len(vtn.requests)
        clock.advance(timedelta(seconds=119))
        await asyncio.sleep(0.05)
        assert len(vtn.requests) == before
        clock.advance(timedelta(seconds=2))
        await until(lambda: _truth(len(vtn.requests) > before))


async def _truth(value: bool) -> bool:
    return value


async def _passed(clock: FixedClock, store: Store) -> bool:
    """Let the second pass that lies between two rounds."""
    clock.advance(timedelta(seconds=1))
    return await commitments(store) == 1


@pytest.mark.conformance("3.1.0", "subscriptions", "VEN: answers the challenge")
async def test_a_challenge_is_said_back_once_we_expect_a_vtn(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn, caller: httpx.AsyncClient
) -> None:
    assert (await caller.get(URL, params={"echo": "abc"})).status_code == 404
    async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
        await ven.step()
    answer = await caller.get(URL, params={"echo": "<b>abc"})
    assert (answer.status_code, answer.text) == (200, "<b>abc")
    assert answer.headers["content-type"].startswith("text/plain")
    assert (await caller.get(URL, params={"echo": "x" * 2000})).status_code == 422


async def test_a_notification_that_is_not_the_vtns_wakes_nobody(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn, caller: httpx.AsyncClient
) -> None:
    async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
        await ven.step()
    token = operation(vtn)["bearerToken"]
    right = {"Authorization": f"Bearer {token}"}
    alarm = Alarm()
    async with heard(fleet_store, alarm):
        for headers, body, status in (
            ({}, b"{}", 401),
            ({"Authorization": "Bearer wrong"}, b"{}", 401),
            ({"Authorization": f"Basic {token}"}, b"{}", 401),
            (right | {"webhook-signature": "v1,AAAA"}, b"{}", 401),
            (right | {"webhook-signature": "v1,é"}, b"{}", 401),
            (right, b"x" * (1024 * 1024 + 1), 413),
        ):
            encoded = {key: value.encode() for key, value in headers.items()}
            assert (await caller.post(URL, content=body, headers=encoded)).status_code == status
        assert (await caller.post(URL.replace("utility", "nobody"), headers=right)).status_code == 401
        assert not alarm.of(SOURCE).is_set()

        stamp = {"webhook-id": "n1", "webhook-timestamp": "1787166000"}
        digest = hmac.new(token.encode(), b"n1.1787166000.{}", hashlib.sha256).digest()
        signed = {**right, **stamp, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}
        assert (await caller.post(URL, content=b"{}", headers=signed)).status_code == 200
        async with asyncio.timeout(5):
            await alarm.of(SOURCE).wait()


@pytest.mark.conformance("3.1.0", "notifiers", "VEN: MQTT", peer="mosquitto")
async def test_a_callback_of_no_name_there_can_be_is_nobodys(caller: httpx.AsyncClient) -> None:
    for name in ("%00", "a%00b", "x" * 5000):
        url = URL.replace("utility", name)
        assert (await caller.get(url, params={"echo": "e"})).status_code == 404
        assert (await caller.post(url, headers={"authorization": "Bearer t"})).status_code == 401


async def test_a_message_of_the_vtns_broker_wakes_the_loop(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as port:
        vtn.mqtt = {
            "URIS": [f"mqtt://127.0.0.1:{port}"],
            "serialization": "JSON",
            "authentication": {"method": "OAUTH2_BEARER_TOKEN", "username": "{clientID}"},
        }
        async with running_ven3(fleet_store, clock, vtn.url, hears=True, poll_s=DAY_S) as ven, running(ven):
            await until(lambda: _truth(vtn.count("GET /notifiers/mqtt/topics/vens/ven-2/programs") > 0))
            await until(lambda: _settled(clock, ven))
            vtn.event(300.0)
            async with aiomqtt.Client("127.0.0.1", port) as broker:
                await until(lambda: _told(broker, clock, fleet_store))


async def _settled(clock: FixedClock, ven: Openadr3Ven) -> bool:
    """The round that follows the connection, for what was told before it, is over."""
    clock.advance(timedelta(seconds=1))
    await asyncio.sleep(0.05)
    return clock.sleepers > 0 and ven.ven_id is not None


async def _told(broker: aiomqtt.Client, clock: FixedClock, store: Store) -> bool:
    await broker.publish("programs/program-1/events/create", b"not even JSON", qos=1)
    return await _passed(clock, store)


async def test_a_broker_that_is_not_there_costs_no_event(fleet_store: Store, clock: FixedClock, vtn: FakeVtn) -> None:
    vtn.mqtt = {"URIS": ["mqtt://127.0.0.1:1"], "serialization": "JSON", "authentication": {"method": "ANONYMOUS"}}
    async with running_ven3(fleet_store, clock, vtn.url, hears=True) as ven, running(ven):
        await until(lambda: _truth(clock.sleepers > 0))
        vtn.event(300.0)
        clock.advance(timedelta(minutes=1))
        await until(lambda: _passed(clock, fleet_store))


async def test_the_challenge_of_our_own_vtn_is_answered_over_a_real_socket(
    fleet_store: Store, clock: FixedClock, vtn: FakeVtn
) -> None:
    async with running_ven3(fleet_store, clock, vtn.url, callback_url=URL) as ven:
        await ven.step()
    app = FastAPI()
    app.include_router(callback_router(fleet_store))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: _truth(server.started))
        client = CallbackClient(CallbackGuard(AddressRules(http_on_loopback=True)))
        here = f"http://127.0.0.1:{listening.getsockname()[1]}/openadr3/callback"
        try:
            await CallbackChallenge(client).check(f"{here}/utility", bearer_token=operation(vtn)["bearerToken"])
            with pytest.raises(InvalidRequest, match="404"):
                await CallbackChallenge(client).check(f"{here}/nobody")
        finally:
            await client.close()
            server.should_exit = True
            await serving
