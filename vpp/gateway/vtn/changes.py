"""What is written with every distribution and every answer, many VENs at once. Called by `writer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

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

_TOLD = text(
    """
    insert into vtn2_delivery as d (peer_id, event_id, told_modification, told_status, told_count, told_at)
    select * from unnest(
        cast(:peers as text[]), cast(:events as text[]), cast(:numbers as integer[]), cast(:statuses as text[]),
        cast(:counts as integer[]), cast(:ats as timestamptz[])
    )
    on conflict (peer_id, event_id) do update set
        told_count = case
            when d.told_modification = excluded.told_modification and d.told_status = excluded.told_status
            then d.told_count + 1 else 1 end,
        told_modification = excluded.told_modification, told_status = excluded.told_status,
        told_at = excluded.told_at
    """
)
_ANSWERED = text(
    """
    insert into vtn2_delivery as d (
        peer_id, event_id, told_count, settled_modification, settled_status,
        answered_modification, opt_in, answer_code, answer_reason, answered_at
    )
    select peer_id, event_id, 0, number, status, number, opt_in, code, reason, at from unnest(
        cast(:peers as text[]), cast(:events as text[]), cast(:numbers as integer[]), cast(:statuses as text[]),
        cast(:opts as boolean[]), cast(:codes as integer[]), cast(:reasons as text[]), cast(:ats as timestamptz[])
    ) as new (peer_id, event_id, number, status, opt_in, code, reason, at)
    on conflict (peer_id, event_id) do update set
        settled_modification = excluded.settled_modification, settled_status = excluded.settled_status,
        answered_modification = excluded.answered_modification, opt_in = excluded.opt_in,
        answer_code = excluded.answer_code, answer_reason = excluded.answer_reason,
        answered_at = excluded.answered_at
    where d.answered_modification is null or d.answered_modification <= excluded.answered_modification
    """
)
_SENT = text(
    """
    update vtn2_outbox set sent_count = sent_count + 1, sent_at = new.at
    from unnest(cast(:ids as bigint[]), cast(:ats as timestamptz[])) as new (id, at)
    where vtn2_outbox.id = new.id
    """
)
_NOTIFY = text("select pg_notify(:channel, event) from unnest(cast(:events as text[])) as told (event)")


async def write_changes(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Write a batch in one statement for each kind; of several about the same thing the last counts."""
    told = {(each.peer_id, each.event_id): each for each in changes if isinstance(each, Told)}
    answered = {(each.peer_id, each.event_id): each for each in changes if isinstance(each, Answered)}
    sent = {each.id: each for each in changes if isinstance(each, Sent)}
    if told:
        await _write_told(connection, list(told.values()))
    if answered:
        await _write_answers(connection, list(answered.values()))
    if sent:
        await connection.execute(_SENT, {"ids": list(sent), "ats": [each.at for each in sent.values()]})


async def _write_told(connection: AsyncConnection, told: Sequence[Told]) -> None:
    # In one order, so that two VTNs on one database wait for each other instead of locking each other out.
    told = sorted(told, key=lambda each: (each.peer_id, each.event_id))
    await connection.execute(
        _TOLD,
        {
            "peers": [each.peer_id for each in told],
            "events": [each.event_id for each in told],
            "numbers": [each.modification_number for each in told],
            "statuses": [each.status.value for each in told],
            "counts": [1] * len(told),
            "ats": [each.at for each in told],
        },
    )


async def _write_answers(connection: AsyncConnection, answered: Sequence[Answered]) -> None:
    answered = sorted(answered, key=lambda each: (each.peer_id, each.event_id))
    await connection.execute(
        _ANSWERED,
        {
            "peers": [each.peer_id for each in answered],
            "events": [each.event_id for each in answered],
            "numbers": [each.modification_number for each in answered],
            "statuses": [None if each.settled_status is None else each.settled_status.value for each in answered],
            "opts": [each.opt_in for each in answered],
            "codes": [each.code for each in answered],
            "reasons": [each.reason for each in answered],
            "ats": [each.at for each in answered],
        },
    )
    events = sorted({each.event_id for each in answered})
    await connection.execute(_NOTIFY, {"channel": ANSWER_CHANNEL, "events": events})
