"""What this room counts, in Prometheus's words."""

from prometheus_client import Counter

TOKENS = Counter("vpp_peer_tokens_total", "Access tokens asked for at our token endpoint, by outcome", ["outcome"])
CALLERS = Counter("vpp_peer_callers_total", "Access tokens shown to us and not in memory, by outcome", ["outcome"])
JWKS_FETCHES = Counter(
    "vpp_oauth_key_fetches_total", "Times an OAuth server's keys were fetched, by outcome", ["outcome"]
)
LOG_ROWS = Counter("vpp_message_log_rows_total", "Rows written to the message log")
LOG_DROPPED = Counter("vpp_message_log_dropped_total", "What the message log's queue could not hold", ["what"])
