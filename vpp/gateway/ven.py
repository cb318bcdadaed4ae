"""Room gateway: the loop that asks a utility's VTN. Made by `vpp/bootstrap`, one for each VTN.

All that must outlive this process is in SQL: registration, commitments with the answers owed, report
requests with their values. A new instance on the same database goes on where the old one stopped. It
begins by asking for every event, so nothing told while we were down is missed; the same after any
failed round, for a VTN may hold a reply for delivered that never reached us.
"""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from vpp.commitments import Decide
from vpp.domain.commitment import CommitmentState
from vpp.domain.errors import PeerError, PeerUnreachable, RegistrationLost, VppError
from vpp.domain.openadr2 import (
    INVALID_ID,
    Acknowledge,
    CancelRegistration,
    CancelReports,
    CreatedEvents,
    CreateReports,
    DistributeEvents,
    Openadr2Message,
    Poll,
    RegisterReports,
    RequestEvents,
    RequestReregistration,
    Response,
    UpdateReports,
)
from vpp.domain.ven import EventNotice, Registration
from vpp.gateway import metrics, registration
from vpp.gateway.answering import Answerer
from vpp.gateway.asking import Asker
from vpp.gateway.events import END_SLACK, EventDesk, PassOn, Taken
from vpp.gateway.hearing import Hearing, Outcome
from vpp.gateway.measures import Telemetry
from vpp.gateway.notices import read_notices
from vpp.gateway.opting import OptWatch
from vpp.gateway.reporter import Reporter
from vpp.gateway.session import Session
from vpp.gateway.telling import AvailabilityTeller
from vpp.gateway.terms import VtnTerms
from vpp.gateway.unchanged import Unchanged
from vpp.peering import note_standing
from vpp.ports import Clock, MarketProgram, VenClient
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

MAX_MESSAGES = 20
RETRY_S = 5.0
MAX_RETRY_S = 300.0
RESYNC = timedelta(minutes=15)


