"""A small fleet in the middle of an event, put into the tables, for tests of the portal."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from market.elrp import Elrp
from tests.clock import FixedClock
from vpp.config import Settings
from vpp.portal import create_app
from vpp.settlement import settle_month
from vpp.store.engine import Store
from vpp.store.partitions import ensure_partitions
from vpp.store.tables import accounts, commitments, dispatch, fleet, gateway, settlement, telemetry

PASSWORD = "correct horse battery"
ZONE = "America/Los_Angeles"
START = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)
"""16:00 in California, when the event begins."""
NOW = START + timedelta(hours=1, minutes=20, seconds=30)
MONTH = "2026-08"
_IDS = UUID("6f0d2f63-0d6e-4c3b-8a58-3a0c2a0b7c11")
_ALL_DAY = {"name": "all", "price_per_kwh": "0.30", "start_h": 0, "end_h": 24, "weekdays": [1, 2, 3, 4, 5, 6, 7]}
_TARIFF = {"name": "flat", "energy": [_ALL_DAY], "export_price_per_kwh": "0", "demand": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What was put in: one tenant with its people, sites and events."""

    tenant_id: str
    program: str
    sites: tuple[str, ...]
    devices: tuple[int, ...]
    running: UUID
    settled: UUID
    coming: UUID
    declined: UUID

    @property
    def operator(self) -> str:
        return f"operator@{self.tenant_id}.example"

    @property
    def utility(self) -> str:
        return f"utility@{self.tenant_id}.example"

    @property
    def owner(self) -> str:
        """The owner of the first site."""
        return f"owner@{self.tenant_id}.example"


async def a_world(store: Store, tenant_id: str = "north", *, sites: int = 12, program: str = "elrp") -> World:
    """Put a tenant with `sites` sites into the tables, in an event that runs at `NOW`.

    From the last site backwards: one was never heard, one is stale, one islanded, one failed, one
    stands by; the others deliver 4 kW each.
    """
    ids = tuple(f"{tenant_id}-{number:03}" for number in range(1, sites + 1))
    events = {name: uuid5(_IDS, f"{tenant_id} {name}") for name in ("running", "settled", "coming", "declined")}
    async with store.begin() as connection:
        await connection.execute(insert(accounts.tenant).values(id=tenant_id, name=tenant_id.title()))
        devices = await _fleet(connection, tenant_id, ids, program)
        await _people(connection, tenant_id, program)
        await _events(connection, tenant_id, program, events, 4.0 * sites)
        await ensure_partitions(connection, START.date() - timedelta(days=1), START.date() + timedelta(days=1))
        await add_readings(connection, _story(devices))
        await _dispatch(connection, events["running"], ids)
        await _settled(connection, events["settled"], ids)
    if program == "elrp":
        async with store.begin() as connection:
            await settle_month(connection, tenant_id=tenant_id, program=Elrp(), month=date(2026, 8, 1), now=NOW)
    return World(tenant_id=tenant_id, program=program, sites=ids, devices=devices, **events)


def portal(store: Store, clock: FixedClock, **changes: Any) -> FastAPI:
    """The application as bootstrap would make it, with the clock for both times."""
    programs = {"elrp": Elrp()}
    settings = Settings(database_url=None, redis_url=None)
    return create_app(store, clock, settings, programs, wall_clock=clock, **changes)


def browser(app: FastAPI) -> httpx.AsyncClient:
    """Something that asks for pages and keeps cookies."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://portal.test", headers={"accept": "text/html"})


async def signed_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> httpx.Response:
    """Sign in; the client keeps the cookie."""
    return await client.post("/sign-in", data={"email": email, "password": password})


async def add_readings(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Put readings in; what a row does not say is as a healthy device says it."""
    usual = {"grid_kw": -0.4, "soc": 0.62, "islanded": False, "controllable": True, "battery_kw": 0.0}
    registers = {"discharged_kwh_register": 0.0, "charged_kwh_register": 0.0}
    await connection.execute(
        insert(telemetry.reading), [usual | registers | {"received_at": row["measured_at"]} | row for row in rows]
    )


async def add_cycle(connection: AsyncConnection, event_id: UUID, start_at: datetime, **values: Any) -> None:
    """Put a control cycle of five minutes in."""
    usual = {"target_kw": 48.0, "planned_kw": 46.0, "shortfall_kw": 0.0, "forecast_kwh": 186.0, "solve": {}}
    end_at = start_at + timedelta(minutes=5)
    await connection.execute(
        insert(dispatch.cycle).values(commitment_id=event_id, start_at=start_at, end_at=end_at, **usual | values)
    )


