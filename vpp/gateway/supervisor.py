"""Room gateway: one loop for each peer above us, begun, changed and ended as peers are. Run by `vpp/bootstrap`.

A peer's loop never waits for another's: each has its own task, connection and back-off. One that ends
unexpectedly is begun anew. What keeps a peer from being served is kept with it, where operators see it; each loop
keeps how its own rounds end. Peers are read again whenever one changes (`NOTIFY vpp_peer`), and every so often.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vpp.domain.errors import VppError
from vpp.domain.peer import Peer
from vpp.gateway import metrics
from vpp.peering import PEER_CHANNEL, note_standing
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.listen import Heard, listen

log = structlog.get_logger("vpp.gateway")

EVERY_S = 30.0
MAX_PEERS = 500
RESTART_S = (5.0, 300.0)
"""Wait before a loop that failed is begun anew, doubled up to the other."""
LEAVE_S = 20.0
"""How long a revoked peer is waited for while we take our leave."""


class PeerLoop(Protocol):
    """Our side at one peer."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def leave(self) -> None:
        """Tell the peer that we end; called once it has been revoked."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


Peers = Callable[[], Awaitable[Sequence[Peer]]]


@dataclass(slots=True)
class _Running:
    peer: Peer
    loop: PeerLoop
    task: asyncio.Task[None]


class Supervisor:
    """Runs a loop for each peer.

    Args:
        peers: who is to be asked now.
        make: our side at a peer; an error means that the peer cannot be served as it is configured.
        every_s: how often peers are read without anybody telling of a change [s].
        restart_s: wait before a loop that failed is begun anew, and the longest [s].
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        peers: Peers,
        make: Callable[[Peer], PeerLoop],
        every_s: float = EVERY_S,
        restart_s: tuple[float, float] = RESTART_S,
    ) -> None:
        self._store, self._clock = store, clock
        self._peers, self._make = peers, make
        self._every_s, self._restart_s = every_s, restart_s
        self._running: dict[str, _Running] = {}
        self._refused: dict[str, Peer] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Look after the loops until cancelled; then end them all."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                self._changed.clear()
                self._clock.now()  # shows a watcher that this loop turns
                await self.refresh()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._changed.wait()
        finally:
            listening.cancel()
            await asyncio.gather(*(self._end(one) for one in self._running.values()), *self._leaving)
            with suppress(asyncio.CancelledError):
                await listening

    @property
    def names(self) -> tuple[str, ...]:
        """The sources whose loops run now."""
        return tuple(sorted(one.loop.name for one in self._running.values()))

    async def refresh(self) -> None:
        """Begin loops of new peers, end those of revoked ones, begin changed ones anew."""
        try:
            wanted = {peer.id: peer for peer in (await self._peers())[:MAX_PEERS]}
        except (VppError, SQLAlchemyError, OSError) as error:
            log.warning("peers not read", error=str(error))
            return
        for peer_id, running in list(self._running.items()):
            if wanted.get(peer_id) != running.peer:
                del self._running[peer_id]
                await self._stop(running, leave=peer_id not in wanted)
        for peer_id, peer in wanted.items():
            if peer_id not in self._running:
                await self._begin(peer)
        self._refused = {peer_id: peer for peer_id, peer in self._refused.items() if wanted.get(peer_id) == peer}
        metrics.VENS.set(len(self._running))

    async def _begin(self, peer: Peer) -> None:
        try:
            loop = self._make(peer)
        except (VppError, OSError, ValueError) as error:
            if self._refused.get(peer.id) != peer:  # said once for each way it is configured
                log.error("peer cannot be served", peer=peer.name, error=str(error))
            self._refused[peer.id] = peer
            await self._note(peer, f"cannot be served: {error}")
            return
        self._refused.pop(peer.id, None)
        log.info("peer served", peer=peer.name, source=loop.name)
        self._running[peer.id] = _Running(peer, loop, asyncio.create_task(self._keep(peer, loop), name=loop.name))

    async def _note(self, peer: Peer, trouble: str) -> None:
        await note_standing(self._store, peer.id, trouble, at=self._clock.now())

    async def _keep(self, peer: Peer, loop: PeerLoop) -> None:
        wait_s, longest_s = self._restart_s
        while True:
            try:
                await loop.run()
            except Exception as error:  # a defect met at one peer must not end our work for the others
                metrics.VEN_FAILURES.labels(loop.name).inc()
                log.exception("loop failed", source=loop.name, error=str(error), retry_s=wait_s)
                await self._note(peer, f"a defect of ours, {type(error).__name__}: see the log of vpp gateway")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, longest_s)

    async def _end(self, running: _Running) -> None:
        await self._stop(running)
        await self._note(running.peer, "nobody asks it: vpp gateway has ended")

    async def _stop(self, running: _Running, *, leave: bool = False) -> None:
        running.task.cancel()
        with suppress(asyncio.CancelledError):
            await running.task
        log.info("peer served no longer", peer=running.peer.name, revoked=leave)
        if not leave:
            await running.loop.close()
            return
        metrics.forget(running.loop.name)
        task = asyncio.create_task(self._leave(running.loop))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, loop: PeerLoop) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await loop.leave()
        except (VppError, SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("could not take leave", source=loop.name, error=str(error))
        finally:
            await loop.close()

    async def _listen(self) -> None:
        async with aclosing(listen(self._store.database_url, PEER_CHANNEL)) as notices:
            async for notice in notices:
                if notice.heard is not Heard.ALIVE:
                    self._changed.set()
