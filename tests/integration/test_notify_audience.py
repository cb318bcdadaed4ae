"""Who is told of a change: exactly who could have read the object, and no more of it than that."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.builders_notify import TENANT, Objects, emptied_store
from tests.clock import FixedClock
from vpp.domain.openadr3 import OLDER_VERSION, ObjectKind
from vpp.domain.peer import PeerRole, Protocol
from vpp.gateway.notify import Outbox
from vpp.peering import MQTT_CHANNEL, NewPeer, Topics, add_peer, revoke_peer
from vpp.peering.openadr3.read import granted_targets
from vpp.store.engine import Store
from vpp.store.tables.notifications import notification, notification_change, notification_channel

CALLBACK = "https://ven.example.com/callback"


@pytest.fixture
async def store(module_database_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with emptied_store(module_database_url, redis_url) as made:
        yield made


@pytest.fixture
def objects(store: Store, clock: FixedClock) -> Objects:
    return Objects(store, clock)


async def told(objects: Objects) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """What waits: who is told, what happened, the object's name, and which targets are shown; then forgets it."""
    query = (
        select(notification_channel.c.client_id, notification_change.c.kind, notification, notification_change.c.object)
        .join(notification_change, notification_change.c.id == notification.c.change_id)
        .join(notification_channel, notification_channel.c.id == notification.c.channel_id)
        .where(notification_channel.c.id != MQTT_CHANNEL)
        .order_by(notification.c.id)
    )
    async with objects.store.begin() as connection:
        rows = (await connection.execute(query)).all()
        await connection.execute(text("truncate notification"))
    return [
        (row.client_id, f"{row.kind} {row.operation}", row.object["name"],
         tuple(row.object["targets"] if row.shown is None else row.shown))
        for row in rows
    ]  # fmt: skip


async def topics_of(objects: Objects) -> list[tuple[str, tuple[str, ...]]]:
    """What waits for the broker, without what every topic begins with; then forgets it."""
    query = (
        select(notification.c.topic, notification.c.shown, notification_change.c.object)
        .join(notification_change, notification_change.c.id == notification.c.change_id)
        .where(notification.c.channel_id == MQTT_CHANNEL)
        .order_by(notification.c.id)
    )
    async with objects.store.begin() as connection:
        rows = (await connection.execute(query)).all()
        await connection.execute(text("truncate notification"))
    begin = f"openadr3/{TENANT}/"
    assert all(row.topic.startswith(begin) for row in rows)
    return [
        (row.topic.removeprefix(begin), tuple(row.object["targets"] if row.shown is None else row.shown))
        for row in rows
    ]


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: objects and operations of a subscription")
async def test_a_subscriber_is_told_of_the_operations_and_kinds_it_asked_for(objects: Objects) -> None:
    ven = await objects.client("ven-1")
    await objects.subscribe(ven, CALLBACK, ["EVENT"], ["CREATE", "DELETE"])
    program = await objects.program()
    event = await objects.event(program)
    event = await objects.change(event, eventName="changed")
    await objects.remove(event)
    assert await told(objects) == [(ven, "EVENT CREATE", "e", ()), (ven, "EVENT DELETE", "changed", ())]


SIGHT: list[tuple[Sequence[str], Any, Sequence[str], tuple[str, ...] | None]] = [
    (["g1"], ["g1"], ["g1", "g2"], ("g1",)),
    (["g1", "g2"], ["g1", "g2"], ["g1", "g2", "g3"], ("g1", "g2")),
    (["g1"], ["g1", "g2"], ["g2"], None),
    (["g2"], ["g1"], ["g2"], None),
    (["g1"], None, ["g1"], None),
    (["g1"], ["g1"], [], None),
    ([], ["g1"], ["g1"], None),
    ([], None, [], ()),
    (["g1"], None, [], ()),
    (["g1"], [], [], ()),
]
"""Targets granted, asked for and on the event, and those shown (None: it is not told at all)."""


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: notifications heed granted targets")
async def test_a_ven_is_told_only_of_targets_it_asked_for_and_was_granted(objects: Objects) -> None:
    for number, (granted, asked, on_event, seen) in enumerate(SIGHT):
        for by in ("peer", "ven", "resource"):
            name = f"{by}-{number}"
            client = await objects.client(name, granted=granted if by == "peer" else ())
            ven = await objects.ven(client, granted if by == "ven" else ())
            if by == "resource":
                body = {"resourceName": "r", "venID": ven.id, "targets": list(granted)}
                await objects.make(ObjectKind.RESOURCE, body, client_id=client)
            program = await objects.program(name)
            await objects.subscribe(client, CALLBACK, targets=asked, programID=program.id)
            await objects.event(program, targets=on_event)
            expected = [] if seen is None else [(client, "EVENT CREATE", "e", seen)]
            assert await told(objects) == expected, (granted, asked, on_event, by)


