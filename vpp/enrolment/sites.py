"""Room enrolment: enrolled sites as the domain's values, and the owner's reserve.

Called by every room above and by the portal. A site belongs to one tenant; functions that take only a
site's id are for callers that have already decided whose it is.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.site import Battery, ProgramEnrolment, Site
from vpp.enrolment.tariffs import tariff_from_json
from vpp.store.tables.fleet import billing_peak, device, program_enrolment, reserve_change, site


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveChange:
    """The reserve as somebody set it, 0-1."""

    site_id: str
    reserve_soc: float
    changed_at: datetime
    changed_by: str


async def load_sites(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    program: str | None = None,
    owner_id: str | None = None,
    site_ids: Sequence[str] | None = None,
) -> tuple[Site, ...]:
    """Return a tenant's sites ordered by id.

    With `program` those enrolled in it, with `owner_id` that owner's, with `site_ids` those among them.
    """
    wanted = site.c.tenant_id == tenant_id
    if site_ids is not None:
        wanted = and_(wanted, site.c.id.in_(site_ids))
    if owner_id is not None:
        wanted = and_(wanted, site.c.owner_id == owner_id)
    if program is not None:
        member = program_enrolment.alias()
        wanted = and_(wanted, site.c.id.in_(select(member.c.site_id).where(member.c.program == program)))
    return await _load(connection, wanted)


async def get_site(connection: AsyncConnection, site_id: str, *, tenant_id: str | None = None) -> Site:
    """Return one site.

    Raises:
        NotFound: it does not exist, or belongs to another tenant than `tenant_id`.
    """
    wanted = site.c.id == site_id
    if tenant_id is not None:
        wanted = and_(wanted, site.c.tenant_id == tenant_id)
    found = await _load(connection, wanted)
    if not found:
        raise NotFound(f"no site {site_id!r}")
    return found[0]


async def _load(connection: AsyncConnection, wanted: ColumnElement[bool]) -> tuple[Site, ...]:
    rows = (
        await connection.execute(
            select(site, device.c.id.label("device_id"))
            .join(device, device.c.site_id == site.c.id)
            .where(wanted)
            .order_by(site.c.id)
        )
    ).all()
    if not rows:
        return ()
    programs: dict[str, list[ProgramEnrolment]] = defaultdict(list)
    enrolments = select(program_enrolment).join(site).where(wanted).order_by(program_enrolment.c.program)
    for row in await connection.execute(enrolments):
        programs[row.site_id].append(ProgramEnrolment(program=row.program, owner_share=row.owner_share))
    peaks: dict[str, dict[str, float]] = defaultdict(dict)
    of_period = and_(wanted, billing_peak.c.billing_start == site.c.billing_start)
    for row in await connection.execute(select(billing_peak).join(site).where(of_period)):
        peaks[row.site_id][row.demand_charge] = row.peak_kw
    return tuple(_site(row, programs[row.id], peaks[row.id]) for row in rows)


def _site(row: Row[Any], programs: Sequence[ProgramEnrolment], peaks_kw: dict[str, float]) -> Site:
    return Site(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        owner_id=row.owner_id,
        utility_account=row.utility_account,
        time_zone=row.time_zone,
        device_id=row.device_id,
        adapter=row.adapter,
        address=row.address,
        battery=Battery(
            max_charge_kw=row.max_charge_kw,
            max_discharge_kw=row.max_discharge_kw,
            capacity_kwh=row.capacity_kwh,
            charge_efficiency=row.charge_efficiency,
            discharge_efficiency=row.discharge_efficiency,
        ),
        import_limit_kw=row.import_limit_kw,
        export_limit_kw=row.export_limit_kw,
        reserve_soc=row.reserve_soc,
        tariff=tariff_from_json(row.tariff),
        programs=tuple(programs),
        peak_so_far_kw=peaks_kw,
        billing_start=row.billing_start,
    )


async def set_reserve(
    connection: AsyncConnection, site_id: str, reserve_soc: float, *, by: str, now: datetime
) -> ReserveChange:
    """Set the owner's backup reserve and record who did. It is the floor from the next cycle on.

    Raises:
        InvalidRequest: not a share from 0 to 1.
        NotFound: no such site.
    """
    if isinstance(reserve_soc, bool) or not (math.isfinite(reserve_soc) and 0 <= reserve_soc <= 1):
        hint = f"; {reserve_soc:g} percent is {reserve_soc / 100:g}" if 1 < reserve_soc <= 100 else ""
        raise InvalidRequest("reserve_soc", reserve_soc, f"a share from 0 to 1{hint}")
    changed = await connection.execute(update(site).where(site.c.id == site_id).values(reserve_soc=reserve_soc))
    if changed.rowcount == 0:
        raise NotFound(f"no site {site_id!r}")
    change = ReserveChange(site_id=site_id, reserve_soc=reserve_soc, changed_at=now, changed_by=by)
    await connection.execute(
        insert(reserve_change).values(site_id=site_id, reserve_soc=reserve_soc, changed_at=now, changed_by=by)
    )
    return change


async def reserve_changes(connection: AsyncConnection, site_id: str, *, limit: int = 50) -> tuple[ReserveChange, ...]:
    """Return who set a site's reserve, newest first."""
    rows = await connection.execute(
        select(reserve_change)
        .where(reserve_change.c.site_id == site_id)
        .order_by(reserve_change.c.id.desc())
        .limit(limit)
    )
    return tuple(
        ReserveChange(site_id=r.site_id, reserve_soc=r.reserve_soc, changed_at=r.changed_at, changed_by=r.changed_by)
        for r in rows
    )
