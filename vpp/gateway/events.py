"""Room gateway: events to commitments, each in one transaction with the answer we owe. Called by `ven`."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import DECLINED_CHANGE, MODIFIED, Decide, Decision, find, load, note, receive
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotFound
from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr2 import OUT_OF_SEQUENCE
from vpp.domain.signal import EventSignal, SignalKind
from vpp.domain.ven import EventAnswer, EventNotice
from vpp.enrolment import program_terms
from vpp.gateway import answers
from vpp.peering import list_unavailability
from vpp.ports import Clock, MarketProgram
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment, commitment_step


class PassOn(Protocol):
    """Tells those below us of the events of one VTN."""

    async def __call__(self, connection: AsyncConnection, event_id: str, event: GridEvent | None) -> None:
        """Hear of an event as the utility states it, in the transaction that takes it.

        Called also for events we decline or do not understand, and as often as they are told; `event` is None
        where it is listed no longer.
        """
        ...

    async def told_below(self, connection: AsyncConnection, *, after: datetime) -> Sequence[str]:
        """Return the ids of events in force below us that end after an instant."""
        ...


NOT_UNDERSTOOD = "a change cannot be taken"
"""The step of a version we do not understand."""
COMPLETED_EARLY = "told completed before its end"
"""The step of an event that the utility ended by its status."""
END_SLACK = timedelta(seconds=60)
"""A VTN whose clock runs ahead of ours may drop an event this early without meaning to withdraw it."""

_OPEN = (CommitmentState.RECEIVED, CommitmentState.ACCEPTED, CommitmentState.ACTIVE)
_BEFORE_EVENT = (CommitmentState.RECEIVED, CommitmentState.ACCEPTED, CommitmentState.DECLINED)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of one version of one event.

    Attributes:
        commitment: the commitment as it stands, if there is one.
        at_once: an answer to send at once, kept nowhere: it depends on the notice alone, and the VTN
            tells an unanswered event again.
        is_new: a version never answered before.
    """

    commitment: Commitment | None = None
    at_once: EventAnswer | None = None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class EventDesk:
    """Takes events of one source into commitments.

    `seed` fixes the random start of each event: the same event always draws the same offset, so that
    a transaction repeated after a crash cannot draw another. `pass_on` may tell those below us. An event that
    falls into a window the operator has declared the fleet unavailable in is declined.
    """

    store: Store
    clock: Clock
    source: str
    tenant_id: str
    programs: Mapping[str, MarketProgram]
    decide: Decide
    seed: int
    pass_on: PassOn | None = None

    async def take(self, notice: EventNotice, *, again: bool, early: timedelta = timedelta(0)) -> Taken:
        """Take one version of one event; `again` says that a version already answered is answered again.

        `early` is how much earlier than by our clock the VTN takes an event for ended.
        """
        if notice.completed:
            return Taken(await self._complete(notice, early=early))
        if notice.refusal is not None:
            await self._void_earlier(notice)
            return Taken(at_once=_at_once(notice, False, notice.refusal.code, notice.refusal.reason))
        async with self.store.begin() as connection:
            await self._pass_on(connection, notice)
            known = await self._known(connection, notice.external_id)
            signal = notice.signal
            if signal is None or (signal.cancelled and not signal.intervals and known is None):
                return Taken(at_once=_at_once(notice, True, 200, "OK"))
            signal = replace(signal, program=known.program) if known else signal
            taken = await self._receive(connection, signal)
            if not notice.answer_wanted:
                return Taken(taken)
            owing = await answers.owe(connection, taken, notice, cancelled=signal.cancelled, again=again)
        if owing is answers.Owing.NOTHING:
            older = f"modification {taken.modification_number} came before this one"
            return Taken(taken, _at_once(notice, bool(taken.opt_in), OUT_OF_SEQUENCE, older))
        return Taken(taken, is_new=owing is answers.Owing.NEW)

    async def missing(self, listed: Collection[str], *, early: timedelta = timedelta(0)) -> list[Commitment]:
        """Return open commitments of this source that a VTN's full list of events leaves out.

        `early` is how much earlier than by our clock the VTN takes an event for ended: one so near its end
        may have been dropped for that.
        """
        async with self.store.begin() as connection:
            rows = await connection.execute(
                select(commitment.c.id, commitment.c.external_id).where(
                    commitment.c.source == self.source,
                    commitment.c.state.in_([state.value for state in _OPEN]),
                    commitment.c.cancel_requested.is_(False),
                )
            )
            absent = [await load(connection, row.id) for row in rows.all() if row.external_id not in listed]
        return [each for each in absent if self._goes_on(each, early)]

    async def count_declined_changes(self) -> int:
        """Return how many events run by earlier targets, for their latest change was declined or not understood."""
        last_word = (
            select(commitment_step.c.what)
            .where(
                commitment_step.c.commitment_id == commitment.c.id,
                commitment_step.c.what.in_([DECLINED_CHANGE, NOT_UNDERSTOOD, MODIFIED]),
            )
            .order_by(commitment_step.c.id.desc())
            .limit(1)
            .correlate(commitment)
            .scalar_subquery()
        )
        query = select(func.count()).where(
            commitment.c.source == self.source,
            commitment.c.state == CommitmentState.ACTIVE.value,
            commitment.c.cancel_requested.is_(False),
            last_word.in_([DECLINED_CHANGE, NOT_UNDERSTOOD]),
        )
        async with self.store.begin() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def withdraw(self, gone: Commitment) -> Commitment:
        """Cancel a commitment the VTN no longer lists (profile 2.0b: implied cancellation); no answer is owed.

        Listed again, if only by the same version, it lives again.
        """
        cancellation = replace(_cancellation(gone, gone.modification_number), withdrawn=True)
        async with self.store.begin() as connection:
            if self.pass_on is not None:
                await self.pass_on(connection, gone.external_id, None)
            return await self._receive(connection, cancellation)

    async def delete(self, event_id: str) -> Commitment | None:
        """End our part in an event the VTN has deleted, whatever we had answered; returns it, if there is one.

        Deleted after its end, what was owed until then stays owed. Stated again, it lives again.
        """
        async with self.store.begin() as connection:
            if self.pass_on is not None:  # also of an event that was none of ours to answer
                await self.pass_on(connection, event_id, None)
            known = await self._known(connection, event_id)
            if known is None:
                return None
            return await self._receive(
                connection, replace(_cancellation(known, known.modification_number), withdrawn=True)
            )

    async def _complete(self, notice: EventNotice, *, early: timedelta) -> Commitment | None:
        """An event told completed has ended for us, before its end as stated too; no answer is owed.

        As one that is listed no longer: what was owed until now stays owed and is measured, and told active again
        it lives again. Its end by a clock that runs ahead of ours is no early end.
        """
        async with self.store.begin() as connection:
            await self._complete_below(connection, notice, early)
            known = await self._known(connection, notice.external_id)
            if known is None or known.state not in _OPEN or known.cancel_requested or not self._goes_on(known, early):
                return known
            detail = {"modification_number": notice.modification_number}
            await note(connection, known, at=self.clock.now(), what=COMPLETED_EARLY, detail=detail)
            ended = replace(_cancellation(known, known.modification_number), withdrawn=True)
            return await self._receive(connection, ended)

    async def _complete_below(self, connection: AsyncConnection, notice: EventNotice, early: timedelta) -> None:
        """Below us it ends as it was stated last, if that is over; else it is withdrawn."""
        if self.pass_on is None or notice.event is None:
            return
        by, end_at = self.clock.now() + early + END_SLACK, notice.event.end_at
        if end_at is None or end_at > by:
            await self.pass_on(connection, notice.external_id, None)
        elif notice.external_id in await self.pass_on.told_below(connection, after=by):
            await self.pass_on(connection, notice.external_id, notice.event)

    def _goes_on(self, known: Commitment, early: timedelta) -> bool:
        """Whether an event, by its end as stated, still goes on where its VTN says or shows that it is over."""
        stated_end_at = known.window.end_at - timedelta(seconds=known.start_offset_s)
        return stated_end_at > self.clock.now() + early + END_SLACK

    async def withdraw_below(self, listed: Collection[str], *, early: timedelta = timedelta(0)) -> None:
        """Withdraw from those below us what a VTN's full list leaves out, also where it was nothing to us."""
        if self.pass_on is None:
            return
        async with self.store.begin() as connection:
            after = self.clock.now() + early + END_SLACK
            for event_id in await self.pass_on.told_below(connection, after=after):
                if event_id not in listed:
                    await self.pass_on(connection, event_id, None)

    async def _pass_on(self, connection: AsyncConnection, notice: EventNotice) -> None:
        if self.pass_on is not None and notice.event is not None:
            await self.pass_on(connection, notice.external_id, notice.event)

    async def _void_earlier(self, notice: EventNotice) -> None:
        """A version we cannot take replaces one we may have taken: before the event that ends our part.

        During the event the targets last accepted stay in force, as for a change the fleet cannot cover.
        """
        async with self.store.begin() as connection:
            await self._pass_on(connection, notice)
            known = await self._known(connection, notice.external_id)
            if known is None or notice.modification_number <= known.modification_number or notice.refusal is None:
                return
            number, reason = notice.modification_number, notice.refusal.reason
            if await self._is_noted(connection, known, number):
                return
            detail = {"modification_number": number, "reason": reason}
            await note(connection, known, at=self.clock.now(), what=NOT_UNDERSTOOD, detail=detail)
            if known.state in _BEFORE_EVENT:
                await self._receive(connection, _cancellation(known, notice.modification_number))

    async def _receive(self, connection: AsyncConnection, signal: EventSignal) -> Commitment:
        program = self.programs.get(signal.program)
        if program is None:
            raise NotFound(f"programme {signal.program!r} is not among {', '.join(sorted(self.programs))}")
        return await receive(
            connection,
            signal,
            tenant_id=self.tenant_id,
            program=program,
            terms=await program_terms(connection, tenant_id=self.tenant_id, program=signal.program),
            draw_offset_s=self._draw_offset_s,
            decide=self.covers,
            clock=self.clock,
        )

    async def covers(self, connection: AsyncConnection, wanted: Commitment) -> Decision:
        """Return whether the fleet covers a commitment, and is not declared unavailable at that time."""
        now = self.clock.now()
        peer = self.source.partition(":")[2]
        for declared in await list_unavailability(connection, tenant_id=self.tenant_id, after=now, peer=peer):
            shared = declared.window.overlap(wanted.window)
            if shared is not None and shared.end_at > now:
                return Decision(False, f"not available until {_minute(declared.window.end_at)}: {declared.reason}")
        return await self.decide(connection, wanted)

    async def _is_noted(self, connection: AsyncConnection, known: Commitment, number: int) -> bool:
        noted = select(commitment_step.c.id).where(
            commitment_step.c.commitment_id == known.id,
            commitment_step.c.what == NOT_UNDERSTOOD,
            commitment_step.c.detail["modification_number"].as_integer() == number,
        )
        return (await connection.execute(noted.limit(1))).first() is not None

    def _draw_offset_s(self, signal: EventSignal) -> float:
        rng = random.Random(f"{self.seed}\n{signal.source}\n{signal.external_id}")
        return round(rng.uniform(0.0, signal.start_tolerance_s), 3)

    async def _known(self, connection: AsyncConnection, external_id: str) -> Commitment | None:
        return await find(connection, self.source, external_id)


def _cancellation(known: Commitment, number: int) -> EventSignal:
    return EventSignal(
        source=known.source,
        external_id=known.external_id,
        modification_number=number,
        program=known.program,
        kind=SignalKind.POWER_KW,
        intervals=(),
        cancelled=True,
    )


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _at_once(notice: EventNotice, opt_in: bool, code: int, reason: str) -> EventAnswer | None:
    if not notice.answer_wanted:
        return None
    return EventAnswer(
        external_id=notice.external_id,
        modification_number=notice.modification_number,
        request_id=notice.request_id,
        opt_in=opt_in,
        code=code,
        reason=reason,
    )
