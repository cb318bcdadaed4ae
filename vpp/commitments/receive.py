"""A signal becomes a commitment, once, in the caller's transaction, however often it is told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import records
from vpp.domain.commitment import Commitment, CommitmentState, TargetInterval
from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.settlement import ProgramTerms
from vpp.domain.signal import EventSignal, SignalKind
from vpp.domain.time import Interval
from vpp.ports import Clock, MarketProgram

COMMITMENT_IDS = UUID("5f1f8bb2-9f7e-4d3e-a5a7-0d5e5b9f6a10")
"""Ids are derived from the peer's, so that a replay after a crash names the same commitment."""

DECLINED_CHANGE = "modification declined, earlier targets stay"
"""The step of a change the fleet could not cover during the event."""

MODIFIED = "modified"

_BEFORE_EVENT = frozenset({CommitmentState.RECEIVED, CommitmentState.ACCEPTED, CommitmentState.DECLINED})


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the fleet covers an event, and if not, why not."""

    opt_in: bool
    reason: str = ""


Decide = Callable[[AsyncConnection, Commitment], Awaitable[Decision]]


async def receive(
    connection: AsyncConnection,
    signal: EventSignal,
    *,
    tenant_id: str,
    program: MarketProgram,
    terms: ProgramTerms,
    draw_offset_s: Callable[[EventSignal], float],
    decide: Decide,
    clock: Clock,
) -> Commitment:
    """Take one version of one event and return the commitment as it stands after it.

    A version already taken, or an older one, changes nothing. The random start is drawn for the
    first version only and kept. During the event a change holds from now on: what was owed until
    now stays owed. A change the fleet cannot cover is answered with optOut and the reason; before
    the event that ends our part, during it the targets last accepted stay in force: the commitment is
    ACTIVE with `opt_in` False, and its history says so.

    A cancelled event that is stated again, by a later modification, and is not over begins a new life: a
    commitment of its own for what is left of it, with the random start of the first. So the life that was
    cancelled is handed back, measured and paid as if nothing had followed.

    Raises:
        InvalidRequest: a cancellation of an event never seen that carries no intervals.
        Conflict: the event is another tenant's, whose peer has the same name.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(_lock_key(signal))))
    known = await records.find(connection, signal.source, signal.external_id, for_update=True)
    if known is not None and known.tenant_id != tenant_id:
        raise Conflict(f"event {signal.external_id!r} of {signal.source} is another tenant's: name its peer otherwise")
    intake = _Intake(connection, signal, program, terms, decide, clock.now())
    if known is None:
        return await intake.first(tenant_id, draw_offset_s(signal) if signal.start_tolerance_s > 0 else 0.0)
    if signal.cancelled:
        return await intake.cancel(known)
    if known.cancel_requested:
        return await intake.again(known)
    if signal.modification_number <= known.modification_number:
        return known
    return await intake.modify(known)


