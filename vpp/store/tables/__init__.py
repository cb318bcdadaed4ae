"""Every table, by the room that owns it. Import `metadata` from here so that all are registered."""

from vpp.store.tables import (
    accounts,
    commitments,
    dispatch,
    downstream,
    fleet,
    gateway,
    notifications,
    openadr2_vtn,
    openadr3,
    openadr3_ven,
    peering,
    settlement,
    signals,
    telemetry,
    vendors,
)
from vpp.store.tables.base import metadata

__all__ = [
    "accounts",
    "commitments",
    "dispatch",
    "downstream",
    "fleet",
    "gateway",
    "metadata",
    "notifications",
    "openadr2_vtn",
    "openadr3",
    "openadr3_ven",
    "peering",
    "settlement",
    "signals",
    "telemetry",
    "vendors",
]
