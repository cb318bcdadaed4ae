"""Push: what a VEN would be told on its poll goes to the address it registered with. Run beside the desk.

What has to be told is the same as on poll and stands in the database, so that a restart loses nothing: only the
waits between attempts are forgotten. A VEN that has taken a message and has not answered it yet is told again
after `AGAIN`, twice as late with every further time; one that cannot be reached likewise.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from vpp.domain.errors import CallerForbidden, InvalidRequest, NotReady, PeerError
from vpp.domain.openadr2 import Acknowledge, CreatedReports, Openadr2Caller, Openadr2Message
from vpp.gateway.vtn.desk import VtnDesk
from vpp.gateway.vtn.metrics import PUSHES
from vpp.gateway.vtn.polling import is_quiet, next_message
from vpp.gateway.vtn.view import FOR_EVER, Ven
from vpp.ports import Openadr2Push

AGAIN = (timedelta(seconds=10), timedelta(minutes=15))
"""Wait before something is told again, doubled up to the other."""
AT_ONCE = 32
"""Messages under way at the same time."""
DOUBTFUL_AT_ONCE = 8
"""Of these, to VENs that could not be told the last time: they may take their time, and the others shall not wait."""
LOOK_AGAIN = timedelta(seconds=30)
RESOLVE_WITHIN_S = 5.0
MAX_IN_A_ROW = 20
"""Messages for one VEN before the others have their turn again."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Wait:
    until: datetime
    seconds: float
    generation: int


class PushLoop:
    """Pushes to every VEN that registered for it.

    Args:
        allowed: raises InvalidRequest for an address that must not be called; None takes any, for VENs often
            live in private networks.
    """

    def __init__(
        self, desk: VtnDesk, push: Openadr2Push, *, allowed: Callable[[str], Awaitable[object]] | None = None
    ) -> None:
        self._desk, self._push, self._room, self._allowed = desk, push, desk.room, allowed
        self._waits: dict[str, _Wait] = {}
        self._changed = asyncio.Event()
        self._under_way: set[str] = set()
        self._limit = asyncio.Semaphore(AT_ONCE - DOUBTFUL_AT_ONCE)
        self._doubtful = asyncio.Semaphore(DOUBTFUL_AT_ONCE)
        self._failed: set[str] = set()
        self._room.keeper.watch(self._changed.set)

    async def run(self) -> None:
        """Push whatever there is to tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for ven in self._due():
                    self._under_way.add(ven.peer.id)
                    group.create_task(self._serve(ven.peer.id), name=f"push {ven.peer.name}")
                await self._rest()

    def _due(self) -> list[Ven]:
        now, view = self._room.clock.now(), self._room.view
        return [
            ven
            for ven in view.vens.values()
            if _is_pushed_to(ven)
            and ven.peer.id not in self._under_way
            and not is_quiet(self._room, ven, now)
            and not self._waits_still(ven, now)
        ]

    def _waits_still(self, ven: Ven, now: datetime) -> bool:
        """A VEN that is being waited for is left alone, unless there is something new."""
        wait = self._waits.get(ven.peer.id)
        return wait is not None and now < wait.until and wait.generation == self._room.view.generation

    async def _rest(self) -> None:
        """Wait until something changes, a status changes or a wait is over."""
        room, now = self._room, self._room.clock.now()
        until = now + LOOK_AGAIN
        for ven in room.view.vens.values():
            if _is_pushed_to(ven) and ven.peer.id not in self._under_way:
                wait = self._waits.get(ven.peer.id)
                next_at = ven.quiet_until if is_quiet(room, ven, now) else FOR_EVER if wait is None else wait.until
                until = min(until, next_at)
        sleeping = asyncio.create_task(room.clock.sleep_until(until))
        changing = asyncio.create_task(self._changed.wait())
        try:
            done, _ = await asyncio.wait((sleeping, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, changing):
                task.cancel()
            # gathered, not awaited one by one and forgiven: that would swallow a wish of ours to stop as well
            await asyncio.gather(sleeping, changing, return_exceptions=True)
        for each in done:
            each.result()

    async def _serve(self, peer_id: str) -> None:
        try:
            async with self._doubtful if peer_id in self._failed else self._limit:
                for _ in range(MAX_IN_A_ROW):
                    ven = self._room.view.vens.get(peer_id)
                    if ven is None or not _is_pushed_to(ven) or not await self._push_next(ven):
                        return
        except Exception:
            log.exception("push failed unexpectedly", peer_id=peer_id)
            self._put_off(peer_id, self._room.view.generation)
        finally:
            self._under_way.discard(peer_id)
            self._changed.set()

    async def _push_next(self, ven: Ven) -> bool:
        """Push one message; True where another may follow at once."""
        peer_id, generation = ven.peer.id, self._room.view.generation
        try:
            message = await next_message(self._room, ven)
            if message is None:
                self._waits.pop(peer_id, None)
                return False
            answer = await self._send(ven, message)
            await self._take(ven, answer)
        except (PeerError, NotReady, CallerForbidden, InvalidRequest, TimeoutError) as error:
            PUSHES.labels("failed").inc()
            log.warning("push failed", ven=ven.peer.name, error=str(error)[:300])
            self._failed.add(peer_id)
            self._put_off(peer_id, generation)
            return False
        PUSHES.labels("taken").inc()
        self._failed.discard(peer_id)
        if isinstance(answer, Acknowledge):  # taken; its real answer comes by a request of the VEN's own
            self._put_off(peer_id, generation)
            return False
        return True

    async def _send(self, ven: Ven, message: Openadr2Message) -> Openadr2Message:
        registration = ven.registration
        if registration is None or registration.transport_address is None:
            raise NotReady("the VEN has no address")
        if self._allowed is not None:
            async with asyncio.timeout(RESOLVE_WITHIN_S):
                await self._allowed(registration.transport_address)
        signs = ven.party is not None and ven.party.xml_signature
        address, known = registration.transport_address, ven.peer.fingerprint
        return await self._push.push(address, message, sign=signs, fingerprint=known)

    async def _take(self, ven: Ven, answer: Openadr2Message) -> None:
        """Treat what came back as what the VEN would have sent after a poll."""
        if isinstance(answer, Acknowledge):
            return
        reply = await self._desk.answer(answer, Openadr2Caller(fingerprint=ven.peer.fingerprint, called=True))
        if isinstance(reply, CreatedReports):  # it asked for reports in its answer to our offer
            await self._send(ven, reply)

    def _put_off(self, peer_id: str, generation: int) -> None:
        now, before = self._room.clock.now(), self._waits.get(peer_id)
        first_s, longest_s = (each.total_seconds() for each in AGAIN)
        again = before is not None and before.generation == generation
        seconds = min(longest_s, 2 * before.seconds) if again and before is not None else first_s
        self._waits[peer_id] = _Wait(now + timedelta(seconds=seconds), seconds, generation)


def _is_pushed_to(ven: Ven) -> bool:
    registration = ven.registration
    return registration is not None and not registration.cancelled and not registration.http_pull
