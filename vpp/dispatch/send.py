"""Carry planned commands to the devices, save what they will change, and write down the receipts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.dispatch.handback import hand_back, verified
from vpp.dispatch.modes import given_up
from vpp.dispatch.tools import Tools
from vpp.domain.commitment import Commitment
from vpp.domain.device import Command, Receipt, ReceiptState
from vpp.domain.errors import DeviceError, TimedOut
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import handback as handbacks
from vpp.store.tables.fleet import site as site_table

_UNFINISHED = (ReceiptState.PLANNED.value, ReceiptState.SENT.value)
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


async def send(tools: Tools, commitment: Commitment, interval: Interval) -> None:
    """Send every unfinished command of a cycle; a command already carried out is not sent again."""
    async with tools.store.begin() as connection:
        planned, stops = await _unfinished(connection, commitment, interval)
    lease_until = interval.end_at + tools.cycle
    orders = await _save_native(tools, commitment, planned, lease_until)
    async with tools.store.begin() as connection:
        await _mark_sent(connection, [command for _, command in (*stops, *orders)], tools.clock.now())
    receipts = await tools.with_each(orders, lambda job: _apply(tools, *job))
    receipts += await _stop(tools, commitment, stops)
    async with tools.store.begin() as connection:
        await _record(connection, receipts)
        await _renew_leases(connection, commitment, lease_until)
        lost = await given_up(connection, commitment, tools.mode_adapters, at=interval.end_at)
    if lost:
        await hand_back(tools, commitment.id, only=lost)


async def _unfinished(
    connection: AsyncConnection, commitment: Commitment, interval: Interval
) -> tuple[list[tuple[Site, Command]], list[tuple[Site, Command]]]:
    """The orders of a cycle still to be carried out, and the sites whose part is over."""
    which = (
        (commands.c.commitment_id == commitment.id)
        & (commands.c.cycle_start_at == interval.start_at)
        & commands.c.state.in_(_UNFINISHED)
    )
    # The owner may have raised the reserve since the plan was made; the higher floor holds.
    await connection.execute(
        update(commands)
        .values(reserve_soc=func.greatest(commands.c.reserve_soc, site_table.c.reserve_soc))
        .where(which, site_table.c.id == commands.c.site_id, commands.c.reserve_soc < site_table.c.reserve_soc)
    )
    rows = (await connection.execute(select(commands).where(which).order_by(commands.c.site_id))).all()
    if not rows:
        return [], []
    sites = {
        site.id: site
        for site in await load_sites(connection, tenant_id=commitment.tenant_id, program=commitment.program)
    }
    jobs = [
        (
            sites[row.site_id],
            Command(
                id=row.id,
                site_id=row.site_id,
                power_kw=row.power_kw,
                reserve_soc=row.reserve_soc,
                not_before=row.not_before,
                expires_at=row.expires_at,
            ),
        )
        for row in rows
        if row.site_id in sites
    ]
    over = {row.id for row in rows if row.release}
    return [job for job in jobs if job[1].id not in over], [job for job in jobs if job[1].id in over]


async def _save_native(
    tools: Tools, commitment: Commitment, planned: Sequence[tuple[Site, Command]], lease_until: datetime
) -> list[tuple[Site, Command]]:
    """Store the settings of sites commanded for the first time; drop those whose settings cannot be read.

    No site is written to before the way back is on disk. What was saved before holds until it was put
    back and verified; from then on the owner may have changed it.
    """
    if not planned:
        return []
    async with tools.store.begin() as connection:
        rows = await connection.execute(
            update(handbacks)
            .where(handbacks.c.commitment_id == commitment.id, handbacks.c.verified_at.is_(None))
            .where(handbacks.c.site_id.in_([site.id for site, _ in planned]))
            .values(released_at=None, lease_until=lease_until)
            .returning(handbacks.c.site_id)
        )
        saved = {row.site_id for row in rows}

    async def read(job: tuple[Site, Command]) -> dict[str, object] | Receipt:
        site, command = job
        try:
            return dict(await tools.within_deadline(tools.adapter(site).save_native(site)))
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
                "lease_until": lease_until,
                "reason": "",
            }
            for (site, _), native in zip(fresh, natives, strict=True)
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
    await hand_back(tools, commitment.id, only=frozenset(site.id for site, _ in stops))
    async with tools.store.begin() as connection:
        stopped = await verified(connection, commitment.id)
    now = tools.clock.now()
    return [
        Receipt(command_id=command.id, state=ReceiptState.READBACK_OK, at=now)
        if site.id in stopped
        else Receipt(command_id=command.id, state=ReceiptState.FAILED, at=now, reason="hand-back not verified yet")
        for site, command in stops
    ]


async def _apply(tools: Tools, site: Site, command: Command) -> Receipt:
    try:
        return await tools.within_deadline(tools.adapter(site).apply(site, command))
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


async def _renew_leases(connection: AsyncConnection, commitment: Commitment, until: datetime) -> None:
    """A worker is looking after the event: the sites in it are ours until the end of the next cycle.

    A site that could not be handed back is the reaper's, who comes again by its own lease.
    """
    await connection.execute(
        update(handbacks)
        .where(handbacks.c.commitment_id == commitment.id, handbacks.c.released_at.is_(None))
        .values(lease_until=until)
    )
