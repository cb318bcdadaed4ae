"""Give every battery back as it was found, read it back, and keep trying until it is so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.dispatch.tools import Tools
from vpp.domain.device import Receipt, ReceiptState
from vpp.domain.errors import DeviceError
from vpp.domain.site import Site
from vpp.enrolment import get_site
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.dispatch import handback as handbacks

RETRY_AFTER = timedelta(minutes=15)
"""How long the reaper leaves a site alone that could not be handed back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandbackOutcome:
    """Which sites are verified to be as they were found, of how many that were still owed."""

    verified: frozenset[str]
    owed: int


async def hand_back(tools: Tools, commitment_id: UUID, *, only: frozenset[str] | None = None) -> HandbackOutcome:
    """Release the sites of an event not yet verified to be as found (or those of them in `only`).

    Safe to repeat: a release puts saved settings back, and a verified site is not touched again.
    """
    async with tools.store.begin() as connection:
        owed = await _owed(connection, commitment_id, only)
    receipts = await tools.with_each(owed, lambda job: _release(tools, *job))
    now = tools.clock.now()
    async with tools.store.begin() as connection:
        for (site, _), receipt in zip(owed, receipts, strict=True):
            verified = receipt.state is ReceiptState.READBACK_OK
            await connection.execute(
                update(handbacks)
                .where(handbacks.c.commitment_id == commitment_id, handbacks.c.site_id == site.id)
                .values(
                    released_at=now,
                    verified_at=now if verified else None,
                    lease_until=now if verified else now + RETRY_AFTER,
                    reason=receipt.reason,
                )
            )
    done = {site.id for (site, _), r in zip(owed, receipts, strict=True) if r.state is ReceiptState.READBACK_OK}
    return HandbackOutcome(verified=frozenset(done), owed=len(owed))


async def open_handbacks(connection: AsyncConnection, commitment_id: UUID) -> int:
    """How many sites of an event are not yet verified to be as they were found."""
    query = select(func.count()).where(handbacks.c.commitment_id == commitment_id, handbacks.c.verified_at.is_(None))
    return int((await connection.execute(query)).scalar_one())


async def expired_leases(connection: AsyncConnection, at: datetime) -> list[UUID]:
    """Events with a site whose lease has run out and that nobody has verified to be handed back."""
    rows = await connection.execute(
        select(handbacks.c.commitment_id)
        .join(commitments, commitments.c.id == handbacks.c.commitment_id)
        .where(handbacks.c.verified_at.is_(None), handbacks.c.lease_until < at)
        .distinct()
        .order_by(handbacks.c.commitment_id)
    )
    return [row.commitment_id for row in rows]


async def _owed(
    connection: AsyncConnection, commitment_id: UUID, only: frozenset[str] | None
) -> list[tuple[Site, Mapping[str, Any]]]:
    rows = (
        await connection.execute(
            select(handbacks.c.site_id, handbacks.c.native)
            .where(handbacks.c.commitment_id == commitment_id, handbacks.c.verified_at.is_(None))
            .order_by(handbacks.c.site_id)
        )
    ).all()
    return [
        (await get_site(connection, row.site_id), row.native) for row in rows if only is None or row.site_id in only
    ]


async def _release(tools: Tools, site: Site, native: Mapping[str, Any]) -> Receipt:
    try:
        return await tools.adapter(site).release(site, native)
    except DeviceError as error:
        return Receipt(
            command_id=None,
            state=ReceiptState.FAILED,
            at=tools.clock.now(),
            reason=f"{type(error).__name__}: {error}",
            retryable=error.retryable,
        )
