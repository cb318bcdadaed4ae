"""Room telemetry: when each battery was last full, which sets its own estimate of its charge right.

Called by dispatch once a cycle. One query, answered from an index of full charges alone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Integer

from vpp.domain.fleet import Floats
from vpp.domain.site import Site
from vpp.domain.time import as_utc

# The condition is the index's, word for word: only then is the index used. A charge above 1 is nonsense.
LAST_FULL = text("""
select wanted.place - 1, extract(epoch from :at - last.measured_at)::float8 / 3600
from unnest(:device_ids) with ordinality as wanted(device_id, place)
cross join lateral (
    select measured_at from reading
    where device_id = wanted.device_id and measured_at > :since and measured_at <= :at
    and soc >= 0.99 and soc <= 1.000001
    order by measured_at desc limit 1
) last
""").bindparams(bindparam("device_ids", type_=ARRAY(Integer)))


async def hours_since_full_charge(
    connection: AsyncConnection, sites: Sequence[Site], *, at: datetime, look_back: timedelta
) -> Floats:
    """Return how long ago each site's battery was last read as full [h], (site,); NaN where it was not.

    Args:
        sites: their order is the answer's.
        at: only what was measured up to then counts.
        look_back: how far back a full charge still matters.
    """
    at = as_utc(at, "at")
    found = np.full(len(sites), np.nan)
    asked = {"device_ids": [site.device_id for site in sites], "at": at, "since": at - look_back}
    for place, hours in await connection.execute(LAST_FULL, asked):
        found[place] = hours
    return found
