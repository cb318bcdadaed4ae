"""Whether a VTN above us can be asked, since when, and why not. Written by the gateway, read by cli and portal."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import case, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.peer import Peer
from vpp.store.engine import Store
from vpp.store.tables.peering import peer as peers

LONGEST = 500
WITHIN_S = 5.0
log = structlog.get_logger("vpp.peering")


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a VTN: `trouble` is why the last round with it failed, or why there was none.

    Attributes:
        since_at: since when rounds go well, or since when none has.
        trouble: None where the last round went well.
    """

    since_at: datetime
    trouble: str | None


async def note_standing(store: Store, peer_id: str | None, trouble: Exception | str | None, *, at: datetime) -> None:
    """Keep how a round with a VTN ended, in a transaction of its own; nothing is written where it stands as it stood.

    Called after each round: so what another process wrote in between does not stay. A database that is away is no
    error here: the next round says it again.

    Args:
        peer_id: None for a VTN that is no row of the table.
    """
    if peer_id is None:
        return
    said = None if trouble is None else _one_line(trouble)
    was_well, is_well = peers.c.trouble.is_(None), said is None
    same = peers.c.stands_since_at.is_not(None) & (was_well if is_well else ~was_well)
    query = (
        update(peers)
        .where(peers.c.id == peer_id)
        .where(or_(peers.c.stands_since_at.is_(None), peers.c.trouble.is_distinct_from(said)))
        .values(trouble=said, stands_since_at=case((same, peers.c.stands_since_at), else_=at))
    )
    try:
        async with asyncio.timeout(WITHIN_S), store.begin() as connection:
            await connection.execute(query)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.warning("standing of a peer not kept", peer_id=peer_id, error=str(error))


async def standings(connection: AsyncConnection, listed: Sequence[Peer]) -> dict[str, Standing]:
    """How it stands with each peer, by its id; those revoked and those never asked are left out."""
    ids = [peer.id for peer in listed if peer.revoked_at is None]
    query = select(peers.c.id, peers.c.stands_since_at, peers.c.trouble)
    query = query.where(peers.c.id.in_(ids), peers.c.stands_since_at.is_not(None))
    return {row.id: Standing(row.stands_since_at, row.trouble) for row in await connection.execute(query)}


def _one_line(trouble: Exception | str) -> str:
    """What a page, a terminal and the database can hold of it, whatever a VTN made of it."""
    text = str(trouble) or type(trouble).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST])
