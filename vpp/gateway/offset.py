"""Room gateway: how far a VTN's clock is from ours. Called by `session`.

What we do with it, decided so: actions go by our own clock, which NTP keeps; an event begins and ends for the
fleet when our clock says so, whatever the VTN's shows, for a utility's meters keep true time as well. The
offset counts only where we judge what the VTN *says*: an event it has dropped from its list early by our
clock may have ended by its own, and the time stamps of our messages are in its time where it would
otherwise take them for stale or to come. An offset beyond an hour is believed to be a fault and used for nothing.
"""

from collections import deque
from datetime import datetime, timedelta
from statistics import median

import structlog

from vpp.gateway import metrics

log = structlog.get_logger("vpp.gateway")

SAMPLES = 9
BOUND_S = 5.0
"""An offset up to this is no matter; beyond it the operator is told, once."""
MAX_BELIEVED_S = 3600.0
MAX_ROUND_TRIP = timedelta(seconds=5)
HALF_SECOND = timedelta(seconds=0.5)
"""A Date header is cut to the second: on average it stands for half a second later."""


class ClockOffset:
    """The median of the last few answers of a VTN that told their time."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._samples_s: deque[float] = deque(maxlen=SAMPLES)
        self._told = False

    @property
    def seconds(self) -> float | None:
        """How far the VTN's clock is ahead of ours [s]; None where it never told."""
        return median(self._samples_s) if self._samples_s else None

    def heard(self, told_at: datetime | None, *, asked_at: datetime, heard_at: datetime) -> None:
        """Take one answer into account, unless it was too long on its way to say anything."""
        if told_at is None or heard_at - asked_at > MAX_ROUND_TRIP:
            return
        halfway_at = asked_at + (heard_at - asked_at) / 2
        self._samples_s.append((told_at + HALF_SECOND - halfway_at).total_seconds())
        offset_s = self.seconds or 0.0
        metrics.CLOCK_OFFSET.labels(self._source).set(offset_s)
        is_far = abs(offset_s) > BOUND_S
        if is_far and not self._told:
            log.warning("the utility's clock is off", source=self._source, offset_s=round(offset_s, 1))
        self._told = is_far

    def believed(self) -> timedelta:
        """What is counted on: nothing where it is small, or so large that it must be a fault."""
        offset_s = self.seconds or 0.0
        return timedelta(seconds=offset_s) if BOUND_S < abs(offset_s) <= MAX_BELIEVED_S else timedelta(0)
