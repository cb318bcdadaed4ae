"""Room gateway: accepts, fills, sends and cancels reports. Called by `ven`, keeps its state in `reports`."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import PeerRefused
from vpp.domain.time import Interval, floor_to
from vpp.domain.ven import ReportRequest, ReportsAsked, ReportsCancelled
from vpp.gateway import metrics, reports
from vpp.ports import Clock, VenClient
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")


class Reporter:
    """Reports of one VEN to its VTN."""

    def __init__(self, store: Store, clock: Clock, client: VenClient, delivered_kw: reports.DeliveredKw) -> None:
        self._store, self._clock, self._client = store, clock, client
        self._source = client.name
        self._delivered_kw = delivered_kw

    async def replace_requests(self, connection: AsyncConnection, asked: ReportsAsked) -> None:
        """Keep what the VTN asks for when reports are offered anew; its earlier requests end with that."""
        await reports.drop_requests(connection, self._source)
        await reports.save_requests(connection, self._source, asked.requests, at=self._clock.now())

    async def accept(self, ven_id: str, asked: ReportsAsked) -> None:
        """Store report requests, then confirm them."""
        async with self._store.begin() as connection:
            await reports.save_requests(connection, self._source, asked.requests, at=self._clock.now())
        await self.confirm(ven_id, asked)

    async def confirm(self, ven_id: str, asked: ReportsAsked) -> None:
        """Tell the VTN which reports will come, and why others will not."""
        if asked.requests or asked.refused:
            await self._client.accept_reports(ven_id, asked, await self._pending())
            log.info("reports asked", source=self._source, accepted=len(asked.requests), refused=list(asked.refused))

    async def cancel(self, ven_id: str, cancelled: ReportsCancelled, *, confirm: bool) -> None:
        """Stop reports; what is pending is sent first where the VTN wants it."""
        if cancelled.to_follow:
            for request in await self._requests():
                if request.report_request_id in cancelled.report_request_ids:
                    await self._send(ven_id, request)
        async with self._store.begin() as connection:
            await reports.drop_requests(connection, self._source, cancelled.report_request_ids)
        if confirm:
            await self._client.confirm_reports_cancelled(ven_id, cancelled, await self._pending())

    async def report(self, ven_id: str) -> None:
        """Write down the values that are due, then send those whose time to be sent has come."""
        async with self._store.begin() as connection:
            for due in await reports.standing(connection, self._source):
                await reports.write_due(connection, self._source, due, self._delivered_kw, at=self._clock.now())
        for request in await self._requests():
            if await self._is_time(request):
                await self._send(ven_id, request)

    async def next_due_at(self) -> datetime | None:
        """Return when the next value falls due, None while no event runs until then."""
        async with self._store.begin() as connection:
            instants = []
            for due in await reports.standing(connection, self._source):
                at, step_s = due.next_due_at, due.request.granularity_s
                if at is None:
                    continue
                step = timedelta(seconds=step_s) if step_s > 0 else reports.SNAPSHOT
                if step_s <= 0 or await reports.event_runs(connection, self._source, Interval(at - step, at)):
                    instants.append(at)
        return min(instants, default=None)

    async def _is_time(self, request: ReportRequest) -> bool:
        now = self._clock.now()
        async with self._store.begin() as connection:
            values = await reports.unsent(connection, self._source, request)
            if not values:
                return False
            if now - values[0].power.interval.start_at >= timedelta(seconds=request.report_back_s):
                return True
            step = timedelta(seconds=max(request.granularity_s, 1.0))
            begin_at = floor_to(now, step)
            return not await reports.event_runs(connection, self._source, Interval(begin_at, begin_at + step))

    async def _send(self, ven_id: str, request: ReportRequest) -> None:
        async with self._store.begin() as connection:
            values = await reports.unsent(connection, self._source, request)
        if not values:
            return
        cancelled: ReportsCancelled | None = None
        try:
            powers = [value.power for value in values]
            cancelled = await self._client.send_report(ven_id, request, powers, at=self._clock.now())
        except PeerRefused as refused:  # it was read; to repeat it would change nothing
            log.warning("report refused", source=self._source, request=request.report_request_id, error=str(refused))
        async with self._store.begin() as connection:
            await reports.mark_sent(connection, values, at=self._clock.now())
        metrics.REPORTS.labels(self._source).inc(len(values))
        if cancelled is not None:
            async with self._store.begin() as connection:
                await reports.drop_requests(connection, self._source, cancelled.report_request_ids)

    async def _requests(self) -> list[ReportRequest]:
        async with self._store.begin() as connection:
            return [due.request for due in await reports.standing(connection, self._source)]

    async def _pending(self) -> list[str]:
        return [request.report_request_id for request in await self._requests()]
