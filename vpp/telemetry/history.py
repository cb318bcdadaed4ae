"""Room telemetry: interval energy from elsewhere, such as a utility's meter file, in bulk.

Called by the simulation and by whoever imports a year of meter data before the first event.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Floats
from vpp.domain.time import as_utc
from vpp.telemetry.batch import to_us
from vpp.telemetry.copy import copy_rows, instants, pack

_COLUMNS = "site_id, channel, start_at, end_at, energy_kwh, quality"
_STAGE = text("create temporary table if not exists metered_stage (like metered_interval) on commit delete rows")
_OVERLAP = text("""
select exists (select from metered_interval
               where site_id = any(:site_ids) and start_at > :first and start_at < :last)
""").bindparams(bindparam("site_ids", type_=ARRAY(Text)))
_CLEAR = text("""
delete from metered_interval m using metered_stage n
where m.site_id = n.site_id and m.channel = n.channel
and m.start_at < n.end_at and m.start_at > n.start_at - interval '1 day' and m.end_at > n.start_at
and (m.start_at, m.end_at) <> (n.start_at, n.end_at)
""")
_UPSERT = text(f"""
insert into metered_interval ({_COLUMNS})
select distinct on (site_id, channel, start_at) {_COLUMNS} from metered_stage order by site_id, channel, start_at
on conflict (site_id, channel, start_at) do update
set end_at = excluded.end_at, energy_kwh = excluded.energy_kwh, quality = excluded.quality
""")  # noqa: S608 - the columns are ours


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSeries:
    """Consecutive intervals of one site's meter.

    Attributes:
        step: length of each interval.
        energy_kwh: toward the grid (export +), one value per interval; NaN is a missing interval.
        channel: "grid" (utility meter) or "battery" (its sub-meter, discharge +).
    """

    site_id: str
    start_at: datetime
    step: timedelta
    energy_kwh: Floats
    channel: str = "grid"
    quality: str = "measured"


async def import_meter_history(connection: AsyncConnection, series: Iterable[MeterSeries]) -> int:
    """Write meter data, in place of what is there, also of intervals with other borders; returns how many intervals.

    Raises:
        InvalidRequest: an energy is infinite.
        IntegrityError: a site is not enrolled; nothing is written.
    """
    some = [one for one in series if not np.isnan(one.energy_kwh).all()]
    if not some:
        return 0
    first = min(as_utc(one.start_at) for one in some)
    last = max(as_utc(one.start_at) + one.step * len(one.energy_kwh) for one in some)
    day = timedelta(days=1)  # no interval is longer
    asked = {"site_ids": sorted({one.site_id for one in some}), "first": first - day, "last": last}
    if _each_once(some) and not (await connection.execute(_OVERLAP, asked)).scalar_one():
        await copy_rows(connection, f"metered_interval ({_COLUMNS})", _rows(some))
    else:
        await connection.execute(_STAGE)
        await copy_rows(connection, f"metered_stage ({_COLUMNS})", _rows(some))
        await connection.execute(_CLEAR)
        await connection.execute(_UPSERT)
    return sum(int((~np.isnan(one.energy_kwh)).sum()) for one in some)


def _each_once(series: Sequence[MeterSeries]) -> bool:
    return len({(one.site_id, one.channel) for one in series}) == len(series)


def _rows(series: Sequence[MeterSeries]) -> Iterator[bytes]:
    for one in series:
        if np.isinf(one.energy_kwh).any():
            raise InvalidRequest(f"energy_kwh of {one.site_id}", "infinite", "finite energies, NaN where missing")
        known = np.flatnonzero(~np.isnan(one.energy_kwh))
        step_us = one.step // timedelta(microseconds=1)
        start_us = to_us(one.start_at) + known.astype(np.int64) * step_us
        texts = [np.full(len(known), value.encode()) for value in (one.site_id, one.channel, one.quality)]
        yield from pack(
            [
                texts[0],
                texts[1],
                instants(start_us),
                instants(start_us + step_us),
                np.asarray(one.energy_kwh, dtype=np.float64)[known].astype(">f8"),
                texts[2],
            ],
            {},
        )
