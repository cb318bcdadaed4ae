"""What telling subscribers counts; read at `/metrics` of its process."""

from prometheus_client import Counter, Gauge

TOLD = Counter("vpp_notifications_total", "Attempts to notify, by way and outcome", ["way", "outcome"])
BROKEN = Counter("vpp_notification_channels_broken_total", "Callbacks marked broken")
MQTT_CONNECTED = Gauge("vpp_mqtt_connected", "1 where this process is connected to the MQTT broker, else 0")
