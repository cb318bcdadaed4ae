"""10,000 events at our OpenADR 3 VTN, peers that read them, and what these ask for. Used by `bench_openadr3`."""

import json
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from sqlalchemy import insert, text

from vpp.domain.openadr3 import ObjectDraft, ObjectKind
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer, add_peer
from vpp.peering.openadr3.records import row_of
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.openadr3 import openadr3_object

BASE = "/openadr3/3.1.0"
TENANT = "default"
PROGRAMS, GROUPS, INTERVALS = 10, 50, 24
TARGETED_EVERY, ACTIVE_EVERY = 5, 4
"""One event in five is for one of the groups, and one in four is not over yet."""
_TOGETHER = 500
Credentials = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the mix: who asks, and for what."""

    name: str
    by_ven: bool
    path: str


async def fill(store: Store, events: int, now: datetime) -> tuple[list[str], Credentials, Credentials]:
    """Keep programs and events; return the programs' ids and the credentials of business logic and of a VEN."""
    async with store.begin() as connection:
        await connection.execute(insert(tenant).values(id=TENANT, name=TENANT))
        rows = [_row(ObjectKind.PROGRAM, {"programName": f"program {number}"}, now) for number in range(PROGRAMS)]
        await connection.execute(insert(openadr3_object), rows)
        programs = [row["id"] for row in rows]
        for start in range(0, events, _TOGETHER):
            numbers = range(start, min(start + _TOGETHER, events))
            rows = [_row(ObjectKind.EVENT, _event(number, programs, now), now) for number in numbers]
            await connection.execute(insert(openadr3_object), rows)
        granted = tuple(f"group{number}" for number in range(10))
        bl = await _peer(connection, PeerRole.BL, "operator", now)
        ven = await _peer(connection, PeerRole.VEN, "site", now, granted_targets=granted)
    async with store.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("vacuum analyze openadr3_object"))
    return programs, bl, ven


async def _peer(connection: Any, role: PeerRole, name: str, now: datetime, **more: Any) -> Credentials:
    new = NewPeer(tenant_id=TENANT, protocol=Protocol.OPENADR3, role=role, name=name, **more)
    peer, secret = await add_peer(connection, new, at=now)
    assert peer.client_id is not None
    assert secret is not None
    return peer.client_id, secret


def _row(kind: ObjectKind, body: dict[str, Any], now: datetime) -> dict[str, Any]:
    draft = ObjectDraft(kind=kind, tenant_id=TENANT, body=body)
    return row_of(draft, object_id=uuid4().hex, created_at=now, modified_at=now)


def _event(number: int, programs: list[str], now: datetime) -> dict[str, Any]:
    """A day of hourly prices."""
    start_at = now + timedelta(hours=number % 48 if number % ACTIVE_EVERY == 0 else -48 - number % 1000)
    body: dict[str, Any] = {
        "programID": programs[number % len(programs)],
        "eventName": f"day-ahead price {number}",
        "priority": number % 10,
        "intervalPeriod": {"start": start_at.strftime("%Y-%m-%dT%H:00:00Z"), "duration": "PT1H"},
        "payloadDescriptors": [
            {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "PRICE", "units": "KWH", "currency": "USD"}
        ],
        "intervals": [
            {"id": hour, "payloads": [{"type": "PRICE", "values": [round(0.1 + hour / 100 + number / 1e5, 5)]}]}
            for hour in range(INTERVALS)
        ],
    }
    if number % TARGETED_EVERY == 0:
        body["targets"] = [f"group{number // TARGETED_EVERY % GROUPS}"]
    return body


def asked(programs: list[str]) -> list[Asked]:
    """The mix: half of it business logic's, half a VEN's; pages near and far, by program, active, by target."""

    def one(name: str, by_ven: bool, **query: object) -> Asked:
        return Asked(name, by_ven, f"{BASE}/events?{urlencode({'limit': 50, **query})}")

    return [
        one("BL, first page", False),
        one("VEN, first page", True),
        one("BL, page at 5,000", False, skip=5000),
        one("VEN, page at 2,000", True, skip=2000),
        one("BL, of a program", False, programID=programs[3]),
        one("VEN, of a program, active", True, programID=programs[4], active="true"),
        one("BL, active, page at 500", False, active="true", skip=500),
        one("VEN, by target", True, targets="group7"),
        one("BL, by target", False, targets="group33"),
        one("VEN, by target, active", True, targets="group4", active="true"),
    ]


def token(port: int, credentials: Credentials) -> str:
    """An access token of our VTN."""
    client_id, secret = credentials
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{BASE}/auth/token", urlencode(form).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["access_token"])


def bytes_of(port: int, path: str, access_token: str) -> bytes:
    """What is answered to a request."""
    headers = {"Authorization": f"Bearer {access_token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())
