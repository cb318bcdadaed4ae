"""Room gateway, OpenADR 3 VEN: the values we can truly report. Called by `composer`, made by bootstrap.

Whose values: the sites enrolled in the event's programme, or those of them the event is about, all together or
each by itself. Consumption counts as positive, as in OpenADR.

* DEMAND [KW], USAGE [KWH]: mean power and energy at the grid connections; none while the sites export more
  than they take, for the definition allows no value below 0.
* DELTA_USAGE [KWH]: against the battery at rest: energy charged less discharged by the batteries commanded
  in this event.
* BASELINE [KWH]: what the sites would have taken without the event, by the programme's baseline method or CAISO's
  10-in-10 where it has none; together only, for the baseline of a single home is noise.
* STORAGE_CHARGE_LEVEL [PERCENT, a share of one], STORAGE_USABLE_CAPACITY [KWH], STORAGE_MAX_DISCHARGE_POWER,
  STORAGE_MAX_CHARGE_POWER [KW]: of the batteries that can be dispatched at that instant.
* LOAD_SHED_DELTA_AVAILABLE, UP_REGULATION_AVAILABLE [KW]: power these batteries could deliver beyond what they
  do, within their export limits, while charged above their owners' reserve. DOWN_REGULATION_AVAILABLE [KW]: power
  they could take beyond what they do, within their import limits, while not full.
* OPERATING_STATE: what we made of the event. OpenADR 3 has no optIn and optOut, so a utility that wants our
  answer asks for this. RUNNING is consumption of more than `SIGNIFICANT_KW`. Where nobody knows it, ERROR is
  told of an event we serve, IDLE_OPTED_OUT of one we declined (nothing of ours runs for it), else NORMAL.

Where more than one site in twenty has no reading there is no sum; a site without one has no value of its own.
Forecasts are not offered: they are estimated elsewhere, and a guess sent to a utility is a promise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
from sqlalchemy import Column, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.commitments import load
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import NotReady
from vpp.domain.fleet import Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.ven3 import ReportValue
from vpp.measurement import baselines_kwh
from vpp.ports import MarketProgram
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.telemetry import reading
from vpp.telemetry import read_snapshot

COVERED = 0.95
"""Share of the sites that must have readings."""
SIGNIFICANT_KW = 0.1

_METERED = ("DEMAND", "USAGE", "DELTA_USAGE")
_STORAGE = {
    "STORAGE_CHARGE_LEVEL": "PERCENT",
    "STORAGE_USABLE_CAPACITY": "KWH",
    "STORAGE_MAX_DISCHARGE_POWER": "KW",
    "STORAGE_MAX_CHARGE_POWER": "KW",
    "LOAD_SHED_DELTA_AVAILABLE": "KW",
    "UP_REGULATION_AVAILABLE": "KW",
    "DOWN_REGULATION_AVAILABLE": "KW",
}
_NAMEPLATE = ("STORAGE_USABLE_CAPACITY", "STORAGE_MAX_DISCHARGE_POWER", "STORAGE_MAX_CHARGE_POWER")
EACH = frozenset({"OPERATING_STATE", *_METERED, *_STORAGE})
OFFERED = EACH | {"BASELINE"}


@dataclass(frozen=True, slots=True)
class About:
    """Which event a value is reported for.

    Attributes:
        program: ours, None where it is none of ours.
        sites: those it is about, enrolled in the programme.
        is_part: these are not all there are in it.
    """

    source: str
    event_id: str
    program: str | None
    sites: tuple[Site, ...] = ()
    is_part: bool = False


class Figures(Protocol):
    """Where reported values come from."""

    @property
    def offered(self) -> frozenset[str]:
        """The payload types known of sites together."""
        ...

    @property
    def each(self) -> frozenset[str]:
        """Those of them that are known of a site by itself as well."""
        ...

    async def together(
        self, connection: AsyncConnection, payload_type: str, about: About, intervals: Sequence[Interval]
    ) -> Mapping[Interval, ReportValue]:
        """Return the values over intervals that have passed, or at their ends, without those nobody knows.

        Raises:
            NotReady: none is known, for a reason worth telling.
        """
        ...

    async def of_each(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> Mapping[str, ReportValue]:
        """Return the value of each site by its id, without those of which nobody knows it."""
        ...


class FleetFigures:
    """The fleet's own figures, from telemetry, metering and commitments."""

    offered, each = OFFERED, EACH

    def __init__(self, tenant_id: str, programs: Mapping[str, MarketProgram], *, max_age_s: float) -> None:
        self._tenant_id, self._programs, self._max_age_s = tenant_id, programs, max_age_s

    async def together(
        self, connection: AsyncConnection, payload_type: str, about: About, intervals: Sequence[Interval]
    ) -> Mapping[Interval, ReportValue]:
        """See `Figures`."""
        if payload_type == "BASELINE":
            return await self._baselines(connection, about, intervals)
        found = {interval: await self._value(connection, payload_type, about, interval) for interval in intervals}
        return {interval: value for interval, value in found.items() if value is not None}

    async def of_each(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> Mapping[str, ReportValue]:
        """See `Figures`."""
        if payload_type == "OPERATING_STATE":
            exported_kw = await _means_kw(connection, about.sites, reading.c.grid_kw, interval)
            mood = _mood(await _commitment(connection, about), interval)
            demands_kw = {
                site.id: 0.0 - exported_kw[site.id] if site.id in exported_kw else None for site in about.sites
            }
            return {site_id: ReportValue(payload_type, _state(kw, mood)) for site_id, kw in demands_kw.items()}
        _, known = await self._known(connection, payload_type, about, interval)
        made = {site_id: _value(payload_type, number, interval) for site_id, number in known.items()}
        return {site_id: value for site_id, value in made.items() if value is not None}

    async def _value(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> ReportValue | None:
        if payload_type == "OPERATING_STATE":
            sites = about.sites
            exported_kw = _together(await _means_kw(connection, sites, reading.c.grid_kw, interval), sites)
            mood = _mood(await _commitment(connection, about), interval)
            return ReportValue(payload_type, _state(None if exported_kw is None else 0.0 - exported_kw, mood))
        sites, known = await self._known(connection, payload_type, about, interval)
        if payload_type == "STORAGE_CHARGE_LEVEL":
            stored_kwh = {site.id: known[site.id] * site.battery.capacity_kwh for site in sites if site.id in known}
            capacity_kwh = sum(site.battery.capacity_kwh for site in sites if site.id in known)
            total = _together(stored_kwh, sites)
            return None if total is None else _value(payload_type, total / capacity_kwh, interval)
        total = _together(known, sites)
        return None if total is None else _value(payload_type, total, interval)

    async def _known(
        self, connection: AsyncConnection, payload_type: str, about: About, interval: Interval
    ) -> tuple[tuple[Site, ...], dict[str, float]]:
        """The sites a figure is of, and by id what is known of them, in the terms of `_value`."""
        sites = about.sites
        if payload_type in _STORAGE:
            return sites, await self._of_batteries(connection, payload_type, sites, interval.end_at)
        column = reading.c.grid_kw
        if payload_type == "DELTA_USAGE":
            commanded = await _commanded(connection, await _commitment(connection, about))
            sites, column = tuple(site for site in sites if site.id in commanded), reading.c.battery_kw
        means_kw = await _means_kw(connection, sites, column, interval)
        return sites, {site_id: 0.0 - kw for site_id, kw in means_kw.items()}

    async def _of_batteries(
        self, connection: AsyncConnection, payload_type: str, sites: tuple[Site, ...], at: datetime
    ) -> dict[str, float]:
        if not sites:
            return {}
        state = await read_snapshot(connection, sites, at=at, max_age_s=self._max_age_s)
        if payload_type == "STORAGE_CHARGE_LEVEL":
            numbers = state.soc
        elif payload_type in _NAMEPLATE:
            numbers = np.array([_nameplate(payload_type, site) for site in sites])
        elif payload_type == "DOWN_REGULATION_AVAILABLE":
            more_kw = np.array([site.battery.max_charge_kw for site in sites]) + state.battery_kw
            room_kw = np.array([site.import_limit_kw for site in sites]) + state.grid_kw
            numbers = _available_kw(more_kw, room_kw, state.soc < 1.0)
        else:
            more_kw = np.array([site.battery.max_discharge_kw for site in sites]) - state.battery_kw
            room_kw = np.array([site.export_limit_kw for site in sites]) - state.grid_kw
            numbers = _available_kw(more_kw, room_kw, state.soc > np.array([site.reserve_soc for site in sites]))
        return {
            site.id: float(number) for site, number, ready in zip(sites, numbers, state.available, strict=True) if ready
        }

    async def _baselines(
        self, connection: AsyncConnection, about: About, intervals: Sequence[Interval]
    ) -> Mapping[Interval, ReportValue]:
        """Of all the programme's sites only: it is measured for them together."""
        taken = await _commitment(connection, about)
        program = self._programs.get(about.program or "")
        if taken is None or program is None:
            raise NotReady("nothing is owed in this event, so that there is no baseline to compare with")
        if about.is_part:
            raise NotReady("there is a baseline of all the programme's sites only")
        known = await baselines_kwh(connection, taken, program, intervals, tenant_id=self._tenant_id)
        return {interval: ReportValue("BASELINE", kwh, "KWH", "ESTIMATED") for interval, kwh in known.items()}


def _value(payload_type: str, number: float, interval: Interval) -> ReportValue | None:
    """`number` is a mean power taken [kW] where the type is metered."""
    if payload_type in ("DEMAND", "USAGE") and number < 0:
        return None
    if payload_type == "DEMAND":
        return ReportValue(payload_type, number, "KW", "MEAN")
    if payload_type in _METERED:
        return ReportValue(payload_type, number * interval.duration_h, "KWH", "DIRECT_READ")
    reading_type = None if payload_type in _NAMEPLATE else "DIRECT_READ"
    return ReportValue(payload_type, number, _STORAGE[payload_type], reading_type)


def _nameplate(payload_type: str, site: Site) -> float:
    battery = site.battery
    return {
        "STORAGE_USABLE_CAPACITY": battery.capacity_kwh,
        "STORAGE_MAX_DISCHARGE_POWER": battery.max_discharge_kw,
        "STORAGE_MAX_CHARGE_POWER": battery.max_charge_kw,
    }[payload_type]


def _available_kw(more_kw: Floats, room_kw: Floats, able: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    return np.where(able, np.clip(np.minimum(more_kw, room_kw), 0.0, None), 0.0)


def _together(known: Mapping[str, float], sites: Sequence[Site]) -> float | None:
    """The sum; None where too few are known."""
    return float(sum(known.values())) if sites and len(known) >= COVERED * len(sites) else None


def _state(demand_kw: float | None, mood: str) -> str:
    if demand_kw is None:
        return {"OPTED_OUT": "IDLE_OPTED_OUT", "NORMAL": "NORMAL"}.get(mood, "ERROR")
    return f"{'RUNNING' if demand_kw > SIGNIFICANT_KW else 'IDLE'}_{mood}"


def _mood(taken: Commitment | None, interval: Interval) -> str:
    if taken is None or taken.state is CommitmentState.DECLINED or taken.opt_in is False:
        return "OPTED_OUT"
    shared = taken.window.overlap(interval)
    if taken.state is CommitmentState.CANCELLED or shared is None:
        return "NORMAL"
    return "CURTAILED" if taken.target_kw_at(shared.end_at - timedelta(microseconds=1)) > 0 else "NORMAL"


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


async def _commanded(connection: AsyncConnection, taken: Commitment | None) -> set[str]:
    """Ids of the sites commanded for a commitment."""
    if taken is None:
        return set()
    query = select(commands.c.site_id).where(commands.c.commitment_id == taken.id).distinct()
    return set((await connection.execute(query)).scalars())


async def _means_kw(
    connection: AsyncConnection, sites: Sequence[Site], column: Column[float], interval: Interval
) -> dict[str, float]:
    """Each site's mean in the interval [kW], by id; without those that have no reading in it."""
    if not sites:
        return {}
    query = (
        select(reading.c.device_id, func.avg(column).label("mean_kw"))
        .where(reading.c.measured_at > interval.start_at, reading.c.measured_at <= interval.end_at)
        .where(reading.c.device_id.in_([site.device_id for site in sites]), column.is_not(None))
        .group_by(reading.c.device_id)
    )
    by_device = {row.device_id: float(row.mean_kw) for row in await connection.execute(query)}
    return {site.id: by_device[site.device_id] for site in sites if site.device_id in by_device}
