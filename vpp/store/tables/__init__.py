"""Every table, by the room that owns it. Import `metadata` from here so that all are registered."""

from vpp.store.tables import accounts, commitments, dispatch, fleet, gateway, settlement, telemetry, vendors
from vpp.store.tables.base import metadata

__all__ = ["accounts", "commitments", "dispatch", "fleet", "gateway", "metadata", "settlement", "telemetry", "vendors"]
