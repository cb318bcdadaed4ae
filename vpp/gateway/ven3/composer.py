"""Room gateway, OpenADR 3 VEN: what a report says, of our resources together or of each. Called by `reporter`.

A resource stands for a site where the peer's configuration says so (`sites`), else where it bears the id of one or
the name of exactly one; only a site enrolled in the event's programme counts. A report is about the resources that
the descriptor's targets name, else the event's, else all those the VTN has of us. With `aggregate` they are summed
under AGGREGATED_REPORT: where no site is named, all of the programme. Without it each has values of its own, under
its name; AGGREGATED_REPORT is told where none of them stands for a site, and what is known of all together only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotReady
from vpp.domain.grid_event import GridEvent, TargetKind
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.ven3 import (
    AGGREGATED,
    ReportedInterval,
    ReportedResource,
    ReportIntervals,
    ReportValue,
    ReportWanted,
)
from vpp.enrolment import load_sites
from vpp.gateway.ven3.figures import About, Figures

MAX_EACH = 1000
"""So many resources have values of their own in one series; that there are more is said in the log."""
MAX_PARTS = 10_000
"""So many intervals, counted for each resource, one series reports at once; the latest of more."""
_UNITS: dict[str, tuple[str, ...]] = {
    "DEMAND": ("KW",),
    "USAGE": ("KWH",),
    "DELTA_USAGE": ("KWH",),
    "BASELINE": ("KWH", "KW"),
    "STORAGE_CHARGE_LEVEL": ("PERCENT", "PERCENTAGE"),
    "STORAGE_USABLE_CAPACITY": ("KWH",),
    "STORAGE_MAX_DISCHARGE_POWER": ("KW",),
    "STORAGE_MAX_CHARGE_POWER": ("KW",),
    "LOAD_SHED_DELTA_AVAILABLE": ("KW",),
    "UP_REGULATION_AVAILABLE": ("KW",),
    "DOWN_REGULATION_AVAILABLE": ("KW",),
}
_READ_OTHERWISE = ("PEAK", "FORECAST")
"""Kinds of reading that are other values, not other words for those we have."""

_Parts = dict[str, dict[Interval, list[ReportValue]]]


@dataclass(frozen=True, slots=True)
class Composed:
    """What is reported, and by type why something is not."""

    resources: tuple[ReportedResource, ...]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Composer:
    """Puts together what one VTN asks for.

    Attributes:
        site_of: our site's id by the VTN's name of it as a resource.
    """

    figures: Figures
    tenant_id: str
    site_of: Mapping[str, str] = field(default_factory=dict)

    async def compose(
        self,
        connection: AsyncConnection,
        about: About,
        event: GridEvent,
        wanted: Sequence[ReportWanted],
        intervals: Sequence[Interval],
        *,
        registered: Sequence[str],
        now: datetime,
    ) -> Composed:
        """Return what is known of the intervals that have passed; `registered` are our resources there."""
        places = await self._places(connection, about.program)
        parts: _Parts = {}
        absent: dict[str, str] = {}
        for each in wanted:
            reason = refuse_reason(each, self.figures.offered)
            if reason is not None:
                absent[each.payload_type] = reason
                continue
            named = [name for name in each.targets or _named(event) if name in places]
            names = named or [name for name in registered if name in places]
            is_each = bool(names) and not each.aggregate and each.payload_type in self.figures.each
            sites = {name: places[name] for name in (names[:MAX_EACH] if is_each else named or places)}
            of = replace(about, sites=tuple({s.id: s for s in sites.values()}.values()), is_part=bool(named))
            passed = [interval for interval in intervals if interval.end_at <= now]
            passed = passed[-max(1, MAX_PARTS // max(1, len(sites) if is_each else 1)) :]
            try:
                found = await self._found(connection, each, of, passed, sites if is_each else None)
            except NotReady as error:
                absent[each.payload_type] = str(error)
                continue
            for interval, name, value in found:
                parts.setdefault(name, {}).setdefault(interval, []).append(_in_units(value, each, interval))
            if not found:
                absent[each.payload_type] = "no value known"
            elif is_each and len(names) > MAX_EACH:
                absent[each.payload_type] = f"of {MAX_EACH} of {len(names)} resources only"
        return Composed(_resources(parts, intervals), absent)

    async def _found(
        self,
        connection: AsyncConnection,
        wanted: ReportWanted,
        about: About,
        intervals: Sequence[Interval],
        each: Mapping[str, Site] | None,
    ) -> list[tuple[Interval, str, ReportValue]]:
        """Values with the names they are reported under: of `each` by its own, or one of all together."""
        if not intervals:
            return []
        kind = wanted.payload_type
        if each is None:
            told = await self.figures.together(connection, kind, about, intervals)
            return [(interval, AGGREGATED, value) for interval, value in told.items()]
        found = []
        for interval in intervals:
            values = await self.figures.of_each(connection, kind, about, interval)
            found += [(interval, name, values[site.id]) for name, site in each.items() if site.id in values]
        return found

    async def _places(self, connection: AsyncConnection, program: str | None) -> dict[str, Site]:
        """The programme's sites by every name the VTN may have for them."""
        if program is None:
            return {}
        sites = await load_sites(connection, tenant_id=self.tenant_id, program=program)
        by_id = {site.id: site for site in sites}
        count = Counter(site.name for site in sites)
        by_name = {site.name: site for site in sites if count[site.name] == 1}
        said = {name: by_id[site_id] for name, site_id in self.site_of.items() if site_id in by_id}
        return by_name | by_id | said


def refuse_reason(wanted: ReportWanted, offered: frozenset[str]) -> str | None:
    """Why nothing is reported for a descriptor, None where something is."""
    if wanted.payload_type not in offered:
        return f"{wanted.payload_type} is not among what we can report: {', '.join(sorted(offered))}"
    if not wanted.historical and wanted.intervals is not ReportIntervals.OPEN_INTERVALS:
        return "forecasts are not offered"
    if (wanted.reading_type or "").upper() in _READ_OTHERWISE:
        return f"we report means and readings, not {wanted.reading_type}"
    units = _UNITS.get(wanted.payload_type)
    if wanted.units is not None and units is not None and wanted.units.upper() not in units:
        return f"we report {wanted.payload_type} in {units[0]}, not in {wanted.units}"
    return None


def _in_units(value: ReportValue, wanted: ReportWanted, interval: Interval) -> ReportValue:
    """PERCENT is a share of one (units.schema.yaml); PERCENTAGE, which only examples have, is of a hundred."""
    units = (wanted.units or "").upper()
    if isinstance(value.value, str) or units == value.units:
        return value
    if (value.units, units) == ("PERCENT", "PERCENTAGE"):
        return replace(value, value=100.0 * value.value, units=units)
    if (value.units, units) == ("KWH", "KW"):
        return replace(value, value=value.value / interval.duration_h, units=units)
    return value


def _named(event: GridEvent) -> list[str]:
    return [target.value for target in event.targets if target.kind is not TargetKind.VEN]


def _resources(parts: _Parts, intervals: Iterable[Interval]) -> tuple[ReportedResource, ...]:
    order = list(intervals)
    return tuple(
        ReportedResource(
            name,
            tuple(ReportedInterval(interval, tuple(told[interval])) for interval in order if interval in told),
        )
        for name, told in parts.items()
    )
