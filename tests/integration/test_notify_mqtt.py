"""MQTT against a real mosquitto: who may read what, and that nothing is lost with the broker or a worker."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import jwt
import pytest
from sqlalchemy import func, select, text

from tests.builders_notify import (
    ADMIN,
    ADMIN_WORD,
    TENANT,
    Listener,
    MqttBroker,
    Objects,
    Unchanging,
    certificates,
    emptied_store,
    listener,
)
from tests.clock import FixedClock
from vpp.clock import SystemClock
from vpp.domain.errors import NotReady, PeerUnreachable
from vpp.domain.openadr3 import ObjectKind
from vpp.domain.peer import Caller, PeerRole
from vpp.gateway.notify import (
    Access,
    BrokerAddress,
    MqttNotifiers,
    MqttPublisher,
    Outbox,
    Policy,
    Wake,
    WebhookWorker,
    broker_address,
    connected,
    run_notify,
)
from vpp.gateway.notify.access import MOST_LOGINS
from vpp.peering import Topics, revoke_peer, rotate_secret
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.notifications import mqtt_login, notification

TOPICS = Topics()
BASE = f"openadr3/{TENANT}"


@pytest.fixture
async def store(module_database_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with emptied_store(module_database_url, redis_url) as made:
        yield made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MqttBroker]:
    made = MqttBroker(tmp_path_factory.mktemp("mosquitto"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def objects(store: Store, clock: FixedClock) -> Objects:
    return Objects(store, clock, TOPICS)


def caller(client_id: str, role: PeerRole = PeerRole.VEN) -> Caller:
    return Caller(client_id=client_id, tenant_id=TENANT, role=role, scopes=frozenset())


def notifiers(store: Store, broker: MqttBroker, clock: Clock | None = None) -> MqttNotifiers:
    access = Access(store, clock or SystemClock(), TOPICS)
    return MqttNotifiers(TOPICS, ("mqtts://broker.example.com",), address=broker.address, access=access)


async def let_in(
    store: Store, broker: MqttBroker, client_id: str, role: PeerRole = PeerRole.VEN, *, token: str | None = None
) -> tuple[str, str]:
    """A user name and password, as a caller gets them by `GET /notifiers`."""
    token = token or secrets.token_hex(16)  # the broker outlives a test's database: no login is made twice
    binding = await notifiers(store, broker).mqtt_binding(caller(client_id, role), access_token=token)
    assert binding is not None
    assert binding["authentication"]["method"] == "OAUTH2_BEARER_TOKEN"
    return binding["authentication"]["username"], token


def publisher(
    store: Store, broker: MqttBroker, *, clock: Clock | None = None, box: Outbox | None = None
) -> MqttPublisher:
    rules = Policy(
        first_wait=timedelta(seconds=0.05), longest_wait=timedelta(seconds=0.2), broken_after=10**6,
        chance=Unchanging(), max_attempts=3,
    )  # fmt: skip
    clock = clock or SystemClock()
    box = box or Outbox(store, clock, rules)
    access = Access(store, clock, TOPICS)
    return MqttPublisher(box, broker.address, prefix=TOPICS.prefix, wake=Wake(), access=access)


class NoWebhooks(WebhookWorker):
    """Nobody to call back."""

    def __init__(self) -> None:
        """Need nothing."""

    async def run(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def running(store: Store, made: MqttPublisher) -> AsyncIterator[MqttPublisher]:
    """Publish, woken by the database, until the end of the block."""
    task = asyncio.create_task(run_notify(store, NoWebhooks(), made, made._wake))
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def waiting(store: Store) -> int:
    async with store.begin() as connection:
        return int((await connection.execute(select(func.count()).select_from(notification))).scalar_one())


async def emptied(store: Store) -> None:
    """Return once nothing waits."""
    async with asyncio.timeout(10):
        while await waiting(store):  # noqa: ASYNC110 the queue is in the database
            await asyncio.sleep(0.02)


async def becomes(there: Listener, topic: str, *, allowed: bool) -> None:
    """Return once the broker allows a subscription, or no longer does."""
    async with asyncio.timeout(5):
        while await there.allowed(topic) is not allowed:  # noqa: ASYNC110 only the broker knows
            await asyncio.sleep(0.02)


def names(messages: Sequence[aiomqtt.Message]) -> list[str]:
    return [jsoned(each)["object"]["eventName"] for each in messages]


def jsoned(message: aiomqtt.Message) -> Any:
    return json.loads(message.payload)  # type: ignore[arg-type]


@pytest.mark.conformance("3.1.0", "notifiers", "VTN: access by topic at a real broker", peer="mosquitto")
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_each_client_may_subscribe_to_its_own_topics_only_and_publish_to_none(
    store: Store, objects: Objects, broker: MqttBroker, version: str
) -> None:
    one, two = await objects.client("ven-1"), await objects.client("ven-2")
    logic = await objects.client("bl-1", PeerRole.BL)
    mine, other = await objects.ven(one), await objects.ven(two)
    cases = {
        f"{BASE}/open/programs/+": (True, True), f"{BASE}/open/#": (True, True),
        f"{BASE}/vens/{mine.id}/events/+": (True, True), f"{BASE}/vens/{mine.id}/#": (True, True),
        f"{BASE}/vens/{other.id}/events/+": (False, True), f"{BASE}/vens/+/events/+": (False, True),
        f"{BASE}/bl/events/+": (False, True), f"{BASE}/#": (False, True), "#": (False, False),
        "openadr3/+/open/#": (False, False), "openadr3/other/open/#": (False, False), "$CONTROL/#": (False, False),
        "$CONTROL/dynamic-security/v1/response": (False, False), "$SYS/#": (False, False),
    }  # fmt: skip
    for number, client_id in enumerate((one, logic)):
        role = PeerRole.VEN if client_id == one else PeerRole.BL
        async with listener(broker.port, *await let_in(store, broker, client_id, role), version=version) as there:
            found = {topic: await there.allowed(topic) for topic in cases}
            assert found == {topic: allowed[number] for topic, allowed in cases.items()}
            await there.client.publish(f"{BASE}/open/programs/create", b"forged", qos=1)
            await there.client.publish("$CONTROL/dynamic-security/v1", b'{"commands":[]}', qos=1)
            await asyncio.sleep(0.1)
            assert there.got == []


async def test_who_has_no_login_or_another_password_is_refused(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    name, token = await let_in(store, broker, await objects.client("ven-1"))
    for user, word in ((None, None), (name, "other"), (name, ""), ("ven-1", token), ("nobody", token)):
        with pytest.raises(aiomqtt.MqttError):
            async with listener(broker.port, user, word):
                pass


async def test_two_instances_of_a_client_with_a_token_each_do_not_lock_each_other_out(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    client = await objects.client("ven-1")
    first, second = [await let_in(store, broker, client, token=f"token {number}") for number in range(2)]
    async with listener(broker.port, *first) as one, listener(broker.port, *second) as other:
        assert await let_in(store, broker, client, token="token 0") == first
        assert await one.allowed(f"{BASE}/open/#")
        assert await other.allowed(f"{BASE}/open/#")


@pytest.mark.conformance("3.1.0", "notifiers", "VTN: a targeted event by MQTT", peer="mosquitto")
async def test_a_targeted_event_reaches_the_vens_it_is_for_and_business_logic_and_nobody_else(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    one, two = await objects.client("ven-1"), await objects.client("ven-2")
    logic = await objects.client("bl-1", PeerRole.BL)
    vens = [await objects.ven(one, ["g1"]), await objects.ven(two, ["g2"])]
    program = await objects.program()
    logins = [await let_in(store, broker, each) for each in (one, two)]
    async with (
        running(store, publisher(store, broker)),
        listener(broker.port, *logins[0]) as at_one,
        listener(broker.port, *logins[1], version="5") as at_two,
        listener(broker.port, *await let_in(store, broker, logic, PeerRole.BL)) as at_logic,
    ):
        await emptied(store)
        for there, ven in ((at_one, vens[0]), (at_two, vens[1])):
            assert await there.allowed(f"{BASE}/vens/{ven.id}/events/+")
            assert await there.allowed(f"{BASE}/open/programs/{program.id}/events/+")
        assert await at_logic.allowed(f"{BASE}/bl/events/+")
        secret = await objects.event(program, "secret", ["g1", "g3"])
        await objects.event(program, "open")
        await at_two.until(1)
        await at_one.until(2)
        await at_logic.until(2)
        assert (names(at_one.got), names(at_two.got)) == (["secret", "open"], ["open"])
        assert jsoned(at_one.got[0])["object"] == secret.wire(frozenset({"g1"}))
        assert jsoned(at_logic.got[0]) == {"objectType": "EVENT", "operation": "CREATE", "object": secret.wire()}
        assert {each.qos for each in (*at_one.got, *at_two.got)} == {1}
        (mark,) = at_two.got[0].properties.UserProperty  # type: ignore[union-attr]
        assert mark[0] == "notification-id"


async def test_a_ven_made_later_can_be_read_by_its_client_at_once_and_no_more_when_it_is_gone(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    client = await objects.client("ven-1")
    async with (
        running(store, publisher(store, broker)),
        listener(broker.port, *await let_in(store, broker, client)) as there,
    ):
        await emptied(store)
        ven = await objects.ven(client, ["g1"])
        await becomes(there, f"{BASE}/vens/{ven.id}/#", allowed=True)
        program = await objects.program()
        await objects.event(program, "first", ["g1"])
        await there.until(1)
        await objects.remove(ven)
        await becomes(there, f"{BASE}/vens/{ven.id}/events/+", allowed=False)
        # Its subscription stands, but the broker no longer sends on it.
        async with aiomqtt.Client("127.0.0.1", broker.port, username=ADMIN, password=ADMIN_WORD) as admin:
            await admin.publish(f"{BASE}/vens/{ven.id}/events/create", b"{}", qos=1)
        await asyncio.sleep(0.1)
        assert names(there.got[:1]) == ["first"]
        assert len([each for each in there.got if each.payload == b"{}"]) == 0


async def test_a_revoked_peer_is_thrown_out_and_cannot_come_back(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    login = await let_in(store, broker, await objects.client("ven-1"))
    async with running(store, publisher(store, broker)), listener(broker.port, *login) as there:
        async with store.begin() as connection:
            peer_id = (await connection.execute(text("select id from peer"))).scalar_one()
            await revoke_peer(connection, peer_id, at=objects.clock.now())
        async with asyncio.timeout(5):
            await there.closed.wait()
        with pytest.raises(aiomqtt.MqttError):
            async with listener(broker.port, *login):
                pass


async def test_a_new_secret_ends_the_logins_of_tokens_got_with_the_old_one(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    login = await let_in(store, broker, await objects.client("ven-1"))
    async with running(store, publisher(store, broker)), listener(broker.port, *login) as there:
        async with store.begin() as connection:
            peer_id = (await connection.execute(text("select id from peer"))).scalar_one()
            await rotate_secret(connection, peer_id, tenant_id=TENANT)
        async with asyncio.timeout(5):
            await there.closed.wait()
        with pytest.raises(aiomqtt.MqttError):
            async with listener(broker.port, *login):
                pass
        async with listener(broker.port, *await let_in(store, broker, "ven-1")):
            pass


async def test_a_client_with_ever_new_tokens_has_so_many_logins_and_no_more(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    client, access, names = await objects.client("ven-1"), Access(store, objects.clock, TOPICS), []
    async with connected(broker.address) as admin:
        for number in range(MOST_LOGINS + 2):
            objects.clock.advance(timedelta(seconds=1))
            names.append(await access.let_in(admin, caller(client), f"token-{number}"))
        assert await access.let_in(admin, caller(client), f"token-{MOST_LOGINS + 1}") == names[-1]
    async with store.begin() as connection:
        kept = (await connection.execute(select(mqtt_login.c.username))).scalars().all()
    assert sorted(kept) == sorted(names[2:])
    with pytest.raises(aiomqtt.MqttError):
        async with listener(broker.port, names[0], "token-0"):
            pass
    async with listener(broker.port, names[-1], f"token-{MOST_LOGINS + 1}"):
        pass


async def test_a_login_ends_with_its_token(store: Store, objects: Objects, broker: MqttBroker) -> None:
    ends_at = objects.clock.now() + timedelta(minutes=10)
    token = jwt.encode({"exp": int(ends_at.timestamp())}, "x" * 32)
    client = await objects.client("ven-1")
    access = Access(store, objects.clock, TOPICS)
    made = notifiers(store, broker, objects.clock)
    binding = await made.mqtt_binding(caller(client), access_token=token)
    assert binding is not None
    name = binding["authentication"]["username"]
    async with connected(broker.address) as admin:
        await access.expire(admin)
        async with listener(broker.port, name, token):
            objects.clock.move_to(ends_at)
            await access.expire(admin)
    with pytest.raises(aiomqtt.MqttError):
        async with listener(broker.port, name, token):
            pass
    async with store.begin() as connection:
        assert (await connection.execute(select(mqtt_login))).all() == []


async def test_what_a_broker_holds_beside_ours_is_left_alone_and_what_it_lost_is_made_anew(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    client = await objects.client("ven-1")
    name, _ = await let_in(store, broker, client)
    access = Access(store, FixedClock(SystemClock().now() + timedelta(minutes=2)), TOPICS)
    async with connected(broker.address) as admin:
        await admin.control(
            [
                {"command": "createRole", "rolename": "theirs"}, {"command": "createRole", "rolename": "vpp:old"},
                {"command": "createClient", "username": "their", "password": "x", "roles": [{"rolename": "theirs"}]},
                {"command": "createClient", "username": "old.1", "password": "x", "roles": [{"rolename": "vpp:old"}]},
                {"command": "deleteClient", "username": name},
                {"command": "modifyRole", "rolename": f"vpp:{client}", "acls": []},
            ]
        )  # fmt: skip
        await access.reconcile(admin)
        roles, users = await admin.control([{"command": "listRoles"}, {"command": "listClients"}])
        left = set(roles["data"]["roles"]), set(users["data"]["clients"])
        await admin.control(
            [{"command": "deleteClient", "username": "their"}, {"command": "deleteRole", "rolename": "theirs"}]
        )
    assert {"theirs", f"vpp:{client}"} <= left[0]
    assert "vpp:old" not in left[0]
    assert "their" in left[1]
    assert not {"old.1", name} & left[1]
    async with listener(broker.port, *await let_in(store, broker, client)) as there:
        assert await there.allowed(f"{BASE}/open/#")


async def test_a_broker_that_was_away_loses_nothing_and_keeps_the_order(
    store: Store, objects: Objects, tmp_path: Path
) -> None:
    broker = MqttBroker(tmp_path)
    broker.start()
    client = await objects.client("ven-1")
    program = await objects.program()
    login = await let_in(store, broker, client)
    async with listener(broker.port, *login, session="ven-1") as there:
        assert await there.allowed(f"{BASE}/open/programs/{program.id}/events/+")
    try:
        async with running(store, publisher(store, broker)):
            for number in range(3):
                await objects.event(program, f"e{number}")
            await emptied(store)
            broker.stop()
            for number in range(3, 6):
                await objects.event(program, f"e{number}")
            await asyncio.sleep(0.1)
            assert await waiting(store) == 9
            broker.start()
            await emptied(store)
        async with listener(broker.port, *login, session="ven-1") as there:
            assert names(await there.until(6)) == [f"e{number}" for number in range(6)]
    finally:
        broker.stop()


async def test_a_worker_killed_between_publishing_and_noting_it_publishes_the_same_once_more(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    class Dying(Outbox):
        async def told(self, channel_id: str, ids: Sequence[int]) -> bool:
            raise RuntimeError("killed")

    login = await let_in(store, broker, await objects.client("bl-1", PeerRole.BL), PeerRole.BL)
    async with listener(broker.port, *login, version="5") as there:
        assert await there.allowed(f"{BASE}/bl/programs/+")
        await objects.program()
        with pytest.raises(RuntimeError, match="killed"):
            await publisher(store, broker, box=Dying(store, objects.clock)).run()
        after = Outbox(store, objects.clock)
        assert await after.claim_mqtt() is None
        objects.clock.advance(timedelta(seconds=60))
        async with running(store, publisher(store, broker, box=after)):
            first, second = await there.until(2)
            await emptied(store)
    marks = [each.properties.UserProperty for each in (first, second)]  # type: ignore[union-attr]
    assert marks[0] == marks[1]
    assert first.payload == second.payload


async def test_only_one_worker_publishes_and_another_takes_over_when_it_stops(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    login = await let_in(store, broker, await objects.client("bl-1", PeerRole.BL), PeerRole.BL)
    async with listener(broker.port, *login) as there:
        assert await there.allowed(f"{BASE}/bl/programs/+")
        async with running(store, publisher(store, broker)):
            async with running(store, publisher(store, broker)):
                await objects.program("a")
                await emptied(store)
            await objects.program("b")
            await emptied(store)
        assert [jsoned(each)["object"]["programName"] for each in await there.until(2)] == ["a", "b"]


async def test_a_message_the_broker_never_takes_is_given_up_and_the_rest_goes_on(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    login = await let_in(store, broker, await objects.client("bl-1", PeerRole.BL), PeerRole.BL)
    long = [{"URL": "https://example.com/" + "x" * 300_000}]
    await objects.make(ObjectKind.PROGRAM, {"programName": "too large", "programDescriptions": long})
    await objects.program("b")
    async with listener(broker.port, *login) as there:
        assert await there.allowed(f"{BASE}/bl/programs/+")
        async with running(store, publisher(store, broker)):
            assert jsoned((await there.until(1))[0])["object"]["programName"] == "b"
            await emptied(store)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library's socket of a failed try
async def test_the_broker_is_reached_by_tls_and_only_with_a_certificate_that_is_vouched_for(
    store: Store, objects: Objects, broker: MqttBroker, tmp_path: Path
) -> None:
    word = tmp_path / "credentials"
    word.write_text(f"{ADMIN}:{ADMIN_WORD}\n")
    url = f"mqtts://localhost:{broker.tls_port}"
    for version in ("3.1.1", "5"):
        address = broker_address(url, credentials=word, ca=broker.certificates.ca, version=version)
        async with connected(address) as admin:  # a broker that gives us a role disconnects us for it
            await Access(store, objects.clock, TOPICS).prepare(admin)
        async with connected(address) as admin:
            await admin.check_rights(TOPICS.prefix)
    stranger = certificates(tmp_path, "stranger.example.com").ca
    for ca in (stranger, None):
        with pytest.raises(PeerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            async with connected(broker_address(url, credentials=word, ca=ca)):
                pass


async def test_a_publisher_without_rights_is_told_so_and_keeps_what_waits(
    store: Store, objects: Objects, broker: MqttBroker
) -> None:
    name, token = await let_in(store, broker, await objects.client("ven-1"))
    powerless = BrokerAddress("127.0.0.1", broker.port, None, name, token)
    with pytest.raises(NotReady, match="does not let us publish"):
        async with connected(powerless) as there:
            await there.check_rights(TOPICS.prefix)


@pytest.mark.parametrize(
    "url", ["mqtt://broker.example.com", "http://broker", "mqtts://", "mqtts://user:word@broker.example.com", ""]
)
def test_a_broker_address_that_would_show_passwords_is_refused(url: str) -> None:
    with pytest.raises(NotReady, match="VPP_MQTT_URL"):
        broker_address(url)


async def test_without_a_broker_in_reach_callers_are_told_of_none(store: Store, objects: Objects) -> None:
    access = Access(store, objects.clock, TOPICS)
    nobody = BrokerAddress("127.0.0.1", 1)
    made = MqttNotifiers(TOPICS, ("mqtts://broker.example.com",), address=nobody, access=access)
    assert await made.mqtt_binding(caller(await objects.client("ven-1")), access_token="t") is None
    open_to_all = MqttNotifiers(Topics(only_open=True), ("mqtt://127.0.0.1",))
    assert await open_to_all.mqtt_binding(caller("ven-1"), access_token="t") == {
        "URIS": ["mqtt://127.0.0.1"], "serialization": "JSON", "authentication": {"method": "ANONYMOUS"},
    }  # fmt: skip
    assert await open_to_all.topics("events", caller("bl-1", PeerRole.BL)) is None
