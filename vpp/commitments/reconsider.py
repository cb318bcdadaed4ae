"""An answer changes because the fleet's capability did: asked anew, and put down, in the caller's transaction."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import records
from vpp.commitments.receive import DECLINED_CHANGE, Decide, Decision
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.settlement import ProgramTerms
from vpp.ports import MarketProgram
from vpp.store.tables.commitments import commitment_step

NO_LONGER, AGAIN = "no longer covered", "covered again"
_BEFORE_EVENT = (CommitmentState.ACCEPTED, CommitmentState.DECLINED)


async def would_be_answered(
    connection: AsyncConnection,
    known: Commitment,
    *,
    program: MarketProgram,
    terms: ProgramTerms,
    decide: Decide,
    at: datetime,
) -> Decision | None:
    """Return what would be answered now, or None where the answer is not open to change.

    It is not once the event is over or cancelled, outside the programme's rules, and while a change was
    declined during the event: what the fleet covers then are the targets before it, and an optIn would be to
    the change.
    """
    if known.cancel_requested or known.window.end_at <= at:
        return None
    if known.state is CommitmentState.ACTIVE:
        if not known.opt_in and await _last_word(connection, known) != NO_LONGER:
            return None
        return await decide(connection, replace(known, targets=_ahead(known, at)))
    if known.state not in _BEFORE_EVENT:
        return None
    if program.refuse_reason(known.window, str(terms.options.get("time_zone", "UTC")), terms) is not None:
        return None
    return await decide(connection, known)


async def change_answer(
    connection: AsyncConnection, known: Commitment, decision: Decision, *, at: datetime
) -> Commitment:
    """Put down another answer than the one given, with its reason.

    Before the event an optOut ends our part in it and an optIn takes it up again. During the event our part
    goes on as far as the fleet can deliver; the answer only says that it is not all that was promised.

    Raises:
        Conflict: the commitment has moved on meanwhile.
    """
    changed = replace(known, opt_in=decision.opt_in, opt_reason=decision.reason, revision=known.revision + 1)
    if known.state is not CommitmentState.ACTIVE:
        changed = replace(
            changed,
            state=CommitmentState.ACCEPTED if decision.opt_in else CommitmentState.DECLINED,
            next_due_at=max(at, known.window.start_at) if decision.opt_in else None,
        )
    what = AGAIN if decision.opt_in else NO_LONGER
    await records.advance(connection, known, changed, at=at, what=what, detail={"reason": decision.reason})
    return changed


async def _last_word(connection: AsyncConnection, known: Commitment) -> str | None:
    """Why the answer to a running event is no: its last change was declined, or its capability fell."""
    query = (
        select(commitment_step.c.what)
        .where(
            commitment_step.c.commitment_id == known.id,
            commitment_step.c.what.in_([NO_LONGER, AGAIN, DECLINED_CHANGE]),
        )
        .order_by(commitment_step.c.id.desc())
        .limit(1)
    )
    found: str | None = (await connection.execute(query)).scalar()
    return found


def _ahead(known: Commitment, at: datetime):  # type: ignore[no-untyped-def]
    return tuple(target for target in known.targets if target.interval.end_at > at)
