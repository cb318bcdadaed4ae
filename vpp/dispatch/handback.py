"""Give every battery back as it was found, read it back, and keep trying until it is so."""

from collections import defaultdict
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
from vpp.enrolment import load_sites
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


async def verified(connection: AsyncConnection, commitment_id: UUID) -> frozenset[str]:
    """The sites of an event that are verified to be as they were found."""
    query = select(handbacks.c.site_id).where(
        handbacks.c.commitment_id == commitment_id, handbacks.c.verified_at.is_not(None)
    )
    return frozenset((await connection.execute(query)).scalars())


async def owed_to_others(connection: AsyncConnection, commitment_id: UUID) -> frozenset[str]:
    """Sites that another event has changed and not handed back yet: their own settings are not to be seen now."""
    query = select(handbacks.c.site_id).where(
        handbacks.c.commitment_id != commitment_id, handbacks.c.verified_at.is_(None)
    )
    return frozenset((await connection.execute(query)).scalars())


async def expired_leases(connection: AsyncConnection, at: datetime) -> dict[UUID, frozenset[str]]:
    """Sites whose lease has run out and that nobody has verified to be handed back, by event."""
    rows = await connection.execute(
        select(handbacks.c.commitment_id, handbacks.c.site_id)
        .where(handbacks.c.verified_at.is_(None), handbacks.c.lease_until < at)
        .order_by(handbacks.c.commitment_id, handbacks.c.site_id)
    )
    lapsed: defaultdict[UUID, set[str]] = defaultdict(set)
    for row in rows:
        lapsed[row.commitment_id].add(row.site_id)
    return {commitment_id: frozenset(site_ids) for commitment_id, site_ids in lapsed.items()}


async def _owed(
    connection: AsyncConnection, commitment_id: UUID, only: frozenset[str] | None
) -> list[tuple[Site, Mapping[str, Any]]]:
    rows = await connection.execute(
        select(handbacks.c.site_id, handbacks.c.native, commitments.c.tenant_id)
        .join(commitments, commitments.c.id == handbacks.c.commitment_id)
        .where(handbacks.c.commitment_id == commitment_id, handbacks.c.verified_at.is_(None))
    )
    owed = [row for row in rows if only is None or row.site_id in only]
    if not owed:
        return []
    natives = {row.site_id: row.native for row in owed}
    sites = await load_sites(connection, tenant_id=owed[0].tenant_id, site_ids=sorted(natives))
    return [(site, natives[site.id]) for site in sites]


async def _release(tools: Tools, site: Site, native: Mapping[str, Any]) -> Receipt:
    try:
        return await tools.within_deadline(tools.adapter(site).release(site, native))
    except DeviceError as error:
        return Receipt(
            command_id=None,
            state=ReceiptState.FAILED,
            at=tools.clock.now(),
            reason=f"{type(error).__name__}: {error}",
            retryable=error.retryable,
        )
