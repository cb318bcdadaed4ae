"""Room gateway: the loop that asks a utility's VTN. Made by `vpp/bootstrap`, run in a process of its own.

All that must outlive this process is in SQL: registration, commitments with the answers owed, report
requests with their values. A new instance on the same database goes on where the old one stopped. It
begins by asking for every event, so nothing told while we were down is missed; the same after any
failed round, for a VTN may hold a reply for delivered that never reached us.
"""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vpp.commitments import Decide
from vpp.domain.errors import PeerRefused, PeerUnreachable, RegistrationLost, VppError
from vpp.domain.time import floor_to
from vpp.domain.ven import (
    Distribution,
    EventAnswer,
    EventNotice,
    NotUnderstood,
    Registration,
    RegistrationCancelled,
    ReportsAsked,
    ReportsCancelled,
    ReportsOffered,
    VenMessage,
)
from vpp.gateway import answers, metrics, registration
from vpp.gateway.events import EventDesk, Taken
from vpp.gateway.reporter import Reporter
from vpp.gateway.reports import DeliveredKw
from vpp.ports import Clock, MarketProgram, VenClient
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

MAX_MESSAGES = 20
MAX_AT_ONCE = 1000
MAX_POLL_S = 86_400.0
RETRY_S = 5.0
MAX_RETRY_S = 300.0
RESYNC = timedelta(minutes=15)


