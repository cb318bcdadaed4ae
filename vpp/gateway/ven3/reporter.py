"""Room gateway, OpenADR 3 VEN: makes the reports that are due and sends those owed. Called by `loop`.

Each report is an object of its own, created once and never changed: a series of them is what `repeat` asks
for, and an interval already told stays told. A report is made and its series moved on in one transaction.
Before one that was tried is sent again the VTN is asked for it by name, so that an answer lost on the way
leads to no second one. What it says is `composer`'s.
"""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import PeerRefused
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportOut
from vpp.gateway import metrics
from vpp.gateway.ven3 import reports, seen
from vpp.gateway.ven3.composer import Composed, Composer
from vpp.gateway.ven3.figures import About
from vpp.gateway.ven3.plan import SNAPSHOT, Due, due, requests_of
from vpp.ports import Clock, Ven3Client
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

NOT_NOW = (401, 403)
"""Refusals that are mended at the VTN, by granting us the scope: what is owed stays owed."""
MAX_RESOURCES = 100
"""So many are told in one report; more go into further ones."""


class Reporter3:
    """Reports of one VEN to its VTN. `registered` are the names of the resources it has of us there."""

    def __init__(self, store: Store, clock: Clock, client: Ven3Client, composer: Composer, *, ven_name: str) -> None:
        self._store, self._clock, self._client, self._composer = store, clock, client, composer
        self._source = client.name
        self._ven_name = ven_name
        self.registered: tuple[str, ...] = ()

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
            made = await self._composer.compose(
                connection,
                About(self._source, planned.event_id, known.program),
                event,
                request.wanted,
                present.intervals or (Interval(now - SNAPSHOT, now),),
                registered=self.registered,
                now=now,
            )
            self._note(planned.event_id, present, made)
            await self._queue(connection, planned, known.program_id, made, now)

    async def _queue(
        self, connection: AsyncConnection, planned: reports.Planned, program_id: str, made: Composed, now: datetime
    ) -> None:
        """Owe what there is to tell, so many resources at once."""
        for first in range(0, len(made.resources), MAX_RESOURCES):
            part = f"-{first // MAX_RESOURCES + 1}" if first else ""
            report = ReportOut(
                event_id=planned.event_id,
                program_id=program_id,
                name=f"vpp-{planned.request}-{planned.number}{part}",
                client_name=self._ven_name,
                resources=made.resources[first : first + MAX_RESOURCES],
            )
            await reports.queue(connection, self._source, report, at=now)

    def _note(self, event_id: str, present: Due, made: Composed) -> None:
        if made.absent:
            what = "left out of a report" if made.resources else "nothing to report"
            log.warning(what, source=self._source, event_id=event_id, number=present.number, reasons=dict(made.absent))

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
