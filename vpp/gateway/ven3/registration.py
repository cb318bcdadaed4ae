"""Room gateway, OpenADR 3 VEN: who we are to a VTN and where it calls us, in SQL. Called by `loop` and `callback`."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.ven3 import VenSeen
from vpp.store.tables.openadr3_ven import openadr3_ven as table


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What we hold of ourselves at one VTN; `ven_id` is None where it has no VEN object for us."""

    ven_id: str | None
    targets: tuple[str, ...]
    subscription_ids: tuple[str, ...]
    callback_hash: str | None


async def load_known(connection: AsyncConnection, source: str) -> Known | None:
    """Return what we hold, None where we never reached the VTN."""
    row = (await connection.execute(select(table).where(table.c.source == source))).one_or_none()
    if row is None:
        return None
    return Known(
        ven_id=row.ven_id,
        targets=tuple(row.targets),
        subscription_ids=tuple(row.subscription_ids),
        callback_hash=row.callback_hash,
    )


async def save_ven(
    connection: AsyncConnection, source: str, ven: VenSeen | None, *, targets: tuple[str, ...], at: datetime
) -> None:
    """Keep our VEN object's id and the targets to ask for; subscriptions stay as they are."""
    values = {"ven_id": ven.ven_id if ven else None, "targets": list(targets), "registered_at": at}
    statement = insert(table).values(source=source, subscription_ids=[], **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=values))


async def save_callback(connection: AsyncConnection, source: str, *, token: str) -> None:
    """Expect this token from now on. Written before the VTN is told: its challenge may come at once."""
    await connection.execute(
        update(table).where(table.c.source == source).values(callback_hash=token_hash(token), subscription_ids=[])
    )


async def save_subscriptions(connection: AsyncConnection, source: str, ids: tuple[str, ...], *, at: datetime) -> None:
    """Keep the subscriptions the VTN has made for us."""
    await connection.execute(
        update(table).where(table.c.source == source).values(subscription_ids=list(ids), subscribed_at=at)
    )


def token_hash(token: str) -> str:
    """What is kept of a token: it is long and random, so that no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def shows(token: str, expected_hash: str | None) -> bool:
    """Whether a token is the one expected, in a time that tells nothing."""
    return expected_hash is not None and hmac.compare_digest(token_hash(token), expected_hash)
