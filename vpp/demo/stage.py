"""Sets the stage: tenant, contract, sites with sixty days of history, and a login for each role."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from vpp import bootstrap
from vpp.demo.script import PROGRAM, TENANT, DemoScript
from vpp.domain.settlement import ProgramTerms
from vpp.enrolment import enrol_sites, read_sites_csv, set_program_terms
from vpp.portal.credentials import create_account
from vpp.simulation.fleet import TIME_ZONE, VirtualFleet
from vpp.simulation.recipes import Kind
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.telemetry import MeterSeries, import_meter_history

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who may sign in to look at the demo."""

    role: str
    email: str
    password: str


async def set_stage(store: Store, script: DemoScript, fleet: VirtualFleet, script_dir: Path) -> tuple[Login, ...]:
    """Enrol the fleet through the door every operator uses, and return the logins.

    The sheet it was enrolled from is left in `script_dir` as an example to start one's own from.
    """
    now = script.start_at
    sheet = fleet.enrolment_csv()
    (script_dir / "sites.csv").write_text(sheet, encoding="utf-8")
    forms = read_sites_csv(sheet, adapters=frozenset(bootstrap.ADAPTERS), programs=frozenset(bootstrap.programs()))
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id=TENANT, name="Demo Power"))
        await enrol_sites(connection, TENANT, forms, now=now)
        terms = ProgramTerms(
            program=PROGRAM,
            nominated_kw=Decimal(str(script.nominated_kw(fleet))),
            options={"time_zone": TIME_ZONE},
        )
        await set_program_terms(connection, terms, tenant_id=TENANT)
    await _import_history(store, fleet)
    return await _let_people_in(store, fleet)


async def _import_history(store: Store, fleet: VirtualFleet) -> None:
    hours, grid_kwh, battery_kwh = fleet.history()
    first_at: datetime = hours[0]
    series = [
        MeterSeries(
            site_id=site_id, start_at=first_at, step=HOUR, energy_kwh=np.ascontiguousarray(column), channel=channel
        )
        for channel, energies in (("grid", grid_kwh), ("battery", battery_kwh))
        for site_id, column in zip(fleet.site_ids, energies.T, strict=True)
    ]
    async with store.begin() as connection:
        await import_meter_history(connection, series)


async def _let_people_in(store: Store, fleet: VirtualFleet) -> tuple[Login, ...]:
    homes = [virtual.site for virtual in fleet.sites if virtual.recipe.kind is Kind.HOME]
    owner_id = next((site.owner_id for site in homes if site.adapter == "tesla"), fleet.sites[0].site.owner_id)
    people = (
        ("operator", "operator@example.com", None, None),
        ("utility", "utility@example.com", None, PROGRAM),
        ("owner", "owner@example.com", owner_id, None),
    )
    logins = []
    async with store.begin() as connection:
        for role, email, owner, program in people:
            password = bootstrap.new_secret()
            await create_account(
                connection, tenant_id=TENANT, email=email, password=password, role=role, owner_id=owner, program=program
            )
            logins.append(Login(role=role, email=email, password=password))
    return tuple(logins)
