"""Room enrolment: writes checked forms, all or nothing.

Called by the command line, the portal and the simulation. Enrolling the same forms again changes
nothing. Enrolling changed forms changes the terms, with two exceptions that protect what happened
since: a reserve the owner has set is kept (and reported in `Enrolled.reserves_kept`), and within one
billing period a demand peak only rises.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, all_, any_, delete, func, insert, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.enrolment.forms import SiteForm, repeated
from vpp.enrolment.problems import EnrolmentRefused, Problem
from vpp.enrolment.tariffs import tariff_to_json
from vpp.store.tables.fleet import billing_peak, device, owner, program_enrolment, reserve_change, site

BY_ENROLMENT = "enrolment"
_LOCK = 0x5650_5031  # one enrolment at a time, so that its checks still hold when it writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What an import did.

    Attributes:
        site_ids: every site of the import, in its order.
        created: those that are new.
        reserves_kept: those whose reserve differs from the import because the owner set it since.
    """

    site_ids: tuple[str, ...]
    created: tuple[str, ...]
    reserves_kept: tuple[str, ...]


async def enrol(connection: AsyncConnection, tenant_id: str, forms: Sequence[SiteForm], *, now: datetime) -> list[str]:
    """Enrol sites and return their ids; see `enrol_sites`."""
    return list((await enrol_sites(connection, tenant_id, forms, now=now)).site_ids)


async def enrol_sites(
    connection: AsyncConnection, tenant_id: str, forms: Sequence[SiteForm], *, now: datetime
) -> Enrolled:
    """Enrol or update sites within the caller's transaction.

    Raises:
        EnrolmentRefused: a utility account is enrolled by another site, or a site's or owner's id is
            taken by another tenant. Nothing was written.
    """
    if not forms:
        return Enrolled(site_ids=(), created=(), reserves_kept=())
    await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    await _check(connection, tenant_id, forms)
    site_ids = [form.site for form in forms]
    kept_reserves = await _owners_reserves(connection, site_ids)
    known = await connection.execute(select(site.c.id, site.c.reserve_soc).where(site.c.id == _any(site_ids)))
    before: dict[str, float] = {row.id: row.reserve_soc for row in known}
    await _write_owners(connection, tenant_id, forms)
    await _write_sites(connection, tenant_id, forms, kept_reserves, now)
    await _write_reserves(connection, forms, before, kept_reserves, now)
    await _write_programs(connection, forms)
    await _write_peaks(connection, forms)
    return Enrolled(
        site_ids=tuple(site_ids),
        created=tuple(site_id for site_id in site_ids if site_id not in before),
        reserves_kept=tuple(f.site for f in forms if kept_reserves.get(f.site, f.reserve_soc) != f.reserve_soc),
    )


async def _check(connection: AsyncConnection, tenant_id: str, forms: Sequence[SiteForm]) -> None:
    problems = repeated(forms, lambda line: f"line {line}")
    by_site = {form.site: form for form in forms}
    taken = select(site.c.id).where(site.c.id == _any(by_site), site.c.tenant_id != tenant_id)
    for (site_id,) in await connection.execute(taken):
        form = by_site[site_id]
        problems.append(Problem(form.line, "site", site_id, "another id; this one is taken"))
    by_account = {form.utility_account: form for form in forms}
    accounts = select(site.c.id, site.c.utility_account).where(
        site.c.tenant_id == tenant_id, site.c.utility_account == _any(by_account)
    )
    for row in await connection.execute(accounts):
        form = by_account[row.utility_account]
        if row.id != form.site:
            allowed = f"an account that no other site has; it is enrolled as site {row.id!r}"
            problems.append(Problem(form.line, "utility_account", row.utility_account, allowed))
    by_owner = {form.owner: form for form in forms}
    owners = select(owner.c.id).where(owner.c.id == _any(by_owner), owner.c.tenant_id != tenant_id)
    for (owner_id,) in await connection.execute(owners):
        problems.append(Problem(by_owner[owner_id].line, "owner", owner_id, "another id; this one is taken"))
    if problems:
        raise EnrolmentRefused(problems)


def _any(values: Iterable[str]) -> ColumnElement[Any]:
    """Any of these texts, as one array: an import may hold more of them than a statement takes parameters."""
    return any_(literal(list(values), ARRAY(Text)))


