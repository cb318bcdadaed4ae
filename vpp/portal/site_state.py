"""What a site is in an event, in one word, and why where that is trouble. Pure; called by `event_view`."""

from datetime import datetime
from enum import StrEnum

from vpp.domain.commitment import CommitmentState
from vpp.domain.fleet import Quality
from vpp.portal.queries_fleet import Part, SiteRow

_OVER = frozenset(
    {CommitmentState.RELEASING, CommitmentState.MEASURING, CommitmentState.SETTLED, CommitmentState.CANCELLED}
)


class SiteState(StrEnum):
    """What a site is in an event, in the order the page shows them."""

    DELIVERING = "delivering"
    STANDBY = "standby"
    STALE = "stale"
    FROZEN = "frozen"
    MISSING = "missing"
    OUT_OF_RANGE = "out of range"
    ISLANDED = "islanded"
    FAILED = "failed"
    HANDBACK_OWED = "hand-back owed"
    HANDED_BACK = "handed back"
    NOT_CALLED = "not called"


TROUBLE = frozenset(
    {
        SiteState.STALE,
        SiteState.FROZEN,
        SiteState.MISSING,
        SiteState.OUT_OF_RANGE,
        SiteState.ISLANDED,
        SiteState.FAILED,
        SiteState.HANDBACK_OWED,
    }
)
_OF_QUALITY = {
    Quality.MISSING: (SiteState.MISSING, "has never been heard"),
    Quality.STALE: (SiteState.STALE, "last reading is too old to act on"),
    Quality.FROZEN: (SiteState.FROZEN, "keeps repeating the same values"),
    Quality.OUT_OF_RANGE: (SiteState.OUT_OF_RANGE, "reports values that cannot be"),
}


def site_state(
    quality: Quality, site: SiteRow, part: Part | None, event_state: CommitmentState, at: datetime
) -> tuple[SiteState, str]:
    """Return what a site is in an event, and why where that is trouble."""
    under_command = part is not None and part.expires_at is not None and part.expires_at > at
    if part is not None and part.verified_at is not None:
        return SiteState.HANDED_BACK, ""
    if event_state in _OVER:
        if part is None or not part.saved:
            return SiteState.NOT_CALLED, ""
        return SiteState.HANDBACK_OWED, part.handback_reason or "not yet verified to be as it was found"
    if site.islanded and quality is Quality.GOOD:
        return SiteState.ISLANDED, "runs on its battery, cut off from the grid"
    if quality is not Quality.GOOD:
        return _OF_QUALITY[quality]
    if part is not None and part.command_state in ("failed", "unknown"):
        return SiteState.FAILED, part.command_reason or f"its last command is {part.command_state}"
    if under_command and part is not None and part.power_kw > 0:
        return SiteState.DELIVERING, ""
    return SiteState.STANDBY, ""
