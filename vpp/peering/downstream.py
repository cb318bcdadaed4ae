"""Room peering: the events we tell those below us, each as it stands and every version it had.

Called by the portal (the operator composes), by `forward` (an upstream VTN's event passed on) and by both
VTN processes, which read and listen. A change, its version and the word of it (`NOTIFY vpp_grid_event`
with the event's id) are one transaction: who listens reads what was committed, and after a lost
connection reads again by `modified_since`, a little further back than it last saw, because transactions do
not commit in the order of their clocks.

Modification numbers go up by one with every change, cancellations included; telling the same thing twice
changes nothing (conventions, rule 12).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.grid_event import EventStatus, GridEvent, Unsaid
from vpp.domain.peer import Protocol
from vpp.domain.target_text import target_text
from vpp.domain.time import as_utc
from vpp.peering.downstream3 import OPENADR3_ORIGIN, tell_openadr3, unsaid_in_openadr3
from vpp.peering.grid_event_json import event_from_json, event_to_json
from vpp.peering.openadr3 import Changes
from vpp.ports import EventTranslator
from vpp.store.tables.downstream import grid_event, grid_event_version

CHANNEL = "vpp_grid_event"
"""What `LISTEN` takes; the payload is the event's id."""

MAX_NUMBER = 2**31 - 1
MAX_ID_LENGTH = 128
MAX_SERIES = 32
MAX_INTERVALS = 10_000
KEEP_CANCELLED = timedelta(days=1)
"""How long the cancellation of an event without an end is told."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it now stands; `changed` is False where it already stood so.

    `unsaid` holds what each protocol has no words for.
    """

    event: GridEvent
    unsaid: Mapping[Protocol, tuple[Unsaid, ...]]
    changed: bool = True


def unsaid_of(event: GridEvent, translator: EventTranslator) -> dict[Protocol, tuple[Unsaid, ...]]:
    """Return what each protocol has no words for; `event` where it is not told in that protocol at all."""
    return {
        Protocol.OPENADR2: translator.unsaid_in_openadr2(event),
        Protocol.OPENADR3: unsaid_in_openadr3(event, translator),
    }


async def publish(
    connection: AsyncConnection,
    event: GridEvent,
    *,
    tenant_id: str,
    at: datetime,
    origin: str = "operator",
    translator: EventTranslator,
    changes: Changes | None = None,
) -> Published:
    """Store a new event and tell whoever listens.

    Told again with what one of its versions said, nothing changes and the event comes back as it stands.

    Args:
        origin: `operator`, or where it was forwarded from (`peer:<id>/<event id>`, `openadr3/<object id>`).
        changes: who is told that the objects of our OpenADR 3 VTN changed; None tells the event in 2.0b only.

    Raises:
        Conflict: the id is that of another event of the tenant.
        InvalidRequest: the event is too large, or holds what cannot be kept.
    """
    _check(event)
    event = replace(event, modified_at=event.modified_at or as_utc(at, "at"))
    added = await connection.execute(
        insert(grid_event)
        .values(event_id=event.event_id, tenant_id=tenant_id, origin=origin, created_at=at, **_columns(event, at))
        .on_conflict_do_nothing(index_elements=["tenant_id", "event_id"])
        .returning(grid_event.c.event_id)
    )
    if added.first() is None:
        return await _again(connection, event, tenant_id=tenant_id, origin=origin, translator=translator)
    await _remember(connection, event, tenant_id, at)
    if changes is not None:
        await tell_openadr3(connection, event, None, tenant_id=tenant_id, at=at, translator=translator, changes=changes)
    return Published(event, unsaid_of(event, translator))


async def modify(
    connection: AsyncConnection,
    event_id: str,
    change: Callable[[GridEvent], GridEvent],
    *,
    tenant_id: str,
    at: datetime,
    translator: EventTranslator,
    expected_number: int | None = None,
    revive: bool = False,
    changes: Changes | None = None,
) -> Published:
    """Change an event: `change` gets it as it stands, locked, and returns it as it shall be.

    Its id, its creation and its modification number are not `change`'s to set. A change that changes
    nothing makes no new version.

    Args:
        expected_number: the modification number the caller saw; None takes any.
        revive: a cancelled event may come back (OpenADR 2.0b's un-cancel).

    Raises:
        NotFound: the tenant has no such event.
        Conflict: it has changed since `expected_number`, is over, or is cancelled without `revive`.
    """
    row = await _locked(connection, event_id, tenant_id)
    stands = event_from_json(row.event)
    _expect(stands, expected_number)
    changed = replace(
        change(stands),
        event_id=stands.event_id,
        created_at=stands.created_at,
        modification_number=stands.modification_number,
        modified_at=stands.modified_at,
    )
    if changed == stands:
        return Published(stands, unsaid_of(stands, translator), changed=False)
    if stands.cancelled and not revive:
        raise Conflict(f"event {event_id!r} is cancelled")
    if stands.status_at(at) is EventStatus.COMPLETED:
        raise Conflict(f"event {event_id!r} is over since {stands.end_at}")
    return await _store(connection, row, changed, at=at, translator=translator, changes=changes)


