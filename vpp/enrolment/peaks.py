"""Room enrolment: the billing period's peaks so far, raised by what the meters saw. Called by the lifecycle.

A peak is the highest mean import over 15 minutes in a demand charge's local clock hours. It is what the
allocation may use up without costing the site anything, so nothing estimated raises it.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from vpp.domain.site import Site
from vpp.domain.time import Interval

_RAISE = text("""
insert into billing_peak (site_id, demand_charge, billing_start, peak_kw)
select site.id, charge.name, site.billing_start, max(-4 * metered.energy_kwh)
from site
cross join lateral jsonb_to_recordset(site.tariff -> 'demand')
    as charge(name text, start_h int, end_h int, weekdays jsonb)
join metered_interval metered on metered.site_id = site.id and metered.channel = 'grid'
cross join lateral (select metered.start_at at time zone site.time_zone as begin_at) as local
where site.id = any(:site_ids)
    and metered.start_at >= :start_at and metered.end_at <= :end_at
    and metered.end_at - metered.start_at = interval '15 minutes' and metered.quality = 'measured'
    and metered.energy_kwh < 0
    and local.begin_at >= site.billing_start and local.begin_at < site.billing_start + interval '1 month'
    and extract(hour from local.begin_at) >= charge.start_h and extract(hour from local.begin_at) < charge.end_h
    and charge.weekdays @> to_jsonb(extract(isodow from local.begin_at)::int)
group by site.id, charge.name
on conflict (site_id, demand_charge, billing_start) do update set peak_kw = excluded.peak_kw
where excluded.peak_kw > billing_peak.peak_kw
""").bindparams(bindparam("site_ids", type_=ARRAY(Text)))


async def raise_peaks(connection: AsyncConnection, sites: Sequence[Site], interval: Interval) -> int:
    """Raise the peaks of the running billing period to the imports metered in `interval`; never lower one.

    The period runs a month from the site's `billing_start`; what was metered outside it changes nothing.
    Repeatable. Returns how many peaks were raised.
    """
    asked = {"site_ids": [s.id for s in sites], "start_at": interval.start_at, "end_at": interval.end_at}
    return int((await connection.execute(_RAISE, asked)).rowcount)