class Openadr2Ven:
    """Receives a utility's events over OpenADR 2.0b and answers them. A `SignalSource`.

    Args:
        client: the wire to the VTN; its name is the source of our commitments.
        terms: what is agreed with this VTN.
        tenant_id: whose fleet answers.
        programs: programmes by name; `terms` maps market contexts to these names.
        decide: whether the fleet covers a commitment.
        telemetry: what the fleet delivers, for reports.
        seed: fixes random starts and the jitter of retries.
        pass_on: tells those below us of each event taken.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        client: VenClient,
        *,
        terms: VtnTerms,
        tenant_id: str,
        programs: Mapping[str, MarketProgram],
        decide: Decide,
        telemetry: Telemetry,
        seed: int = 0,
        pass_on: PassOn | None = None,
    ) -> None:
        self.name = client.name
        self._store, self._clock, self._client = store, clock, client
        self._terms, self._contexts = terms, tuple(terms.program_of)
        self._session = Session(store, clock, client, terms)
        self._desk = EventDesk(store, clock, client.name, tenant_id, programs, decide, seed, pass_on)
        self._hearing = Hearing(store, clock, client.name, tenant_id, terms.hearing)
        self._unchanged = Unchanged(store, clock, client.name)
        self._answerer = Answerer(store, clock, self._session)
        self._reporter = Reporter(store, clock, self._session, telemetry)
        self._asker = Asker(store, clock, self._session)
        self._teller = AvailabilityTeller(store, clock, self._session, tenant_id)
        self._watch = OptWatch(store, clock, self._desk, programs, terms.opt_changes)
        self._rng = random.Random(f"{seed}\n{client.name}")
        self._synced_at: datetime | None = None
        self._failures = 0

    async def run(self) -> None:
        """Ask, answer and report until cancelled; no failure of the peer or the database ends it."""
        while True:
            await self._clock.sleep_until(await self.step())

    async def step(self) -> datetime:
        """Do everything that is due and return when to come back."""
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

    async def leave(self) -> None:
        """End the registration: this VTN is a peer no longer.

        Raises:
            PeerError: it could not be told; we have forgotten it all the same.
        """
        await self._hearing.leave()
        await self._session.leave()

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()

    def _after_failure(self, error: Exception) -> datetime:
        self._failures += 1
        self._synced_at = None
        self._session.must_register |= isinstance(error, RegistrationLost)
        metrics.EXCHANGES.labels(self.name, type(error).__name__).inc()
        metrics.REACHABLE.labels(self.name).set(0)
        longest_s = min(MAX_RETRY_S, max(RETRY_S, self._session.interval_s()))
        delay_s = min(longest_s, RETRY_S * 2 ** min(self._failures - 1, 10)) * self._rng.uniform(0.5, 1.0)
        log.warning("round failed", source=self.name, error=str(error), failures=self._failures, retry_s=delay_s)
        return self._clock.now() + timedelta(seconds=delay_s)

    async def _round(self) -> datetime:
        registered = await self._ensure_registration()
        ven_id = registered.ven_id
        problem: VppError | None = None
        if self._synced_at is None or self._clock.now() - self._synced_at >= RESYNC:
            problem = await self._sync(ven_id)
            await self._answerer.send(ven_id)
        problem = await self._poll(registered) or problem
        if self._session.registration is None:  # ended by the VTN in this round
            return self._session.next_poll()
        await self._watch.review()
        for part in (self._answerer.send, self._report):
            try:
                await part(ven_id)
            except PeerUnreachable as error:
                problem = problem or error
        await self._teller.tell(ven_id)
        await self._asker.ask(ven_id)
        metrics.DECLINED_CHANGES.labels(self.name).set(await self._desk.count_declined_changes())
        if problem is not None:
            raise problem
        next_poll = self._session.next_poll()
        return min(next_poll, await self._reporter.next_due_at() or next_poll)

    async def _report(self, ven_id: str) -> None:
        await self._reporter.report(ven_id, self._contexts)

    async def _ensure_registration(self) -> Registration:
        known = await self._session.load()
        if known is None or self._session.must_register:
            known = await self._register()
            self._synced_at = None
        return known

    async def _register(self) -> Registration:
        """Register and offer reports; what both led to is kept in one transaction."""
        granted = await self._session.register()
        demands = await self._reporter.offer_first(granted.ven_id, self._contexts)
        poll_s = granted.poll_s or self._terms.poll_s
        async with self._store.begin() as connection:
            await registration.save_registration(connection, self.name, granted, poll_s=poll_s, at=self._clock.now())
            demanded = await self._reporter.replace_requests(connection, demands)
            await self._asker.ask_anew(connection)
        self._session.registration, self._session.must_register = granted, False
        log.info("registered", source=self.name, ven_id=granted.ven_id, vtn_id=granted.vtn_id, poll_s=poll_s)
        await self._reporter.confirm(granted.ven_id, demanded)
        return granted

    async def _sync(self, ven_id: str) -> VppError | None:
        """Ask for every event. An event of ours that the answer leaves out has been withdrawn."""
        full = await self._session.ask(RequestEvents(request_id=str(uuid4()), ven_id=ven_id))
        problem: VppError | None = None
        if isinstance(full, DistributeEvents) and await self._is_theirs(full, ven_id):
            notices = self._notices(full, ven_id)
            problem = await self._take_all(notices, again=False)
            early = self._session.drops_early()
            listed = {notice.external_id for notice in notices}
            self._unchanged.keep_only(listed)
            await self._hearing.withdraw(await self._hearing.absent(listed, early=early))
            await self._hearing.prune()
            await self._reporter.prune()
            await self._asker.prune()
            for gone in await self._desk.missing(listed, early=early):
                after = await self._desk.withdraw(gone)
                log.info("event withdrawn", source=self.name, event_id=gone.external_id, state=after.state.value)
            await self._desk.withdraw_below(listed, early=early)
        self._synced_at = self._clock.now()
        return problem

    def _notices(self, told: DistributeEvents, ven_id: str) -> tuple[EventNotice, ...]:
        return read_notices(told, source=self.name, program_of=self._terms.program_of, ven_id=ven_id)

    async def _poll(self, registered: Registration) -> VppError | None:
        """Ask until the VTN has nothing more, answering as we go."""
        problem: VppError | None = None
        for _ in range(MAX_MESSAGES):
            message = await self._session.ask(Poll(ven_id=registered.ven_id))
            if message is None or isinstance(message, Acknowledge):
                break
            if isinstance(message, DistributeEvents):
                problem = await self._take_told(registered.ven_id, message) or problem
            else:
                await self._handle(message, registered)
            if self._session.registration is None:
                break
        return problem

    async def _is_theirs(self, told: DistributeEvents, ven_id: str) -> bool:
        """Whether the vtnID is the one agreed on, where one is; if not, the VTN is told so and nothing is taken."""
        agreed = self._terms.vtn_id
        if agreed is None or told.vtn_id == agreed:
            return True
        log.warning("events of another VTN refused", source=self.name, vtn_id=told.vtn_id[:100], expected=agreed)
        refusal = Response(INVALID_ID, f"vtnID is {told.vtn_id[:100]}, not {agreed}", told.request_id)
        await self._session.ask(CreatedEvents(response=refusal, ven_id=ven_id, opts=()))
        return False

    async def _take_told(self, ven_id: str, told: DistributeEvents) -> VppError | None:
        if not await self._is_theirs(told, ven_id):
            return None
        notices = self._notices(told, ven_id)
        problem = await self._take_all(notices, again=True)
        listed = {notice.external_id for notice in notices}
        early = self._session.drops_early()
        absent = await self._hearing.absent(listed, early=early)
        if absent or await self._desk.missing(listed, early=early):  # ask before we believe it
            problem = await self._sync(ven_id) or problem
        await self._answerer.send(ven_id)
        return problem

    async def _handle(self, message: Openadr2Message, registered: Registration) -> None:
        """Act on any message but events that a VTN may queue for a poll, and answer it."""
        ven_id = registered.ven_id
        match message:
            case CreateReports():
                await self._reporter.accept(ven_id, message.demands, message.request_id)
            case CancelReports():
                await self._reporter.cancel(ven_id, message)
            case RegisterReports():
                await self._asker.hear_offers(ven_id, message)
            case UpdateReports():
                await self._asker.hear_values(ven_id, message)
            case CancelRegistration():
                await self._session.ended_by_vtn(registered, message)
            case RequestReregistration():
                await self._answer_reregistration(ven_id)
                raise RegistrationLost(f"{self.name} asks us to register again")
            case _:
                log.warning("message ignored", source=self.name, kind=type(message).__name__)

    async def _answer_reregistration(self, ven_id: str) -> None:
        try:
            await self._session.ask(Acknowledge(response=Response(), ven_id=ven_id))
        except PeerError as error:  # we register all the same, which is the answer that counts
            log.info("request to register again not acknowledged", source=self.name, error=str(error))

    async def _take_all(self, notices: tuple[EventNotice, ...], *, again: bool) -> VppError | None:
        """Take each event in its own transaction; one that fails does not hold up the others."""
        problem: VppError | None = None
        known = await self._unchanged.recognise(notices, again=again)
        for notice, told_before in zip(notices, known, strict=True):
            try:
                taken = told_before or await self._take(notice, again=again)
            except VppError as error:
                log.warning("event not taken", source=self.name, event_id=notice.external_id, error=str(error))
                problem = problem or error
                continue
            except DataError as error:  # what no database can keep, whatever it is: the other events are good
                about = str(error.orig)[:300]
                log.warning("event not taken", source=self.name, event_id=notice.external_id, error=about)
                continue
            if taken.at_once is not None:
                self._answerer.at_once(notice, taken.at_once)
            if taken.is_new or taken.at_once is not None:
                self._tell(notice, taken)
        return problem

    async def _take(self, notice: EventNotice, *, again: bool) -> Taken:
        self._unchanged.forget(notice.external_id)
        taken = await self._desk.take(notice, again=again, early=self._session.drops_early())
        await self._hear(notice, taken)
        self._unchanged.keep(notice, taken)
        return taken

    async def _hear(self, notice: EventNotice, taken: Taken) -> None:
        """Keep what the event says beside power; one that ended before its time holds no longer."""
        event, held = notice.event, taken.commitment
        if event is None:
            return
        if notice.completed:
            if event.end_at is None or event.end_at > self._clock.now() + END_SLACK:
                await self._hearing.withdraw({event.event_id})
            return
        if notice.refusal is not None:
            outcome = Outcome(program=notice.program, opted_in=False, reason=notice.refusal.reason)
        else:
            reason = "" if held is None else held.opt_reason
            outcome = Outcome(program=notice.program, opted_in=None if held is None else held.opt_in, reason=reason)
        await self._hearing.hear(event, outcome)

    def _tell(self, notice: EventNotice, taken: Taken) -> None:
        held = taken.commitment
        if taken.at_once is not None:
            opt_in, reason = taken.at_once.opt_in, taken.at_once.reason
        else:
            opt_in, reason = bool(held and held.opt_in), held.opt_reason if held else ""
        metrics.EVENTS.labels(self.name, "in" if opt_in else "out").inc()
        about = {"source": self.name, "event_id": notice.external_id, "modification": notice.modification_number}
        log.info("event taken", **about, opt_in=opt_in, reason=reason)
        if held is not None and held.state is CommitmentState.ACTIVE and not opt_in:
            log.warning("change declined, earlier targets stay in force", **about, reason=reason)