class Openadr2Ven:
    """Receives a utility's events over OpenADR 2.0b and answers them. A `SignalSource`.

    Args:
        client: the wire to the VTN; its name is the source of our commitments.
        tenant_id: whose fleet answers.
        programs: programmes by name; the client maps market contexts to these names.
        decide: whether the fleet covers a commitment.
        delivered_kw: what the fleet delivers now, for reports.
        poll_s: how often we ask where the VTN does not say [s].
        seed: fixes random starts and the jitter of retries.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        client: VenClient,
        *,
        tenant_id: str,
        programs: Mapping[str, MarketProgram],
        decide: Decide,
        delivered_kw: DeliveredKw,
        poll_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        self.name = client.name
        self._store, self._clock, self._client = store, clock, client
        self._desk = EventDesk(store, clock, client.name, tenant_id, programs, decide, seed)
        self._reporter = Reporter(store, clock, client, delivered_kw)
        self._poll_s = poll_s
        self._rng = random.Random(f"{seed}\n{client.name}")
        self._registration: Registration | None = None
        self._must_register = False
        self._synced_at: datetime | None = None
        self._failures = 0
        self._at_once: dict[tuple[str, int], EventAnswer] = {}

    async def run(self) -> None:
        """Ask, answer and report until cancelled; no failure of the peer or the database ends it."""
        while True:
            await self._clock.sleep_until(await self.step())

    async def step(self) -> datetime:
        """Do everything that is due and return when to come back."""
        try:
            due_at = await self._round()
        except (VppError, SQLAlchemyError, OSError) as error:
            return self._after_failure(error)
        self._failures = 0
        metrics.EXCHANGES.labels(self.name, "ok").inc()
        metrics.REACHABLE.labels(self.name).set(1)
        return due_at

    def _after_failure(self, error: Exception) -> datetime:
        self._failures += 1
        self._synced_at = None
        self._must_register = self._must_register or isinstance(error, RegistrationLost)
        metrics.EXCHANGES.labels(self.name, type(error).__name__).inc()
        metrics.REACHABLE.labels(self.name).set(0)
        longest_s = min(MAX_RETRY_S, max(RETRY_S, self._interval_s()))
        delay_s = min(longest_s, RETRY_S * 2 ** min(self._failures - 1, 10)) * self._rng.uniform(0.5, 1.0)
        log.warning("round failed", source=self.name, error=str(error), failures=self._failures, retry_s=delay_s)
        return self._clock.now() + timedelta(seconds=delay_s)

    def _interval_s(self) -> float:
        asked_s = self._registration.poll_s if self._registration else None
        return min(max(asked_s or self._poll_s, 1.0), MAX_POLL_S)

    async def _round(self) -> datetime:
        registered = await self._ensure_registration()
        problem: VppError | None = None
        if self._synced_at is None or self._clock.now() - self._synced_at >= RESYNC:
            problem = await self._sync(registered.ven_id)
            await self._send_answers(registered.ven_id)
        problem = await self._poll(registered) or problem
        if self._registration is None:  # ended by the VTN in this round
            return self._next_poll()
        for part in (self._send_answers, self._reporter.report):
            try:
                await part(registered.ven_id)
            except RegistrationLost:
                raise
            except PeerUnreachable as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return min(self._next_poll(), await self._reporter.next_due_at() or self._next_poll())

    def _next_poll(self) -> datetime:
        """Polls fall on whole multiples of the interval, so that a restart does not shift them."""
        interval = timedelta(seconds=self._interval_s())
        return floor_to(self._clock.now(), interval) + interval

    async def _ensure_registration(self) -> Registration:
        if self._registration is None:
            async with self._store.begin() as connection:
                self._registration = await registration.load_registration(connection, self.name)
        if self._registration is None or self._must_register:
            self._registration = await self._register(self._registration)
            self._must_register = False
            self._synced_at = None
        return self._registration

    async def _register(self, previous: Registration | None) -> Registration:
        """Register and offer reports; what both led to is kept in one transaction."""
        granted = await self._client.register(previous)
        asked = await self._offer_reports(granted.ven_id)
        poll_s = granted.poll_s or self._poll_s
        now = self._clock.now()
        async with self._store.begin() as connection:
            await registration.save_registration(connection, self.name, granted, poll_s=poll_s, at=now)
            await self._reporter.replace_requests(connection, asked)
        log.info("registered", source=self.name, ven_id=granted.ven_id, poll_s=poll_s)
        await self._reporter.confirm(granted.ven_id, asked)
        return granted

    async def _offer_reports(self, ven_id: str) -> ReportsAsked:
        """Offer reports. A VTN that cannot take them shall send us events all the same."""
        try:
            return await self._client.offer_reports(ven_id, at=self._clock.now())
        except (PeerRefused, PeerUnreachable) as error:
            log.warning("reports not offered", source=self.name, error=str(error))
            return ReportsAsked("", ())

    async def _sync(self, ven_id: str) -> VppError | None:
        """Ask for every event. An event of ours that the answer leaves out has been withdrawn."""
        full = await self._client.request_events(ven_id)
        problem = await self._take_all(full.notices, again=False) if full else None
        if full is not None:
            for gone in await self._desk.missing({notice.external_id for notice in full.notices}):
                after = await self._desk.withdraw(gone)
                log.info("event withdrawn", source=self.name, event_id=gone.external_id, state=after.state.value)
        self._synced_at = self._clock.now()
        return problem

    async def _poll(self, registered: Registration) -> VppError | None:
        """Ask until the VTN has nothing more, answering as we go."""
        problem: VppError | None = None
        for _ in range(MAX_MESSAGES):
            message = await self._client.poll(registered.ven_id)
            if message is None:
                break
            if isinstance(message, Distribution):
                problem = await self._take_all(message.notices, again=True) or problem
                listed = {notice.external_id for notice in message.notices}
                if await self._desk.missing(listed):  # ask again before we believe it
                    problem = await self._sync(registered.ven_id) or problem
                await self._send_answers(registered.ven_id)
            else:
                await self._handle(message, registered)
            if self._registration is None:
                break
        return problem

    async def _handle(self, message: VenMessage, registered: Registration) -> None:
        match message:
            case ReportsAsked():
                await self._reporter.accept(registered.ven_id, message)
            case ReportsCancelled():
                await self._reporter.cancel(registered.ven_id, message, confirm=True)
            case ReportsOffered():
                await self._client.decline_offer(registered.ven_id, message.request_id)
            case RegistrationCancelled():
                await self._end_registration(registered, message)
            case NotUnderstood():
                log.warning("message ignored", source=self.name, kind=message.kind)
            case Distribution():
                await self._take_all(message.notices, again=True)

    async def _end_registration(self, registered: Registration, message: RegistrationCancelled) -> None:
        """Our part in events already taken goes on; at the next round we ask to be let in again."""
        async with self._store.begin() as connection:
            await registration.forget_registration(connection, self.name)
        await self._client.confirm_registration_cancelled(registered, message.request_id)
        self._registration = None
        log.warning("registration ended by the utility", source=self.name)

    async def _take_all(self, notices: tuple[EventNotice, ...], *, again: bool) -> VppError | None:
        """Take each event in its own transaction; one that fails does not hold up the others."""
        problem: VppError | None = None
        for notice in notices:
            try:
                taken = await self._desk.take(notice, again=again)
            except VppError as error:
                log.warning("event not taken", source=self.name, event_id=notice.external_id, error=str(error))
                problem = problem or error
                continue
            if taken.at_once is not None and len(self._at_once) < MAX_AT_ONCE:
                self._at_once[notice.external_id, notice.modification_number] = taken.at_once
            if taken.is_new or taken.at_once is not None:
                self._tell(notice, taken)
        return problem

    def _tell(self, notice: EventNotice, taken: Taken) -> None:
        if taken.at_once is not None:
            opt_in, reason = taken.at_once.opt_in, taken.at_once.reason
        else:
            opt_in = bool(taken.commitment and taken.commitment.opt_in)
            reason = taken.commitment.opt_reason if taken.commitment else ""
        metrics.EVENTS.labels(self.name, "in" if opt_in else "out").inc()
        log.info(
            "event taken",
            source=self.name,
            event_id=notice.external_id,
            modification=notice.modification_number,
            opt_in=opt_in,
            reason=reason,
        )

    async def _send_answers(self, ven_id: str) -> None:
        """Send every answer owed. One the VTN cannot be told does not hold up the others."""
        unreachable: PeerUnreachable | None = None
        at_once, self._at_once = self._at_once, {}
        async with self._store.begin() as connection:
            owed = await answers.unsent(connection, self.name, at=self._clock.now())
        for answer in at_once.values():  # one that is lost comes up again: the VTN lists its event again
            try:
                await self._client_answer(ven_id, answer)
            except PeerUnreachable as error:
                unreachable = unreachable or error
        for entry in owed:
            try:
                await self._client_answer(ven_id, entry.answer)
            except PeerUnreachable as error:
                unreachable = unreachable or error
                continue
            async with self._store.begin() as connection:
                await answers.mark_sent(connection, entry, at=self._clock.now())
        if unreachable is not None:
            raise unreachable

    async def _client_answer(self, ven_id: str, answer: EventAnswer) -> None:
        """Send an answer. One refused with a code was read; to repeat it would change nothing."""
        try:
            await self._client.answer_event(ven_id, answer)
        except PeerRefused as refused:
            log.warning("answer refused", source=self.name, event_id=answer.external_id, error=str(refused))
