"""What the way of readings into PostgreSQL counts; read at `/metrics` of a worker."""

from prometheus_client import Counter

STORED = Counter("vpp_readings_stored_total", "Readings written that were new or had news")
