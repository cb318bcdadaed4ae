"""The desk of our OpenADR 2.0b VTN: takes every message, asks who speaks, hands it to the part it belongs to.

Made by bootstrap, called by the wire (`market/openadr2/vtn.py`) through `vpp.ports.Openadr2Desk`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from vpp.domain.errors import CallerForbidden, Conflict, NotReady
from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr2 import (
    COMPLIANCE_ERROR,
    DEPLOYMENT_ERROR,
    NOT_REGISTERED,
    Acknowledge,
    CanceledRegistration,
    CanceledReports,
    CancelOpt,
    CancelRegistration,
    CancelReports,
    CreatedEvents,
    CreatedReports,
    CreateOpt,
    CreateRegistration,
    CreateReports,
    Openadr2Caller,
    Openadr2Message,
    Openadr2Party,
    Poll,
    QueryRegistration,
    RegisteredReports,
    RegisterReports,
    RequestEvents,
    RequestReregistration,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway.refused import Refused, good
from vpp.gateway.vtn import events, opts, own_reports, registration, reports
from vpp.gateway.vtn.due_reports import tell_reports
from vpp.gateway.vtn.keeper import Keeper
from vpp.gateway.vtn.metrics import MESSAGES, POLLS
from vpp.gateway.vtn.nameless import asked_ven_id
from vpp.gateway.vtn.polling import is_quiet, poll
from vpp.gateway.vtn.refusals import refusal
from vpp.gateway.vtn.room import Room, apply_to
from vpp.gateway.vtn.view import Ven, View
from vpp.gateway.vtn.writer import GroupWriter
from vpp.ports import Clock
from vpp.store.engine import Store

_PARTY: Mapping[type[Any], Callable[[Room, Any, Openadr2Caller], Awaitable[Openadr2Message]]] = {
    CreateRegistration: registration.create,
    CancelRegistration: registration.cancel,
    CanceledRegistration: registration.confirmed,
}
_OF_VEN: Mapping[type[Any], Callable[[Room, Ven, Any], Awaitable[Openadr2Message]]] = {
    Poll: lambda room, ven, _: poll(room, ven),
    RequestEvents: events.requested,
    CreatedEvents: events.created,
    CreateOpt: opts.created,
    CancelOpt: opts.cancelled,
    RegisterReports: reports.registered,
    CreatedReports: reports.created,
    UpdateReports: reports.updated,
    CanceledReports: reports.cancelled,
    CreateReports: own_reports.asked,
    CancelReports: own_reports.ended,
    RegisteredReports: own_reports.offers_taken,
    UpdatedReports: own_reports.values_taken,
}


class VtnDesk:
    """One tenant's VTN. `open` before the first message, and let `run` go on beside.

    Args:
        poll: how often VENs are told to poll.
        must_show_certificate: no VEN without a known certificate may register or speak.
        can_say: whether 2.0b has words for an event; one it has none for is told to nobody.
        keep_for: how long what is over is kept, with what VENs said of it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        tenant_id: str,
        vtn_id: str,
        poll: timedelta = timedelta(seconds=10),
        must_show_certificate: bool = False,
        can_say: Callable[[GridEvent], bool] = lambda _: True,
        keep_for: timedelta = timedelta(days=400),
    ) -> None:
        view = View(can_say)
        keeper = Keeper(store, clock, view, tenant_id=tenant_id, keep_for=keep_for)
        writer = GroupWriter(store, keeper.lock, lambda change: apply_to(view, change))
        self.vtn_id = vtn_id
        self.room = Room(
            store=store,
            clock=clock,
            tenant_id=tenant_id,
            vtn_id=vtn_id,
            poll=poll,
            must_show_certificate=must_show_certificate,
            view=view,
            keeper=keeper,
            writer=writer,
        )

    async def open(self) -> None:
        """Read what there is."""
        await self.room.keeper.load()

    async def run(self) -> None:
        """Hear of what others change, and tell the reports that fall due, until cancelled."""
        telling = asyncio.create_task(tell_reports(self.room), name="vtn reports")
        try:
            await self.room.keeper.run()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await asyncio.shield(self.room.writer.close())

    @property
    def registered(self) -> int:
        """How many VENs are registered."""
        return sum(ven.is_registered for ven in self.room.view.vens.values())

    def party(self, ven_id: str | None) -> Openadr2Party | None:
        """Return what the wire must know of a VEN."""
        ven = self.room.view.by_ven_id(ven_id)
        return None if ven is None else ven.party

    def idle(self, ven_id: str, caller: Openadr2Caller) -> bool:
        """Whether this VEN's poll needs no more than a plain response."""
        room = self.room
        ven = room.view.by_ven_id(ven_id)
        if ven is None or not ven.is_registered:
            return False
        now = room.clock.now()
        if not is_quiet(room, ven, now):
            return False
        try:
            registration.check_certificate(room, ven.peer, caller)
        except (Refused, CallerForbidden):
            return False  # `answer` says so
        POLLS.inc()
        ven.seen_at = now
        return True

    async def answer(self, message: Openadr2Message, caller: Openadr2Caller) -> Openadr2Message:
        """Return the answer to one message.

        Raises:
            CallerForbidden: the certificate shown is not that of the VEN it speaks for.
            NotReady: the database does not answer; nothing was promised.
        """
        try:
            answer = await self._answer(message, caller)
        except Refused as refused:
            answer = refusal(message, refused.code, refused.description, vtn_id=self.vtn_id)
        except Conflict as conflict:
            answer = refusal(message, DEPLOYMENT_ERROR, str(conflict), vtn_id=self.vtn_id)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise NotReady(f"the database does not answer: {type(error).__name__}") from error
        code = getattr(getattr(answer, "response", None), "code", 200)
        MESSAGES.labels(type(message).__name__, str(code)).inc()
        return answer

    async def _answer(self, message: Openadr2Message, caller: Openadr2Caller) -> Openadr2Message:
        if isinstance(message, QueryRegistration):
            return registration.query(self.room, message, caller)
        party = _PARTY.get(type(message))
        if party is not None:
            return await party(self.room, message, caller)
        ven_id = getattr(message, "ven_id", None) or await asked_ven_id(self.room, message)
        ven = self._who(message, ven_id, caller)
        if isinstance(ven, RequestReregistration):
            return ven
        if isinstance(message, Acknowledge):
            return Acknowledge(response=good(message.response.request_id), ven_id=ven.ven_id)
        answer = _OF_VEN.get(type(message))
        if answer is None:
            raise Refused(COMPLIANCE_ERROR, "this is a message of a VTN")
        return await answer(self.room, ven, message)

    def _who(self, message: Openadr2Message, ven_id: str | None, caller: Openadr2Caller) -> Ven | RequestReregistration:
        """Return who speaks: by the id given, or by the certificate where there is none.

        A peer that polls without being registered is asked to register.

        Raises:
            Refused: nobody of ours, or not registered.
            CallerForbidden: the certificate is not that VEN's.
        """
        room = self.room
        ven = room.view.by_ven_id(ven_id)
        if ven is None and ven_id is None:
            ven = room.view.by_fingerprint(caller.fingerprint) or room.view.by_fingerprint(caller.signed_by)
        if ven is None and ven_id is not None:
            ven = room.view.by_party_id(ven_id)
        if ven is None:
            raise Refused(NOT_REGISTERED, "this VEN is not known here")
        registration.check_certificate(room, ven.peer, caller)
        registration.check_signed(caller, signs=ven.party is not None and ven.party.xml_signature)
        if not ven.is_registered:
            if isinstance(message, Poll):
                return RequestReregistration(ven_id=message.ven_id)
            raise Refused(NOT_REGISTERED, "this VEN is not registered")
        ven.seen_at = room.clock.now()
        return ven
