"""Room gateway: offers, accepts, fills, sends and cancels reports. Called by `ven`, keeps its state in `reports`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest, PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import (
    REPORT_NOT_SUPPORTED,
    CanceledReports,
    CancelReports,
    CreatedReports,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportUpdate,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.domain.time import Interval, floor_to
from vpp.gateway import metrics, reports
from vpp.gateway.measures import Telemetry, event_runs
from vpp.gateway.offers import HISTORY_USAGE, METADATA, TELEMETRY_STATUS, WantedReport, accept, offers
from vpp.gateway.session import Session
from vpp.ports import Clock
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

Demanded = tuple[tuple[WantedReport, ...], tuple[str, ...]]
"""Reports asked for that we can send, and why others cannot be sent."""


class Reporter:
    """Reports of one VEN to its VTN."""

    def __init__(self, store: Store, clock: Clock, session: Session, telemetry: Telemetry) -> None:
        self._store, self._clock, self._session = store, clock, session
        self._source = session.name
        self._telemetry = telemetry

    async def offer(self, ven_id: str, contexts: Sequence[str], *, answers_to: str | None = None) -> Demanded:
        """Tell which reports we can send; the answer may ask for some at once.

        `answers_to` is the report request by which the VTN asked for our offers, if it did.
        """
        message = RegisterReports(
            request_id=str(uuid4()),
            offers=offers(contexts, self._session.vtn_time()),
            ven_id=ven_id,
            report_request_id=answers_to,
        )
        heard = await self._session.ask(message)
        return self.sift(heard.demands if isinstance(heard, RegisteredReports) else ())

    async def offer_first(self, ven_id: str, contexts: Sequence[str]) -> Demanded:
        """Offer after registration. A VTN that cannot take reports shall send us events all the same."""
        try:
            return await self.offer(ven_id, contexts)
        except (PeerRefused, PeerUnreachable) as error:
            log.warning("reports not offered", source=self._source, error=str(error))
            return (), ()

    def sift(self, demands: Sequence[ReportDemand]) -> Demanded:
        """Tell demands we can meet from those we cannot."""
        wanted, refused = [], []
        for demand in demands:
            try:
                wanted.append(accept(demand, at=self._clock.now()))
            except InvalidRequest as error:
                refused.append(f"{demand.report_request_id[:40]}: {error}")
        return tuple(wanted), tuple(refused)

    async def replace_requests(self, connection: AsyncConnection, demanded: Demanded) -> None:
        """Keep what the VTN asks for when reports are offered anew; its earlier requests end with that."""
        await reports.drop_requests(connection, self._source)
        await reports.save_requests(connection, self._source, demanded[0], at=self._clock.now())

    async def accept(self, ven_id: str, demands: Sequence[ReportDemand], request_id: str) -> None:
        """Store report requests, then confirm them."""
        wanted, refused = self.sift(demands)
        async with self._store.begin() as connection:
            room = max(0, reports.MAX_STANDING - await reports.count_standing(connection, self._source))
            refused += tuple(f"{w.report_request_id}: too many reports are asked for" for w in wanted[room:])
            await reports.save_requests(connection, self._source, wanted[:room], at=self._clock.now())
        await self.confirm(ven_id, (wanted[:room], refused), request_id)

    async def confirm(self, ven_id: str, demanded: Demanded, request_id: str = "") -> None:
        """Tell the VTN which reports will come, and why others will not (code 461)."""
        wanted, refused = demanded
        if not wanted and not refused:
            return
        response = Response(request_id=request_id)
        if refused:
            response = Response(REPORT_NOT_SUPPORTED, "; ".join(refused)[:1000], request_id)
        await self._session.ask(CreatedReports(response=response, pending=await self._pending(), ven_id=ven_id))
        log.info("reports asked", source=self._source, accepted=len(wanted), refused=list(refused))

    async def cancel(self, ven_id: str, cancelled: CancelReports, *, confirm: bool = True) -> None:
        """Stop reports; what is pending is sent first where the VTN wants it."""
        if cancelled.to_follow:
            await self.write_due()
            for request in await self._requests():
                if request.report_request_id in cancelled.report_request_ids:
                    await self._send(ven_id, request)
        async with self._store.begin() as connection:
            await reports.drop_requests(connection, self._source, cancelled.report_request_ids)
        log.info("reports cancelled", source=self._source, ids=list(cancelled.report_request_ids))
        if confirm:
            response = Response(request_id=cancelled.request_id)
            await self._session.ask(CanceledReports(response=response, pending=await self._pending(), ven_id=ven_id))

    async def report(self, ven_id: str, contexts: Sequence[str]) -> None:
        """Write down the values that are due, then send those whose time to be sent has come."""
        await self.write_due()
        for request in await self._requests():
            if request.name == METADATA:
                await self._offer_again(ven_id, contexts, request)
            elif await self._is_time(request):
                await self._send(ven_id, request)
        await self._drop_finished()

    async def write_due(self) -> None:
        """Write down the values that are due."""
        async with self._store.begin() as connection:
            for due in await reports.standing(connection, self._source):
                await reports.write_due(connection, self._source, due, self._telemetry, at=self._clock.now())

    async def next_due_at(self) -> datetime | None:
        """Return when the next value falls due, None while no event runs until then."""
        now = self._clock.now()
        async with self._store.begin() as connection:
            instants = []
            for due in await reports.standing(connection, self._source):
                at, step_s = due.next_due_at, due.request.granularity_s
                if at is None or at <= now:  # what is overdue has failed: with the next round
                    continue
                step = timedelta(seconds=step_s) if step_s > 0 else reports.SNAPSHOT
                always = step_s <= 0 or due.request.name == TELEMETRY_STATUS
                if always or await event_runs(connection, self._source, Interval(at - step, at)):
                    instants.append(at)
        return min(instants, default=None)

    async def _offer_again(self, ven_id: str, contexts: Sequence[str], request: WantedReport) -> None:
        """The VTN asked for our offers; what it asks for in return comes beside what it asked for before."""
        wanted, refused = await self.offer(ven_id, contexts, answers_to=request.report_request_id)
        async with self._store.begin() as connection:
            await reports.drop_requests(connection, self._source, [request.report_request_id])
            await reports.save_requests(connection, self._source, wanted, at=self._clock.now())
        await self.confirm(ven_id, (wanted, refused))

    async def _drop_finished(self) -> None:
        """A report of which all was sent, and nothing more falls due, is pending no longer."""
        async with self._store.begin() as connection:
            await reports.prune(connection, self._source, at=self._clock.now())
            for due in await reports.standing(connection, self._source):
                if due.next_due_at is None and not await reports.unsent(connection, self._source, due.request):
                    await reports.drop_requests(connection, self._source, [due.request.report_request_id])

    async def _is_time(self, request: WantedReport) -> bool:
        now = self._clock.now()
        async with self._store.begin() as connection:
            values = await reports.unsent(connection, self._source, request)
            if not values:
                return False
            if request.name == HISTORY_USAGE or request.granularity_s <= 0:
                return True
            if now - values[0].value.start_at >= timedelta(seconds=request.report_back_s):
                return True
            if request.name == TELEMETRY_STATUS:
                return False
            step = timedelta(seconds=max(request.granularity_s, 1.0))
            begin_at = floor_to(now, step)
            return not await event_runs(connection, self._source, Interval(begin_at, begin_at + step))

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
                await reports.mark_sent(connection, values, at=self._clock.now())
            metrics.REPORTS.labels(self._source).inc(len(values))
            if isinstance(heard, UpdatedReports) and heard.cancel is not None:
                await self.cancel(ven_id, heard.cancel, confirm=False)
                return

    def _update(self, ven_id: str, request: WantedReport, values: Sequence[reports.UnsentValue]) -> UpdateReports:
        reported = tuple(value.value for value in values)
        spans = [(v.start_at, v.start_at + (v.duration or timedelta(0))) for v in reported]
        start_at, end_at = min(begin for begin, _ in spans), max(end for _, end in spans)
        update = ReportUpdate(
            report_request_id=request.report_request_id,
            specifier_id=request.specifier_id,
            name=request.name,
            created_at=self._session.vtn_time(),
            values=reported,
            report_id=str(uuid4()),
            start_at=start_at,
            duration=end_at - start_at,
        )
        return UpdateReports(request_id=str(uuid4()), updates=(update,), ven_id=ven_id)

    async def _requests(self) -> list[WantedReport]:
        async with self._store.begin() as connection:
            return [due.request for due in await reports.standing(connection, self._source)]

    async def _pending(self) -> tuple[str, ...]:
        return tuple(request.report_request_id for request in await self._requests())
