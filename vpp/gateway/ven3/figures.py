"""Room gateway, OpenADR 3 VEN: the values we can truly report. Called by `reporter`, made by bootstrap.

Whose values: the sites enrolled in the event's programme, all together. Consumption counts as positive, as
in OpenADR.

* DEMAND [KW], USAGE [KWH]: mean power and energy at the grid connections; none while the sites export more
  than they take, for the definition allows no value below 0.
* DELTA_USAGE [KWH]: against the battery at rest: energy charged less discharged by the batteries commanded
  in this event.
* STORAGE_CHARGE_LEVEL [PERCENT], STORAGE_USABLE_CAPACITY [KWH], STORAGE_MAX_DISCHARGE_POWER,
  STORAGE_MAX_CHARGE_POWER [KW]: of the batteries that can be dispatched at that instant.
* LOAD_SHED_DELTA_AVAILABLE, UP_REGULATION_AVAILABLE [KW]: power these batteries could deliver beyond what they
  do, within their export limits, while charged above their owners' reserve.
* OPERATING_STATE: what we made of the event. OpenADR 3 has no optIn and optOut, so a utility that wants our
  answer asks for this. RUNNING is consumption of more than `SIGNIFICANT_KW`. Where nobody knows it, ERROR is
  told of an event we serve, IDLE_OPTED_OUT of one we declined (nothing of ours runs for it), else NORMAL.

Where more than one site in twenty has no reading there is no sum. BASELINE and forecasts are not offered: they
are settled or estimated elsewhere, and a guess sent to a utility is a promise.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
from sqlalchemy import Column, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.fleet import FleetState
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportValue
from vpp.enrolment import load_sites
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.fleet import device
from vpp.store.tables.telemetry import reading
from vpp.telemetry import read_snapshot

COVERED = 0.95
"""Share of the sites that must have readings."""
SIGNIFICANT_KW = 0.1

_SHED = ("LOAD_SHED_DELTA_AVAILABLE", "UP_REGULATION_AVAILABLE")
_STORAGE = (
    "STORAGE_CHARGE_LEVEL",
    "STORAGE_USABLE_CAPACITY",
    "STORAGE_MAX_DISCHARGE_POWER",
    "STORAGE_MAX_CHARGE_POWER",
)
_METERED = ("DEMAND", "USAGE", "DELTA_USAGE")
OFFERED = frozenset({"OPERATING_STATE", *_METERED, *_STORAGE, *_SHED})


@dataclass(frozen=True, slots=True)
class About:
    """Which event a value is reported for; `program` is ours, None where it is none of ours."""

    source: str
    event_id: str
    program: str | None


class Figures(Protocol):
    """Where reported values come from."""

    offered: frozenset[str]

    async def value(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> ReportValue | None:
        """Return the value over an interval that has passed, or at its end; None where nobody knows it."""
        ...


class FleetFigures:
    """The fleet's own figures, from telemetry and commitments."""

    offered = OFFERED

    def __init__(self, tenant_id: str, *, max_age_s: float) -> None:
        self._tenant_id, self._max_age_s = tenant_id, max_age_s

    async def value(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> ReportValue | None:
        """See `Figures`."""
        if payload_type == "DELTA_USAGE":
            return await self._delta(connection, about, interval)
        sites: tuple[Site, ...] = ()
        if about.program is not None:
            sites = await load_sites(connection, tenant_id=self._tenant_id, program=about.program)
        if payload_type == "OPERATING_STATE":
            state = await self._operating_state(connection, about, sites, interval)
            return ReportValue(payload_type, state)
        if payload_type in ("DEMAND", "USAGE"):
            demand_kw = await _demand_kw(connection, sites, interval)
            if demand_kw is None or demand_kw < 0:
                return None
            if payload_type == "DEMAND":
                return ReportValue(payload_type, demand_kw, "KW", "MEAN")
            return ReportValue(payload_type, demand_kw * interval.duration_h, "KWH", "DIRECT_READ")
        return await self._of_batteries(connection, payload_type, sites, interval.end_at)

    async def _delta(self, connection: AsyncConnection, about: About, interval: Interval) -> ReportValue | None:
        taken = await _commitment(connection, about)
        if taken is None:
            return None
        commanded = (
            select(device.c.id)
            .join(commands, commands.c.site_id == device.c.site_id)
            .where(commands.c.commitment_id == taken.id)
        )
        ids = list((await connection.execute(commanded.distinct())).scalars())
        power_kw = await _mean_sum_kw(connection, ids, reading.c.battery_kw, interval)
        if power_kw is None:
            return None
        return ReportValue("DELTA_USAGE", 0.0 - power_kw * interval.duration_h, "KWH", "DIRECT_READ")

    async def _operating_state(
        self, connection: AsyncConnection, about: About, sites: tuple[Site, ...], interval: Interval
    ) -> str:
        demand_kw = await _demand_kw(connection, sites, interval)
        taken = await _commitment(connection, about)
        mood = _mood(taken, interval)
        if demand_kw is None:
            return {"OPTED_OUT": "IDLE_OPTED_OUT", "NORMAL": "NORMAL"}.get(mood, "ERROR")
        return f"{'RUNNING' if demand_kw > SIGNIFICANT_KW else 'IDLE'}_{mood}"

    async def _of_batteries(
        self, connection: AsyncConnection, payload_type: str, sites: tuple[Site, ...], at: datetime
    ) -> ReportValue | None:
        if not sites:
            return None
        state = await read_snapshot(connection, sites, at=at, max_age_s=self._max_age_s)
        if state.available.sum() < COVERED * len(sites):
            return None
        ready = state.available
        capacity_kwh = np.array([site.battery.capacity_kwh for site in sites])[ready]
        if payload_type in _SHED:
            return ReportValue(payload_type, _shed_kw(sites, state), "KW", "DIRECT_READ")
        if payload_type == "STORAGE_CHARGE_LEVEL":
            level = float((state.soc[ready] * capacity_kwh).sum() / capacity_kwh.sum())
            return ReportValue(payload_type, 100.0 * level, "PERCENT", "DIRECT_READ")
        if payload_type == "STORAGE_USABLE_CAPACITY":
            return ReportValue(payload_type, float(capacity_kwh.sum()), "KWH")
        discharges = payload_type == "STORAGE_MAX_DISCHARGE_POWER"
        powers = [s.battery.max_discharge_kw if discharges else s.battery.max_charge_kw for s in sites]
        return ReportValue(payload_type, float(np.array(powers)[ready].sum()), "KW")


def _mood(taken: Commitment | None, interval: Interval) -> str:
    if taken is None or taken.state is CommitmentState.DECLINED or taken.opt_in is False:
        return "OPTED_OUT"
    shared = taken.window.overlap(interval)
    if taken.state is CommitmentState.CANCELLED or shared is None:
        return "NORMAL"
    return "CURTAILED" if taken.target_kw_at(shared.end_at - timedelta(microseconds=1)) > 0 else "NORMAL"


def _shed_kw(sites: tuple[Site, ...], state: FleetState) -> float:
    able = state.available & (state.soc > np.array([site.reserve_soc for site in sites]))
    more_kw = np.array([site.battery.max_discharge_kw for site in sites]) - state.battery_kw
    room_kw = np.array([site.export_limit_kw for site in sites]) - state.grid_kw
    return float(np.clip(np.minimum(more_kw, room_kw), 0.0, None)[able].sum())


async def _commitment(connection: AsyncConnection, about: About) -> Commitment | None:
    """The latest life of the commitment an event led to."""
    found = (
        await connection.execute(
            select(commitments.c.id)
            .where(commitments.c.source == about.source, commitments.c.external_id == about.event_id)
            .order_by(commitments.c.life.desc())
            .limit(1)
        )
    ).scalar()
    return await load(connection, found) if found else None


async def _demand_kw(connection: AsyncConnection, sites: tuple[Site, ...], interval: Interval) -> float | None:
    exported_kw = await _mean_sum_kw(connection, [site.device_id for site in sites], reading.c.grid_kw, interval)
    return None if exported_kw is None else 0.0 - exported_kw


async def _mean_sum_kw(
    connection: AsyncConnection, device_ids: list[int], column: Column[float], interval: Interval
) -> float | None:
    """Sum over devices of each one's mean in the interval [kW]; None where too few have readings."""
    if not device_ids:
        return None
    means = (
        select(func.avg(column).label("mean_kw"))
        .where(reading.c.measured_at > interval.start_at, reading.c.measured_at <= interval.end_at)
        .where(reading.c.device_id.in_(device_ids), column.is_not(None))
        .group_by(reading.c.device_id)
        .subquery()
    )
    total_kw, count = (
        await connection.execute(select(func.sum(means.c.mean_kw), func.count()).select_from(means))
    ).one()
    return float(total_kw) if count >= COVERED * len(device_ids) else None
