"""Room telemetry: the fleet at one instant as aligned columns. Called by dispatch, forecast and portal.

Reads only what was measured up to that instant, so that a past decision can be replayed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Integer

from vpp.domain.fleet import FleetState, Floats, Quality
from vpp.domain.site import Site
from vpp.domain.time import as_utc
from vpp.telemetry.batch import VALUES
from vpp.telemetry.quality import NEWEST, READINGS, LastReadings, Limits, classify

LOOK_BACK = timedelta(days=1)
"""A day touches two partitions, however many there are."""

_FIELDS = f"measured_at, repeated_at, {', '.join(VALUES)}, islanded"
_LAST = text(f"""
select wanted.place - 1 as place, last.*
from unnest(:device_ids) with ordinality as wanted(device_id, place)
cross join lateral (
    (select row_number() over () - 1 as nth, newest.* from (
        select {_FIELDS} from reading
        where device_id = wanted.device_id and measured_at > :since and measured_at <= :at
        order by measured_at desc limit {NEWEST}) newest)
    union all
    (select {NEWEST} as nth, {_FIELDS} from reading
        where device_id = wanted.device_id and measured_at > :since and measured_at <= :anchor
        order by measured_at desc limit 1)
) last
""").bindparams(bindparam("device_ids", type_=ARRAY(Integer)))  # noqa: S608 - the columns are ours
_EVER = text("""
select wanted.place - 1
from unnest(:device_ids) with ordinality as wanted(device_id, place)
where exists (select from reading where device_id = wanted.device_id and measured_at <= :since)
""").bindparams(bindparam("device_ids", type_=ARRAY(Integer)))


async def read_snapshot(
    connection: AsyncConnection, sites: Sequence[Site], *, at: datetime, max_age_s: float = 900
) -> FleetState:
    """Return what the sites are doing at `at`, aligned with `sites`.

    Args:
        max_age_s: a reading older than this is STALE [s].
    """
    at = as_utc(at, "at")
    since = at - LOOK_BACK
    device_ids = [site.device_id for site in sites]
    anchor = at - timedelta(seconds=2 * max_age_s)
    found = await connection.execute(_LAST, {"device_ids": device_ids, "since": since, "at": at, "anchor": anchor})
    last, islanded = _last_readings(found.all(), len(sites), at)
    silent = np.flatnonzero(~last.seen)
    if silent.size:
        asked = {"device_ids": [device_ids[i] for i in silent], "since": since}
        ever = (await connection.execute(_EVER, asked)).scalars().all()
        last.seen[silent[list(ever)]] = True
    quality = classify(last, _limits(sites), max_age_s=max_age_s)
    good = quality == Quality.GOOD
    battery_kw, grid_kw, soc = (np.where(good, column, 0.0) for column in last.values[:3, :, 0])
    return FleetState(
        at=at,
        site_ids=tuple(site.id for site in sites),
        soc=np.clip(soc, 0.0, 1.0),
        battery_kw=battery_kw,
        grid_kw=grid_kw,
        islanded=islanded,
        quality=quality,
    )


def _last_readings(rows: Sequence[Any], sites: int, at: datetime) -> tuple[LastReadings, np.ndarray[Any, Any]]:
    age_s: Floats = np.full((sites, READINGS), np.nan)
    repeated_age_s: Floats = np.full(sites, np.nan)
    values: Floats = np.full((len(VALUES), sites, READINGS), np.nan)
    islanded = np.zeros(sites, dtype=bool)
    seen = np.zeros(sites, dtype=bool)
    for place, nth, measured_at, repeated_at, *numbers, is_islanded in rows:
        age_s[place, nth] = (at - measured_at).total_seconds()
        values[:, place, nth] = [np.nan if number is None else number for number in numbers]
        if nth == 0:
            seen[place] = True
            islanded[place] = is_islanded
            # A repeat that came after `at` was not known then.
            if repeated_at is not None and repeated_at <= at:
                repeated_age_s[place] = (at - repeated_at).total_seconds()
    return LastReadings(age_s=age_s, repeated_age_s=repeated_age_s, values=values, seen=seen), islanded


def _limits(sites: Sequence[Site]) -> Limits:
    rows = [
        (
            site.battery.max_charge_kw,
            site.battery.max_discharge_kw,
            site.import_limit_kw,
            site.export_limit_kw,
            site.battery.capacity_kwh,
        )
        for site in sites
    ]
    columns = np.array(rows, dtype=np.float64).reshape(len(sites), 5).T
    return Limits(
        max_charge_kw=columns[0],
        max_discharge_kw=columns[1],
        import_limit_kw=columns[2],
        export_limit_kw=columns[3],
        capacity_kwh=columns[4],
    )