async def test_a_subscriber_of_the_older_version_that_names_no_targets_is_told_of_all_it_was_granted(
    objects: Objects,
) -> None:
    client = await objects.client("ven-1", granted=["g1"])
    await objects.subscribe(client, CALLBACK, version=OLDER_VERSION)
    program = await objects.program()
    await objects.event(program, targets=["g1", "g2"])
    await objects.event(program, targets=["g2"])
    await objects.event(program)
    assert [each[3] for each in await told(objects)] == [("g1",), ()]


async def test_business_logic_is_told_of_everything_with_every_target(objects: Objects) -> None:
    logic, ven = await objects.client("bl-1", PeerRole.BL), await objects.client("ven-1")
    await objects.subscribe(logic, CALLBACK, ["PROGRAM", "EVENT", "VEN"])
    await objects.subscribe(logic, CALLBACK, ["EVENT"], targets=["g9"])
    program = await objects.program(targets=["g1"])
    await objects.event(program, targets=["g1", "g2"])
    made = await objects.ven(ven, ["g1"])
    assert await told(objects) == [
        (logic, "PROGRAM CREATE", "p", ("g1",)),
        (logic, "EVENT CREATE", "e", ("g1", "g2")),
        (logic, "VEN CREATE", made.name, ("g1",)),
    ]


async def test_what_belongs_to_one_ven_is_told_to_it_and_to_no_other(objects: Objects) -> None:
    mine, other = await objects.client("ven-1"), await objects.client("ven-2")
    kinds = ["VEN", "RESOURCE", "REPORT", "SUBSCRIPTION"]
    for client in (mine, other):
        await objects.subscribe(client, CALLBACK, kinds)
    await told(objects)
    ven = await objects.ven(mine)
    await objects.make(ObjectKind.RESOURCE, {"resourceName": "r", "venID": ven.id}, client_id=mine)
    event = await objects.event(await objects.program())
    report = {"eventID": event.id, "clientName": "c", "resources": []}
    await objects.make(ObjectKind.REPORT, report, client_id=mine)
    await objects.subscribe(mine, "https://ven.example.com/other", token="hush")
    assert [each[:2] for each in await told(objects)] == [
        (mine, "VEN CREATE"), (mine, "RESOURCE CREATE"), (mine, "REPORT CREATE"), (mine, "SUBSCRIPTION CREATE"),
    ]  # fmt: skip


async def test_the_token_of_a_subscription_is_told_to_nobody(objects: Objects) -> None:
    logic, ven = await objects.client("bl-1", PeerRole.BL), await objects.client("ven-1")
    await objects.subscribe(logic, CALLBACK, ["SUBSCRIPTION"])
    await objects.subscribe(ven, CALLBACK, token="hush")
    async with objects.store.begin() as connection:
        kept = (await connection.execute(select(notification_change.c.object))).scalar_one()
    assert CALLBACK in kept["text"]
    assert "hush" not in kept["text"]


async def test_a_subscription_to_one_program_hears_of_no_other(objects: Objects) -> None:
    ven = await objects.client("ven-1")
    mine, other = await objects.program("mine"), await objects.program("other")
    await objects.subscribe(ven, CALLBACK, ["PROGRAM", "EVENT", "VEN"], programID=mine.id)
    for program in (mine, other):
        await objects.event(program, name=f"in {program.name}")
        await objects.change(program, programDescriptions=[])
    made = await objects.ven(ven)
    expected = [("EVENT CREATE", "in mine"), ("PROGRAM UPDATE", "mine"), ("VEN CREATE", made.name)]
    assert [each[1:3] for each in await told(objects)] == expected


async def test_an_event_that_leaves_a_vens_sight_was_deleted_and_one_that_enters_it_was_created(
    objects: Objects,
) -> None:
    ven = await objects.client("ven-1", granted=["g1"])
    await objects.subscribe(ven, CALLBACK, targets=["g1"])
    event = await objects.event(await objects.program(), name="first", targets=["g1"])
    event = await objects.change(event, eventName="secret", targets=["g2"])
    event = await objects.change(event, eventName="secret still", targets=["g2"])
    event = await objects.change(event, eventName="back", targets=["g1", "g2"])
    await objects.remove(event)
    assert await told(objects) == [
        (ven, "EVENT CREATE", "first", ("g1",)), (ven, "EVENT DELETE", "first", ("g1",)),
        (ven, "EVENT CREATE", "back", ("g1",)), (ven, "EVENT DELETE", "back", ("g1",)),
    ]  # fmt: skip


