"""Builders for VEN tests: a VTN that says what the test tells it to, and counts what it heard."""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

from aiohttp import web

from market.openadr2.codec import Signer, decode, encode
from tests.builders_gateway import CONTEXT, PREFIX
from vpp.domain import openadr2 as m
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType
from vpp.domain.openadr2 import DistributedEvent, Openadr2Message, ReportDemand, Response

OK = Response()
M = TypeVar("M")


@dataclass(slots=True)
class ScriptedVtn:
    """A VTN of one VEN.

    Attributes:
        queue: what polls are answered with, in order.
        events: what a request for events is answered with.
        demands: what is asked for when reports are offered.
        refuse: codes by kind of message, answered instead.
        without: services it does not have.
        lost: kinds of message whose answer fails.
        raw: bytes answered to a poll instead of anything else.
        ahead: how far its Date header is ahead of `now`; None leaves it to the server, by the machine's clock.
        delay: awaited before each answer.
        now: the clock that tells how its events stand.
        answers: stands in for `answer`.
        cancel_with_update: reports cancelled in the answer to values.
    """

    url: str = ""
    heard: list[Openadr2Message] = field(default_factory=list)
    queue: deque[Openadr2Message] = field(default_factory=deque)
    events: list[GridEvent] = field(default_factory=list)
    demands: tuple[ReportDemand, ...] = ()
    refuse: dict[type, int] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    lost: set[type] = field(default_factory=set)
    raw: bytes | None = None
    ahead: timedelta | None = None
    poll: timedelta = timedelta(seconds=30)
    vtn_id: str = "Utility2"
    ven_id: str = "ven-7"
    registration_id: str = "reg-7"
    signer: Signer | None = None
    delay: Callable[[], Any] | None = None
    cancel_with_update: m.CancelReports | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    answers: Callable[[Openadr2Message], Openadr2Message] | None = None

    def all(self, kind: type[M]) -> list[M]:
        """Every message of a kind, as heard."""
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def opts(self) -> list[tuple[str, int, str, int]]:
        """(event, modification, opt, code) as heard."""
        return [
            (opt.event_id, opt.modification_number, "in" if opt.opt_in else "out", opt.code)
            for created in self.all(m.CreatedEvents)
            for opt in created.opts
        ]

    def distribution(self) -> m.DistributeEvents:
        told = tuple(DistributedEvent(event=event, status=event.status_at(self.now())) for event in self.events)
        return m.DistributeEvents(request_id="d1", vtn_id=self.vtn_id, events=told, response=OK)

    def tell(self, *events: GridEvent) -> None:
        """Replace the events there are, and tell them on the next poll."""
        self.events = list(events)
        self.queue.append(self.distribution())

    def answer(self, message: Openadr2Message) -> Openadr2Message:
        code = self.refuse.get(type(message))
        if code is not None:
            return m.Acknowledge(response=Response(code, "as the test wants"))
        match message:
            case m.Poll():
                return self.queue.popleft() if self.queue else m.Acknowledge(response=OK)
            case m.RequestEvents():
                return self.distribution()
            case m.CreateRegistration():
                return m.CreatedRegistration(
                    response=OK,
                    vtn_id=self.vtn_id,
                    ven_id=self.ven_id,
                    registration_id=self.registration_id,
                    poll=self.poll,
                )
            case m.CancelRegistration():
                return m.CanceledRegistration(response=OK, registration_id=self.registration_id, ven_id=self.ven_id)
            case m.RegisterReports():
                return m.RegisteredReports(response=OK, demands=self.demands, ven_id=self.ven_id)
            case m.UpdateReports():
                return m.UpdatedReports(response=OK, cancel=self.cancel_with_update, ven_id=self.ven_id)
            case m.CreateOpt():
                return m.CreatedOpt(response=OK, opt_id=message.opt_id)
            case m.CancelOpt():
                return m.CanceledOpt(response=OK, opt_id=message.opt_id)
            case _:
                return m.Acknowledge(response=OK)

    async def _serve(self, request: web.Request) -> web.Response:
        if request.path.rpartition("/")[2] in self.without:
            raise web.HTTPNotFound
        message = decode(await request.read()).message
        self.heard.append(message)
        if self.delay is not None:
            await self.delay()
        if type(message) in self.lost:
            raise web.HTTPServiceUnavailable
        body = encode((self.answers or self.answer)(message), signer=self.signer)
        if self.raw is not None and isinstance(message, m.Poll):
            body = self.raw
        answer = web.Response(body=body, content_type="application/xml")
        if self.ahead is not None:
            answer.headers["Date"] = format_datetime(self.now() + self.ahead, usegmt=True)
        return answer

    @asynccontextmanager
    async def serving(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator["ScriptedVtn"]:
        """Serve on loopback for the block."""
        app = web.Application()
        app.router.add_post(PREFIX + "/{service}", self._serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}{PREFIX}"
        try:
            yield self
        finally:
            await runner.cleanup()


def grid_event(
    event_id: str,
    start_at: datetime,
    *values: float,
    number: int = 0,
    length: timedelta = timedelta(hours=1),
    kind: tuple[SeriesType, str, str | None] = (SeriesType.DISPATCH_SETPOINT, "LOAD_DISPATCH/setpoint", "KW"),
    **changes: Any,
) -> GridEvent:
    """A dispatch in kW with one interval for each value."""
    type_, name, unit = kind
    parts = tuple(
        SeriesInterval(start_at=start_at + n * length, duration=length, values=(value,), uid=str(n))
        for n, value in enumerate(values)
    )
    stated: dict[str, Any] = {
        "event_id": event_id,
        "modification_number": number,
        "program": CONTEXT,
        "start_at": start_at,
        "duration": len(values) * length,
        "series": (Series(series_id="s1", type=type_, name=name, unit=unit, intervals=parts),),
        "created_at": start_at,
    }
    return GridEvent(**(stated | changes))


def demand(
    request_id: str, specifier_id: str, *points: str, every: timedelta, back: timedelta | None = None, **changes: Any
) -> ReportDemand:
    """A report asked for."""
    return ReportDemand(
        report_request_id=request_id,
        specifier_id=specifier_id,
        points=tuple((point, "x-notApplicable") for point in points),
        granularity=every,
        back=every if back is None else back,
        **changes,
    )
