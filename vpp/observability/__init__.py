"""Logs. Metrics are defined beside what they count and served by the portal."""

from vpp.observability.logs import configure_logs

__all__ = ["configure_logs"]
