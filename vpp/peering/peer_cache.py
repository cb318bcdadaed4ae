"""Peers that come to our OpenADR 3 VTN, in memory, never staler than `STALE_S`. Called by `authority`.

Goal: a call with a token costs no SQL, and a revoked peer is out within seconds in every process. Method: what was
read is good for `STALE_S`; while `run` hears `NOTIFY vpp_peer`, changes are dropped as they are told and the rest is
good for longer. What was read while something was told is not kept, since it may be from before.
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic

from sqlalchemy import select

from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering.bounded import Bounded
from vpp.peering.peers import PEER_CHANNEL, as_peer
from vpp.store.engine import Store
from vpp.store.listen import Heard, listen
from vpp.store.tables.peering import peer as peers

STALE_S = 4.0
HEARING_STALE_S = 300.0
_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Known:
    """A peer that may call, and the hash of its secret; `peer` is None for a client id nobody has."""

    client_id: str
    peer: Peer | None
    secret_hash: str | None
    read_s: float


class PeerCache:
    """Peers by client id."""

    def __init__(self, store: Store, *, ticks: Callable[[], float] = monotonic) -> None:
        self._store, self._ticks = store, ticks
        self._held: Bounded[str, Known] = Bounded(_LIMIT)
        self._client_ids: Bounded[str, str] = Bounded(_LIMIT)
        self._told = 0
        self._hearing_until_s = float("-inf")

    async def get(self, client_id: str) -> Known:
        """The peer with a client id, as it was a few seconds ago at most."""
        now_s = self._ticks()
        found = self._held.get(client_id)
        if found is not None:
            told = found.peer is not None and now_s < self._hearing_until_s
            if now_s - found.read_s < (HEARING_STALE_S if told else STALE_S):
                return found
        return await self.read(client_id)

    async def read(self, client_id: str) -> Known:
        """The peer with a client id, as it is now."""
        read_s, told = self._ticks(), self._told
        query = select(peers).where(
            peers.c.client_id == client_id,
            peers.c.protocol == Protocol.OPENADR3.value,
            peers.c.role != PeerRole.VTN.value,
            peers.c.revoked_at.is_(None),
        )
        async with self._store.begin() as connection:
            row = (await connection.execute(query)).first()
        known = Known(
            client_id, None if row is None else as_peer(row), None if row is None else row.secret_hash, read_s
        )
        if told == self._told:
            self._held.put(client_id, known)
            if known.peer is not None:
                self._client_ids.put(known.peer.id, client_id)
        return known

    async def run(self) -> None:
        """Hear of changes until cancelled."""
        async with aclosing(listen(self._store.database_url, PEER_CHANNEL)) as notices:
            async for notice in notices:
                if notice.heard is Heard.CONNECTED:
                    self._told += 1
                    self._held.clear()
                elif notice.heard is Heard.NOTICE:
                    self._told += 1
                    client_id = self._client_ids.pop(notice.payload)
                    if client_id is not None:
                        self._held.pop(client_id)
                self._hearing_until_s = self._ticks() + STALE_S
