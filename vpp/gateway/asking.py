"""Room gateway: what our VEN asks a VTN above it to report, and the values it gets. Called by `ven`.

EiReport is the same both ways: what a VTN offers, was asked for and sent is kept by `consumer`, as our own VTN keeps it
of its VENs, and what must be said waits in `outbox` until it was answered. What to ask for is the peer's
configuration (`reports`); a VTN of the settings has none, and is only answered.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import (
    DEPLOYMENT_ERROR,
    INVALID_DATA,
    CanceledReports,
    CancelReports,
    CreatedReports,
    CreateReports,
    Openadr2Message,
    RegisteredReports,
    RegisterReports,
    Response,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway import consumer, wanted
from vpp.gateway.outbox import note_sent, open_messages
from vpp.gateway.refused import Refused, good
from vpp.gateway.session import Session
from vpp.peering import message_from_json, report_wishes
from vpp.ports import Clock
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

RETRY = timedelta(seconds=5), timedelta(minutes=5)
"""How long a VTN that did not answer is left alone: one away for a moment, up to one that reports nothing."""
MAX_AT_ONCE = 20
MAX_SENDS = 10
"""A message sent so often without an answer is given up."""


class Asker:
    """Asks one VTN for reports."""

    def __init__(self, store: Store, clock: Clock, session: Session) -> None:
        self._store, self._clock, self._session = store, clock, session
        self._peer = session.terms.peer
        self._wishes = report_wishes(self._peer.config) if self._peer is not None else {}
        self._may_owe = self._peer is not None
        self._not_before = clock.now()
        self._wait = RETRY[0]

    async def ask_anew(self, connection: AsyncConnection) -> None:
        """We register: the VTN may have forgotten what we asked for, so it is asked what it can report."""
        if self._peer is not None and self._wishes:
            await wanted.ask_offers(connection, self._peer.id, at=self._clock.now())

    async def hear_offers(self, ven_id: str, message: RegisterReports) -> None:
        """Keep what the VTN can report, and answer it; what is wanted of it is asked for after that."""
        response = good(message.request_id)
        if self._peer is not None:
            try:
                async with self._store.begin() as connection:
                    await consumer.take_offers(
                        connection, self._peer, message, ven_id=ven_id, apart=True, at=self._now()
                    )
            except (Refused, Conflict, DataError) as error:
                response = _refusal(error, message.request_id)
            self._may_owe = True
        await self._session.ask(RegisteredReports(response=response, ven_id=ven_id))

    async def hear_values(self, ven_id: str, message: UpdateReports) -> None:
        """Keep values we asked for, and answer them: once kept they need not be told again."""
        response, stop = good(message.request_id), None
        if self._peer is not None:
            try:
                async with self._store.begin() as connection:
                    taken = await consumer.take_values(
                        connection, self._peer.id, message, ven_id=ven_id, at=self._now()
                    )
                stop = taken.stop
            except (Refused, DataError) as error:
                response = _refusal(error, message.request_id)
                log.warning("values not taken", source=self._session.name, error=response.description)
        await self._session.ask(UpdatedReports(response=response, cancel=stop, ven_id=ven_id))

    async def ask(self, ven_id: str) -> None:
        """Ask for what is wanted and end what is not; this raises nothing but that we are not registered.

        A VTN that does not answer is asked again, less and less often, and holds nothing else up.
        """
        if self._peer is None or not (self._wishes or self._may_owe) or self._now() < self._not_before:
            return
        try:
            async with self._store.begin() as connection:
                await wanted.keep_to_wishes(connection, self._peer, at=self._now())
                waiting = await open_messages(connection, self._peer.id, limit=MAX_AT_ONCE)
            for row in waiting:
                await self._send(ven_id, row)
                self._wait = RETRY[0]
            self._may_owe = bool(waiting)
        except PeerUnreachable as error:
            self._not_before = self._now() + self._wait
            self._wait = min(2 * self._wait, RETRY[1])
            log.warning("reports not asked for", source=self._session.name, error=str(error))

    async def prune(self) -> None:
        """Forget what was reported long ago."""
        if self._peer is not None:
            async with self._store.begin() as connection:
                await wanted.prune(connection, self._peer.id, at=self._now())

    async def _send(self, ven_id: str, row: Row[Any]) -> None:
        waiting = message_from_json(row.kind, row.message)
        if not isinstance(waiting, CreateReports | CancelReports):  # nothing else is ever queued for a VTN
            return
        message = replace(waiting, ven_id=ven_id)
        heard: Openadr2Message | None = None
        response = good(row.request_id)
        try:
            heard = await self._session.ask(message)
        except PeerRefused as refused:  # it was read; to repeat it would change nothing
            response = Response(refused.code, str(refused)[:500], row.request_id)
            log.warning("report refused by the utility", source=self._session.name, error=str(refused))
        except PeerUnreachable as error:
            if row.sent_count + 1 < MAX_SENDS:
                async with self._store.begin() as connection:
                    await note_sent(connection, row.id, at=self._now())
                raise
            response = Response(INVALID_DATA, f"never answered: {error}"[:500], row.request_id)
        async with self._store.begin() as connection:
            await self._settle(connection, message, heard, response)

    async def _settle(
        self, connection: AsyncConnection, message: Openadr2Message, heard: Openadr2Message | None, response: Response
    ) -> None:
        """Note what came of a message: its answer is the one that came with it, whatever request it names."""
        if self._peer is None:
            return
        if isinstance(message, CreateReports):
            asked = tuple(each.report_request_id for each in message.demands) if response.code == 200 else ()
            pending = heard.pending if isinstance(heard, CreatedReports) else asked
            answer = CreatedReports(response=response, pending=pending)
            await consumer.take_created(connection, self._peer.id, answer, at=self._now())
        else:
            await consumer.take_canceled(connection, self._peer.id, CanceledReports(response=response), at=self._now())

    def _now(self) -> datetime:
        return self._clock.now()


def _refusal(error: Refused | Conflict | DataError, request_id: str) -> Response:
    match error:
        case Refused():
            return Response(error.code, error.description, request_id)
        case Conflict():
            return Response(DEPLOYMENT_ERROR, str(error)[:300], request_id)
    return Response(INVALID_DATA, f"this cannot be kept: {error.orig}"[:300], request_id)
