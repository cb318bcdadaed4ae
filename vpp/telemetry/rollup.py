"""Room telemetry: readings to interval energy in `metered_interval`. Called by dispatch and measurement.

Repeatable: a second run with more readings replaces what the first one wrote, except that nothing
estimated replaces something measured, and that a measured interval with other borders, such as an hour
of an imported meter file, stands: no energy is counted twice.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import BindParameter, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Double, Integer, Text

from vpp.domain.fleet import Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.store.types import UtcInstant
from vpp.telemetry.energy import IntervalEnergy, energy_of_grid, energy_of_power, energy_of_registers

SITES_AT_ONCE = 500
MIN_MARGIN = timedelta(hours=1)
"""Readings this far outside are read too: the borders need a sample on both sides."""
REGISTER_POWER_FACTOR = 1.5

_READINGS = text("""
select device_id, extract(epoch from measured_at)::float8 as at_s,
       battery_kw, grid_kw, discharged_kwh_register, charged_kwh_register
from reading
where device_id = any(:device_ids) and measured_at >= :start_at and measured_at <= :end_at
order by device_id, measured_at
""").bindparams(bindparam("device_ids", type_=ARRAY(Integer)))
_NEW = """
with new as (
    select * from unnest(:site_ids, :channels, :starts, :ends, :energies, :qualities)
        as n(site_id, channel, start_at, end_at, energy_kwh, quality)
)
"""
_OTHERWISE_CUT = """
m.site_id = new.site_id and m.channel = new.channel
and m.start_at < new.end_at and m.start_at > new.start_at - interval '1 day' and m.end_at > new.start_at
and (m.start_at, m.end_at) <> (new.start_at, new.end_at)
"""
"""An existing interval that overlaps a new one and has other borders: energy must not count twice."""


def _statement(sql: str) -> TextClause:
    columns = {"site_ids": Text, "channels": Text, "starts": UtcInstant, "ends": UtcInstant, "qualities": Text}
    bound: list[BindParameter[Any]] = [bindparam(name, type_=ARRAY(kind)) for name, kind in columns.items()]
    return text(sql).bindparams(*bound, bindparam("energies", type_=ARRAY(Double)))


_CLEAR = _statement(
    f"{_NEW} delete from metered_interval m using new where {_OTHERWISE_CUT} and m.quality = 'estimated'"  # noqa: S608
)
_UPSERT = _statement(f"""
{_NEW}
insert into metered_interval (site_id, channel, start_at, end_at, energy_kwh, quality)
select * from new where not exists (select from metered_interval m where {_OTHERWISE_CUT})
on conflict (site_id, channel, start_at) do update
set end_at = excluded.end_at, energy_kwh = excluded.energy_kwh, quality = excluded.quality
where excluded.quality = 'measured' or metered_interval.quality = 'estimated'
""")  # noqa: S608 - only constants of this module are put in


async def roll_up(connection: AsyncConnection, sites: Sequence[Site], interval: Interval, step: timedelta) -> int:
    """Write the energy of every `step` of `interval` for the channels grid and battery.

    Battery energy comes from the sub-meter's registers where there are some, else from power samples.
    An interval that cannot be known gets no row. Returns the number of rows written.
    """
    pieces = list(interval.steps(step))
    edges_s = np.array([piece.start_at.timestamp() for piece in pieces] + [interval.end_at.timestamp()])
    margin = max(2 * step, MIN_MARGIN)
    written = 0
    for at in range(0, len(sites), SITES_AT_ONCE):
        some = sites[at : at + SITES_AT_ONCE]
        asked = {
            "device_ids": [site.device_id for site in some],
            "start_at": interval.start_at - margin,
            "end_at": interval.end_at + margin,
        }
        samples = _by_device((await connection.execute(_READINGS, asked)).all())
        rows = [
            row
            for site in some
            if site.device_id in samples
            for row in _rows(site, samples[site.device_id], pieces, edges_s, step.total_seconds())
        ]
        written += await _upsert(connection, rows)
    return written


def _by_device(rows: Sequence[Any]) -> dict[int, Floats]:
    """Samples per device, shape (field, sample): time, battery, grid, discharged and charged register."""
    if not rows:
        return {}
    table = np.array([tuple(row) for row in rows], dtype=np.float64)
    device_ids = table[:, 0].astype(np.int64)
    starts = np.flatnonzero(np.diff(device_ids, prepend=-1))
    return {
        int(device_ids[start]): part[:, 1:].T for start, part in zip(starts, np.split(table, starts[1:]), strict=True)
    }


def _rows(
    site: Site, samples: Floats, pieces: Sequence[Interval], edges_s: Floats, step_s: float
) -> Iterator[tuple[str, str, datetime, datetime, float, str]]:
    times_s, battery_kw, grid_kw, discharged_kwh, charged_kwh = samples
    max_kw = REGISTER_POWER_FACTOR * max(site.battery.max_charge_kw, site.battery.max_discharge_kw)
    registers = energy_of_registers(times_s, discharged_kwh, charged_kwh, edges_s, step_s, max_kw)
    battery = registers.or_else(energy_of_power(times_s, battery_kw, edges_s, step_s))
    grid = energy_of_grid(battery, times_s, battery_kw, grid_kw, edges_s, step_s)
    channels: tuple[tuple[str, IntervalEnergy], ...] = (("battery", battery), ("grid", grid))
    for channel, energy in channels:
        for place in np.flatnonzero(~np.isnan(energy.energy_kwh)):
            piece = pieces[int(place)]
            quality = "measured" if energy.measured[place] else "estimated"
            yield site.id, channel, piece.start_at, piece.end_at, float(energy.energy_kwh[place]), quality


async def _upsert(connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> int:
    if not rows:
        return 0
    names = ("site_ids", "channels", "starts", "ends", "energies", "qualities")
    columns = dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))
    await connection.execute(_CLEAR, columns)
    return int((await connection.execute(_UPSERT, columns)).rowcount)
