"""Room bootstrap: events of a VTN above us, handed by its VEN to those who pass them on below us."""

from dataclasses import replace

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.bootstrap.notify import changes_for
from vpp.bootstrap.translator import Translator
from vpp.config import Settings
from vpp.domain.grid_event import GridEvent
from vpp.domain.peer import Peer
from vpp.gateway import PassOn
from vpp.peering import event_from_json, on_received
from vpp.ports import Clock
from vpp.store.tables.downstream import received_event

log = structlog.get_logger(__name__)


def passing_on(settings: Settings, clock: Clock, peer: Peer) -> PassOn:
    """Return what a peer's VEN calls with each event; an event listed no longer is cancelled below us as well."""
    translator, changes = Translator(), changes_for(settings)

    async def pass_on(connection: AsyncConnection, event_id: str, event: GridEvent | None) -> None:
        stated = await _withdrawn(connection, peer, event_id) if event is None else event
        if stated is None:
            return
        done = await on_received(connection, peer, stated, at=clock.now(), translator=translator, changes=changes)
        if done.refusal is not None:
            log.warning("event not passed on", peer=peer.name, event_id=event_id, reason=done.refusal)

    return pass_on


async def _withdrawn(connection: AsyncConnection, peer: Peer, event_id: str) -> GridEvent | None:
    query = select(received_event.c.event).where(
        received_event.c.source == peer.id, received_event.c.event_id == event_id
    )
    last = (await connection.execute(query)).scalar()
    return None if last is None else replace(event_from_json(last), cancelled=True)
