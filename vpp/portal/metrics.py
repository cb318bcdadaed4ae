"""What this process counts, in Prometheus's words. Read at `/metrics`."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter(
    "vpp_http_requests_total", "Answers given, by method, route template and status", ["method", "route", "status"]
)
LIVE_CONNECTIONS = Gauge("vpp_live_connections", "Browsers watching an event over SSE")
LIVE_READ_SECONDS = Gauge("vpp_live_read_seconds", "Time the last reading of a watched event took")
SIGN_INS = Counter("vpp_sign_ins_total", "Attempts to sign in, by outcome", ["outcome"])