async def _fleet(connection: AsyncConnection, tenant_id: str, ids: Sequence[str], program: str) -> tuple[int, ...]:
    await connection.execute(
        insert(fleet.owner),
        [
            {"id": f"owner-{one}", "tenant_id": tenant_id, "name": f"Owner of {one}", "email": f"{one}@example.com"}
            for one in ids
        ],
    )
    usual = {
        "tenant_id": tenant_id,
        "time_zone": ZONE,
        "max_charge_kw": 5.0,
        "max_discharge_kw": 5.0,
        "capacity_kwh": 13.5,
        "charge_efficiency": 0.95,
        "discharge_efficiency": 0.95,
        "import_limit_kw": 20.0,
        "export_limit_kw": 10.0,
        "reserve_soc": 0.2,
        "tariff": _TARIFF,
        "enrolled_at": START - timedelta(days=90),
    }
    await connection.execute(
        insert(fleet.site),
        [
            usual
            | {
                "id": one,
                "owner_id": f"owner-{one}",
                "name": f"{number} Alder Street",
                "utility_account": f"ACC-{one}",
                "adapter": "tesla" if number % 3 == 0 else "sunspec",
                "address": f"10.0.0.{number}:502/1",
            }
            for number, one in enumerate(ids, start=1)
        ],
    )
    enrolled = [{"site_id": one, "program": program, "owner_share": Decimal("0.8")} for one in ids]
    await connection.execute(insert(fleet.program_enrolment), enrolled)
    await connection.execute(
        insert(fleet.program_terms).values(
            tenant_id=tenant_id,
            program=program,
            nominated_kw=50,
            currency="USD",
            options={"price_per_kwh": "2.00", "time_zone": ZONE},
        )
    )
    devices = []
    for one in ids:
        made = await connection.execute(insert(fleet.device).values(site_id=one).returning(fleet.device.c.id))
        devices.append(made.scalar_one())
    return tuple(devices)


async def add_account(connection: AsyncConnection, *, tenant_id: str, email: str, role: str, **more: Any) -> None:
    """Somebody who signs in with `PASSWORD`, whose hash costs next to nothing: a real one takes 0.2 s at each use."""
    salt, cost = b"0123456789abcdef", (2, 8, 1)
    key = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=cost[0], r=cost[1], p=cost[2], dklen=32)
    stored = "$".join(["scrypt", *map(str, cost), *(base64.b64encode(raw).decode() for raw in (salt, key))])
    row = {"id": uuid4().hex, "tenant_id": tenant_id, "email": email, "password_hash": stored, "role": role}
    await connection.execute(insert(accounts.account).values(row | more))


async def _people(connection: AsyncConnection, tenant_id: str, program: str) -> None:
    who: dict[str, dict[str, Any]] = {
        "operator": {},
        "utility": {"program": program},
        "owner": {"owner_id": f"owner-{tenant_id}-001"},
    }
    for role, more in who.items():
        email = f"{role}@{tenant_id}.example"
        await add_account(connection, tenant_id=tenant_id, email=email, role=role, **more)


async def _events(
    connection: AsyncConnection, tenant_id: str, program: str, ids: dict[str, UUID], target_kw: float
) -> None:
    day = timedelta(days=1)
    plans = {
        "running": (START, "active", True, "", 1),
        "settled": (START - 7 * day, "settled", True, "", 0),
        "coming": (START + 2 * day, "accepted", True, "", 0),
        "declined": (START - 3 * day, "declined", False, "the fleet covers 31 of 48 kW in the last hour", 0),
    }
    for name, (start_at, state, opt_in, reason, number) in plans.items():
        values = {
            "id": ids[name],
            "tenant_id": tenant_id,
            "program": program,
            "source": f"openadr2:{tenant_id}",
            "external_id": f"EVT-{start_at:%m%d}",
            "modification_number": number,
            "state": state,
            "revision": 3,
            "start_offset_s": 0.0,
            "cancel_requested": False,
            "is_test": False,
            "opt_in": opt_in,
            "opt_reason": reason,
            "received_at": start_at - timedelta(hours=20),
        }
        await connection.execute(insert(commitments.commitment).values(values))
        await _targets(connection, ids[name], start_at, target_kw, number)
        answered = state if state == "declined" else "accepted"
        steps = [
            (start_at - timedelta(hours=20), answered, answered, {"modification_number": 0, "reason": reason}),
            (start_at, "active", "started", {}),
            (start_at + timedelta(hours=1), "active", "modified", {"modification_number": 1, "reason": ""}),
        ]
        for at, at_state, what, detail in steps[: 3 if number else 1]:
            await connection.execute(
                insert(commitments.commitment_step).values(
                    commitment_id=ids[name], at=at, state=at_state, what=what, detail=detail
                )
            )
        await connection.execute(
            insert(gateway.openadr2_opt).values(
                commitment_id=ids[name],
                modification_number=number,
                request_id="r1",
                opt_in=opt_in,
                sent_at=start_at - timedelta(hours=20) + timedelta(seconds=2),
            )
        )


