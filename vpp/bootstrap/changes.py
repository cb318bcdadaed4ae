"""Room bootstrap: what queues a change at our OpenADR 3 VTN for those to be told; in every process that makes one.

Apart from those who tell (`notify`), so that a process that only changes things loads no way to tell of them.
"""

from vpp.config import Settings
from vpp.peering import NotificationQueue, Topics


def changes_for(settings: Settings) -> NotificationQueue:
    """What every writer of OpenADR 3 objects is given, so that subscribers are told."""
    return NotificationQueue(topics_for(settings))


def topics_for(settings: Settings) -> Topics | None:
    """Names of MQTT topics, or None without a broker."""
    if settings.mqtt_url is None:
        return None
    return Topics(settings.mqtt_prefix, only_open=settings.mqtt_access == "open")