async def _owners_reserves(connection: AsyncConnection, site_ids: Sequence[str]) -> dict[str, float]:
    """The reserve of each site whose owner set it after enrolment."""
    set_since = select(reserve_change.c.site_id).where(reserve_change.c.changed_by != BY_ENROLMENT)
    rows = await connection.execute(
        select(site.c.id, site.c.reserve_soc).where(site.c.id == _any(site_ids), site.c.id.in_(set_since))
    )
    return {row.id: row.reserve_soc for row in rows}


async def _write_owners(connection: AsyncConnection, tenant_id: str, forms: Sequence[SiteForm]) -> None:
    rows = {
        form.owner: {
            "id": form.owner,
            "tenant_id": tenant_id,
            "name": form.owner_name or form.owner,
            "email": form.owner_email,
        }
        for form in forms
    }
    added = postgresql.insert(owner)
    changed = {"name": added.excluded.name, "email": added.excluded.email}
    await connection.execute(added.on_conflict_do_update(index_elements=["id"], set_=changed), list(rows.values()))


async def _write_sites(
    connection: AsyncConnection,
    tenant_id: str,
    forms: Sequence[SiteForm],
    kept_reserves: dict[str, float],
    now: datetime,
) -> None:
    rows = [_row(form, tenant_id, kept_reserves.get(form.site, form.reserve_soc), now) for form in forms]
    added = postgresql.insert(site)
    fixed = {"id", "tenant_id", "enrolled_at"}
    changed = {name: added.excluded[name] for name in rows[0] if name not in fixed}
    await connection.execute(added.on_conflict_do_update(index_elements=["id"], set_=changed), rows)
    await connection.execute(
        postgresql.insert(device).on_conflict_do_nothing(index_elements=["site_id"]),
        [{"site_id": form.site} for form in forms],
    )


def _row(form: SiteForm, tenant_id: str, reserve_soc: float, now: datetime) -> dict[str, Any]:
    return {
        "id": form.site,
        "tenant_id": tenant_id,
        "owner_id": form.owner,
        "name": form.name or form.site,
        "utility_account": form.utility_account,
        "time_zone": form.time_zone,
        "adapter": form.adapter,
        "address": form.address,
        **form.battery.model_dump(),
        "import_limit_kw": form.import_limit_kw,
        "export_limit_kw": form.export_limit_kw,
        "reserve_soc": reserve_soc,
        "tariff": tariff_to_json(form.tariff.tariff()),
        "billing_start": form.billing_start,
        "enrolled_at": now,
    }


async def _write_reserves(
    connection: AsyncConnection,
    forms: Sequence[SiteForm],
    before: dict[str, float],
    kept_reserves: dict[str, float],
    now: datetime,
) -> None:
    rows = [
        {"site_id": f.site, "reserve_soc": f.reserve_soc, "changed_at": now, "changed_by": BY_ENROLMENT}
        for f in forms
        if f.site not in kept_reserves and before.get(f.site) != f.reserve_soc
    ]
    if rows:
        await connection.execute(insert(reserve_change), rows)


async def _write_programs(connection: AsyncConnection, forms: Sequence[SiteForm]) -> None:
    rows = [
        {"site_id": form.site, "program": entry.program, "owner_share": entry.owner_share}
        for form in forms
        for entry in form.programs
    ]
    pair = program_enrolment.c.site_id + " " + program_enrolment.c.program
    kept = literal([f"{row['site_id']} {row['program']}" for row in rows], ARRAY(Text))
    of_these = program_enrolment.c.site_id == _any(form.site for form in forms)
    await connection.execute(delete(program_enrolment).where(of_these, pair != all_(kept)))
    if rows:
        added = postgresql.insert(program_enrolment)
        changed = {"owner_share": added.excluded.owner_share}
        await connection.execute(added.on_conflict_do_update(index_elements=["site_id", "program"], set_=changed), rows)


async def _write_peaks(connection: AsyncConnection, forms: Sequence[SiteForm]) -> None:
    rows = [
        {"site_id": form.site, "demand_charge": name, "billing_start": form.billing_start, "peak_kw": peak_kw}
        for form in forms
        for name, peak_kw in form.peaks_so_far_kw.items()
    ]
    if not rows:
        return
    added = postgresql.insert(billing_peak)
    higher = {"peak_kw": func.greatest(billing_peak.c.peak_kw, added.excluded.peak_kw)}
    keys = ["site_id", "demand_charge", "billing_start"]
    await connection.execute(added.on_conflict_do_update(index_elements=keys, set_=higher), rows)
