"""Room telemetry: what the fleet is doing. Other rooms import from here only."""

from vpp.telemetry.calibration import hours_since_full_charge
from vpp.telemetry.collect import CollectOutcome, collect
from vpp.telemetry.consumer import IngestConsumer
from vpp.telemetry.history import MeterSeries, import_meter_history
from vpp.telemetry.intake import (
    MAX_BODY_BYTES,
    MAX_READINGS,
    KnownDevices,
    ReadingProblem,
    TelemetryRefused,
    read_posted,
    refuse_unknown,
)
from vpp.telemetry.rollup import roll_up
from vpp.telemetry.snapshot import read_snapshot
from vpp.telemetry.stream import BacklogFull, backlog, publish, publish_batch

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_READINGS",
    "BacklogFull",
    "CollectOutcome",
    "IngestConsumer",
    "KnownDevices",
    "MeterSeries",
    "ReadingProblem",
    "TelemetryRefused",
    "backlog",
    "collect",
    "hours_since_full_charge",
    "import_meter_history",
    "publish",
    "publish_batch",
    "read_posted",
    "read_snapshot",
    "refuse_unknown",
    "roll_up",
]
