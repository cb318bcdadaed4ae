"""What is written with every distribution and every answer, many VENs at once. Called by `writer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from vpp.domain.grid_event import EventStatus

ANSWER_CHANNEL = "vpp_vtn2_answer"
"""The PostgreSQL channel on which the id of an event is told to which VENs answered."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event is about to be told to one VEN."""

    peer_id: str
    event_id: str
    modification_number: int
    status: EventStatus
    at: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """One VEN answered one version of one event; `settled_status` is the status it had been told with it."""

    peer_id: str
    event_id: str
    modification_number: int
    settled_status: EventStatus | None
    opt_in: bool
    code: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """A queued message is about to be sent once more."""

    peer_id: str
    id: int
    at: datetime


Change = Told | Answered | Sent

_TOLD = b"""
    insert into vtn2_delivery as d (peer_id, event_id, told_modification, told_status, told_count, told_at, tenant_id)
    select *, (select tenant_id from peer where peer.id = peer_id) from unnest(
        %(peers)s::text[], %(events)s::text[], %(numbers)s::integer[], %(statuses)s::text[],
        %(counts)s::integer[], %(ats)s::timestamptz[]
    ) as new (peer_id, event_id, number, status, count, at)
    on conflict (peer_id, event_id) do update set
        told_count = case
            when d.told_modification = excluded.told_modification and d.told_status = excluded.told_status
            then d.told_count + 1 else 1 end,
        told_modification = excluded.told_modification, told_status = excluded.told_status,
        told_at = excluded.told_at
"""
_ANSWERED = b"""
    with written as (
        insert into vtn2_delivery as d (
            peer_id, event_id, told_count, settled_modification, settled_status,
            answered_modification, opt_in, answer_code, answer_reason, answered_at, tenant_id
        )
        select peer_id, event_id, 0, number, status, number, opt_in, code, reason, at,
            (select tenant_id from peer where peer.id = peer_id)
        from unnest(
            %(peers)s::text[], %(events)s::text[], %(numbers)s::integer[], %(statuses)s::text[],
            %(opts)s::boolean[], %(codes)s::integer[], %(reasons)s::text[], %(ats)s::timestamptz[]
        ) as new (peer_id, event_id, number, status, opt_in, code, reason, at)
        on conflict (peer_id, event_id) do update set
            settled_modification = excluded.settled_modification, settled_status = excluded.settled_status,
            answered_modification = excluded.answered_modification, opt_in = excluded.opt_in,
            answer_code = excluded.answer_code, answer_reason = excluded.answer_reason,
            answered_at = excluded.answered_at
        where d.answered_modification is null or d.answered_modification <= excluded.answered_modification
        returning d.event_id
    )
    select pg_notify(%(channel)s, event_id) from (select distinct event_id from written) as told
"""
_SENT = b"""
    update vtn2_outbox set sent_count = sent_count + 1, sent_at = new.at
    from unnest(%(ids)s::bigint[], %(ats)s::timestamptz[]) as new (id, at)
    where vtn2_outbox.id = new.id
"""


async def write_changes(connection: AsyncConnection[Any], changes: Sequence[Change]) -> None:
    """Write a batch in one statement for each kind, sent together; of several about the same thing the last counts.

    Args:
        connection: in autocommit. What is sent together is one transaction, in one exchange with the server.
    """
    told = {(each.peer_id, each.event_id): each for each in changes if isinstance(each, Told)}
    answered = {(each.peer_id, each.event_id): each for each in changes if isinstance(each, Answered)}
    sent = {each.id: each for each in changes if isinstance(each, Sent)}
    async with connection.pipeline():
        # In one order, so that two VTNs on one database wait for each other instead of locking each other out.
        if told:
            await connection.execute(_TOLD, _told_columns([told[key] for key in sorted(told)]))
        if answered:
            await connection.execute(_ANSWERED, _answer_columns([answered[key] for key in sorted(answered)]))
        if sent:
            ids = sorted(sent)
            await connection.execute(_SENT, {"ids": ids, "ats": [sent[each].at for each in ids]})


def _told_columns(told: Sequence[Told]) -> dict[str, Any]:
    return {
        "peers": [each.peer_id for each in told],
        "events": [each.event_id for each in told],
        "numbers": [each.modification_number for each in told],
        "statuses": [each.status.value for each in told],
        "counts": [1] * len(told),
        "ats": [each.at for each in told],
    }


def _answer_columns(answered: Sequence[Answered]) -> dict[str, Any]:
    return {
        "peers": [each.peer_id for each in answered],
        "events": [each.event_id for each in answered],
        "numbers": [each.modification_number for each in answered],
        "statuses": [None if each.settled_status is None else each.settled_status.value for each in answered],
        "opts": [each.opt_in for each in answered],
        "codes": [each.code for each in answered],
        "reasons": [each.reason for each in answered],
        "ats": [each.at for each in answered],
        "channel": ANSWER_CHANNEL,
    }