async def cancel(
    connection: AsyncConnection,
    event_id: str,
    *,
    tenant_id: str,
    at: datetime,
    translator: EventTranslator,
    expected_number: int | None = None,
    reason: str = "",
    changes: Changes | None = None,
) -> Published:
    """Withdraw an event, before it or during it; withdrawn twice is withdrawn once.

    Raises:
        NotFound: the tenant has no such event.
        Conflict: it is over, or has changed since `expected_number`.
    """
    row = await _locked(connection, event_id, tenant_id)
    stands = event_from_json(row.event)
    if stands.cancelled:
        return Published(stands, unsaid_of(stands, translator), changed=False)
    _expect(stands, expected_number)
    if stands.status_at(at) is EventStatus.COMPLETED:
        raise Conflict(f"event {event_id!r} is over since {stands.end_at}")
    cancelled = replace(stands, cancelled=True, modification_reason=reason)
    return await _store(connection, row, cancelled, at=at, translator=translator, changes=changes)


async def _again(
    connection: AsyncConnection, event: GridEvent, *, tenant_id: str, origin: str, translator: EventTranslator
) -> Published:
    mine = select(grid_event).where(grid_event.c.tenant_id == tenant_id, grid_event.c.event_id == event.event_id)
    stands = (await connection.execute(mine)).first()
    version = select(grid_event_version.c.event).where(
        grid_event_version.c.tenant_id == tenant_id,
        grid_event_version.c.event_id == event.event_id,
        grid_event_version.c.modification_number == event.modification_number,
    )
    said = (await connection.execute(version)).scalar()
    if stands is None or said is None or stands.origin != origin:
        raise Conflict(f"event id {event.event_id!r} is taken")
    before = event_from_json(said)
    if replace(event, created_at=before.created_at, modified_at=before.modified_at) != before:
        raise Conflict(f"event {event.event_id!r} was published before and said something else: modify it instead")
    current = event_from_json(stands.event)
    return Published(current, unsaid_of(current, translator), changed=False)


async def _locked(connection: AsyncConnection, event_id: str, tenant_id: str) -> Row[Any]:
    query = select(grid_event).where(grid_event.c.event_id == event_id, grid_event.c.tenant_id == tenant_id)
    row = (await connection.execute(query.with_for_update())).first() if event_id.isprintable() else None
    if row is None:
        raise NotFound(f"no event {event_id!r}")
    return row


def _expect(stands: GridEvent, expected_number: int | None) -> None:
    if expected_number is not None and expected_number != stands.modification_number:
        raise Conflict(
            f"event {stands.event_id!r} is at modification {stands.modification_number}, "
            f"not {expected_number}: read it again first"
        )


async def _store(
    connection: AsyncConnection,
    row: Row[Any],
    event: GridEvent,
    *,
    at: datetime,
    translator: EventTranslator,
    changes: Changes | None,
) -> Published:
    """Write the next version of an event whose row is locked."""
    event = replace(event, modification_number=event.modification_number + 1, modified_at=as_utc(at, "at"))
    _check(event)
    await connection.execute(
        update(grid_event)
        .where(grid_event.c.tenant_id == row.tenant_id, grid_event.c.event_id == event.event_id)
        .values(**_columns(event, at))
    )
    await _remember(connection, event, row.tenant_id, at)
    if changes is not None and not row.origin.startswith(OPENADR3_ORIGIN):
        await tell_openadr3(
            connection, event, row.openadr3_id, tenant_id=row.tenant_id, at=at, translator=translator, changes=changes
        )
    return Published(event, unsaid_of(event, translator))


async def _remember(connection: AsyncConnection, event: GridEvent, tenant_id: str, at: datetime) -> None:
    await connection.execute(
        insert(grid_event_version).values(
            tenant_id=tenant_id,
            event_id=event.event_id,
            modification_number=event.modification_number,
            event=event_to_json(event),
            stated_at=at,
        )
    )
    await connection.execute(text("select pg_notify(:channel, :id)"), {"channel": CHANNEL, "id": event.event_id})


def _columns(event: GridEvent, at: datetime) -> dict[str, Any]:
    return {
        "program": event.program,
        "modification_number": event.modification_number,
        "cancelled": event.cancelled,
        "start_at": event.start_at,
        "over_at": _over_at(event, at),
        "event": event_to_json(event),
        "modified_at": at,
    }


def _over_at(event: GridEvent, at: datetime) -> datetime | None:
    if event.end_at is not None:
        return event.end_at + (event.recovery or timedelta(0))
    return max(event.start_at, at) + KEEP_CANCELLED if event.cancelled else None


def _check(event: GridEvent) -> None:
    if len(event.event_id) > MAX_ID_LENGTH or not event.event_id.isprintable():
        raise InvalidRequest("event_id", event.event_id, f"at most {MAX_ID_LENGTH} printable characters")
    if len(event.series) > MAX_SERIES:
        raise InvalidRequest("series", len(event.series), f"at most {MAX_SERIES}")
    if sum(len(series.intervals) for series in event.series) > MAX_INTERVALS:
        raise InvalidRequest("intervals", "too many", f"at most {MAX_INTERVALS} in all series together")
    for target in (*event.targets, *(target for series in event.series for target in series.targets)):
        target_text(target)
    if event.modification_number > MAX_NUMBER:
        raise InvalidRequest("modification_number", event.modification_number, f"at most {MAX_NUMBER}")
