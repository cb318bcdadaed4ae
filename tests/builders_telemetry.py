"""Builders of readings, enrolled fleets and a small API application for tests of enrolment and telemetry."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from tests.builders import TENANT
from tests.builders_enrolment import site_form
from tests.clock import NOON, FixedClock
from vpp.config import Settings
from vpp.domain.device import Reading
from vpp.domain.site import Site
from vpp.enrolment import enrol, load_sites
from vpp.portal import sites, telemetry
from vpp.portal.auth import create_token
from vpp.portal.context import Context
from vpp.portal.problems import install_problem_handlers
from vpp.store.engine import Store


def a_reading(device_id: int = 1, at: datetime = NOON, **changes: Any) -> Reading:
    """A battery that idles at 80 % in a house that imports 1 kW."""
    usual: dict[str, Any] = {"battery_kw": 0.0, "grid_kw": -1.0, "soc": 0.8, "received_at": at}
    return Reading(device_id=device_id, measured_at=at, **(usual | changes))


async def add_tenant(store: Store, tenant_id: str = TENANT) -> str:
    """A tenant to enrol for."""
    async with store.begin() as connection:
        await connection.execute(text("insert into tenant values (:id, :id)"), {"id": tenant_id})
    return tenant_id


async def enrolled_sites(store: Store, count: int, tenant_id: str = TENANT, **changes: Any) -> tuple[Site, ...]:
    """A new tenant with this many sites."""
    await add_tenant(store, tenant_id)
    async with store.begin() as connection:
        await enrol(connection, tenant_id, [site_form(n, **changes) for n in range(1, count + 1)], now=NOON)
        return await load_sites(connection, tenant_id=tenant_id)


async def a_token(store: Store, scope: str, tenant_id: str = TENANT) -> Mapping[str, str]:
    """The header of a machine with a new token."""
    async with store.begin() as connection:
        token = await create_token(connection, tenant_id=tenant_id, label="test", scope=scope, now=NOON)
    return {"authorization": f"Bearer {token}"}


def api(store: Store, clock: FixedClock) -> FastAPI:
    """An application with the routes of sites and telemetry."""
    app = FastAPI()
    app.state.context = Context(store=store, clock=clock, wall_clock=clock, settings=Settings(), programs={})
    install_problem_handlers(app)
    app.include_router(sites.router)
    app.include_router(telemetry.router)
    return app


@asynccontextmanager
async def api_client(store: Store, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    """A client that talks to `api` in this process."""
    transport = httpx.ASGITransport(app=api(store, clock), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def count_readings(store: Store) -> int:
    """How many readings are in the database."""
    async with store.begin() as connection:
        return int((await connection.execute(text("select count(*) from reading"))).scalar_one())
