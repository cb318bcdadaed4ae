"""Room bootstrap: events of a VTN above us, handed by its VEN to those who pass them on below us."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.bootstrap.changes import changes_for
from vpp.bootstrap.translator import Translator
from vpp.config import Settings
from vpp.domain.grid_event import GridEvent
from vpp.domain.peer import Peer
from vpp.gateway import PassOn
from vpp.peering import Changes, event_from_json, on_received
from vpp.ports import Clock
from vpp.store.tables.downstream import grid_event, received_event

log = structlog.get_logger(__name__)


def passing_on(settings: Settings, clock: Clock, peer: Peer) -> PassOn:
    """Return what a peer's VEN calls with each event; an event listed no longer is cancelled below us as well."""
    return _PassingOn(clock, peer, Translator(), changes_for(settings))


@dataclass(frozen=True, slots=True)
class _PassingOn:
    clock: Clock
    peer: Peer
    translator: Translator
    changes: Changes

    async def __call__(self, connection: AsyncConnection, event_id: str, event: GridEvent | None) -> None:
        stated = await _withdrawn(connection, self.peer, event_id) if event is None else event
        if stated is None:
            return
        done = await on_received(
            connection, self.peer, stated, at=self.clock.now(), translator=self.translator, changes=self.changes
        )
        if done.refusal is not None:
            log.warning("event not passed on", peer=self.peer.name, event_id=event_id, reason=done.refusal)

    async def told_below(self, connection: AsyncConnection, *, after: datetime) -> Sequence[str]:
        query = (
            select(received_event.c.event_id)
            .join(
                grid_event,
                and_(
                    grid_event.c.tenant_id == received_event.c.tenant_id,
                    grid_event.c.event_id == received_event.c.forwarded_as,
                ),
            )
            .where(
                received_event.c.source == self.peer.id,
                grid_event.c.cancelled.is_(False),
                or_(grid_event.c.over_at.is_(None), grid_event.c.over_at > after),
            )
        )
        return list((await connection.execute(query)).scalars())


async def _withdrawn(connection: AsyncConnection, peer: Peer, event_id: str) -> GridEvent | None:
    query = select(received_event.c.event).where(
        received_event.c.source == peer.id, received_event.c.event_id == event_id
    )
    last = (await connection.execute(query)).scalar()
    return None if last is None else replace(event_from_json(last), cancelled=True)
