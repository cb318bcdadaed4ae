"""Room gateway: answers owed to a VTN, kept until it took them. Called by `events` and `ven`.

One row for each version of an event. A version told again on a poll is owed again: the VTN would not
tell it if it had our answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from sqlalchemy import exists, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.ven import EventAnswer, EventNotice
from vpp.store.tables.commitments import commitment, commitment_target
from vpp.store.tables.gateway import openadr2_opt as table

STALE_AFTER = timedelta(days=1)
"""An answer to an event that ended longer ago than this is of no use to anyone."""
BATCH = 100


@dataclass(frozen=True, slots=True)
class OwedAnswer:
    """An answer with the row it came from."""

    commitment_id: UUID
    answer: EventAnswer


class Owing(Enum):
    """What came of noting an answer."""

    NEW = "new"
    AGAIN = "again"
    KEPT = "kept"
    NOTHING = "nothing"


async def owe(
    connection: AsyncConnection, taken: Commitment, notice: EventNotice, *, cancelled: bool, again: bool
) -> Owing:
    """Write down the answer to a version, in the transaction that took it.

    A version already answered keeps its answer, and is sent once more only where `again` is set: the
    VTN told it of its own accord. NOTHING where the version is older than what we hold and was never
    answered, so that there is nothing true to say about it.
    """
    number = notice.modification_number
    mine = (table.c.commitment_id == taken.id) & (table.c.modification_number == number)
    known = (await connection.execute(select(table.c.sent_at).where(mine))).one_or_none()
    if known is not None:
        if known.sent_at is not None and not again:
            return Owing.KEPT
        await connection.execute(update(table).where(mine).values(request_id=notice.request_id, sent_at=None))
        return Owing.AGAIN
    if number < taken.modification_number and not cancelled:
        return Owing.NOTHING
    await connection.execute(
        insert(table).values(
            commitment_id=taken.id,
            modification_number=number,
            request_id=notice.request_id,
            opt_in=cancelled or bool(taken.opt_in),
        )
    )
    return Owing.NEW


async def owe_again(
    connection: AsyncConnection, versions: Sequence[tuple[UUID, int]], *, request_id: str, again: bool
) -> None:
    """As `owe`, for versions answered before, by commitment and modification number, told in one message."""
    if not versions:
        return
    told = tuple_(table.c.commitment_id, table.c.modification_number).in_(versions)
    which = told if again else told & table.c.sent_at.is_(None)
    await connection.execute(update(table).where(which).values(request_id=request_id, sent_at=None))


async def change(connection: AsyncConnection, changed: Commitment) -> bool:
    """Owe another answer to the latest version answered, in the transaction that changed the commitment.

    False where no answer was ever wanted.
    """
    latest = select(func.max(table.c.modification_number)).where(table.c.commitment_id == changed.id).scalar_subquery()
    done = await connection.execute(
        update(table)
        .where(table.c.commitment_id == changed.id, table.c.modification_number == latest)
        .values(opt_in=bool(changed.opt_in), sent_at=None)
    )
    return done.rowcount > 0


async def unsent(connection: AsyncConnection, source: str, *, at: datetime) -> list[OwedAnswer]:
    """Return at most `BATCH` answers owed; only the latest version of each event, for the VTN knows no other."""
    newer, next_life = table.alias(), commitment.alias()
    superseded = exists().where(
        newer.c.commitment_id == next_life.c.id,
        next_life.c.source == commitment.c.source,
        next_life.c.external_id == commitment.c.external_id,
        next_life.c.life >= commitment.c.life,
        newer.c.modification_number > table.c.modification_number,
    )
    lives = exists().where(
        commitment_target.c.commitment_id == table.c.commitment_id, commitment_target.c.end_at > at - STALE_AFTER
    )
    rows = await connection.execute(
        select(table, commitment.c.external_id, commitment.c.opt_reason)
        .join(commitment, commitment.c.id == table.c.commitment_id)
        .where(commitment.c.source == source, table.c.sent_at.is_(None), ~superseded, lives)
        .order_by(commitment.c.received_at, commitment.c.id)
        .limit(BATCH)
    )
    return [
        OwedAnswer(
            row.commitment_id,
            EventAnswer(
                external_id=row.external_id,
                modification_number=row.modification_number,
                request_id=row.request_id,
                opt_in=row.opt_in,
                reason="OK" if row.opt_in else row.opt_reason or "not accepted",
            ),
        )
        for row in rows
    ]


async def mark_sent(connection: AsyncConnection, owed: OwedAnswer, *, at: datetime) -> None:
    """Note that the VTN took an answer, unless it has asked again or the answer has changed meanwhile."""
    await connection.execute(
        update(table)
        .where(
            table.c.commitment_id == owed.commitment_id,
            table.c.modification_number == owed.answer.modification_number,
            table.c.request_id == owed.answer.request_id,
            table.c.opt_in == owed.answer.opt_in,
        )
        .values(sent_at=at)
    )
