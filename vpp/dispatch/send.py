"""Carry planned commands to the devices, save what they will change, and write down the receipts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.dispatch.handback import hand_back
from vpp.dispatch.tools import Tools
from vpp.domain.commitment import Commitment
from vpp.domain.device import Command, Receipt, ReceiptState
from vpp.domain.errors import DeviceError, TimedOut
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import handback as handbacks

_UNFINISHED = (ReceiptState.PLANNED.value, ReceiptState.SENT.value)
LEASE_OF_CYCLES = 2
_save = insert(handbacks)
_SAVE_NATIVE = _save.on_conflict_do_update(
    index_elements=[handbacks.c.commitment_id, handbacks.c.site_id],
    set_={
        "native": _save.excluded.native,
        "saved_at": _save.excluded.saved_at,
        "lease_until": _save.excluded.lease_until,
        "released_at": None,
        "verified_at": None,
        "reason": "",
    },
)
"""A site handed back and then called again owes its hand-back anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOutcome:
    """How many commands went out, and how many came to nothing."""

    asked: int
    failed: int


async def send(tools: Tools, commitment: Commitment, interval: Interval) -> SendOutcome:
    """Send every unfinished command of a cycle; a command already carried out is not sent again."""
    async with tools.store.begin() as connection:
        planned = await _unfinished(connection, commitment, interval)
    if not planned:
        return SendOutcome(asked=0, failed=0)
    kept = await _save_native(tools, commitment, planned, interval)
    async with tools.store.begin() as connection:
        await _mark_sent(connection, [command for _, command in kept], tools.clock.now())
    stops = [job for job in kept if job[1].power_kw <= 0 and tools.is_mode_site(job[0])]
    orders = [job for job in kept if job not in stops]
    receipts = await tools.with_each(orders, lambda job: _apply(tools, *job))
    receipts += await _stop(tools, commitment, stops)
    async with tools.store.begin() as connection:
        await _record(connection, receipts)
        await _renew_leases(connection, commitment, interval)
    failed = sum(receipt.state in (ReceiptState.FAILED, ReceiptState.UNKNOWN) for receipt in receipts)
    return SendOutcome(asked=len(planned), failed=failed + len(planned) - len(kept))


async def _unfinished(
    connection: AsyncConnection, commitment: Commitment, interval: Interval
) -> list[tuple[Site, Command]]:
    rows = (
        await connection.execute(
            select(commands)
            .where(commands.c.commitment_id == commitment.id, commands.c.cycle_start_at == interval.start_at)
            .where(commands.c.state.in_(_UNFINISHED))
            .order_by(commands.c.site_id)
        )
    ).all()
    sites = {
        site.id: site
        for site in await load_sites(connection, tenant_id=commitment.tenant_id, program=commitment.program)
    }
    return [
        (
            sites[row.site_id],
            Command(
                id=row.id,
                site_id=row.site_id,
                power_kw=row.power_kw,
                # The owner may have raised the reserve since the plan was made; the higher floor holds.
                reserve_soc=max(row.reserve_soc, sites[row.site_id].reserve_soc),
                not_before=row.not_before,
                expires_at=row.expires_at,
            ),
        )
        for row in rows
        if row.site_id in sites
    ]


async def _save_native(
    tools: Tools, commitment: Commitment, planned: Sequence[tuple[Site, Command]], interval: Interval
) -> list[tuple[Site, Command]]:
    """Store the settings of sites commanded for the first time; drop those whose settings cannot be read.

    No site is written to before the way back is on disk.
    """
    async with tools.store.begin() as connection:
        rows = await connection.execute(select(handbacks.c.site_id).where(handbacks.c.commitment_id == commitment.id))
        saved = {row.site_id for row in rows}

    async def read(job: tuple[Site, Command]) -> dict[str, object] | Receipt:
        site, command = job
        try:
            return dict(await tools.adapter(site).save_native(site))
        except DeviceError as error:
            return _failed(command, error, tools.clock.now())

    fresh = [job for job in planned if job[0].id not in saved]
    natives = await tools.with_each(fresh, read)
    now = tools.clock.now()
    async with tools.store.begin() as connection:
        rows_to_save = [
            {
                "commitment_id": commitment.id,
                "site_id": site.id,
                "native": native,
                "saved_at": now,
                "lease_until": command.expires_at,
                "reason": "",
            }
            for (site, command), native in zip(fresh, natives, strict=True)
            if not isinstance(native, Receipt)
        ]
        if rows_to_save:
            await connection.execute(_SAVE_NATIVE, rows_to_save)
        refused = [native for native in natives if isinstance(native, Receipt)]
        await _record(connection, refused)
    lost = {receipt.command_id for receipt in refused}
    return [job for job in planned if job[1].id not in lost]


async def _stop(tools: Tools, commitment: Commitment, stops: Sequence[tuple[Site, Command]]) -> list[Receipt]:
    """A mode device knows no zero: to stop it is to give it back its own settings."""
    if not stops:
        return []
    outcome = await hand_back(tools, commitment.id, only=frozenset(site.id for site, _ in stops))
    now = tools.clock.now()
    return [
        Receipt(command_id=command.id, state=ReceiptState.READBACK_OK, at=now)
        if site.id in outcome.verified
        else Receipt(command_id=command.id, state=ReceiptState.FAILED, at=now, reason="hand-back not verified yet")
        for site, command in stops
    ]


async def _apply(tools: Tools, site: Site, command: Command) -> Receipt:
    try:
        return await tools.adapter(site).apply(site, command)
    except DeviceError as error:
        return _failed(command, error, tools.clock.now())


def _failed(command: Command, error: DeviceError, at: datetime) -> Receipt:
    """An error is an outcome here: the site is replaced in the next cycle."""
    unknown = isinstance(error, TimedOut) and error.sent
    return Receipt(
        command_id=command.id,
        state=ReceiptState.UNKNOWN if unknown else ReceiptState.FAILED,
        at=at,
        reason=f"{type(error).__name__}: {error}",
        retryable=error.retryable,
    )


async def _mark_sent(connection: AsyncConnection, sent: Sequence[Command], at: datetime) -> None:
    await connection.execute(
        update(commands)
        .where(commands.c.id.in_([command.id for command in sent]))
        .values(state=ReceiptState.SENT.value, updated_at=at)
    )


async def _record(connection: AsyncConnection, receipts: Sequence[Receipt]) -> None:
    if not receipts:
        return
    await connection.execute(
        update(commands)
        .where(commands.c.id == bindparam("which"))
        .values(state=bindparam("to_state"), reason=bindparam("why"), updated_at=bindparam("when_at")),
        [
            {
                "which": receipt.command_id,
                "to_state": receipt.state.value,
                "why": receipt.reason,
                "when_at": receipt.at,
            }
            for receipt in receipts
        ],
    )


async def _renew_leases(connection: AsyncConnection, commitment: Commitment, interval: Interval) -> None:
    """A worker is looking after the event: the sites in it are ours for two more cycles."""
    until = interval.start_at + LEASE_OF_CYCLES * (interval.end_at - interval.start_at)
    await connection.execute(
        update(handbacks)
        .where(handbacks.c.commitment_id == commitment.id, handbacks.c.verified_at.is_(None))
        .values(lease_until=until)
    )
