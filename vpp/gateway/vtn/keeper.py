"""Keeps the VTN's memory true: reads it, listens for changes, and looks again now and then.

Called by the desk. A reading takes the place of memory only while no answer is being written (`lock`), so
that a commit is never overtaken by what was read before it.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from vpp.domain.errors import NotFound
from vpp.gateway.vtn.load import load_events, load_told, load_ven, load_vens
from vpp.gateway.vtn.metrics import REGISTERED
from vpp.gateway.vtn.view import View
from vpp.peering import CHANNEL, PEER_CHANNEL, VTN2_CHANNEL, forget_old, load_grid_event
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.listen import Heard, Notice, listen

CHECK_EVERY = timedelta(seconds=60)
READ_WITHIN_S = 60.0

log = structlog.get_logger(__name__)

_SEEN = text(
    """
    update vtn2_registration set seen_at = new.at
    from unnest(cast(:peers as text[]), cast(:ats as timestamptz[])) as new (peer_id, at)
    where vtn2_registration.peer_id = new.peer_id
    """
)


class Keeper:
    """Holds one tenant's view true to the database.

    Args:
        keep_for: how long what is over is kept, with what VENs said of it.
    """

    def __init__(self, store: Store, clock: Clock, view: View, *, tenant_id: str, keep_for: timedelta) -> None:
        self.keep_for = keep_for
        self._store, self._clock, self._view, self._tenant_id = store, clock, view, tenant_id
        self._watchers: list[Callable[[], None]] = []
        self._noted_at: datetime | None = None
        self.lock = asyncio.Lock()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every change of the view that came from elsewhere."""
        self._watchers.append(changed)

    async def load(self, *, deliveries: bool = True, since: datetime | None = None) -> None:
        """Read everything; without `deliveries`, of what VENs were told only what is of `since`, by whatever VTN."""
        async with asyncio.timeout(READ_WITHIN_S), self.lock, self._store.begin() as connection:
            now = self._clock.now()
            events = await load_events(connection, self._tenant_id, now)
            vens = await load_vens(connection, self._tenant_id, now, deliveries=deliveries)
            recent = await load_told(connection, now, since=since) if since is not None else {}
            for ven in vens:
                old = self._view.vens.get(ven.peer.id)
                if old is not None:
                    ven.seen_at, ven.told_events_last = old.seen_at, old.told_events_last
                    if not deliveries:
                        ven.deliveries = old.deliveries | recent.get(ven.peer.id, {})
            self._view.set_events(events)
            self._view.set_vens(vens)
        REGISTERED.set(sum(ven.is_registered for ven in vens))
        self._tell()

    async def load_ven(self, peer_id: str) -> None:
        """Read one VEN."""
        async with asyncio.timeout(READ_WITHIN_S), self.lock, self._store.begin() as connection:
            try:
                ven = await load_ven(connection, peer_id, self._tenant_id, self._clock.now())
            except NotFound:
                ven = None
            old = self._view.vens.get(peer_id)
            if ven is not None and old is not None:
                ven.seen_at, ven.told_events_last = old.seen_at, old.told_events_last
            self._view.set_ven(peer_id, ven)
        self._tell()

    async def load_event(self, event_id: str, *, told: bool = False) -> None:
        """Read one event; with `told`, also which VENs were told it, for another VTN beside us may have done that."""
        async with asyncio.timeout(READ_WITHIN_S), self.lock, self._store.begin() as connection:
            try:
                event = await load_grid_event(connection, event_id, tenant_id=self._tenant_id)
            except NotFound:
                return
            found = await load_told(connection, self._clock.now(), event_id=event_id) if told else {}
            for peer_id, deliveries in found.items():
                ven = self._view.vens.get(peer_id)
                if ven is not None and ven.deliveries.get(event_id) != deliveries[event_id]:
                    ven.deliveries |= deliveries
                    ven.relevant_in = ven.quiet_in = -1
            self._view.set_event(event)
        self._tell()

    async def run(self) -> None:
        """Listen and look again until cancelled."""
        heard_before = False
        async with aclosing(listen(self._store.database_url, CHANNEL, PEER_CHANNEL, VTN2_CHANNEL)) as notices:
            async for notice in notices:
                try:
                    if notice.heard is Heard.CONNECTED:
                        await self.load(deliveries=heard_before or not self._view.vens)
                        heard_before = True
                    elif notice.heard is Heard.NOTICE:
                        await self._hear(notice)
                    await self.look_again()
                except (SQLAlchemyError, OSError, TimeoutError) as error:
                    log.warning("the VTN could not read again", error=str(error)[:300])

    async def _hear(self, notice: Notice) -> None:
        if notice.channel == CHANNEL:
            await self.load_event(notice.payload, told=True)
        else:
            await self.load_ven(notice.payload)

    async def look_again(self) -> None:
        """Now and then: write down who was seen, and read what a notice may have missed."""
        now = self._clock.now()
        if self._noted_at is None:
            self._noted_at = now
        if now - self._noted_at < CHECK_EVERY:
            return
        since, self._noted_at = self._noted_at, now
        await self.note_seen(since)
        await self._tidy(now)
        await self.load(deliveries=False, since=since - CHECK_EVERY)

    async def _tidy(self, now: datetime) -> None:
        """Delete what was over longer ago than it is kept for, a part at a time."""
        async with self._store.begin() as connection:
            await forget_old(connection, tenant_id=self._tenant_id, before=now - self.keep_for)

    async def note_seen(self, since: datetime) -> None:
        """Write down when VENs were last heard that were heard since an instant."""
        seen = {ven.peer.id: ven.seen_at for ven in self._view.vens.values() if ven.seen_at and ven.seen_at >= since}
        if seen:
            async with self._store.begin() as connection:
                await connection.execute(_SEEN, {"peers": list(seen), "ats": list(seen.values())})

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()
