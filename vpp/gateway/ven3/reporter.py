"""Room gateway, OpenADR 3 VEN: makes the reports that are due and sends those owed. Called by `loop`.

Each report is an object of its own, created once and never changed: a series of them is what `repeat` asks
for, and an interval already told stays told. A report is made and its series moved on in one transaction.
Before one that was tried is sent again the VTN is asked for it by name, so that an answer lost on the way
leads to no second one.

All values are of the fleet together, under the resource AGGREGATED_REPORT, even where a descriptor asks for one
for each resource: our resources are names to the VTN, with no meter of their own.
"""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import PeerRefused
from vpp.domain.time import Interval
from vpp.domain.ven3 import (
    AGGREGATED,
    ReportedInterval,
    ReportedResource,
    ReportIntervals,
    ReportOut,
    ReportValue,
    ReportWanted,
)
from vpp.gateway import metrics
from vpp.gateway.ven3 import reports, seen
from vpp.gateway.ven3.figures import About, Figures
from vpp.gateway.ven3.plan import SNAPSHOT, Due, due, requests_of
from vpp.ports import Clock, Ven3Client
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

NOT_NOW = (401, 403)
"""Refusals that are mended at the VTN, by granting us the scope: what is owed stays owed."""
_UNITS = {
    "DEMAND": ("KW",),
    "USAGE": ("KWH",),
    "DELTA_USAGE": ("KWH",),
    "STORAGE_CHARGE_LEVEL": ("PERCENT", "PERCENTAGE"),
    "STORAGE_USABLE_CAPACITY": ("KWH",),
    "STORAGE_MAX_DISCHARGE_POWER": ("KW",),
    "STORAGE_MAX_CHARGE_POWER": ("KW",),
    "LOAD_SHED_DELTA_AVAILABLE": ("KW",),
    "UP_REGULATION_AVAILABLE": ("KW",),
}


class Reporter3:
    """Reports of one VEN to its VTN."""

    def __init__(self, store: Store, clock: Clock, client: Ven3Client, figures: Figures, *, ven_name: str) -> None:
        self._store, self._clock, self._client, self._figures = store, clock, client, figures
        self._source = client.name
        self._ven_name = ven_name

    async def make_due(self) -> None:
        """Write down every report that is due, each in its own transaction."""
        now = self._clock.now()
        async with self._store.begin() as connection:
            waiting = await reports.planned(connection, self._source, at=now)
        for planned in waiting:
            await self._make(planned)

    async def _make(self, planned: reports.Planned) -> None:
        now = self._clock.now()
        async with self._store.begin() as connection:
            known = await seen.find_seen(connection, self._source, planned.event_id)
            request = next((r for r in requests_of(known.reports) if r.key == planned.request), None) if known else None
            event = known.event if known else None
            if known is None or request is None or event is None:
                await reports.advance(connection, self._source, planned, next_due_at=None)
                return
            present = due(event, request, planned.number)
            following = due(event, request, planned.number + 1)
            next_due_at = following.at if following else None
            if not await reports.advance(connection, self._source, planned, next_due_at=next_due_at) or not present:
                return
            about = About(self._source, planned.event_id, known.program)
            parts = [
                ReportedInterval(interval, values)
                for interval in present.intervals or (Interval(now - SNAPSHOT, now),)
                if (values := await self._values(connection, request.wanted, about, interval, now))
            ]
            name = f"vpp-{planned.request}-{planned.number}"
            if not parts:
                self._skipped(planned.event_id, present, request.wanted)
                return
            report = ReportOut(
                event_id=planned.event_id,
                program_id=known.program_id,
                name=name,
                client_name=self._ven_name,
                resources=(ReportedResource(AGGREGATED, tuple(parts)),),
            )
            await reports.queue(connection, self._source, report, at=now)

    async def _values(
        self,
        connection: AsyncConnection,
        wanted: tuple[ReportWanted, ...],
        about: About,
        interval: Interval,
        now: datetime,
    ) -> tuple[ReportValue, ...]:
        if interval.end_at > now:
            return ()
        values = []
        for each in wanted:
            if refuse_reason(each, self._figures.offered):
                continue
            value = await self._figures.value(connection, each.payload_type, about, interval)
            if value is not None:
                values.append(value)
        return tuple(values)

    def _skipped(self, event_id: str, present: Due, wanted: tuple[ReportWanted, ...]) -> None:
        reasons = {each.payload_type: refuse_reason(each, self._figures.offered) or "no value known" for each in wanted}
        log.warning("nothing to report", source=self._source, event_id=event_id, number=present.number, reasons=reasons)

    async def send(self) -> None:
        """Send every report owed. One that the VTN refuses is not sent again.

        Raises:
            PeerUnreachable: the VTN is not there; what is owed stays owed.
        """
        async with self._store.begin() as connection:
            owed = await reports.unsent(connection, self._source)
        for each in owed:
            if not await self._send(each):
                return

    async def _send(self, owed: reports.Owed) -> bool:
        """Send one report; False where the VTN takes none from us for now."""
        try:
            report_id = None
            if owed.tried:
                report_id = await self._client.find_report(owed.report.event_id, owed.report.name)
            if report_id is None:
                await self._mark(owed, tried_at=self._clock.now())
                report_id = await self._client.send_report(owed.report)
        except PeerRefused as refused:
            log.warning("report refused", source=self._source, event_id=owed.report.event_id, error=str(refused))
            if refused.code in NOT_NOW:
                return False
            await self._mark(owed, refused=str(refused)[:500])
            return True
        await self._mark(owed, sent_at=self._clock.now(), report_id=report_id)
        told = sum(len(part.values) for each in owed.report.resources for part in each.intervals)
        metrics.REPORTS.labels(self._source).inc(told)
        return True

    async def _mark(self, owed: reports.Owed, **values: object) -> None:
        async with self._store.begin() as connection:
            await reports.mark(connection, owed, **values)

    async def next_due_at(self) -> datetime | None:
        """When the next report falls due."""
        async with self._store.begin() as connection:
            return await reports.next_due_at(connection, self._source)


def refuse_reason(wanted: ReportWanted, offered: frozenset[str]) -> str | None:
    """Why nothing is reported for a descriptor, None where something is."""
    if wanted.payload_type not in offered:
        return f"{wanted.payload_type} is not among what we can report: {', '.join(sorted(offered))}"
    if not wanted.historical and wanted.intervals is not ReportIntervals.OPEN_INTERVALS:
        return "forecasts are not offered"
    units = _UNITS.get(wanted.payload_type)
    if wanted.units is not None and units is not None and wanted.units.upper() not in units:
        return f"we report {wanted.payload_type} in {units[0]}, not in {wanted.units}"
    return None
