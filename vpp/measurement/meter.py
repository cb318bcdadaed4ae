"""Metered energy over exact stretches of time, from rows of whatever length the meters report.

Part of the measurement room. A row is taken to run evenly over its length, so a stretch that cuts it
gets its part; what no row covers is missing, and what two rows cover is refused. Rows are at most
a day long.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.fleet import Bools, Floats
from vpp.domain.time import Interval

SITES_PER_QUERY = 500
LONGEST_ROW = timedelta(days=1)
COVER_TOLERANCE_S = 1.0

_OVERLAP_S = "extract(epoch from least(m.end_at, {end}) - greatest(m.start_at, {start}))::double precision"
_LENGTH_S = "extract(epoch from m.end_at - m.start_at)::double precision"


def _energy_sql(columns: str, source: str, start: str, end: str, where: str) -> TextClause:
    """Return the query for energy, cover and quality per site and stretch."""
    overlap_s = _OVERLAP_S.format(start=start, end=end)
    return text(
        f"""
        select m.site_id, {columns},
               sum(m.energy_kwh * ({overlap_s}) / ({_LENGTH_S}) order by m.start_at),
               sum({overlap_s}),
               bool_or(m.quality = 'estimated')
        from metered_interval m {source}
        where m.channel = :channel and m.site_id = any(:sites)
          and m.start_at >= :from_at and m.start_at < :to_at and m.end_at > :after_at {where}
        group by 1, 2
        """  # noqa: S608 - only constants of this module are put in
    )


_BY_STRETCH = _energy_sql(
    "s.i",
    "join unnest(cast(:starts as timestamptz[]), cast(:ends as timestamptz[])) with ordinality as s(a, b, i) "
    "on m.start_at < s.b and m.end_at > s.a",
    "s.a",
    "s.b",
    "",
)
_BY_HOUR = _energy_sql(
    "h",
    "cross join lateral generate_series(date_bin('1 hour', m.start_at, :origin_at), "
    "m.end_at - interval '1 microsecond', interval '1 hour') as h",
    "h",
    "h + interval '1 hour'",
    "and h = any(cast(:hours as timestamptz[]))",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """Energy toward the grid per site and stretch [kWh], shape (site, stretch).

    Attributes:
        energy_kwh: energy over the covered part; 0, meaning nothing, where nothing is covered.
        cover: covered part of the stretch, 0-1.
        whole: the stretch is covered from end to end, once.
        estimated: part of it was estimated and not measured.
    """

    energy_kwh: Floats
    cover: Floats
    whole: Bools
    estimated: Bools


async def energy_in(
    connection: AsyncConnection, site_ids: Sequence[str], channel: str, stretches: Sequence[Interval]
) -> Metered:
    """Return metered energy in each stretch, for a few neighbouring stretches (an event)."""
    parameters: dict[str, Any] = {
        "starts": [stretch.start_at for stretch in stretches],
        "ends": [stretch.end_at for stretch in stretches],
    }
    whole = Interval(min(s.start_at for s in stretches), max(s.end_at for s in stretches))
    found = _Grid(site_ids, [stretch.duration.total_seconds() for stretch in stretches])
    for sites in _batches(site_ids):
        rows = await connection.execute(_BY_STRETCH, parameters | _bounds(channel, sites, whole))
        for site_id, ordinal, energy_kwh, covered_s, estimated in rows:
            found.put(site_id, ordinal - 1, energy_kwh, covered_s, estimated)
    return found.metered()


async def energy_in_hours(
    connection: AsyncConnection, site_ids: Sequence[str], channel: str, hours: Sequence[datetime]
) -> Metered:
    """Return metered energy in the hours that begin at `hours`, for many hours over many days.

    All hours must lie a whole number of hours apart, as the clock hours of one zone do.
    """
    index = {at.astimezone(UTC): i for i, at in enumerate(hours)}
    whole = Interval(min(index), max(index) + timedelta(hours=1))
    parameters: dict[str, Any] = {"hours": list(index), "origin_at": hours[0]}
    found = _Grid(site_ids, [3600.0] * len(hours))
    for sites in _batches(site_ids):
        rows = await connection.execute(_BY_HOUR, parameters | _bounds(channel, sites, whole))
        for site_id, hour_at, energy_kwh, covered_s, estimated in rows:
            found.put(site_id, index[hour_at.astimezone(UTC)], energy_kwh, covered_s, estimated)
    return found.metered()


def _batches(site_ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(site_ids), SITES_PER_QUERY):
        yield list(site_ids[first : first + SITES_PER_QUERY])


def _bounds(channel: str, sites: list[str], whole: Interval) -> dict[str, Any]:
    return {
        "channel": channel,
        "sites": sites,
        "from_at": whole.start_at - LONGEST_ROW,
        "after_at": whole.start_at,
        "to_at": whole.end_at,
    }


class _Grid:
    """Collects rows into aligned arrays."""

    def __init__(self, site_ids: Sequence[str], durations_s: Sequence[float]) -> None:
        self._row = {site_id: i for i, site_id in enumerate(site_ids)}
        shape = (len(site_ids), len(durations_s))
        self._duration_s = np.array(durations_s, dtype=np.float64)
        self._energy_kwh = np.zeros(shape)
        self._covered_s = np.zeros(shape)
        self._estimated = np.zeros(shape, dtype=np.bool_)

    def put(self, site_id: str, column: int, energy_kwh: float, covered_s: float, estimated: bool) -> None:
        at = (self._row[site_id], column)
        self._energy_kwh[at], self._covered_s[at], self._estimated[at] = energy_kwh, covered_s, estimated

    def metered(self) -> Metered:
        doubled = self._covered_s > self._duration_s + COVER_TOLERANCE_S
        covered_s = np.where(doubled, 0.0, self._covered_s)
        return Metered(
            energy_kwh=np.where(doubled, 0.0, self._energy_kwh),
            cover=np.minimum(covered_s / self._duration_s, 1.0),
            whole=np.asarray(covered_s >= self._duration_s - COVER_TOLERANCE_S),
            estimated=self._estimated,
        )
