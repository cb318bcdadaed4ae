"""Room gateway: sends the answers owed to a VTN. Called by `ven`; what is owed stands in `answers`."""

import structlog

from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import CreatedEvents, EventOpt, Response
from vpp.domain.ven import EventAnswer, EventNotice
from vpp.gateway import answers
from vpp.gateway.session import Session
from vpp.ports import Clock
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

MAX_AT_ONCE = 1000
MAX_REASON_CHARS = 1000


class Answerer:
    """Answers of one VEN to its VTN."""

    def __init__(self, store: Store, clock: Clock, session: Session) -> None:
        self._store, self._clock, self._session = store, clock, session
        self._at_once: dict[tuple[str, int], EventAnswer] = {}

    def at_once(self, notice: EventNotice, answer: EventAnswer) -> None:
        """Send an answer with the others that is kept nowhere; one that is lost comes up again with its event."""
        if len(self._at_once) < MAX_AT_ONCE:
            self._at_once[notice.external_id, notice.modification_number] = answer

    async def send(self, ven_id: str) -> None:
        """Send every answer owed. One the VTN cannot be told does not hold up the others.

        Raises:
            PeerUnreachable: at least one could not be told.
        """
        unreachable: PeerUnreachable | None = None
        at_once, self._at_once = self._at_once, {}
        async with self._store.begin() as connection:
            owed = await answers.unsent(connection, self._session.name, at=self._clock.now())
        for answer in at_once.values():
            try:
                await self._send(ven_id, answer)
            except PeerUnreachable as error:
                unreachable = unreachable or error
        for entry in owed:
            try:
                await self._send(ven_id, entry.answer)
            except PeerUnreachable as error:
                unreachable = unreachable or error
                continue
            async with self._store.begin() as connection:
                await answers.mark_sent(connection, entry, at=self._clock.now())
        if unreachable is not None:
            raise unreachable

    async def _send(self, ven_id: str, answer: EventAnswer) -> None:
        """Send an answer. One refused with a code was read; to repeat it would change nothing."""
        opt = EventOpt(
            event_id=answer.external_id,
            modification_number=answer.modification_number,
            request_id=answer.request_id,
            opt_in=answer.opt_in,
            code=answer.code,
            description=answer.reason[:MAX_REASON_CHARS],
        )
        try:
            await self._session.ask(CreatedEvents(response=Response(), ven_id=ven_id, opts=(opt,)))
        except PeerRefused as refused:
            log.warning("answer refused", source=self._session.name, event_id=answer.external_id, error=str(refused))
