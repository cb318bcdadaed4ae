"""The two ends of the lives of events: their databases, their peers, and the operator who lets the lives happen."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, select

from market.openadr2.vtn import PREFIX
from tests.builders_dispatch import PLAIN_TARIFF
from tests.builders_enrolment import site_form
from tests.builders_lives import CONTEXTS, VENS, VENS3, Act, Life, event_of, series_of, window
from tests.builders_settlement import terms
from tests.builders_telemetry import a_reading
from tests.builders_vtn2 import NoTranslator
from vpp.clock import SystemClock
from vpp.domain.errors import Conflict
from vpp.domain.grid_event import GridEvent
from vpp.domain.peer import PeerRole, Protocol
from vpp.domain.time import Interval
from vpp.enrolment import enrol, load_sites, set_program_terms
from vpp.peering import (
    NewPeer,
    add_peer,
    ask_report,
    cancel,
    declare_unavailable,
    modify,
    publish,
    withdraw_unavailability,
)
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.downstream import grid_event
from vpp.store.tables.openadr2_vtn import vtn2_delivery, vtn2_report_offer
from vpp.store.tables.openadr3_ven import openadr3_ven
from vpp.telemetry import IngestConsumer
from vpp.telemetry import publish as publish_readings

GRID, FLEET = "grid", "fleet"
OPENADR3 = "/openadr3/3.1.0"
STATUS = ("vpp-telemetry-status", (("vpp-status", "x-notApplicable"),))
HOUR = timedelta(hours=1)
TRIES_FOR_S = 120.0


@dataclass(slots=True)
class World:
    """Both ends' stores, who is who at each, and what the operator has been told.

    Attributes:
        peer_ids: of each 2.0b VEN at the VTN, by its number.
        reports: of each life, (number of the VEN, id of the report request).
        events3: the id of each life's event at the OpenADR 3 VTN.
    """

    vtn: Store
    ven: Store
    port: int
    port3: int
    clock: SystemClock = field(default_factory=SystemClock)
    peer_ids: list[str] = field(default_factory=list)
    reports: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    away: dict[int, list[str]] = field(default_factory=dict)
    events3: dict[int, str] = field(default_factory=dict)
    bodies3: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    program_ids: dict[str, str] = field(default_factory=dict)
    began_at: datetime | None = None
    over_at: datetime | None = None
    bl: tuple[str, str] = ("", "")
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30, trust_env=False))
    token: str = ""
    hands: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    """How many things the operator does at once; the stores have a connection for each."""

    async def set_up(self, secrets_dir: Path) -> None:
        """Peers at both ends, and a fleet above which it is decided."""
        now = self.clock.now()
        async with self.vtn.begin() as connection:
            await connection.execute(insert(tenant).values(id=GRID, name="Grid"))
        async with self.ven.begin() as connection:
            await connection.execute(insert(tenant).values(id=FLEET, name="Fleet"))
            forms = [
                site_form(n, tariff=PLAIN_TARIFF, peaks_so_far_kw={}, programs=[{"program": p, "owner_share": "0.8"}])
                for n, p in enumerate(("elrp", "elrp", "elrp", "coned_csrp"), start=1)
            ]
            await enrol(connection, FLEET, forms, now=now)
            zone = {"time_zone": "America/Los_Angeles"}
            await set_program_terms(connection, terms("elrp", **zone), tenant_id=FLEET)
            long = {"max_event_h": 20_000, "call_end_h": 20_000, "time_zone": "UTC"}
            await set_program_terms(connection, terms("coned_csrp", **long), tenant_id=FLEET)
            sites = await load_sites(connection, tenant_id=FLEET)
        await publish_readings(self.ven, [a_reading(site.device_id, now) for site in sites])
        await IngestConsumer(self.ven).drain()
        for number in range(VENS):
            await self._connect2(number)
        for number in range(VENS3):
            await self._connect3(number, secrets_dir)
        async with self.vtn.begin() as connection:
            bl = NewPeer(tenant_id=GRID, protocol=Protocol.OPENADR3, role=PeerRole.BL, name="operator")
            peer, secret = await add_peer(connection, bl, at=now)
            self.bl = str(peer.client_id), str(secret)

    async def _connect2(self, number: int) -> None:
        below = NewPeer(
            tenant_id=GRID,
            protocol=Protocol.OPENADR2,
            role=PeerRole.VEN,
            name=f"ven-{number}",
            party_id=ven_id(number),
            config={"reports": {"TELEMETRY_STATUS": {"granularity_s": 60, "back_s": 60}}},
        )
        above = NewPeer(
            tenant_id=FLEET,
            protocol=Protocol.OPENADR2,
            role=PeerRole.VTN,
            name=f"grid-{number}",
            url=f"http://127.0.0.1:{self.port}{PREFIX}",
            config={"ven_name": f"ven-{number}", "programs": CONTEXTS, "poll_s": 1},
        )
        async with self.vtn.begin() as connection:
            peer, _ = await add_peer(connection, below, at=self.clock.now())
            self.peer_ids.append(peer.id)
        async with self.ven.begin() as connection:
            await add_peer(connection, above, at=self.clock.now())

    async def _connect3(self, number: int, secrets_dir: Path) -> None:
        below = NewPeer(
            tenant_id=GRID,
            protocol=Protocol.OPENADR3,
            role=PeerRole.VEN,
            name=f"three-{number}",
            party_id=f"three-{number}",
            granted_targets=(target3(number),),
        )
        async with self.vtn.begin() as connection:
            peer, secret = await add_peer(connection, below, at=self.clock.now())
        (secrets_dir / f"three-{number}").write_text(str(secret))
        above = NewPeer(
            tenant_id=FLEET,
            protocol=Protocol.OPENADR3,
            role=PeerRole.VTN,
            name=f"grid3-{number}",
            client_id=peer.client_id,
            url=f"http://127.0.0.1:{self.port3}{OPENADR3}",
            config={
                "ven_name": f"three-{number}",
                "programs": {"elrp": "elrp", "csrp": "coned_csrp"},
                "poll_s": 1,
                "client_secret_name": f"three-{number}",
                "targets": [target3(number)],
            },
        )
        async with self.ven.begin() as connection:
            await add_peer(connection, above, at=self.clock.now())

    async def are_connected(self) -> bool:
        """Whether every VEN is registered with its reports offered, and the programmes are there."""
        async with self.vtn.begin() as connection:
            offers = (await connection.execute(select(vtn2_report_offer.c.peer_id).distinct())).all()
        async with self.ven.begin() as connection:
            three = (await connection.execute(select(openadr3_ven.c.ven_id))).scalars().all()
        return len(offers) == VENS and len([each for each in three if each]) == VENS3

    async def begin(self, over_in_s: float) -> None:
        """The play begins now."""
        self.began_at = self.clock.now()
        self.over_at = (self.began_at + timedelta(seconds=over_in_s)).replace(microsecond=0)

    def window(self, life: Life) -> tuple[datetime, datetime]:
        assert self.began_at is not None
        assert self.over_at is not None
        return window(life, self.began_at, self.over_at)

    async def is_answered(self, life: Life) -> bool:
        """Whether every VEN has answered the event as it stands."""
        table = vtn2_delivery
        stands = select(grid_event.c.modification_number).where(grid_event.c.event_id == life.event_id)
        answered = select(table.c.peer_id).where(
            table.c.event_id == life.event_id, table.c.answered_modification == stands.scalar_subquery()
        )
        async with self.hands, self.vtn.begin() as connection:
            return len((await connection.execute(answered)).all()) == len(life.vens)

    async def do(self, life: Life, act: Act) -> None:
        """Let one thing happen to a life."""
        if act.what == "leave":
            return
        if life.in_three:
            await self._do3(life, act)
            return
        async with self.hands:
            try:
                await self._do2(life, act)
            except Conflict:  # on a busy machine an event may be over before the operator gets to change it
                if self.clock.now() < self.window(life)[1]:
                    raise

    async def _do2(self, life: Life, act: Act) -> None:
        at = self.clock.now()
        if act.what in ("away", "back"):
            await self._availability(life, act.what, at)
            return
        async with self.vtn.begin() as connection:
            told: dict[str, Any] = {"tenant_id": GRID, "at": at, "translator": NoTranslator()}
            if act.what == "create":
                assert self.began_at is not None
                assert self.over_at is not None
                event = event_of(life, self.began_at, self.over_at, [ven_id(n) for n in life.vens])
                await publish(connection, event, **told)
            elif act.what == "cancel":
                await cancel(connection, life.event_id, **told)
            elif act.what == "report":
                specifier_id, points = STATUS
                for n in life.vens:
                    request_id = await ask_report(
                        connection, self.peer_ids[n], specifier_id=specifier_id, points=points,
                        granularity=timedelta(0), back=timedelta(0), at=at,
                    )  # fmt: skip
                    self.reports.setdefault(life.number, []).append((n, request_id))
            else:
                revive = act.what == "revive"
                await modify(connection, life.event_id, self._change(life, act), revive=revive, **told)

    def _change(self, life: Life, act: Act) -> Callable[[GridEvent], GridEvent]:
        first_at, last_at = self.window(life)
        series = series_of(life, act, first_at, last_at)
        start_at = series.intervals[0].start_at

        def change(stands: GridEvent) -> GridEvent:
            return replace(stands, series=(series,), start_at=start_at, duration=last_at - start_at, cancelled=False)

        return change

    async def _availability(self, life: Life, what: str, at: datetime) -> None:
        async with self.ven.begin() as connection:
            if what == "back":
                for declared_id in self.away[life.number]:
                    await withdraw_unavailability(connection, declared_id, tenant_id=FLEET, at=at)
                return
            first_at, last_at = self.window(life)
            around = Interval(first_at - HOUR / 4, last_at + HOUR / 4)
            for n in life.vens:
                declared = await declare_unavailable(
                    connection, tenant_id=FLEET, window=around, at=at, peer=f"grid-{n}"
                )
                self.away.setdefault(life.number, []).append(declared.id)

    async def open_http(self) -> None:
        """Get a token, and make the programmes."""
        answer = await self._ask(
            "POST",
            "/auth/token",
            data={"grant_type": "client_credentials", "client_id": self.bl[0], "client_secret": self.bl[1]},
        )
        self.token = answer.json()["access_token"]
        for name in ("elrp", "csrp"):
            made = await self._ask("POST", "/programs", json={"programName": name})
            self.program_ids[name] = made.json()["id"]

    async def _do3(self, life: Life, act: Act) -> None:
        if act.what == "cancel":
            answer = await self._ask("DELETE", f"/events/{self.events3[life.number]}")
            assert answer.status_code in (200, 404), answer.text
            self.bodies3[life.number] = None
            return
        body = self._body3(life, act)
        if act.what == "create":
            await self._create3(life, body)
        else:
            answer = await self._ask("PUT", f"/events/{self.events3[life.number]}", json=body)
            assert answer.status_code == 200, answer.text
        self.bodies3[life.number] = body

    async def _create3(self, life: Life, body: dict[str, Any]) -> None:
        """One whose answer was lost may be there: it is looked for by its name before it is made again."""
        async with asyncio.timeout(TRIES_FOR_S):
            while True:
                try:
                    answer = await self._send("POST", "/events", json=body)
                    assert answer.status_code == 201, answer.text
                    self.events3[life.number] = answer.json()["id"]
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.2)
                found = await self._ask("GET", "/events", params={"programID": body["programID"]})
                for each in found.json():
                    if each["eventName"] == life.event_id:
                        self.events3[life.number] = each["id"]
                        return

    def _body3(self, life: Life, act: Act) -> dict[str, Any]:
        series = series_of(life, act, *self.window(life))
        parts = series.intervals
        seconds = round(sum((p.duration.total_seconds() for p in parts if p.duration), 0.0) / len(parts))
        descriptor = {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "DISPATCH_SETPOINT", "units": "KW"
        }  # fmt: skip
        report = {"payloadType": "STORAGE_CHARGE_LEVEL", "reportIntervals": "OPEN_INTERVALS", "frequency": 0}
        return {
            "programID": self.program_ids["csrp" if life.is_long else "elrp"],
            "eventName": life.event_id,
            "targets": [target3(life.vens[0])],
            "intervalPeriod": {"start": parts[0].start_at.isoformat(), "duration": f"PT{seconds}S"},
            "payloadDescriptors": [descriptor],
            "reportDescriptors": [report],
            "intervals": [
                {"id": n, "payloads": [{"type": "DISPATCH_SETPOINT", "values": list(part.values)}]}
                for n, part in enumerate(parts)
            ],
        }

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"http://127.0.0.1:{self.port3}{OPENADR3}{path}"
        return await self.http.request(method, url, headers=headers, **more)

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask until there is an answer: for what may be asked twice."""
        async with asyncio.timeout(TRIES_FOR_S):
            while True:
                try:
                    return await self._send(method, path, **more)
                except httpx.TransportError:
                    await asyncio.sleep(0.2)


def ven_id(number: int) -> str:
    return f"VEN-{number}"


def target3(number: int) -> str:
    return f"three-{number}"
