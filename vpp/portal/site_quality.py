"""Whether a site's last reading may be used, as dispatch judges it. Called by `event_view` and the pages of sites."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.config import Settings
from vpp.domain.fleet import Quality
from vpp.domain.site import Site
from vpp.telemetry import read_snapshot

ACTIVE_MAX_AGE_S = 900.0
WORDS = {
    Quality.GOOD: "good",
    Quality.MISSING: "missing",
    Quality.STALE: "stale",
    Quality.FROZEN: "frozen",
    Quality.OUT_OF_RANGE: "out of range",
}


def max_age_s(settings: Settings, *, active: bool) -> float:
    """How old a reading may be [s]: outside an event devices are asked less often."""
    return ACTIVE_MAX_AGE_S if active else max(ACTIVE_MAX_AGE_S, 1.5 * settings.idle_read_interval_s)


async def site_qualities(
    connection: AsyncConnection,
    sites: Sequence[Site],
    *,
    at: datetime,
    settings: Settings,
    active: bool,
) -> dict[str, Quality]:
    """Return each site's quality as of `at`."""
    if not sites:
        return {}
    state = await read_snapshot(connection, sites, at=at, max_age_s=max_age_s(settings, active=active))
    return {site_id: Quality(quality) for site_id, quality in zip(state.site_ids, state.quality, strict=True)}
