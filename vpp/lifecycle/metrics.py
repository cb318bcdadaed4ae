"""What a worker counts; read at `/metrics` of its process."""

from prometheus_client import Counter

DEVICE_READS = Counter("vpp_device_reads_total", "Attempts to read a site's device, by outcome", ["outcome"])
STEPS = Counter("vpp_steps_total", "Steps of commitments taken, by outcome", ["outcome"])
