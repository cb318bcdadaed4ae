"""What our OpenADR 3 VTN keeps. Inside the room peering; others import from `vpp.peering`."""

from vpp.peering.openadr3.audience import MQTT_CHANNEL
from vpp.peering.openadr3.changes import Changes, NobodyTold
from vpp.peering.openadr3.channels import ChannelState, list_channels
from vpp.peering.openadr3.queue import ACCESS_CHANNEL, NOTIFICATION_CHANNEL, NotificationQueue
from vpp.peering.openadr3.read import find_object, granted_targets, select_objects
from vpp.peering.openadr3.shelf import SqlObjectShelf
from vpp.peering.openadr3.snapshots import from_snapshot
from vpp.peering.openadr3.topics import Topics
from vpp.peering.openadr3.write import create_object, delete_object, replace_object

__all__ = [
    "ACCESS_CHANNEL",
    "MQTT_CHANNEL",
    "NOTIFICATION_CHANNEL",
    "Changes",
    "ChannelState",
    "NobodyTold",
    "NotificationQueue",
    "SqlObjectShelf",
    "Topics",
    "create_object",
    "delete_object",
    "find_object",
    "from_snapshot",
    "granted_targets",
    "list_channels",
    "replace_object",
    "select_objects",
]