async def test_a_program_that_is_deleted_is_told_also_to_the_subscriptions_it_takes_with_it(objects: Objects) -> None:
    ven = await objects.client("ven-1")
    program = await objects.program()
    await objects.subscribe(ven, CALLBACK, ["PROGRAM", "EVENT"], programID=program.id)
    await objects.event(program)
    await objects.remove(program)
    assert [each[1] for each in await told(objects)] == ["EVENT CREATE", "EVENT DELETE", "PROGRAM DELETE"]


async def test_a_deleted_subscription_hears_of_nothing_new_and_its_channel_ends(
    objects: Objects, store: Store, clock: FixedClock
) -> None:
    ven = await objects.client("ven-1")
    subscription = await objects.subscribe(ven, CALLBACK)
    program = await objects.program()
    await objects.remove(subscription)
    await objects.event(program)
    assert await told(objects) == []
    await Outbox(store, clock).sweep()
    async with store.begin() as connection:
        assert (await connection.execute(select(notification_channel.c.id))).all() == []
        assert (await connection.execute(select(notification_change.c.id))).all() == []


async def test_a_revoked_peer_is_told_nothing(objects: Objects) -> None:
    logic = await objects.client("bl-1", PeerRole.BL)
    await objects.subscribe(logic, CALLBACK, ["PROGRAM"])
    async with objects.store.begin() as connection:
        peer_id = (await connection.execute(text("select id from peer"))).scalar_one()
        await revoke_peer(connection, peer_id, at=objects.clock.now())
    await objects.program()
    assert await told(objects) == []


async def test_what_waited_for_a_peer_is_not_told_once_it_is_revoked(
    store: Store, clock: FixedClock, objects: Objects
) -> None:
    ven = await objects.client("ven-1")
    await objects.subscribe(ven, CALLBACK, ["PROGRAM"])
    await objects.program()
    outbox = Outbox(store, clock)
    assert await outbox.next_due_at() is not None
    async with store.begin() as connection:
        peer_id = (await connection.execute(text("select id from peer"))).scalar_one()
        await revoke_peer(connection, peer_id, at=clock.now())
    assert await outbox.next_due_at() is None
    assert await outbox.claim(limit=10) == []


async def test_a_ven_is_told_of_events_targeted_at_the_name_it_was_configured_with(
    store: Store, clock: FixedClock, objects: Objects
) -> None:
    ven = await objects.client("ven-1")
    async with store.begin() as connection:
        await connection.execute(text("update peer set party_id = 'ven-one'"))
    await objects.subscribe(ven, CALLBACK, ["EVENT"], targets=["ven-one"])
    program = await objects.program()
    await objects.event(program, targets=["ven-one", "another"])
    assert await told(objects) == [(ven, "EVENT CREATE", "e", ("ven-one",))]
    topics = Objects(store, clock, Topics())
    found = await topics.ven(ven)
    await topics_of(topics)
    await topics.event(program, targets=["ven-one"])
    assert f"vens/{found.id}/events/create" in [topic for topic, _ in await topics_of(topics)]


async def test_a_vtn_above_us_that_knows_us_by_the_same_id_changes_nothing_for_those_below(
    store: Store, clock: FixedClock, objects: Objects
) -> None:
    ven = await objects.client("ven-1", granted=["g1"])
    above = NewPeer(
        tenant_id=TENANT, protocol=Protocol.OPENADR3, role=PeerRole.VTN, name="above", client_id=ven,
        url="https://vtn.example", granted_targets=("g2",),
    )  # fmt: skip
    async with store.begin() as connection:
        await add_peer(connection, above, at=clock.now())
    await objects.subscribe(ven, CALLBACK, ["EVENT"], targets=["g1", "g2"])
    program = await objects.program()
    await objects.event(program, targets=["g1", "g2"])
    assert await told(objects) == [(ven, "EVENT CREATE", "e", ("g1",))]
    async with store.begin() as connection:
        assert await granted_targets(connection, ven, tenant_id=TENANT) >= {"g1"}
        assert "g2" not in await granted_targets(connection, ven, tenant_id=TENANT)


async def test_a_change_that_is_undone_is_told_to_nobody(objects: Objects) -> None:
    ven = await objects.client("ven-1")
    await objects.subscribe(ven, CALLBACK, ["PROGRAM"])
    await objects.program("taken")
    assert len(await told(objects)) == 1
    with pytest.raises(Exception, match="taken"):
        await objects.program("taken")
    assert await told(objects) == []


