"""Room gateway: offers, accepts, fills, sends and cancels reports. Called by `ven`, keeps its state in `reports`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import (
    CanceledReports,
    CancelReports,
    CreatedReports,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.domain.time import Interval, floor_to
from vpp.gateway import metrics, reports
from vpp.gateway.demands import Demanded, take_demands, update_of
from vpp.gateway.measures import Telemetry, event_times
from vpp.gateway.offers import HISTORY_USAGE, MAX_SAMPLING, METADATA, OURS, TELEMETRY_STATUS, WantedReport, offers
from vpp.gateway.session import Session
from vpp.ports import Clock
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")


class Reporter:
    """Reports of one VEN to its VTN."""

    def __init__(self, store: Store, clock: Clock, session: Session, telemetry: Telemetry) -> None:
        self._store, self._clock, self._session = store, clock, session
        self._source = session.name
        self._telemetry = telemetry

    async def offer(
        self, ven_id: str, contexts: Sequence[str], *, answers_to: str | None = None
    ) -> Sequence[ReportDemand]:
        """Tell which reports we can send and return what the answer asks for at once.

        `answers_to` is the report request by which the VTN asked for our offers, if it did.
        """
        message = RegisterReports(
            request_id=str(uuid4()),
            offers=offers(contexts, self._session.vtn_time()),
            ven_id=ven_id,
            report_request_id=answers_to,
        )
        heard = await self._session.ask(message)
        return heard.demands if isinstance(heard, RegisteredReports) else ()

    async def offer_first(self, ven_id: str, contexts: Sequence[str]) -> Sequence[ReportDemand]:
        """Offer after registration. A VTN that cannot take reports shall send us events all the same."""
        try:
            return await self.offer(ven_id, contexts)
        except (PeerRefused, PeerUnreachable) as error:
            log.warning("reports not offered", source=self._source, error=str(error))
            return ()

    async def replace_requests(self, connection: AsyncConnection, demands: Sequence[ReportDemand]) -> Demanded:
        """Keep what the VTN asks for when reports are offered anew; its earlier requests end with that."""
        await reports.drop_requests(connection, self._source)
        return await self._take(connection, demands)

    async def accept(self, ven_id: str, demands: Sequence[ReportDemand], request_id: str) -> None:
        """Store report requests, then confirm them."""
        async with self._store.begin() as connection:
            demanded = await self._take(connection, demands)
        await self.confirm(ven_id, demanded, request_id)

    async def _take(self, connection: AsyncConnection, demands: Sequence[ReportDemand]) -> Demanded:
        return await take_demands(connection, self._source, demands, OURS, at=self._clock.now())

    async def confirm(self, ven_id: str, demanded: Demanded, request_id: str = "") -> None:
        """Tell the VTN which reports will come, and why others will not (code 461)."""
        if not demanded.taken and not demanded.refused:
            return
        response = demanded.response(request_id)
        await self._session.ask(CreatedReports(response=response, pending=await self._pending(), ven_id=ven_id))
        log.info("reports asked", source=self._source, accepted=len(demanded.taken), refused=list(demanded.refused))

    async def cancel(self, ven_id: str, cancelled: CancelReports, *, confirm: bool = True) -> None:
        """Stop reports; what is pending is sent first where the VTN wants it."""
        if cancelled.to_follow:
            async with self._store.begin() as connection:
                standing = await self._write_due(connection)
            for each in standing:
                if each.request.report_request_id in cancelled.report_request_ids:
                    await self._send(ven_id, each.request)
        async with self._store.begin() as connection:
            await reports.drop_requests(connection, self._source, cancelled.report_request_ids)
        log.info("reports cancelled", source=self._source, ids=list(cancelled.report_request_ids))
        if confirm:
            response = Response(request_id=cancelled.request_id)
            await self._session.ask(CanceledReports(response=response, pending=await self._pending(), ven_id=ven_id))

    async def report(self, ven_id: str, contexts: Sequence[str]) -> None:
        """Write down the values that are due, then send those whose time to be sent has come."""
        for request in await self._to_send():
            if request.name == METADATA:
                await self._offer_again(ven_id, contexts, request)
            else:
                await self._send(ven_id, request)

    async def prune(self) -> None:
        """Forget what was sent long ago."""
        async with self._store.begin() as connection:
            await reports.prune(connection, self._source, at=self._clock.now())

    async def next_due_at(self) -> datetime | None:
        """Return when the next value falls due, None while no event runs until then."""
        now, found = self._clock.now(), []
        async with self._store.begin() as connection:
            for due in await reports.standing(connection, self._source):
                if due.next_due_at is not None and due.next_due_at > now:  # what is overdue has failed: next round
                    found.append((due, Interval(due.next_due_at - _step(due.request), due.next_due_at)))
            if not found:
                return None
            span = Interval(min(part.start_at for _, part in found), max(part.end_at for _, part in found))
            running = await event_times(connection, self._source, span)
        return min(
            (part.end_at for due, part in found if _is_always(due.request) or _meets(running, part)), default=None
        )

    async def _write_due(self, connection: AsyncConnection) -> list[reports.StandingRequest]:
        """Write down the values that are due; returns the requests in force as they stand then."""
        now = self._clock.now()
        standing = await reports.standing(connection, self._source)
        due = [each for each in standing if each.next_due_at is not None and each.next_due_at <= now]
        due = [each for each in due if each.request.name != METADATA]
        if not due and not any(each.is_over for each in standing):
            return standing
        for each in due:
            await reports.write_due(connection, self._source, each, self._telemetry, at=now)
        await reports.finish(connection, self._source, at=now)
        return await reports.standing(connection, self._source)

    async def _to_send(self) -> list[WantedReport]:
        """Return what is to be sent now: all of it is written and read in one transaction."""
        now = self._clock.now()
        async with self._store.begin() as connection:
            standing = await self._write_due(connection)
            running: list[Interval] = []
            if any(each.unsent_since is not None for each in standing):
                span = Interval(now - MAX_SAMPLING, now + MAX_SAMPLING)
                running = await event_times(connection, self._source, span)
        return [each.request for each in standing if _is_time(each, running, now)]

    async def _offer_again(self, ven_id: str, contexts: Sequence[str], request: WantedReport) -> None:
        """The VTN asked for our offers; what it asks for in return comes beside what it asked for before.

        This request is not remembered: offers told twice are the same offers, and some VTNs ask for them by one id.
        """
        demands = await self.offer(ven_id, contexts, answers_to=request.report_request_id)
        async with self._store.begin() as connection:
            await reports.drop_requests(connection, self._source, [request.report_request_id])
            demanded = await self._take(connection, demands)
        await self.confirm(ven_id, demanded)

    async def _send(self, ven_id: str, request: WantedReport) -> None:
        """Send what is unsent of a report, in messages of at most `BATCH` values."""
        while True:
            async with self._store.begin() as connection:
                values = await reports.unsent(connection, self._source, request)
            if not values:
                return
            heard: object = None
            try:
                heard = await self._session.ask(self._update(ven_id, request, values))
            except PeerRefused as refused:  # it was read; to repeat it would change nothing
                log.warning(
                    "report refused", source=self._source, request=request.report_request_id, error=str(refused)
                )
            async with self._store.begin() as connection:
                await reports.mark_sent(connection, self._source, values, at=self._clock.now())
            metrics.REPORTS.labels(self._source).inc(len(values))
            if isinstance(heard, UpdatedReports) and heard.cancel is not None:
                await self.cancel(ven_id, heard.cancel, confirm=False)
                return

    def _update(self, ven_id: str, request: WantedReport, values: Sequence[reports.UnsentValue]) -> UpdateReports:
        update = update_of(request, tuple(value.value for value in values), at=self._session.vtn_time())
        return UpdateReports(request_id=str(uuid4()), updates=(update,), ven_id=ven_id)

    async def _pending(self) -> tuple[str, ...]:
        async with self._store.begin() as connection:
            standing = await reports.standing(connection, self._source)
        return tuple(each.request.report_request_id for each in standing)


def _is_time(each: reports.StandingRequest, running: Sequence[Interval], now: datetime) -> bool:
    """Whether a request is to be answered now, with what is unsent of it or with our offers."""
    request = each.request
    if request.name == METADATA:
        return True
    if each.unsent_since is None:
        return False
    if request.name == HISTORY_USAGE or request.granularity_s <= 0:
        return True
    if now - each.unsent_since >= timedelta(seconds=request.report_back_s):
        return True
    if request.name == TELEMETRY_STATUS:
        return False
    step = timedelta(seconds=max(request.granularity_s, 1.0))
    begin_at = floor_to(now, step)
    return not _meets(running, Interval(begin_at, begin_at + step))


def _is_always(request: WantedReport) -> bool:
    """Whether it has values while no event runs too."""
    return request.granularity_s <= 0 or request.name == TELEMETRY_STATUS


def _step(request: WantedReport) -> timedelta:
    return timedelta(seconds=request.granularity_s) if request.granularity_s > 0 else reports.SNAPSHOT


def _meets(running: Sequence[Interval], part: Interval) -> bool:
    return any(each.overlap(part) is not None for each in running)
