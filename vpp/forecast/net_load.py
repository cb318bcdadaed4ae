"""Net load of each site over the steps ahead.  Called by dispatch and by whoever answers an event.

What similar days did at the same local time, moved toward what the site does now: the difference to
the latest reading fades out with a time constant. Load less PV, without the battery. Steps that lie days or months
ahead are those of the same weekday at most a week from now, of which the present says nothing any more.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import FleetState, Floats
from vpp.domain.site import Site
from vpp.domain.time import Interval, hours
from vpp.forecast.history import bins_start_at, mean_profile_kw

FADE_H = 1.5
MOST_BINS = 48
WEEK = timedelta(weeks=1)


async def forecast_net_load_kw(
    connection: AsyncConnection, sites: Sequence[Site], state: FleetState, steps: Sequence[Interval]
) -> Floats:
    """Return the expected net load [kW], (site, step): consumption less PV, without the battery.

    A site without history keeps its latest reading. One without a good reading follows history
    alone. One with neither gets 0; it cannot be dispatched anyway. Never NaN.

    Args:
        sites: their order is the answer's.
        state: the latest readings; a row for every site, in any order.
        steps: contiguous, from about `state.at` or later, at most two days long.

    Raises:
        InvalidRequest: the state lacks a site, or the steps are too long.
    """
    if not sites or not steps:
        return np.zeros((len(sites), len(steps)))
    latest = _latest_kw(sites, state)
    begin_at, earlier = _stand_in(state.at, steps)
    first = _first_bins(sites, begin_at)
    bins = int(np.ceil(hours(steps[-1].end_at - earlier - begin_at))) + 3
    if bins > MOST_BINS + 3:
        raise InvalidRequest(
            "steps", steps[-1].end_at.isoformat(), f"an end within {MOST_BINS} h of {(begin_at + earlier).isoformat()}"
        )
    profile = _filled(await mean_profile_kw(connection, sites, first, bins))
    middles = [step.start_at + step.duration / 2 - earlier for step in steps]
    expected = np.empty((len(sites), len(steps)))
    before = np.full(len(sites), np.nan)
    for zone, (day, hour) in first.items():
        start_at = bins_start_at(day, hour, zone)
        rows = np.array([i for i, site in enumerate(sites) if site.time_zone == zone])
        expected[rows] = _between(profile[rows], np.array([hours(at - start_at) for at in middles]))
        if begin_at == state.at:
            before[rows] = _between(profile[rows], np.array([hours(state.at - start_at)]))[:, 0]
    ahead_h = np.array([max(0.0, hours(at - state.at)) for at in middles])
    correction = (latest - before)[:, None] * np.exp(-ahead_h / FADE_H)
    corrected = expected + np.where(np.isnan(correction), 0.0, correction)
    known = np.where(np.isnan(corrected), latest[:, None], corrected)
    return np.where(np.isnan(known), 0.0, known)


def _latest_kw(sites: Sequence[Site], state: FleetState) -> Floats:
    """Net load as last read [kW], (site,); NaN without a good reading."""
    at = {site_id: i for i, site_id in enumerate(state.site_ids)}
    unknown = next((site.id for site in sites if site.id not in at), None)
    if unknown is not None:
        raise InvalidRequest("state", unknown, "a state with a row for every site")
    read = np.where(state.good, state.net_load_kw, np.nan)
    return np.asarray(read[[at[site.id] for site in sites]])


def _stand_in(at: datetime, steps: Sequence[Interval]) -> tuple[datetime, timedelta]:
    """Return from when history is asked for, and how much earlier than the steps the ones looked at are."""
    if hours(steps[-1].end_at - at) <= MOST_BINS:
        return at, timedelta(0)
    earlier = max(0, (steps[0].start_at - at) // WEEK) * WEEK
    return max(at, steps[0].start_at - earlier), earlier


def _first_bins(sites: Sequence[Site], at: datetime) -> dict[str, tuple[date, int]]:
    """Local day and hour, one hour before an instant, in each time zone: room to interpolate."""
    found = {}
    for zone in sorted({site.time_zone for site in sites}):
        local = (at - timedelta(hours=1)).astimezone(ZoneInfo(zone))
        found[zone] = (local.date(), local.hour)
    return found


def _filled(profile: Floats) -> Floats:
    """Bins without data take the nearest earlier one, else the nearest later one; rows without any stay NaN."""
    filled = profile.copy()
    for order in (range(1, filled.shape[1]), range(filled.shape[1] - 2, -1, -1)):
        for k in order:
            neighbour = filled[:, k - 1] if order.step > 0 else filled[:, k + 1]
            filled[:, k] = np.where(np.isnan(filled[:, k]), neighbour, filled[:, k])
    return filled


def _between(profile: Floats, position_h: Floats) -> Floats:
    """Linear between the middles of hours: (site, position)."""
    place = np.clip(position_h - 0.5, 0.0, profile.shape[1] - 1.0)
    low = np.minimum(np.floor(place).astype(np.int64), profile.shape[1] - 2)
    share = place - low
    return np.asarray(profile[:, low] * (1.0 - share) + profile[:, low + 1] * share)