async def test_a_targeted_event_is_published_to_business_logic_and_to_the_vens_it_is_for_only(
    store: Store, clock: FixedClock
) -> None:
    objects = Objects(store, clock, Topics())
    both, one, none = [await objects.client(f"ven-{number}") for number in range(3)]
    vens = [await objects.ven(both, ["g1", "g2"]), await objects.ven(one, ["g1"]), await objects.ven(none)]
    program = await objects.program()
    await topics_of(objects)
    event = await objects.event(program, targets=["g1", "g2", "g3"])
    every = ("g1", "g2", "g3")
    assert await topics_of(objects) == [
        ("bl/events/create", every), (f"bl/programs/{program.id}/events/create", every),
        (f"vens/{vens[0].id}/events/create", ("g1", "g2")), (f"vens/{vens[1].id}/events/create", ("g1",)),
    ]  # fmt: skip
    await objects.change(event, targets=["g2"])
    assert await topics_of(objects) == [
        ("bl/events/update", ("g2",)), (f"bl/programs/{program.id}/events/update", ("g2",)),
        (f"vens/{vens[0].id}/events/update", ("g2",)), (f"vens/{vens[1].id}/events/delete", ("g1",)),
    ]  # fmt: skip


async def test_what_has_no_targets_is_published_once_for_everyone(store: Store, clock: FixedClock) -> None:
    objects = Objects(store, clock, Topics())
    await objects.ven(await objects.client("ven-1"), ["g1"])
    await topics_of(objects)
    program = await objects.program()
    await objects.event(program)
    await objects.change(program, programDescriptions=[])
    assert [topic for topic, _ in await topics_of(objects)] == [
        "bl/programs/create", "open/programs/create",
        "bl/events/create", f"bl/programs/{program.id}/events/create", f"open/programs/{program.id}/events/create",
        "bl/programs/update", f"bl/programs/{program.id}/update",
        "open/programs/update", f"open/programs/{program.id}/update",
    ]  # fmt: skip


async def test_a_ven_and_its_resources_are_published_to_itself(store: Store, clock: FixedClock) -> None:
    objects = Objects(store, clock, Topics())
    client = await objects.client("ven-1")
    ven = await objects.ven(client)
    await objects.make(ObjectKind.RESOURCE, {"resourceName": "r", "venID": ven.id}, client_id=client)
    await objects.change(ven, venName="other")
    assert [topic for topic, _ in await topics_of(objects)] == [
        "bl/vens/create", "bl/resources/create", f"vens/{ven.id}/resources/create",
        "bl/vens/update", f"bl/vens/{ven.id}/update", f"vens/{ven.id}/update",
    ]  # fmt: skip


async def test_a_broker_that_knows_no_users_is_told_only_what_everybody_may_know(
    store: Store, clock: FixedClock
) -> None:
    objects = Objects(store, clock, Topics(only_open=True))
    await objects.ven(await objects.client("ven-1"), ["g1"])
    program = await objects.program()
    await objects.event(program, targets=["g1"])
    await objects.event(program)
    topics = [topic for topic, _ in await topics_of(objects)]
    assert topics == ["open/programs/create", f"open/programs/{program.id}/events/create"]


@pytest.mark.parametrize(
    ("role", "path", "expected"),
    [
        (PeerRole.BL, "programs", "bl/programs/+"), (PeerRole.VEN, "programs", "open/programs/+"),
        (PeerRole.BL, "programs/p1", "bl/programs/p1/+"), (PeerRole.VEN, "programs/p1", "open/programs/p1/+"),
        (PeerRole.BL, "programs/p1/events", "bl/programs/p1/events/+"),
        (PeerRole.VEN, "programs/p1/events", "open/programs/p1/events/+"),
        (PeerRole.BL, "events", "bl/events/+"), (PeerRole.VEN, "events", None),
        (PeerRole.BL, "reports", "bl/reports/+"), (PeerRole.BL, "vens/v1/events/more", None), (PeerRole.BL, "", None),
        (PeerRole.BL, "subscriptions", "bl/subscriptions/+"), (PeerRole.BL, "vens", "bl/vens/+"),
        (PeerRole.BL, "resources", "bl/resources/+"), (PeerRole.VEN, "vens", None), (PeerRole.VEN, "resources", None),
        (PeerRole.VEN, "vens/v1", "vens/v1/+"), (PeerRole.VEN, "vens/v1/events", "vens/v1/events/+"),
        (PeerRole.BL, "vens/v1/programs", "vens/v1/programs/+"),
        (PeerRole.VEN, "vens/v1/resources", "vens/v1/resources/+"),
        (PeerRole.BL, "vens/v1/secrets", None), (PeerRole.BL, "nothing", None), (PeerRole.BL, "programs/p1/vens", None),
    ],
)  # fmt: skip
def test_topics_are_named_by_operation(role: PeerRole, path: str, expected: str | None) -> None:
    named = Topics("adr").named("a/b", role, path)
    if expected is None:
        assert named is None
        return
    base = f"adr/a%2Fb/{expected.removesuffix('/+')}"
    one_object = path.count("/") == 1
    words = ("UPDATE", "DELETE") if one_object else ("CREATE", "UPDATE", "DELETE")
    assert named == {word: f"{base}/{word.lower()}" for word in words} | {"ALL": f"{base}/+"}
