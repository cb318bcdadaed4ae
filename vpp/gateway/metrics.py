"""What the gateway counts; read at `/metrics` of its process."""

from contextlib import suppress

from prometheus_client import Counter, Gauge

EXCHANGES = Counter("vpp_gateway_exchanges_total", "Rounds of asking a utility, by outcome", ["source", "outcome"])
REACHABLE = Gauge("vpp_gateway_reachable", "1 where the last round with the utility went well, else 0", ["source"])
EVENTS = Counter("vpp_gateway_events_total", "Versions of events taken, by answer", ["source", "answer"])
REPORTS = Counter("vpp_gateway_report_values_total", "Values reported to a utility", ["source"])
CLOCK_OFFSET = Gauge(
    "vpp_gateway_clock_offset_seconds", "How far the utility's clock is ahead of ours, smoothed", ["source"]
)
OPT_CHANGES = Counter(
    "vpp_gateway_opt_changes_total",
    "Answers changed because the fleet's capability did, by answer",
    ["source", "answer"],
)
DECLINED_CHANGES = Gauge(
    "vpp_gateway_declined_changes",
    "Running events whose latest change we declined or do not understand, so that earlier targets are in force",
    ["source"],
)
VENS = Gauge("vpp_gateway_vens", "Utilities' servers that are asked by this process")
VEN_FAILURES = Counter(
    "vpp_gateway_ven_failures_total", "Loops of one utility that ended unexpectedly and were begun anew", ["source"]
)


def forget(source: str) -> None:
    """Drop the gauges of a utility that is asked no longer."""
    for gauge in (REACHABLE, CLOCK_OFFSET, DECLINED_CHANGES):
        with suppress(KeyError):
            gauge.remove(source)