async def _targets(
    connection: AsyncConnection, event_id: UUID, start_at: datetime, target_kw: float, modifications: int
) -> None:
    """Four hours; each modification asks for a quarter less in the last one."""
    for version in range(modifications + 1):
        rows = [
            {
                "commitment_id": event_id,
                "modification_number": version,
                "start_at": start_at + timedelta(hours=hour),
                "end_at": start_at + timedelta(hours=hour + 1),
                "target_kw": target_kw * (0.75 if hour == 3 and version else 1.0),
            }
            for hour in range(4)
        ]
        await connection.execute(insert(commitments.commitment_target), rows)


def _story(devices: Sequence[int]) -> list[dict[str, Any]]:
    """Readings every five minutes from before the event until `NOW`; see `a_world`."""
    rows = []
    for place, device_id in enumerate(devices):
        ill = len(devices) - 1 - place
        if ill == 0:
            continue
        for n in range(-2, 17):
            at = START + n * timedelta(minutes=5)
            if ill == 1 and n > 9:
                break
            idle = ill in (3, 4)
            power_kw = 0.0 if n <= 0 or idle else 4.0 + 0.01 * (n % 3)
            given_kwh = 0.0 if idle else max(0, n) * 4.0 / 12
            rows.append(
                {
                    "device_id": device_id,
                    "measured_at": at,
                    "battery_kw": power_kw,
                    "grid_kw": power_kw - 1.1 - 0.03 * (n % 5),
                    "soc": 0.9 - given_kwh / 13.5,
                    "discharged_kwh_register": 100.0 + given_kwh,
                    "charged_kwh_register": 50.0,
                    "islanded": ill == 2 and n > 12,
                }
            )
    return rows


async def _dispatch(connection: AsyncConnection, event_id: UUID, ids: Sequence[str]) -> None:
    for n in range(17):
        plan = {"target_kw": 4.0 * len(ids), "planned_kw": 3.9 * len(ids), "forecast_kwh": 14.6 * len(ids)}
        await add_cycle(connection, event_id, START + n * timedelta(minutes=5), **plan)
    cycle_start_at = START + timedelta(minutes=80)
    for place, site_id in enumerate(ids):
        ill = len(ids) - 1 - place
        if ill in (0, 4):
            continue
        failed = ill == 3
        await connection.execute(
            insert(dispatch.command).values(
                id=uuid5(_IDS, f"{event_id} {site_id}"),
                commitment_id=event_id,
                site_id=site_id,
                cycle_start_at=cycle_start_at,
                power_kw=4.0,
                reserve_soc=0.2,
                not_before=cycle_start_at,
                expires_at=cycle_start_at + timedelta(minutes=15),
                state="failed" if failed else "readback_ok",
                reason="no answer within 5 s" if failed else "",
                updated_at=cycle_start_at,
            )
        )
        await connection.execute(
            insert(dispatch.handback).values(
                commitment_id=event_id,
                site_id=site_id,
                native={},
                saved_at=START,
                lease_until=START + timedelta(hours=4, minutes=15),
                reason="",
            )
        )


async def _settled(connection: AsyncConnection, event_id: UUID, ids: Sequence[str]) -> None:
    start_at = START - timedelta(days=7)
    hours = [(start_at + timedelta(hours=n), start_at + timedelta(hours=n + 1)) for n in range(4)]
    for method, share in (("submeter", Decimal("2.95")), ("caiso_10_in_10", Decimal("2.61"))):
        given_kwh = share * len(ids)
        rows = [
            {
                "commitment_id": event_id,
                "method": method,
                "start_at": at,
                "end_at": end_at,
                "committed_kwh": Decimal(3) * len(ids),
                "baseline_kwh": None if method == "submeter" else Decimal("1.25") * len(ids),
                "metered_kwh": given_kwh,
                "delivered_kwh": given_kwh,
            }
            for at, end_at in hours
        ]
        await connection.execute(insert(settlement.delivery), rows)
        days = [] if method == "submeter" else [f"2026-08-{day:02}" for day in (3, 4, 5, 6, 7, 10, 11)]
        adjustment = None if method == "submeter" else Decimal("1.042")
        await connection.execute(
            insert(settlement.baseline).values(
                commitment_id=event_id, method=method, days=days, adjustment=adjustment, findings=[]
            )
        )
    intervals = [
        {"start_at": at.isoformat(), "end_at": end_at.isoformat(), "metered_kwh": "2.950", "estimated": False}
        for at, end_at in hours
    ]
    detail = {"method": "submeter", "cover": 1.0, "intervals": intervals}
    energy = {"metered_kwh": Decimal("11.8"), "credited_kwh": Decimal("11.8"), "detail": detail}
    await connection.execute(
        insert(settlement.site_delivery), [energy | {"commitment_id": event_id, "site_id": one} for one in ids]
    )
