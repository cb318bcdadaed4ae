"""Logs, and whether a process lives. Metrics are defined beside what they count.

They are served by the portal, and by `health_server` in the processes that have no portal.
"""

from vpp.observability.health import Pulse, WatchedClock, health_server
from vpp.observability.logs import configure_logs

__all__ = ["Pulse", "WatchedClock", "configure_logs", "health_server"]
