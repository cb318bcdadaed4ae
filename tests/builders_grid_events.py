"""A fleet with VENs below it and events told to them, for tests of the portal."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.builders_downstream import HOUR, a_series, an_event
from tests.builders_portal import NOW, START, ZONE, add_account, portal
from tests.clock import FixedClock
from vpp.bootstrap.translator import Translator
from vpp.domain.grid_event import GridEvent, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.openadr2 import PointOffer, ReportOffer
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering import Changes, NewPeer, NobodyTold, add_peer, publish
from vpp.store.engine import Store
from vpp.store.tables import accounts, fleet, openadr2_vtn

EVENT = "peak-2026"


def sending_portal(store: Store, clock: FixedClock, changes: Changes | None = None, **more: Any) -> FastAPI:
    """The portal with a translator, telling in both protocols."""
    return portal(store, clock, translator=Translator(), changes=changes or NobodyTold(), **more)


@dataclass(frozen=True, slots=True)
class SendingWorld:
    """A tenant with an operator and the VENs below it, by name."""

    tenant_id: str
    operator: str
    peers: dict[str, Peer]


async def a_sending_world(store: Store, tenant_id: str = "north") -> SendingWorld:
    """A tenant in California with two VENs of 2.0b (`barn`, `mill`, in group `north`) and one of 3 (`dairy`)."""
    peers = {}
    email = f"operator@{tenant_id}.example"
    async with store.begin() as connection:
        await connection.execute(insert(accounts.tenant).values(id=tenant_id, name=tenant_id.title()))
        await add_account(connection, tenant_id=tenant_id, email=email, role="operator")
        await connection.execute(insert(fleet.owner).values(id="o", tenant_id=tenant_id, name="O", email="o@o.example"))
        await connection.execute(
            insert(fleet.site).values(
                id="s", tenant_id=tenant_id, owner_id="o", name="S", utility_account="A", adapter="sunspec",
                address="10.0.0.1:502/1", time_zone=ZONE, max_charge_kw=5.0, max_discharge_kw=5.0, capacity_kwh=13.5,
                charge_efficiency=0.95, discharge_efficiency=0.95, import_limit_kw=20.0, export_limit_kw=10.0,
                reserve_soc=0.2, tariff={}, enrolled_at=START - timedelta(days=90),
            )
        )  # fmt: skip
        for name, protocol in (("barn", Protocol.OPENADR2), ("mill", Protocol.OPENADR2), ("dairy", Protocol.OPENADR3)):
            groups = () if name == "dairy" else ("north",)
            new = NewPeer(
                tenant_id=tenant_id, protocol=protocol, role=PeerRole.VEN, name=name, party_id=f"ven-{name}",
                groups=groups,
            )  # fmt: skip
            peers[name], _ = await add_peer(connection, new, at=START - timedelta(days=30))
    return SendingWorld(tenant_id, email, peers)


def a_dispatch(*powers_kw: float, event_id: str = EVENT, relative: bool = False, **changes: Any) -> GridEvent:
    """A dispatch of an hour each, since `START`, which is an hour and twenty minutes before `NOW`."""
    kind = SeriesType.DISPATCH_SETPOINT_RELATIVE if relative else SeriesType.DISPATCH_SETPOINT
    intervals = tuple(
        SeriesInterval(start_at=START + i * HOUR, duration=HOUR, values=(power,), uid=str(i))
        for i, power in enumerate(powers_kw)
    )
    series = a_series(kind=kind, unit="KW", intervals=intervals)
    usual: dict[str, Any] = {
        "start_at": START, "duration": len(powers_kw) * HOUR, "created_at": START - 3 * HOUR,
        "comment": "Evening peak", "targets": (Target(TargetKind.GROUP, "north"),),
    }  # fmt: skip
    return an_event(event_id, series=(series,), **{**usual, **changes})


async def told(connection: AsyncConnection, tenant_id: str, event: GridEvent) -> None:
    """Publish an event in both protocols."""
    await publish(
        connection, event, tenant_id=tenant_id, at=event.created_at, translator=Translator(), changes=NobodyTold()
    )


async def answered(connection: AsyncConnection, peer: Peer, event_id: str, **values: Any) -> None:
    """Put in what a VEN of 2.0b was told of an event, and its answer."""
    usual: dict[str, Any] = {
        "told_modification": 0, "told_status": "active", "told_count": 1, "told_at": START - 2 * HOUR,
        "answered_modification": 0, "opt_in": True, "answer_code": 200, "answer_reason": "",
        "answered_at": START - 2 * HOUR + timedelta(seconds=4),
    }  # fmt: skip
    await connection.execute(
        insert(openadr2_vtn.vtn2_delivery).values(
            peer_id=peer.id, tenant_id=peer.tenant_id, event_id=event_id, **{**usual, **values}
        )
    )


async def reported(connection: AsyncConnection, peer: Peer, powers_kw: dict[int, float], *, unit: str = "kW") -> None:
    """Put in mean powers of a VEN by quarter-hours since `START`, which may be before it."""
    point = PointOffer(
        r_id="load", report_type="usage", reading_type="Mean", unit=unit, min_sampling=timedelta(minutes=15)
    )
    offer = ReportOffer(
        specifier_id="telemetry", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=START - 24 * HOUR
    )
    await connection.execute(
        insert(openadr2_vtn.vtn2_report_offer).values(
            peer_id=peer.id, specifier_id="telemetry", offer=msgspec.to_builtins(offer), offered_at=START - 24 * HOUR
        )
    )
    request = f"request-{peer.name}"
    await connection.execute(
        insert(openadr2_vtn.vtn2_report_request).values(
            report_request_id=request, peer_id=peer.id, specifier_id="telemetry", demand={}, state="running", reason="",
            asked_at=START - 24 * HOUR, changed_at=START - 24 * HOUR,
        )
    )  # fmt: skip
    rows = [
        {
            "peer_id": peer.id, "report_request_id": request, "r_id": "load", "name": "TELEMETRY_USAGE",
            "start_at": START + quarter * timedelta(minutes=15), "duration_s": 900.0, "value": power,
            "received_at": NOW,
        }
        for quarter, power in powers_kw.items()
    ]  # fmt: skip
    await connection.execute(insert(openadr2_vtn.vtn2_report_value), rows)
