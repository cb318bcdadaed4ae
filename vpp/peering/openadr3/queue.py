"""Queues what subscribers are to be told, in the transaction of the change itself: `Changes` for our VTN.

Called by `shelf.py`; the rows are told by `vpp/gateway/notify`. A subscription has one channel for each of its
callback addresses; the MQTT broker is one channel for all. What is queued on a channel is told in order.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr3 import VERSION, Change, ObjectKind, Operation, StoredObject
from vpp.peering.openadr3.audience import MQTT_CHANNEL, Telling, mqtt_tellings, webhook_tellings
from vpp.peering.openadr3.snapshots import snapshot
from vpp.peering.openadr3.topics import Topics
from vpp.store.tables.notifications import notification as notifications
from vpp.store.tables.notifications import notification_change as changes
from vpp.store.tables.notifications import notification_channel as channels

NOTIFICATION_CHANNEL = "vpp_notification"
"""The PostgreSQL channel that says there is something to tell."""
ACCESS_CHANNEL = "vpp_mqtt_access"
"""The PostgreSQL channel on which a client is named whose VENs, and so whose topics, changed."""
OLDER_WORDS: Mapping[str, str] = {"GET": "READ", "POST": "CREATE", "PUT": "UPDATE"}
"""3.0.1's words for operations, and 3.1's."""


class NotificationQueue:
    """`Changes` that queues for subscribers' callbacks and, with `topics`, for an MQTT broker."""

    def __init__(self, topics: Topics | None = None) -> None:
        self._topics = topics

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        """Queue what is to be told of a change, and keep the channels as subscriptions are."""
        tellings = await webhook_tellings(connection, change)
        if self._topics is not None:
            tellings += await mqtt_tellings(connection, change, self._topics)
        if tellings:
            await _queue(connection, change, tellings)
        if change.object.kind is ObjectKind.SUBSCRIPTION:
            await _keep_channels(connection, change)
        if change.object.kind is ObjectKind.VEN and self._topics is not None:
            clients = {state.client_id for state in (change.object, change.before) if state is not None}
            for client_id in sorted(each for each in clients if each is not None):
                await connection.execute(select(func.pg_notify(ACCESS_CHANNEL, client_id)))


async def _queue(connection: AsyncConnection, change: Change, tellings: list[Telling]) -> None:
    if any(each.channel_id == MQTT_CHANNEL for each in tellings):
        await connection.execute(
            upsert(channels).values(_channel(MQTT_CHANNEL, change)).on_conflict_do_nothing(index_elements=["id"])
        )
    states = list({id(each.object): each.object for each in tellings}.values())
    kept: dict[int, int] = {}
    for state in states:
        row = {"at": change.at, "kind": state.kind.value, "object": snapshot(state)}
        kept[id(state)] = (await connection.execute(insert(changes).returning(changes.c.id), row)).scalar_one()
    rows = [
        {
            "change_id": kept[id(each.object)], "channel_id": each.channel_id, "operation": each.operation.value,
            "shown": sorted(each.shown) if each.shown != frozenset(each.object.targets) else None,
            "topic": each.topic, "attempts": 0, "created_at": change.at,
        }
        for each in tellings
    ]  # fmt: skip
    await connection.execute(insert(notifications), rows)
    await connection.execute(text(f"notify {NOTIFICATION_CHANNEL}"))


def _channel(channel_id: str, change: Change, **values: Any) -> dict[str, Any]:
    return {
        "id": channel_id, "tenant_id": None, "subscription_id": None, "client_id": None, "callback_url": None,
        "bearer_token": None, "api_version": VERSION, "wants": [], "program_id": None, "targets": None,
        "created_at": change.at, "next_attempt_at": change.at, "failures": 0, "gone": False, "ending": False,
    } | values  # fmt: skip


async def _keep_channels(connection: AsyncConnection, change: Change) -> None:
    """Make a subscription's channels what its callbacks are now; a replaced one is trusted anew."""
    found = change.object
    of_subscription = channels.c.subscription_id == found.id
    if change.operation is Operation.DELETE:
        # What was queued is told once more: a programme deleted takes its subscriptions with it.
        await connection.execute(update(channels).where(of_subscription).values(ending=True))
        return
    wanted = {each["id"]: each for each in _channels_of(found, change)}
    before = set((await connection.execute(select(channels.c.id).where(of_subscription))).scalars())
    for row in wanted.values():
        statement = upsert(channels).values(row)
        fresh = {name: statement.excluded[name] for name in row if name not in ("id", "created_at")}
        forgiven = {"first_failed_at": None, "last_error": None, "broken_at": None}
        await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=fresh | forgiven))
    for gone in sorted(before - set(wanted)):
        await _move(connection, gone, wanted.values())
        await connection.execute(delete(channels).where(channels.c.id == gone))
    await connection.execute(text(f"notify {NOTIFICATION_CHANNEL}"))


async def _move(connection: AsyncConnection, gone: str, to: Iterable[Mapping[str, Any]]) -> None:
    """What waits for an address the subscription no longer has is told at the one that took over its subject."""
    for row in to:
        subject = changes.c.kind + " " + notifications.c.operation
        await connection.execute(
            update(notifications)
            .where(
                notifications.c.change_id == changes.c.id,
                notifications.c.channel_id == gone,
                subject.in_(row["wants"]),
            )
            .values(channel_id=row["id"])
        )


def _channels_of(found: StoredObject, change: Change) -> list[dict[str, Any]]:
    body = found.wire()
    made: dict[str, dict[str, Any]] = {}
    for each in body.get("objectOperations") or ():
        url = each["callbackUrl"]
        channel_id = f"{found.id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        row = made.setdefault(
            channel_id,
            _channel(
                channel_id, change, tenant_id=found.tenant_id, subscription_id=found.id, client_id=found.client_id,
                callback_url=url, api_version=found.api_version, program_id=found.program_id,
                targets=list(found.targets) or None,
            ),
        )  # fmt: skip
        row["bearer_token"] = row["bearer_token"] or each.get("bearerToken")
        wants = {
            f"{kind} {OLDER_WORDS.get(operation, operation)}"
            for kind in each["objects"]
            for operation in each["operations"]
        }
        row["wants"] = sorted(wants.union(row["wants"]))
    return list(made.values())
