"""Commands about who takes part: enrol, sites, terms, account, token."""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy.dialects.postgresql import insert

from vpp import bootstrap
from vpp.cli.app import JsonTo, app, console, emit, settings, told, within
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.settlement import ProgramTerms
from vpp.enrolment import Enrolled, enrol_sites, load_sites, read_sites_csv, set_program_terms
from vpp.portal.credentials import create_account, create_token
from vpp.store.tables.accounts import tenant

Tenant = Annotated[str, typer.Option(help="The aggregator this belongs to.")]


@app.command()
def enrol(
    sites_csv: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="One line a site; see docs/guides/enrol-sites.md.")
    ],
    tenant_id: Tenant = "default",
    json_to: JsonTo = None,
) -> None:
    """Enrol the sites of a file: all of them, or none and a list of every bad cell."""
    done = within(_enrol(settings(), sites_csv.read_bytes(), tenant_id))

    def show() -> None:
        console.print(f"{len(done.created)} sites enrolled, {len(done.site_ids) - len(done.created)} updated")
        for site_id in done.reserves_kept:
            console.print(f"{site_id}: the reserve its owner set stays; the file's is not taken")

    emit(asdict(done), json_to, show)


async def _enrol(configured: Settings, text: bytes, tenant_id: str) -> Enrolled:
    forms = read_sites_csv(text, adapters=frozenset(bootstrap.ADAPTERS), programs=frozenset(bootstrap.programs()))
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id).on_conflict_do_nothing())
        return await enrol_sites(connection, tenant_id, forms, now=SystemClock().now())


@app.command()
def sites(tenant_id: Tenant = "default", json_to: JsonTo = None) -> None:
    """List the enrolled sites."""
    found = within(_sites(settings(), tenant_id))

    def show() -> None:
        table = Table("site", "name", "adapter", "kW", "kWh", "reserve", "programmes")
        for row in found:
            table.add_row(
                *(
                    str(row[key])
                    for key in ("id", "name", "adapter", "max_discharge_kw", "capacity_kwh", "reserve_soc", "programs")
                )
            )
        console.print(table if found else "no sites enrolled yet: vpp enrol sites.csv")

    emit(found, json_to, show)


async def _sites(configured: Settings, tenant_id: str) -> list[dict[str, Any]]:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        return [
            {
                "id": site.id,
                "name": site.name,
                "adapter": site.adapter,
                "max_discharge_kw": site.battery.max_discharge_kw,
                "capacity_kwh": site.battery.capacity_kwh,
                "reserve_soc": site.reserve_soc,
                "programs": ", ".join(enrolment.program for enrolment in site.programs),
            }
            for site in await load_sites(connection, tenant_id=tenant_id)
        ]


@app.command()
def terms(
    program: Annotated[str, typer.Argument(help="The programme's name.")],
    nominated_kw: Annotated[float, typer.Option(min=0, help="Capacity nominated for the month [kW].")],
    time_zone: Annotated[str, typer.Option(help="The programme's local clock.")] = "America/Los_Angeles",
    options: Annotated[
        str, typer.Option(help="The contract's own numbers as JSON, named in docs/reference/programmes.md.")
    ] = "{}",
    tenant_id: Tenant = "default",
) -> None:
    """Set a contract's terms in a programme."""
    if program not in bootstrap.programs():
        raise InvalidRequest("program", program, " or ".join(sorted(bootstrap.programs())))
    try:
        own = dict(json.loads(options))
    except (ValueError, TypeError) as error:
        raise InvalidRequest("options", options, "a JSON object") from error
    agreed = ProgramTerms(
        program=program, nominated_kw=Decimal(str(nominated_kw)), options={"time_zone": time_zone, **own}
    )
    within(_terms(settings(), agreed, tenant_id))
    console.print(f"{program}: {nominated_kw:g} kW nominated")


async def _terms(configured: Settings, agreed: ProgramTerms, tenant_id: str) -> None:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id).on_conflict_do_nothing())
        await set_program_terms(connection, agreed, tenant_id=tenant_id)


@app.command()
def account(
    email: str,
    role: Annotated[str, typer.Option(help="operator, utility or owner")] = "operator",
    owner: Annotated[str | None, typer.Option(help="The owner an owner's account belongs to.")] = None,
    program: Annotated[str | None, typer.Option(help="The programme a utility's account may see.")] = None,
    tenant_id: Tenant = "default",
) -> None:
    """Let a person in; prints the first password once."""
    password = bootstrap.new_secret()
    within(_account(settings(), email, password, role, owner, program, tenant_id))
    told.print("first password (shown once):")
    console.print(password, markup=False)


async def _account(
    configured: Settings, email: str, password: str, role: str, owner: str | None, program: str | None, tenant_id: str
) -> None:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id).on_conflict_do_nothing())
        await create_account(
            connection, tenant_id=tenant_id, email=email, password=password, role=role, owner_id=owner, program=program
        )


@app.command()
def token(
    label: str,
    scope: Annotated[str, typer.Option(help="operate, telemetry or read")] = "telemetry",
    tenant_id: Tenant = "default",
) -> None:
    """Let a machine in; prints its bearer token once."""
    made = within(_token(settings(), label, scope, tenant_id))
    told.print("bearer token (shown once):")
    console.print(made, markup=False)


async def _token(configured: Settings, label: str, scope: str, tenant_id: str) -> str:
    async with bootstrap.open_store(configured) as store, store.begin() as connection:
        await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id).on_conflict_do_nothing())
        return await create_token(connection, tenant_id=tenant_id, label=label, scope=scope, now=SystemClock().now())