@dataclass(frozen=True, slots=True)
class _Intake:
    connection: AsyncConnection
    signal: EventSignal
    program: MarketProgram
    terms: ProgramTerms
    decide: Decide
    now: datetime

    async def first(self, tenant_id: str, offset_s: float) -> Commitment:
        signal = self.signal
        if not signal.intervals:
            raise InvalidRequest("intervals", "none", "the event's intervals: it was never seen before")
        commitment = self._new(tenant_id, self._targets(offset_s), offset_s)
        await records.create(self.connection, commitment, at=self.now)
        await records.note(self.connection, commitment, at=self.now, what="received", detail=self._stated())
        return await (self.cancel(commitment) if signal.cancelled else self._answer(commitment, commitment))

    async def again(self, known: Commitment) -> Commitment:
        """Begin the next life of an event that was cancelled, where what is stated now is live and not over."""
        number = self.signal.modification_number
        if known.void_up_to is None or number <= known.void_up_to:
            return known
        stated = self._targets(known.start_offset_s)
        ahead = _from(stated, self.now)
        if not ahead:
            return await self._too_late(known) if number > known.modification_number else known
        commitment = self._new(known.tenant_id, ahead, known.start_offset_s, life=known.life + 1)
        await records.create(self.connection, commitment, at=self.now)
        detail = self._stated() | {"life": commitment.life}
        await records.note(self.connection, commitment, at=self.now, what="live again", detail=detail)
        window = Interval(stated[0].interval.start_at, stated[-1].interval.end_at)
        return await self._answer(commitment, commitment, window=window)

    def _new(
        self, tenant_id: str, targets: tuple[TargetInterval, ...], offset_s: float, *, life: int = 1
    ) -> Commitment:
        signal = self.signal
        name = f"{signal.source}\n{signal.external_id}" + (f"\n{life}" if life > 1 else "")
        return Commitment(
            id=uuid5(COMMITMENT_IDS, name),
            tenant_id=tenant_id,
            program=signal.program,
            source=signal.source,
            external_id=signal.external_id,
            modification_number=signal.modification_number,
            state=CommitmentState.RECEIVED,
            targets=targets,
            revision=0,
            start_offset_s=offset_s,
            is_test=signal.is_test,
            life=life,
        )

    async def modify(self, known: Commitment) -> Commitment:
        stated = replace(known, modification_number=self.signal.modification_number)
        if known.state in _BEFORE_EVENT:
            changed = replace(stated, targets=self._targets(known.start_offset_s), is_test=self.signal.is_test)
            await records.add_targets(self.connection, changed)
            return await self._answer(known, changed)
        if known.state is CommitmentState.ACTIVE:
            return await self._modify_during(known, stated)
        return await self._too_late(known)

    async def _too_late(self, known: Commitment) -> Commitment:
        late = replace(known, modification_number=self.signal.modification_number, revision=known.revision + 1)
        await records.add_targets(self.connection, late)
        await records.advance(self.connection, known, late, at=self.now, what="changed too late", detail=self._stated())
        return late

    async def _modify_during(self, known: Commitment, stated: Commitment) -> Commitment:
        ahead = _from(self._targets(known.start_offset_s), self.now)
        if not ahead:
            return await self._end_now(known, stated, "shortened to an end already passed")
        decision = await self.decide(self.connection, replace(stated, targets=ahead))
        targets = _until(known.targets, self.now) + ahead if decision.opt_in else known.targets
        changed = replace(
            stated,
            targets=targets,
            opt_in=decision.opt_in,
            opt_reason=decision.reason,
            revision=known.revision + 1,
            next_due_at=self.now if decision.opt_in else known.next_due_at,
        )
        await records.add_targets(self.connection, changed)
        what = MODIFIED if decision.opt_in else DECLINED_CHANGE
        detail = self._stated() | {"reason": decision.reason}
        if not decision.opt_in:
            detail["in_force_kw"] = [target.target_kw for target in known.targets]
        await records.advance(self.connection, known, changed, at=self.now, what=what, detail=detail)
        return changed

    async def cancel(self, known: Commitment) -> Commitment:
        told = self.signal.modification_number
        if known.cancel_requested or known.state is CommitmentState.CANCELLED:
            return await self._void_more(known)
        if known.life > 1 and told < known.modification_number:
            return known  # the cancellation of an earlier life, told again
        number = max(known.modification_number, told)
        stated = replace(
            known,
            modification_number=number,
            cancel_requested=True,
            opt_in=True,
            opt_reason="",
            void_up_to=told - 1 if self.signal.withdrawn else number,
        )
        if known.state is CommitmentState.ACTIVE:
            return await self._end_now(known, stated, "cancelled during the event")
        over = known.state not in _BEFORE_EVENT
        gone = replace(
            stated,
            state=known.state if over else CommitmentState.CANCELLED,
            next_due_at=known.next_due_at if over else None,
            revision=known.revision + 1,
        )
        what = "cancelled after its end" if over else "cancelled"
        await records.advance(self.connection, known, gone, at=self.now, what=what, detail=self._stated())
        return gone

    async def _void_more(self, known: Commitment) -> Commitment:
        """A cancellation of a later version than the one already cancelled makes that one void as well."""
        told = self.signal.modification_number
        if self.signal.withdrawn or (known.void_up_to is not None and told <= known.void_up_to):
            return known
        more = replace(known, void_up_to=told, revision=known.revision + 1)
        await records.advance(self.connection, known, more, at=self.now, what="cancelled again", detail=self._stated())
        return more

    async def _end_now(self, known: Commitment, stated: Commitment, what: str) -> Commitment:
        number = max(stated.modification_number, known.modification_number + 1)
        ended = replace(
            stated,
            modification_number=number,
            targets=_until(known.targets, self.now) or _nothing(known.window.start_at),
            revision=known.revision + 1,
            next_due_at=self.now,
        )
        await records.add_targets(self.connection, ended)
        await records.advance(self.connection, known, ended, at=self.now, what=what, detail=self._stated())
        return ended

    async def _answer(self, before: Commitment, stated: Commitment, *, window: Interval | None = None) -> Commitment:
        decision = await self._decision(stated, window or stated.window)
        after = replace(
            stated,
            state=CommitmentState.ACCEPTED if decision.opt_in else CommitmentState.DECLINED,
            opt_in=decision.opt_in,
            opt_reason=decision.reason,
            revision=before.revision + 1,
            next_due_at=stated.window.start_at if decision.opt_in else None,
        )
        what = "accepted" if decision.opt_in else "declined"
        detail = self._stated() | {"reason": decision.reason}
        await records.advance(self.connection, before, after, at=self.now, what=what, detail=detail)
        return after

    async def _decision(self, commitment: Commitment, window: Interval) -> Decision:
        """`window` is the event's as stated; the commitment may be for the rest of it only."""
        if commitment.window.end_at <= self.now:
            return Decision(False, "the event is over")
        refused = self.program.refuse_reason(window, str(self.terms.options.get("time_zone", "UTC")), self.terms)
        return Decision(False, refused) if refused else await self.decide(self.connection, commitment)

    def _targets(self, offset_s: float) -> tuple[TargetInterval, ...]:
        offset = timedelta(seconds=offset_s)
        return tuple(
            TargetInterval(
                part.interval.shifted(offset),
                self.program.kw_of_level(part.value, self.terms)
                if self.signal.kind is SignalKind.LEVEL
                else part.value,
            )
            for part in self.signal.intervals
        )

    def _stated(self) -> dict[str, object]:
        return {
            "modification_number": self.signal.modification_number,
            "kind": self.signal.kind.value,
            "values": [part.value for part in self.signal.intervals],
        }


def _until(targets: tuple[TargetInterval, ...], at: datetime) -> tuple[TargetInterval, ...]:
    return tuple(
        TargetInterval(Interval(t.interval.start_at, min(t.interval.end_at, at)), t.target_kw)
        for t in targets
        if t.interval.start_at < at
    )


def _from(targets: tuple[TargetInterval, ...], at: datetime) -> tuple[TargetInterval, ...]:
    return tuple(
        TargetInterval(Interval(max(t.interval.start_at, at), t.interval.end_at), t.target_kw)
        for t in targets
        if t.interval.end_at > at
    )


def _nothing(at: datetime) -> tuple[TargetInterval, ...]:
    """An event ended in the instant it began still needs a window to be handed back and measured."""
    return (TargetInterval(Interval(at, at + timedelta(seconds=1)), 0.0),)


def _lock_key(signal: EventSignal) -> int:
    return uuid5(COMMITMENT_IDS, f"{signal.source}\n{signal.external_id}").int % (1 << 63)
