"""Room gateway: tells a VTN, once, that the fleet's capability has changed since it was answered. Called by `ven`.

An answer is looked at again every few minutes. Another answer counts only once it has stood for `STANDS_FOR`
without a break, so that a fleet on the edge does not make the VTN hear yes and no by turns. What that means for
our part in the event says `vpp.commitments.change_answer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import change_answer, load, would_be_answered
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import Conflict
from vpp.enrolment import program_terms
from vpp.gateway import answers, metrics
from vpp.gateway.events import EventDesk
from vpp.gateway.terms import OptChanges
from vpp.ports import Clock, MarketProgram
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

log = structlog.get_logger("vpp.gateway")

EVERY = timedelta(minutes=5)
STANDS_FOR = timedelta(minutes=10)
MAX_REVIEWED = 200
"""Commitments looked at in one round; those that begin first."""

_OPEN = {
    OptChanges.NEVER: (),
    OptChanges.BEFORE: (CommitmentState.ACCEPTED, CommitmentState.DECLINED),
    OptChanges.ALWAYS: (CommitmentState.ACCEPTED, CommitmentState.DECLINED, CommitmentState.ACTIVE),
}


@dataclass(slots=True)
class OptWatch:
    """Watches the answers given to one VTN."""

    store: Store
    clock: Clock
    desk: EventDesk
    programs: Mapping[str, MarketProgram]
    policy: OptChanges
    next_at: datetime | None = None
    differs_since: dict[UUID, datetime] = field(default_factory=dict)

    async def review(self) -> None:
        """Look at every open answer, where it is time; changed ones are owed to the VTN after this."""
        now = self.clock.now()
        if not _OPEN[self.policy] or (self.next_at is not None and now < self.next_at):
            return
        self.next_at = now + EVERY
        async with self.store.begin() as connection:
            found = await self._open_answers(connection, now)
        self.differs_since = {id_: since for id_, since in self.differs_since.items() if id_ in found}
        for commitment_id in found:
            try:
                await self._review(commitment_id, now)
            except Conflict as conflict:  # the event has just begun or ended: next time
                log.info("answer not changed", source=self.desk.source, reason=str(conflict))

    async def _open_answers(self, connection: AsyncConnection, now: datetime) -> list[UUID]:
        rows = await connection.execute(
            select(commitment.c.id)
            .where(
                commitment.c.source == self.desk.source,
                commitment.c.state.in_([state.value for state in _OPEN[self.policy]]),
                commitment.c.cancel_requested.is_(False),
            )
            .order_by(commitment.c.received_at.desc(), commitment.c.id)
            .limit(MAX_REVIEWED)
        )
        return list(rows.scalars())

    async def _review(self, commitment_id: UUID, now: datetime) -> None:
        async with self.store.begin() as connection:
            known = await load(connection, commitment_id)  # no lock: to decide may take a while
            program = self.programs.get(known.program)
            if program is None:
                return
            terms = await program_terms(connection, tenant_id=known.tenant_id, program=known.program)
            decision = await would_be_answered(
                connection, known, program=program, terms=terms, decide=self.desk.covers, at=now
            )
            if decision is None or decision.opt_in == known.opt_in:
                self.differs_since.pop(commitment_id, None)
                return
            since = self.differs_since.setdefault(commitment_id, now)
            if now - since < STANDS_FOR:
                return
            changed = await change_answer(connection, known, decision, at=now)
            await answers.change(connection, changed)
        self.differs_since.pop(commitment_id, None)
        self._tell(changed)

    def _tell(self, changed: Commitment) -> None:
        metrics.OPT_CHANGES.labels(self.desk.source, "in" if changed.opt_in else "out").inc()
        log.warning(
            "answer changed",
            source=self.desk.source,
            event_id=changed.external_id,
            opt_in=changed.opt_in,
            reason=changed.opt_reason,
        )
