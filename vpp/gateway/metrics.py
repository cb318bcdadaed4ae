"""What the gateway counts; read at `/metrics` of its process."""

from prometheus_client import Counter, Gauge

EXCHANGES = Counter("vpp_gateway_exchanges_total", "Rounds of asking a utility, by outcome", ["source", "outcome"])
REACHABLE = Gauge("vpp_gateway_reachable", "1 where the last round with the utility went well, else 0", ["source"])
EVENTS = Counter("vpp_gateway_events_total", "Versions of events taken, by answer", ["source", "answer"])
REPORTS = Counter("vpp_gateway_report_values_total", "Values reported to a utility", ["source"])
