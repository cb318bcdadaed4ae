"""From the API to the subscriber, wired as `vpp serve` and `vpp work` are."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.builders_notify import ADMIN, ADMIN_WORD, TENANT, MqttBroker, Receiver, emptied_store, listener, receiver
from tests.builders_peering import add_tenant
from vpp.bootstrap.changes import changes_for
from vpp.bootstrap.notify import callback_check, callback_client, notifiers_for, tell
from vpp.bootstrap.openadr3 import openadr3_vtn
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer, add_peer
from vpp.store.engine import Store


@pytest.fixture
async def store(module_database_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with emptied_store(module_database_url, redis_url) as made:
        yield made


@asynccontextmanager
async def served(settings: Settings, store: Store, version: str = "3.1.0") -> AsyncIterator[httpx.AsyncClient]:
    """Our VTN as `vpp serve` has it, while `vpp work` tells."""
    clock = SystemClock()
    vtn = openadr3_vtn(
        settings, store, clock, changes=changes_for(settings), callbacks=callback_check(settings),
        notifiers=notifiers_for(settings, store, clock),
    )  # fmt: skip
    async with vtn as mounts:
        telling = asyncio.create_task(tell(settings, store, clock))
        transport = httpx.ASGITransport(mounts[f"/openadr3/{version}"])
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://vtn") as client:
                yield client
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


async def signed_in(store: Store, client: httpx.AsyncClient, name: str, role: PeerRole) -> dict[str, str]:
    """Headers of a new peer."""
    async with store.begin() as connection:
        new = NewPeer(tenant_id=TENANT, protocol=Protocol.OPENADR3, role=role, name=name)
        peer, secret = await add_peer(connection, new, at=SystemClock().now())
    form = {"grant_type": "client_credentials", "client_id": peer.client_id, "client_secret": secret}
    answer = await client.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def wanted(there: Receiver, operations: tuple[str, ...]) -> dict[str, Any]:
    callback = {"objects": ["PROGRAM"], "operations": list(operations), "callbackUrl": there.url, "bearerToken": "word"}
    return {"clientName": "me", "objectOperations": [callback]}


async def test_a_subscription_is_challenged_kept_and_told(store: Store) -> None:
    await add_tenant(store)
    settings = Settings(openadr3_allow_http_callbacks=True)
    async with served(settings, store) as client, receiver() as there:
        logic = await signed_in(store, client, "bl", PeerRole.BL)
        there.echo_form = "something else"
        refused = await client.post("/subscriptions", json=wanted(there, ("CREATE",)), headers=logic)
        assert refused.status_code == 400
        assert "callbackUrl" in refused.text
        there.echo_form = "{}"
        kept = await client.post("/subscriptions", json=wanted(there, ("CREATE",)), headers=logic)
        assert kept.status_code == 201, kept.text
        assert [each.headers["authorization"] for each in there.requests] == ["Bearer word"] * 2
        made = await client.post("/programs", json={"programName": "p"}, headers=logic)
        await there.until_told(1)
        assert there.told[0].json() == {"objectType": "PROGRAM", "operation": "CREATE", "object": made.json()}
        assert (await client.get("/notifiers", headers=logic)).json() == {"WEBHOOK": True}


async def test_a_subscription_made_by_the_older_version_is_told_in_it(store: Store) -> None:
    await add_tenant(store)
    settings = Settings(openadr3_allow_http_callbacks=True)
    async with served(settings, store, "3.0.1") as client, receiver() as there:
        logic = await signed_in(store, client, "bl", PeerRole.BL)
        targets = [{"type": "GROUP", "values": ["g1"]}]
        made = (await client.post("/programs", json={"programName": "p", "targets": targets}, headers=logic)).json()
        kept = await client.post(
            "/subscriptions", json=wanted(there, ("PUT",)) | {"programID": made["id"]}, headers=logic
        )
        assert kept.status_code == 201, kept.text
        changed = await client.put(f"/programs/{made['id']}", json=made | {"country": "US"}, headers=logic)
        await there.until_told(1)
        assert there.told[0].json() == {"objectType": "PROGRAM", "operation": "PUT", "object": changed.json()}
        assert changed.json()["targets"] == targets


async def test_a_ven_finds_the_broker_its_login_and_its_topics_and_hears_there(store: Store, tmp_path: Path) -> None:
    broker = MqttBroker(tmp_path)
    broker.start()
    try:
        await add_tenant(store)
        (tmp_path / "credentials").write_text(f"{ADMIN}:{ADMIN_WORD}")
        settings = Settings(
            mqtt_url=f"mqtt://127.0.0.1:{broker.port}", mqtt_credentials=tmp_path / "credentials",
            mqtt_public_urls=["mqtts://broker.example.com"],
        )  # fmt: skip
        async with served(settings, store) as client:
            logic = await signed_in(store, client, "bl", PeerRole.BL)
            ven = await signed_in(store, client, "ven", PeerRole.VEN)
            binding = (await client.get("/notifiers", headers=ven)).json()
            assert binding["MQTT"]["URIS"] == ["mqtts://broker.example.com"]
            name = binding["MQTT"]["authentication"]["username"]
            asked = await client.get("/notifiers/mqtt/topics/programs", headers=ven)
            token = ven["authorization"].removeprefix("Bearer ")
            async with listener(broker.port, name, token) as there:
                assert await there.allowed(asked.json()["topics"]["ALL"])
                made = await client.post("/programs", json={"programName": "p"}, headers=logic)
                (heard,) = await there.until(1)
                said = {"objectType": "PROGRAM", "operation": "CREATE", "object": made.json()}
                assert json.loads(heard.payload) == said  # type: ignore[arg-type]
                assert str(heard.topic) == asked.json()["topics"]["CREATE"]
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(openadr3_callback_networks=["10.0.0.0/33"]), "VPP_OPENADR3_CALLBACK_NETWORKS"),
        (Settings(openadr3_callback_ca=Path("/nowhere")), "VPP_OPENADR3_CALLBACK_CA"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: Settings, named: str) -> None:
    with pytest.raises(NotReady, match=named):
        callback_client(settings)
