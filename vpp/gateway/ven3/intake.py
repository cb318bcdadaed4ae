"""Room gateway, OpenADR 3 VEN: an event as told becomes a version we keep, and reaches the commitments.

Called by `loop`.

Two transactions: the version is written down as `new`, then the commitment is made or changed and the outcome
noted. Killed between them, the next round finds the version still `new` and goes on; the commitment is known
by its version and not changed twice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent
from vpp.domain.signal import EventSignal
from vpp.domain.ven import EventNotice, Refusal
from vpp.domain.ven3 import EventSeen, ProgramSeen
from vpp.gateway import metrics
from vpp.gateway.events import EventDesk
from vpp.gateway.hearing import Hearing, Outcome
from vpp.gateway.meaning import interpret
from vpp.gateway.ven3 import seen
from vpp.gateway.ven3.reports import plan_reports
from vpp.ports import Clock, EventTranslator
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

NOT_RECOGNIZED, INVALID_DATA = 453, 454
MAX_ID_CHARS = 128


@dataclass(frozen=True, slots=True)
class Told:
    """What came of hearing an event: `is_stale` where it is older than what we hold, so that it must be confirmed."""

    is_stale: bool = False
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes events of one VTN.

    Attributes:
        program_of: our programme by the VTN's name of it, or by its id.
    """

    store: Store
    clock: Clock
    source: str
    desk: EventDesk
    translator: EventTranslator
    program_of: Mapping[str, str]
    hearing: Hearing

    async def changed(self, told: Sequence[EventSeen], programs: Mapping[str, ProgramSeen]) -> tuple[EventSeen, ...]:
        """Return the events that are not held as they are told: most of a full read is, at most polls."""
        digests = {}
        for each in told:
            program = programs.get(each.program_id)
            digests[each.event_id] = _digest(_with_defaults(each, program), self._our_program(each.program_id, program))
        async with self.store.begin() as connection:
            known = await seen.unchanged(connection, self.source, digests)
        return tuple(each for each in told if each.event_id not in known)

    async def take(self, told: EventSeen, program: ProgramSeen | None, *, confirmed: bool = False) -> Told:
        """Take an event as told; `confirmed` says that it was asked for by its id, not found in a list.

        A version whose modificationDateTime lies before the one we hold may come from a stale copy of the
        list. It is believed only when confirmed.
        """
        if len(told.event_id) > MAX_ID_CHARS:
            log.warning("event ignored", source=self.source, event_id=told.event_id[:MAX_ID_CHARS], why="id too long")
            return Told()
        ours = self._our_program(told.program_id, program)
        body = _with_defaults(told, program)
        digest = _digest(body, ours)
        async with self.store.begin() as connection:
            known = await seen.find_seen(connection, self.source, told.event_id, for_update=True)
            if known is not None and known.digest == digest and not known.is_gone:
                await seen.note_listed(connection, self.source, told.event_id)
                if known.outcome != seen.NEW:
                    return Told()
                number = known.modification_number
            else:
                if known is not None and not confirmed and _is_older(told, known):
                    return Told(is_stale=True)
                changed = known is not None and (known.digest != digest or known.is_gone)
                number = 0 if known is None else known.modification_number + changed
            event, refusal = self._read(body, number, known)
            await seen.save_version(
                connection, self.source, told,
                number=number, digest=digest, program=ours, event=event, at=self.clock.now(),
            )  # fmt: skip
        await self._hand_over(told, event, refusal, number, ours)
        return Told(is_new=True)

    def _read(
        self, body: Mapping[str, Any], number: int, known: seen.Seen | None
    ) -> tuple[GridEvent | None, Refusal | None]:
        """`now` as a start is the moment the event was made, or first heard of where the VTN does not say."""
        first_at = known.first_seen_at if known is not None else self.clock.now()
        stamped = {"createdDateTime": first_at.isoformat().replace("+00:00", "Z"), **body}
        try:
            event, _ = self.translator.from_openadr3(stamped, modification_number=number)
        except InvalidRequest as error:
            return None, Refusal(INVALID_DATA, str(error))
        return event, None

    async def _hand_over(
        self, told: EventSeen, event: GridEvent | None, refusal: Refusal | None, number: int, ours: str | None
    ) -> None:
        notice = self._notice(told, event, refusal, number, ours, first_told=number == 0)
        taken = await self.desk.take(notice, again=False)
        opted_in = taken.commitment is not None and taken.commitment.opt_in is True
        if notice.refusal is not None:
            outcome, reason = seen.REFUSED, notice.refusal.reason
        elif notice.completed or taken.commitment is None:
            outcome, reason = seen.OUT, "the event is over"
        else:
            outcome, reason = (seen.IN if opted_in else seen.OUT), taken.commitment.opt_reason
        async with self.store.begin() as connection:
            if event is not None and not notice.completed:
                came = Outcome(program=ours, opted_in=opted_in, reason=reason)
                heard = await self.hearing.hear_in(connection, replace(event, event_id=told.event_id), came)
                if outcome == seen.REFUSED and heard.in_full:  # no power is asked, and the rest is done
                    outcome, reason = seen.IN, heard.reason
            await seen.save_outcome(
                connection, self.source, told.event_id, number=number, outcome=outcome, reason=reason
            )
            if event is not None and (told.reports or number > 0):
                await plan_reports(connection, self.source, event, told.reports)
        metrics.EVENTS.labels(self.source, outcome).inc()
        log.info(
            "event taken",
            source=self.source,
            event_id=told.event_id,
            modification=number,
            outcome=outcome,
            reason=reason,
        )

    async def hear_again(self, *, after: datetime) -> None:
        """Keep what open events say as it would be kept now: terms may have changed, or a process died between."""
        async with self.store.begin() as connection:
            known = await seen.open_events(connection, self.source, after=after)
        for each in known.values():
            if each.event is not None and each.outcome != seen.NEW:
                came = Outcome(program=each.program, opted_in=each.outcome == seen.IN, reason=each.reason)
                await self.hearing.hear(replace(each.event, event_id=each.event_id), came)

    def _notice(
        self,
        told: EventSeen,
        event: GridEvent | None,
        refusal: Refusal | None,
        number: int,
        ours: str | None,
        *,
        first_told: bool,
    ) -> EventNotice:
        """No answer is wanted: OpenADR 3 has no optIn. What we made of an event is told by reports.

        An event first told when it is over is nothing to us; one that a change puts an end to, in the past, is.
        """
        signal: EventSignal | None = None
        over = first_told and event is not None and _is_over(event, self.clock.now())
        if refusal is None and ours is None:
            refusal = Refusal(NOT_RECOGNIZED, f"programme {told.program_id!r} is none of ours")
        if refusal is None and event is not None and ours is not None and not over:
            meant = interpret(event, source=self.source, program=ours)
            if isinstance(meant, Refusal):
                refusal = meant
            else:
                signal = replace(meant, source=self.source, external_id=told.event_id, modification_number=number)
        return EventNotice(
            external_id=told.event_id,
            modification_number=number,
            request_id="",
            answer_wanted=False,
            signal=None if over else signal,
            refusal=None if over else refusal,
            completed=over,
            event=None if event is None else replace(event, event_id=told.event_id),
        )

    def _our_program(self, program_id: str, program: ProgramSeen | None) -> str | None:
        """Programme names may be hidden from a VEN, so the id counts as well."""
        name = program.name if program is not None else ""
        return self.program_of.get(name) or self.program_of.get(program_id)


def _with_defaults(told: EventSeen, program: ProgramSeen | None) -> dict[str, Any]:
    """An event's units and currency are its programme's, where it says nothing of a payload type itself."""
    own = told.body.get("payloadDescriptors")
    descriptors = [each for each in own if isinstance(each, Mapping)] if isinstance(own, list) else []
    said = [each.get("payloadType") for each in descriptors]
    more = [d for d in (program.payload_descriptors if program else ()) if d.get("payloadType") not in said]
    more = [d for d in more if d.get("objectType", "EVENT_PAYLOAD_DESCRIPTOR") == "EVENT_PAYLOAD_DESCRIPTOR"]
    return dict(told.body) | ({"payloadDescriptors": descriptors + more} if more else {})


def _digest(body: Mapping[str, Any], ours: str | None) -> str:
    stamps = ("createdDateTime", "modificationDateTime", "objectType", "id")
    said = {key: value for key, value in body.items() if key not in stamps}
    text = json.dumps([ours, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_over(event: GridEvent, at: datetime) -> bool:
    return not event.cancelled and event.end_at is not None and event.end_at <= at


def _is_older(told: EventSeen, known: seen.Seen) -> bool:
    return told.modified_at is not None and known.modified_at is not None and told.modified_at < known.modified_at
