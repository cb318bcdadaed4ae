"""Rows of commitments to domain values and back; every change of state is a compare-and-set."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import TRANSITIONS, Commitment, CommitmentState, TargetInterval
from vpp.domain.errors import Conflict, NotFound
from vpp.domain.time import Interval
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.commitments import commitment_step, commitment_target

_IN_FORCE = (CommitmentState.ACCEPTED, CommitmentState.ACTIVE)
_TAKEN_PART = (*_IN_FORCE, CommitmentState.RELEASING, CommitmentState.MEASURING, CommitmentState.SETTLED)


async def load(connection: AsyncConnection, commitment_id: UUID, *, for_update: bool = False) -> Commitment:
    """Return one commitment with its latest targets.

    Raises:
        NotFound: there is none with this id.
    """
    query = select(commitments).where(commitments.c.id == commitment_id)
    found = await _fetch(connection, query.with_for_update() if for_update else query)
    if not found:
        raise NotFound(f"no commitment {commitment_id}")
    return found[0]


async def find(
    connection: AsyncConnection, source: str, external_id: str, *, for_update: bool = False
) -> Commitment | None:
    """Return the latest life of the commitment a peer knows by its own id."""
    query = select(commitments).where(commitments.c.source == source, commitments.c.external_id == external_id)
    query = query.order_by(commitments.c.life.desc()).limit(1)
    found = await _fetch(connection, query.with_for_update() if for_update else query)
    return found[0] if found else None


async def due(connection: AsyncConnection, at: datetime, *, limit: int = 1000) -> list[Commitment]:
    """Return commitments with a step due at or before `at`, most overdue first."""
    query = select(commitments).where(commitments.c.next_due_at <= at)
    query = query.order_by(commitments.c.next_due_at, commitments.c.id).limit(limit)
    return await _fetch(connection, query)


async def next_due_at(connection: AsyncConnection) -> datetime | None:
    """Return when the next step of any commitment falls due."""
    result: datetime | None = (await connection.execute(select(func.min(commitments.c.next_due_at)))).scalar()
    return result


async def in_force(
    connection: AsyncConnection, at: datetime, *, until: datetime | None = None, tenant_id: str | None = None
) -> list[Commitment]:
    """Return accepted or active commitments whose window holds `at`, or shares time with `[at, until)`."""
    query = select(commitments).where(commitments.c.state.in_([state.value for state in _IN_FORCE]))
    if tenant_id is not None:
        query = query.where(commitments.c.tenant_id == tenant_id)
    span = Interval(at, until if until is not None else at + timedelta(microseconds=1))
    found = await _fetch(connection, query.order_by(commitments.c.received_at, commitments.c.id))
    return [c for c in found if c.window.overlap(span) is not None]


async def taken_part(connection: AsyncConnection, at: datetime, *, tenant_id: str) -> list[Commitment]:
    """Return commitments whose window holds `at` that we take or took part in, those long settled as well."""
    part = commitment_target.alias()
    holds = exists().where(part.c.commitment_id == commitments.c.id, part.c.start_at <= at, part.c.end_at > at)
    query = select(commitments).where(
        commitments.c.tenant_id == tenant_id, commitments.c.state.in_([state.value for state in _TAKEN_PART]), holds
    )
    found = await _fetch(connection, query.order_by(commitments.c.received_at, commitments.c.id))
    return [c for c in found if at in c.window]


async def overlapping(connection: AsyncConnection, commitment: Commitment) -> list[Commitment]:
    """Return the tenant's other accepted or active commitments that share time with this one."""
    query = select(commitments).where(
        commitments.c.tenant_id == commitment.tenant_id,
        commitments.c.id != commitment.id,
        commitments.c.state.in_([state.value for state in _IN_FORCE]),
        *_some_target_between(commitment.window),  # a long list of events is not read for each of them
    )
    return [c for c in await _fetch(connection, query) if c.window.overlap(commitment.window) is not None]


def _some_target_between(window: Interval) -> tuple[ColumnElement[bool], ...]:
    """What holds of every commitment whose window shares time with this one, and of some others."""
    part = commitment_target.alias()
    mine = part.c.commitment_id == commitments.c.id
    return (
        exists().where(mine, part.c.start_at < window.end_at),
        exists().where(mine, part.c.end_at > window.start_at),
    )


async def create(connection: AsyncConnection, commitment: Commitment, *, at: datetime) -> None:
    """Store a new commitment with its targets."""
    await connection.execute(
        insert(commitments).values(
            id=commitment.id,
            tenant_id=commitment.tenant_id,
            program=commitment.program,
            source=commitment.source,
            external_id=commitment.external_id,
            start_offset_s=commitment.start_offset_s,
            life=commitment.life,
            received_at=at,
            **_changing(commitment),
        )
    )
    await add_targets(connection, commitment)


