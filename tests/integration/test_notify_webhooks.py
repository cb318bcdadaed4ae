"""Webhooks against a real server: signed, in order, tried again, given up, and never lost with a worker."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from tests.builders_notify import TENANT, Objects, Received, Receiver, emptied_store, receiver, worker
from tests.clock import FixedClock
from vpp.domain.openadr3 import OLDER_VERSION, ObjectKind
from vpp.domain.peer import PeerRole
from vpp.gateway.notify import Outbox
from vpp.peering import NotificationQueue, Topics, create_object, list_channels
from vpp.store.engine import Store
from vpp.store.tables.notifications import notification, notification_channel

SECOND = timedelta(seconds=1)


@pytest.fixture
async def store(module_database_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with emptied_store(module_database_url, redis_url) as made:
        yield made


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
def objects(store: Store, clock: FixedClock) -> Objects:
    return Objects(store, clock)


async def subscribed(objects: Objects, there: Receiver, kinds: tuple[str, ...] = ("PROGRAM",), **more: object) -> str:
    client = await objects.client("bl-1", PeerRole.BL)
    await objects.subscribe(client, there.url, kinds, **more)  # type: ignore[arg-type]
    return client


async def channel(objects: Objects) -> dict[str, object]:
    async with objects.store.begin() as connection:
        return dict((await connection.execute(select(notification_channel))).one()._mapping)


async def waiting(objects: Objects) -> int:
    async with objects.store.begin() as connection:
        return int((await connection.execute(select(func.count()).select_from(notification))).scalar_one())


def names(told: list[Received]) -> list[str]:
    return [each.json()["object"]["programName"] for each in told]


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: notification body, bearer token and HMAC")
async def test_a_notification_says_what_happened_and_shows_who_says_it(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there, token="wörd")
    program = await objects.program("prögram", targets=["g1"])
    await worker(objects.store, objects.clock).turn()
    (told,) = there.told
    assert told.json() == {"objectType": "PROGRAM", "operation": "CREATE", "object": program.wire()}
    assert told.headers["content-type"] == "application/json"
    at, said = told.headers["webhook-timestamp"], told.headers["webhook-id"]
    assert int(at) == int(objects.clock.now().timestamp())
    # Computed as a receiver would, from nothing but what arrived and the token it gave.
    signed = said.encode() + b"." + at.encode() + b"." + told.body
    expected = base64.b64encode(hmac.digest("wörd".encode(), signed, hashlib.sha256)).decode()
    assert told.headers["webhook-signature"] == f"v1,{expected}"
    assert told.headers["authorization"] == "Bearer wörd"


async def test_without_a_token_nothing_is_signed_and_none_is_sent(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there)
    await objects.program()
    await worker(objects.store, objects.clock).turn()
    assert not {"authorization", "webhook-signature"} & set(there.told[0].headers)


@pytest.mark.conformance("3.0.1", "subscriptions", "VTN: notifications in the words of 3.0.1")
async def test_a_subscription_of_the_older_version_hears_its_words(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there, version=OLDER_VERSION)
    program = await objects.change(await objects.program(), programDescriptions=[])
    await objects.remove(program)
    await worker(objects.store, objects.clock).turn()
    assert [each.json()["operation"] for each in there.told] == ["POST", "PUT", "DELETE"]


async def test_order_is_kept_over_failures_and_nothing_is_told_twice(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there)
    for number in range(5):
        await objects.program(f"p{number}")
    there.answers = [200, 200, 503]
    tell = worker(objects.store, objects.clock)
    await tell.turn()
    assert names(there.told) == ["p0", "p1", "p2"]
    await tell.turn()
    assert len(there.told) == 3  # not yet due
    objects.clock.advance(5 * SECOND)
    await tell.turn()
    assert names(there.told) == ["p0", "p1", "p2", "p2", "p3", "p4"]
    assert there.told[2].headers["webhook-id"] == there.told[3].headers["webhook-id"]
    assert len({each.headers["webhook-id"] for each in there.told}) == 5
    assert await waiting(objects) == 0


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: back-off")
async def test_waits_double_up_to_five_minutes(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there)
    await objects.program()
    there.answers = [500] * 8
    tell, waits = worker(objects.store, objects.clock, broken_after=99), []
    for _ in range(8):
        before = objects.clock.now()
        await tell.turn()
        due_at = await tell.outbox.next_due_at()
        assert due_at is not None
        waits.append((due_at - before).total_seconds())
        objects.clock.move_to(due_at)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert len(there.told) == 8


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: broken callbacks are marked")
async def test_a_callback_that_keeps_failing_is_marked_broken_tried_seldom_and_mends_itself(
    objects: Objects, there: Receiver
) -> None:
    await subscribed(objects, there)
    await objects.program()
    tell = worker(objects.store, objects.clock, broken_after=3, broken_for=20 * SECOND)
    there.answers = [500] * 4
    with capture_logs() as logs:
        for wait in (5, 10, 20):
            await tell.turn()
            assert (await channel(objects))["broken_at"] is None
            objects.clock.advance(wait * SECOND)
        await tell.turn()
    broken = await channel(objects)
    assert broken["broken_at"] == objects.clock.now()
    assert (broken["failures"], broken["last_error"]) == (4, "status 500")
    assert [each["event"] for each in logs].count("a callback is broken") == 1
    async with objects.store.begin() as connection:
        (shown,) = await list_channels(connection, tenant_id=TENANT, broken=True)
    assert (shown.client_id, shown.callback_url, shown.waiting) == ("bl-1", there.url, 1)
    assert shown.broken_at == objects.clock.now()
    assert await tell.outbox.next_due_at() == objects.clock.now() + timedelta(hours=1)
    objects.clock.advance(timedelta(hours=1))
    await tell.turn()
    mended = await channel(objects)
    assert (mended["broken_at"], mended["failures"], mended["last_error"]) == (None, 0, None)
    assert await waiting(objects) == 0


async def test_gone_is_broken_at_once_until_the_subscription_is_replaced(objects: Objects, there: Receiver) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    subscription = await objects.subscribe(client, there.url, ["PROGRAM"])
    await objects.program()
    there.answers = [410]
    tell = worker(objects.store, objects.clock)
    await tell.turn()
    objects.clock.advance(timedelta(hours=2))
    await tell.turn()
    assert len(there.told) == 1
    assert (await channel(objects))["gone"] is True
    await objects.change(subscription, clientName="again")
    await tell.turn()
    assert names(there.told) == ["p", "p"]
    assert (await channel(objects))["broken_at"] is None


async def test_what_waits_goes_to_the_new_address_of_a_subscription_that_moved(
    objects: Objects, there: Receiver
) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    subscription = await objects.subscribe(client, there.url + "/old", ["PROGRAM", "EVENT"])
    await objects.event(await objects.program())
    moved = [{"objects": ["EVENT"], "operations": ["CREATE"], "callbackUrl": there.url + "/new"}]
    await objects.change(subscription, objectOperations=moved)
    objects.clock.advance(SECOND)
    await worker(objects.store, objects.clock).turn()
    assert [(each.path, each.json()["objectType"]) for each in there.told] == [("/callback/new", "EVENT")]


async def test_a_redirect_is_a_failure_and_is_not_followed(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there)
    await objects.program()
    there.answers = [307]
    await worker(objects.store, objects.clock).turn()
    assert [each.path for each in there.requests] == ["/callback"]
    assert (await channel(objects))["last_error"] == "status 307"


async def test_an_address_is_guarded_at_every_delivery_too(objects: Objects, there: Receiver) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    await objects.subscribe(client, "https://10.0.0.1/callback", ["PROGRAM"])
    await objects.program()
    await worker(objects.store, objects.clock).turn()
    assert "public addresses only" in str((await channel(objects))["last_error"])


async def test_a_slow_subscriber_holds_up_no_other_and_is_given_up_after_the_deadline(
    objects: Objects, there: Receiver
) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    async with receiver() as slow:
        slow.behaviour = "silent"
        await objects.subscribe(client, slow.url, ["PROGRAM"])
        for number in range(4):
            await objects.subscribe(client, f"{there.url}/{number}", ["PROGRAM"])
        await objects.program()
        tell = worker(objects.store, objects.clock, deadline_s=3.0, at_once=2)
        turn = asyncio.create_task(tell.turn())
        await there.until_told(4, within_s=2.5)
        await asyncio.sleep(0.1)  # so that nothing but the slow one is on its way
        await objects.program("another")
        tell.wake.set()
        await there.until_told(8)
        assert slow.at_once == 1
        await turn
        assert len(slow.requests) == 1
    async with objects.store.begin() as connection:
        query = select(notification_channel.c.last_error).where(notification_channel.c.failures > 0)
        assert (await connection.execute(query)).scalars().all() == ["no answer within 3 s"]


async def test_no_more_callbacks_are_on_the_way_than_allowed(objects: Objects, there: Receiver) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    for number in range(9):
        await objects.subscribe(client, f"{there.url}/{number}", ["PROGRAM"])
    await objects.program()
    there.slow_s = 0.05
    await worker(objects.store, objects.clock, at_once=3).turn()
    assert (len(there.told), there.most_at_once) == (9, 3)


async def test_two_workers_share_the_queue_and_tell_everything_once(objects: Objects, there: Receiver) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    for number in range(6):
        await objects.subscribe(client, f"{there.url}/{number}", ["PROGRAM"])
    for number in range(3):
        await objects.program(f"p{number}")
    workers = [worker(objects.store, objects.clock, at_once=2) for _ in range(2)]
    await asyncio.gather(*(each.turn() for each in workers))
    for number in range(6):
        assert names([each for each in there.told if each.path.endswith(f"/{number}")]) == ["p0", "p1", "p2"]


async def test_a_worker_killed_between_telling_and_noting_it_leads_to_the_same_id_once_more(
    objects: Objects, there: Receiver
) -> None:
    await subscribed(objects, there)
    await objects.program()
    there.slow_s = 0.1
    killed = asyncio.create_task(worker(objects.store, objects.clock).turn())
    await there.until_told(1)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    there.slow_s, other = 0.0, worker(objects.store, objects.clock)
    await other.turn()
    assert len(there.told) == 1  # still claimed by the one that died
    objects.clock.advance(60 * SECOND)
    await other.turn()
    assert len({each.headers["webhook-id"] for each in there.told}) == 1
    assert (len(there.told), await waiting(objects)) == (2, 0)


async def test_what_is_too_old_tried_too_often_or_too_much_is_given_up(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there)
    await objects.program("old")
    objects.clock.advance(timedelta(hours=25))
    for number in range(5):
        await objects.program(f"p{number}")
    tell = worker(objects.store, objects.clock, most_waiting=3, max_attempts=2)
    assert await tell.outbox.sweep() == 3
    there.answers = [500, 500]
    for _ in range(3):
        await tell.turn()
        objects.clock.advance(timedelta(minutes=1))
    assert names(there.told) == ["p2", "p2", "p3", "p4"]
    assert await tell.outbox.sweep() == 0


async def test_the_queue_is_left_clean(objects: Objects, there: Receiver) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    subscription = await objects.subscribe(client, there.url, ["PROGRAM", "SUBSCRIPTION"])
    await objects.program()
    await objects.remove(subscription)
    tell = worker(objects.store, objects.clock)
    await tell.turn()
    await tell.outbox.sweep()
    assert [each.json()["objectType"] for each in there.told] == ["PROGRAM", "SUBSCRIPTION"]
    assert await tell.outbox.next_due_at() is None
    async with objects.store.begin() as connection:
        assert (await connection.execute(select(notification_channel))).all() == []


async def test_an_object_that_could_break_json_arrives_as_it_was(objects: Objects, there: Receiver) -> None:
    await subscribed(objects, there, ("VEN",))
    ven = await objects.make(ObjectKind.VEN, {"venName": 'a"b\\c\n</script>\u2028', "attributes": []}, client_id="bl-1")
    await worker(objects.store, objects.clock).turn()
    assert json.loads(there.told[0].body)["object"] == ven.wire()


async def test_a_token_that_no_header_can_carry_is_a_failure_of_its_own_channel_only(
    objects: Objects, there: Receiver
) -> None:
    client = await objects.client("bl-1", PeerRole.BL)
    await objects.subscribe(client, there.url + "/bad", ["PROGRAM"], token="a\r\nX-Other: b")
    await objects.subscribe(client, there.url + "/good", ["PROGRAM"])
    await objects.program()
    await worker(objects.store, objects.clock).turn()
    assert [each.path for each in there.told] == ["/callback/good"]


async def test_what_is_being_queued_keeps_nobody_from_telling_what_is(
    store: Store, clock: FixedClock, there: Receiver
) -> None:
    """An MQTT session would end each time, and with enough changes nothing would ever be published."""
    queue = NotificationQueue(Topics())
    objects, box = Objects(store, clock, Topics()), Outbox(store, clock)
    await subscribed(objects, there)
    await objects.program("a")
    draft = objects.draft(ObjectKind.PROGRAM, {"programName": "b"})
    async with store.begin() as connection:
        await create_object(connection, draft, at=clock.now(), changes=queue)
        assert await box.claim_mqtt() is not None
        assert len(await box.claim(limit=5)) == 1
