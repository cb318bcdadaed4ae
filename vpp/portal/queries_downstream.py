"""What those below us did about an event: reports, answers and who could see it. Called by `grid_event_view`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr3_time import parse_duration, parse_instant
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import granted_targets, list_peers, report_offers
from vpp.store.tables.downstream import grid_event
from vpp.store.tables.openadr2_vtn import vtn2_report_value
from vpp.store.tables.openadr3 import openadr3_object
from vpp.store.tables.peering import message, peer

POWER_KW = {"W": 0.001, "kW": 1.0, "MW": 1000.0, "KW": 1.0}
ENERGY_KWH = {"Wh": 0.001, "kWh": 1.0, "MWh": 1000.0, "KWH": 1.0}
_HOUR = timedelta(hours=1)
MOST_VALUES = 20_000


@dataclass(frozen=True, slots=True)
class ReportedPower:
    """What a VEN says it consumed on average over a stretch of time [kW]."""

    ven: str
    start_at: datetime
    end_at: datetime
    power_kw: float


@dataclass(frozen=True, slots=True)
class Ven3State:
    """One VEN of OpenADR 3 and an event: may it see it, when it last asked for events since, how often it reported."""

    name: str
    can_see: bool
    asked_at: datetime | None
    reports: int


async def reported_powers(
    connection: AsyncConnection, *, tenant_id: str, start_at: datetime, end_at: datetime, openadr3_id: str | None
) -> list[ReportedPower]:
    """Return the powers VENs reported for `[start_at, end_at)`, of either protocol, at most 20,000 values of each."""
    found = await _reported_2(connection, tenant_id, start_at, end_at)
    if openadr3_id is not None:
        found += await _reported_3(connection, openadr3_id)
    return [each for each in found if each.start_at < end_at and each.end_at > start_at]


async def _reported_2(
    connection: AsyncConnection, tenant_id: str, start_at: datetime, end_at: datetime
) -> list[ReportedPower]:
    value = vtn2_report_value
    query = (
        select(value.c.peer_id, value.c.r_id, value.c.start_at, value.c.duration_s, value.c.value, peer.c.name)
        .join(peer, peer.c.id == value.c.peer_id)
        .where(
            peer.c.tenant_id == tenant_id,
            peer.c.role == PeerRole.VEN.value,
            value.c.value.is_not(None),
            value.c.start_at >= start_at - timedelta(days=1),
            value.c.start_at < end_at,
        )
        .order_by(value.c.start_at, value.c.id)
        .limit(MOST_VALUES)
    )
    rows = (await connection.execute(query)).all()
    units: dict[tuple[str, str], str | None] = {}
    lasting: dict[tuple[str, str], timedelta | None] = {}
    for peer_id in {row.peer_id for row in rows}:
        for offer in await report_offers(connection, peer_id):
            for point in offer.points:
                if point.report_type.lower() in ("usage", "demand", "reading"):
                    units[peer_id, point.r_id] = point.unit
                    lasting[peer_id, point.r_id] = point.min_sampling
    found = []
    for row in rows:
        key = (row.peer_id, row.r_id)
        length = lasting.get(key) if row.duration_s is None else timedelta(seconds=row.duration_s)
        power_kw = _power_kw(row.value, units.get(key), length)
        if power_kw is not None and length:
            found.append(ReportedPower(row.name, row.start_at, row.start_at + length, power_kw))
    return found


async def _reported_3(connection: AsyncConnection, openadr3_id: str) -> list[ReportedPower]:
    report = openadr3_object
    query = (
        select(report.c.body, func.coalesce(peer.c.name, report.c.client_id).label("ven"))
        .outerjoin(peer, peer.c.client_id == report.c.client_id)
        .where(report.c.event_id == openadr3_id, report.c.kind == "REPORT")
        .order_by(report.c.number)
        .limit(1000)
    )
    found: list[ReportedPower] = []
    for row in await connection.execute(query):
        try:
            found += report_powers(json.loads(row.body), row.ven or "unknown")
        except InvalidRequest:  # a time that is none: this report says no power
            continue
    return found[:MOST_VALUES]


def report_powers(body: Mapping[str, Any], ven: str) -> list[ReportedPower]:
    """Return the powers an OpenADR 3 report states: DEMAND as it is, USAGE over its time; untimed ones are not."""
    units = {
        each.get("payloadType"): each.get("units") for each in body.get("payloadDescriptors") or () if each.get("units")
    }
    found = []
    for resource in body.get("resources") or ():
        default = resource.get("intervalPeriod") or {}
        follow_at: datetime | None = None
        for interval in resource.get("intervals") or ():
            own = interval.get("intervalPeriod") or {}
            start = own.get("start") or (default.get("start") if follow_at is None else None)
            length = own.get("duration") or default.get("duration")
            at = parse_instant(start) if start else follow_at
            if not length or at is None:
                continue
            follow_at = parse_duration(length).after(at)
            if follow_at is None or follow_at <= at:
                continue
            for payload in interval.get("payloads") or ():
                power_kw = _power_of(payload, units, follow_at - at)
                if power_kw is not None:
                    found.append(ReportedPower(ven, at, follow_at, power_kw))
    return found


def _power_of(payload: Mapping[str, Any], units: Mapping[str, str], length: timedelta) -> float | None:
    kind, values = payload.get("type"), payload.get("values") or []
    usual = {"DEMAND": "KW", "USAGE": "KWH"}.get(str(kind))
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if usual is None or len(numbers) != 1 or len(values) != 1:
        return None
    return _power_kw(float(numbers[0]), units.get(str(kind), usual), length)


def _power_kw(value: float, unit: str | None, length: timedelta | None) -> float | None:
    if unit in POWER_KW:
        return value * POWER_KW[unit]
    if unit in ENERGY_KWH and length:
        return value * ENERGY_KWH[unit] / (length / _HOUR)
    return None


async def ven3_states(
    connection: AsyncConnection, *, tenant_id: str, openadr3_id: str | None, since: datetime
) -> list[Ven3State]:
    """Return, by name, every VEN of our OpenADR 3 VTN and what it has to do with an event."""
    if openadr3_id is None:
        return []
    targets = select(openadr3_object.c.targets).where(openadr3_object.c.id == openadr3_id)
    aimed_at = frozenset((await connection.execute(targets)).scalar() or ())
    counted = select(openadr3_object.c.client_id, func.count()).where(
        openadr3_object.c.event_id == openadr3_id, openadr3_object.c.kind == "REPORT"
    )
    reports = {row[0]: row[1] for row in await connection.execute(counted.group_by(openadr3_object.c.client_id))}
    vens = await list_peers(connection, tenant_id=tenant_id, protocol=Protocol.OPENADR3, role=PeerRole.VEN)
    asked = await _asked(connection, {key for ven in vens for key in (ven.id, ven.client_id) if key}, since)
    states = []
    for ven in vens:
        granted = (
            await granted_targets(connection, ven.client_id, tenant_id=tenant_id) if ven.client_id else frozenset()
        )
        times = [asked[key] for key in (ven.id, ven.client_id) if key in asked]
        can_see = not aimed_at or bool(aimed_at & granted)
        states.append(Ven3State(ven.name, can_see, max(times, default=None), reports.get(ven.client_id, 0)))
    return states


async def _asked(connection: AsyncConnection, keys: Iterable[str], since: datetime) -> dict[str, datetime]:
    query = (
        select(message.c.peer, func.max(message.c.at))
        .where(
            message.c.peer.in_(list(keys)),
            message.c.at >= since,
            message.c.direction == "in",
            message.c.kind.like("GET %events%"),
            message.c.status.like("2%"),
        )
        .group_by(message.c.peer)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def known_programs(connection: AsyncConnection, *, tenant_id: str) -> list[str]:
    """Return names an event's programme may have: those used before, and programmes of our OpenADR 3 VTN."""
    used = select(grid_event.c.program).where(grid_event.c.tenant_id == tenant_id)
    named = select(openadr3_object.c.name).where(
        openadr3_object.c.tenant_id == tenant_id,
        openadr3_object.c.kind == "PROGRAM",
        openadr3_object.c.name.is_not(None),
    )
    both = used.union(named).subquery()
    names = await connection.execute(select(both.c[0]).order_by(both.c[0]).limit(100))
    return [str(name) for name in names.scalars()]


async def addressees(connection: AsyncConnection, *, tenant_id: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the VENs below us as (party id, words for people) and the groups they are in."""
    query = select(peer.c.party_id, peer.c.name, peer.c.protocol, peer.c.groups).where(
        peer.c.tenant_id == tenant_id, peer.c.role == PeerRole.VEN.value, peer.c.revoked_at.is_(None),
        or_(peer.c.party_id.is_not(None), peer.c.groups != []),
    )  # fmt: skip
    vens: dict[str, str] = {}
    groups: set[str] = set()
    words = {Protocol.OPENADR2.value: "2.0b", Protocol.OPENADR3.value: "3"}
    for row in await connection.execute(query.order_by(peer.c.name, peer.c.protocol).limit(1000)):
        groups.update(row.groups)
        if row.party_id:
            before = vens.get(row.party_id)
            own = row.name if row.name == row.party_id else f"{row.name} ({row.party_id})"
            vens[row.party_id] = f"{before} and {words[row.protocol]}" if before else f"{own}, {words[row.protocol]}"
    return list(vens.items()), sorted(groups)
