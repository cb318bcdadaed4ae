"""Room gateway: the loop that asks a utility's OpenADR 3 VTN. Made by bootstrap, run in the gateway's process.

All that must outlive this process is in SQL. Every round reads every event: a GET changes nothing at the VTN,
so nothing can be lost on the way, and a webhook or MQTT message is only a reason to read at once. How often we
read does not depend on them, so one that is silent or broken costs the polling interval and no event.

An event that is missing from a full read is asked for by its id before we believe that it was deleted, which
in OpenADR 3 is how an event is cancelled. Where the VTN says neither yes nor no (403), two full reads in a row
must have left it out.

A list of active events no longer shows one that is over. So each is asked for once more after its end, however late
that is: its last version may have been stated while we, or the VTN, were down.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from vpp.commitments import Decide
from vpp.domain.errors import PeerRefused, PeerUnreachable, VppError
from vpp.domain.time import floor_to
from vpp.domain.ven3 import EventList, ProgramSeen, VenSeen
from vpp.gateway import metrics
from vpp.gateway.events import END_SLACK, EventDesk, PassOn
from vpp.gateway.hearing import Hearing
from vpp.gateway.ven3 import registration, reports, seen
from vpp.gateway.ven3.composer import Composer
from vpp.gateway.ven3.figures import Figures
from vpp.gateway.ven3.intake import Intake
from vpp.gateway.ven3.reporter import Reporter3
from vpp.gateway.ven3.subscriber import Subscriber
from vpp.gateway.ven3.terms import Ven3Terms
from vpp.peering import note_standing
from vpp.ports import Clock, EventTranslator, MarketProgram, Ven3Client, Ven3Ear
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

RETRY_S = 5.0
MAX_RETRY_S = 300.0
MAX_POLL_S = 86_400.0
RESYNC = timedelta(minutes=15)
"""How often programmes, our VEN object and subscriptions are looked after."""
KEPT = timedelta(days=90)
"""How long what a VTN told is kept after it is over; commitments are kept by their own rules."""
WAKE_SPACING = timedelta(seconds=1)
"""Woken again and again, we ask this often at most."""
MAX_CONFIRMED = 50
MISSED_TO_BELIEVE = 2
MAX_ASKED = 100
"""So often an event that is over is asked for where its last version cannot be had or taken."""


@dataclass(slots=True)
class _Session:
    """What may be forgotten at any time: it is read anew."""

    programs: dict[str, ProgramSeen] = field(default_factory=dict)
    ven_id: str | None = None
    targets: tuple[str, ...] = ()
    synced_at: datetime | None = None


class Openadr3Ven:
    """Receives a utility's events over OpenADR 3. A `SignalSource`.

    Args:
        client: the wire to the VTN; its name is the source of our commitments.
        programs: programmes by name.
        decide: whether the fleet covers a commitment.
        wake: set by whoever heard that the VTN has something new.
        ear: hears the VTN's broker, where it has one and we want to.
        pass_on: hears of every event, to tell those below us.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        client: Ven3Client,
        terms: Ven3Terms,
        *,
        programs: Mapping[str, MarketProgram],
        decide: Decide,
        translator: EventTranslator,
        figures: Figures,
        wake: asyncio.Event | None = None,
        ear: Ven3Ear | None = None,
        pass_on: PassOn | None = None,
    ) -> None:
        self.name = client.name
        self._store, self._clock, self._client, self._terms = store, clock, client, terms
        self._desk = EventDesk(store, clock, client.name, terms.tenant_id, programs, decide, terms.seed, pass_on)
        self._hearing = Hearing(store, clock, client.name, terms.tenant_id, terms.hearing)
        self._intake = Intake(store, clock, client.name, self._desk, translator, terms.program_of, self._hearing)
        self._heard_again = False
        composer = Composer(figures, terms.tenant_id, terms.hearing.site_of)
        self._reporter = Reporter3(store, clock, client, composer, ven_name=terms.wanted.name)
        self._subscriber = Subscriber(store, clock, client, url=terms.callback_url, client_name=terms.wanted.name)
        self._rng = random.Random(f"{terms.seed}\n{client.name}")
        self._wake = wake or (asyncio.Event() if ear is not None else None)
        self._ear = ear
        self._session = _Session()
        self._failures = 0
        self._patient_until = datetime.min.replace(tzinfo=UTC)

    @property
    def ven_id(self) -> str | None:
        """Our VEN object's id, once known."""
        return self._session.ven_id

    @property
    def program_ids(self) -> Sequence[str]:
        """The VTN's programmes, as last read."""
        return list(self._session.programs)

    async def run(self) -> None:
        """Ask and report until cancelled; no failure of the peer or the database ends it."""
        async with asyncio.TaskGroup() as group:
            listening = False
            while True:
                began_at = self._clock.now()
                due_at = await self.step()
                if self._ear is not None and self._wake is not None and self._session.synced_at and not listening:
                    ring = self._wake.set
                    group.create_task(self._ear.run(lambda: self.ven_id, lambda: self.program_ids, ring))
                    listening = True
                await self._rest(due_at, not_before=max(began_at + WAKE_SPACING, self._patient_until))

    async def leave(self) -> None:
        """The VTN is no peer any more: its webhooks and limits end. Commitments taken are ours to the end."""
        await self._hearing.leave()
        await self._subscriber.end()

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()

    async def step(self) -> datetime:
        """Do everything that is due and return when to come back."""
        if self._wake is not None:
            self._wake.clear()  # before we read: what is told from now on may come too late for this read
        try:
            due_at = await self._round()
        except (VppError, SQLAlchemyError, OSError) as error:
            await note_standing(self._store, self._terms.peer_id, error, at=self._clock.now())
            return self._after_failure(error)
        await note_standing(self._store, self._terms.peer_id, None, at=self._clock.now())
        self._failures = 0
        metrics.EXCHANGES.labels(self.name, "ok").inc()
        metrics.REACHABLE.labels(self.name).set(1)
        return due_at

    async def _rest(self, until: datetime, *, not_before: datetime) -> None:
        if self._wake is None:
            await self._clock.sleep_until(until)
            return
        sleeping = asyncio.ensure_future(self._clock.sleep_until(until))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            done, _ = await asyncio.wait({sleeping, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, woken):
                task.cancel()
            for task in (sleeping, woken):
                with suppress(asyncio.CancelledError):
                    await task
        if sleeping not in done:
            await self._clock.sleep_until(min(not_before, until))

    def _after_failure(self, error: Exception) -> datetime:
        self._failures += 1
        self._session.synced_at = None
        metrics.EXCHANGES.labels(self.name, type(error).__name__).inc()
        metrics.REACHABLE.labels(self.name).set(0)
        longest_s = min(MAX_RETRY_S, max(RETRY_S, self._poll_s()))
        delay_s = min(longest_s, RETRY_S * 2 ** min(self._failures - 1, 10)) * self._rng.uniform(0.5, 1.0)
        if isinstance(error, PeerUnreachable) and error.retry_after_s is not None:
            delay_s = max(delay_s, min(error.retry_after_s, max(MAX_RETRY_S, longest_s)))
            self._patient_until = self._clock.now() + timedelta(seconds=delay_s)
        log.warning("round failed", source=self.name, error=str(error), failures=self._failures, retry_s=delay_s)
        return self._clock.now() + timedelta(seconds=delay_s)

    def _poll_s(self) -> float:
        return min(max(self._terms.poll_s, 1.0), MAX_POLL_S)

    async def _round(self) -> datetime:
        await self._ensure_session()
        problem = await self._read_events()
        await self._reporter.make_due()
        try:
            await self._reporter.send()
        except PeerUnreachable as error:
            problem = problem or error
        if problem is not None:
            raise problem
        interval = timedelta(seconds=self._poll_s())
        next_poll_at = floor_to(self._clock.now(), interval) + interval
        return min(next_poll_at, await self._reporter.next_due_at() or next_poll_at)

    async def _ensure_session(self) -> None:
        session = self._session
        if session.synced_at is not None and self._clock.now() - session.synced_at < RESYNC:
            return
        if not self._heard_again:
            await self._intake.hear_again(after=self._clock.now())
            self._heard_again = True
        programs = await self._client.programs()
        ven = await self._register()
        targets = tuple(dict.fromkeys([*(ven.targets if ven else ()), *self._terms.targets]))
        async with self._store.begin() as connection:
            await registration.save_ven(connection, self.name, ven, targets=targets, at=self._clock.now())
            await seen.prune(connection, self.name, before=self._clock.now() - KEPT)
        await self._hearing.prune()
        session.programs = {program.program_id: program for program in programs}
        session.ven_id, session.targets = (ven.ven_id if ven else None), targets
        self._reporter.registered = ven.resources if ven else ()
        await self._subscriber.ensure(tuple(session.programs))
        session.synced_at = self._clock.now()

    async def _register(self) -> VenSeen | None:
        """Our VEN object. A VTN that lets us have none sends us events all the same, by our credentials."""
        try:
            return await self._client.register(self._terms.wanted)
        except PeerRefused as refused:
            log.warning("no VEN object", source=self.name, error=str(refused))
            return None

    async def _read_events(self) -> Exception | None:
        read_at = self._clock.now()
        told = await self._client.events(self._session.targets)
        if any(event.program_id not in self._session.programs for event in told.events):
            found = await self._client.programs()
            self._session.programs = {program.program_id: program for program in found}
        problem: Exception | None = await self._miss(told)  # first: what is gone leaves room for what takes its place
        for event in await self._intake.changed(told.events, self._session.programs):
            try:
                came = await self._intake.take(event, self._session.programs.get(event.program_id))
                if came.is_stale:
                    await self._ask_for(event.event_id)
            except (VppError, DataError) as error:  # one that fails does not hold up the others
                log.warning("event not taken", source=self.name, event_id=event.event_id, error=str(error))
                async with self._store.begin() as connection:
                    await seen.note_trouble(connection, self.name, event.event_id, why=str(error))
                problem = problem or error
        return problem or await self._close(told, read_at)

    async def _ask_for(self, event_id: str) -> bool | None:
        """Ask for one event and take it as it is; False where it is deleted, None where we may not know."""
        try:
            event = await self._client.event(event_id)
        except PeerRefused as refused:
            log.warning("event not shown", source=self.name, event_id=event_id, error=str(refused))
            return None
        if event is None:
            return False
        await self._intake.take(event, self._session.programs.get(event.program_id), confirmed=True)
        return True

    async def _miss(self, told: EventList) -> VppError | None:
        """Look after the events that a full read has left out."""
        listed = {event.event_id for event in told.events}
        async with self._store.begin() as connection:
            known = await seen.open_ids(connection, self.name, after=self._clock.now() + END_SLACK)
        absent = [event_id for event_id in known if event_id not in listed]
        problem: VppError | None = None
        for event_id in absent[:MAX_CONFIRMED]:
            try:
                is_there = await self._ask_for(event_id)
                if is_there is None and told.complete:
                    async with self._store.begin() as connection:
                        missed = await seen.note_missed(connection, self.name, event_id)
                    is_there = None if missed < MISSED_TO_BELIEVE else False
                if is_there is False:
                    await self._withdraw(event_id)
            except VppError as error:
                problem = problem or error
        return problem

    async def _close(self, told: EventList, read_at: datetime) -> Exception | None:
        """Hear the last version of events that were over when we read, by their ids where the list leaves them out."""
        listed = {event.event_id for event in told.events}
        async with self._store.begin() as connection:
            ended = await seen.ended(connection, self.name, by=read_at)
        heard = [event_id for event_id in ended if event_id in listed and ended[event_id] != seen.NEW]
        problem: Exception | None = None
        for event_id in [event_id for event_id in ended if event_id not in listed][:MAX_CONFIRMED]:
            try:
                is_there = await self._ask_for(event_id)
                if is_there is False:
                    await self._withdraw(event_id)
                if is_there is not None or await self._in_vain(event_id, MISSED_TO_BELIEVE):
                    heard.append(event_id)
            except (VppError, DataError) as error:
                problem = problem or error
                if await self._in_vain(event_id, MAX_ASKED, why=str(error)):
                    heard.append(event_id)
                if isinstance(error, PeerUnreachable):  # the others would only wait for it
                    break
        if heard:
            async with self._store.begin() as connection:
                await seen.close(connection, self.name, heard, by=read_at, at=self._clock.now())
        return problem

    async def _in_vain(self, event_id: str, most: int, *, why: str = "") -> bool:
        """Note that asking for an event that is over led to nothing; True where we give up."""
        async with self._store.begin() as connection:
            if why:
                await seen.note_trouble(connection, self.name, event_id, why=why)
            is_last = await seen.note_asked(connection, self.name, event_id) >= most
        log.warning("last version not heard", source=self.name, event_id=event_id, why=why, given_up=is_last)
        return is_last

    async def _withdraw(self, event_id: str) -> None:
        """The VTN has deleted the event: our part in it ends, and nothing more is reported of it."""
        ended = await self._desk.delete(event_id)
        await self._hearing.withdraw({event_id})
        async with self._store.begin() as connection:
            await seen.note_gone(connection, self.name, event_id, at=self._clock.now(), reason="deleted at the VTN")
            await reports.end_plans(connection, self.name, event_id)
        state = None if ended is None else ended.state.value
        log.info("event withdrawn", source=self.name, event_id=event_id, state=state)