async def add_targets(connection: AsyncConnection, commitment: Commitment) -> None:
    """Store the targets of the present modification; those of earlier ones stay."""
    await connection.execute(
        insert(commitment_target),
        [
            {
                "commitment_id": commitment.id,
                "modification_number": commitment.modification_number,
                "start_at": target.interval.start_at,
                "end_at": target.interval.end_at,
                "target_kw": target.target_kw,
            }
            for target in commitment.targets
        ],
    )


async def save(connection: AsyncConnection, before: Commitment, after: Commitment) -> None:
    """Replace `before` by `after` if nobody else has changed it meanwhile.

    Raises:
        Conflict: the row has moved on, or the change of state is not one the table allows.
    """
    if after.state is not before.state and after.state not in TRANSITIONS[before.state]:
        raise Conflict(f"commitment {before.id} cannot go from {before.state} to {after.state}")
    changed = await connection.execute(
        update(commitments)
        .where(commitments.c.id == before.id, commitments.c.revision == before.revision)
        .values(_changing(after))
    )
    if changed.rowcount != 1:
        raise Conflict(f"commitment {before.id} is no longer at revision {before.revision}")


async def advance(
    connection: AsyncConnection,
    before: Commitment,
    after: Commitment,
    *,
    at: datetime,
    what: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Compare-and-set a commitment and write down the step, in the caller's transaction."""
    await save(connection, before, after)
    await note(connection, after, at=at, what=what, detail=detail)


async def note(
    connection: AsyncConnection,
    commitment: Commitment,
    *,
    at: datetime,
    what: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write a step into the commitment's history."""
    await connection.execute(
        insert(commitment_step).values(
            commitment_id=commitment.id, at=at, state=commitment.state.value, what=what, detail=detail or {}
        )
    )


async def postpone(
    connection: AsyncConnection, commitment_id: UUID, *, until: datetime, at: datetime, why: str
) -> None:
    """Put the step that failed off; the state and revision stay as they are.

    A commitment that has moved on meanwhile, and has no step due, is left alone.
    """
    await connection.execute(
        update(commitments)
        .where(commitments.c.id == commitment_id, commitments.c.next_due_at <= at)
        .values(next_due_at=until)
    )
    await note(connection, await load(connection, commitment_id), at=at, what="step failed", detail={"why": why})


def _changing(commitment: Commitment) -> dict[str, Any]:
    return {
        "modification_number": commitment.modification_number,
        "state": commitment.state.value,
        "revision": commitment.revision,
        "cancel_requested": commitment.cancel_requested,
        "opt_in": commitment.opt_in,
        "opt_reason": commitment.opt_reason,
        "next_due_at": commitment.next_due_at,
        "void_up_to": commitment.void_up_to,
        "is_test": commitment.is_test,
    }


async def _fetch(connection: AsyncConnection, query: Select[Any]) -> list[Commitment]:
    rows = (await connection.execute(query)).all()
    targets = await _targets(connection, [row.id for row in rows])
    return [_commitment(row, targets.get(row.id, ())) for row in rows]


async def _targets(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[TargetInterval]]:
    """The latest stored version of each commitment's targets.

    A modification we could not cover during the event stores the targets that stay in force, so the
    latest version is always what is owed.
    """
    if not ids:
        return {}
    latest = (
        select(commitment_target.c.commitment_id, func.max(commitment_target.c.modification_number).label("number"))
        .where(commitment_target.c.commitment_id.in_(ids))
        .group_by(commitment_target.c.commitment_id)
        .subquery()
    )
    rows: Iterable[Row[Any]] = await connection.execute(
        select(commitment_target)
        .join(
            latest,
            (latest.c.commitment_id == commitment_target.c.commitment_id)
            & (latest.c.number == commitment_target.c.modification_number),
        )
        .order_by(commitment_target.c.start_at)
    )
    targets: dict[UUID, list[TargetInterval]] = {}
    for row in rows:
        targets.setdefault(row.commitment_id, []).append(
            TargetInterval(Interval(row.start_at, row.end_at), row.target_kw)
        )
    return targets


def _commitment(row: Row[Any], targets: Sequence[TargetInterval]) -> Commitment:
    return Commitment(
        id=row.id,
        tenant_id=row.tenant_id,
        program=row.program,
        source=row.source,
        external_id=row.external_id,
        modification_number=row.modification_number,
        state=CommitmentState(row.state),
        targets=tuple(targets),
        revision=row.revision,
        start_offset_s=row.start_offset_s,
        cancel_requested=row.cancel_requested,
        is_test=row.is_test,
        opt_in=row.opt_in,
        opt_reason=row.opt_reason,
        next_due_at=row.next_due_at,
        life=row.life,
        void_up_to=row.void_up_to,
    )
